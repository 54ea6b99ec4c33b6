"""Rows of detectors: anchors, boxes, suppression of those that overlap, features of regions.

A corner box is (left, top, right, bottom), a centre box (x, y, width, height).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.symbol import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    FLOAT32,
    ROWS,
    Emitter,
    cast,
    cut,
    few,
    places_along,
    shape_tensor,
    size_of,
)

# ---- boxes -------------------------------------------------------------------------------------------


def _columns(g: Emitter, x: Tensor, *columns: int) -> list[Tensor]:
    """Columns of the last axis, each (..., 1)."""
    return [cut(g, x, [x.rank - 1], [column], [column + 1]) for column in columns]


def _corners(g: Emitter, boxes: Tensor, form: str) -> list[Tensor]:
    """The four sides of boxes (..., 4), each (..., 1)."""
    first, second, third, fourth = _columns(g, boxes, 0, 1, 2, 3)
    if form == "corner":
        return [first, second, third, fourth]
    half = g.scalar(0.5, boxes)
    across, down = g.Mul(third, half), g.Mul(fourth, half)
    return [g.Sub(first, across), g.Sub(second, down), g.Add(first, across), g.Add(second, down)]


def _form(a: Attrs, name: str, default: str = "corner") -> str:
    return a.word(name, default, among="corner center")


@ROWS.row("_contrib_box_iou")
def box_iou(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """(..., 4) and (..., 4): each box of x with each of y, (*boxes of x, *boxes of y)."""
    form = _form(a, "format")
    mine = [g.Squeeze(side, g.ints(-1)) for side in _corners(g, x, form)]
    theirs = [g.Squeeze(side, g.ints(-1)) for side in _corners(g, y, form)]
    if y.rank > 1:
        mine = [g.Unsqueeze(side, g.ints(*range(x.rank - 1, x.rank + y.rank - 2))) for side in mine]
    zero = g.scalar(0, x)

    def extent(sides: Sequence[Tensor]) -> Tensor:
        return g.Mul(g.Max(g.Sub(sides[2], sides[0]), zero), g.Max(g.Sub(sides[3], sides[1]), zero))

    shared = extent(
        [
            g.Max(mine[0], theirs[0]),
            g.Max(mine[1], theirs[1]),
            g.Min(mine[2], theirs[2]),
            g.Min(mine[3], theirs[3]),
        ]
    )
    union = g.Sub(g.Add(extent(mine), extent(theirs)), shared)
    none = g.LessOrEqual(shared, zero)
    return g.Where(none, zero, g.Div(shared, g.Where(none, g.scalar(1, x), union)))


@ROWS.row("_contrib_box_decode")
def box_decode(g: Emitter, a: Attrs, x: Tensor, anchors: Tensor) -> Tensor:
    """x: (batch, boxes, 4), shifts and log scales; anchors: (1, boxes, 4); corner boxes."""
    stds = [a.number(f"std{i}", 1.0) for i in range(4)]
    clip, form = a.number("clip", -1.0), _form(a, "format", "center")
    first, second, third, fourth = _columns(g, anchors, 0, 1, 2, 3)
    if form == "corner":
        half = g.scalar(0.5, anchors)
        width, height = g.Sub(third, first), g.Sub(fourth, second)
        centre = [g.Add(first, g.Mul(width, half)), g.Add(second, g.Mul(height, half))]
    else:
        width, height, centre = third, fourth, [first, second]
    dx, dy, dw, dh = (
        g.Mul(c, g.scalar(std, x)) for c, std in zip(_columns(g, x, 0, 1, 2, 3), stds, strict=True)
    )
    if clip > 0:
        dw, dh = (g.Min(each, g.scalar(clip, x)) for each in (dw, dh))
    half = g.scalar(0.5, x)
    x0, y0 = g.Add(g.Mul(dx, width), centre[0]), g.Add(g.Mul(dy, height), centre[1])
    w, h = (g.Mul(g.Mul(g.Exp(d), size), half) for d, size in ((dw, width), (dh, height)))
    return g.Concat(g.Sub(x0, w), g.Sub(y0, h), g.Add(x0, w), g.Add(y0, h), axis=-1)


# ---- anchors -----------------------------------------------------------------------------------------


@ROWS.row("_contrib_MultiBoxPrior")
def multi_box_prior(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(1, height * width * boxes, 4): boxes around each pixel of x: all sizes in
    the first ratio, then the first size in the other ratios."""
    sizes, ratios = a.numbers("sizes", (1.0,)), a.numbers("ratios", (1.0,))
    steps, offsets = a.numbers("steps", (-1.0, -1.0)), a.numbers("offsets", (0.5, 0.5))
    height, width = x.size(2), x.size(3)
    few(height * width * (len(sizes) + len(ratios)) * 4)
    down, across = (step if step > 0 else 1 / size for step, size in zip(steps, (height, width), strict=True))
    roots = [math.sqrt(ratio) for ratio in ratios]
    shape = [(size, roots[0]) for size in sizes] + [(sizes[0], root) for root in roots[1:]]
    half = np.array([[size * height / width * root / 2, size / root / 2] for size, root in shape])
    centres = np.stack(
        np.meshgrid((np.arange(width) + offsets[1]) * across, (np.arange(height) + offsets[0]) * down),
        axis=-1,
    )[:, :, None]
    boxes = np.concatenate([centres - half, centres + half], axis=-1).reshape(1, -1, 4)
    return g.constant(np.clip(boxes, 0, 1) if a.flag("clip", False) else boxes, x.dtype)


# ---- suppression -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ranked:
    """Boxes in the order in which they may suppress each other.

    ``sides``: four of (batch, boxes, 1); ``valid``: (batch, boxes), bools; ``classes``: (batch, boxes),
    int64, or None where all boxes meet each other.
    """

    sides: Sequence[Tensor]
    valid: Tensor
    classes: Tensor | None = None


def _survivors(g: Emitter, boxes: _Ranked, threshold: float) -> Tensor:
    """(batch, boxes), bools: what greedy suppression keeps.

    ONNX ranks by score: here the score is the rank, and 0 what takes no part. A box that is turned inside out
    has no extent in MXNet; ONNX would turn it back.
    """
    if not 0 <= threshold <= 1:
        raise CannotConvert(f"an overlap of {threshold:g}", "ONNX takes one from 0 to 1")
    left, top, right, bottom = boxes.sides
    corners = g.Concat(left, top, g.Max(left, right), g.Max(top, bottom), axis=-1)
    valid = boxes.valid
    rank = cast(g, places_along(g, valid, 1), FLOAT32)
    count = shape_tensor(g, valid, [size_of(valid, 1)])
    falling = g.Sub(cast(g, count, FLOAT32), rank)
    scores = g.Unsqueeze(g.Where(valid, falling, g.constant(0, FLOAT32)), g.ints(1))
    if boxes.classes is not None:
        one = g.constant(1, np.int64)
        last = g.Add(g.ReduceMax(boxes.classes, keepdims=0), one)
        each = g.Unsqueeze(g.Range(g.ReduceMin(boxes.classes, keepdims=0), last, one), g.ints(0, 2))
        own = g.Equal(g.Unsqueeze(boxes.classes, g.ints(1)), each)
        scores = g.Where(own, scores, g.constant(0, FLOAT32))
    chosen = g.NonMaxSuppression(
        cast(g, corners, FLOAT32),
        scores,
        count,
        g.constant([threshold], FLOAT32),
        g.constant([0], FLOAT32),
    )
    places = g.Gather(chosen, g.ints(0, 2), axis=1)
    nothing = g.Expand(g.constant(False), g.Shape(valid))
    taken = g.Expand(g.constant(True), g.Shape(places, start=0, end=1))
    return g.ScatterND(nothing, places, taken)


def _gathered(g: Emitter, x: Tensor, places: Tensor) -> Tensor:
    """Rows of x: (batch, boxes, width), by places: (batch, chosen)."""
    index = g.Unsqueeze(places, g.ints(2))
    return g.GatherND(x, index, batch_dims=1)


def _first(g: Emitter, keys: Tensor, count: Tensor) -> tuple[Tensor, ...]:
    """The largest keys along axis 1 and where they stand; of equal ones the first comes first."""
    return g.ops("TopK", keys, count, outputs=2, axis=1, largest=1, sorted=1)


def _packed(g: Emitter, kept: Tensor, x: Tensor) -> Tensor:
    """Rows of x that are kept, in order, at the front; rows of -1 behind."""
    count = shape_tensor(g, kept, [size_of(kept, 1)])
    places = _first(g, cast(g, kept, FLOAT32), count)[1]
    moved = _gathered(g, x, places)
    still = g.GatherElements(kept, places, axis=1)
    return g.Where(g.Unsqueeze(still, g.ints(2)), moved, g.scalar(-1, x))


@ROWS.row("_contrib_box_nms")
def box_nms(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (..., boxes, width). Boxes by score, without those that overlap a better one; -1 behind them."""
    flat = x if x.rank == 3 else g.Reshape(x, g.ints(-1, x.size(-2), x.size(-1)))
    topk, start, form = a.integer("topk", -1), a.integer("coord_start", 2), _form(a, "in_format")
    column, background = a.integer("id_index", -1), a.number("background_id", -1.0)
    overlap, least = a.number("overlap_thresh", 0.5), a.number("valid_thresh", 0.0)
    score, force = a.integer("score_index", 1), a.flag("force_suppress", False)
    target = _form(a, "out_format")
    if topk == 0:
        return x
    boxes, valid = _valid_by_score(g, flat, score, least, (column, background))
    if topk > 0:
        valid = g.And(valid, g.Less(places_along(g, valid, 1), g.constant(topk, np.int64)))
    classes = None
    if column >= 0 and not force:
        classes = g.Squeeze(cast(g, _columns(g, boxes, column)[0], np.int64), g.ints(2))
    sides = _corners(g, cut(g, boxes, [2], [start], [start + 4]), form)
    kept = _survivors(g, _Ranked(sides, valid, classes), overlap)
    y = _in_form(g, _packed(g, kept, boxes), start, form, target)
    return y if x.rank == 3 else g.Reshape(y, g.Shape(x))


def _valid_by_score(
    g: Emitter, x: Tensor, score: int, least: float, background: tuple[int, float]
) -> tuple[Tensor, Tensor]:
    """Boxes by score and, (batch, boxes), which of them count; those that do not stand behind.

    A box counts whose score is above ``least`` and whose class, in a column, is not the background.
    """
    scores = _columns(g, x, score)[0]
    valid = g.Greater(scores, g.scalar(least, x))
    column, none = background
    if column >= 0:
        valid = g.And(valid, g.Not(g.Equal(_columns(g, x, column)[0], g.scalar(none, x))))
    lowest = g.scalar(-np.inf, x)
    keys = g.Squeeze(g.Where(valid, scores, lowest), g.ints(2))
    places = _first(g, keys, shape_tensor(g, keys, [size_of(keys, 1)]))[1]
    return _gathered(g, x, places), g.GatherElements(g.Squeeze(valid, g.ints(2)), places, axis=1)


def _in_form(g: Emitter, y: Tensor, start: int, have: str, want: str) -> Tensor:
    """The boxes in the other form; MXNet leaves those alone whose first number is negative."""
    if have == want:
        return y
    box = cut(g, y, [2], [start], [start + 4])
    if want == "corner":
        turned = g.Concat(*_corners(g, box, "center"), axis=-1)
    else:
        left, top, right, bottom = _columns(g, box, 0, 1, 2, 3)
        half = g.scalar(0.5, y)
        centre = [g.Mul(g.Add(left, right), half), g.Mul(g.Add(top, bottom), half)]
        turned = g.Concat(*centre, g.Sub(right, left), g.Sub(bottom, top), axis=-1)
    first = _columns(g, box, 0)[0]
    box = g.Where(g.Less(first, g.scalar(0, y)), box, turned)
    around = [cut(g, y, [2], [0], [start])] if start else []
    behind = [cut(g, y, [2], [start + 4], [None])] if start + 4 < y.size(2) else []
    return g.Concat(*around, box, *behind, axis=-1)


@ROWS.row("_contrib_MultiBoxDetection")
def multi_box_detection(
    g: Emitter, a: Attrs, probabilities: Tensor, shifts: Tensor, anchors: Tensor
) -> Tensor:
    """(batch, boxes, 6): class, score, corner box; by score. A suppressed box keeps all but its class, -1.

    probabilities: (batch, classes, boxes) with the background first; shifts: (batch, boxes * 4);
    anchors: (1, boxes, 4).
    """
    if a.integer("background_id", 0) != 0:
        raise CannotConvert("background_id other than 0")
    overlap, topk = a.number("nms_threshold", 0.5), a.integer("nms_topk", -1)
    things = cut(g, probabilities, [1], [1], [None])
    score = g.ReduceMax(things, g.ints(1), keepdims=0)
    label = g.ArgMax(things, axis=1, keepdims=0)
    valid = g.GreaterOrEqual(score, g.scalar(a.number("threshold", 0.01), score))
    boxes = _decoded(g, a, shifts, anchors)
    rows = g.Concat(
        g.Unsqueeze(cast(g, label, score.dtype), g.ints(2)), g.Unsqueeze(score, g.ints(2)), boxes, axis=2
    )
    whole = shape_tensor(g, score, [size_of(score, 1)])
    if not 0 < overlap <= 1:
        return _packed(g, valid, rows)
    places = _first(g, g.Where(valid, score, g.scalar(-1, score)), whole)[1]
    ranked, counted = _gathered(g, rows, places), g.GatherElements(valid, places, axis=1)
    meeting = counted
    if topk > 0:  # MXNet ranks so many, and leaves the others where they stand, without a class
        inside = g.Less(places_along(g, score, 1), g.constant(topk, np.int64))
        ranked = g.Where(g.Unsqueeze(inside, g.ints(0, 2)), ranked, _packed(g, valid, rows))
        meeting = g.And(counted, inside)
    rows, valid = ranked, counted
    label = g.Squeeze(cast(g, _columns(g, rows, 0)[0], np.int64), g.ints(2))
    sides = _columns(g, rows, 2, 3, 4, 5)
    classes = None if a.flag("force_suppress", False) else label
    # ONNX suppresses above the threshold, MXNet at it too
    below = float(np.nextafter(np.float32(overlap), np.float32(0)))
    kept = _survivors(g, _Ranked(sides, meeting, classes), below)
    minus = g.scalar(-1, rows)
    labels = g.Where(g.Unsqueeze(kept, g.ints(2)), _columns(g, rows, 0)[0], minus)
    return g.Where(
        g.Unsqueeze(valid, g.ints(2)), g.Concat(labels, cut(g, rows, [2], [1], [None]), axis=2), minus
    )


def _decoded(g: Emitter, a: Attrs, shifts: Tensor, anchors: Tensor) -> Tensor:
    """(batch, boxes, 4): anchors moved and scaled as predicted."""
    variances = a.numbers("variances", (0.1, 0.1, 0.2, 0.2))
    half = g.scalar(0.5, shifts)
    left, top, right, bottom = _columns(g, anchors, 0, 1, 2, 3)
    width, height = g.Sub(right, left), g.Sub(bottom, top)
    x, y = g.Mul(g.Add(left, right), half), g.Mul(g.Add(top, bottom), half)
    moves = _columns(g, g.Reshape(shifts, g.ints(0, -1, 4)), 0, 1, 2, 3)
    dx, dy, dw, dh = (g.Mul(d, g.scalar(v, d)) for d, v in zip(moves, variances, strict=True))
    x, y = g.Add(g.Mul(dx, width), x), g.Add(g.Mul(dy, height), y)
    w, h = (g.Mul(g.Mul(g.Exp(d), size), half) for d, size in ((dw, width), (dh, height)))
    boxes = g.Concat(g.Sub(x, w), g.Sub(y, h), g.Add(x, w), g.Add(y, h), axis=-1)
    return g.Clip(boxes, g.scalar(0, boxes), g.scalar(1, boxes)) if a.flag("clip", True) else boxes


# ---- proposals ---------------------------------------------------------------------------------------


def _base_anchors(stride: int, ratios: Sequence[float], scales: Sequence[float]) -> list[list[float]]:
    """Boxes of all ratios and scales around the first cell, in whole pixels as Faster R-CNN rounds them."""
    middle = 0.5 * (stride - 1)
    boxes = []
    for ratio in ratios:
        width = math.floor(math.sqrt(math.floor(stride * stride / ratio)) + 0.5)
        height = math.floor(width * ratio + 0.5)
        for scale in scales:
            half = (0.5 * (width * scale - 1), 0.5 * (height * scale - 1))
            boxes.append([middle - half[0], middle - half[1], middle + half[0], middle + half[1]])
    return boxes


@ROWS.row("_contrib_Proposal", "_contrib_MultiProposal")
def proposal(g: Emitter, a: Attrs, scores: Tensor, shifts: Tensor, image: Tensor) -> list[Tensor]:
    """(batch * chosen, 5): the image's place and a corner box; and, (batch * chosen, 1), its score.

    scores: (batch, 2 * anchors, height, width); shifts: (batch, 4 * anchors, height, width); image: (batch,
    3), height, width and scale of the picture. Where too few boxes are left they come again from the first.
    """
    stride = a.integer("feature_stride", 16)
    base = _base_anchors(
        stride, a.numbers("ratios", (0.5, 1.0, 2.0)), a.numbers("scales", (4.0, 8.0, 16.0, 32.0))
    )
    height, width, kinds = scores.size(2), scores.size(3), len(base)
    total = height * width * kinds
    few(4 * total)
    most = a.integer("rpn_pre_nms_top_n", 6000)
    considered = min(most, total) if most > 0 else total
    wanted = a.integer("rpn_post_nms_top_n", 300)
    if wanted < 1:
        raise CannotConvert(f"rpn_post_nms_top_n={wanted}")
    cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)) * 2, axis=-1)[:, :, None] * stride
    anchors = (cells + np.array(base)).reshape(1, total, 4)
    moves = g.Reshape(
        g.transpose(g.Reshape(shifts, g.ints(0, kinds, 4, height, width)), (0, 3, 4, 1, 2)),
        g.ints(0, total, 4),
    )
    boxes = _clipped_proposals(g, a, moves, anchors, image)
    score = g.Reshape(g.transpose(cut(g, scores, [1], [kinds], [None]), (0, 2, 3, 1)), g.ints(0, total, 1))
    sides, score = _large_enough(g, a, boxes, score, image, (height, width, kinds), stride)
    rows = g.Concat(*sides, score, axis=2)
    ranked, places = _first(g, g.Squeeze(score, g.ints(2)), g.ints(considered))
    rows = _gathered(g, rows, places)
    one = g.scalar(1, rows)
    left, top, right, bottom = _columns(g, rows, 0, 1, 2, 3)
    everything = g.Expand(g.constant(True), g.Shape(ranked))
    kept = _survivors(
        g, _Ranked([left, top, g.Add(right, one), g.Add(bottom, one)], everything), a.number("threshold", 0.7)
    )
    return _filled_up(g, a, rows, kept, min(wanted, considered), wanted)


def _clipped_proposals(g: Emitter, a: Attrs, moves: Tensor, anchors: object, image: Tensor) -> list[Tensor]:
    """The anchors moved, inside of the picture: four sides (batch, boxes, 1)."""
    array = np.asarray(anchors)
    one, half, zero = g.scalar(1, moves), g.scalar(0.5, moves), g.scalar(0, moves)
    d = _columns(g, moves, 0, 1, 2, 3)
    if a.flag("iou_loss", False):
        sides = [g.Add(d[i], g.constant(array[..., i : i + 1], moves.dtype)) for i in range(4)]
    else:
        extent = array[..., 2:] - array[..., :2] + 1
        middle = array[..., :2] + 0.5 * (extent - 1)
        near, far = [], []
        for i in (0, 1):
            size = g.constant(extent[..., i : i + 1], moves.dtype)
            centre = g.Add(g.Mul(d[i], size), g.constant(middle[..., i : i + 1], moves.dtype))
            reach = g.Mul(half, g.Sub(g.Mul(g.Exp(d[i + 2]), size), one))
            near.append(g.Sub(centre, reach))
            far.append(g.Add(centre, reach))
        sides = [*near, *far]
    high, wide = (g.Unsqueeze(g.Sub(c, one), g.ints(2)) for c in _columns(g, image, 0, 1))
    return [g.Max(g.Min(side, end), zero) for side, end in zip(sides, (wide, high, wide, high), strict=True)]


def _large_enough(
    g: Emitter,
    a: Attrs,
    sides: Sequence[Tensor],
    score: Tensor,
    image: Tensor,
    form: tuple[int, int, int],
    stride: int,
) -> tuple[list[Tensor], Tensor]:
    """Boxes below the least size grow by it and score -1; so do those of cells outside of the picture."""
    height, width, kinds = form
    one, minus = g.scalar(1, score), g.scalar(-1, score)
    cell = np.indices((height, width, kinds))[:2].reshape(2, 1, -1, 1)
    real = [
        g.Unsqueeze(g.Floor(g.Div(c, g.scalar(stride, image))), g.ints(2)) for c in _columns(g, image, 0, 1)
    ]
    outside = g.Or(*(g.GreaterOrEqual(g.constant(cell[i], score.dtype), real[i]) for i in (0, 1)))
    score = g.Where(outside, minus, score)
    scale = g.Unsqueeze(_columns(g, image, 2)[0], g.ints(2))
    least = g.Mul(scale, g.scalar(a.integer("rpn_min_size", 16), scale))
    extents = [g.Add(g.Sub(sides[i + 2], sides[i]), one) for i in (0, 1)]
    small = g.Or(*(g.Less(extent, least) for extent in extents))
    grow = g.Where(small, g.Mul(least, g.scalar(0.5, least)), g.scalar(0, least))
    grown = [g.Sub(side, grow) for side in sides[:2]] + [g.Add(side, grow) for side in sides[2:]]
    return grown, g.Where(small, minus, score)


def _filled_up(g: Emitter, a: Attrs, rows: Tensor, kept: Tensor, most: int, wanted: int) -> list[Tensor]:
    """The first ``most`` kept rows of each image, again from the first until there are ``wanted``."""
    count = shape_tensor(g, kept, [size_of(kept, 1)])
    order = _first(g, cast(g, kept, FLOAT32), count)[1]
    number = g.ReduceSum(cast(g, kept, np.int64), g.ints(1), keepdims=1)
    number = g.Min(number, g.constant(most, np.int64))
    cyclic = g.Mod(g.constant(np.arange(few(wanted))[None], np.int64), number)
    chosen = _gathered(g, rows, g.GatherElements(order, cyclic, axis=1))
    image = g.Unsqueeze(cast(g, places_along(g, rows, 0), rows.dtype), g.ints(1, 2))
    image = g.Add(g.Mul(cut(g, chosen, [2], [4], [5]), g.scalar(0, rows)), image)
    boxes = g.Reshape(g.Concat(image, cut(g, chosen, [2], [0], [4]), axis=2), g.ints(-1, 5))
    scores = g.Reshape(cut(g, chosen, [2], [4], [5]), g.ints(-1, 1))
    return [boxes, scores] if a.flag("output_score", False) else [boxes]


# ---- features of regions -----------------------------------------------------------------------------


def _regions(g: Emitter, rois: Tensor) -> tuple[Tensor, Tensor]:
    """(regions,) the image of each, as int64, and (regions, 4) its corner box; rois: (regions, 5)."""
    image = g.Squeeze(_columns(g, rois, 0)[0], g.ints(1))
    return cast(g, image, np.int64), cut(g, rois, [1], [1], [5])


@ROWS.row("_contrib_ROIAlign")
def roi_align(g: Emitter, a: Attrs, x: Tensor, rois: Tensor) -> Tensor:
    """(regions, channels, *pooled_size)."""
    if a.flag("position_sensitive", False):
        raise CannotConvert("position_sensitive")
    height, width = a.integers("pooled_size")
    aligned = a.flag("aligned", False)
    image, boxes = _regions(g, rois)
    return g.RoiAlign(
        x,
        boxes,
        image,
        mode="avg",
        output_height=height,
        output_width=width,
        sampling_ratio=max(a.integer("sample_ratio", -1), 0),
        spatial_scale=a.number("spatial_scale"),
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )


@ROWS.row("ROIPooling")
def roi_pooling(g: Emitter, a: Attrs, x: Tensor, rois: Tensor) -> Tensor:
    """(regions, channels, *pooled_size): maxima over the cells of each region."""
    return g.MaxRoiPool(
        x, rois, pooled_shape=list(a.integers("pooled_size")), spatial_scale=a.number("spatial_scale")
    )
