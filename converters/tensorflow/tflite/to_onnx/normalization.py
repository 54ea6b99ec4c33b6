"""Rows of normalisations."""

from __future__ import annotations

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.tflite.to_onnx.straight import straight

straight({"L2_NORMALIZATION": "lite.L2Normalization"})
straight(
    {"LOCAL_RESPONSE_NORMALIZATION": "LRN"},
    lambda _, op: {
        "depth_radius": op.option("radius"), "alpha": op.option("alpha"), "beta": op.option("beta"), "bias": op.option("bias"),
    },
)  # fmt: skip


@ROWS.row("lite.L2Normalization")
def l2(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Along the last axis; a length below 1e-6 counts as that."""
    return g.Div(x, g.Max(g.ReduceL2(x, g.ints(-1), keepdims=1), g.like(1e-6, x)))
