"""The table of MXNet's native layers, filled: which ONNX operators become a layer of their own."""

from netferry.converters.mxnet import native_pooling, native_recurrent  # noqa: F401 - they fill the table
from netferry.converters.mxnet.native_layers import NATIVE

__all__ = ["NATIVE"]
