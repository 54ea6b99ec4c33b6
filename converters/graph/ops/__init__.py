"""THE table: one function per ONNX operator, over an array namespace that every target has.

``OPS["HardSigmoid"](xp, x, alpha=0.2, beta=0.5)``. Newest opset alone; see ``table.py`` for how rows read.
"""

from netferry.converters.graph.ops import (
    attention,
    convolution,
    elementwise,
    image,
    indexing,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    resize,
    sample,
    shape,
    signal,
    text,
)
from netferry.converters.graph.ops.table import OPS, Row

__all__ = ["OPS", "Row"]
