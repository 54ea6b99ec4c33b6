"""The table of torch functions: what reads and writes parts of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.emitter import Emitter, Operand
from netferry.converters.pytorch.to_onnx.table import INT64, row
from netferry.converters.pytorch.to_onnx.tracer.calls import leaves_of
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size

_TO_THE_END = np.iinfo(np.int64).max


@row("select")
def select(e: Emitter, input: Tensor, dim: int, index: Operand) -> Tensor:
    """One index of one axis, which goes; the other axes keep a pending transposition."""
    base, axis, _ = e.along(input, dim)
    picked = e.g.Gather(base, e.tensor(index, INT64), axis=axis)
    if input.perm is None:
        return picked
    return e.g.transpose(
        picked, [position - (position > axis) for position in input.perm if position != axis]
    )


@row("narrow")
def narrow(e: Emitter, input: Tensor, dim: int, start: Any, length: Any) -> Tensor:
    return _sliced(e, input, [_Slice(dim % input.rank, start, start + length, 1)])


@row("slice")
def slice_(
    e: Emitter, input: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    return _sliced(e, input, [_Slice(dim % input.rank, start, end, step)])


@row("index_select")
def index_select(e: Emitter, input: Tensor, dim: int, index: Tensor) -> Tensor:
    return e.g.Gather(input, index, axis=dim)


@row("gather")
def gather(e: Emitter, input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    return e.g.GatherElements(input, index, axis=dim)


_REDUCTIONS = {
    None: None,
    "add": "add",
    "multiply": "mul",
    "sum": "add",
    "prod": "mul",
    "amax": "max",
    "amin": "min",
}
"""How updates of one element are combined: PyTorch's reductions and ONNX's."""


@row("scatter", "scatter_reduce")
def scatter(
    e: Emitter,
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Operand,
    reduce: str | None = None,
    *,
    include_self: bool = True,
) -> Tensor:
    """ONNX wants as many updates as indices: more of them in ``src`` are cut off."""
    if reduce not in _REDUCTIONS or not include_self:
        raise CannotConvert(
            f"a scatter that reduces by '{reduce}'" + ("" if include_self else " without what is there")
        )
    if isinstance(src, Tensor):
        wanted = [(0, size) for size in e.sizes_of(index)]
        src = _sliced(e, src, [_Slice(axis, *ends, 1) for axis, ends in enumerate(wanted)])
    updates = src if isinstance(src, Tensor) else e.full(src, e.sizes_of(index), input.dtype)
    return e.g.ScatterElements(
        input, index, e.cast(updates, input.dtype), axis=dim, reduction=_REDUCTIONS[reduce]
    )


@row("scatter_add")
def scatter_add(e: Emitter, input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    return scatter(e, input, dim, index, src, "add")


def _along_axis(e: Emitter, input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The same indices along one axis for every position of the others."""
    axis = dim % input.rank
    others = [position for position in range(input.rank) if position != axis]
    spread = e.g.Unsqueeze(index, e.g.ints(*others)) if others else index
    sizes = e.sizes_of(input)
    return e.expand(spread, [*sizes[:axis], e.size_of(index, 0), *sizes[axis + 1 :]])


@row("index_add")
def index_add(
    e: Emitter, input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1
) -> Tensor:
    source = source if alpha == 1 else e.g.Mul(source, e.tensor(alpha, source.dtype))
    return scatter(e, input, dim, _along_axis(e, input, dim, index), source, "add")


@row("index_copy")
def index_copy(e: Emitter, input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    return scatter(e, input, dim, _along_axis(e, input, dim, index), source)


@row("index_fill")
def index_fill(e: Emitter, input: Tensor, dim: int, index: Tensor, value: Operand) -> Tensor:
    return scatter(e, input, dim, _along_axis(e, input, dim, index), value)


@row("one_hot")
def one_hot(e: Emitter, input: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 0:
        raise CannotConvert("one_hot without num_classes depends on the values it is given")
    return e.g.OneHot(input, e.g.constant(num_classes, np.int64), e.g.constant([0, 1], np.int64), axis=-1)


@dataclass(frozen=True)
class _Slice:
    axis: int
    start: Any
    stop: Any
    step: Any


@dataclass
class _Index:
    """What an index says of each axis of the tensor, and where new axes come in the result."""

    slices: list[_Slice] = field(default_factory=list)
    picks: dict[int, Operand] = field(default_factory=dict)
    lists: dict[int, Tensor] = field(default_factory=dict)
    new: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, e: Emitter, index: Any, rank: int) -> _Index:
        items = list(index) if isinstance(index, tuple) else [index]
        consumed = sum(item is not None and item is not Ellipsis for item in items)
        if not any(item is Ellipsis for item in items):
            items.append(Ellipsis)
        found, axis, position = cls(), 0, 0
        for item in items:
            if item is None:
                found.new.append(position)
                position += 1
            elif item is Ellipsis:
                axis, position = axis + rank - consumed, position + rank - consumed
            else:
                position += found._one(e, axis, item)
                axis += 1
        return found

    def _one(self, e: Emitter, axis: int, item: Any) -> int:
        """Note what one item says of one axis; returns how many axes of the result come of it."""
        if isinstance(item, bool) or (isinstance(item, Tensor) and item.dtype == np.bool_):
            raise CannotConvert("an index of truth values", "Use torch.where")
        if isinstance(item, slice):
            if not _is_whole(item):
                self.slices.append(_Slice(axis, item.start, item.stop, item.step))
            return 1
        if isinstance(item, list):
            item = e.g.constant(item, np.int64)
        if isinstance(item, Tensor) and item.rank:
            self.lists[axis] = item
            return item.rank if len(self.lists) == 1 else 0
        self.picks[axis] = item
        return 0


def _is_whole(item: slice) -> bool:
    return item.start in (None, 0) and item.stop is None and item.step in (None, 1)


@row("getitem")
def getitem(e: Emitter, input: Tensor, index: Any) -> Tensor:
    """Slices first, then lists of indices, then single indices from the last axis on, then new axes."""
    parts = _Index.of(e, index, input.rank)
    x = _sliced(e, input, parts.slices)
    axes = sorted(parts.lists)
    if len(axes) > 1:
        x = _gather_together(e, x, parts)
    elif axes:
        x = e.g.Gather(x, parts.lists[axes[0]], axis=axes[0])
    grown = sum(parts.lists[axis].rank - 1 for axis in axes[:1])
    for axis in sorted(parts.picks, reverse=True):
        x = select(e, x, axis + (grown if axes and axis > axes[0] else 0), parts.picks[axis])
    return e.g.Unsqueeze(x, e.g.ints(*parts.new)) if parts.new else x


def _gather_together(e: Emitter, x: Tensor, parts: _Index) -> Tensor:
    """``x[i, j]``: lists of indices on the leading axes, taken pairwise."""
    axes = sorted(parts.lists)
    if axes != list(range(len(axes))) or parts.picks:
        raise CannotConvert("lists of indices on several axes that are not the first")
    shape = list(e.out.dims[: max(index.rank for index in parts.lists.values())])
    lists = [e.expand(e.cast(parts.lists[axis], INT64), shape) for axis in axes]
    together = e.g.Concat(*(e.g.Unsqueeze(index, e.g.ints(-1)) for index in lists), axis=-1)
    return e.g.GatherND(x, together)


def _sliced(e: Emitter, x: Tensor, slices: Sequence[_Slice]) -> Tensor:
    """One Slice node for all axes; ends that are the axis' own size cut nothing off."""
    sizes = e.dims(e.sizes_of(x)) if slices else ()
    cuts = [
        cut
        for cut in slices
        if cut.start not in (None, 0) or cut.step not in (None, 1) or str(cut.stop) != str(sizes[cut.axis])
    ]
    if not cuts:
        return x
    base, wrap = e.beneath(x)
    axes = [cut.axis if x.perm is None else x.perm[cut.axis] for cut in cuts]
    starts = _bounds(e, [0 if cut.start is None else cut.start for cut in cuts])
    ends = _bounds(e, [_TO_THE_END if cut.stop is None else cut.stop for cut in cuts])
    steps = [1 if cut.step is None else cut.step for cut in cuts]
    given = None if all(step == 1 for step in steps) else e.g.ints(*steps)
    return wrap(e.g.Slice(base, starts, ends, e.g.ints(*axes), given))


def _bounds(e: Emitter, bounds: Sequence[Any]) -> Tensor:
    """Starts or ends of slices: numbers, sizes, or 0-D tensors."""
    if not any(isinstance(bound, Tensor) for bound in bounds):
        return e.shape(bounds)
    parts = [
        e.g.Reshape(e.cast(b, INT64), e.g.ints(1)) if isinstance(b, Tensor) else e.size(b) for b in bounds
    ]
    return parts[0] if len(parts) == 1 else e.g.Concat(*parts, axis=0)


@row("setitem")
def setitem(e: Emitter, input: Tensor, index: Any, value: Operand) -> Tensor:
    """The tensor with new content at the index; what the index covers is found by indexing the elements' numbers."""
    update = e.tensor(value, input.dtype)
    if isinstance(index, Tensor) and index.dtype == np.bool_:
        return _where_true(e, input, index, update)
    if (isinstance(index, slice) and _is_whole(index)) or index is Ellipsis:
        return e.expand(update, e.sizes_of(input))
    sizes = e.sizes_of(input)
    numbers = _element_numbers(e, sizes)
    if numbers.array is not None and not leaves_of(index, Tensor | sympy.Expr):
        numbers = e.g.constant(numbers.array[index])
        region = e.expand(update, e.sizes_of(numbers))
    else:
        numbers = getitem(e, numbers, index)
        region = e.g.Expand(update, e.g.Shape(numbers))
    flat = e.g.ScatterElements(
        e.g.Reshape(input, e.g.ints(-1)),
        e.g.Reshape(numbers, e.g.ints(-1)),
        e.g.Reshape(region, e.g.ints(-1)),
        axis=0,
    )
    return e.reshape(flat, sizes)


def _where_true(e: Emitter, input: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    if value.rank:
        raise CannotConvert("a tensor written where a mask is true", "Use torch.where")
    behind = range(mask.rank, input.rank)
    mask = e.g.Unsqueeze(mask, e.g.ints(*behind)) if behind else mask
    return e.g.Where(mask, value, input)


def _element_numbers(e: Emitter, sizes: Sequence[Size]) -> Tensor:
    """The number of each element of a tensor of these sizes, in their order."""
    if all(isinstance(size, int) for size in sizes):
        return e.g.constant(np.arange(np.prod(sizes, dtype=np.int64)).reshape(sizes))
    count = sympy.Mul(*sizes)
    line = e.g.Range(e.g.constant(0, np.int64), e.scalar_size(count), e.g.constant(1, np.int64))
    return e.reshape(line, sizes)
