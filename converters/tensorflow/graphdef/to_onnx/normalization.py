"""Rows of normalisations and of softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx import patterns
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter


@ROWS.row("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_normalization(
    g: Emitter, a: Attrs, x: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor
) -> Sequence[Tensor | None]:
    """Of the six outputs, inference reads the first; in training it is computed from the batch's own statistics."""
    first = a.text("data_format", "NHWC").startswith("NC")
    epsilon = a.number("epsilon", 1e-4)
    channel = 1 if first else x.rank - 1
    if (
        a.flag("is_training", True)
        and (rows_ := patterns.rows_normalised(g, x, scale, offset, first, epsilon)) is not None
    ):
        return [rows_] + [None] * 5
    if a.flag("is_training", True):
        return [_normalised(g, x, scale, offset, channel, epsilon)] + [None] * 5
    with_first = x if first else g.transpose(x, layout.channels_first(x.rank))
    y = g.BatchNormalization(with_first, scale, offset, mean, variance, epsilon=epsilon)
    y = y if first else g.transpose(y, layout.channels_last(y.rank))
    return [y, mean, variance, mean, variance, None]


def _normalised(g: Emitter, x: Tensor, scale: Tensor, offset: Tensor, channel: int, epsilon: float) -> Tensor:
    """By the statistics of ``x`` itself: Keras 2 writes LayerNormalization so, each row a channel."""
    axes = g.ints(*(axis for axis in range(x.rank) if axis != channel))
    shape = g.ints(*(-1 if axis == channel else 1 for axis in range(x.rank)))
    mean = g.ReduceMean(x, axes, keepdims=1)
    centred = g.Sub(x, mean)
    variance = g.ReduceMean(g.Mul(centred, centred), axes, keepdims=1)
    y = g.Div(centred, g.Sqrt(g.Add(variance, g.like(epsilon, x))))
    return g.Add(g.Mul(y, g.Reshape(scale, shape)), g.Reshape(offset, shape))


@ROWS.row("Softmax")
def softmax(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Softmax(x, axis=-1)


@ROWS.row("LogSoftmax")
def log_softmax(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.LogSoftmax(x, axis=-1)


@ROWS.row("LRN")
def local_response(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """ONNX divides alpha by the number of channels that it sums."""
    size = 2 * a.integer("depth_radius", 5) + 1
    y = g.LRN(
        g.transpose(x, layout.channels_first(x.rank)),
        size=size,
        alpha=a.number("alpha", 1.0) * size,
        beta=a.number("beta", 0.5),
        bias=a.number("bias", 1.0),
    )
    return g.transpose(y, layout.channels_last(y.rank))


@ROWS.row("FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
def fake_quantization(
    g: Emitter, a: Attrs, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    """Rounded to as many steps between the bounds as the bits have; the bounds are moved so that 0 is a step."""
    lows = np.asarray(a.number("min", -6.0)) if low is None else low.array
    highs = np.asarray(a.number("max", 6.0)) if high is None else high.array
    if lows is None or highs is None:
        raise CannotConvert("its bounds are computed while the model runs")
    least = 1 if a.flag("narrow_range") else 0
    most = 2 ** a.integer("num_bits", 8) - 1
    lows, highs = lows.astype(np.float32), highs.astype(np.float32)
    scale = (highs - lows) / np.float32(most - least)
    zero = np.clip(np.round(least - lows / scale), least, most)
    bounds = [((each - zero) * scale).astype(np.float32) for each in (least, most)]
    clipped = g.Min(g.Max(x, g.constant(bounds[0])), g.constant(bounds[1]))
    steps = g.Floor(
        g.Add(
            g.Div(g.Sub(clipped, g.constant(bounds[0])), g.constant(scale.astype(np.float32))), g.like(0.5, x)
        )
    )
    return g.Add(g.Mul(steps, g.constant(scale.astype(np.float32))), g.constant(bounds[0]))
