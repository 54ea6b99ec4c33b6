"""Sizes and places: what moves, repeats, cuts and joins elements, and what is made of sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.sizes import Size, ceil_div, known, largest, nonzero, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import (
    FLOAT32,
    INT64,
    OPS,
    Sizes,
    all_along,
    along,
    choice,
    dtype_of,
    ints,
    op,
)
from netferry.converters.signature import Array

_FAR = 2**31 - 1
"""From here on a bound of a slice means the end, whatever the size."""


# ---- the same elements in other sizes -----------------------------------------------------------------------


@op
def Reshape(xp: Any, data: Symbol, shape: Sizes, *, allowzero: int) -> Any:
    if allowzero:
        return xp.reshape(data, shape)
    return xp.reshape(data, tuple(_copied(data, position, size) for position, size in enumerate(shape)))


def _copied(data: Symbol, position: int, size: Any) -> Any:
    """A size, or that of the input at the same place where it is 0.

    A free size may be 0 only where it is read from a tensor, so what is computed from sizes stays as it is.
    """
    if position >= data.ndim or size == data.shape[position]:
        return size
    if not isinstance(size, Size):
        return data.shape[position] if size == 0 else size
    return nonzero(size, data.shape[position]) if size.atom is not None and not size.atom.args else size


@op
def Flatten(xp: Any, x: Symbol, *, axis: int) -> Any:
    axis = axis + x.ndim if axis < 0 else axis
    rows, columns = product(x.shape[:axis]), product(x.shape[axis:])
    if isinstance(rows, Size) and not isinstance(columns, Size) and columns:
        rows = -1
    return xp.reshape(x, (rows, -1 if isinstance(columns, Size) else columns))


@op
def Squeeze(xp: Any, data: Symbol, axes: Sizes | None = None) -> Any:
    if axes is None and not known(data.shape):
        raise CannotConvert(
            "which axes have size 1 is known only when the model runs", "Give Squeeze its axes"
        )
    positions = (
        [axis for axis, size in enumerate(data.shape) if size == 1] if axes is None else ints(axes, "axes")
    )
    return xp.squeeze(data, all_along(positions, data.ndim)) if positions else data


@op
def Unsqueeze(xp: Any, data: Symbol, axes: Sizes) -> Any:
    return xp.expand_dims(data, tuple(sorted(all_along(ints(axes, "axes"), data.ndim + len(axes)))))


@op
def Transpose(xp: Any, data: Symbol, *, perm: Sequence[int] | None) -> Any:
    return xp.permute_dims(data, tuple(range(data.ndim))[::-1] if perm is None else tuple(perm))


@op
def DepthToSpace(xp: Any, x: Symbol, *, blocksize: int, mode: str) -> Any:
    batch, channels, height, width = x.shape
    depth = channels // blocksize**2
    if choice(mode, ("DCR", "CRD"), "mode") == "DCR":
        sizes, perm = (batch, blocksize, blocksize, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        sizes, perm = (batch, depth, blocksize, blocksize, height, width), (0, 1, 4, 2, 5, 3)
    blocks = xp.permute_dims(xp.reshape(x, sizes), perm)
    return xp.reshape(blocks, (batch, depth, height * blocksize, width * blocksize))


@op
def SpaceToDepth(xp: Any, x: Symbol, *, blocksize: int, mode: str) -> Any:
    batch, channels, height, width = x.shape
    sizes = (batch, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    perm = (0, 3, 5, 1, 2, 4) if choice(mode, ("DCR", "CRD"), "mode") == "DCR" else (0, 1, 3, 5, 2, 4)
    blocks = xp.permute_dims(xp.reshape(x, sizes), perm)
    return xp.reshape(blocks, (batch, channels * blocksize**2, height // blocksize, width // blocksize))


# ---- joining, repeating ----------------------------------------------------------------------------------------


@op
def Concat(xp: Any, *inputs: Symbol, axis: int) -> Any:
    return xp.concat(list(inputs), along(axis, inputs[0].ndim)) if len(inputs) > 1 else inputs[0]


@op
def Expand(xp: Any, x: Symbol, shape: Sizes) -> Any:
    return xp.broadcast_to(x, broadcast(x.shape, shape))


def broadcast(one: Sizes, two: Sizes) -> Sizes:
    """The sizes that both sides stretch to; a free size against a number above 1 is 1 or that number."""
    rank = max(len(one), len(two))
    pairs = zip((1,) * (rank - len(one)) + tuple(one), (1,) * (rank - len(two)) + tuple(two), strict=True)
    return tuple(_stretched(a, b) for a, b in pairs)


def _stretched(a: Any, b: Any) -> Any:
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, Size) and isinstance(b, Size):
        return largest(a, b)
    if not isinstance(a, Size) and not isinstance(b, Size):
        raise CannotConvert(f"sizes {a} and {b} do not broadcast")
    return b if isinstance(a, Size) else a


@op
def Tile(xp: Any, x: Symbol, repeats: Sizes) -> Any:
    return xp.tile(x, repeats)


# ---- cutting -------------------------------------------------------------------------------------------------------


@op
def Slice(
    xp: Any, data: Symbol, starts: Sizes, ends: Sizes, axes: Sizes | None = None, steps: Sizes | None = None
) -> Any:
    positions = range(len(starts)) if axes is None else all_along(ints(axes, "axes"), data.ndim)
    strides = (1,) * len(starts) if steps is None else ints(steps, "steps")
    bounds = zip(positions, starts, ends, strides, strict=True)
    return xp.slice(data, {axis: _bounds(data.shape[axis], *rest) for axis, *rest in bounds})


def _bounds(size: Any, start: Any, stop: Any, step: int) -> tuple[Any, Any, int]:
    """Python's start, stop and step for ONNX's, where a bound beyond the end means the end."""
    if known((size, start, stop)):
        start, stop, _ = slice(start, stop, step).indices(size)
        return start, None if stop < 0 else stop, step
    if not isinstance(start, Size) and abs(start) >= _FAR:
        start = (0 if start < 0 else size) if step > 0 else (-1 if start > 0 else -size - 1)
    if not isinstance(stop, Size) and abs(stop) >= _FAR:
        stop = None if (stop > 0) == (step > 0) else 0 if step > 0 else size
    return start, stop, step


@op
def Split(xp: Any, x: Symbol, split: Sizes | None = None, *, axis: int, num_outputs: int | None) -> Any:
    axis = along(axis, x.ndim)
    if split is None:
        count = num_outputs or len(xp.node.outputs)
        part = ceil_div(x.shape[axis], count)
        split = (*[part] * (count - 1), x.shape[axis] - part * (count - 1))
    return tuple(xp.split(x, split, axis))


@op
def Pad(
    xp: Any,
    data: Symbol,
    pads: Sizes,
    value: Symbol | None = None,
    axes: Sizes | None = None,
    *,
    mode: str,
) -> Any:
    choice(mode, ("constant", "reflect", "edge", "wrap"), "mode")
    positions = range(data.ndim) if axes is None else all_along(ints(axes, "axes"), data.ndim)
    pairs: list[Any] = [(0, 0)] * data.ndim
    for position, before, after in zip(positions, pads, pads[len(pads) // 2 :], strict=False):
        pairs[position] = (before, after)
    return xp.pad(data, tuple(pairs), mode, 0 if value is None else number(value))


def number(x: Symbol) -> Any:
    """The one number that a constant holds, or the size; a symbol where it is known only when the model runs."""
    if x.fact.content is None:
        return x
    one = x.fact.content.reshape(-1)[0]
    return one if isinstance(one, Size) else one.item() if isinstance(one, np.generic) else one


@op
def CenterCropPad(xp: Any, x: Symbol, shape: Sizes, *, axes: Sequence[int] | None) -> Any:
    """The odd element is cut and added behind; a size that is not known is cut, then padded, by what is missing."""
    positions = all_along(range(x.ndim) if axes is None else axes, x.ndim)
    pairs: list[Any] = [(0, 0)] * x.ndim
    for axis, size in zip(positions, shape, strict=True):
        more = size - x.shape[axis]
        cut, grow = (
            (-largest(-more, 0), largest(more, 0)) if isinstance(more, Size) else (min(more, 0), max(more, 0))
        )
        first = -(-cut // 2) + grow // 2
        pairs[axis] = (first, cut + grow - first)
    return xp.pad(x, tuple(pairs), "constant", 0)


# ---- made of sizes alone --------------------------------------------------------------------------------------------


@op
def Shape(xp: Any, data: Symbol, *, start: int, end: int | None) -> Any:
    sizes = data.shape[start:end]
    if known(sizes):
        return xp.asarray(np.array(sizes, np.int64), INT64)
    first, last, _ = slice(start, end).indices(data.ndim)
    return xp.slice(xp.shape(data), {0: (first, last, 1)})


@OPS.row("Size")
def size_of(xp: Any, data: Symbol) -> Any:
    return xp.prod(xp.shape(data), (0,), False)


@op
def ConstantOfShape(xp: Any, sizes: Sizes, *, value: Array | None) -> Any:
    return (
        xp.full(sizes, 0.0, FLOAT32)
        if value is None
        else xp.full(sizes, value.reshape(-1)[0].item(), value.dtype)
    )


@op
def EyeLike(xp: Any, x: Symbol, *, dtype: int | None, k: int) -> Any:
    rows, columns = x.shape
    return xp.eye(rows, columns, k, x.dtype if dtype is None else dtype_of(dtype))


@op
def Constant(
    xp: Any,
    *,
    value: Array | None,
    value_float: float | None,
    value_floats: Sequence[float] | None,
    value_int: int | None,
    value_ints: Sequence[int] | None,
    value_string: str | None,
    value_strings: Sequence[str] | None,
    sparse_value: Any,
) -> Any:
    if sparse_value is not None:
        raise CannotConvert("its value is a sparse tensor", "Store it as a dense tensor")
    forms = (value, value_float, value_floats, value_int, value_ints, value_string, value_strings)
    dtypes = (None, FLOAT32, FLOAT32, INT64, INT64, np.dtype(object), np.dtype(object))
    form, dtype = next((form, dtype) for form, dtype in zip(forms, dtypes, strict=True) if form is not None)
    return xp.asarray(np.asarray(form, dtype), np.asarray(form).dtype if dtype is None else dtype)


@op
def Range(xp: Any, start: Symbol, limit: Symbol, delta: Symbol, *, stash_type: int) -> Any:
    return xp.arange(number(start), number(limit), number(delta), start.dtype)


@op
def OneHot(xp: Any, indices: Symbol, depth: Sizes, values: Symbol, *, axis: int) -> Any:
    """Negative indices count from the end; those that are out of range are nowhere."""
    rank = indices.ndim + 1
    axis = along(axis, rank)
    if is_float(indices.dtype) or indices.dtype != INT64:
        indices = xp.astype(indices, INT64)
    classes = xp.reshape(xp.arange(0, depth[0], 1, INT64), tuple(-1 if i == axis else 1 for i in range(rank)))
    positions = xp.expand_dims(xp.where(indices < 0, indices + depth[0], indices), (axis,))
    off, on = xp.unstack(values, 0)
    return xp.where(xp.equal(positions, classes), on, off)
