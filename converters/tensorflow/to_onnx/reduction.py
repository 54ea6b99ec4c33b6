"""Operations of ``keras.ops`` that reduce or accumulate along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import (
    linalg_ops as linalg,
    math_ops as math,
    nn_ops as nn,
    numpy_ops as kn,
)
from netferry.converters.tensorflow.to_onnx.elementwise import as_float
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, STRAIGHT, Emitter, axes_of, refuse_unless

_REDUCTIONS: STRAIGHT = {
    kn.Amax: "ReduceMax",
    kn.Amin: "ReduceMin",
    kn.Max: "ReduceMax",
    kn.Mean: "ReduceMean",
    kn.Min: "ReduceMin",
    kn.Prod: "ReduceProd",
    kn.Sum: "ReduceSum",
    math.Logsumexp: "ReduceLogSumExp",
}


_FLOAT_REDUCTIONS = ("ReduceMean", "ReduceLogSumExp")


@ROWS.row(*_REDUCTIONS)
def reduction(g: Emitter, op: Any, x: Tensor) -> Tensor:
    refuse_unless(getattr(op, "initial", None) is None, "it starts from a value of its own")
    refuse_unless(getattr(op, "dtype", None) is None, "it computes in a dtype of its own")
    op_type = _REDUCTIONS[type(op)]
    x = as_float(g, x) if op_type in _FLOAT_REDUCTIONS else x
    return _reduced(g, op_type, x, axes_of(op.axis, x.rank), op.keepdims)


def _reduced(g: Emitter, op_type: str, x: Tensor, axes: Sequence[int], keepdims: bool) -> Tensor:
    if not keepdims:
        return g.op(op_type, x, g.ints(*axes), keepdims=0)
    return g.along(lambda base, position: g.op(op_type, base, g.ints(*(position[a] for a in axes))), x)


@ROWS.row(kn.Var, kn.Std)
def variance(g: Emitter, op: Any, x: Tensor) -> Tensor:
    x = as_float(g, x)
    axes = axes_of(op.axis, x.rank)
    centred = g.Sub(x, _reduced(g, "ReduceMean", x, axes, True))
    y = _reduced(g, "ReduceMean", g.Mul(centred, centred), axes, op.keepdims)
    return g.Sqrt(y) if isinstance(op, kn.Std) else y


@ROWS.row(kn.All, kn.Any)
def all_or_any(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """Of truths as numbers: the least of them, or the greatest."""
    numbers = g.cast(g.cast(x, np.bool_), np.int32)
    op_type = "ReduceMin" if isinstance(op, kn.All) else "ReduceMax"
    return g.cast(_reduced(g, op_type, numbers, axes_of(op.axis, x.rank), op.keepdims), np.bool_)


@ROWS.row(kn.CountNonzero)
def count_nonzero(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return _reduced(g, "ReduceSum", g.cast(g.cast(x, np.bool_), np.int32), axes_of(op.axis, x.rank), False)


@ROWS.row(kn.Average)
def average(g: Emitter, op: Any, x: Any, weights: Any = None) -> Tensor:
    if weights is None:
        x = as_float(g, x)
        return _reduced(g, "ReduceMean", x, axes_of(op.axis, x.rank), False)
    x, w = g.promoted(x, weights, at_least=float)
    refuse_unless(x.rank == w.rank, "its weights have another rank than its input")
    axes = axes_of(op.axis, x.rank)
    total = _reduced(g, "ReduceSum", w, axes, False)
    return g.Div(_reduced(g, "ReduceSum", g.Mul(x, w), axes, False), total)


@ROWS.row(kn.Cumsum)
def cumsum(g: Emitter, op: Any, x: Tensor) -> Tensor:
    axis = op.axis
    x = x if op.dtype is None else g.cast(x, op.dtype)
    x = g.cast(x, np.int32) if x.dtype == np.bool_ else x
    if axis is None:
        x, axis = g.Reshape(x, g.ints(-1)), 0
    return g.CumSum(x, g.constant(axis % x.rank, np.int64))


@ROWS.row(linalg.Norm)
def norm(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """The length along one axis, or of all elements."""
    kinds = {1: "ReduceL1", 2: "ReduceL2", "euclidean": "ReduceL2", None: "ReduceL2"}
    axes = axes_of(op.axis, x.rank)
    plain = op.ord in kinds and (len(axes) == 1 or op.ord is None)
    refuse_unless(plain, f"its order {op.ord} is not one that ONNX has along these axes")
    return _reduced(g, kinds[op.ord], as_float(g, x), axes, op.keepdims)


@ROWS.row(nn.Moments)
def moments(g: Emitter, op: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    axes = axes_of(op.axes, x.rank)
    mean = _reduced(g, "ReduceMean", x, axes, True)
    centred = g.Sub(x, mean)
    spread = _reduced(g, "ReduceMean", g.Mul(centred, centred), axes, op.keepdims)
    return mean if op.keepdims else g.Squeeze(mean, g.ints(*axes)), spread


@ROWS.row(kn.Argmax, kn.Argmin)
def arg_extreme(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """Keras counts in int32, ONNX in int64."""
    op_type, axis = "ArgMax" if isinstance(op, kn.Argmax) else "ArgMin", op.axis
    if axis is None:
        refuse_unless(not op.keepdims, "it looks along all axes at once and keeps them")
        x, axis = g.Reshape(x, g.ints(-1)), 0
    x = g.cast(x, np.int32) if x.dtype == np.bool_ else x
    return g.cast(g.op(op_type, x, axis=axis % x.rank, keepdims=int(op.keepdims)), np.int32)
