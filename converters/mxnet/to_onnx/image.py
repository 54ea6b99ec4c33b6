"""Rows that resize, crop and sample images: (batch, channels, height, width)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, cast, few, rows
from netferry.converters.mxnet.to_onnx.sizes import cut, flipped, shape_tensor, size_of
from netferry.converters.signature import Array

# ---- size --------------------------------------------------------------------------------------------


def _repeated(g: Emitter, x: Tensor, scale: int) -> Tensor:
    """Each pixel as a square of ``scale`` pixels."""
    if scale == 1:
        return x
    scales = g.constant([1, 1, scale, scale], np.float32)
    return g.Resize(
        x, None, scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )


@ROWS.row("UpSampling")
def up_sampling(g: Emitter, a: Attrs, x: Tensor, *others: Tensor) -> Tensor:
    """By pixel, or by a transposed convolution with the bilinear kernel that is its weight.

    By pixel, several inputs are all brought to the size of the first, and joined or added.
    """
    scale = a.integer("scale")
    kind = a.string("sample_type", among="nearest bilinear")
    mode = a.string("multi_input_mode", "concat", among="concat sum")
    a.ignore("num_filter")
    if kind == "nearest":
        if not others:
            return _repeated(g, x, scale)
        parts = [_repeated(g, each, _factor(x, each, scale)) for each in (x, *others)]
        return g.Concat(*parts, axis=1) if mode == "concat" else g.Sum(*parts)
    kernel, pad = 2 * scale - scale % 2, scale // 2
    return g.ConvTranspose(
        x,
        others[0],
        kernel_shape=[kernel, kernel],
        strides=[scale, scale],
        pads=[pad] * 4,
        group=x.size(1),
    )


def _factor(first: Tensor, other: Tensor, scale: int) -> int:
    """How often the pixels of another input are repeated to reach the size of the first one's result."""
    if other is first:
        return scale
    factors = {divmod(first.size(axis) * scale, other.size(axis)) for axis in (2, 3)}
    factor, rest = factors.pop()
    if rest or factors:
        raise CannotConvert("inputs whose sizes are no multiples of each other")
    return factor


_PARITIES = {"to_even_down": (0, -1), "to_even_up": (0, 1), "to_odd_down": (1, -1), "to_odd_up": (1, 1)}
"""What a size leaves when it is halved, and by what one that leaves something else is changed."""


@ROWS.row("_contrib_BilinearResize2D")
def bilinear_resize(g: Emitter, a: Attrs, x: Tensor, like: Tensor | None = None) -> Tensor:
    """To ``height`` and ``width``, by a factor, to sizes of the wanted parity, or to those of ``like``."""
    mode = a.string("mode", "size", among=" ".join(("size", "like", "odd_scale", *_PARITIES)))
    scales = a.maybe_number("scale_height"), a.maybe_number("scale_width")
    sizes = a.integer("height", 1), a.integer("width", 1)
    if like is None and mode == "like":
        raise CannotConvert("mode='like' without the input to be like")
    if mode in _PARITIES:
        parity, step = _PARITIES[mode]
        sizes = x.size(2) + step * (x.size(2) % 2 != parity), x.size(3) + step * (x.size(3) % 2 != parity)
    elif like is None and scales[0] is not None and scales[1] is not None:
        odd = [int(mode == "odd_scale" and x.size(axis) % 2) for axis in (2, 3)]
        sizes = int((x.size(2) - odd[0]) * scales[0]) + odd[0], int((x.size(3) - odd[1]) * scales[1]) + odd[1]
    elif mode == "odd_scale":
        raise CannotConvert("mode='odd_scale' without scale_height and scale_width")
    if like is None and min(sizes) < 1:
        raise CannotConvert(f"a size of {sizes}")
    target = g.ints(*sizes) if like is None else shape_tensor(g, like, [size_of(like, 2), size_of(like, 3)])
    corners: Literal["align_corners", "half_pixel"] = (
        "align_corners" if a.flag("align_corners", True) else "half_pixel"
    )
    if corners == "half_pixel" and like is None:
        for axis, size in zip((2, 3), sizes, strict=True):
            x = cut(g, x, [axis], [0], [1]) if size == 1 else x  # MXNet takes the first, ONNX the middle
    return g.Resize(x, None, None, target, mode="linear", axes=[2, 3], coordinate_transformation_mode=corners)


@ROWS.row("Crop")
def crop(g: Emitter, a: Attrs, x: Tensor, like: Tensor | None = None) -> Tensor:
    """To the height and width of ``like``, or to ``h_w``; from ``offset``, or from the middle."""
    offset, wanted = a.integers("offset", (0, 0)), a.integers("h_w", (0, 0))
    middle = a.flag("center_crop", False)
    sizes = wanted if like is None else tuple(like.dims[2:] if like.dims else ())
    if like is not None and not middle and not all(isinstance(size, int) for size in sizes):
        starts = g.ints(*offset)
        ends = g.Add(shape_tensor(g, like, [size_of(like, 2), size_of(like, 3)]), starts)
        return g.Slice(x, starts, ends, g.ints(2, 3))
    targets = [like.size(axis + 2) if like is not None else wanted[axis] for axis in (0, 1)]
    begins = [(x.size(axis + 2) - targets[axis]) // 2 if middle else offset[axis] for axis in (0, 1)]
    return cut(g, x, [2, 3], begins, [begin + size for begin, size in zip(begins, targets, strict=True)])


# ---- sampling at positions ------------------------------------------------------------------------------


def _affine_grid(g: Emitter, loc: Tensor, height: int, width: int) -> Tensor:
    """(batch, 2, height, width): where each pixel comes from, x before y, from -1 to 1.

    loc: (batch, 6), the matrix that a position (x, y, 1) is multiplied with.
    """
    few(height * width * 3)
    if height < 2 or width < 2:
        raise CannotConvert(
            f"target_shape={height, width}: a grid of one place, which MXNet divides by zero for"
        )
    across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    positions = np.stack([across, down, np.ones_like(across)]).reshape(3, -1)
    moved = g.MatMul(g.Reshape(loc, g.ints(-1, 2, 3)), g.constant(positions, loc.dtype))
    return g.Reshape(moved, g.ints(0, 2, height, width))


def _sampled(g: Emitter, x: Tensor, grid: Tensor) -> Tensor:
    """x at the positions of a grid (batch, 2, height, width), zero outside."""
    positions = g.transpose(grid, (0, 2, 3, 1))
    return g.GridSample(x, positions, mode="linear", padding_mode="zeros", align_corners=1)


@ROWS.row("GridGenerator")
def grid_generator(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Of an affine matrix, or of how far each pixel moves."""
    if a.string("transform_type", among="affine warp") == "affine":
        return _affine_grid(g, x, *a.integers("target_shape"))
    a.ignore("target_shape")
    height, width = x.size(2), x.size(3)
    few(2 * height * width)
    own = np.stack(np.meshgrid(np.arange(width), np.arange(height)))[None]
    halves = np.reshape([(width - 1) / 2, (height - 1) / 2], (1, 2, 1, 1))
    moved = g.Div(g.Add(x, g.constant(own, x.dtype)), g.constant(halves, x.dtype))
    return g.Sub(moved, g.scalar(1, x))


@ROWS.row("SpatialTransformer")
def spatial_transformer(g: Emitter, a: Attrs, x: Tensor, loc: Tensor) -> Tensor:
    a.string("transform_type", among="affine")
    a.string("sampler_type", among="bilinear")
    height, width = a.integers("target_shape", (0, 0))
    return _sampled(g, x, _affine_grid(g, loc, height or x.size(2), width or x.size(3)))


# ---- windows as columns ------------------------------------------------------------------------------


class _Patches:
    """The windows of ``im2col``: a kernel for each of their positions, which holds a one and zeros."""

    def __init__(self, a: Attrs) -> None:
        self.kernel = a.integers("kernel")
        count = len(self.kernel)
        self.strides = list(a.integers("stride", ()) or (1,) * count)
        self.dilations = list(a.integers("dilate", ()) or (1,) * count)
        self.pad = list(a.integers("pad", ()) or (0,) * count)

    def common(self) -> dict[str, list[int]]:
        return {"kernel_shape": list(self.kernel), "strides": self.strides, "dilations": self.dilations}

    def weights(self, channels: int) -> Array:
        """(channels * positions, 1, *kernel)."""
        positions = int(np.prod(self.kernel))
        few(channels * positions * positions)
        return np.tile(
            np.eye(positions).reshape(positions, 1, *self.kernel), (channels, *[1] * (1 + len(self.kernel)))
        )

    def counts(self, sizes: Sequence[int]) -> list[int]:
        """How many windows lie along each axis."""
        return [
            (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                sizes, self.pad, self.dilations, self.kernel, self.strides, strict=True
            )
        ]


@ROWS.row("im2col")
def im2col(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(batch, channels * positions of the kernel, windows)."""
    patches = _Patches(a)
    kernels = g.constant(patches.weights(x.size(1)), x.dtype)
    pads = padding.symmetric(patches.pad)
    y = g.Conv(x, kernels, group=x.size(1), pads=pads, **patches.common())
    return g.Reshape(y, g.ints(0, x.size(1) * int(np.prod(patches.kernel)), -1))


@ROWS.row("col2im")
def col2im(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The windows back in their positions, added up where they overlap; x as ``im2col`` makes it."""
    patches, sizes = _Patches(a), a.integers("output_size")
    channels = x.size(1) // int(np.prod(patches.kernel))
    counts = patches.counts(sizes)
    kernels = g.constant(patches.weights(channels), x.dtype)
    reached = [
        (count - 1) * stride + dilation * (kernel - 1) + 1 - 2 * pad
        for count, stride, dilation, kernel, pad in zip(
            counts, patches.strides, patches.dilations, patches.kernel, patches.pad, strict=True
        )
    ]
    return g.ConvTranspose(
        g.Reshape(x, g.ints(0, x.size(1), *counts)),
        kernels,
        group=channels,
        pads=padding.symmetric(patches.pad),
        output_padding=[size - end for size, end in zip(sizes, reached, strict=True)],
        **patches.common(),
    )


# ---- how an image becomes an input ------------------------------------------------------------------


@ROWS.row("_image_to_tensor")
def to_tensor(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(..., height, width, channels) from 0 to 255 as (..., channels, height, width) from 0 to 1."""
    order = [*range(x.rank - 3), x.rank - 1, x.rank - 3, x.rank - 2]
    y = x if x.dtype == FLOAT32 else g.Cast(x, to=1)
    return g.transpose(g.Div(y, g.constant(255, np.float32)), order)


@ROWS.row("_image_normalize")
def normalize(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(x - mean) / std of each channel; x: (..., channels, height, width)."""

    def each(name: str, default: float) -> Tensor:
        values = a.numbers(name, (default,))[: x.size(-3)]
        return g.constant(np.reshape(values, (-1, 1, 1)), x.dtype)

    return g.Div(g.Sub(x, each("mean", 0.0)), each("std", 1.0))


def _flipped(axis: int) -> Callable[..., Tensor]:
    return lambda g, _, x: flipped(g, x, [x.rank + axis])


ROWS.row("_image_flip_left_right")(_flipped(-2))
ROWS.row("_image_flip_top_bottom")(_flipped(-3))


@ROWS.row("_image_crop")
def crop_window(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (..., height, width, channels)."""
    left, top = a.integer("x"), a.integer("y")
    ends = [top + a.integer("height"), left + a.integer("width")]
    return cut(g, x, [x.rank - 3, x.rank - 2], [top, left], ends)


# ---- two images ------------------------------------------------------------------------------------

_MOST_SHIFTS = 1024


@ROWS.row("Correlation")
def correlation(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """Of each position, how much its window in x looks like those in y around it: (batch, shifts, rows, columns).

    A shift is a product (or a distance) of x and of y moved, its mean over channels and kernel.
    """
    size, reach = a.integer("kernel_size", 1), a.integer("max_displacement", 1)
    first, second = a.integer("stride1", 1), a.integer("stride2", 1)
    pad, multiply = a.integer("pad_size", 0), a.flag("is_multiply", True)
    if size % 2 == 0:
        raise CannotConvert(f"kernel_size={size} is not odd")
    if reach < 0 or min(first, second) < 1:
        raise CannotConvert(
            f"max_displacement={reach}, stride1={first}, stride2={second}: one is below its least"
        )
    steps = range(-(reach // second), reach // second + 1)
    if len(steps) ** 2 > _MOST_SHIFTS:
        raise CannotConvert(f"{len(steps) ** 2} shifts")
    pads = g.ints(0, 0, pad, pad, 0, 0, pad, pad)
    x, y = g.Pad(x, pads, g.scalar(0, x)), g.Pad(y, pads, g.scalar(0, y))
    border = reach + size // 2
    height, width = x.size(2), x.size(3)
    counts = [-(-(extent - 2 * border) // first) for extent in (height, width)]
    if size < 1:  # a window of nothing: its mean over the channels is of no product
        shape = shape_tensor(g, x, [size_of(x, 0), len(steps) ** 2, *counts])
        return g.Expand(g.scalar(0, x), shape)
    extents = [(count - 1) * first + size for count in counts]

    def window(z: Tensor, down: int, across: int) -> Tensor:
        begins = [reach + down * second, reach + across * second]
        return cut(g, z, [2, 3], begins, [b + e for b, e in zip(begins, extents, strict=True)])

    own, shifts = window(x, 0, 0), []
    for down in steps:
        for across in steps:
            other = window(y, down, across)
            alike = g.Mul(own, other) if multiply else g.Abs(g.Sub(own, other))
            shifts.append(g.ReduceMean(alike, g.ints(1), keepdims=1))
    joined = g.Concat(*shifts, axis=1)
    if size == first == 1:
        return joined
    return g.AveragePool(joined, kernel_shape=[size, size], strides=[first, first])


rows(
    {
        "depth_to_space": lambda g, a, x: g.DepthToSpace(x, blocksize=a.integer("block_size")),
        "space_to_depth": lambda g, a, x: g.SpaceToDepth(x, blocksize=a.integer("block_size")),
        "BilinearSampler": lambda g, _, x, grid: _sampled(g, x, grid),
    }
)


_LIGHT = np.array(
    [[55.46 * -0.5675, 4.794 * 0.7192, 1.148 * 0.4009], [55.46 * -0.5808, 4.794 * -0.0045, 1.148 * -0.8140],
     [55.46 * -0.5836, 4.794 * -0.6948, 1.148 * 0.4203]]
)  # fmt: skip
"""How red, green and blue vary together in photographs: Krizhevsky et al. 2012, section 4.1, as MXNet has it."""


@ROWS.row("_image_adjust_lighting")
def adjust_lighting(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (..., height, width, 3)."""
    added = (_LIGHT @ np.array(a.numbers("alpha"))).astype(np.float32)
    y = g.Add(cast(g, x, FLOAT32), g.constant(added, FLOAT32))
    return y if x.dtype == FLOAT32 else cast(g, g.Clip(y, g.scalar(0, y), g.scalar(255, y)), x.dtype)


@ROWS.row("_image_resize")
def image_resize(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (..., height, width, channels); ``size`` is (width, height), or that of both or of the shorter side."""
    sizes, kind = a.integers("size"), a.integer("interp", 1)
    height, width = x.size(-3), x.size(-2)
    if len(sizes) == 1 and a.flag("keep_ratio", False):
        short = sizes[0]
        sizes = (short, height * short // width) if width < height else (width * short // height, short)
    elif len(sizes) == 1:
        sizes = (sizes[0], sizes[0])
    modes = {0: ("nearest", "asymmetric"), 1: ("linear", "half_pixel"), 2: ("cubic", "half_pixel")}
    if kind not in modes or x.dtype != FLOAT32:
        raise CannotConvert(f"interp={kind} of {x.dtype.name}", "Supported: 0, 1 and 2 of float32")
    mode, coordinates = modes[kind]
    more = {"nearest_mode": "floor"} if kind == 0 else {"cubic_coeff_a": -0.75} if kind == 2 else {}
    target = g.ints(sizes[1], sizes[0])
    return g.op(
        "Resize", x, None, None, target, mode=mode, axes=[x.rank - 3, x.rank - 2],
        coordinate_transformation_mode=coordinates, **more,
    )  # fmt: skip
