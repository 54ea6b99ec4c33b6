"""Layers and operations of ``keras.ops`` that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import (
    convnext,
    core_ops as core,
    keras,
    math_ops as math,
    numpy_ops as kn,
)
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, STRAIGHT, Emitter, refuse_unless

layers = keras.layers


# ---- names that map straight to a name ------------------------------------------------------

_BINARY: STRAIGHT = {
    kn.Add: "Add",
    kn.Equal: "Equal",
    kn.Greater: "Greater",
    kn.GreaterEqual: "GreaterOrEqual",
    kn.Less: "Less",
    kn.LessEqual: "LessOrEqual",
    kn.Maximum: "Max",
    kn.Minimum: "Min",
    kn.Multiply: "Mul",
    kn.Power: "Pow",
    kn.Subtract: "Sub",
}

_LOGICAL: STRAIGHT = {kn.LogicalAnd: "And", kn.LogicalOr: "Or", kn.LogicalXor: "Xor"}

_UNARY: STRAIGHT = {kn.Abs: "Abs", kn.Absolute: "Abs", kn.Negative: "Neg", kn.Sign: "Sign"}

_FLOAT_ONLY: STRAIGHT = {kn.Isinf: "IsInf", kn.Isnan: "IsNaN"}

_FLOAT_UNARY: STRAIGHT = {
    kn.Arccos: "Acos",
    kn.Arccosh: "Acosh",
    kn.Arcsin: "Asin",
    kn.Arcsinh: "Asinh",
    kn.Arctan: "Atan",
    kn.Arctanh: "Atanh",
    kn.Ceil: "Ceil",
    kn.Cos: "Cos",
    kn.Cosh: "Cosh",
    kn.Exp: "Exp",
    kn.Floor: "Floor",
    kn.Log: "Log",
    kn.Reciprocal: "Reciprocal",
    kn.Sin: "Sin",
    kn.Sinh: "Sinh",
    kn.Sqrt: "Sqrt",
    kn.Tan: "Tan",
    kn.Tanh: "Tanh",
    math.Erf: "Erf",
}
"""Of integers these give floats."""


@ROWS.row(*_BINARY)
def binary(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.op(_BINARY[type(op)], *g.promoted(x1, x2))


@ROWS.row(kn.NotEqual)
def not_equal(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.Not(g.Equal(*g.promoted(x1, x2)))


@ROWS.row(kn.Divide, kn.TrueDivide)
def divide(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    """True division: of integers it gives floats."""
    return g.Div(*g.promoted(x1, x2, at_least=float))


@ROWS.row(*_LOGICAL)
def logical(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    return g.op(_LOGICAL[type(op)], *(g.cast(g.lift(x), np.bool_) for x in (x1, x2)))


@ROWS.row(kn.LogicalNot)
def logical_not(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.Not(g.cast(x, np.bool_))


@ROWS.row(*_UNARY)
def unary(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.op(_UNARY[type(op)], x)


@ROWS.row(*_FLOAT_UNARY)
def float_unary(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.op(_FLOAT_UNARY[type(op)], as_float(g, x))


def as_float(g: Emitter, x: Tensor) -> Tensor:
    return g.promoted(x, at_least=float)[0]


@ROWS.row(*_FLOAT_ONLY)
def float_only(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.op(_FLOAT_ONLY[type(op)], as_float(g, x))


@ROWS.row(kn.Isfinite)
def is_finite(g: Emitter, op: Any, x: Tensor) -> Tensor:
    x = as_float(g, x)
    return g.Not(g.Or(g.IsInf(x), g.IsNaN(x)))


@ROWS.row(kn.FloorDivide)
def floor_divide(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    """Of integers too: ONNX' Div cuts off, its Mod has the sign of the divisor."""
    a, b = g.promoted(x1, x2)
    if a.dtype.kind == "f":
        return g.Floor(g.Div(a, b))
    return g.Div(g.Sub(a, g.Mod(a, b)), b)


@ROWS.row(kn.Mod)
def mod(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    """The remainder of a floor division: it has the sign of the divisor."""
    a, b = g.promoted(x1, x2)
    if a.dtype.kind == "f":
        return g.Sub(a, g.Mul(g.Floor(g.Div(a, b)), b))
    return g.Mod(a, b)


@ROWS.row(kn.DivideNoNan)
def divide_no_nan(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    a, b = g.promoted(x1, x2, at_least=float)
    return g.Where(g.Equal(b, g.scalar(0, b)), g.scalar(0, b), g.Div(a, b))


@ROWS.row(kn.Log1p)
def log1p(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """log(1 + x); near zero, where 1 + x loses x, corrected by what was lost (Goldberg 1991, theorem 4)."""
    x = as_float(g, x)
    one = g.scalar(1, x)
    u = g.Add(x, one)
    corrected = g.Div(g.Mul(x, g.Log(u)), g.Sub(u, one))
    plain = g.Or(g.Equal(u, one), g.IsInf(u))
    return g.Where(plain, g.Where(g.IsInf(u), u, x), corrected)


@ROWS.row(kn.Expm1)
def expm1(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """exp(x) - 1 as 2 * exp(x / 2) * sinh(x / 2), which loses nothing near zero."""
    x = as_float(g, x)
    half = g.Mul(x, g.scalar(0.5, x))
    near = g.Mul(g.Mul(g.scalar(2, x), g.Exp(half)), g.Sinh(half))
    return g.Where(g.Less(g.Abs(x), g.scalar(1, x)), near, g.Sub(g.Exp(x), g.scalar(1, x)))


@ROWS.row(kn.Log2, kn.Log10)
def log_of_base(g: Emitter, op: Any, x: Tensor) -> Tensor:
    x = as_float(g, x)
    return g.Div(g.Log(x), g.scalar(float(np.log(2 if isinstance(op, kn.Log2) else 10)), x))


@ROWS.row(kn.Logaddexp)
def log_add_exp(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    """max(a, b) + log(1 + exp(-|a - b|)), and the softplus is that logarithm."""
    a, b = g.promoted(x1, x2, at_least=float)
    return g.Add(g.Max(a, b), g.Softplus(g.Neg(g.Abs(g.Sub(a, b)))))


@ROWS.row(kn.Arctan2)
def arctan2(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    """The angle of the point (x2, x1), by half angles: 2 * atan(y / (|p| + x)), and its mirror for x < 0."""
    y, x = g.promoted(x1, x2, at_least=float)
    zero, two = g.scalar(0, x), g.scalar(2, x)
    length = g.Sqrt(g.Add(g.Mul(x, x), g.Mul(y, y)))
    right = g.Mul(two, g.Atan(g.Div(y, g.Add(length, x))))
    up = g.Where(g.Less(y, zero), g.scalar(-np.pi, x), g.scalar(np.pi, x))
    left = g.Sub(up, g.Mul(two, g.Atan(g.Div(y, g.Sub(length, x)))))
    angle = g.Where(g.Less(x, zero), left, right)
    return g.Where(g.Equal(length, zero), zero, angle)


@ROWS.row(kn.Round)
def round_(g: Emitter, op: Any, x: Tensor) -> Tensor:
    refuse_unless(x.dtype.kind == "f", "it rounds integers")
    if op.decimals == 0:
        return g.Round(x)
    factor = g.scalar(10.0**op.decimals, x)
    return g.Div(g.Round(g.Mul(x, factor)), factor)


@ROWS.row(kn.Trunc)
def trunc(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return x if x.dtype.kind in "iu" else g.Mul(g.Sign(x), g.Floor(g.Abs(x)))


@ROWS.row(math.Erfc)
def erfc(g: Emitter, op: Any, x: Tensor) -> Tensor:
    x = as_float(g, x)
    return g.Sub(g.scalar(1, x), g.Erf(x))


@ROWS.row(kn.NanToNum)
def nan_to_num(g: Emitter, op: Any, x: Tensor) -> Tensor:
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    high = float(limits.max) if op.posinf is None else op.posinf
    low = float(limits.min) if op.neginf is None else op.neginf
    y = g.Where(g.IsNaN(x), g.scalar(op.nan, x), x)
    y = g.Where(g.IsInf(y, detect_negative=0), g.scalar(high, x), y)
    return g.Where(g.IsInf(y, detect_positive=0), g.scalar(low, x), y)


@ROWS.row(math.Rsqrt)
def rsqrt(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.Reciprocal(g.Sqrt(as_float(g, x)))


@ROWS.row(kn.Square)
def square(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.Mul(x, x)


# ---- choosing and casting -------------------------------------------------------------------------


@ROWS.row(kn.Where)
def where(g: Emitter, op: Any, condition: Any, x1: Any = None, x2: Any = None) -> Tensor:
    refuse_unless(x1 is not None and x2 is not None, "it asks where, not which")
    return g.Where(g.cast(g.lift(condition), np.bool_), *g.promoted(x1, x2))


@ROWS.row(kn.Clip)
def clip(g: Emitter, op: Any, x: Tensor) -> Tensor:
    bounds = [np.asarray(bound) for bound in (op.x_min, op.x_max)]
    refuse_unless(
        all(bound.dtype != object and bound.ndim == 0 for bound in bounds), "bounds that are not numbers"
    )
    x, low, high = g.promoted(x, *(bound.item() for bound in bounds))
    return g.Clip(x, low, high)


@ROWS.row(core.Cast)
def cast(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.cast(x, op.dtype)


@ROWS.row(core.ConvertToTensor)
def convert_to_tensor(g: Emitter, op: Any, x: Any) -> Tensor:
    return x if op.dtype is None else g.cast(x, op.dtype)


@ROWS.row(core.SaturateCast)
def saturate_cast(g: Emitter, op: Any, x: Tensor) -> Tensor:
    want = np.dtype(op.dtype)
    refuse_unless(want.kind in "iu" and x.dtype.kind == "f", "it is not from floats to integers")
    limits = np.iinfo(want)
    return g.cast(g.Clip(x, g.scalar(limits.min, x), g.scalar(limits.max, x)), want)


@ROWS.row(core.StopGradient, kn.Copy)
def stop_gradient(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return x


@ROWS.row(convnext.LayerScale)
def layer_scale(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.Mul(x, g.weight(layer.gamma))


@ROWS.row(layers.Masking)
def masking(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """Steps of which every feature is ``mask_value`` become zero (the mask itself is the walk's)."""
    differs = g.cast(g.Not(g.Equal(x, g.scalar(layer.mask_value, x))), np.int32)
    kept = g.cast(g.ReduceMax(differs, g.ints(-1), keepdims=1), np.bool_)
    return g.Where(kept, x, g.scalar(0, x))
