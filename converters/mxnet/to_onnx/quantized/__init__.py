"""Rows of integers: single operators, and what oneDNN fuses."""

from netferry.converters.mxnet.to_onnx.quantized import fused, integers

__all__ = ["fused", "integers"]
