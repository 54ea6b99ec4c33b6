"""The table of torch functions: arithmetic, element by element."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import torch

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.live import numpy_dtype, torch_dtype
from netferry.converters.pytorch.to_onnx.emitter import Emitter, Operand
from netferry.converters.pytorch.to_onnx.table import BOOL, Row, row

# ---- one tensor, element by element ---------------------------------------------------------------

UNARY = {
    "Abs": "abs absolute", "Acos": "acos arccos", "Acosh": "acosh arccosh", "Asin": "asin arcsin",
    "Asinh": "asinh arcsinh", "Atan": "atan arctan", "Atanh": "atanh arctanh", "Ceil": "ceil", "Cos": "cos",
    "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "HardSwish": "hardswish", "Log": "log",
    "Mish": "mish", "Neg": "neg negative", "Reciprocal": "reciprocal", "Relu": "relu", "Selu": "selu",
    "Sigmoid": "sigmoid expit", "Sign": "sign sgn", "Sin": "sin", "Sinh": "sinh", "Softsign": "softsign",
    "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip
"""ONNX's operator for what PyTorch has under one or several names."""


def _unary(operator: str, e: Emitter, input: Tensor, inplace: bool = False) -> Tensor:
    return e.g.op(operator, e.cast(input, e.dtype))


for _operator, _names in UNARY.items():
    row(*_names.split())(partial(_unary, _operator))


def _as_it_is(operator: str, e: Emitter, input: Tensor) -> Tensor:
    return e.g.op(operator, input)


row("isnan")(partial(_as_it_is, "IsNaN"))
row("isinf")(partial(_as_it_is, "IsInf"))


@row("logical_not")
def logical_not(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Not(e.cast(input, BOOL))


@row("bitwise_not", "invert")
def bitwise_not(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Not(input) if input.dtype == BOOL else e.g.BitwiseNot(input)


@row("round")
def round_(e: Emitter, input: Tensor, *, decimals: int = 0) -> Tensor:
    if decimals:
        scale = e.tensor(10.0**decimals, e.dtype)
        return e.g.Div(e.g.Round(e.g.Mul(input, scale)), scale)
    return e.g.Round(input)


@row("trunc", "fix")
def trunc(e: Emitter, input: Tensor) -> Tensor:
    zero = e.tensor(0, input.dtype)
    return e.g.Where(e.g.Less(input, zero), e.g.Ceil(input), e.g.Floor(input))


@row("rsqrt")
def rsqrt(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Reciprocal(e.g.Sqrt(e.cast(input, e.dtype)))


@row("square")
def square(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Mul(input, input)


def _log(base: float, e: Emitter, input: Tensor) -> Tensor:
    return e.g.Div(e.g.Log(e.cast(input, e.dtype)), e.tensor(math.log(base), e.dtype))


row("log2")(partial(_log, 2))
row("log10")(partial(_log, 10))


@row("log1p")
def log1p(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Log(e.g.Add(e.cast(input, e.dtype), e.tensor(1, e.dtype)))


@row("expm1")
def expm1(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Sub(e.g.Exp(e.cast(input, e.dtype)), e.tensor(1, e.dtype))


@row("exp2")
def exp2(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Pow(e.tensor(2, e.dtype), e.cast(input, e.dtype))


@row("erfc")
def erfc(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Sub(e.tensor(1, e.dtype), e.g.Erf(input))


@row("clamp", "clip")
def clamp(e: Emitter, input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:
    x = e.cast(input, e.dtype)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        x = x if min is None else e.g.Max(x, e.tensor(min, e.dtype))
        return x if max is None else e.g.Min(x, e.tensor(max, e.dtype))
    bounds = [None if bound is None else e.tensor(bound, e.dtype) for bound in (min, max)]
    return e.g.Clip(x, *bounds)


@row("clamp_min")
def clamp_min(e: Emitter, input: Tensor, min: Operand) -> Tensor:
    return clamp(e, input, min, None)


@row("clamp_max")
def clamp_max(e: Emitter, input: Tensor, max: Operand) -> Tensor:
    return clamp(e, input, None, max)


# ---- two tensors ----------------------------------------------------------------------------------


def _computed_in(e: Emitter, *operands: Operand) -> np.dtype[Any]:
    """The result's dtype; float32 where that is a half and one of the numbers lies beyond what a half holds: PyTorch computes
    with numbers in float32 and rounds what comes of it."""
    numbers = [one for one in operands if isinstance(one, float | int) and np.isfinite(one)]
    if e.dtype not in (np.float16, ml_dtypes.bfloat16) or not numbers:
        return e.dtype
    with np.errstate(over="ignore"):
        rounded = np.array(numbers, np.float64).astype(e.dtype).astype(np.float64)
    held = np.abs(rounded - numbers) <= np.abs(numbers) * float(ml_dtypes.finfo(e.dtype).eps)
    return e.dtype if held.all() else np.dtype(np.float32)


def arithmetic(operator: str, e: Emitter, input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    dtype = _computed_in(e, input, other, alpha)
    x, y = e.tensor(input, dtype), e.tensor(other, dtype)
    if alpha != 1:
        y = e.g.Mul(y, e.tensor(alpha, dtype))
    if e.dtype == BOOL:
        operator = {"Add": "Or", "Mul": "And", "Max": "Or", "Min": "And"}.get(operator, operator)
    return e.cast(e.g.op(operator, x, y), e.dtype)


def reversed_(function: Row) -> Row:
    return lambda e, input, other, **kwargs: function(e, other, input, **kwargs)


for _operator, _names in {"Add": "add", "Sub": "sub subtract", "Mul": "mul multiply"}.items():
    row(*_names.split())(partial(arithmetic, _operator))
row("radd")(partial(arithmetic, "Add"))
row("rmul")(partial(arithmetic, "Mul"))
row("rsub")(reversed_(partial(arithmetic, "Sub")))
row("maximum", "fmax")(partial(arithmetic, "Max"))
row("minimum", "fmin")(partial(arithmetic, "Min"))


@row("div", "divide", "true_divide", "truediv")
def div(e: Emitter, input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    dtype = e.dtype if rounding_mode else _computed_in(e, input, other)
    x, y = e.tensor(input, dtype), e.tensor(other, dtype)
    whole = e.dtype.kind in "iu"
    if rounding_mode == "floor" and whole:  # ONNX truncates; what remains has the divisor's sign
        return e.g.Div(e.g.Sub(x, e.g.Mod(x, y)), y)
    quotient = e.g.Div(x, y)
    if rounding_mode is None or whole:
        return e.cast(quotient, e.dtype)
    return e.g.Floor(quotient) if rounding_mode == "floor" else trunc(e, quotient)


@row("floor_divide", "floordiv")
def floor_divide(e: Emitter, input: Operand, other: Operand) -> Tensor:
    return div(e, input, other, rounding_mode="floor")


row("rdiv", "rtruediv")(reversed_(div))
row("rfloordiv")(reversed_(floor_divide))


@row("remainder", "mod")
def remainder(e: Emitter, input: Operand, other: Operand) -> Tensor:
    """What is left has the divisor's sign; ONNX's Mod does that for integers only."""
    x, y = e.tensor(input, e.dtype), e.tensor(other, e.dtype)
    if e.dtype.kind in "iu":
        return e.g.Mod(x, y)
    return e.g.Sub(x, e.g.Mul(e.g.Floor(e.g.Div(x, y)), y))


row("rmod")(reversed_(remainder))


@row("fmod")
def fmod(e: Emitter, input: Tensor, other: Operand) -> Tensor:
    return e.g.Mod(e.tensor(input, e.dtype), e.tensor(other, e.dtype), fmod=1)


@row("pow", "float_power")
def pow_(e: Emitter, input: Operand, exponent: Operand) -> Tensor:
    x = e.tensor(input, e.dtype)
    if not isinstance(exponent, Tensor):
        if exponent == 2:
            return e.g.Mul(x, x)
        if exponent == 0.5:
            return e.g.Sqrt(x)
        if exponent == -0.5:
            return rsqrt(e, x)
    return e.g.Pow(x, e.tensor(exponent, e.dtype))


row("rpow")(reversed_(pow_))


def _compared(operator: str, e: Emitter, input: Operand, other: Operand) -> Tensor:
    dtype = _common_dtype(input, other)
    return e.g.op(operator, e.tensor(input, dtype), e.tensor(other, dtype))


def _common_dtype(*operands: Operand) -> np.dtype[Any]:
    """PyTorch's promotion: a number or a 0-D tensor counts only by its kind."""
    shown = [
        torch.empty((1,) * min(x.rank, 1), dtype=torch_dtype(x.dtype)) if isinstance(x, Tensor) else x
        for x in (operand if isinstance(operand, Tensor | int | float) else 1 for operand in operands)
    ]
    return numpy_dtype(torch.result_type(*shown))  # type: ignore[arg-type]


for _operator, _names in {
    "Equal": "eq",
    "Greater": "gt greater",
    "GreaterOrEqual": "ge greater_equal",
    "Less": "lt less",
    "LessOrEqual": "le less_equal",
}.items():
    row(*_names.split())(partial(_compared, _operator))


@row("ne", "not_equal")
def ne(e: Emitter, input: Operand, other: Operand) -> Tensor:
    return e.g.Not(_compared("Equal", e, input, other))


@row("isfinite")
def isfinite(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Not(e.g.Or(e.g.IsNaN(input), e.g.IsInf(input)))


@row("logaddexp")
def logaddexp(e: Emitter, input: Tensor, other: Tensor) -> Tensor:
    """max + log(1 + exp(-|x - y|))."""
    apart = e.g.Neg(e.g.Abs(e.g.Sub(input, other)))
    return e.g.Add(e.g.Max(input, other), log1p(e, e.g.Exp(apart)))


@row("hypot")
def hypot(e: Emitter, input: Tensor, other: Tensor) -> Tensor:
    return e.g.Sqrt(e.g.Add(e.g.Mul(input, input), e.g.Mul(other, other)))


@row("nan_to_num")
def nan_to_num(
    e: Emitter,
    input: Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> Tensor:
    limits = np.finfo(input.dtype)
    x = e.g.Where(e.g.IsNaN(input), e.tensor(nan or 0.0, input.dtype), input)
    for bound, given, sides in ((limits.max, posinf, (0, 1)), (limits.min, neginf, (1, 0))):
        endless = e.g.IsInf(x, detect_negative=sides[0], detect_positive=sides[1])
        x = e.g.Where(endless, e.tensor(float(bound) if given is None else given, input.dtype), x)
    return x


def _logical(operator: str, e: Emitter, input: Operand, other: Operand) -> Tensor:
    return e.g.op(operator, e.tensor(input, BOOL), e.tensor(other, BOOL))


def _bitwise(operator: str, e: Emitter, input: Operand, other: Operand) -> Tensor:
    name = operator if e.dtype == BOOL else f"Bitwise{operator}"
    return e.g.op(name, e.tensor(input, e.dtype), e.tensor(other, e.dtype))


for _operator, _name in {"And": "and", "Or": "or", "Xor": "xor"}.items():
    row(f"logical_{_name}")(partial(_logical, _operator))
    row(f"bitwise_{_name}", _name, f"r{_name}")(partial(_bitwise, _operator))


@row(torch.where)
def where(e: Emitter, condition: Tensor, input: Operand, other: Operand) -> Tensor:
    return e.g.Where(e.cast(condition, BOOL), e.tensor(input, e.dtype), e.tensor(other, e.dtype))


@row(torch.Tensor.where)
def where_method(e: Emitter, input: Tensor, condition: Tensor, other: Operand) -> Tensor:
    return where(e, condition, input, other)


@row("masked_fill")
def masked_fill(e: Emitter, input: Tensor, mask: Tensor, value: Operand) -> Tensor:
    return e.g.Where(mask, e.tensor(value, e.dtype), e.cast(input, e.dtype))
