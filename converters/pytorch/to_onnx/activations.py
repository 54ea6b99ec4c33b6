"""The table of torch functions: activations."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import clamp
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row


@row("leaky_relu")
def leaky_relu(e: Emitter, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return e.g.LeakyRelu(input, alpha=float(negative_slope))


@row("elu")
def elu(
    e: Emitter, input: Tensor, alpha: float = 1.0, inplace: bool | float = False, input_scale: float = 1
) -> Tensor:
    if input_scale != 1 or (not isinstance(inplace, bool) and inplace != 1):
        raise CannotConvert("an ELU with scales, which ONNX does not have")
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
