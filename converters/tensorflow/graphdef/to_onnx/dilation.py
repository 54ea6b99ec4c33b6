"""Convolutions as TensorFlow runs them for want of a kernel, found again: dilated ones in blocks, those over one axis over two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import onnx_pads
from netferry.converters.tensorflow.graphdef.to_onnx.convolution import (
    depthwise_weight,
    padding_of,
    plain_weight,
    unless,
)
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Attrs, Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.patterns import attributes_of, read_by

_CONVOLUTIONS = {"Conv2D": plain_weight, "DepthwiseConv2dNative": depthwise_weight}


def dilated(g: Emitter, x: Tensor, block: Sequence[int], crops: Tensor) -> Tensor | None:
    """``x`` is what lies in blocks. What was padded to fill them is cropped again; the rest is the convolution's own."""
    inside, axis = x, None
    squeezed = read_by(g, x, "Squeeze")
    if squeezed is not None:
        inside, axis = squeezed[0], _axis(attributes_of(g, x), squeezed[0].rank)
    operator = next((name for name in _CONVOLUTIONS if read_by(g, inside, name) is not None), None)
    if operator is None:
        return None
    a = attributes_of(g, inside)
    spread, kernel = g.made_by[inside.value][2]
    if axis is not None:
        expanded = read_by(g, spread, "ExpandDims")
        spread = spread if expanded is None else expanded[0]
    source = read_by(g, spread, "SpaceToBatchND")
    pads = None if source is None else _pads(g, block, source, crops)
    if source is None or pads is None or not _is_plain(a):
        return None
    return _convolved(g, operator, source[0], kernel, list(block), pads, axis)


def _axis(a: Attrs, rank: int) -> int | None:
    axes = a.integers("squeeze_dims")
    return axes[0] % rank if len(axes) == 1 else None


def _is_plain(a: Attrs) -> bool:
    """Without padding, strides and dilation of its own, channels last."""
    flat = [*a.integers("strides"), *a.integers("dilations", (1,))]
    return a.text("padding") == "VALID" and set(flat) == {1} and a.text("data_format", "NHWC") == "NHWC"


def _pads(
    g: Emitter, block: Sequence[int], source: tuple[Any, ...], crops: Tensor
) -> list[tuple[int, int]] | None:
    """What the convolution itself pads on each axis."""
    padded, cut = g.content(source[2]), g.content(crops)
    if padded is None or cut is None or g.numbers(source[1], "block") != list(block):
        return None
    pairs = [
        tuple(low - less for low, less in zip(*each, strict=True)) for each in zip(padded, cut, strict=True)
    ]
    flat = [each for pair in pairs for each in pair]
    if any(not hasattr(each, "__index__") or _is_size(each) or each < 0 for each in flat):
        return None
    return [(int(low), int(high)) for low, high in pairs]


def _is_size(value: Any) -> bool:
    try:
        int(value)
    except TypeError:
        return True
    return False


def _convolved(
    g: Emitter,
    operator: str,
    x: Tensor,
    kernel: Tensor,
    block: list[int],
    pads: list[tuple[int, int]],
    axis: int | None,
) -> Tensor | None:
    """``axis`` is one of size 1 that was put in so that one axis of space makes two: it is left out again."""
    kernel_of_space = _without(g, kernel, axis)
    if kernel_of_space is None:
        return None
    first = g.transpose(x, layout.channels_first(x.rank))
    weight, groups = _CONVOLUTIONS[operator](g, kernel_of_space, first)
    flat = onnx_pads(pads)
    y = g.convolved(
        "Conv",
        first,
        weight,
        kernel_shape=[kernel_of_space.size(each) for each in range(x.rank - 2)],
        group=groups if groups > 1 else None,
        dilations=unless(block, 1),
        pads=flat if any(flat) else None,
    )
    return g.transpose(y, layout.channels_last(x.rank))


def _without(g: Emitter, kernel: Tensor, axis: int | None) -> Tensor | None:
    """The kernel without the axis of space that ``axis`` is among all of the input's."""
    if axis is None:
        return kernel
    if kernel.array is None or kernel.array.shape[axis - 1] != 1:
        return None
    return g.weight(np.squeeze(kernel.array, axis - 1), g.title(kernel))


def with_one_axis(g: Emitter, x: Tensor, axis: int) -> Tensor | None:
    """A convolution over one axis of space, which TensorFlow runs over two: ``x`` before the second one is dropped."""
    operator = next((name for name in _CONVOLUTIONS if read_by(g, x, name) is not None), None)
    if operator is None:
        return None
    a, (spread, kernel) = attributes_of(g, x), g.made_by[x.value][2]
    source = read_by(g, spread, "ExpandDims")
    strides, dilations = a.integers("strides"), a.integers("dilations", (1,) * 4)
    fits = (
        source is not None
        and a.text("data_format", "NHWC") == "NHWC"
        and a.text("padding") in ("SAME", "VALID")
    )
    if source is None or not fits or axis not in (1, 2) or source[0].rank != 3:
        return None
    narrow = _without(g, kernel, axis)
    if narrow is None:
        return None
    place = 3 - axis
    first = g.transpose(source[0], layout.channels_first(3))
    weight, groups = _CONVOLUTIONS[operator](g, narrow, first)
    window = [narrow.size(0)], [strides[place]], [dilations[place]]
    y = g.convolved(
        "Conv",
        first,
        weight,
        kernel_shape=window[0],
        group=groups if groups > 1 else None,
        strides=unless(window[1], 1),
        dilations=unless(window[2], 1),
        **padding_of(g, a, first, *window, False),
    )
    return g.transpose(y, layout.channels_last(3))
