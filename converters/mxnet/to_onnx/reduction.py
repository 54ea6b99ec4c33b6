"""Rows of operators without weights that look along an axis: reductions, products, indices, sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.symbol import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    FLOAT32,
    ROWS,
    Emitter,
    cast,
    cut,
    dtype_named,
    few,
    places_along,
    positive,
    reshape,
    shape_tensor,
    size_of,
    swapped,
)

# ---- reductions ------------------------------------------------------------------------------------


def _vector(g: Emitter, scalar_of: Callable[[int], Tensor], rank: int, keep: bool) -> Tensor:
    """All axes reduced: MXNet keeps one axis of size 1 where ONNX keeps none."""
    if keep or rank == 1:
        return scalar_of(1)
    return g.Reshape(scalar_of(0), g.ints(1))


def _reduced(g: Emitter, name: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    if len(axes) == x.rank:
        return _vector(g, lambda kept: g.op(name, x, g.ints(*axes), keepdims=kept), x.rank, keep)
    return g.op(name, x, g.ints(*axes), keepdims=keep)


def _reduction_axes(a: Attrs, rank: int) -> list[int]:
    axes = [positive(axis, rank) for axis in a.maybe_integers("axis") or ()]
    if axes and a.flag("exclude", False):
        return [axis for axis in range(rank) if axis not in axes]
    a.ignore("exclude")
    return sorted(axes) or list(range(rank))


def _register_reductions() -> None:
    def row(name: str) -> Callable[..., Tensor]:
        return lambda g, a, x: _reduced(g, name, x, _reduction_axes(a, x.rank), a.flag("keepdims", False))

    for name, onnx_name in {
        "sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd",
    }.items():  # fmt: skip
        ROWS.row(name)(row(onnx_name))


_register_reductions()


def _without_nan(name: str, neutral: float) -> Callable[..., Tensor]:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        x = g.Where(g.IsNaN(x), g.scalar(neutral, x), x)
        return _reduced(g, name, x, _reduction_axes(a, x.rank), a.flag("keepdims", False))

    return row


ROWS.row("nansum")(_without_nan("ReduceSum", 0.0))
ROWS.row("nanprod")(_without_nan("ReduceProd", 1.0))


@ROWS.row("norm")
def norm(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    order = a.integer("ord", 2)
    axes = _reduction_axes(a, x.rank)
    if order not in (1, 2) or (order == 1 and len(axes) == 2 and x.rank > 1):
        raise CannotConvert(f"ord={order} over {len(axes)} axes")
    if a.maybe_word("out_dtype") not in (None, x.dtype.name):
        raise CannotConvert("out_dtype")
    return _reduced(g, f"ReduceL{order}", x, axes, a.flag("keepdims", False))


@ROWS.row("moments")
def moments(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    """Mean and (biased) variance."""
    axes = [positive(axis, x.rank) for axis in a.maybe_integers("axes") or range(x.rank)]
    keep = a.flag("keepdims", False)
    centred = g.Sub(x, g.ReduceMean(x, g.ints(*axes), keepdims=1))
    return [
        _reduced(g, "ReduceMean", x, axes, keep),
        _reduced(g, "ReduceMean", g.Mul(centred, centred), axes, keep),
    ]


def _arg(g: Emitter, a: Attrs, x: Tensor, name: str) -> Tensor:
    axis, keep = a.maybe_integer("axis"), a.flag("keepdims", False)
    if axis is None:
        found = g.op(name, reshape(g, x, [-1]), axis=0, keepdims=1)
        return cast(g, reshape(g, found, [1] * x.rank) if keep else found, FLOAT32)
    if x.rank == 1:
        keep = True
    return cast(g, g.op(name, x, axis=positive(axis, x.rank), keepdims=keep), FLOAT32)


@ROWS.row("argmax")
def argmax(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _arg(g, a, x, "ArgMax")


@ROWS.row("argmin")
def argmin(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _arg(g, a, x, "ArgMin")


@ROWS.row("argmax_channel")
def argmax_channel(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return cast(g, g.ArgMax(x, axis=1, keepdims=0), FLOAT32)


# ---- softmax ---------------------------------------------------------------------------------------


def _softmax(g: Emitter, a: Attrs, x: Tensor, name: str, length: Tensor | None = None) -> Tensor:
    """Over an axis, or over its first ``length`` places: the others are 0."""
    axis, temperature = positive(a.integer("axis", -1), x.rank), a.maybe_number("temperature")
    if temperature is not None and temperature != 1:
        x = g.Div(x, g.scalar(temperature, x))
    if a.flag("use_length", False):
        if length is None:
            raise CannotConvert("use_length without lengths")
        form = [axis_ for axis_ in range(x.rank) if axis_ != axis]
        places = g.Unsqueeze(places_along(g, x, axis), g.ints(*form))
        inside = g.Less(places, g.Unsqueeze(cast(g, length, np.int64), g.ints(axis)))
        bounded = g.op(name, g.Where(inside, x, g.scalar(-np.inf, x)), axis=axis)
        y = g.Where(inside, bounded, g.scalar(0, x))
    else:
        y = g.op(name, x, axis=axis)
    dtype = a.maybe_word("dtype")
    return y if dtype is None else cast(g, y, dtype_named(dtype))


@ROWS.row("softmax")
def softmax(g: Emitter, a: Attrs, x: Tensor, length: Tensor | None = None) -> Tensor:
    return _softmax(g, a, x, "Softmax", length)


@ROWS.row("log_softmax")
def log_softmax(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _softmax(g, a, x, "LogSoftmax")


@ROWS.row("softmin")
def softmin(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _softmax(g, a, g.Neg(x), "Softmax")


@ROWS.row("softmax_cross_entropy")
def softmax_cross_entropy(g: Emitter, a: Attrs, x: Tensor, label: Tensor) -> Tensor:
    """(1,): over all rows, minus the logarithm of the probability of the row's label."""
    index = g.Unsqueeze(cast(g, label, np.int64), g.ints(1))
    found = g.GatherElements(g.LogSoftmax(x, axis=1), index, axis=1)
    return g.Reshape(g.Neg(g.ReduceSum(found, g.ints(0, 1), keepdims=0)), g.ints(1))


# ---- products --------------------------------------------------------------------------------------


@ROWS.row("dot")
def dot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The last axis of x with the first of y."""
    if a.flag("transpose_a", False):
        if x.rank != 2:
            raise CannotConvert(f"transpose_a of an input with {x.rank} axes")
        x = g.transpose(x, (1, 0))
    if a.flag("transpose_b", False):
        if y.rank != 2:
            raise CannotConvert(f"transpose_b of an input with {y.rank} axes")
        y = g.transpose(y, (1, 0))
    if y.rank > 2:
        raise CannotConvert(f"a second input with {y.rank} axes", "Use batch_dot")
    product = g.MatMul(x, y)
    return g.Reshape(product, g.ints(1)) if x.rank == y.rank == 1 else product


@ROWS.row("batch_dot")
def batch_dot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    if a.flag("transpose_a", False):
        x = g.transpose(x, swapped(x.rank, -1, -2))
    if a.flag("transpose_b", False):
        y = g.transpose(y, swapped(y.rank, -1, -2))
    return g.MatMul(x, y)


# ---- indices ---------------------------------------------------------------------------------------


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
    axis, mode = positive(a.integer("axis", 0), x.rank), a.word("mode", "clip", among="clip wrap raise")
    return g.Gather(x, _index(g, indices, x, axis, mode), axis=axis)


@ROWS.row("pick")
def pick(g: Emitter, a: Attrs, x: Tensor, indices: Tensor) -> Tensor:
    """One element along an axis for each place of the others."""
    axis, keep = positive(a.integer("axis", -1), x.rank), a.flag("keepdims", False)
    index = _index(g, indices, x, axis, a.word("mode", "clip", among="clip wrap"))
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
    """Where index and place agree; an index outside of the depth is off everywhere."""
    dtype = dtype_named(a.word("dtype", "float32"))
    places = g.constant(np.arange(few(a.integer("depth"))), np.int64)
    hit = g.Equal(g.Unsqueeze(cast(g, indices, np.int64), g.ints(-1)), places)
    on, off = (
        g.constant(a.number(name, default), dtype)
        for name, default in (("on_value", 1.0), ("off_value", 0.0))
    )
    return g.Where(hit, on, off)


def _ordered(
    g: Emitter, x: Tensor, axis: int | None, count: int | None, ascending: bool
) -> tuple[Tensor, ...]:
    """The first ``count`` (None: all) values along an axis in order, and where they stood."""
    if axis is None:
        x, axis = reshape(g, x, [-1]), 0
    axis = positive(axis, x.rank)
    k = g.ints(count) if count else shape_tensor(g, x, [size_of(x, axis)])
    return g.ops("TopK", x, k, outputs=2, axis=axis, largest=not ascending, sorted=1)


def _like(g: Emitter, number: float, x: Tensor) -> Tensor:
    return g.Expand(g.scalar(number, x), shape_tensor(g, x, [size_of(x, axis) for axis in range(x.rank)]))


@ROWS.row("topk")
def topk(g: Emitter, a: Attrs, x: Tensor) -> Tensor | list[Tensor]:
    kind = a.word("ret_typ", "indices", among="indices value both mask")
    axis, count = a.maybe_integer("axis", -1), a.integer("k", 1)
    if count < 0:
        raise CannotConvert(f"k={count}")
    values, places = _ordered(g, x, axis, count, a.flag("is_ascend", False))
    if kind == "mask":
        if axis is None:
            raise CannotConvert("a mask over all axes at once", "Name the axis")
        a.ignore("dtype")
        zero, one = (_like(g, number, each) for number, each in ((0, x), (1, values)))
        return g.ScatterElements(zero, places, one, axis=positive(axis, x.rank))
    places = cast(g, places, dtype_named(a.word("dtype", "float32")))
    return [values, places] if kind == "both" else values if kind == "value" else places


@ROWS.row("sort")
def sort(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _ordered(g, x, a.maybe_integer("axis", -1), None, a.flag("is_ascend", True))[0]


@ROWS.row("argsort")
def argsort(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    places = _ordered(g, x, a.maybe_integer("axis", -1), None, a.flag("is_ascend", True))[1]
    return cast(g, places, dtype_named(a.word("dtype", "float32")))


# ---- sequences -------------------------------------------------------------------------------------


def _time(a: Attrs) -> int:
    axis = a.integer("axis", 0)
    if axis not in (0, 1):
        raise CannotConvert(f"axis={axis}: time is the first or the second axis")
    return axis


@ROWS.row("SequenceMask")
def sequence_mask(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """x: (time, batch, ...) or (batch, time, ...); what lies behind a sequence's length takes ``value``."""
    axis, value = _time(a), a.number("value", 0.0)
    if not a.flag("use_sequence_length", False) or lengths is None:
        return x
    places = g.Unsqueeze(places_along(g, x, axis), g.ints(1 - axis))
    inside = g.Less(places, g.Unsqueeze(cast(g, lengths, np.int64), g.ints(axis)))
    if x.rank > 2:
        inside = g.Unsqueeze(inside, g.ints(*range(2, x.rank)))
    return g.Where(inside, x, g.scalar(value, x))


def _reversed(g: Emitter, x: Tensor, lengths: Tensor, axis: int) -> Tensor:
    return g.ReverseSequence(x, cast(g, lengths, np.int64), time_axis=axis, batch_axis=1 - axis)


@ROWS.row("SequenceReverse")
def sequence_reverse(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    axis = _time(a)
    if a.flag("use_sequence_length", False) and lengths is not None:
        return _reversed(g, x, lengths, axis)
    return cut(g, x, [axis], [None], [None], [-1])


@ROWS.row("SequenceLast")
def sequence_last(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The last element of each sequence: the first of the reversed one."""
    axis, place = _time(a), -1
    if a.flag("use_sequence_length", False) and lengths is not None:
        x, place = _reversed(g, x, lengths, axis), 0
    return g.Gather(x, g.constant(place, np.int64), axis=axis)
