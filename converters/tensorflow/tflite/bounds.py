"""What the inputs may hold: nothing is declared in the file; what the graph in ONNX says is found there."""

from __future__ import annotations

from netferry.converters.tensorflow.graphdef.bounds import ranges

__all__ = ["ranges"]
