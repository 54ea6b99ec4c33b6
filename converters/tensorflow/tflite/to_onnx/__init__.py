"""TFLite to ONNX: the signature that is meant is written as a graph of TensorFlow's operators, and that row by row."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.exported import ExportedModel
from netferry.converters.graph.ir.build import OPSET
from netferry.converters.signature import Example
from netferry.converters.tensorflow.graphdef.inputs import specs_of
from netferry.converters.tensorflow.graphdef.to_onnx import direct
from netferry.converters.tensorflow.tflite.graph import as_graph
from netferry.converters.tensorflow.tflite.model import LiteModel
from netferry.converters.tensorflow.tflite.to_onnx import (
    activations,
    complex_numbers,
    control_flow,
    convolution,
    elementwise,
    image,
    indexing,
    linear,
    normalization,
    pooling,
    quantisation,
    recurrent,
    reduction,
    shape,
)

__all__ = [
    "activations", "complex_numbers", "control_flow", "convolution", "elementwise", "image", "indexing", "linear", "normalization", "pooling",
    "quantisation", "recurrent", "reduction", "shape", "to_onnx",
]  # fmt: skip


def to_onnx(model: LiteModel, given: Sequence[Example] | None = None) -> ExportedModel:
    """Convert the signature that is meant.

    Raises:
        UnsupportedError: what it runs has operators without a row, all of them at once.
    """
    found = specs_of(model, given)
    opset = _OF_INT8 if model.stores("int8", "uint8") and not model.stores("int16", "uint16") else OPSET
    return direct(as_graph(model), found.specs, (*found.notes, *model.notes), opset=opset)


_OF_INT8 = 20
"""Of a later one onnxruntime (1.32) makes zero points of another dtype than what they belong to, where it moves a Transpose
between quantised nodes on a processor without VNNI."""
