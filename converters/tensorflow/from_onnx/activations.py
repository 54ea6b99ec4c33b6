"""Activations that Keras and TensorFlow have as one operation."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layer_calls import called, weight
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


def _elementwise(name: str) -> Any:
    """An activation without parameters, for floats."""

    def row(xp: TensorflowNamespace, x: Symbol) -> Any:
        return xp.elementwise(name, x) if is_float(x.dtype) else NotImplemented

    return row


for _operator, _name in (("Relu", "relu"), ("Softplus", "softplus"), ("Softsign", "softsign")):
    NATIVE.row(_operator)(_elementwise(_name))


@NATIVE.row("LeakyRelu")
def LeakyRelu(xp: TensorflowNamespace, x: Symbol, *, alpha: float) -> Any:
    return xp.elementwise("leaky_relu", x, **{"negative_slope" if xp.functional else "alpha": alpha})


@NATIVE.row("Elu")
def Elu(xp: TensorflowNamespace, x: Symbol, *, alpha: float) -> Any:
    return xp.elementwise("elu", x) if alpha == 1 else NotImplemented


@NATIVE.row("Selu")
def Selu(xp: TensorflowNamespace, x: Symbol, *, alpha: float, gamma: float) -> Any:
    """Keras has the two constants of the paper; others are composed."""
    usual = abs(alpha - 1.6732632423543772) < 1e-6 and abs(gamma - 1.0507009873554805) < 1e-6
    return xp.elementwise("selu", x) if usual else NotImplemented


@NATIVE.row("Gelu")
def Gelu(xp: TensorflowNamespace, x: Symbol, *, approximate: str) -> Any:
    return xp.elementwise("gelu", x, approximate=approximate == "tanh")


@NATIVE.row("Swish")
def Swish(xp: TensorflowNamespace, x: Symbol, *, alpha: float) -> Any:
    return xp.elementwise("silu", x) if alpha == 1 else NotImplemented


@NATIVE.row("Clip")
def Clip(xp: TensorflowNamespace, x: Symbol, low: Symbol | None = None, high: Symbol | None = None) -> Any:
    bounds = [
        None if bound is None or bound.content is None else float(bound.content) for bound in (low, high)
    ]
    return xp.elementwise("relu6", x) if bounds == [0.0, 6.0] and is_float(x.dtype) else NotImplemented


@NATIVE.row("PRelu")
def PRelu(xp: TensorflowNamespace, x: Symbol, slope: Symbol) -> Any:
    """A PReLU whose slopes are shared along the axes where there is one of them."""
    content, rank = slope.content, x.ndim
    if content is None or not slope.fact.trainable or content.ndim > rank or rank < 2:
        return NotImplemented
    perm = perm_of(x) or layout.identity(rank)
    based = content.reshape((1,) * (rank - content.ndim) + content.shape).transpose(layout.inverse(perm))
    if based.shape[0] != 1:
        return NotImplemented
    shared = [axis for axis in range(1, rank) if based.shape[axis] == 1]
    build = tuple(None if size == 1 else size for size in based.shape)
    known = tuple(x.shape[axis] for axis in layout.inverse(perm))
    if any(not isinstance(size, int) for axis, size in enumerate(known) if axis and axis not in shared):
        return NotImplemented
    layer = xp.layer(
        "PReLU", {"alpha": weight(slope, based[0])}, build, dtype=x.dtype, shared_axes=shared or None
    )
    base = x.base if isinstance(x, Tensor) and x.deferred is None else x.expr
    return called(xp, layer, base, x, dims=x.shape, perm=perm_of(x))
