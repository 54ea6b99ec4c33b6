"""Convolutions, pools and what else works on (batch, *space, channels).

Rows are written for (batch, channels, *space); ``channels_first`` turns Keras' layout, lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from netferry.converters.errors import CannotCarry
from netferry.converters.graph import layout
from netferry.converters.graph.build import Tensor
from netferry.converters.graph.padding import onnx_pads, same_upper
from netferry.converters.signature import Array, Dim
from netferry.converters.tensorflow.pen import ROWS, Pen, Row, activate, channels_first, one, unless
from netferry.converters.tensorflow.runtime import keras

layers = keras.layers


def _with_activation(row: Row) -> Row:
    """Apply the layer's activation in Keras' own layout: a softmax runs over the channels."""

    @wraps(row)
    def carry(g: Pen, layer: Any, x: Tensor) -> Tensor:
        return activate(g, layer.activation, one(row(g, layer, x)))

    return carry


# ---- convolutions ---------------------------------------------------------------------------


def _turned(kernel: Array) -> Array:
    """(*space, in, out) -> (out, in, *space)."""
    space = kernel.ndim - 2
    return kernel.transpose(space + 1, space, *range(space))


def _depthwise(kernel: Array) -> Array:
    """(*space, in, multiplier) -> (in * multiplier, 1, *space)."""
    *space, channels, multiplier = kernel.shape
    turned = kernel.transpose(len(space), len(space) + 1, *range(len(space)))
    return turned.reshape(channels * multiplier, 1, *space)


def _bias(g: Pen, layer: Any) -> Tensor | None:
    return g.weight(layer.bias) if layer.use_bias else None


def _window(layer: Any, x: Tensor) -> dict[str, Any]:
    """The attributes of a convolution's window."""
    return {
        "strides": unless(layer.strides, 1),
        "dilations": unless(layer.dilation_rate, 1),
        **_padding(x, layer.padding, layer.kernel_size, layer.strides, layer.dilation_rate),
    }


def _padding(
    x: Tensor, mode: str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Any]:
    """``pads`` where they can be counted now, ``auto_pad`` where they depend on a size that is free."""
    if mode == "valid":
        return {}
    if mode == "causal":
        return {"pads": onnx_pads([((kernel[0] - 1) * dilations[0], 0)])}
    sizes: tuple[Dim, ...] = (x.dims or ())[2:]
    if all(isinstance(size, int) or stride == 1 for size, stride in zip(sizes, strides, strict=True)):
        pairs = [
            same_upper(size if isinstance(size, int) else 1, *window)
            for size, *window in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        pads = onnx_pads(pairs)
        return {"pads": pads} if any(pads) else {}
    if max(dilations) > 1:
        raise CannotCarry(
            "its padding 'same' with strides and dilation needs a size that is free",
            "Fix the input's size",
        )
    return {"auto_pad": "SAME_UPPER"}


@ROWS.row(layers.Conv1D, layers.Conv2D, layers.Conv3D)
@_with_activation
@channels_first
def conv(g: Pen, layer: Any, x: Tensor) -> Tensor:
    groups = layer.groups if layer.groups > 1 else None
    kernel = g.weight(layer.kernel, _turned)
    return g.Conv(x, kernel, _bias(g, layer), group=groups, **_window(layer, x))


@ROWS.row(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
@_with_activation
@channels_first
def depthwise_conv(g: Pen, layer: Any, x: Tensor) -> Tensor:
    kernel = g.weight(layer.kernel, _depthwise)
    return g.Conv(x, kernel, _bias(g, layer), group=x.size(1), **_window(layer, x))


@ROWS.row(layers.SeparableConv1D, layers.SeparableConv2D)
@_with_activation
@channels_first
def separable_conv(g: Pen, layer: Any, x: Tensor) -> Tensor:
    depthwise = g.weight(layer.depthwise_kernel, _depthwise)
    y = g.Conv(x, depthwise, group=x.size(1), **_window(layer, x))
    return g.Conv(y, g.weight(layer.pointwise_kernel, _turned), _bias(g, layer))


@ROWS.row(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
@_with_activation
@channels_first
def conv_transpose(g: Pen, layer: Any, x: Tensor) -> Tensor:
    """The gradient of a convolution: TensorFlow pads as the forward one over the output would be."""
    sides = layer.output_padding or (None,) * len(layer.kernel_size)
    extents = [
        _transposed_padding(layer.padding, (kernel - 1) * dilation + 1, stride, extra)
        for kernel, dilation, stride, extra in zip(
            layer.kernel_size, layer.dilation_rate, layer.strides, sides, strict=True
        )
    ]
    pads = onnx_pads([(begin, end) for begin, end, _ in extents])
    return g.ConvTranspose(
        x,
        g.weight(layer.kernel, _turned),
        _bias(g, layer),
        strides=unless(layer.strides, 1),
        dilations=unless(layer.dilation_rate, 1),
        pads=pads if any(pads) else None,
        output_padding=unless([extra for *_, extra in extents], 0),
    )


def _transposed_padding(mode: str, span: int, stride: int, extra: int | None) -> tuple[int, int, int]:
    """Padding before and after, and ONNX' ``output_padding``, of one axis.

    ``span`` is the kernel with its dilation. The output has (size - 1) * stride + ``tail`` elements,
    where Keras' rule for ``tail`` is that of ``compute_conv_transpose_output_shape``.
    """
    if mode == "valid":
        return 0, 0, max(stride - span, 0) if extra is None else extra
    tail = stride if extra is None else span % 2 + extra
    total = max(span - tail, 0)
    return total // 2, total - total // 2, max(tail - span, 0)


# ---- pools ----------------------------------------------------------------------------------


def _pool(op_type: str) -> Callable[[Pen, Any, Tensor], Tensor]:
    """Average pools leave the padding out of the mean, in Keras as in ONNX by default."""

    def pool(g: Pen, layer: Any, x: Tensor) -> Tensor:
        ones = [1] * len(layer.pool_size)
        return g.op(
            op_type,
            x,
            kernel_shape=list(layer.pool_size),
            strides=unless(layer.strides, 1),
            **_padding(x, layer.padding, layer.pool_size, layer.strides, ones),
        )

    return pool


def _global_pool(op_type: str) -> Callable[[Pen, Any, Tensor], Tensor]:
    def pool(g: Pen, layer: Any, x: Tensor) -> Tensor:
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


# ---- edges and sizes ------------------------------------------------------------------------


def _space(layer: Any, rank: int) -> list[int]:
    """The axes of space as the layer counts them."""
    return list(
        range(2, rank) if getattr(layer, "data_format", "") == "channels_first" else range(1, rank - 1)
    )


def _pairs(setting: Any) -> list[tuple[int, int]]:
    """(before, after) of each axis of space; a layer of one axis holds one bare pair."""
    return [tuple(pair) for pair in (setting if isinstance(setting[0], tuple | list) else [setting])]


@ROWS.row(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
def zero_padding(g: Pen, layer: Any, x: Tensor) -> Tensor:
    pairs = dict(zip(_space(layer, x.rank), _pairs(layer.padding), strict=True))

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        back = layout.inverse(place)
        return g.Pad(base, g.ints(*onnx_pads([pairs.get(back[axis], (0, 0)) for axis in range(base.rank)])))

    return g.along(write, x)


@ROWS.row(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
def cropping(g: Pen, layer: Any, x: Tensor) -> Tensor:
    axes, pairs = _space(layer, x.rank), _pairs(layer.cropping)
    ends = [-after or np.iinfo(np.int64).max for _, after in pairs]

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        starts = g.ints(*(before for before, _ in pairs))
        return g.Slice(base, starts, g.ints(*ends), g.ints(*(place[axis] for axis in axes)))

    return g.along(write, x)


_RESIZE: dict[str, dict[str, str]] = {
    "nearest": {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    },
    "bilinear": {"mode": "linear"},
}


@ROWS.row(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)
def up_sampling(g: Pen, layer: Any, x: Tensor) -> Tensor:
    interpolation = getattr(layer, "interpolation", "nearest")
    if interpolation not in _RESIZE:
        raise CannotCarry(f"its interpolation '{interpolation}' is not one that ONNX computes alike")
    factors = layer.size if isinstance(layer.size, tuple | list) else (layer.size,)
    first = getattr(layer, "data_format", "") == "channels_first"
    scales = g.constant([1, 1, *factors], np.float32)
    y = x if first else g.transpose(x, layout.channels_first(x.rank))
    y = g.Resize(y, None, scales, **_RESIZE[interpolation])
    return y if first else g.transpose(y, layout.channels_last(x.rank))
