"""Rows of operators on images: resizing, crops, boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget, layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.tensorflow.graphdef.to_onnx.convolution import padding_of
from netferry.converters.tensorflow.graphdef.to_onnx.dilation import dilated
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter

_MODES = {
    "ResizeBilinear": {"mode": "linear"},
    "ResizeNearestNeighbor": {"mode": "nearest"},
}


def _coordinates(a: Attrs) -> dict[str, Any]:
    """How TensorFlow finds the place that a pixel comes from, in ONNX's words."""
    if a.flag("align_corners"):
        return {"coordinate_transformation_mode": "align_corners", "nearest_mode": "round_prefer_ceil"}
    if a.flag("half_pixel_centers"):
        return {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "floor"}
    return {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _resize(name: str) -> Callable[..., Tensor]:
    def row(g: Emitter, a: Attrs, x: Tensor, size: Tensor) -> Tensor:
        """x: (batch, height, width, channels); the result of a linear resize is float32."""
        settings = {**_MODES[name], **_coordinates(a)}
        if name == "ResizeNearestNeighbor" and a.flag("half_pixel_centers") and not a.flag("align_corners"):
            settings |= {"coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"}
        value = x if name == "ResizeNearestNeighbor" else g.cast(x, np.float32)
        first = g.transpose(value, layout.channels_first(4))
        known = g.content(size)
        if known is not None and not any(isinstance(each, Size) for each in known):
            height, width = (int(each) for each in known)
            y = _resized(g, first, height, width, settings)
        else:
            front = g.Slice(g.Shape(first), g.ints(0), g.ints(2), g.ints(0))
            y = g.Resize(first, None, None, g.Concat(front, g.index(size), axis=0), **settings)
        wanted = None if known is None else list(known)
        y = g.sized(y, [g.size_of(first, 0), g.size_of(first, 1), *(wanted or (None, None))])
        return g.transpose(y, layout.channels_last(4))

    return row


def _resized(g: Emitter, x: Tensor, height: int, width: int, settings: dict[str, Any]) -> Tensor:
    """By whole factors where they are whole, else to sizes."""
    sizes = (x.dims or (None,) * 4)[2:]
    if all(isinstance(size, int) for size in sizes):
        scales = [
            want / size for want, size in zip((height, width), sizes, strict=True) if isinstance(size, int)
        ]
        if (
            all(scale.is_integer() for scale in scales)
            and settings["coordinate_transformation_mode"] != "align_corners"
        ):
            return g.Resize(x, None, g.constant([1, 1, *scales], np.float32), None, **settings)
    front = g.Slice(g.shape(x), g.ints(0), g.ints(2), g.ints(0))
    known = x.dims is not None and all(isinstance(size, int) for size in x.dims[:2])
    fixed = g.ints(*x.dims[:2], height, width) if known and x.dims is not None else None  # type: ignore[arg-type]
    return g.Resize(x, None, None, fixed or g.Concat(front, g.ints(height, width), axis=0), **settings)


for _name in _MODES:
    ROWS.row(_name)(_resize(_name))


@ROWS.row("CropAndResize")
def crop_and_resize(g: Emitter, a: Attrs, x: Tensor, boxes: Tensor, places: Tensor, size: Tensor) -> Tensor:
    """RoiAlign of one sample a bin samples other places; Resize with a region takes one box at a time: by gathering.

    x: (batch, height, width, channels); boxes: (n, 4) as y1, x1, y2, x2 between 0 and 1; places: (n,).
    """
    nearest = a.among("method", "bilinear nearest", "bilinear") == "nearest"
    height, width = g.numbers(size, "size of the crops")
    f = np.float32
    extents = [g.cast(g.Sub(g.length(x, axis), g.constant(1, np.int64)), f) for axis in (1, 2)]
    ys, xs = (
        _places(g, boxes, axis, count, extent)
        for axis, count, extent in zip((0, 1), (height, width), extents, strict=True)
    )
    inside = g.And(
        g.Unsqueeze(_within(g, ys, extents[0]), g.ints(2, 3)),
        g.Unsqueeze(_within(g, xs, extents[1]), g.ints(1, 3)),
    )
    outside = g.constant(a.number("extrapolation_value"), f)
    if nearest:
        rows_, columns = (g.Floor(g.Add(each, g.constant(0.5, f))) for each in (ys, xs))
        return g.Where(inside, _gathered(g, x, places, rows_, columns, extents), outside)
    corners = []
    for rounded_y in (g.Floor(ys), g.Ceil(ys)):
        for rounded_x in (g.Floor(xs), g.Ceil(xs)):
            corners.append(_gathered(g, x, places, rounded_y, rounded_x, extents))
    top = _between(g, corners[0], corners[1], g.Sub(xs, g.Floor(xs)), 1)
    bottom = _between(g, corners[2], corners[3], g.Sub(xs, g.Floor(xs)), 1)
    y = _between(g, top, bottom, g.Sub(ys, g.Floor(ys)), 2)
    return g.Where(inside, y, outside)


def _places(g: Emitter, boxes: Tensor, axis: int, count: int, extent: Tensor) -> Tensor:
    """(n, count): where each row (or column) of a crop lies in the image."""
    low, high = (g.Slice(boxes, g.ints(at), g.ints(at + 1), g.ints(1)) for at in (axis, axis + 2))
    if count == 1:
        return g.Mul(g.Mul(g.Add(low, high), g.constant(0.5, np.float32)), extent)
    budget.make(count)
    steps = g.constant(np.arange(count, dtype=np.float32)[None])
    step = g.Div(g.Mul(g.Sub(high, low), extent), g.constant(count - 1, np.float32))
    return g.Add(g.Mul(low, extent), g.Mul(steps, step))


def _gathered(
    g: Emitter, x: Tensor, places: Tensor, ys: Tensor, xs: Tensor, extents: Sequence[Tensor]
) -> Tensor:
    """(n, height, width, channels): the pixels at these rows and columns; what lies outside is taken from the edge."""
    zero = g.constant(0, np.float32)
    rows, columns = (
        g.index(g.Min(g.Max(each, zero), extent)) for each, extent in zip((ys, xs), extents, strict=True)
    )
    parts = [
        g.Unsqueeze(g.index(places), g.ints(1, 2)),
        g.Unsqueeze(rows, g.ints(2)),
        g.Unsqueeze(columns, g.ints(1)),
    ]
    zeros = g.Mul(g.Add(g.Add(*parts[:2]), parts[2]), g.constant(0, np.int64))
    indices = g.Concat(*(g.Unsqueeze(g.Add(part, zeros), g.ints(-1)) for part in parts), axis=-1)
    return g.cast(g.GatherND(x, indices), np.float32)


def _between(g: Emitter, low: Tensor, high: Tensor, share: Tensor, axis: int) -> Tensor:
    weight = g.Unsqueeze(share, g.ints(axis, 3))
    return g.Add(low, g.Mul(g.Sub(high, low), weight))


def _within(g: Emitter, places: Tensor, extent: Tensor) -> Tensor:
    return g.And(g.GreaterOrEqual(places, g.constant(0, np.float32)), g.LessOrEqual(places, extent))


# ---- boxes -----------------------------------------------------------------------------------------


def _chosen(
    g: Emitter, boxes: Tensor, scores: Tensor, most: Tensor, overlap: Tensor | None, least: Tensor | None
) -> Tensor:
    """The indices of boxes that are kept: (count,), int64. boxes: (n, 4), scores: (n,)."""
    y = g.NonMaxSuppression(
        g.Unsqueeze(boxes, g.ints(0)),
        g.Unsqueeze(scores, g.ints(0, 1)),
        g.Reshape(g.index(most), g.ints(1)),
        None if overlap is None else g.Reshape(overlap, g.ints(1)),
        None if least is None else g.Reshape(least, g.ints(1)),
    )
    return g.Squeeze(g.Slice(y, g.ints(2), g.ints(3), g.ints(1)), g.ints(1))


@ROWS.row("NonMaxSuppression")
def non_max_suppression(g: Emitter, a: Attrs, boxes: Tensor, scores: Tensor, most: Tensor) -> Tensor:
    overlap = g.constant(a.number("iou_threshold", 0.5), np.float32)
    return g.cast(_chosen(g, boxes, scores, most, overlap, None), np.int32)


@ROWS.row("NonMaxSuppressionV2", "NonMaxSuppressionV3")
def non_max_suppression_v3(
    g: Emitter,
    a: Attrs,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor,
    overlap: Tensor,
    least: Tensor | None = None,
) -> Tensor:
    return g.cast(_chosen(g, boxes, scores, most, overlap, least), np.int32)


@ROWS.row("NonMaxSuppressionV4")
def non_max_suppression_v4(
    g: Emitter, a: Attrs, boxes: Tensor, scores: Tensor, most: Tensor, overlap: Tensor, least: Tensor
) -> list[Tensor]:
    kept = g.cast(_chosen(g, boxes, scores, most, overlap, least), np.int32)
    count = g.cast(g.Size(kept), np.int32)
    return [_filled(g, a, kept, most), count]


def _filled(g: Emitter, a: Attrs, kept: Tensor, most: Tensor) -> Tensor:
    """With zeros up to the most that there may be, where that is asked for."""
    if not a.flag("pad_to_max_output_size"):
        return kept
    missing = g.Sub(g.Reshape(g.index(most), g.ints(1)), g.Shape(kept))
    return g.Pad(kept, g.Concat(g.ints(0), missing, axis=0), g.constant(0, kept.dtype))


@ROWS.row("NonMaxSuppressionV5")
def non_max_suppression_v5(
    g: Emitter,
    a: Attrs,
    boxes: Tensor,
    scores: Tensor,
    most: Tensor,
    overlap: Tensor,
    least: Tensor,
    sigma: Tensor,
) -> list[Tensor]:
    softness = g.content(sigma)
    if softness is None or np.any(softness):
        raise CannotConvert(
            "it lowers scores softly (soft_nms_sigma), which ONNX does not", "Set soft_nms_sigma to 0"
        )
    kept = g.cast(_chosen(g, boxes, scores, most, overlap, least), np.int32)
    return [
        _filled(g, a, kept, most),
        _filled(g, a, g.Gather(scores, kept, axis=0), most),
        g.cast(g.Size(kept), np.int32),
    ]


@ROWS.row("CombinedNonMaxSuppression")
def combined_non_max_suppression(
    g: Emitter,
    a: Attrs,
    boxes: Tensor,
    scores: Tensor,
    each: Tensor,
    total: Tensor,
    overlap: Tensor,
    least: Tensor,
) -> list[Tensor]:
    """boxes: (batch, n, 1 or classes, 4), scores: (batch, n, classes). The best of all classes, padded with zeros."""
    if boxes.size(2) != 1:
        raise CannotConvert(
            "it has boxes of their own for each class", "One box for all classes is supported"
        )
    (most,), (per_class,) = g.numbers(total, "total size"), g.numbers(each, "size of each class")
    first = g.Squeeze(boxes, g.ints(2))
    by_class = g.Transpose(scores, perm=[0, 2, 1])
    kept = g.NonMaxSuppression(
        first, by_class, g.ints(per_class), *(g.Reshape(x, g.ints(1)) for x in (overlap, least))
    )
    batch = g.Slice(kept, g.ints(0), g.ints(1), g.ints(1))
    found = g.GatherND(by_class, kept)
    count = scores.dims[0] if scores.dims is not None else None
    images = g.Reshape(g.constant(0, np.int64), g.ints(1)) if count == 1 else _counted(g, scores)
    mine = g.Equal(g.Transpose(batch, perm=[1, 0]), g.Unsqueeze(images, g.ints(1)))
    ranked = g.Where(mine, g.Unsqueeze(found, g.ints(0)), g.constant(-np.inf, np.float32))
    padded = g.Pad(ranked, g.ints(0, 0, 0, most), g.constant(-np.inf, np.float32))
    values, order = g.ops("TopK", padded, g.ints(most), outputs=2, axis=1)
    real = g.Not(g.IsInf(values))
    valid = g.ReduceSum(g.cast(real, np.int32), g.ints(1), keepdims=0)
    safe = g.Where(real, order, g.constant(0, np.int64))
    any_kept = g.Concat(kept, g.constant([[0, 0, 0]], np.int64), axis=0)
    rows_ = g.Gather(any_kept, safe, axis=0)
    at = g.Concat(
        g.Slice(rows_, g.ints(0), g.ints(1), g.ints(2)),
        g.Slice(rows_, g.ints(2), g.ints(3), g.ints(2)),
        axis=2,
    )
    corners = g.GatherND(first, at)
    if a.flag("clip_boxes", True):
        corners = g.Clip(corners, g.constant(0, np.float32), g.constant(1, np.float32))
    zero = g.constant(0, np.float32)
    labels = g.cast(g.Squeeze(g.Slice(rows_, g.ints(1), g.ints(2), g.ints(2)), g.ints(2)), np.float32)
    return [
        g.Where(g.Unsqueeze(real, g.ints(2)), corners, zero),
        g.Where(real, values, zero),
        g.Where(real, labels, zero),
        valid,
    ]


def _counted(g: Emitter, x: Tensor) -> Tensor:
    size = g.Squeeze(g.Shape(x, start=0, end=1), g.ints(0))
    return g.Range(g.constant(0, np.int64), size, g.constant(1, np.int64))


# ---- colours ---------------------------------------------------------------------------------------


@ROWS.row("AdjustContrastv2")
def adjust_contrast(g: Emitter, a: Attrs, x: Tensor, factor: Tensor) -> Tensor:
    """The distance from the mean of each channel."""
    mean = g.ReduceMean(x, g.ints(x.rank - 3, x.rank - 2), keepdims=1)
    return g.Add(g.Mul(g.Sub(x, mean), factor), mean)


# ---- blocks ----------------------------------------------------------------------------------------


@ROWS.row("SpaceToBatchND")
def space_to_batch(g: Emitter, a: Attrs, x: Tensor, block: Tensor, padding: Tensor) -> Tensor:
    """Each place within a block becomes a batch of its own."""
    sizes = g.numbers(block, "block")
    count = len(sizes)
    x = _padded(g, x, padding, count)
    split: list[int | Tensor] = [-1]
    for axis, size in enumerate(sizes, 1):
        split += [_divided(g, x, axis, size), size]
    split += [g.size(x, axis) for axis in range(count + 1, x.rank)]
    y = g.Reshape(x, g.vector(split))
    order = [*(2 * axis for axis in range(1, count + 1)), 0, *(2 * axis - 1 for axis in range(1, count + 1))]
    order += list(range(2 * count + 1, y.rank))
    y = g.Transpose(y, perm=order)
    inner = [_divided(g, x, axis, size) for axis, size in enumerate(sizes, 1)]
    return g.Reshape(y, g.vector([-1, *inner, *(g.size(x, axis) for axis in range(count + 1, x.rank))]))


def _padded(g: Emitter, x: Tensor, padding: Tensor, count: int) -> Tensor:
    """padding: (axes of space, 2)."""
    pairs = g.content(padding)
    if pairs is None or any(isinstance(each, Size) for each in pairs.reshape(-1)):
        before, after = (
            g.Reshape(g.Slice(g.index(padding), g.ints(at), g.ints(at + 1), g.ints(1)), g.ints(-1))
            for at in (0, 1)
        )
        none, rest = g.ints(0), g.ints(*[0] * (x.rank - 1 - count))
        y = g.Pad(x, g.Concat(none, before, rest, none, after, rest, axis=0))
        if pairs is None:
            return y
    flat = [(0, 0), *(tuple(pair) for pair in pairs), *[(0, 0)] * (x.rank - 1 - count)]
    sizes = [size + low + high for size, (low, high) in zip(g.sizes_of(x), flat, strict=True)]
    if any(isinstance(each, Size) for pair in flat for each in pair):
        return g.sized(y, sizes)
    if not any(low or high for low, high in flat):
        return x
    return g.sized(g.Pad(x, g.ints(*(int(low) for low, _ in flat), *(int(high) for _, high in flat))), sizes)


def _divided(g: Emitter, x: Tensor, axis: int, by: int) -> int | Tensor:
    size = g.size(x, axis)
    return size // by if isinstance(size, int) else g.Div(size, g.constant(by, np.int64))


@ROWS.row("BatchToSpaceND")
def batch_to_space(g: Emitter, a: Attrs, x: Tensor, block: Tensor, crops: Tensor) -> Tensor:
    sizes = g.numbers(block, "block")
    if (convolution := dilated(g, x, sizes, crops)) is not None:
        return convolution
    cut = np.asarray(g.numbers(crops, "crops")).reshape(-1, 2)
    count = len(sizes)
    inner = [g.size(x, axis) for axis in range(1, count + 1)]
    rest = [g.size(x, axis) for axis in range(count + 1, x.rank)]
    y = g.Reshape(x, g.vector([*sizes, -1, *inner, *rest]))
    order = [count]
    for axis in range(count):
        order += [count + 1 + axis, axis]
    y = g.Transpose(y, perm=[*order, *range(2 * count + 1, y.rank)])
    whole = [
        size * by if isinstance(size, int) else g.Mul(size, g.constant(by, np.int64))
        for size, by in zip(inner, sizes, strict=True)
    ]
    y = g.Reshape(y, g.vector([-1, *whole, *rest]))
    axes = [axis for axis, pair in enumerate(cut, 1) if any(pair)]
    if not axes:
        return y
    ends = [-int(cut[axis - 1][1]) or 2**62 for axis in axes]
    return g.Slice(y, g.ints(*(int(cut[axis - 1][0]) for axis in axes)), g.ints(*ends), g.ints(*axes))


@ROWS.row("ExtractImagePatches")
def patches(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """A convolution with kernels of one 1 each; the channels of a place stand together."""
    size, strides, rates = (a.integers(name)[1:3] for name in ("ksizes", "strides", "rates"))
    channels = x.size(3)
    count = size[0] * size[1] * channels
    budget.make(count * count)
    kernel = np.eye(count, dtype=x.dtype).reshape(count, size[0], size[1], channels).transpose(0, 3, 1, 2)
    first = g.transpose(x, layout.channels_first(4))
    pads = padding_of(g, a, first, size, strides, rates, False)
    y = g.Conv(first, g.constant(kernel), kernel_shape=size, strides=strides, dilations=rates, **pads)
    return g.transpose(y, layout.channels_last(4))
