"""The tensors of a trace: which value each of them holds now, and which of them share their memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import sympy
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from netferry.converters.pytorch.quantized_weights import with_parts
from netferry.converters.pytorch.to_onnx.tracer.calls import Call, Value, leaves_of, map_structure
from netferry.converters.pytorch.to_onnx.tracer.contents import MOST, SYMBOLS, Content, content
from netferry.converters.pytorch.to_onnx.tracer.fake_tensors import PlainFakeTensorMode
from netferry.converters.pytorch.to_onnx.tracer.names import getter
from netferry.converters.pytorch.to_onnx.tracer.sizes import Sizes, users_line
from netferry.converters.pytorch.to_onnx.tracer.untraceable import (
    StaleAlias,
    Stateful,
)

_SMALL = 1 << 12
"""Elements of a tensor whose content is known while a trace runs."""


class TracedTensors:
    """The fake tensors of one trace, the real ones that they stand for, and the calls that have made their values."""

    def __init__(self, root: nn.Module) -> None:
        self.sizes = Sizes()
        self.calls: list[Call] = []
        self._fake = PlainFakeTensorMode(shape_env=self.sizes)
        self._fake.cache_enabled = False  # with symbolic sizes it costs more than it saves
        self._paths = [""]
        self._weight_names: dict[int, str] = {}
        for name, tensor in with_parts(chain(root.named_parameters(), root.named_buffers())):
            self._weight_names.setdefault(id(tensor), name)
        self._values: dict[int, tuple[Tensor, Value]] = {}
        self._memories: dict[int, int] = {}  # fake tensors that share memory have one number
        self._sharing: dict[int, list[Tensor]] = {}  # and the tensors that have it
        self._stand_ins: dict[int, _StandIn] = {}
        self._stale: dict[int, Tensor] = {}  # fake tensors that share memory with one written since: that one
        self._cut_from: dict[int, tuple[Tensor, Any]] = {}  # results of indexing: of which tensor, by what
        self._views: dict[
            int, _View
        ] = {}  # results that share memory with an argument, and how they were made
        self._places: dict[int, Tensor] = {}  # results of nonzero of one row of truths: that row
        self._overwritten: set[int] = set()  # memory of constants that a traced value was written into
        self._made: dict[int, Tensor] = {}
        self._real: dict[int, Tensor] = {}  # what fake tensors hold that are made of buffers alone
        self._contents: dict[int, Content] = {}  # and those that are made of sizes

    def value(self, tensor: Tensor) -> Value:
        """The value that a tensor holds now."""
        stand_in = self._seen(tensor)
        if id(stand_in) in self._stale:
            self._view_again(stand_in)
        return self._values[id(stand_in)][1]

    def _know(self, fake: Tensor, data: Tensor | None = None, name: str = "") -> Value:
        value = Value(fake.dtype, tuple(map(self.sizes.named, fake.shape)), data, name)
        if id(fake) not in self._values:
            memory = self._memories.setdefault(id(fake), _new(self._sharing))
            self._sharing.setdefault(memory, []).append(fake)
        self._values[id(fake)] = (fake, value)
        self._stale.pop(id(fake), None)
        return value

    def _seen(self, tensor: Tensor) -> Tensor:
        """The fake tensor that the trace sees for ``tensor``: itself, or what stands in for a real one."""
        if id(tensor) in self._values:
            return tensor
        stand_in = self._stand_ins.get(id(tensor))
        if stand_in is None or not stand_in.holds():
            weight = self._weight_names.get(id(tensor), "")
            with self._fake:
                fake = torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
                )
            self._know(fake, tensor if weight else tensor.detach().clone(), weight)
            stand_in = self._stand_ins[id(tensor)] = _StandIn(tensor, fake, tensor._version)
        return stand_in.fake

    def bases(self) -> Mapping[int, tuple[Tensor, Value]]:
        """The tensors that are no views of others, and what they hold now."""
        return {
            key: held
            for key, held in self._values.items()
            if key not in self._views and key not in self._stale
        }

    def constants(self) -> set[int]:
        """What stands for constants that nothing has written since."""
        return {id(one.fake) for one in self._stand_ins.values() if one.holds()}

    def written_constants(self) -> set[int]:
        """What stands for constants that traced values were written into."""
        return {id(one.fake) for one in self._stand_ins.values() if one.written}

    def again(self, tensor: Tensor, value: Value) -> Tensor:
        """A tensor like this one that holds a value of before."""
        with self._fake:
            made = torch.empty_like(tensor)
        self._know(made)
        self._values[id(made)] = (made, value)
        return made

    def stands_for(self, now: Any, before: Any) -> bool:
        """Whether ``now`` is what the trace sees for a weight, unwritten: ``self.table = self.table.to(dtype)`` changes nothing."""
        stand_in = self._stand_ins.get(id(before))
        return stand_in is not None and now is stand_in.fake and not stand_in.written

    def _is_traced(self, tensor: Tensor) -> bool:
        """Whether the tensor is a weight or depends on the inputs; others are constants."""
        if isinstance(tensor, FakeTensor) or id(tensor) in self._weight_names:
            return True
        stand_in = self._stand_ins.get(id(tensor))
        if stand_in is not None and stand_in.written:
            return True
        if self._overwritten and storage_of(tensor) in self._overwritten:
            raise _stale()
        return False

    def _called(self, tensor: Tensor) -> str:
        weight = self._weight_names.get(id(tensor))
        return f"'{weight}'" if weight else "a tensor"

    def _argument(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return self.value(item)
        if isinstance(item, torch.SymInt | torch.SymFloat):
            return self.sizes.named(item)
        return item

    def _stood_in(self, item: Any) -> Any:
        return self._seen(item) if isinstance(item, Tensor) else item

    def _result(self, item: Any) -> Any:
        return self._know(item) if isinstance(item, Tensor) else item

    # ---- numbers that are known --------------------------------------------------------------

    def _known(self, tensor: Tensor) -> Tensor | None:
        """What a tensor holds, where that is the same in every run: constants, buffers, what is made of them."""
        if id(tensor) in self._real:
            return self._real[id(tensor)]
        fixed = not isinstance(tensor, FakeTensor | nn.Parameter) and tensor.numel() <= _SMALL
        return tensor if fixed and not tensor.is_meta else None

    def _as_known(self, item: Any) -> Any:
        return self._known(item) if isinstance(item, Tensor) else item

    def _content(self, tensor: Tensor) -> Content | None:
        """What a small tensor holds, as numbers and sizes; None where only the data say it."""
        if id(tensor) in self._contents:
            return self._contents[id(tensor)]
        known = self._known(tensor)
        if known is None or known.numel() > MOST:
            return None
        found = np.empty(known.numel(), object)
        found[:] = known.reshape(-1).tolist()
        return found.reshape(tuple(known.shape))

    def _as_number(self, item: Any) -> Any:
        """A tensor of one known number, or of a size, as that, where a function can do with nothing else."""
        held = self._content(item) if isinstance(item, Tensor) and item.dim() == 0 else None
        return item if held is None else held.item()

    def _compute(self, target: Any, args: Any, kwargs: Any, outputs: list[Tensor]) -> None:
        """Keep what a call over known tensors gives, or one over sizes."""
        if len(outputs) == 1:
            found = content(target, args, kwargs, self._content, outputs[0])
            if found is not None:
                self._contents[id(outputs[0])] = found
                return
        tensors = leaves_of((args, kwargs), Tensor)
        known = [self._known(tensor) for tensor in tensors]
        if not tensors or any(tensor is None for tensor in known) or leaves_of((args, kwargs), SYMBOLS):
            return
        try:
            result = target(*map_structure(self._as_known, args), **map_structure(self._as_known, kwargs))
        except Exception:  # whatever the function raises on real values
            return
        made = leaves_of(result, Tensor)
        if len(made) == len(outputs) and all(tensor.numel() <= _SMALL for tensor in made):
            self._real.update((id(fake), real) for fake, real in zip(outputs, made, strict=True))

    # ---- what is written in place, and views of it ---------------------------------------------

    def _write(self, tensor: Tensor) -> None:
        """``tensor`` was written in place: what shares its memory no longer holds its value."""
        if id(tensor) in self._weight_names:
            raise Stateful(f"the code writes into '{self._weight_names[id(tensor)]}'", users_line())
        fake = self._seen(tensor)
        if fake is not tensor:
            if storage_of(tensor) not in self._made:
                raise Stateful("the code writes into a tensor that outlives the call", users_line())
            self._stand_ins[id(tensor)].written = True
            self._overwritten.add(storage_of(tensor))
        for other in self._sharing[self._memories[id(fake)]]:
            self._real.pop(id(other), None)
            self._contents.pop(id(other), None)
            if other is not fake:
                self._stale[id(other)] = fake

    def _write_through(self, fake: Tensor) -> None:
        """What was written into a view is written into what it is a view of, as far as that can be said."""
        view = self._views.get(id(fake))
        back = None if view is None else view.back()
        if view is None or back is None:
            return
        written, before = self._values[id(fake)][1], self._values[id(view.base)][1]
        target, args = back(before, written)
        after = self._know(view.base)
        self.calls.append(Call(target, self._paths[-1], args, {}, after))
        self._write_through(view.base)

    def _note_view(self, fake: Tensor, base: Tensor, target: Any, given: Any, kwargs: Any) -> None:
        if fake is not base and self._memories[id(fake)] == self._memories[id(base)]:
            self._views.setdefault(id(fake), _View(base, target, tuple(given[1:]), kwargs))

    def _share(self, copy: Tensor, base: Tensor) -> None:
        """A copy that is a view in PyTorch: once one of both is written, the other is not read any more."""
        memory = self._memories[id(self._seen(base))]
        own = self._sharing[self._memories[id(copy)]]
        if own is self._sharing[memory]:
            return
        self._memories |= dict.fromkeys(map(id, own), memory)
        self._sharing[memory] += own
        own.clear()

    def _note_parts(self, parts: Sequence[Tensor], base: Tensor, given: Any, kwargs: Any) -> None:
        """Views that lie side by side along one axis."""
        dim, start = kwargs.get("dim", given[2] if len(given) > 2 else 0), sympy.Integer(0)
        for part in parts:
            size = self._values[id(part)][1].dims[dim]
            where = (dim, int(start) if start.is_Integer else start, size)
            self._note_view(part, base, Tensor.narrow, (base, *where), {})
            start = start + size

    def _view_again(self, fake: Tensor) -> None:
        """A view whose base was written is made of it once more."""
        view = self._views.get(id(fake))
        if view is None:
            raise _stale()
        base = self.value(view.base)
        made = self._know(fake)
        self.calls.append(Call(view.target, self._paths[-1], (base, *view.rest), view.kwargs, made))

    def _is_there(self, base: Tensor, index: Any, part: Any) -> bool:
        """``x[i] += 1`` writes into the view ``x[i]`` and then assigns it to where it is."""
        if not isinstance(part, Tensor):
            return False
        fake, (cut_from, position) = self._seen(base), self._cut_from.get(id(self._seen(part)), (None, None))
        fresh = cut_from is fake and id(fake) not in self._stale
        return fresh and not leaves_of((position, index), Tensor) and bool(position == index)

    def _as_called(self, result: Any, written: list[Tensor]) -> Any:
        """The result as the caller expects it: an in-place function returns the very tensor it wrote."""
        return next((tensor for tensor in written if self._seen(tensor) is result), result)


@dataclass(frozen=True)
class _View:
    """How a view was made: ``target(base, *rest, **kwargs)``."""

    base: Tensor
    target: Any
    rest: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def back(self) -> Callable[[Value, Value], tuple[Any, tuple[Any, ...]]] | None:
        """From the values of the base and of the view: the call that gives the base with the view in it."""
        name = getattr(self.target, "__name__", "")
        if self.target is Tensor.__getitem__:
            return lambda base, view: (Tensor.__setitem__, (base, self.rest[0], view))
        if name in _RESHAPES:
            return lambda base, view: (Tensor.reshape, (view, base.dims))
        if name in _CUTS:
            return lambda base, view: (Tensor.__setitem__, (base, self._index(base, name), view))
        if name in _TURNS or self.target in _GETS:
            return lambda base, view: (Tensor.permute, (view, self._turned_back(base, name)))
        return None

    def _given(self, *names: str) -> list[Any]:
        """The arguments of these names, however they were handed over."""
        return [*self.rest[: len(names)], *(self.kwargs[name] for name in names[len(self.rest) :])]

    def _index(self, base: Value, name: str) -> tuple[Any, ...]:
        """What the view is cut out by, as an index."""
        dim, *rest = self._given(*_CUTS[name])
        part = rest[0] if name == "select" else slice(rest[0], rest[0] + rest[1])
        return (*(slice(None),) * (dim % len(base.dims)), part)

    def _turned_back(self, base: Value, name: str) -> list[int]:
        """The order of axes that takes the view back to the base."""
        rank = len(base.dims)
        order = list(range(rank))
        if name == "permute":
            given = self.rest or (self.kwargs["dims"],)
            flat = given[0] if isinstance(given[0], list | tuple) else given
            order = [axis % rank for axis in flat]
        elif self.target is _GETS[0]:
            order.reverse()
        else:
            first, second = self._given("dim0", "dim1") if name in ("transpose", "swapaxes") else (-2, -1)
            order[first], order[second] = order[second], order[first]
        return [order.index(axis) for axis in range(rank)]


_RESHAPES = frozenset(
    {
        "view",
        "reshape",
        "flatten",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "view_as",
        "detach",
        "contiguous",
        "alias",
    }
)
"""Functions whose result has all elements of their first argument, in order."""

_CUTS: Mapping[str, tuple[str, ...]] = {"select": ("dim", "index"), "narrow": ("dim", "start", "length")}
"""Functions that cut a part out along one axis, and what they are given."""

_TURNS = frozenset({"transpose", "swapaxes", "t", "adjoint", "permute"})
_GETS = getter("T"), getter("mT")
"""What reorders axes."""

PARTS = frozenset({"chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split"})
"""Functions that cut a tensor into parts along one axis."""


@dataclass
class _StandIn:
    """The fake tensor for a real one, which is kept alive; ``version`` tells whether it was written since."""

    real: Tensor
    fake: Tensor
    version: int
    written: bool = field(default=False)

    def holds(self) -> bool:
        return self.written or self.real._version == self.version


def _stale() -> StaleAlias:
    return StaleAlias("a tensor is read after one that shares its memory was written in place", users_line())


def storage_of(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _new(numbered: Mapping[int, Any]) -> int:
    return -1 - len(numbered)
