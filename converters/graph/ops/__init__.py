"""THE table: one function per ONNX operator, over an array namespace that every target has.

``OPS["HardSigmoid"](xp, x, alpha=0.2, beta=0.5)``. Newest opset alone; see ``table.py`` for how rows read.
"""

from netferry.converters.graph.ops import (
    attention,
    elementwise,
    image,
    norms,
    pick,
    quantized,
    recurrent,
    reduce,
    resize,
    sample,
    shape,
    signal,
    spatial,
    text,
)
from netferry.converters.graph.ops.table import OPS, Row

__all__ = [
    "OPS",
    "Row",
    "attention",
    "elementwise",
    "image",
    "norms",
    "pick",
    "quantized",
    "recurrent",
    "reduce",
    "resize",
    "sample",
    "shape",
    "signal",
    "spatial",
    "text",
]
