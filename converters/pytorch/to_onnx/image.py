"""The table of torch functions: resizing and sampling images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import sympy
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.live import numpy_dtype
from netferry.converters.pytorch.to_onnx.convolution import batched
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.pooling import adaptive_pool
from netferry.converters.pytorch.to_onnx.table import INT64, row
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size
from netferry.converters.pytorch.to_onnx.tracer.windows import each

_LINEAR = ("linear", "bilinear", "trilinear")


@row("interpolate", "upsample")
def interpolate(
    e: Emitter,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """With a scale PyTorch reads the input by that scale, with a size or aligned corners by the sizes."""
    axes = input.rank - 2
    if mode == "area":
        found = adaptive_pool("AveragePool", axes, e, input, list(e.out.dims[2:]))
        assert isinstance(found, Tensor)
        return found
    by = None if size is not None or recompute_scale_factor else each(scale_factor, axes)
    if mode in _NEAREST and not all(
        _as_onnx_picks(n, out, None if by is None else by[i], _NEAREST[mode], plane=axes > 1)
        for i, (n, out) in enumerate(zip(e.sizes_of(input)[2:], e.out.dims[2:], strict=True))
    ):
        return _picked(e, input, by, _NEAREST[mode])
    kind: dict[str, Any] = _resize_kind(mode, bool(align_corners))
    if antialias:
        kind |= {"antialias": 1, "exclude_outside": 1}
        kind |= {"cubic_coeff_a": -0.5} if mode == "bicubic" else {}
    if size is None and not recompute_scale_factor and not align_corners:
        scales = e.g.constant([1.0, 1.0, *map(float, each(scale_factor, axes))], np.float32)
        return e.g.Resize(input, None, scales, **kind)
    sizes = e.shape([*e.sizes_of(input)[:2], *e.out.dims[2:]])
    return e.g.Resize(input, None, None, sizes, **kind)


_NEAREST = {"nearest": 0.0, "nearest-exact": 0.5}
"""Where in an element its position is looked up."""

_FAR = 1 << 14


def _as_onnx_picks(n: Size, out: Size, by: float | None, shift: float, *, plane: bool) -> bool:
    """Whether ONNX, which divides by the scale, picks the very elements that PyTorch does, which multiplies by one over it.

    Of planes and volumes that come out as large or twice as large PyTorch takes the element or the half, whatever the scale;
    onnxruntime copies whatever comes out as large.
    """
    if by is None and not (isinstance(n, int) and isinstance(out, int)):
        share: Any = sympy.sympify(out) / n
        by = float(share) if share.is_Integer else None
        if by is None:
            return False
    odd = by is not None and not float(by).is_integer()
    if odd and not (isinstance(n, int) and out != n and (shift or not plane or out != 2 * n)):
        return False
    line = np.arange(out if isinstance(out, int) else _FAR, dtype=np.float32)
    if by is None:
        assert isinstance(n, int)
        scale, step = np.float32(out) / np.float32(n), np.float32(n) / np.float32(out)
    else:
        scale, step = np.float32(by), np.float32(1 / by)
    half = np.float32(shift)
    return np.array_equal(np.floor((line + half) / scale), np.floor((line + half) * step))


def _picked(e: Emitter, x: Tensor, by: Sequence[float] | None, shift: float) -> Tensor:
    """Element by element, each axis by the positions that PyTorch computes."""
    for axis in range(2, x.rank):
        n, out = e.size_of(x, axis), e.out.dims[axis]
        scale = None if by is None else by[axis - 2]
        if n == out and (scale in (None, 1) or (x.rank > 3 and not shift)):
            continue
        places = _places(e, n, out, scale, shift, plane=x.rank > 3)
        sizes = [*e.sizes_of(x)[:axis], out, *e.sizes_of(x)[axis + 1 :]]
        x = e.known(e.g.Gather(x, places, axis=axis), sizes)
    return x


def _places(e: Emitter, n: Size, out: Size, by: float | None, shift: float, *, plane: bool) -> Tensor:
    """The floor of each position times one over the scale, in float32."""
    float32 = np.dtype(np.float32)
    size, count = (e.cast(e.scalar_size(one), INT64) for one in (n, out))
    line = e.g.Range(e.tensor(0, INT64), count, e.tensor(1, INT64))
    position = e.cast(line, float32)
    position = e.g.Add(position, e.tensor(shift, float32)) if shift else position
    if by is None:
        step = e.g.Div(e.cast(size, float32), e.cast(count, float32))
    else:
        step = e.g.constant(np.float32(1 / by))
    last = e.g.Sub(size, e.tensor(1, INT64))
    places = e.g.Min(e.cast(e.g.Floor(e.g.Mul(position, step)), INT64), last)
    if by is None or shift or not plane:
        return places
    two = e.tensor(2, INT64)
    places = e.g.Where(e.g.Equal(count, e.g.Mul(size, two)), e.g.Div(line, two), places)
    return e.g.Where(e.g.Equal(count, size), line, places)


def _resize_kind(mode: str, align_corners: bool) -> dict[str, Any]:
    if mode == "nearest":
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    corners = "align_corners" if align_corners else "half_pixel"
    if mode == "nearest-exact":
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    if mode in _LINEAR:
        return {"mode": "linear", "coordinate_transformation_mode": corners}
    if mode == "bicubic":
        return {"mode": "cubic", "coordinate_transformation_mode": corners, "cubic_coeff_a": -0.75}
    raise CannotConvert(f"resizing by '{mode}'")


_SAMPLING = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}


@row(F.grid_sample)
def grid_sample(
    e: Emitter,
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The grid's coordinates go from -1 to 1 in both; PyTorch's bicubic and ONNX's cubic have the same -0.75."""
    return e.g.GridSample(
        input, grid, mode=_SAMPLING[mode], padding_mode=padding_mode, align_corners=int(bool(align_corners))
    )


@row("pixel_shuffle")
def pixel_shuffle(e: Emitter, input: Tensor, upscale_factor: int) -> Tensor:
    return batched(e, input, 2, lambda x: e.g.DepthToSpace(x, blocksize=upscale_factor, mode="CRD"))


@row("pixel_unshuffle")
def pixel_unshuffle(e: Emitter, input: Tensor, downscale_factor: int) -> Tensor:
    """(..., c, h r, w r) -> (..., c r r, h, w): the positions in a block vary slowest behind the channels."""
    *front, c, _, _ = e.sizes_of(input)
    r, n = downscale_factor, len(front)
    split = e.reshape(input, [*front, c, e.out.dims[-2], r, e.out.dims[-1], r])
    order = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return e.reshape(e.g.transpose(split, order), e.out.dims)


# ---- regions and boxes of torchvision ---------------------------------------------------------------


def _corners(e: Emitter, rois: Tensor) -> tuple[Tensor, Tensor]:
    """(regions, 5) as the images that they lie in and their corners."""
    batch = e.g.Squeeze(e.g.Slice(rois, e.g.ints(0), e.g.ints(1), e.g.ints(1)), e.g.ints(1))
    corners = e.g.Slice(rois, e.g.ints(1), e.g.ints(5), e.g.ints(1))
    return e.cast(batch, INT64), corners


@row("torchvision::roi_align")
def roi_align(
    e: Emitter, input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int,
    sampling_ratio: int = -1, aligned: bool = False,
) -> Tensor:  # fmt: skip
    batch, corners = _corners(e, rois)
    if isinstance(spatial_scale, sympy.Expr):  # found out of two sizes
        corners, spatial_scale = e.g.Mul(corners, e.tensor(spatial_scale, e.dtype)), 1.0
    where = "half_pixel" if aligned else "output_half_pixel"
    return e.g.RoiAlign(
        input, corners, batch, output_height=pooled_height, output_width=pooled_width, mode="avg",
        sampling_ratio=max(sampling_ratio, 0), spatial_scale=float(spatial_scale), coordinate_transformation_mode=where,
    )  # fmt: skip


@row("torchvision::roi_pool")
def roi_pool(
    e: Emitter, input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    """The largest element of each bin; where it lies is only told to gradients."""
    found = e.g.MaxRoiPool(
        input, rois, pooled_shape=[pooled_height, pooled_width], spatial_scale=float(spatial_scale)
    )
    return found, _for_gradients(e)


@row("torchvision::ps_roi_align")
def ps_roi_align(
    e: Emitter, input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int,
    sampling_ratio: int = -1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Bin (i, j) of a region looks at the channels of its own place: (regions, channels, i, j)."""
    sizes = pooled_height, pooled_width
    every = roi_align(e, input, rois, spatial_scale, *sizes, sampling_ratio, aligned=True)
    regions, channels, *_ = e.out.dims
    apart = e.reshape(every, [regions, channels, *sizes, *sizes])
    own = np.einsum("ik,jl->ijkl", np.eye(pooled_height), np.eye(pooled_width)).astype(e.dtype)
    return e.g.ReduceSum(e.g.Mul(apart, e.g.constant(own)), e.g.ints(4, 5), keepdims=0), _for_gradients(e)


@row("torchvision::ps_roi_pool")
def ps_roi_pool(
    e: Emitter, input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    """The mean of each bin of whole elements, of the channels of its own place; 0 where it is empty."""
    batch, corners = _corners(e, rois)
    rounded = _away_from_zero(e, e.g.Mul(corners, e.tensor(spatial_scale, e.dtype)))
    regions, channels, *_ = e.out.dims
    rows, lines = (
        _bins(e, rounded, axis, count, e.size_of(input, 3 - axis))
        for axis, count in ((1, pooled_height), (0, pooled_width))
    )
    planes = e.reshape(
        e.g.Gather(input, batch, axis=0),
        [regions, channels, pooled_height, pooled_width, *e.sizes_of(input)[2:]],
    )
    # (regions, 1, i, 1, 1, height) x (regions, channels, i, j, height, width) x (regions, 1, 1, j, width, 1)
    across = e.g.MatMul(e.g.Unsqueeze(rows, e.g.ints(1, 3, 4)), planes)
    total = e.g.MatMul(across, e.g.Unsqueeze(lines, e.g.ints(1, 2, 5)))
    area = e.g.Mul(
        e.g.ReduceSum(e.g.Unsqueeze(rows, e.g.ints(1, 3)), e.g.ints(4), keepdims=0),
        e.g.ReduceSum(e.g.Unsqueeze(lines, e.g.ints(1, 2)), e.g.ints(4), keepdims=0),
    )
    one = e.tensor(1, e.dtype)
    return e.g.Div(e.g.Squeeze(total, e.g.ints(4, 5)), e.g.Max(area, one)), _for_gradients(e)


def _away_from_zero(e: Emitter, x: Tensor) -> Tensor:
    """Rounded, halves away from zero, as C's ``round`` does."""
    half = e.tensor(0.5, x.dtype)
    return e.g.Mul(e.g.Sign(x), e.g.Floor(e.g.Add(e.g.Abs(x), half)))


def _bins(e: Emitter, corners: Tensor, axis: int, count: int, size: Size) -> Tensor:
    """Which elements of a line belong to which bin of each region, as zeros and ones: (regions, bins, elements).

    torchvision leaves the last element of a line out.
    """
    first, last = (e.g.Slice(corners, e.g.ints(at), e.g.ints(at + 1), e.g.ints(1)) for at in (axis, axis + 2))
    width = e.g.Div(
        e.g.Max(e.g.Sub(last, first), e.tensor(1, e.dtype)), e.tensor(count, e.dtype)
    )  # of a bin: (regions, 1)
    numbers = e.g.constant(np.arange(count + 1, dtype=e.dtype))
    low = e.g.Add(e.g.Floor(e.g.Mul(width, e.g.Slice(numbers, e.g.ints(0), e.g.ints(count)))), first)
    high = e.g.Add(e.g.Ceil(e.g.Mul(width, e.g.Slice(numbers, e.g.ints(1), e.g.ints(count + 1)))), first)
    line = e.cast(
        e.g.Range(e.tensor(0, INT64), e.cast(e.scalar_size(size), INT64), e.tensor(1, INT64)), e.dtype
    )
    end = e.g.Sub(e.cast(e.scalar_size(size), e.dtype), e.tensor(1, e.dtype))
    low, high = (e.g.Unsqueeze(edge, e.g.ints(2)) for edge in (low, e.g.Min(high, end)))
    return e.cast(e.g.And(e.g.GreaterOrEqual(line, low), e.g.Less(line, high)), e.dtype)


def _for_gradients(e: Emitter) -> Tensor:
    """In place of what torchvision keeps for the way back; no model reads it."""
    return e.full(0, e.outs[1].dims, numpy_dtype(e.outs[1].dtype))


@row("torchvision::nms")
def nms(e: Emitter, boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The numbers of the boxes that stay, the best first."""
    every = e.g.constant([np.iinfo(np.int64).max], np.int64)
    found = e.g.NonMaxSuppression(
        e.g.Unsqueeze(boxes, e.g.ints(0)),
        e.g.Unsqueeze(scores, e.g.ints(0, 1)),
        every,
        e.g.constant([iou_threshold], np.float32),
    )
    kept = e.g.Gather(found, e.g.constant(2, np.int64), axis=1)
    e.define(e.out.dims[0], e.g.Shape(kept, start=0, end=1))
    return kept


@row("torchvision::deform_conv2d")
def deform_conv2d(
    e: Emitter, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor, bias: Tensor, stride_h: int, stride_w: int,
    pad_h: int, pad_w: int, dilation_h: int, dilation_w: int, groups: int, offset_groups: int, use_mask: bool,
) -> Tensor:  # fmt: skip
    return e.g.DeformConv(
        input, weight, offset, bias, mask if use_mask else None, dilations=[dilation_h, dilation_w], group=groups,
        kernel_shape=[weight.size(2), weight.size(3)], offset_group=offset_groups, pads=[pad_h, pad_w, pad_h, pad_w],
        strides=[stride_h, stride_w],
    )  # fmt: skip
