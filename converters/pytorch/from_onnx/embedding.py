"""A matrix that is trained, read row by row, is an embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.from_onnx.layers import Xp, all_constant, frozen, layer, module_path, row


@row("Gather")
def Gather(xp: Xp, data: Symbol, indices: Symbol, *, axis: int) -> Any:
    """ONNX counts negative indices from the end; ``nn.Embedding`` refuses them when it runs, so none goes wrong."""
    rows = data.content
    matrix = rows is not None and rows.ndim == 2 and axis in (0, -2) and data.fact.trainable
    if not matrix or indices.content is not None or not all_constant(data) or indices.dtype.kind not in "iu":
        return NotImplemented
    assert rows is not None
    numbers = indices if indices.dtype in (np.int64, np.int32) else xp.astype(indices, np.int64)
    made = layer(xp, "Embedding", *rows.shape, at=module_path(xp, data), weights={"weight": frozen(data)})
    if made is None:
        return xp.call("F.embedding", numbers, data, dtype=data.dtype)
    return xp.made(xp.call_expr(made, numbers), dtype=data.dtype)
