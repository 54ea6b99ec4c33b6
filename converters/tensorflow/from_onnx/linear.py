"""Linear, as a Dense layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layer_calls import called, weight
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


@NATIVE.row("Linear")
def Linear(xp: TensorflowNamespace, x: Symbol, w: Symbol, b: Symbol | None = None) -> Any:
    """A Dense layer; where ``x`` is a flattened image that lies channels-last, the kernel's rows move instead."""
    if w.content is None or (b is not None and b.content is None) or not is_float(x.dtype) or x.ndim < 2:
        return NotImplemented
    rank, kernel, perm = x.ndim, w.content, perm_of(x)
    base, left = x.expr, None
    if isinstance(x, Tensor) and x.order is not None:
        kernel, base = _moved(kernel, x.order), x.base
    elif perm is not None and perm[-1] == rank - 1 and isinstance(x, Tensor):
        base, left = x.base, perm
    weights = {"kernel": weight(w, kernel)}
    if b is not None:
        weights["bias"] = weight(b)
    units = kernel.shape[1]
    layer = xp.layer(
        "Dense",
        weights,
        (*(None,) * (rank - 1), kernel.shape[0]),
        units,
        dtype=x.dtype,
        use_bias=None if b is not None else False,
    )
    return called(xp, layer, base, x, dims=(*x.shape[:-1], units), perm=left)


def _moved(kernel: Any, order: Any) -> Any:
    """Rows where their features lie: feature ``i`` is read from position ``order[i]``."""
    moved = np.empty_like(kernel)
    moved[order] = kernel
    return moved
