"""Rows of reductions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.elementwise import FAMILIES, Binary
from netferry.converters.mxnet.to_onnx.emitter import (
    FLOAT32,
    ROWS,
    Emitter,
    Row,
    cast,
    dtype_named,
    few,
    rows,
)
from netferry.converters.mxnet.to_onnx.numpy.elementwise import as_float
from netferry.converters.mxnet.to_onnx.sizes import (
    cut,
    flattened,
    positive,
    reshape,
    size_of,
)


def _reduced(g: Emitter, name: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    """Of all axes reduced MXNet keeps one of size 1 where ONNX keeps none."""
    if len(axes) == x.rank and not keep:
        return (
            g.Reshape(g.op(name, x, g.ints(*axes), keepdims=0), g.ints(1))
            if x.rank != 1
            else g.op(name, x, g.ints(*axes), keepdims=1)
        )
    return g.op(name, x, g.ints(*axes), keepdims=keep)


def _reduction_axes(a: Attrs, rank: int) -> list[int]:
    axes = [positive(axis, rank) for axis in a.maybe_integers("axis") or ()]
    if axes and a.flag("exclude", False):
        return [axis for axis in range(rank) if axis not in axes]
    a.ignore("exclude")
    return sorted(axes) or list(range(rank))


_REDUCTIONS: Mapping[str, tuple[str, float | None]] = {
    "sum": ("ReduceSum", None), "mean": ("ReduceMean", None), "prod": ("ReduceProd", None),
    "max": ("ReduceMax", None), "min": ("ReduceMin", None),
    "nansum": ("ReduceSum", 0.0), "nanprod": ("ReduceProd", 1.0),
}  # fmt: skip
"""MXNet's operator -> ONNX's, and what stands in for NaN."""


def _reduction(name: str, without_nan: float | None) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        if without_nan is not None:
            x = g.Where(g.IsNaN(x), g.scalar(without_nan, x), x)
        return _reduced(g, name, x, _reduction_axes(a, x.rank), a.flag("keepdims", False))

    return row


for _name, _form in _REDUCTIONS.items():
    ROWS.row(_name)(_reduction(*_form))


@ROWS.row("norm")
def norm(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    order = a.integer("ord", 2)
    axes = _reduction_axes(a, x.rank)
    if order not in (1, 2):
        raise CannotConvert(f"ord={order} is neither 1 nor 2")
    if a.maybe_string("out_dtype") not in (None, x.dtype.name):
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


def _arg(name: str) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        axis, keep = a.maybe_integer("axis"), a.flag("keepdims", False)
        if axis is None:
            found = g.op(name, reshape(g, x, [-1]), axis=0, keepdims=1)
            return cast(g, reshape(g, found, [1] * x.rank) if keep else found, FLOAT32)
        return cast(g, g.op(name, x, axis=positive(axis, x.rank), keepdims=keep or x.rank == 1), FLOAT32)

    return row


def _numpy_arg(name: str) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        axis, keep = a.maybe_integer("axis"), a.flag("keepdims", False)
        if axis is not None:
            return g.op(name, x, axis=positive(axis, x.rank), keepdims=keep)
        found = g.op(name, reshape(g, x, [-1]), axis=0, keepdims=0)
        return g.Reshape(found, g.ints(*[1] * x.rank)) if keep else found

    return row


for _name, _onnx_name in {"argmax": "ArgMax", "argmin": "ArgMin"}.items():
    ROWS.row(_name)(_arg(_onnx_name))
    ROWS.row(f"_npi_{_name}")(_numpy_arg(_onnx_name))


# ---- numpy's reductions -----------------------------------------------------------------------------


def named_axes(a: Attrs, rank: int) -> list[int]:
    named = a.maybe_integers("axis")
    return list(range(rank)) if named is None else sorted(positive(axis, rank) for axis in named)


def _as_dtype(g: Emitter, a: Attrs, x: Tensor, *, counts: bool) -> Tensor:
    """What a sum or a mean adds up in: ``dtype``, else int64 for a sum of bools, float32 for a mean."""
    dtype = a.maybe_string("dtype")
    if dtype is not None:
        return cast(g, x, dtype_named(dtype))
    if counts:
        return cast(g, x, np.int64) if x.dtype.kind == "b" else x
    return as_float(g, x)


_INITIAL: Mapping[str, tuple[str, Binary]] = {
    "_np_sum": ("ReduceSum", FAMILIES["add"][0]),
    "_np_prod": ("ReduceProd", FAMILIES["mul"][0]),
    "_np_max": ("ReduceMax", FAMILIES["maximum"][0]),
    "_np_min": ("ReduceMin", FAMILIES["minimum"][0]),
}
"""MXNet's operator -> ONNX's, and how the initial value joins it."""


def _numpy_reduction(name: str, join: Binary) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        if name in ("ReduceSum", "ReduceProd"):
            x = _as_dtype(g, a, x, counts=True)
        y = g.op(name, x, g.ints(*named_axes(a, x.rank)), keepdims=a.flag("keepdims", False))
        initial = a.maybe_number("initial")
        return y if initial is None else join(g, y, g.scalar(initial, y))

    return row


def _truth(name: str) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        truth = cast(g, cast(g, x, np.bool_), np.uint8)
        found = g.op(name, truth, g.ints(*named_axes(a, x.rank)), keepdims=a.flag("keepdims", False))
        return cast(g, found, np.bool_)

    return row


for _name, (_onnx_name, _join) in _INITIAL.items():
    ROWS.row(_name)(_numpy_reduction(_onnx_name, _join))
ROWS.row("_np_all")(_truth("ReduceMin"))
ROWS.row("_np_any")(_truth("ReduceMax"))


@ROWS.row("_npi_mean")
def mean(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    x = _as_dtype(g, a, x, counts=False)
    if a.maybe_number("initial") is not None:
        raise CannotConvert("an initial value of a mean")
    return g.ReduceMean(x, g.ints(*named_axes(a, x.rank)), keepdims=a.flag("keepdims", False))


@ROWS.row("_npi_var")
def variance(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The mean of squared distances from the mean, over n - ddof."""
    x = _as_dtype(g, a, x, counts=False)
    axes, ddof = g.ints(*named_axes(a, x.rank)), a.integer("ddof", 0)
    centred = g.Sub(x, g.ReduceMean(x, axes, keepdims=1))
    mean = g.ReduceMean(g.Mul(centred, centred), axes, keepdims=a.flag("keepdims", False))
    if not ddof:
        return mean
    count = size_of(x, *named_axes(a, x.rank))
    if not isinstance(count, int):
        raise CannotConvert("ddof over an axis whose size is not known")
    return g.Mul(mean, g.scalar(count / (count - ddof), x))


@ROWS.row("_npi_average")
def average(g: Emitter, a: Attrs, x: Tensor, weights: Tensor | None = None) -> Tensor | list[Tensor]:
    """With weights of the size of x, or one for each position of the one axis."""
    axes = named_axes(a, x.rank)
    returned = a.flag("returned", False)
    if not a.flag("weighted", True) or weights is None:
        mean = g.ReduceMean(x, g.ints(*axes), keepdims=0)
        return [mean, g.scalar(math.prod(x.size(axis) for axis in axes), x)] if returned else mean
    if weights.rank < x.rank:
        total = g.ReduceSum(weights, g.ints(0), keepdims=0)
        weights = reshape(g, weights, [-1 if axis == axes[0] else 1 for axis in range(x.rank)])
    else:
        total = g.ReduceSum(weights, g.ints(*axes), keepdims=0)
    mean = g.Div(g.ReduceSum(g.Mul(x, weights), g.ints(*axes), keepdims=0), total)
    return [mean, total] if returned else mean


@ROWS.row("_np_cumsum")
def cumsum(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axis, dtype = a.maybe_integer("axis"), a.maybe_string("dtype")
    if dtype is not None:
        x = cast(g, x, dtype_named(dtype))
    x, axis = flattened(g, x, axis)
    return g.CumSum(x, g.constant(axis, np.int64))


@ROWS.row("_npi_diff")
def diff(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axis = positive(a.integer("axis", -1), x.rank)
    for _ in range(few(a.integer("n", 1))):
        x = g.Sub(cut(g, x, [axis], [1], [None]), cut(g, x, [axis], [0], [-1]))
    return x


rows(
    {
        "argmax_channel": lambda g, _, x: cast(g, g.ArgMax(x, axis=1, keepdims=0), FLOAT32),
        "_npi_std": lambda g, a, x: g.Sqrt(variance(g, a, x)),
    }
)
