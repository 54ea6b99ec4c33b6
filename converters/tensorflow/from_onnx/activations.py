"""Activations that Keras and TensorFlow have as one operation."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.symbol import Symbol
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
