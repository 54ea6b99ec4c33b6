"""Convolutions, pools and what else works on (batch, *space, channels).

Rows are written for (batch, channels, *space); ``channels_first`` turns Keras' layout, lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import onnx_pads, same_upper
from netferry.converters.signature import Dim
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.to_onnx.emitter import (
    ROWS,
    Emitter,
    Row,
    activate,
    channels_first,
    one,
    unless,
)

layers = keras.layers


def _with_activation(row: Row) -> Row:
    """Apply the layer's activation in Keras' own layout: a softmax runs over the channels."""

    @wraps(row)
    def carry(g: Emitter, layer: Any, x: Tensor) -> Tensor:
        return activate(g, layer.activation, one(row(g, layer, x)))

    return carry


@dataclass(frozen=True)
class Window:
    """How a kernel goes over space: TensorFlow's word for the padding, and a number for each axis."""

    padding: str
    strides: Sequence[int]
    dilations: Sequence[int]

    @classmethod
    def of(cls, layer: Any) -> Window:
        return cls(layer.padding, layer.strides, layer.dilation_rate)


def first_and_back(g: Emitter, x: Tensor, data_format: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``x`` as (batch, channels, *space), and the way back to the layout that it has."""
    if data_format == "channels_first":
        return x, lambda y: y
    return g.transpose(x, layout.channels_first(x.rank)), lambda y: g.transpose(
        y, layout.channels_last(y.rank)
    )


# ---- convolutions ---------------------------------------------------------------------------


def turned(g: Emitter, kernel: Tensor) -> Tensor:
    """(*space, in, out) -> (out, in, *space)."""
    space = kernel.rank - 2
    return g.transpose(kernel, (space + 1, space, *range(space)))


def turned_depthwise(g: Emitter, kernel: Tensor) -> Tensor:
    """(*space, in, multiplier) -> (in * multiplier, 1, *space)."""
    *space, channels, multiplier = (kernel.size(axis) for axis in range(kernel.rank))
    axes = (len(space), len(space) + 1, *range(len(space)))
    shape = (channels * multiplier, 1, *space)
    if kernel.array is not None:
        return g.constant(kernel.array.transpose(axes).reshape(shape), name=kernel.name)
    return g.Reshape(g.transpose(kernel, axes), g.ints(*shape))


def _bias(g: Emitter, layer: Any) -> Tensor | None:
    return g.weight(layer.bias) if layer.use_bias else None


def convolved(
    g: Emitter, x: Tensor, kernel: Tensor, bias: Tensor | None, window: Window, groups: int
) -> Tensor:
    """``x``: (batch, channels, *space), ``kernel``: (out, in, *space)."""
    size = [kernel.size(axis) for axis in range(2, kernel.rank)]
    return g.Conv(
        x,
        kernel,
        bias,
        group=groups if groups > 1 else None,
        strides=unless(window.strides, 1),
        dilations=unless(window.dilations, 1),
        **_padding(x, window.padding, size, window.strides, window.dilations),
    )


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
        raise CannotConvert(
            "its padding 'same' with strides and dilation needs a size that is free",
            "Fix the input's size",
        )
    return {"auto_pad": "SAME_UPPER"}


@ROWS.row(layers.Conv1D, layers.Conv2D, layers.Conv3D)
@_with_activation
@channels_first
def conv(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = turned(g, g.weight(layer.kernel))
    return convolved(g, x, kernel, _bias(g, layer), Window.of(layer), layer.groups)


@ROWS.row(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
@_with_activation
@channels_first
def depthwise_conv(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = turned_depthwise(g, g.weight(layer.kernel))
    return convolved(g, x, kernel, _bias(g, layer), Window.of(layer), x.size(1))


@ROWS.row(layers.SeparableConv1D, layers.SeparableConv2D)
@_with_activation
@channels_first
def separable_conv(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    depthwise = turned_depthwise(g, g.weight(layer.depthwise_kernel))
    y = convolved(g, x, depthwise, None, Window.of(layer), x.size(1))
    return g.Conv(y, turned(g, g.weight(layer.pointwise_kernel)), _bias(g, layer))


@ROWS.row(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
@_with_activation
@channels_first
def conv_transpose(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = turned(g, g.weight(layer.kernel))
    return transposed(g, x, kernel, _bias(g, layer), Window.of(layer), layer.output_padding)


def transposed(
    g: Emitter, x: Tensor, kernel: Tensor, bias: Tensor | None, window: Window, output_padding: Any
) -> Tensor:
    """The gradient of a convolution: TensorFlow pads as the forward one over the output would be.

    ``kernel``: (in, out, *space)."""
    size = [kernel.size(axis) for axis in range(2, kernel.rank)]
    extents = [
        _transposed_padding(window.padding, (kernel - 1) * dilation + 1, stride, extra)
        for kernel, dilation, stride, extra in zip(
            size, window.dilations, window.strides, output_padding or (None,) * len(size), strict=True
        )
    ]
    pads = onnx_pads([(begin, end) for begin, end, _ in extents])
    return g.ConvTranspose(
        x,
        kernel,
        bias,
        strides=unless(window.strides, 1),
        dilations=unless(window.dilations, 1),
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


def pooled(
    g: Emitter, op_type: str, x: Tensor, size: Sequence[int], strides: Sequence[int], padding: str
) -> Tensor:
    """Average pools leave the padding out of the mean, in Keras as in ONNX by default."""
    return g.op(
        op_type,
        x,
        kernel_shape=list(size),
        strides=unless(strides, 1),
        **_padding(x, padding, size, strides, [1] * len(size)),
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
def zero_padding(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    pairs = dict(zip(_space(layer, x.rank), _pairs(layer.padding), strict=True))

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        back = layout.inverse(place)
        return g.Pad(base, g.ints(*onnx_pads([pairs.get(back[axis], (0, 0)) for axis in range(base.rank)])))

    return g.along(write, x)


@ROWS.row(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
def cropping(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    axes, pairs = _space(layer, x.rank), _pairs(layer.cropping)
    ends = [-after or np.iinfo(np.int64).max for _, after in pairs]

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        starts = g.ints(*(before for before, _ in pairs))
        return g.Slice(base, starts, g.ints(*ends), g.ints(*(place[axis] for axis in axes)))

    return g.along(write, x)


_RESIZE: Mapping[str, Mapping[str, str]] = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "bilinear": {"mode": "linear"},
}


@ROWS.row(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)
def up_sampling(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    factors = layer.size if isinstance(layer.size, tuple | list) else (layer.size,)
    first, back = first_and_back(g, x, getattr(layer, "data_format", ""))
    scales = g.constant([1, 1, *factors], np.float32)
    return back(g.Resize(first, None, scales, **_interpolation(getattr(layer, "interpolation", "nearest"))))


def _interpolation(name: str) -> Mapping[str, str]:
    if name not in _RESIZE:
        raise CannotConvert(f"its interpolation '{name}' is not one that ONNX computes alike")
    return _RESIZE[name]


def resized(g: Emitter, x: Tensor, size: Sequence[int], interpolation: str) -> Tensor:
    """(batch, channels, *space) in another size. Keras gives floats for whatever it interpolates."""
    how = _interpolation(interpolation)
    if interpolation == "nearest":
        how = {**how, "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
    elif x.dtype.kind != "f":
        x = g.cast(x, np.float32)
    sizes = g.Concat(g.Shape(x, start=0, end=2), g.ints(*size), axis=0)
    y = g.Resize(x, None, None, sizes, **how)
    return replace(y, dims=(*(x.dims or (None, None))[:2], *size))
