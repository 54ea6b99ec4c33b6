"""Rows that pick from a tensor or write into it, or turn positions into numbers and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    ROWS,
    Emitter,
    cast,
    dtype_named,
    few,
    rows,
)
from netferry.converters.mxnet.to_onnx.sizes import (
    cut,
    flattened,
    positions_along,
    positive,
    shape_of,
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


Window = tuple[int, int | None, int | None]
"""An axis, and where what is written begins and ends in it."""


def _assigned(g: Emitter, x: Tensor, windows: Sequence[Window], inside: Callable[[Tensor], Tensor]) -> Tensor:
    """x with ``inside(window)`` in the position of the window: cut out, replaced, joined, axis by axis."""
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


@ROWS.row("_slice_assign_scalar")
def slice_assign_scalar(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    value = g.scalar(a.number("scalar", 0.0), x)

    def filled(window: Tensor) -> Tensor:
        return g.Expand(value, shape_of(g, window))

    return _assigned(g, x, _windows(a, x), filled)


# ---- positions as numbers -------------------------------------------------------------------------------


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


@ROWS.row("_ravel_multi_index")
def ravel_multi_index(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (axes, ...) positions in a tensor of ``shape``, as one number each."""
    strides = np.reshape(_strides(a.integers("shape")), (-1, *[1] * (x.rank - 1)))
    return g.ReduceSum(g.Mul(x, g.constant(strides, x.dtype)), g.ints(0), keepdims=0)


@ROWS.row("_unravel_index")
def unravel_index(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(axes, ...): numbers as positions in a tensor of ``shape``."""
    shape = a.integers("shape")
    form = (-1, *[1] * x.rank)
    strides = g.constant(np.reshape(_strides(shape), form), np.int64)
    sizes = g.constant(np.reshape([max(size, 1) for size in shape], form), np.int64)
    number = g.Unsqueeze(cast(g, x, np.int64), g.ints(0))
    return cast(g, g.Mod(g.Div(number, strides), sizes), x.dtype)


@ROWS.row("_contrib_index_array")
def index_array(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(*sizes of x, axes): each position as its own numbers."""
    axes = [positive(axis, x.rank) for axis in a.maybe_integers("axes") or range(x.rank)]
    shape = shape_of(g, x)
    found = []
    for axis in axes:
        along = g.Unsqueeze(positions_along(g, x, axis), g.ints(*(i for i in range(x.rank) if i != axis)))
        found.append(g.Unsqueeze(g.Expand(along, shape), g.ints(-1)))
    return g.Concat(*found, axis=-1)


# ---- picking ----------------------------------------------------------------------------------------


@ROWS.row("Embedding", "_contrib_SparseEmbedding")
def embedding(g: Emitter, a: Attrs, indices: Tensor, weight: Tensor) -> Tensor:
    """An index outside of the table takes its first or last row, as in MXNet."""
    last = g.constant(weight.size(0) - 1, np.int64)
    return g.Gather(weight, g.Clip(cast(g, indices, np.int64), g.constant(0, np.int64), last), axis=0)


def _index(g: Emitter, indices: Tensor, x: Tensor, axis: int, mode: str) -> Tensor:
    """Indices as integers inside of the axis, as MXNet brings them there: clipped or wrapped round."""
    indices = cast(g, indices, np.int64)
    if mode == "raise":
        return indices
    count = size_of(x, axis)
    size = g.constant(count, np.int64) if isinstance(count, int) else g.Squeeze(shape_tensor(g, x, [count]))
    if mode == "wrap":
        return g.Mod(indices, size)
    last = g.constant(count - 1, np.int64) if isinstance(count, int) else g.Sub(size, g.constant(1, np.int64))
    return g.Clip(indices, g.constant(0, np.int64), last)


@ROWS.row("take")
def take(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    axis, mode = positive(a.integer("axis", 0), x.rank), a.string("mode", "clip", among="clip wrap raise")
    return g.Gather(x, _index(g, indices, x, axis, mode), axis=axis)


@ROWS.row("pick")
def pick(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    """One element along an axis for each position of the others."""
    axis, keep = positive(a.integer("axis", -1), x.rank), a.flag("keepdims", False)
    index = _index(g, indices, x, axis, a.string("mode", "clip", among="clip wrap"))
    if indices.rank < x.rank:
        index = g.Unsqueeze(index, g.ints(axis))
    found = g.GatherElements(x, index, axis=axis)
    return found if keep else g.Squeeze(found, g.ints(axis))


@ROWS.row("batch_take")
def batch_take(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    index = g.Unsqueeze(_index(g, indices, x, 1, "clip"), g.ints(1))
    return g.Squeeze(g.GatherElements(x, index, axis=1), g.ints(1))


@ROWS.row("gather_nd")
def gather_nd(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    """indices: (axes, ...); ONNX has the axes last."""
    order = (*range(1, indices.rank), 0)
    return g.GatherND(x, g.transpose(cast(g, indices, np.int64), order))


@ROWS.row("one_hot")
def one_hot(g: Emitter, a: Attrs, indices: Tensor) -> Tensor:
    """Where index and position agree; an index outside of the depth is off everywhere."""
    dtype = dtype_named(a.string("dtype", "float32"))
    positions = g.constant(np.arange(few(a.integer("depth"))), np.int64)
    hit = g.Equal(g.Unsqueeze(cast(g, indices, np.int64), g.ints(-1)), positions)
    on, off = (
        g.constant(a.number(name, default), dtype)
        for name, default in (("on_value", 1.0), ("off_value", 0.0))
    )
    return g.Where(hit, on, off)


def _ordered(
    g: Emitter, x: Tensor, axis: int | None, count: int | None, ascending: bool
) -> tuple[Tensor, ...]:
    """The first ``count`` (None: all) values along an axis in order, and where they stood."""
    x, axis = flattened(g, x, axis)
    k = g.ints(count) if count else shape_tensor(g, x, [size_of(x, axis)])
    return g.ops("TopK", x, k, outputs=2, axis=axis, largest=not ascending, sorted=1)


def _like(g: Emitter, number: float, x: Tensor) -> Tensor:
    return g.Expand(g.scalar(number, x), shape_of(g, x))


@ROWS.row("topk")
def topk(g: Emitter, a: Attrs, x: Tensor) -> Tensor | list[Tensor]:
    kind = a.string("ret_typ", "indices", among="indices value both mask")
    axis, count = a.maybe_integer("axis", -1), a.integer("k", 1)
    values, positions = _ordered(g, x, axis, count if count > 0 else None, a.flag("is_ascend", False))
    if kind == "mask":
        if axis is None:
            raise CannotConvert("a mask over all axes at once", "Name the axis")
        a.ignore("dtype")
        zero, one = (_like(g, number, each) for number, each in ((0, x), (1, values)))
        return g.ScatterElements(zero, positions, one, axis=positive(axis, x.rank))
    positions = cast(g, positions, dtype_named(a.string("dtype", "float32")))
    return [values, positions] if kind == "both" else values if kind == "value" else positions


@ROWS.row("argsort")
def argsort(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    positions = _ordered(g, x, a.maybe_integer("axis", -1), None, a.flag("is_ascend", True))[1]
    return cast(g, positions, dtype_named(a.string("dtype", "float32")))


@ROWS.row("fill_element_0index")
def filled(g: Emitter, a: Attrs, x: Tensor, values: Tensor, columns: Tensor) -> Tensor:
    """x with one element of each row replaced."""
    index, one = (g.Unsqueeze(each, g.ints(1)) for each in (cast(g, columns, np.int64), values))
    return g.ScatterElements(x, index, one, axis=1)


@ROWS.row("_scatter_set_nd")
def scattered(g: Emitter, a: Attrs, x: Tensor, values: Tensor, indices: Tensor) -> Tensor:
    """x with ``values`` where ``indices``, (axes, ...), point."""
    a.ignore("shape")
    order = (*range(1, indices.rank), 0)
    return g.ScatterND(x, g.transpose(cast(g, indices, np.int64), order), values)


@ROWS.row("_onehot_encode")
def one_hot_like(g: Emitter, a: Attrs, indices: Tensor, like: Tensor) -> Tensor:
    positions = positions_along(g, like, 1)
    return cast(g, g.Equal(g.Unsqueeze(cast(g, indices, np.int64), g.ints(1)), positions), like.dtype)


rows(
    {
        "_npx_nonzero": lambda g, _, x: g.transpose(g.NonZero(x), (1, 0)),
        "_contrib_index_copy": lambda g, _, x, rows, y: g.ScatterND(
            x, g.Unsqueeze(cast(g, rows, np.int64), g.ints(1)), y
        ),
        "_slice_assign": lambda g, a, x, y: _assigned(g, x, _windows(a, x), lambda _: y),
        "_contrib_boolean_mask": lambda g, a, x, index: g.Compress(
            x, cast(g, index, np.bool_), axis=positive(a.integer("axis", 0), x.rank)
        ),
        "size_array": lambda g, _, x: g.Reshape(g.Size(x), g.ints(1)),
        "sort": lambda g, a, x: _ordered(g, x, a.maybe_integer("axis", -1), None, a.flag("is_ascend", True))[
            0
        ],
    }
)
