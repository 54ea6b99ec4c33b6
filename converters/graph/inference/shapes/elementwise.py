"""Sizes of what works on each element: those of the input, or of all inputs broadcast together."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, broadcast
from netferry.converters.graph.ir.facts import Fact

UNARY = tuple(
    """
    Abs Acos Acosh Asin Asinh Atan Atanh BitCast BitwiseNot Bernoulli Cast CastLike Ceil Celu Clip Cos Cosh CumProd CumSum
    DequantizeLinear Dropout Elu Erf Exp EyeLike Floor Gelu Hardmax HardSigmoid HardSwish Identity Inverse InstanceNormalization
    IsInf IsNaN LRN LayerNormalization LeakyRelu Log LogSoftmax LpNormalization MeanVarianceNormalization Mish Neg Not
    QuantizeLinear RMSNormalization RandomNormalLike RandomUniformLike Reciprocal Relu ReverseSequence Round
    RotaryEmbedding ScatterElements ScatterND TensorScatter Selu Shrink Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt
    Swish Tan Tanh ThresholdedRelu Trilu BatchNormalization GroupNormalization PRelu
    """.split()
)
"""The first output has the sizes of the first input."""


BROADCAST = tuple(
    """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min
    Mod Mul Or Pow Sub Sum Where Xor
    """.split()
)
"""Inputs are broadcast together."""


@SHAPES.row(*UNARY)
def same(x: Fact, *_: Any, **__: Any) -> Dims:
    return x.dims


@SHAPES.row(*BROADCAST)
def broadcasting(*inputs: Fact, **_: Any) -> Dims:
    return broadcast(*(x.dims for x in inputs))
