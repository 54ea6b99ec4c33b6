"""Rows of operators that work element by element."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx import patterns
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter, rows, straight

straight(
    {
        "Abs": "Abs", "Acos": "Acos", "Acosh": "Acosh", "And": "LogicalAnd", "Asin": "Asin",
        "Asinh": "Asinh", "Atan": "Atan", "Atanh": "Atanh", "Ceil": "Ceil", "Cos": "Cos", "Cosh": "Cosh",
        "Erf": "Erf", "Exp": "Exp", "Floor": "Floor", "Greater": "Greater", "GreaterOrEqual": "GreaterEqual",
        "IsInf": "IsInf", "IsNaN": "IsNan", "Less": "Less", "LessOrEqual": "LessEqual", "Log": "Log", "Max": "Maximum",
        "Min": "Minimum", "Neg": "Neg", "Not": "LogicalNot", "Or": "LogicalOr", "Reciprocal": "Reciprocal Inv",
        "Relu": "Relu", "Round": "Round Rint", "Sigmoid": "Sigmoid", "Sign": "Sign", "Sin": "Sin", "Sinh": "Sinh",
        "Softplus": "Softplus", "Softsign": "Softsign", "Sqrt": "Sqrt", "Sub": "Sub", "Tan": "Tan", "Tanh": "Tanh",
        "BitwiseAnd": "BitwiseAnd", "BitwiseOr": "BitwiseOr", "BitwiseXor": "BitwiseXor", "BitwiseNot": "Invert",
    }
)  # fmt: skip

rows(
    {
        "Identity StopGradient PreventGradient Snapshot CheckNumerics DebugGradientIdentity XlaSharding _EagerConst "
        "DisableCopyOnRead ReadVariableOp": lambda _g, _a, x, *_: x,
        "IdentityN": lambda _g, _a, *inputs: list(inputs),
        "AddN AccumulateNV2": lambda g, _a, *inputs: _total(g, inputs),
        "Rsqrt": lambda g, _a, x: g.Reciprocal(g.Sqrt(x)),
        "Square": lambda g, _a, x: g.Mul(x, x),
        "SquaredDifference": lambda g, _a, x, y: g.op("Mul", d := g.Sub(x, y), d),
        "Expm1": lambda g, _a, x: g.Sub(g.Exp(x), g.like(1, x)),
        "Log1p": lambda g, _a, x: g.Log(g.Add(x, g.like(1, x))),
        "Erfc": lambda g, _a, x: g.Sub(g.like(1, x), g.Erf(x)),
        "Relu6": lambda g, _a, x: g.Clip(x, g.like(0, x), g.like(6, x)),
        "ClipByValue": lambda g, _a, x, low, high: g.Min(g.Max(x, low), high),
        "Elu": lambda g, _a, x: g.Elu(x, alpha=1.0),
        "Selu": lambda g, _a, x: g.Selu(x),
        "LeakyRelu": lambda g, a, x: g.LeakyRelu(x, alpha=a.number("alpha", 0.2)),
        "IsFinite": lambda g, _a, x: g.Not(g.Or(g.IsInf(x), g.IsNaN(x))),
        "NotEqual": lambda g, _a, x, y: g.Not(g.Equal(x, y)),
        "Equal": lambda g, _a, x, y: g.Equal(x, y),
        "ZerosLike": lambda g, _a, x: filled_like(g, x, 0),
        "OnesLike": lambda g, _a, x: filled_like(g, x, 1),
        "Real Conj": lambda _g, _a, x: x,
        "LogicalXor": lambda g, _a, x, y: g.Xor(x, y),
        "LeftShift": lambda g, _a, x, y: _shift(g, x, y, "LEFT"),
        "RightShift": lambda g, _a, x, y: _shift(g, x, y, "RIGHT"),
    }
)

_SELU, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

rows(
    {
        "TanhGrad": lambda g, _a, y, dy: g.Mul(dy, g.Sub(g.like(1, y), g.Mul(y, y))),
        "SigmoidGrad": lambda g, _a, y, dy: g.Mul(dy, g.Mul(y, g.Sub(g.like(1, y), y))),
        "SqrtGrad": lambda g, _a, y, dy: g.Div(g.Mul(dy, g.like(0.5, y)), y),
        "RsqrtGrad": lambda g, _a, y, dy: g.Mul(g.Mul(dy, g.like(-0.5, y)), g.Mul(y, g.Mul(y, y))),
        "ReciprocalGrad InvGrad": lambda g, _a, y, dy: g.Neg(g.Mul(dy, g.Mul(y, y))),
        "SoftplusGrad": lambda g, _a, dy, x: g.Mul(dy, g.Sigmoid(x)),
        "SoftsignGrad": lambda g, _a, dy, x: g.op("Div", dy, g.Mul(d := g.Add(g.Abs(x), g.like(1, x)), d)),
        "ReluGrad": lambda g, _a, dy, x: _where_above(g, x, dy, g.like(0, dy)),
        "Relu6Grad": lambda g, _a, dy, x: g.Where(
            g.Less(x, g.like(6, x)), _where_above(g, x, dy, g.like(0, dy)), g.like(0, dy)
        ),
        "LeakyReluGrad": lambda g, a, dy, x: _where_above(
            g, x, dy, g.Mul(dy, g.like(a.number("alpha", 0.2), dy))
        ),
        "EluGrad": lambda g, _a, dy, y: _where_above(g, y, dy, g.Mul(dy, g.Add(y, g.like(1, y)))),
        "SeluGrad": lambda g, _a, dy, y: _where_above(
            g, y, g.Mul(dy, g.like(_SELU, dy)), g.Mul(dy, g.Add(y, g.like(_SELU * _SELU_ALPHA, y)))
        ),
    }
)
"""What flows back, in graphs that compute with their own gradients: of what the function gave (``y``) or took (``x``)."""


def _where_above(g: Emitter, x: Tensor, above: Tensor, below: Tensor) -> Tensor:
    return g.Where(g.Greater(x, g.like(0, x)), above, below)


_MANY = 16
"""Sums of more floats are one node, since each node is work; ONNX has none for whole numbers."""


def _total(g: Emitter, inputs: Sequence[Tensor]) -> Tensor:
    return g.Sum(*inputs) if len(inputs) > _MANY and inputs[0].dtype.kind == "f" else reduce(g.Add, inputs)


def filled_like(g: Emitter, x: Tensor, number: float) -> Tensor:
    content = g.constant(np.full(1, number, x.dtype))
    known = [] if x.dims is None else g.sizes_of(x)
    if x.dims is not None and all(isinstance(size, int) for size in known):
        return (
            g.constant(np.full(known, number, x.dtype))
            if np.prod(known) <= 4096
            else g.Expand(content, g.ints(*known))
        )
    return g.sized(g.Expand(content, g.shape(x)), None if x.dims is None else known)


@ROWS.row("Pow")
def power(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return g.Pow(x, y)


@ROWS.row("RealDiv", "Div", "TruncateDiv")
def divide(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """Integers are cut off towards zero, as ONNX does it; by one nothing changes."""
    return x if y.rank == 0 and patterns.number(g, y) == 1.0 else g.Div(x, y)


@ROWS.row("FloorDiv")
def floor_divide(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind == "f":
        return g.Floor(g.Div(x, y))
    if x.dtype.kind == "u":
        return g.Div(x, y)
    rest = g.Mod(x, y)  # of the divisor's sign
    return g.Div(g.Sub(x, rest), y)


@ROWS.row("FloorMod")
def floor_remainder(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind == "f":
        return g.Sub(x, g.Mul(g.Floor(g.Div(x, y)), y))
    return g.Mod(x, y)


@ROWS.row("Mod", "TruncateMod")
def remainder(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The dividend's sign."""
    return g.Mod(x, y, fmod=1)


@ROWS.row("DivNoNan")
def divide_no_nan(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """0 where the divisor is 0."""
    zero = g.like(0, y)
    empty = g.Equal(y, zero)
    return g.Where(empty, zero, g.Div(x, g.Where(empty, g.like(1, y), y)))


@ROWS.row("MulNoNan")
def multiply_no_nan(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    zero = g.like(0, y)
    return g.Where(g.Equal(y, zero), zero, g.Mul(x, y))


@ROWS.row("Cast")
def cast(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.cast(x, a.dtype("DstT"))


@ROWS.row("Atan2")
def atan2(g: Emitter, a: Attrs, y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y): that of y / x, half a turn more or less where x is negative."""
    zero, one = g.like(0, x), g.like(1, x)
    turn = g.like(np.pi, x)
    flat = g.Equal(x, zero)
    angle = g.Atan(g.Div(y, g.Where(flat, one, x)))
    up = g.Where(g.Less(y, zero), g.Neg(turn), turn)
    behind = g.Where(g.Less(x, zero), g.Add(angle, up), angle)
    return g.Where(flat, g.Mul(g.Sign(y), g.like(np.pi / 2, x)), behind)


@ROWS.row("Select")
def select(g: Emitter, a: Attrs, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A vector of conditions chooses whole rows."""
    if condition.dims is not None and x.dims is not None and len(condition.dims) == 1 < len(x.dims):
        condition = g.Unsqueeze(condition, g.ints(*range(1, x.rank)))
    return chosen(g, condition, x, y)


@ROWS.row("SelectV2")
def select_v2(g: Emitter, a: Attrs, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return chosen(g, condition, x, y)


def chosen(g: Emitter, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``x`` where the condition holds, else ``y``; onnxruntime's Where takes no truths."""
    known = g.content(condition)
    if known is not None and known.size == 1 and known.dtype != object:
        taken, other = (x, y) if bool(known.reshape(-1)[0]) else (y, x)
        if other.rank == 0 and condition.rank <= taken.rank and taken.dims is not None:
            return taken  # the dropout of a rate that keeps all
    if x.dtype != np.bool_:
        return g.Where(condition, x, y)
    return g.Or(g.And(condition, x), g.And(g.Not(condition), y))


@ROWS.row("ApproximateEqual")
def approximately_equal(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return g.Less(g.Abs(g.Sub(x, y)), g.like(a.number("tolerance", 1e-5), x))


@ROWS.row("Bitcast")
def bitcast(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    if a.dtype("type") == x.dtype:
        return x
    raise CannotConvert("it reads the bytes of a number as another dtype, which ONNX does not")


def _shift(g: Emitter, x: Tensor, y: Tensor, direction: str) -> Tensor:
    if x.dtype.kind == "u":
        return g.BitShift(x, y, direction=direction)
    two = g.cast(g.Pow(g.constant(2.0), g.cast(y, np.float32)), x.dtype)
    if direction == "LEFT":
        return g.Mul(x, two)
    rest = g.Mod(x, two)
    return g.Div(g.Sub(x, rest), two)
