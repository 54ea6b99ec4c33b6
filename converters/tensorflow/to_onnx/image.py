"""Layers and operations on images: resizing, patches, colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import image_ops as image, keras, nn_ops as nn
from netferry.converters.tensorflow.to_onnx.convolution import (
    Window,
    convolved,
    first_and_back,
    format_of,
    kernel_channels_first,
    numbers_of,
)
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, refuse_unless

layers = keras.layers


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


@ROWS.row(nn.DepthToSpace, nn.SpaceToDepth)
def depth_and_space(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """TensorFlow has the place in the block before the channel, which is ONNX' DCR."""
    with_first, back = first_and_back(g, x, format_of(op))
    if isinstance(op, nn.DepthToSpace):
        return back(g.DepthToSpace(with_first, blocksize=op.block_size))
    return back(g.SpaceToDepth(with_first, blocksize=op.block_size))


@ROWS.row(image.Resize)
def resize(g: Emitter, op: Any, images: Tensor) -> Tensor:
    refuse_unless(
        not op.antialias or op.interpolation == "nearest", "it smooths while it shrinks (antialias)"
    )
    single, size = images.rank == 3, [int(size) for size in op.size]
    x = g.Unsqueeze(images, g.ints(0)) if single else images
    with_first, back = first_and_back(g, x, format_of(op))
    if op.crop_to_aspect_ratio or op.pad_to_aspect_ratio:
        with_first = _in_proportion(g, op, with_first, size)
    y = back(resized(g, with_first, size, op.interpolation))
    return g.Squeeze(y, g.ints(0)) if single else y


def _in_proportion(g: Emitter, op: Any, x: Tensor, size: Sequence[int]) -> Tensor:
    """(batch, channels, height, width) cut or padded to the proportions of ``size``, with Keras' rounding in float32."""
    height, width = x.size(2), x.size(3)
    wanted = [
        int(np.float32(other * own_size) / np.float32(other_size))
        for other, own_size, other_size in ((width, *size), (height, *reversed(size)))
    ]
    if op.crop_to_aspect_ratio:
        kept = [max(min(own, most), 1) for own, most in zip((height, width), wanted, strict=True)]
        starts = [(own - each) // 2 for own, each in zip((height, width), kept, strict=True)]
        ends = [start + each for start, each in zip(starts, kept, strict=True)]
        return g.Slice(x, g.ints(*starts), g.ints(*ends), g.ints(2, 3))
    around = [max(each - own, 0) // 2 for own, each in zip((height, width), wanted, strict=True)]
    pads = g.ints(0, 0, *around, 0, 0, *around)
    return g.Pad(x, pads, g.constant(op.fill_value, x.dtype))


@ROWS.row(image.RGBToGrayscale)
def rgb_to_grayscale(g: Emitter, op: Any, images: Tensor) -> Tensor:
    axis = images.rank - 1 if format_of(op) == "channels_last" else images.rank - 3
    shape = [1] * images.rank
    shape[axis] = 3
    weights = np.reshape(np.asarray([0.2989, 0.5870, 0.1140], np.float32), shape)
    x = g.cast(images, np.float32) if images.dtype.kind != "f" else images
    y = g.ReduceSum(g.Mul(x, g.constant(weights.astype(x.dtype))), g.ints(axis), keepdims=1)
    return g.cast(y, images.dtype)


@ROWS.row(image.ExtractPatches)
def extract_patches(g: Emitter, op: Any, images: Tensor) -> Tensor:
    """A convolution with kernels that each pick one element of the patch."""
    refuse_unless(images.rank == 4, "it is not of a batch of images")
    height, width = numbers_of(op.size, 4)
    with_first, back = first_and_back(g, images, format_of(op))
    channels = with_first.size(1)
    count = height * width * channels
    kernel = np.eye(count, dtype=images.dtype).reshape(height, width, channels, count)
    strides = [height, width] if not op.strides else numbers_of(op.strides, 4)
    window = Window(op.padding, strides, numbers_of(op.dilation_rate, 4))
    return back(convolved(g, with_first, kernel_channels_first(g, g.constant(kernel)), None, window, 1))
