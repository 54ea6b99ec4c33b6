"""Python's own functions as a model's code calls them: what they give of a free size stays one.

``int(h * 4)``, ``math.sqrt(n)``, ``list(range(n))``: Python's functions want numbers, and would make the example's of a size.
What stands here in their places asks a tensor of one element for the size that it holds, too.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.assertions import Unknown

SYM: Any = torch
"""PyTorch's functions of sizes, which have no types."""

_SIZES = (torch.SymInt, torch.SymFloat)
_real_len = len


class _Numbers(type):
    """``int`` and ``float``: a free size stays one. They are still those types to all else."""

    plain: type
    symbolic: Callable[[Any], Any]

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        item = held(args[0]) if len(args) == 1 and not kwargs else None
        if isinstance(item, Unknown):
            return item
        if isinstance(item, _SIZES):
            return cls.symbolic(item)
        return cls.plain(*args, **kwargs) if item is None or item is args[0] else cls.plain(item)

    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, cls.plain)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, cls.plain)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is cls.plain

    def __hash__(cls) -> int:
        return hash(cls.plain)


class _Int(int, metaclass=_Numbers):
    plain, symbolic, dtype = int, staticmethod(SYM.sym_int), np.dtype(int)


class _Float(float, metaclass=_Numbers):
    plain, symbolic, dtype = float, staticmethod(SYM.sym_float), np.dtype(float)


def held(item: Any) -> Any:
    """What a traced tensor of one element holds, as far as that is known; all else as it is."""
    return item.item() if isinstance(item, FakeTensor) and item.numel() == 1 else item


# ---- ranges ---------------------------------------------------------------------------------------


class FreeRange:
    """``range`` up to a free size: a tensor wherever one is made of it. Who counts it through fixes the size."""

    def __init__(self, *bounds: Any) -> None:
        self.start, self.stop, self.step = {1: (0, *bounds, 1), 2: (*bounds, 1), 3: bounds}[_real_len(bounds)]

    def __iter__(self) -> Iterator[int]:
        if isinstance(self.step, torch.SymInt) and self._is_one_step():
            return iter([self.start])
        return iter(range(*map(int, (self.start, self.stop, self.step))))

    def _is_one_step(self) -> bool:
        """Whether all of it is one step, whatever the size is: a signal that is not cut into parts."""
        whole = self.stop - self.start
        return isinstance(whole, torch.SymInt) and bool(whole.node.expr == self.step.node.expr)

    def __getitem__(self, place: Any) -> Any:
        """Turned round it stays free; who wants single numbers or a part counts it through."""
        if isinstance(place, slice) and (place.start, place.stop, place.step) == (None, None, -1):
            last = self.start + (self.count - 1) * self.step
            return FreeRange(last, self.start - self.step, -self.step)
        return [*self][place]

    def __add__(self, other: Any) -> list[int]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[int]:
        return [*other, *self]

    @property
    def count(self) -> Any:
        """How many numbers it has."""
        beyond = 1 if self.step > 0 else -1
        room = self.stop - self.start + self.step - beyond
        return SYM.sym_max(room if self.step == 1 else room // self.step, 0)

    def tensor(self, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        """All that it counts, which stays as long as the size is."""
        steps = torch.arange(self.count, device=device)
        counted = steps if self.step == 1 else steps * self.step
        begins = isinstance(self.start, int) and self.start == 0
        return (counted if begins else counted + self.start).to(dtype or torch.int64)


class _Ranges(_Numbers):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        bounds = tuple(map(held, args))
        free = any(isinstance(bound, torch.SymInt) for bound in bounds)
        return FreeRange(*bounds) if free and not kwargs else cls.plain(*bounds, **kwargs)


class _Range(metaclass=_Ranges):
    plain = range


class _Lists(_Numbers):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and isinstance(args[0], FreeRange) else cls.plain(*args, **kwargs)


class _List(list, metaclass=_Lists):  # type: ignore[type-arg]
    plain = list


# ---- functions of numbers -------------------------------------------------------------------------


def length(sized: Any) -> Any:
    """``len`` of a tensor is its first size, which stays symbolic, and that of a free range the count of its numbers."""
    if isinstance(sized, FreeRange):
        return sized.count
    return sized.shape[0] if isinstance(sized, FakeTensor) and sized.dim() else _real_len(sized)


def extreme(real: Callable[..., Any], symbolic: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """``max`` and ``min`` of sizes, which asks nothing of them."""

    def of(*items: Any, **how: Any) -> Any:
        given = items[0] if _real_len(items) == 1 and isinstance(items[0], tuple | list) else items
        sizes = not how and any(isinstance(item, _SIZES) for item in given)
        plain = all(isinstance(item, int | float | torch.SymInt | torch.SymFloat) for item in given)
        return reduce(symbolic, given) if sizes and plain else real(*items, **how)

    return of


def _of_sizes(real: Callable[..., Any], symbolic: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numbers, which of sizes is ``symbolic``."""

    def of(*items: Any, **how: Any) -> Any:
        given = tuple(map(held, items))
        return (
            symbolic(*given, **how)
            if any(isinstance(item, _SIZES) for item in given)
            else real(*given, **how)
        )

    return of


def _root(x: Any) -> Any:
    return SYM._sym_sqrt(SYM.sym_float(x))


def _log2(x: Any) -> Any:
    return SYM._sym_log2(SYM.sym_float(x))


def _log(x: Any, base: Any = None) -> Any:
    natural = _log2(x) * math.log(2)
    return natural if base is None else _log2(x) / math.log2(base)


_SYMBOLIC: Mapping[str, Callable[..., Any]] = {
    "sqrt": _root,
    "isqrt": lambda n: SYM.sym_int(_root(n)),
    "log": _log,
    "log2": _log2,
    "log10": lambda x: _log2(x) / math.log2(10),
    "pow": lambda x, y: SYM.sym_float(x) ** SYM.sym_float(y),
    "fabs": lambda x: SYM.sym_max(SYM.sym_float(x), -SYM.sym_float(x)),
}
"""Functions of ``math``, of sizes."""

MATH: Mapping[str, Callable[..., Any]] = {
    name: _of_sizes(getattr(math, name), symbolic) for name, symbolic in _SYMBOLIC.items()
}
"""What stands for the functions of ``math``, there and wherever the model's code has imported them by name."""

METHODS: Mapping[str, Callable[..., Any]] = {
    name: _SYMBOLIC[name] for name in ("sqrt", "log", "log2", "log10")
}
"""What numpy's functions ask of an object that is no number of theirs."""


def _attention(*args: Any, is_causal: Any = False, **kwargs: Any) -> Any:
    """Takes a truth, as ``length > 1`` is none yet."""
    *args, is_causal = args if len(args) == 6 else (*args, is_causal)  # type: ignore[assignment]
    return _plain_attention(*args, **{**kwargs, "is_causal": bool(is_causal)})


_plain_attention = F.scaled_dot_product_attention
TORCH: Mapping[str, Callable[..., Any]] = {"scaled_dot_product_attention": _attention}
"""What stands for functions of ``torch.nn.functional`` whose arguments PyTorch reads before a trace sees them."""


PLAIN: Mapping[str, Any] = {
    **{name: getattr(math, name) for name in MATH},
    "scaled_dot_product_attention": _plain_attention,
}
"""What they stand for."""


def _divmod(a: Any, b: Any) -> tuple[Any, Any]:
    return a // b, a % b


NAMES: Mapping[str, Any] = {
    "int": _Int,
    "float": _Float,
    "range": _Range,
    "divmod": _of_sizes(divmod, _divmod),
}
"""What the model's own code finds instead of Python's."""


@contextmanager
def numbers_in(namespaces: Sequence[dict[str, Any]]) -> Iterator[None]:
    """The model's own code finds these instead of Python's."""
    imported = {id(PLAIN[name]): stand_in for name, stand_in in (*MATH.items(), *TORCH.items())}
    put: list[tuple[dict[str, Any], str, Any, Any]] = []
    for names in namespaces:
        wanted = {**NAMES, "list": _List} if _lists_ranges(names) else NAMES
        put += [(names, name, stand_in, _real_len) for name, stand_in in wanted.items() if name not in names]
        held_there = [(name, value) for name, value in list(names.items()) if id(value) in imported]
        put += [(names, name, imported[id(value)], value) for name, value in held_there]
    for names, name, stand_in, _ in put:
        names[name] = stand_in
    try:
        yield
    finally:
        for names, name, stand_in, before in put:
            if names.get(name) is not stand_in:
                continue
            if before is _real_len:
                del names[name]
            else:
                names[name] = before


def _lists_ranges(names: Mapping[str, Any]) -> bool:
    """Whether the code of a Python module makes lists of ranges, and asks nothing of ``list`` itself."""
    lines = linecache.getlines(str(names.get("__file__") or ""))
    return any("list(range(" in line for line in lines) and not any(" is list" in line for line in lines)
