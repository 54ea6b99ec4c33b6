"""The table of torch functions: what reads and writes parts of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
import torch

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import div
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


@row("slice", torch.ops.aten.slice.Tensor)
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
    "mean": "add",
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
    if reduce not in _REDUCTIONS:
        raise CannotConvert(f"a scatter that reduces by '{reduce}'")
    if isinstance(src, Tensor):
        wanted = [(0, size) for size in e.sizes_of(index)]
        src = _sliced(e, src, [_Slice(axis, *ends, 1) for axis, ends in enumerate(wanted)])
    updates = src if isinstance(src, Tensor) else e.full(src, e.sizes_of(index), input.dtype)
    updates = e.cast(updates, input.dtype)
    if not include_self:
        nothing = e.full(_neutral(reduce, input.dtype), e.sizes_of(index), input.dtype)
        input = e.g.ScatterElements(input, index, nothing, axis=dim)
    found = e.g.ScatterElements(input, index, updates, axis=dim, reduction=_REDUCTIONS[reduce])
    if reduce != "mean":
        return found
    count = _counted(e, input, dim, index, include_self)
    return div(e, found, count, rounding_mode="floor" if input.dtype.kind in "iu" else None)


def _neutral(reduce: str | None, dtype: np.dtype[Any]) -> float:
    """What changes nothing that it is combined with."""
    if reduce in ("prod", "multiply"):
        return 1
    if reduce not in ("amax", "amin"):
        return 0
    whole = dtype.kind in "iu"
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if whole else (-np.inf, np.inf)
    return low if reduce == "amax" else high


def _counted(e: Emitter, input: Tensor, dim: int, index: Tensor, include_self: bool) -> Tensor:
    """How many values have come together at each place; one where none has."""
    one = e.full(1, e.sizes_of(index), input.dtype)
    start = e.full(int(include_self), e.sizes_of(input), input.dtype)
    count = e.g.ScatterElements(start, index, one, axis=dim, reduction="add")
    return count if include_self else e.g.Max(count, e.tensor(1, input.dtype))


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


@row("index_reduce")
def index_reduce(
    e: Emitter, input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:  # fmt: skip
    where_ = _along_axis(e, input, dim, index)
    return scatter(e, input, dim, where_, source, reduce, include_self=include_self)


@row("nonzero", "argwhere")
def nonzero(e: Emitter, input: Tensor) -> Tensor:
    """(found, axes)."""
    found = e.g.Transpose(e.g.NonZero(input), perm=(1, 0))
    e.define(e.out.dims[0], e.g.Shape(found, start=0, end=1))
    return found


@row("repeat_interleave")
def repeat_interleave(e: Emitter, repeats: Tensor) -> Tensor:
    """The number of each element, as often as it is repeated: how many ends of its predecessors lie before each place."""
    ends = e.g.CumSum(e.cast(repeats, INT64), e.g.constant(0, np.int64))
    total = e.g.ReduceMax(ends, keepdims=1)
    e.define(e.out.dims[0], total)
    line = e.g.Range(e.tensor(0, INT64), e.g.Squeeze(total, e.g.ints(0)), e.tensor(1, INT64))
    before = e.g.GreaterOrEqual(e.g.Unsqueeze(line, e.g.ints(1)), ends)
    return e.cast(e.g.ReduceSum(e.cast(before, INT64), e.g.ints(1), keepdims=0), e.dtype)


@row("one_hot")
def one_hot(e: Emitter, input: Tensor, num_classes: Any = -1) -> Tensor:
    """Without a number of classes there are as many as the largest one asks for."""
    count = e.tensor(num_classes, INT64)
    if isinstance(num_classes, int) and num_classes < 0:
        count = e.g.Add(e.g.ReduceMax(input, keepdims=0), e.tensor(1, INT64))
        e.define(e.out.dims[-1], e.g.Unsqueeze(count, e.g.ints(0)))
    return e.g.OneHot(input, count, e.g.constant([0, 1], np.int64), axis=-1)


@row("bincount")
def bincount(e: Emitter, input: Tensor, weights: Tensor | None = None, minlength: Any = 0) -> Tensor:
    """How often each number comes, or the sum of its weights; as long as the largest number asks for."""
    numbers = e.cast(input, INT64)
    length = e.g.Add(e.g.ReduceMax(numbers, keepdims=1), e.g.ints(1))
    length = length if minlength == 0 else e.g.Max(length, e.shape([minlength]))
    e.define(e.out.dims[0], length)
    nothing = e.g.Expand(e.tensor(0, e.dtype), length)
    what = e.full(1, e.sizes_of(input), e.dtype) if weights is None else e.cast(weights, e.dtype)
    return e.g.ScatterElements(nothing, numbers, what, axis=0, reduction="add")


@row("_unique2")
def unique(
    e: Emitter, input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Sequence[Tensor]:
    values, _, inverse, counts = e.g.ops("Unique", input, outputs=4, sorted=1)
    e.define(e.out.dims[0], e.g.Shape(values, start=0, end=1))
    nothing = e.g.constant(np.zeros(0, np.int64))
    where_ = e.reshape(inverse, e.sizes_of(input)) if return_inverse else nothing
    return values, where_, counts if return_counts else nothing


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
        return _gather_together(e, x, parts)
    if axes:
        x = e.g.Gather(x, parts.lists[axes[0]], axis=axes[0])
    grown = sum(parts.lists[axis].rank - 1 for axis in axes[:1])
    for axis in sorted(parts.picks, reverse=True):
        x = select(e, x, axis + (grown if axes and axis > axes[0] else 0), parts.picks[axis])
    return e.g.Unsqueeze(x, e.g.ints(*parts.new)) if parts.new else x


def _gather_together(e: Emitter, x: Tensor, parts: _Index) -> Tensor:
    """``x[i, j]``: lists of indices taken pairwise; what they give stands where they do, or in front if they are apart."""
    for axis in sorted(parts.picks, reverse=True):
        x = select(e, x, axis, parts.picks[axis])
    kept = [axis for axis in range(x.rank + len(parts.picks)) if axis not in parts.picks]
    lists = {kept.index(axis): index for axis, index in parts.lists.items()}
    axes = sorted(lists)
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    if parts.new and (not together or axes[0] > 0):
        raise CannotConvert("new axes beside lists of indices on several axes", "Index first, then unsqueeze")
    rank = max(index.rank for index in lists.values())
    first = axes[0] if together else 0
    shared = _alike(e, [lists[axis] for axis in axes])
    found = e.g.GatherND(e.transpose(x, [*axes, *(a for a in range(x.rank) if a not in lists)]), shared)
    if first:
        found = e.transpose(
            found, [*range(rank, rank + first), *range(rank), *range(rank + first, found.rank)]
        )
    return e.g.Unsqueeze(found, e.g.ints(*parts.new)) if parts.new else found


def _alike(e: Emitter, lists: Sequence[Tensor]) -> Tensor:
    """Lists of indices broadcast to each other, side by side on a new last axis."""
    rank = max(index.rank for index in lists)
    shapes = [[1] * (rank - index.rank) + e.sizes_of(index) for index in lists]
    sizes = [next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True)]
    wide = [e.expand(e.cast(index, INT64), sizes) for index in lists]
    return e.g.Concat(*(e.g.Unsqueeze(index, e.g.ints(-1)) for index in wide), axis=-1)


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


@row("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(
    e: Emitter, input: Tensor, indices: Any, values: Tensor, accumulate: bool = False, *_: Any
) -> Tensor:
    """What is put is added to what is there."""
    items = tuple(slice(None) if index is None else index for index in indices)
    return setitem(e, input, items, values, "add" if accumulate else None)


@row("setitem")
def setitem(e: Emitter, input: Tensor, index: Any, value: Operand, reduction: str | None = None) -> Tensor:
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
        reduction=reduction,
    )
    return e.reshape(flat, sizes)


def _where_true(e: Emitter, input: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    """One value for all, or one for each place where the mask is true."""
    behind = range(mask.rank, input.rank)
    if value.rank > len(behind):
        line = e.cast(e.g.Reshape(mask, e.g.ints(-1)), INT64)
        place = e.g.Sub(e.g.CumSum(line, e.g.constant(0, np.int64)), e.tensor(1, INT64))
        place = e.g.Reshape(e.g.Max(place, e.tensor(0, INT64)), e.shape(e.sizes_of(mask)))
        last = e.g.Sub(e.g.Shape(value, start=0, end=1), e.g.ints(1))  # one row stands for all
        value = e.g.Gather(value, e.g.Min(place, last), axis=0)
    mask = e.g.Unsqueeze(mask, e.g.ints(*behind)) if behind else mask
    return e.g.Where(mask, value, input)


def _element_numbers(e: Emitter, sizes: Sequence[Size]) -> Tensor:
    """The number of each element of a tensor of these sizes, in their order."""
    if all(isinstance(size, int) for size in sizes):
        return e.g.constant(np.arange(np.prod(sizes, dtype=np.int64)).reshape(sizes))
    count = sympy.Mul(*sizes)
    line = e.g.Range(e.g.constant(0, np.int64), e.scalar_size(count), e.g.constant(1, np.int64))
    return e.reshape(line, sizes)
