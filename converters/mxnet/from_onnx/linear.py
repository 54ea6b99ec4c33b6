"""Products of the last axis with a weight, as MXNet's FullyConnected."""

from __future__ import annotations

import numpy as np

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE, computed, weight


@NATIVE.row("Linear")
def linear(xp: MxnetNamespace, x: Symbol, w: Symbol, b: Symbol | None = None) -> Symbol:
    """x: (..., in); w: (in, out), which MXNet wants transposed."""
    if x.ndim < 2 or not computed(x):
        y = xp.matmul(x, w)
        return y if b is None else xp.add(y, b)
    units = w.size(1)
    transposed = weight(xp, w, np.transpose) if w.content is not None else xp.permute_dims(w, (1, 0))
    return xp.apply(
        "FullyConnected",
        *(part for part in (x, transposed, b) if part is not None),
        dims=(*x.shape[:-1], units),
        num_hidden=units,
        no_bias=True if b is None else None,
        flatten=False if x.ndim > 2 else None,
    )
