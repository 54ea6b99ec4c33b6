"""Pools, written for (batch, channels, *space)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import keras, nn_ops as nn
from netferry.converters.tensorflow.to_onnx.convolution import (
    first_and_back,
    format_of,
    numbers_of,
    padding_of,
)
from netferry.converters.tensorflow.to_onnx.emitter import (
    ROWS,
    Emitter,
    channels_first,
    refuse_unless,
    unless,
)

layers = keras.layers


def pooled(
    g: Emitter, op_type: str, x: Tensor, size: Sequence[int], strides: Sequence[int], padding: str
) -> Tensor:
    """Average pools leave the padding out of the mean, in Keras as in ONNX by default."""
    return g.op(
        op_type,
        x,
        kernel_shape=list(size),
        strides=unless(strides, 1),
        **padding_of(x, padding, size, strides, [1] * len(size)),
    )


def _pool(op_type: str) -> Callable[[Emitter, Any, Tensor], Tensor]:
    def pool(g: Emitter, layer: Any, x: Tensor) -> Tensor:
        return pooled(g, op_type, x, layer.pool_size, layer.strides, layer.padding)

    return pool


def _global_pool(op_type: str) -> Callable[[Emitter, Any, Tensor], Tensor]:
    def pool(g: Emitter, layer: Any, x: Tensor) -> Tensor:
        y = g.op(op_type, x)
        return y if layer.keepdims else g.Squeeze(y, g.ints(*range(2, x.rank)))

    return pool


ROWS.row(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)(channels_first(_pool("MaxPool")))


ROWS.row(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D)(
    channels_first(_pool("AveragePool"))
)


ROWS.row(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D)(
    channels_first(_global_pool("GlobalMaxPool"))
)


ROWS.row(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D)(
    channels_first(_global_pool("GlobalAveragePool"))
)


@ROWS.row(nn.MaxPool, nn.AveragePool)
def pool(g: Emitter, op: Any, inputs: Tensor) -> Tensor:
    op_type = "MaxPool" if isinstance(op, nn.MaxPool) else "AveragePool"
    size = numbers_of(op.pool_size, inputs.rank)
    strides = size if op.strides is None else numbers_of(op.strides, inputs.rank)
    x, back = first_and_back(g, inputs, format_of(op))
    return back(pooled(g, op_type, x, size, strides, op.padding))


@ROWS.row(nn.AdaptiveAveragePool, nn.AdaptiveMaxPool)
def adaptive_pool(g: Emitter, op: Any, inputs: Tensor) -> Tensor:
    """Where each size is a multiple of what is wanted, windows of one size; to one, the pool of all."""
    average = isinstance(op, nn.AdaptiveAveragePool)
    wanted = numbers_of(op.output_size, inputs.rank)
    x, back = first_and_back(g, inputs, format_of(op))
    if set(wanted) == {1}:
        return back(g.op("GlobalAveragePool" if average else "GlobalMaxPool", x))
    have = [x.size(axis) for axis in range(2, x.rank)]
    fits = all(size % count == 0 for size, count in zip(have, wanted, strict=True))
    refuse_unless(fits, f"its windows differ in size: {have} into {wanted}")
    windows = [size // count for size, count in zip(have, wanted, strict=True)]
    return back(pooled(g, "AveragePool" if average else "MaxPool", x, windows, windows, "valid"))
