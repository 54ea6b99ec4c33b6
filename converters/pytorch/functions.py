"""The table of torch functions: arithmetic, activations, products and reductions.

A row takes what the function takes: tensors as Tensor, symbolic sizes as sympy expressions, the rest as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import CannotCarry
from netferry.converters.graph.build import Tensor
from netferry.converters.graph.table import Table
from netferry.converters.pytorch.emit import Emitter, Operand
from netferry.converters.pytorch.live import numpy_dtype, torch_dtype
from netferry.converters.pytorch.names import everywhere

Row = Callable[..., Any]
RowT = TypeVar("RowT", bound=Row)

FUNCTIONS: Table[Any, Row] = Table("torch functions")

INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)


def row(*functions: Any) -> Callable[[RowT], RowT]:
    """Register for torch functions: by name in each of their places, or one as it is."""
    keys: dict[Any, None] = {}
    for function in functions:
        keys |= dict.fromkeys(everywhere(function) if isinstance(function, str) else (function,))
    return cast(Callable[[RowT], RowT], FUNCTIONS.row(*keys))


# ---- one tensor, element by element ---------------------------------------------------------------

UNARY = {
    "Abs": "abs absolute", "Acos": "acos arccos", "Acosh": "acosh arccosh", "Asin": "asin arcsin",
    "Asinh": "asinh arcsinh", "Atan": "atan arctan", "Atanh": "atanh arctanh", "Ceil": "ceil", "Cos": "cos",
    "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "HardSwish": "hardswish", "Log": "log",
    "Mish": "mish", "Neg": "neg negative", "Reciprocal": "reciprocal", "Relu": "relu", "Selu": "selu",
    "Sigmoid": "sigmoid", "Sign": "sign sgn", "Sin": "sin", "Sinh": "sinh", "Softsign": "softsign",
    "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip
"""ONNX's operator for what PyTorch has under one or several names."""


def _unary(operator: str, e: Emitter, input: Tensor, inplace: bool = False) -> Tensor:
    return e.g.op(operator, e.cast(input, e.dtype))


for _operator, _names in UNARY.items():
    row(*_names.split())(partial(_unary, _operator))


@row("isnan")
def isnan(e: Emitter, input: Tensor) -> Tensor:
    return e.g.IsNaN(input)


@row("isinf")
def isinf(e: Emitter, input: Tensor) -> Tensor:
    return e.g.IsInf(input)


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


@row("log2")
def log2(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Div(e.g.Log(e.cast(input, e.dtype)), e.tensor(math.log(2), e.dtype))


@row("log10")
def log10(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Div(e.g.Log(e.cast(input, e.dtype)), e.tensor(math.log(10), e.dtype))


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


# ---- activations ----------------------------------------------------------------------------------


@row("leaky_relu")
def leaky_relu(e: Emitter, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return e.g.LeakyRelu(input, alpha=float(negative_slope))


@row("elu")
def elu(
    e: Emitter, input: Tensor, alpha: float = 1.0, inplace: bool | float = False, input_scale: float = 1
) -> Tensor:
    if input_scale != 1 or (not isinstance(inplace, bool) and inplace != 1):
        raise CannotCarry("an ELU with scales has no counterpart in ONNX")
    return e.g.Elu(input, alpha=float(alpha))


@row("celu")
def celu(e: Emitter, input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1)); onnxruntime has Celu in float32 only."""
    if input.dtype == np.float32:
        return e.g.Celu(input, alpha=float(alpha))
    scale = e.tensor(alpha, input.dtype)
    return e.g.Mul(e.g.Elu(e.g.Div(input, scale), alpha=1.0), scale)


@row("gelu")
def gelu(e: Emitter, input: Tensor, approximate: str = "none") -> Tensor:
    return e.g.Gelu(input, approximate=None if approximate == "none" else approximate)


@row("silu")
def silu(e: Emitter, input: Tensor, inplace: bool = False) -> Tensor:
    return e.g.Mul(input, e.g.Sigmoid(input))


@row("softplus")
def softplus(e: Emitter, input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta x)) / beta; above the threshold x itself, which float32 cannot tell from it at 20."""
    scale = e.tensor(beta, input.dtype)
    scaled = input if beta == 1 else e.g.Mul(input, scale)
    smooth = e.g.Softplus(scaled)
    smooth = smooth if beta == 1 else e.g.Div(smooth, scale)
    if threshold >= 20 and input.dtype != np.float64:
        return smooth
    return e.g.Where(e.g.Greater(scaled, e.tensor(threshold, input.dtype)), input, smooth)


@row("logsigmoid", torch._C._nn.log_sigmoid)
def logsigmoid(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Neg(e.g.Softplus(e.g.Neg(input)))


@row("tanhshrink")
def tanhshrink(e: Emitter, input: Tensor) -> Tensor:
    return e.g.Sub(input, e.g.Tanh(input))


@row("hardshrink")
def hardshrink(e: Emitter, input: Tensor, lambd: float = 0.5) -> Tensor:
    return e.g.Shrink(input, lambd=float(lambd), bias=0.0)


@row("softshrink")
def softshrink(e: Emitter, input: Tensor, lambd: float = 0.5) -> Tensor:
    return e.g.Shrink(input, lambd=float(lambd), bias=float(lambd))


@row("threshold")
def threshold(e: Emitter, input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    above = e.g.Greater(input, e.tensor(threshold, input.dtype))
    return e.g.Where(above, input, e.tensor(value, input.dtype))


@row("hardsigmoid")
def hardsigmoid(e: Emitter, input: Tensor, inplace: bool = False) -> Tensor:
    return e.g.HardSigmoid(input, alpha=1 / 6, beta=0.5)


@row("hardtanh")
def hardtanh(
    e: Emitter, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return clamp(e, input, min_val, max_val)


@row("relu6")
def relu6(e: Emitter, input: Tensor, inplace: bool = False) -> Tensor:
    return clamp(e, input, 0, 6)


@row("clamp", "clip")
def clamp(e: Emitter, input: Tensor, min: Operand | None = None, max: Operand | None = None) -> Tensor:  # noqa: A002
    x = e.cast(input, e.dtype)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        x = x if min is None else e.g.Max(x, e.tensor(min, e.dtype))
        return x if max is None else e.g.Min(x, e.tensor(max, e.dtype))
    bounds = [None if bound is None else e.tensor(bound, e.dtype) for bound in (min, max)]
    return e.g.Clip(x, *bounds)


@row("clamp_min")
def clamp_min(e: Emitter, input: Tensor, min: Operand) -> Tensor:  # noqa: A002
    return clamp(e, input, min, None)


@row("clamp_max")
def clamp_max(e: Emitter, input: Tensor, max: Operand) -> Tensor:  # noqa: A002
    return clamp(e, input, None, max)


@row("prelu")
def prelu(e: Emitter, input: Tensor, weight: Tensor) -> Tensor:
    """One slope, or one per channel: (channels, 1, ...) for ONNX, which broadcasts from behind."""
    if input.rank > 2 and weight.size(0) > 1:
        shape = [weight.size(0)] + [1] * (input.rank - 2)
        if weight.array is None:
            weight = e.g.Reshape(weight, e.g.ints(*shape))
        else:
            weight = e.g.constant(weight.array.reshape(shape), name=weight.name)
    return e.g.PRelu(input, weight)


def _softmax(operator: str, e: Emitter, input: Tensor, dim: int | None = None, *_: Any, **__: Any) -> Tensor:
    """Without ``dim`` PyTorch takes axis 0 of ranks 0, 1 and 3, else axis 1."""
    axis = (0 if input.rank in (0, 1, 3) else 1) if dim is None else dim
    base, axis, wrap = e.along(e.cast(input, e.dtype), axis)
    return wrap(e.g.op(operator, base, axis=axis))


row("softmax")(partial(_softmax, "Softmax"))
row("log_softmax")(partial(_softmax, "LogSoftmax"))


@row("softmin")
def softmin(e: Emitter, input: Tensor, dim: int | None = None, *_: Any, **__: Any) -> Tensor:
    return _softmax("Softmax", e, e.g.Neg(e.cast(input, e.dtype)), dim)


# ---- two tensors ----------------------------------------------------------------------------------


def _arithmetic(operator: str, e: Emitter, input: Operand, other: Operand, *, alpha: float = 1) -> Tensor:
    x, y = e.tensor(input, e.dtype), e.tensor(other, e.dtype)
    if alpha != 1:
        y = e.g.Mul(y, e.tensor(alpha, e.dtype))
    if e.dtype == BOOL:
        operator = {"Add": "Or", "Mul": "And", "Max": "Or", "Min": "And"}.get(operator, operator)
    return e.g.op(operator, x, y)


def _reversed(function: Row) -> Row:
    return lambda e, input, other, **kwargs: function(e, other, input, **kwargs)


for _operator, _names in {"Add": "add", "Sub": "sub subtract", "Mul": "mul multiply"}.items():
    row(*_names.split())(partial(_arithmetic, _operator))
row("radd")(partial(_arithmetic, "Add"))
row("rmul")(partial(_arithmetic, "Mul"))
row("rsub")(_reversed(partial(_arithmetic, "Sub")))
row("maximum", "fmax")(partial(_arithmetic, "Max"))
row("minimum", "fmin")(partial(_arithmetic, "Min"))


@row("div", "divide", "true_divide", "truediv")
def div(e: Emitter, input: Operand, other: Operand, *, rounding_mode: str | None = None) -> Tensor:
    x, y = e.tensor(input, e.dtype), e.tensor(other, e.dtype)
    whole = e.dtype.kind in "iu"
    if rounding_mode == "floor" and whole:  # ONNX truncates; what remains has the divisor's sign
        return e.g.Div(e.g.Sub(x, e.g.Mod(x, y)), y)
    quotient = e.g.Div(x, y)
    if rounding_mode is None or whole:
        return quotient
    return e.g.Floor(quotient) if rounding_mode == "floor" else trunc(e, quotient)


@row("floor_divide", "floordiv")
def floor_divide(e: Emitter, input: Operand, other: Operand) -> Tensor:
    return div(e, input, other, rounding_mode="floor")


row("rdiv", "rtruediv")(_reversed(div))
row("rfloordiv")(_reversed(floor_divide))


@row("remainder", "mod")
def remainder(e: Emitter, input: Operand, other: Operand) -> Tensor:
    """What is left has the divisor's sign; ONNX's Mod does that for integers only."""
    x, y = e.tensor(input, e.dtype), e.tensor(other, e.dtype)
    if e.dtype.kind in "iu":
        return e.g.Mod(x, y)
    return e.g.Sub(x, e.g.Mul(e.g.Floor(e.g.Div(x, y)), y))


row("rmod")(_reversed(remainder))


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


row("rpow")(_reversed(pow_))


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


# ---- products -------------------------------------------------------------------------------------


@row("matmul", "bmm", "mm", "mv", "dot")
def matmul(e: Emitter, input: Tensor, other: Tensor) -> Tensor:
    return e.g.MatMul(e.cast(input, e.dtype), e.cast(other, e.dtype))


row("rmatmul")(_reversed(matmul))


@row("linear")
def linear(e: Emitter, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b; a matrix goes through Gemm with the weight as it is."""
    if weight.rank == 2 and input.rank == 2 and input.dtype.kind == "f":
        return e.g.Gemm(input, weight, bias, transB=1)
    base, wrap = e.beneath(input, trailing=1)
    product = e.g.MatMul(base, e.transpose(weight, (1, 0)) if weight.rank == 2 else weight)
    return wrap(product if bias is None else e.g.Add(product, bias))


@row(torch.einsum)
def einsum(e: Emitter, equation: str, *operands: Any) -> Tensor:
    tensors = operands[0] if isinstance(operands[0], list | tuple) else operands
    return e.g.Einsum(*(e.cast(x, e.dtype) for x in tensors), equation=equation.replace(" ", ""))


@row("outer", "ger")
def outer(e: Emitter, input: Tensor, vec2: Tensor) -> Tensor:
    column = e.g.Unsqueeze(e.cast(input, e.dtype), e.g.ints(1))
    return e.g.Mul(column, e.cast(vec2, e.dtype))


# ---- reductions -----------------------------------------------------------------------------------


def _axes(dim: Any) -> list[int]:
    """Axes as PyTorch gives them; none stands for all."""
    if dim is None:
        return []
    return [dim] if isinstance(dim, int) else list(dim)


def reduced(e: Emitter, operator: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    axes = _axes(dim)
    if x.rank == 0:
        return x
    return e.g.op(operator, x, e.g.ints(*axes) if axes else None, keepdims=int(keepdim))


def _reduction(
    operator: str, e: Emitter, input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    return reduced(e, operator, e.cast(input, e.dtype), dim, keepdim)


for _operator, _names in {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceProd": "prod",
    "ReduceMax": "amax",
    "ReduceMin": "amin",
    "ReduceLogSumExp": "logsumexp",
}.items():
    row(_names)(partial(_reduction, _operator))


def _truth(operator: str, e: Emitter, input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """``any`` and ``all``: the largest and the smallest of 0 and 1."""
    bits = e.cast(e.cast(input, BOOL), np.dtype(np.int32))
    return e.cast(reduced(e, operator, bits, dim, keepdim), BOOL)


row("any")(partial(_truth, "ReduceMax"))
row("all")(partial(_truth, "ReduceMin"))


def _extreme(
    operator: str, e: Emitter, input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None
) -> Any:
    """``max(x)``, ``max(x, y)``, or values and places of ``max(x, dim)``."""
    second = dim if isinstance(dim, Tensor) else other
    if second is not None:
        return _arithmetic(operator, e, input, second)
    values = reduced(e, f"Reduce{operator}", input, dim, keepdim)
    if dim is None:
        return values
    return values, e.g.op(f"Arg{operator}", input, axis=dim, keepdims=int(keepdim))


row("max")(partial(_extreme, "Max"))
row("min")(partial(_extreme, "Min"))


def _place(operator: str, e: Emitter, input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        input, dim = e.g.Reshape(input, e.g.ints(-1)), 0
    return e.g.op(operator, input, axis=dim, keepdims=int(keepdim))


row("argmax")(partial(_place, "ArgMax"))
row("argmin")(partial(_place, "ArgMin"))

_NORMS = {1: "ReduceL1", 2: "ReduceL2", "fro": "ReduceL2", None: "ReduceL2"}


@row("norm", torch.linalg.vector_norm)
def norm(
    e: Emitter,
    input: Tensor,
    p: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    ord: Any = None,  # noqa: A002
    dtype: Any = None,
) -> Tensor:
    order = p if ord is None else ord
    x = e.cast(input, e.dtype)
    if order in _NORMS:
        return reduced(e, _NORMS[order], x, dim, keepdim)
    if order in (math.inf, -math.inf):
        return reduced(e, "ReduceMax" if order > 0 else "ReduceMin", e.g.Abs(x), dim, keepdim)
    powers = reduced(e, "ReduceSum", e.g.Pow(e.g.Abs(x), e.tensor(order, e.dtype)), dim, keepdim)
    return e.g.Pow(powers, e.tensor(1 / order, e.dtype))


@row("cumsum")
def cumsum(e: Emitter, input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    base, axis, wrap = e.along(e.cast(input, e.dtype), dim)
    return wrap(e.g.CumSum(base, e.g.constant(axis, np.int64)))


@row("topk")
def topk(
    e: Emitter,
    input: Tensor,
    k: Any,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
) -> Sequence[Tensor]:
    return e.g.ops("TopK", input, e.size(k), outputs=2, axis=dim, largest=int(largest), sorted=int(sorted))


@row("sort")
def sort(
    e: Emitter, input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> Sequence[Tensor]:
    return topk(e, input, e.size_of(input, dim), dim, largest=descending)


@row("argsort")
def argsort(
    e: Emitter, input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> Tensor:
    return topk(e, input, e.size_of(input, dim), dim, largest=descending)[1]


# ---- normalisation, with weights as arguments -------------------------------------------------------


def _or_constant(e: Emitter, weight: Tensor | None, value: float, size: int, dtype: np.dtype[Any]) -> Tensor:
    return e.g.constant(np.full(size, value, dtype)) if weight is None else weight


@row(F.layer_norm, torch.layer_norm)
def layer_norm(
    e: Emitter,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Tensor:
    count = len(normalized_shape)
    base, wrap = e.beneath(input, trailing=count)
    if weight is None:
        weight = e.g.constant(np.ones(tuple(normalized_shape), input.dtype))
    return wrap(e.g.LayerNormalization(base, weight, bias, axis=-count, epsilon=float(eps)))


@row(F.rms_norm, torch.rms_norm)
def rms_norm(
    e: Emitter,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight; the operator of this name came to ONNX only with opset 23."""
    base, wrap = e.beneath(input, trailing=len(normalized_shape))
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    mean = e.g.ReduceMean(e.g.Mul(base, base), e.g.ints(*range(-len(normalized_shape), 0)), keepdims=1)
    y = e.g.Mul(base, rsqrt(e, e.g.Add(mean, e.tensor(eps, input.dtype))))
    return wrap(y if weight is None else e.g.Mul(y, weight))


@row(F.batch_norm)
def batch_norm(
    e: Emitter,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """ONNX's momentum is the share that the old statistics keep, PyTorch's that of the new ones."""
    if training or running_mean is None or running_var is None:
        raise CannotCarry("it normalises by its batch's own statistics in inference too")
    channels = running_mean.size(0)
    return e.g.BatchNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        running_mean,
        running_var,
        epsilon=float(eps),
        momentum=None if momentum is None else 1 - momentum,
    )


@row(F.group_norm, torch.group_norm)
def group_norm(
    e: Emitter,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Tensor:
    channels = input.size(1)
    return e.g.GroupNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        num_groups=num_groups,
        epsilon=float(eps),
    )


@row(F.instance_norm)
def instance_norm(
    e: Emitter,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return batch_norm(e, input, running_mean, running_var, weight, bias, False, momentum, eps)
    channels = input.size(1)
    return e.g.InstanceNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        epsilon=float(eps),
    )


@row(F.embedding)
def embedding(
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    if max_norm is not None:
        raise CannotCarry("an embedding with max_norm rewrites its weights as it runs")
    base, wrap = e.beneath(input)
    gathered = e.g.Gather(weight, base, axis=0)
    return gathered if base is input else e.g.transpose(gathered, (*(input.perm or ()), input.rank))
