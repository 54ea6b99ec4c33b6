"""Rows of pools."""

from __future__ import annotations

from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.tflite.graph import OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation
from netferry.converters.tensorflow.tflite.to_onnx.convolution import padding, spatial


@OPERATORS.row("MAX_POOL_2D")
def max_pool(w: Writer, op: Operation) -> Ref:
    return _pool(w, op, "MaxPool", w.x(op))


@OPERATORS.row("AVERAGE_POOL_2D")
def average_pool(w: Writer, op: Operation) -> Ref:
    """What is padded does not count."""
    return _pool(w, op, "AvgPool", w.x(op))


@OPERATORS.row("L2_POOL_2D")
def l2_pool(w: Writer, op: Operation) -> Ref:
    """The root of the mean of squares."""
    return w.node("Sqrt", _pool(w, op, "AvgPool", w.node("Square", w.x(op))))


def _pool(w: Writer, op: Operation, operator: str, x: Ref) -> Ref:
    window = [1, op.option("filter_height"), op.option("filter_width"), 1]
    return w.node(operator, x, ksize=window, strides=[1, *spatial(op, "stride"), 1], padding=padding(op))
