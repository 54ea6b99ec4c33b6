"""Products of matrices that own their weights."""

from __future__ import annotations

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.from_onnx.layers import (
    Xp,
    all_constant,
    applied,
    module_path,
    row,
    transposed,
    weight_and_bias,
)


@row("Linear")
def Linear(xp: Xp, x: Symbol, w: Symbol, b: Symbol | None = None) -> Symbol:
    if w.content is None:
        product = xp.matmul(x, w)
        return product if b is None else xp.add(product, b)
    inside, outside = w.content.shape
    y = None
    if all_constant(w, b) and w.dtype == x.dtype and (b is None or b.fact.dims == (outside,)):
        y = applied(xp, x, "Linear", inside, outside, bias=False if b is None else None, at=module_path(xp, w, b),
                    weights=weight_and_bias(w, b, w.content.T))  # fmt: skip
    return xp.call("F.linear", x, transposed(w), b) if y is None else y
