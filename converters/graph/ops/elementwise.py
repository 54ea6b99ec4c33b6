"""Each element from the elements at its own place: arithmetic, logic, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import FLOAT64, OPS, Row, as_dtype, choice, dtype_of, op

WORDS: Mapping[str, str] = {
    "Abs": "abs", "Acos": "acos", "Acosh": "acosh", "Asin": "asin", "Asinh": "asinh", "Atan": "atan",
    "Atanh": "atanh", "Ceil": "ceil", "Cos": "cos", "Cosh": "cosh", "Erf": "erf", "Exp": "exp",
    "Floor": "floor", "IsNaN": "isnan", "Log": "log", "Neg": "negative", "Not": "logical_not",
    "BitwiseNot": "bitwise_invert", "Reciprocal": "reciprocal", "Round": "round", "Sigmoid": "sigmoid",
    "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
    "Add": "add", "Sub": "subtract", "Mul": "multiply", "And": "logical_and", "Or": "logical_or",
    "Xor": "logical_xor", "BitwiseAnd": "bitwise_and", "BitwiseOr": "bitwise_or", "BitwiseXor": "bitwise_xor",
    "Equal": "equal", "Greater": "greater", "GreaterOrEqual": "greater_equal", "Less": "less",
    "LessOrEqual": "less_equal", "Where": "where", "NonZero": "nonzero",
}  # fmt: skip
"""Operators that are one function of the namespace: the same operands in the same order, no attributes."""

FOLDS: Mapping[str, str] = {"Max": "maximum", "Min": "minimum", "Sum": "add"}
"""Operators of any number of inputs that are a function of two."""


def _word(word: str) -> Row:
    return lambda xp, *xs: getattr(xp, word)(*xs)


def _of_matrices(word: str) -> Row:
    """Through float32 where floats are shorter: no framework decomposes matrices of those."""

    def row(xp: Any, x: Symbol) -> Any:
        wide = as_dtype(xp, x, np.dtype(np.float32)) if x.dtype.itemsize < 4 else x
        return as_dtype(xp, getattr(xp, word)(wide), x.dtype)

    return row


def _fold(word: str) -> Row:
    return lambda xp, *xs: _folded(getattr(xp, word), xs)


_DEEPEST = 64


def _folded(word: Callable[[Any, Any], Any], xs: Sequence[Any]) -> Any:
    """One after the other; of very many, halves: Python does not compile an expression nested a thousand deep."""
    if len(xs) <= _DEEPEST:
        return reduce(word, xs)
    half = len(xs) // 2
    return word(_folded(word, xs[:half]), _folded(word, xs[half:]))


for _operator, _name in WORDS.items():
    OPS.row(_operator)(_word(_name))
for _operator, _name in {"Det": "det", "Inverse": "inv"}.items():  # Inverse is of our own: ONNX has none
    OPS.row(_operator)(_of_matrices(_name))
for _operator, _name in FOLDS.items():
    OPS.row(_operator)(_fold(_name))


# ---- arithmetic ---------------------------------------------------------------------------------------


@op
def Mean(xp: Any, *xs: Symbol) -> Any:
    return _folded(xp.add, xs) / len(xs)


@op
def Div(xp: Any, a: Symbol, b: Symbol) -> Any:
    return xp.divide(a, b) if is_float(a.dtype) else xp.trunc_divide(a, b)


@op
def Mod(xp: Any, a: Symbol, b: Symbol, *, fmod: int) -> Any:
    return xp.fmod(a, b) if fmod else xp.remainder(a, b)


@op
def Pow(xp: Any, x: Symbol, y: Symbol) -> Any:
    """The result has the base's dtype; an integer to the power of a float is computed in float64."""
    if x.dtype == y.dtype or is_float(x.dtype) or not is_float(y.dtype):
        return xp.pow(x, as_dtype(xp, y, x.dtype))
    return xp.astype(xp.pow(xp.astype(x, FLOAT64), as_dtype(xp, y, FLOAT64)), x.dtype)


@op
def BitShift(xp: Any, x: Symbol, y: Symbol, *, direction: str) -> Any:
    left = choice(direction, ("LEFT", "RIGHT"), "direction") == "LEFT"
    return xp.left_shift(x, y) if left else xp.right_shift(x, y)


@op
def IsInf(xp: Any, x: Symbol, *, detect_negative: int, detect_positive: int) -> Any:
    if detect_negative and detect_positive:
        return xp.isinf(x)
    if detect_positive:
        return xp.isinf(x) & (x > 0)
    return xp.isinf(x) & (x < 0) if detect_negative else xp.isinf(x) & xp.isnan(x)


@op
def Identity(xp: Any, x: Symbol) -> Any:
    return (x,)  # a sequence is one result too


@op
def Dropout(
    xp: Any,
    x: Symbol,
    ratio: Symbol | None = None,
    training: Symbol | None = None,
    *,
    seed: int | None,
) -> Any:
    """What it is when a model is used: nothing. A target whose models train has a layer for it."""
    trains = training is not None and (training.content is None or bool(training.content))
    if trains and not (ratio is not None and ratio.content is not None and not ratio.content.any()):
        raise CannotConvert("it drops at random", "Export the model for inference (training_mode false)")
    return (x, xp.full(x.shape, True, np.dtype(bool))) if xp.wanted(1) else x


# ---- dtypes ---------------------------------------------------------------------------------------------


@op
def Cast(xp: Any, x: Symbol, *, to: int, saturate: int, round_mode: str) -> Any:
    return _cast(xp, x, dtype_of(to), saturate, round_mode)


@op
def CastLike(xp: Any, x: Symbol, target: Symbol, *, saturate: int, round_mode: str) -> Any:
    return _cast(xp, x, target.dtype, saturate, round_mode)


def _cast(xp: Any, x: Symbol, dtype: np.dtype[Any], saturate: int, round_mode: str) -> Any:
    if dtype.name.startswith("float8") and not (saturate and round_mode == "up"):
        raise CannotConvert(f"a cast to {dtype.name} with saturate {saturate}, round_mode {round_mode!r}")
    return as_dtype(xp, x, dtype)


@op
def BitCast(xp: Any, x: Symbol, *, to: int) -> Any:
    return xp.bitcast(x, dtype_of(to))


# ---- activations -------------------------------------------------------------------------------------------
#
# An exponential is taken of what is not positive alone, so that no gradient becomes infinity times zero.


@op
def Clip(xp: Any, x: Symbol, low: Symbol | None = None, high: Symbol | None = None) -> Any:
    """``high`` wins where it lies below ``low``, as the schema says."""
    x = x if low is None else xp.maximum(x, low)
    return x if high is None else xp.minimum(x, high)


@op
def Relu(xp: Any, x: Symbol) -> Any:
    return xp.maximum(x, 0)


@op
def LeakyRelu(xp: Any, x: Symbol, *, alpha: float) -> Any:
    return xp.where(x < 0, alpha * x, x)


@op
def PRelu(xp: Any, x: Symbol, slope: Symbol) -> Any:
    return xp.where(x < 0, slope * x, x)


@op
def ThresholdedRelu(xp: Any, x: Symbol, *, alpha: float) -> Any:
    return xp.where(x > alpha, x, 0)


@op
def Elu(xp: Any, x: Symbol, *, alpha: float) -> Any:
    return xp.where(x < 0, alpha * xp.expm1(xp.minimum(x, 0)), x)


@op
def Celu(xp: Any, x: Symbol, *, alpha: float) -> Any:
    return xp.where(x < 0, alpha * xp.expm1(xp.minimum(x, 0) / alpha), x)


@op
def Selu(xp: Any, x: Symbol, *, alpha: float, gamma: float) -> Any:
    return gamma * xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


@op
def HardSigmoid(xp: Any, x: Symbol, *, alpha: float, beta: float) -> Any:
    return xp.minimum(xp.maximum(alpha * x + beta, 0), 1)


@op
def HardSwish(xp: Any, x: Symbol) -> Any:
    return x * HardSigmoid(xp, x, alpha=1 / 6, beta=0.5)


@op
def Softplus(xp: Any, x: Symbol) -> Any:
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))


@op
def Softsign(xp: Any, x: Symbol) -> Any:
    return x / (xp.abs(x) + 1)


@op
def Mish(xp: Any, x: Symbol) -> Any:
    return x * xp.tanh(Softplus(xp, x))


@op
def Swish(xp: Any, x: Symbol, *, alpha: float) -> Any:
    return x * xp.sigmoid(x if alpha == 1 else alpha * x)


@op
def SwiGLU(xp: Any, a: Symbol, b: Symbol, *, alpha: float) -> Any:
    return Swish(xp, a, alpha=alpha) * b


@op
def Gelu(xp: Any, x: Symbol, *, approximate: str) -> Any:
    if choice(approximate, ("none", "tanh"), "approximate") == "none":
        return 0.5 * x * (xp.erf(x * math.sqrt(0.5)) + 1)
    return 0.5 * x * (xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)) + 1)


@op
def Shrink(xp: Any, x: Symbol, *, bias: float, lambd: float) -> Any:
    if not is_float(x.dtype):
        raise CannotConvert(f"it shrinks {x.dtype.name}", "Cast its input to float")
    return xp.where(x < -lambd, x + bias, xp.where(x > lambd, x - bias, 0))
