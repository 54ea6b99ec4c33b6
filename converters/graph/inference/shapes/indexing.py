"""Sizes of what takes elements by index or by range."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, at_least, axes_of, ints, ranked, surely
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, ceil_div, largest, smallest


@SHAPES.row("Slice")
@ranked
def slices(x: Any, starts: Fact, ends: Fact, axes: Fact | None = None, steps: Fact | None = None) -> Dims:
    first, last = ints(starts), ints(ends)
    count = next((len(items) for items in (first, last) if items is not None), None)
    if count is None:
        count = next((f.dims[0] for f in (starts, ends) if f.dims and isinstance(f.dims[0], int)), None)
    positions = None if count is None else axes_of(axes, len(x.dims), range(count))
    if positions is None:
        return (None,) * len(x.dims)
    by = (1,) * len(positions) if steps is None else ints(steps)
    dims: list[Any] = list(x.dims)
    for index, axis in enumerate(positions):
        bounds = [items[index] for items in (first, last, by) if items is not None]
        dims[axis] = sliced(dims[axis], *bounds) if len(bounds) == 3 else None
    return tuple(dims)


def sliced(dim: Any, start: Any, stop: Any, step: Any) -> Any:
    """How many places ``start:stop:step`` takes of an axis; None where that is not known."""
    if isinstance(step, Size):
        return None
    if not any(isinstance(size, Size) for size in (dim, start, stop)):
        stop = None if step < 0 and stop < -dim else stop
        return len(range(*slice(start, stop, step).indices(dim)))
    low, high = position(dim, start), position(dim, stop)
    if step == -1 and low is not None and not isinstance(stop, Size) and stop <= -(2**31):
        return dim if surely(dim, low + 1) else smallest(low + 1, dim)
    if low is None or high is None or step < 1:
        return None
    span = high - low if surely(low, high) else largest(high - low, 0)
    return span if step == 1 else ceil_div(span, step)


def position(dim: Any, index: Any) -> Any:
    """The place that an index of a slice means, held between 0 and ``dim``; None where that is not known."""
    if not isinstance(index, Size) and abs(index) >= 2**31 - 1:
        return dim if index > 0 else 0
    if at_least(index) >= 0:
        return index if surely(index, dim) else dim if surely(dim, index) else smallest(index, dim)
    if at_least(-index) >= 1:
        return dim + index if surely(-index, dim) else largest(dim + index, 0)
    return None


@SHAPES.row("Gather")
@ranked
def gather(x: Any, indices: Fact, *, axis: int = 0) -> Dims:
    if indices.dims is None:
        return None
    axis %= len(x.dims)
    return (*x.dims[:axis], *indices.dims, *x.dims[axis + 1 :])


@SHAPES.row("GatherElements")
def gather_elements(x: Fact, indices: Fact, *, axis: int = 0) -> Dims:
    return indices.dims


@SHAPES.row("GatherND")
@ranked
def gather_nd(x: Any, indices: Fact, *, batch_dims: int = 0) -> Dims:
    if indices.dims is None or isinstance(indices.dims[-1], Size):
        return None
    return (*indices.dims[:-1], *x.dims[batch_dims + indices.dims[-1] :])


@SHAPES.row("TopK")
@ranked
def topk(x: Any, k: Fact, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> list[Dims]:  # noqa: A002
    count = ints(k)
    dims = list(x.dims)
    dims[axis] = None if count is None else count[0]
    return [tuple(dims)] * 2


@SHAPES.row("OneHot")
def one_hot(indices: Fact, depth: Fact, values: Any, *, axis: int = -1) -> Dims:
    if indices.dims is None:
        return None
    count = ints(depth)
    dims: list[Any] = list(indices.dims)
    dims.insert(axis % (len(dims) + 1), None if count is None else count[0])
    return tuple(dims)
