"""How rows make layers and call them: weights under their names, and channels brought last."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.function_names import Weight
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace


def weight(x: Symbol, content: Any = None) -> Weight:
    """What a constant input holds, or what it has become, under its own name."""
    array = x.content if content is None else content
    assert array is not None
    return Weight(array, (x.fact.name,) if x.fact.name else ())


def called(
    xp: TensorflowNamespace,
    layer: Any,
    x: Any,
    like: Symbol,
    *,
    dims: Any = None,
    perm: Any = None,
    **kwargs: Any,
) -> Tensor:
    """``layer(x)``"""
    return xp.made(xp.call_expr(layer, x, **kwargs), dtype=like.dtype, dims=dims, perm=perm)


def channels_last(xp: TensorflowNamespace, x: Symbol) -> tuple[Any, Any]:
    """The tensor with its channels last, and the permutation that brings them back."""
    perm = layout.channels_first(x.ndim)
    return xp.arranged(x, perm), perm
