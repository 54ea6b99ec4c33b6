"""Convolutions of (batch, *space, channels).

Rows are written for (batch, channels, *space); ``channels_first`` transposes Keras' layout, lazily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import attributes_of_same, onnx_pads
from netferry.converters.tensorflow.runtime import keras, nn_ops as nn
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
    def wrapped_row(g: Emitter, layer: Any, x: Tensor) -> Tensor:
        return activate(g, layer.activation, one(row(g, layer, x)))

    return wrapped_row


@dataclass(frozen=True)
class Window:
    """How a kernel goes over space: TensorFlow's name of the padding, and a number for each axis."""

    padding: str
    strides: Sequence[int]
    dilations: Sequence[int]

    @classmethod
    def of(cls, layer: Any) -> Window:
        return cls(layer.padding, layer.strides, layer.dilation_rate)


def first_and_back(g: Emitter, x: Tensor, data_format: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """``x`` as (batch, channels, *space), and how to go back to the layout that it has."""
    if data_format == "channels_first":
        return x, lambda y: y
    return g.transpose(x, layout.channels_first(x.rank)), lambda y: g.transpose(
        y, layout.channels_last(y.rank)
    )


# ---- layers ---------------------------------------------------------------------------------------


def kernel_channels_first(g: Emitter, kernel: Tensor) -> Tensor:
    """(*space, in, out) -> (out, in, *space)."""
    space = kernel.rank - 2
    return g.transpose(kernel, (space + 1, space, *range(space)))


def depthwise_kernel_channels_first(g: Emitter, kernel: Tensor) -> Tensor:
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
        **padding_of(x, window.padding, size, window.strides, window.dilations),
    )


def padding_of(
    x: Tensor, mode: str, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> dict[str, Any]:
    """``pads`` where they can be counted now, ``auto_pad`` where they depend on a size that is free."""
    if mode == "valid":
        return {}
    if mode == "causal":
        return {"pads": onnx_pads([((kernel[0] - 1) * dilations[0], 0)])}
    return attributes_of_same((x.dims or ())[2:], kernel, strides, dilations)


@ROWS.row(layers.Conv1D, layers.Conv2D, layers.Conv3D)
@_with_activation
@channels_first
def conv(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = kernel_channels_first(g, g.weight(layer.kernel))
    return convolved(g, x, kernel, _bias(g, layer), Window.of(layer), layer.groups)


@ROWS.row(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
@_with_activation
@channels_first
def depthwise_conv(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = depthwise_kernel_channels_first(g, g.weight(layer.kernel))
    return convolved(g, x, kernel, _bias(g, layer), Window.of(layer), x.size(1))


@ROWS.row(layers.SeparableConv1D, layers.SeparableConv2D)
@_with_activation
@channels_first
def separable_conv(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    depthwise = depthwise_kernel_channels_first(g, g.weight(layer.depthwise_kernel))
    y = convolved(g, x, depthwise, None, Window.of(layer), x.size(1))
    return g.Conv(y, kernel_channels_first(g, g.weight(layer.pointwise_kernel)), _bias(g, layer))


@ROWS.row(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
@_with_activation
@channels_first
def conv_transpose(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = kernel_channels_first(g, g.weight(layer.kernel))
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


# ---- operations of keras.ops ----------------------------------------------------------------------


def format_of(op: Any) -> str:
    return str(op.data_format or keras.config.image_data_format())


def numbers_of(setting: Any, rank: int) -> list[int]:
    """A setting of each axis of space, given once for all or each."""
    return [setting] * (rank - 2) if isinstance(setting, int) else [int(size) for size in setting]


def window_of(op: Any, rank: int) -> Window:
    return Window(op.padding, numbers_of(op.strides, rank), numbers_of(op.dilation_rate, rank))


@ROWS.row(nn.Conv)
def conv_operation(g: Emitter, op: Any, inputs: Tensor, kernel: Any) -> Tensor:
    x, weight = g.promoted(inputs, kernel)
    with_first, back = first_and_back(g, x, format_of(op))
    groups = with_first.size(1) // weight.size(weight.rank - 2)
    return back(
        convolved(g, with_first, kernel_channels_first(g, weight), None, window_of(op, x.rank), groups)
    )


@ROWS.row(nn.DepthwiseConv)
def depthwise_conv_operation(g: Emitter, op: Any, inputs: Tensor, kernel: Any) -> Tensor:
    x, weight = g.promoted(inputs, kernel)
    with_first, back = first_and_back(g, x, format_of(op))
    kernel = depthwise_kernel_channels_first(g, weight)
    return back(convolved(g, with_first, kernel, None, window_of(op, x.rank), with_first.size(1)))


@ROWS.row(nn.SeparableConv)
def separable_conv_operation(
    g: Emitter, op: Any, inputs: Tensor, depthwise_kernel: Any, pointwise_kernel: Any
) -> Tensor:
    x, depthwise, pointwise = g.promoted(inputs, depthwise_kernel, pointwise_kernel)
    with_first, back = first_and_back(g, x, format_of(op))
    kernel = depthwise_kernel_channels_first(g, depthwise)
    y = convolved(g, with_first, kernel, None, window_of(op, x.rank), with_first.size(1))
    return back(g.Conv(y, kernel_channels_first(g, pointwise)))


@ROWS.row(nn.ConvTranspose)
def conv_transpose_operation(g: Emitter, op: Any, inputs: Tensor, kernel: Any) -> Tensor:
    x, weight = g.promoted(inputs, kernel)
    with_first, back = first_and_back(g, x, format_of(op))
    extra = None if op.output_padding is None else numbers_of(op.output_padding, x.rank)
    return back(
        transposed(g, with_first, kernel_channels_first(g, weight), None, window_of(op, x.rank), extra)
    )
