"""Picking and placing: what takes elements by index, sorts them, or writes them somewhere."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import (
    INT64,
    OPS,
    Row,
    Sizes,
    along,
    as_dtype,
    choice,
    ints,
    op,
    others,
)

REDUCTIONS = ("none", "add", "mul", "max", "min")
"""What a scatter does where several updates meet."""


# ---- taking ------------------------------------------------------------------------------------------------


@op
def Gather(xp: Any, data: Symbol, indices: Symbol, *, axis: int) -> Any:
    return xp.take(data, indices, along(axis, data.ndim))


@op
def GatherElements(xp: Any, data: Symbol, indices: Symbol, *, axis: int) -> Any:
    return xp.take_along_axis(data, indices, along(axis, data.ndim))


@op
def GatherND(xp: Any, data: Symbol, indices: Symbol, *, batch_dims: int) -> Any:
    return xp.gather_nd(data, indices, batch_dims)


@op
def Compress(xp: Any, x: Symbol, condition: Symbol, *, axis: int | None) -> Any:
    if axis is None:
        return xp.compress(xp.reshape(x, (-1,)), condition, 0)
    return xp.compress(x, condition, along(axis, x.ndim))


@op
def Trilu(xp: Any, x: Symbol, k: Sizes | None = None, *, upper: int) -> Any:
    (diagonal,) = (0,) if k is None else ints(k, "diagonal")
    return xp.triu(x, diagonal) if upper else xp.tril(x, diagonal)


@op
def ReverseSequence(xp: Any, x: Symbol, sequence_lens: Symbol, *, batch_axis: int, time_axis: int) -> Any:
    """The first ``sequence_lens[b]`` steps of each batch b backwards, the rest as they stand."""
    batch, time = along(batch_axis, x.ndim), along(time_axis, x.ndim)
    steps = xp.expand_dims(xp.arange(0, x.shape[time], 1, INT64), others(x.ndim, time))
    lengths = xp.expand_dims(as_dtype(xp, sequence_lens, INT64), others(x.ndim, batch))
    positions = xp.where(steps < lengths, lengths - 1 - steps, steps)
    return xp.take_along_axis(x, xp.broadcast_to(positions, x.shape), time)


# ---- sorting ---------------------------------------------------------------------------------------------------


@op
def TopK(
    xp: Any,
    x: Symbol,
    k: Sizes,
    *,
    axis: int,
    largest: int,
    sorted: int,  # noqa: A002
) -> Any:
    """Sorted in any case: an unsorted result may be in any order."""
    return tuple(xp.topk(x, k[0], along(axis, x.ndim), bool(largest)))


@op
def Unique(xp: Any, x: Symbol, *, axis: int | None, sorted: int) -> Any:  # noqa: A002
    return tuple(xp.unique(x, None if axis is None else along(axis, x.ndim), bool(sorted)))


def _arg(word: str) -> Row:
    def row(xp: Any, data: Symbol, *, axis: int, keepdims: int, select_last_index: int) -> Any:
        axis, find = along(axis, data.ndim), getattr(xp, word)
        if not select_last_index:
            return find(data, axis, bool(keepdims))
        return xp.subtract(data.shape[axis] - 1, find(xp.flip(data, (axis,)), axis, bool(keepdims)))

    return row


OPS.row("ArgMax")(_arg("argmax"))
OPS.row("ArgMin")(_arg("argmin"))


@op
def Hardmax(xp: Any, x: Symbol, *, axis: int) -> Any:
    """1 at the first of the largest, 0 elsewhere."""
    axis = along(axis, x.ndim)
    positions = xp.expand_dims(xp.arange(0, x.shape[axis], 1, INT64), others(x.ndim, axis))
    return xp.astype(xp.equal(xp.argmax(x, axis, True), positions), x.dtype)


# ---- placing -----------------------------------------------------------------------------------------------------


@op
def ScatterElements(
    xp: Any, data: Symbol, indices: Symbol, updates: Symbol, *, axis: int, reduction: str
) -> Any:
    choice(reduction, REDUCTIONS, "reduction")
    return xp.scatter_along_axis(data, indices, updates, along(axis, data.ndim), reduction)


@op
def ScatterND(xp: Any, data: Symbol, indices: Symbol, updates: Symbol, *, reduction: str) -> Any:
    return xp.scatter_nd(data, indices, updates, choice(reduction, REDUCTIONS, "reduction"))


@op
def TensorScatter(
    xp: Any,
    cache: Symbol,
    update: Symbol,
    write_indices: Symbol | None = None,
    *,
    axis: int,
    mode: str,
) -> Any:
    """``update`` written into ``cache`` along ``axis``, from an index of its own for each batch."""
    axis = along(axis, cache.ndim)
    positions = xp.expand_dims(xp.arange(0, update.shape[axis], 1, INT64), others(cache.ndim, axis))
    if write_indices is not None:
        starts = as_dtype(xp, write_indices, INT64)
        positions = positions + xp.expand_dims(starts, others(cache.ndim, 0))
    if choice(mode, ("linear", "circular"), "mode") == "circular":
        positions = xp.remainder(positions, cache.shape[axis])
    return xp.scatter_along_axis(cache, xp.broadcast_to(positions, update.shape), update, axis, "none")
