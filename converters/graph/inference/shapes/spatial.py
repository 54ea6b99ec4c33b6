"""Sizes of convolutions, pools, resized images and frames of a signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, ints, ranked
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, ceil_div


def _space(
    dims: Sequence[Any],
    kernel: Sequence[Any],
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> tuple[Any, ...]:
    """The sizes after a window has gone over the space axes."""
    rank = len(dims)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads or [0] * 2 * rank
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(ceil_div(dim, stride) for dim, stride in zip(dims, strides, strict=True))
    if auto_pad == "VALID":
        pads = [0] * 2 * rank
    result = []
    for axis, (dim, size, stride, dilation) in enumerate(zip(dims, kernel, strides, dilations, strict=True)):
        room = dim + (pads[axis] + pads[axis + rank]) - ((size - 1) * dilation + 1)
        if not ceil_mode or stride == 1:
            result.append(room // stride + 1)
        elif isinstance(room, Size):
            result.append(None)
        else:
            positions = ceil_div(room, stride) + 1
            result.append(positions - 1 if (positions - 1) * stride >= dim + pads[axis] else positions)
    return tuple(result)


@SHAPES.row("Conv", "ConvInteger")
@ranked
def conv(x: Any, w: Fact, *_: Any, group: int = 1, kernel_shape: Any = None, **window: Any) -> Dims:
    if w.dims is None:
        return None
    return (x.dims[0], w.dims[0], *_space(x.dims[2:], kernel_shape or w.dims[2:], **window))


@SHAPES.row("QLinearConv")
@ranked
def qlinear_conv(x: Any, _s: Any, _z: Any, w: Fact, *_: Any, **attributes: Any) -> Dims:
    return conv(x, w, **attributes)  # type: ignore[no-any-return]


@SHAPES.row("ConvTranspose")
@ranked
def conv_transpose(
    x: Any,
    w: Fact,
    b: Any = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Any = None,
    group: int = 1,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> Dims:
    if w.dims is None:
        return None
    space = x.dims[2:]
    rank = len(space)
    kernel, extra = kernel_shape or w.dims[2:], output_padding or [0] * rank
    strides, dilations, pads = strides or [1] * rank, dilations or [1] * rank, pads or [0] * 2 * rank
    head = (x.dims[0], w.dims[1] * group)
    if output_shape:
        return (*head, *output_shape[-rank:])
    if auto_pad.startswith("SAME"):
        return (*head, *(dim * stride for dim, stride in zip(space, strides, strict=True)))
    if auto_pad == "VALID":
        pads = [0] * 2 * rank
    return (
        *head,
        *(
            strides[i] * (space[i] - 1)
            + extra[i]
            + ((kernel[i] - 1) * dilations[i] + 1)
            - pads[i]
            - pads[i + rank]
            for i in range(rank)
        ),
    )


@SHAPES.row("AveragePool", "LpPool")
@ranked
def pool(
    x: Any, *, kernel_shape: Sequence[int], count_include_pad: int = 0, p: int = 2, **window: Any
) -> Dims:
    return (*x.dims[:2], *_space(x.dims[2:], kernel_shape, **window))


@SHAPES.row("MaxPool")
@ranked
def max_pool(x: Any, *, kernel_shape: Sequence[int], storage_order: int = 0, **window: Any) -> list[Dims]:
    return [(*x.dims[:2], *_space(x.dims[2:], kernel_shape, **window))] * 2


@SHAPES.row("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
@ranked
def global_pool(x: Any, *, p: int = 2) -> Dims:
    return (*x.dims[:2], *([1] * (len(x.dims) - 2)))


@SHAPES.row("Resize")
@ranked
def resize(
    x: Any,
    roi: Any = None,
    scales: Fact | None = None,
    sizes: Fact | None = None,
    *,
    axes: Sequence[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    keep_aspect_ratio_policy: str = "stretch",
    **_: Any,
) -> Dims:
    rank = len(x.dims)
    positions = range(rank) if axes is None else [axis % rank for axis in axes]
    wanted, by = ints(sizes), None if scales is None else scales.constant
    dims: list[Any] = list(x.dims)
    for index, axis in enumerate(positions):
        if wanted:
            dims[axis] = wanted[index] if keep_aspect_ratio_policy == "stretch" else None
        elif by is not None and by.size and coordinate_transformation_mode != "tf_crop_and_resize":
            dims[axis] = scaled(dims[axis], float(by.reshape(-1)[index]))
        else:
            dims[axis] = None
    return tuple(dims)


def scaled(dim: Any, scale: float) -> Any:
    """floor(dim * scale), as ONNX's Resize has it; None where no expression says it exactly."""
    if not isinstance(dim, Size):
        return math.floor(dim * scale)
    if scale == int(scale):
        return dim * int(scale)
    part = 1 / scale
    return dim // int(part) if part == int(part) and math.log2(part).is_integer() else None


@SHAPES.row("STFT")
@ranked
def stft(
    x: Any, step: Fact, window: Fact | None = None, length: Fact | None = None, *, onesided: int = 1
) -> Dims:
    """(batch, frames, bins, 2); ONNX's inference forgets that one side is the default."""
    by, size = ints(step), ints(length) if length is not None else window.dims if window is not None else None
    if by is None or size is None or isinstance(by[0], Size):
        return (x.dims[0], None, None, 2)
    return (x.dims[0], (x.dims[1] - size[0]) // by[0] + 1, size[0] // 2 + 1 if onesided else size[0], 2)
