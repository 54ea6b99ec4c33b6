"""Gather from a trained table, as an Embedding layer."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layer_calls import called, weight
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


@NATIVE.row("Gather")
def Gather(xp: TensorflowNamespace, data: Symbol, indices: Symbol, *, axis: int) -> Any:
    """An Embedding where a trained table is read by its rows."""
    table = data.content
    if (
        table is None
        or not data.fact.trainable
        or table.ndim != 2
        or axis not in (0, -2)
        or indices.content is not None
    ):
        return NotImplemented
    rows, width = table.shape
    layer = xp.layer(
        "Embedding",
        {"embeddings": weight(data)},
        (None,),
        rows,
        width,
        dtype=data.dtype,
        embeddings_initializer="zeros",
    )
    return called(xp, layer, indices, data, dims=(*indices.shape, width))
