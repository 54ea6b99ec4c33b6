"""ONNX's activations as MXNet's layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from netferry.converters.graph.ir.sizes import product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE, computed, weight
from netferry.converters.mxnet.from_onnx.writer import FLOAT32

_POINTWISE: Mapping[str, tuple[str, str | None]] = {
    "Relu": ("relu", None),
    "Sigmoid": ("Activation", "sigmoid"),
    "Tanh": ("Activation", "tanh"),
    "Softsign": ("Activation", "softsign"),
}
"""ONNX's operator -> MXNet's, its act_type. ``relu`` keeps NaN where ``Activation`` drops it; softrelu is computed to
1e-6 alone."""


def _pointwise(op: str, kind: str | None) -> Callable[..., Any]:
    def row(xp: MxnetNamespace, x: Symbol) -> Any:
        return xp.apply(op, x, dims=x.fact.dims, act_type=kind) if computed(x) else NotImplemented

    return row


for _operator, _layer in _POINTWISE.items():
    NATIVE.row(_operator)(_pointwise(*_layer))


def _leaky(xp: MxnetNamespace, x: Symbol, kind: str, **attrs: Any) -> Symbol:
    return xp.apply("LeakyReLU", x, dims=x.fact.dims, act_type=kind, **attrs)


# Attributes, and gelu's erf, are float32 whatever they compute with: rows for float32 alone.


@NATIVE.row("LeakyRelu")
def leaky_relu(xp: MxnetNamespace, x: Symbol, *, alpha: float) -> Any:
    return _leaky(xp, x, "leaky", slope=alpha) if x.dtype == FLOAT32 else NotImplemented


@NATIVE.row("Elu")
def elu(xp: MxnetNamespace, x: Symbol, *, alpha: float) -> Any:
    return _leaky(xp, x, "elu", slope=alpha) if x.dtype == FLOAT32 else NotImplemented


_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


@NATIVE.row("Selu")
def selu(xp: MxnetNamespace, x: Symbol, *, alpha: float, gamma: float) -> Any:
    usual = np.allclose((alpha, gamma), _SELU, rtol=1e-7, atol=0)
    return _leaky(xp, x, "selu") if usual and computed(x) else NotImplemented


@NATIVE.row("Gelu")
def gelu(xp: MxnetNamespace, x: Symbol, *, approximate: str) -> Any:
    """MXNet's is the erf form."""
    return _leaky(xp, x, "gelu") if approximate == "none" and x.dtype == FLOAT32 else NotImplemented


@NATIVE.row("PRelu")
def prelu(xp: MxnetNamespace, x: Symbol, slope: Symbol) -> Any:
    """One slope for each channel is a layer; any other form is written with elementwise operators."""
    dims = slope.shape
    channels = x.shape[1] if x.ndim > 1 else None
    axis = len(dims) - (x.ndim - 1)
    per_channel = 0 <= axis < len(dims) and dims[axis] == channels and product(dims) == channels
    per_channel |= dims == (channels,) != x.shape[-1:]  # as before opset 7
    if slope.content is None or not slope.fact.trainable or not per_channel or not computed(x, slope):
        return NotImplemented
    gamma = weight(xp, slope, np.ravel)
    return xp.apply("LeakyReLU", x, gamma, dims=x.shape, act_type="prelu")


@NATIVE.row("HardSigmoid")
def hard_sigmoid(xp: MxnetNamespace, x: Symbol, *, alpha: float, beta: float) -> Any:
    if x.dtype != FLOAT32:
        return NotImplemented
    return xp.apply("hard_sigmoid", x, dims=x.fact.dims, alpha=alpha, beta=beta)


@NATIVE.row("Clip")
def clip(xp: MxnetNamespace, x: Symbol, low: Symbol | None = None, high: Symbol | None = None) -> Any:
    """Between two constants it is MXNet's own; an empty range gives the upper bound, as in ONNX."""
    bounds = [side.content.item() for side in (low, high) if side is not None and side.content is not None]
    fits = len(bounds) == 2 and bool(np.all(np.isfinite(bounds))) and bounds[0] <= bounds[1]
    if not fits or x.dtype != FLOAT32:  # its bounds are float32
        return NotImplemented
    return xp.apply("clip", x, dims=x.fact.dims, a_min=float(bounds[0]), a_max=float(bounds[1]))
