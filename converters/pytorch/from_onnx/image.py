"""Operators on images: resizing, sampling along a grid, regions and boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.ops.resize import helper_options
from netferry.converters.graph.ops.table import choice
from netferry.converters.pytorch.dtypes import INT64
from netferry.converters.pytorch.from_onnx.convolution import one, unless
from netferry.converters.pytorch.from_onnx.layers import Sizes, Xp, as_float32, row


@row("AffineGrid")
def AffineGrid(xp: Xp, theta: Symbol, size: Sizes, *, align_corners: int) -> Any:
    if theta.dtype.itemsize < 4:
        return NotImplemented
    return xp.call("F.affine_grid", theta, list(size), align_corners=bool(align_corners))


@row("Resize")
def Resize(
    xp: Xp, x: Symbol, roi: Symbol | None = None, scales: Symbol | None = None, sizes: Sizes | None = None, **attributes: Any,
) -> Any:  # fmt: skip
    """``F.interpolate`` where it means the same; matrices where sizes are known; else arithmetic on them."""
    native = interpolated(xp, x, scales, sizes, attributes)
    if native is not None:
        return native
    try:
        return OPS["Resize"](xp, x, roi, scales, sizes, **attributes)
    except CannotConvert:
        return _resized(xp, x, roi, scales, sizes, attributes)


def _resized(
    xp: Xp, x: Symbol, roi: Symbol | None, scales: Symbol | None, sizes: Sizes | None, attributes: Mapping[str, Any]
) -> Any:  # fmt: skip
    """Every axis in turn, by the runtime helper ``resize``."""
    options = helper_options(attributes)
    if x.dtype.kind not in "f":
        raise CannotConvert("it resizes integers to a size that is known only when the model runs")
    if roi is not None and attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        options["roi"] = _numbers(xp, roi)
    options["scales"] = None if scales is None or scales.fact.dims == (0,) else _numbers(xp, scales)
    options["sizes"] = None if sizes is None else tuple(sizes)
    return xp.helper("resize", x, **options)


def _numbers(xp: Xp, x: Symbol) -> Any:
    return x.content.tolist() if x.content is not None else xp.method(x, "tolist").expr


def interpolated(
    xp: Xp, x: Symbol, scales: Symbol | None, sizes: Any, attributes: Mapping[str, Any]
) -> Symbol | None:
    """Resize as ``F.interpolate``; None where that is not the same."""
    mode = _interpolation(x, scales, sizes, attributes)
    if mode is None:
        return None
    factors = None if scales is None or scales.content is None else [float(s) for s in scales.content[2:]]
    return xp.call("F.interpolate", x, size=None if sizes is None else tuple(sizes[2:]), scale_factor=factors and one(factors),
                   mode=mode[0] if mode[0] != "nearest" else None, align_corners=mode[1])  # fmt: skip


_NAMES = {
    ("linear", 3): "linear",
    ("linear", 4): "bilinear",
    ("linear", 5): "trilinear",
    ("cubic", 4): "bicubic",
}


def _interpolation(
    x: Symbol, scales: Symbol | None, sizes: Any, attributes: Mapping[str, Any]
) -> tuple[str, Any] | None:
    """The mode of ``F.interpolate`` and its ``align_corners``, or None where it is not the same."""
    kind, where = (
        attributes.get("mode", "nearest"),
        attributes.get("coordinate_transformation_mode", "half_pixel"),
    )
    odd = ("antialias", "axes", "exclude_outside", "keep_aspect_ratio_policy")
    usual = all(attributes.get(key) in (0, None, "stretch") for key in odd) and x.fact.dims is not None
    if not usual or not 3 <= x.ndim <= 5 or x.dtype.kind not in "f":
        return None
    if (scales is None) == (sizes is None) or (scales is not None and scales.content is None):
        return None
    if not _keeps_batch_and_channels(x, scales, sizes):
        return None
    if kind == "nearest":
        whole = scales is not None and scales.content is not None and all(s == int(s) for s in scales.content)
        plain = where == "asymmetric" and attributes.get("nearest_mode") == "floor"
        return ("nearest", None) if whole and plain else None
    mode = _NAMES.get((kind, x.ndim))
    if mode is None or attributes.get("cubic_coeff_a", -0.75) != -0.75:
        return None
    if where == "align_corners" and sizes is not None:
        return mode, True
    return (mode, None) if where == "half_pixel" else None


def _keeps_batch_and_channels(x: Symbol, scales: Symbol | None, sizes: Any) -> bool:
    if scales is not None and scales.content is not None:
        exact = scales.content * 64 == np.floor(scales.content * 64)  # so that sizes come out alike
        return bool((scales.content[:2] == 1).all() and exact.all())
    return sizes is not None and tuple(sizes[:2]) == tuple(x.shape[:2]) and all(s is not None for s in sizes)


@row("GridSample")
def GridSample(
    xp: Xp,
    x: Symbol,
    grid: Symbol,
    *,
    align_corners: int,
    mode: str,
    padding_mode: str,
) -> Any:
    known_modes = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}
    if mode not in known_modes or padding_mode not in ("zeros", "border", "reflection"):
        raise CannotConvert(f"mode {mode!r} with padding {padding_mode!r} is not known")
    if x.ndim not in (4, 5) or (x.ndim == 5 and mode == "cubic"):
        raise CannotConvert("PyTorch samples images, and volumes but with cubic")
    return xp.call("F.grid_sample", x, xp.astype(grid, x.dtype), mode=unless(known_modes[mode], "bilinear"),
                   padding_mode=unless(padding_mode, "zeros"), align_corners=bool(align_corners))  # fmt: skip


@row("RoiAlign")
def RoiAlign(
    xp: Xp, x: Symbol, rois: Symbol, batch_indices: Symbol, *, coordinate_transformation_mode: str,
    mode: str, output_height: int, output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Any:  # fmt: skip
    if mode not in ("avg", "max") or coordinate_transformation_mode not in (
        "half_pixel",
        "output_half_pixel",
    ):
        raise CannotConvert(f"mode {mode!r} with {coordinate_transformation_mode!r} is not known")
    return xp.helper("roi_align", x, rois, batch_indices, (output_height, output_width), sampling_ratio, as_float32(spatial_scale),
                     half_pixel=coordinate_transformation_mode == "half_pixel", mode=mode)  # fmt: skip


@row("MaxRoiPool")
def MaxRoiPool(xp: Xp, x: Symbol, rois: Symbol, *, pooled_shape: Any, spatial_scale: float) -> Any:
    return xp.helper("max_roi_pool", x, rois, tuple(pooled_shape), as_float32(spatial_scale))


@row("NonMaxSuppression")
def NonMaxSuppression(
    xp: Xp, boxes: Symbol, scores: Symbol, max_output_boxes_per_class: Symbol | None = None,
    iou_threshold: Symbol | None = None, score_threshold: Symbol | None = None, *, center_point_box: int,
) -> Any:  # fmt: skip
    return xp.helper("non_max_suppression", boxes, scores, max_output_boxes_per_class, iou_threshold, score_threshold,
                     center=True if center_point_box else None, dtype=INT64)  # fmt: skip


@row("ImageDecoder")
def ImageDecoder(xp: Xp, encoded_stream: Symbol, *, pixel_format: str) -> Any:
    return xp.helper("decode_image", encoded_stream, choice(pixel_format, ("RGB", "BGR", "Grayscale"), "pixel_format"),
                     dtype=np.dtype(np.uint8))  # fmt: skip
