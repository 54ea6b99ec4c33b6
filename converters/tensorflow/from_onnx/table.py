"""The table of operators that become layers and kernels of Keras and TensorFlow."""

from __future__ import annotations

from netferry.converters.graph.schema.attributes import Operators

NATIVE = Operators("ONNX -> Keras")
