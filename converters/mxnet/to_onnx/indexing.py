"""Rows that write into a tensor, or turn places into numbers and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.symbol import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    ROWS,
    Emitter,
    cast,
    cut,
    few,
    places_along,
    positive,
    shape_tensor,
    size_of,
)

# ---- writing -----------------------------------------------------------------------------------------


@ROWS.row("scatter_nd")
def scatter_nd(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    """indices: (axes, ...); ONNX has the axes last."""
    shape = a.integers("shape")
    few(math.prod(shape))
    empty = g.Expand(g.scalar(0, x), g.ints(*shape))
    order = (*range(1, indices.rank), 0)
    return g.ScatterND(empty, g.transpose(cast(g, indices, np.int64), order), x)


@ROWS.row("_contrib_index_copy")
def index_copy(g: Emitter, a: Attrs, x: Tensor, rows: Tensor, y: Tensor) -> Tensor:
    return g.ScatterND(x, g.Unsqueeze(cast(g, rows, np.int64), g.ints(1)), y)


Window = tuple[int, int | None, int | None]
"""An axis, and where what is written begins and ends in it."""


def _assigned(g: Emitter, x: Tensor, windows: Sequence[Window], inside: Callable[[Tensor], Tensor]) -> Tensor:
    """x with ``inside(window)`` in the place of the window: cut out, replaced, joined, axis by axis."""
    if not windows:
        return inside(x)
    (axis, begin, end), *others = windows
    middle = _assigned(g, cut(g, x, [axis], [begin], [end]), others, inside)
    before = [cut(g, x, [axis], [0], [begin])] if begin is not None else []
    after = [cut(g, x, [axis], [end], [None])] if end is not None else []
    return g.Concat(*before, middle, *after, axis=axis)


def _windows(a: Attrs, x: Tensor) -> list[Window]:
    """Of the axes that are not written as a whole."""
    begins, ends, steps = a.bounds("begin"), a.bounds("end"), a.bounds("step", ())
    if any(step not in (None, 1) for step in steps):
        raise CannotConvert(f"step={steps}: only neighbours are written")
    found: list[Window] = []
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        size = size_of(x, axis)
        whole_end = end is None or (isinstance(size, int) and end >= size)
        if begin or not whole_end:
            found.append((axis, begin or None, None if whole_end else end))
    return found


@ROWS.row("_slice_assign")
def slice_assign(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return _assigned(g, x, _windows(a, x), lambda _: y)


@ROWS.row("_slice_assign_scalar")
def slice_assign_scalar(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    value = g.scalar(a.number("scalar", 0.0), x)

    def filled(window: Tensor) -> Tensor:
        return g.Expand(
            value, shape_tensor(g, window, [size_of(window, axis) for axis in range(window.rank)])
        )

    return _assigned(g, x, _windows(a, x), filled)


@ROWS.row("_contrib_boolean_mask")
def boolean_mask(g: Emitter, a: Attrs, x: Tensor, index: Tensor) -> Tensor:
    return g.Compress(x, cast(g, index, np.bool_), axis=positive(a.integer("axis", 0), x.rank))


# ---- places as numbers -------------------------------------------------------------------------------


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


@ROWS.row("_ravel_multi_index")
def ravel_multi_index(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (axes, ...) places in a tensor of ``shape``, as one number each."""
    strides = np.reshape(_strides(a.integers("shape")), (-1, *[1] * (x.rank - 1)))
    return g.ReduceSum(g.Mul(x, g.constant(strides, x.dtype)), g.ints(0), keepdims=0)


@ROWS.row("_unravel_index")
def unravel_index(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(axes, ...): numbers as places in a tensor of ``shape``."""
    shape = a.integers("shape")
    form = (-1, *[1] * x.rank)
    strides = g.constant(np.reshape(_strides(shape), form), np.int64)
    sizes = g.constant(np.reshape([max(size, 1) for size in shape], form), np.int64)
    number = g.Unsqueeze(cast(g, x, np.int64), g.ints(0))
    return cast(g, g.Mod(g.Div(number, strides), sizes), x.dtype)


@ROWS.row("_contrib_index_array")
def index_array(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(*sizes of x, axes): each place as its own numbers."""
    axes = [positive(axis, x.rank) for axis in a.maybe_integers("axes") or range(x.rank)]
    shape = shape_tensor(g, x, [size_of(x, axis) for axis in range(x.rank)])
    found = []
    for axis in axes:
        along = g.Unsqueeze(places_along(g, x, axis), g.ints(*(i for i in range(x.rank) if i != axis)))
        found.append(g.Unsqueeze(g.Expand(along, shape), g.ints(-1)))
    return g.Concat(*found, axis=-1)


@ROWS.row("size_array")
def size_array(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Reshape(g.Size(x), g.ints(1))
