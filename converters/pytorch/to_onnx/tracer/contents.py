"""What small tensors of sizes hold: the arithmetic that some models do on 0-D tensors instead of on numbers.

``torch.ceil((n - kernel) / stride)`` of a free ``n`` has no data, but what it holds is known as an expression. A content is an
array of objects: numbers, and sizes as PyTorch's symbols, so that Python's own operators compute with it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.calls import leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.names import writes
from netferry.converters.pytorch.to_onnx.tracer.python_names import MATH, SYM

Content: TypeAlias = "np.ndarray[Any, np.dtype[np.object_]]"

MOST = 64
"""Elements of a tensor whose content is followed."""

SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def content(
    target: Any, args: Any, kwargs: Mapping[str, Any], held: Callable[[Tensor], Content | None], made: Tensor
) -> Content | None:
    """What a call gives, of sizes: of what its tensors hold and of what it is told; None where that is not known."""
    rule = _RULES.get(_plain_name(target))
    if (
        rule is None
        or writes(target)
        or not all(isinstance(size, int) for size in made.shape)
        or made.numel() > MOST
    ):
        return None
    known = {id(tensor): held(tensor) for tensor in leaves_of((args, kwargs), Tensor)}
    if any(array is None for array in known.values()):
        return None
    items = [item for array in known.values() if array is not None for item in array.reshape(-1)]
    if not any(isinstance(item, SYMBOLS) for item in (*items, *leaves_of((args, kwargs), SYMBOLS))):
        return None
    told = map_structure(
        lambda item: known[id(item)] if isinstance(item, Tensor) else item, (args, dict(kwargs))
    )
    try:
        found = np.asarray(rule(made, *told[0], **told[1]), dtype=object)
    except (TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
        return None
    return None if found.shape != tuple(made.shape) else np.asarray(_cast(made.dtype)(found), dtype=object)


def _plain_name(target: Any) -> str:
    return str(getattr(target, "__name__", "")).strip("_")


def _each(function: Callable[..., Any], count: int = 1) -> Any:
    return np.frompyfunc(function, count, 1)


def _cast(dtype: torch.dtype) -> Any:
    return _each(_truth if dtype is torch.bool else _fraction if dtype.is_floating_point else _whole)


def _whole(item: Any) -> Any:
    return int(item) if isinstance(item, bool | int | float) else SYM.sym_int(_number(item))


def _fraction(item: Any) -> Any:
    return float(item) if isinstance(item, bool | int | float) else SYM.sym_float(_number(item))


def _number(item: Any) -> Any:
    return SYM.sym_ite(item, 1, 0) if isinstance(item, torch.SymBool) else item


def _truth(item: Any) -> Any:
    return item if isinstance(item, bool | torch.SymBool) else item != 0


_largest, _smallest = _each(SYM.sym_max, 2), _each(SYM.sym_min, 2)


def _two(function: Callable[..., Any], turned: bool = False) -> Callable[..., Any]:
    of = _each(function, 2)

    def rule(_: Tensor, a: Any, b: Any, alpha: Any = 1) -> Any:
        a, b = np.asarray(a, object), np.asarray(b, object)
        return of(b, a) if turned else of(a, b if alpha == 1 else b * alpha)

    return rule


def _one(function: Callable[..., Any]) -> Callable[..., Any]:
    of = _each(function)
    return lambda _, a: of(a)


def _divided(_: Tensor, a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    rounded: Any = {None: lambda q: q, "floor": math.floor, "trunc": math.trunc}[rounding_mode]
    return _each(rounded)(_each(operator.truediv, 2)(a, b))


def _clamped(_: Tensor, a: Any, min: Any = None, max: Any = None) -> Any:
    above = a if min is None else _largest(a, min)
    return above if max is None else _smallest(above, max)


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reduction over all elements, or along one axis."""

    def rule(_: Tensor, a: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        del dtype  # what is made has it
        if dim is None:
            return function(a.reshape(-1), axis=0)
        return function(a, axis=dim if isinstance(dim, int) else tuple(dim), keepdims=keepdim)

    return rule


def _shaped(made: Tensor, a: Any, *_: Any, **__: Any) -> Any:
    return a.reshape(tuple(made.shape))


def _spread(made: Tensor, a: Any, *_: Any, **__: Any) -> Any:
    return np.broadcast_to(a, tuple(made.shape))


def _filled(made: Tensor, *given: Any, **named: Any) -> Any:
    found = np.empty(tuple(made.shape), object)
    found[...] = named.get("fill_value", given[-1] if given else None)
    return found


def _item(_: Tensor, a: Any, index: Any) -> Any:
    return a[map_structure(lambda part: part.astype(int) if isinstance(part, np.ndarray) else part, index)]


def _joined(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, parts, dim=0: function(list(parts), axis=dim)


def _nested(made: Tensor, data: Any, *_: Any, **__: Any) -> Any:
    """A list of lists of sizes, or of tensors of one element."""
    found = np.empty(made.numel(), object)
    found[:] = [part.item() if isinstance(part, np.ndarray) else part for part in leaves_of(data, object)]
    return found.reshape(tuple(made.shape))


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "subtract": operator.sub, "mul": operator.mul, "multiply": operator.mul,
    "floordiv": operator.floordiv, "floor_divide": operator.floordiv, "mod": operator.mod, "remainder": operator.mod,
    "pow": operator.pow, "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le, "gt": operator.gt,
    "ge": operator.ge, "maximum": SYM.sym_max, "minimum": SYM.sym_min,
}  # fmt: skip

_RULES: dict[str, Callable[..., Any]] = {
    **{name: _two(function) for name, function in _OPERATORS.items()},
    **{f"r{name}": _two(_OPERATORS[name], True) for name in ("add", "sub", "mul", "floordiv", "mod", "pow")},
    **dict.fromkeys(("truediv", "div", "divide", "true_divide"), _divided),
    **dict.fromkeys(("rtruediv", "rdiv"), lambda made, a, b: _divided(made, b, a)),
    "neg": _one(operator.neg), "abs": _one(lambda x: SYM.sym_max(x, -x)), "round": _one(round),
    "ceil": _one(math.ceil), "floor": _one(math.floor), "trunc": _one(math.trunc), "fix": _one(math.trunc),
    **{name: _one(MATH[name]) for name in ("sqrt", "log", "log2", "log10")},
    "clamp": _clamped, "clip": _clamped, "clamp_min": _clamped,
    "clamp_max": lambda made, a, max: _clamped(made, a, None, max),
    "sum": _over(np.add.reduce), "prod": _over(np.multiply.reduce),
    "max": _over(_largest.reduce), "amax": _over(_largest.reduce),
    "min": _over(_smallest.reduce), "amin": _over(_smallest.reduce),
    "cumsum": lambda _, a, dim=0, **__: np.add.accumulate(a, axis=dim),
    "cumprod": lambda _, a, dim=0, **__: np.multiply.accumulate(a, axis=dim),
    **dict.fromkeys("reshape view flatten squeeze unsqueeze ravel unflatten view_as reshape_as".split(), _shaped),
    **dict.fromkeys("clone contiguous detach cpu to long int float double bool type type_as short".split(), _shaped),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), _spread),
    **dict.fromkeys(("full", "new_full", "full_like"), _filled),
    **dict.fromkeys(("tensor", "as_tensor", "scalar_tensor"), _nested),
    "getitem": _item, "select": lambda _, a, dim, index: np.take(a, index, axis=dim),
    "cat": _joined(np.concatenate), "concat": _joined(np.concatenate), "stack": _joined(np.stack),
}  # fmt: skip
"""What functions of tensors are, of contents; each is given what PyTorch makes first."""
