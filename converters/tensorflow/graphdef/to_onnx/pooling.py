"""Rows of pools."""

from __future__ import annotations

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx.convolution import (
    channels_first,
    padding_of,
    spatial,
    unless,
)
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter


def _pool(g: Emitter, a: Attrs, x: Tensor, operator: str, window: list[int], strides: list[int]) -> Tensor:
    with_first, back, first = channels_first(g, a, x)
    size, steps = spatial(window, first, x.rank), spatial(strides, first, x.rank)
    outer = [*(window[:2] if first else (window[0], window[-1]))]
    if any(each != 1 for each in outer):
        raise CannotConvert("it pools over the batch or the channels", f"A window of {window}")
    pads = padding_of(g, a, with_first, size, steps, [1] * len(size), first)
    return back(g.op(operator, with_first, kernel_shape=size, strides=unless(steps, 1), **pads))


@ROWS.row("MaxPool", "MaxPool3D")
def max_pool(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _pool(g, a, x, "MaxPool", a.integers("ksize"), a.integers("strides"))


@ROWS.row("MaxPoolV2")
def max_pool_v2(g: Emitter, a: Attrs, x: Tensor, size: Tensor, strides: Tensor) -> Tensor:
    return _pool(g, a, x, "MaxPool", g.numbers(size, "window"), g.numbers(strides, "strides"))


@ROWS.row("AvgPool", "AvgPool3D")
def average_pool(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """What is padded does not count."""
    return _pool(g, a, x, "AveragePool", a.integers("ksize"), a.integers("strides"))
