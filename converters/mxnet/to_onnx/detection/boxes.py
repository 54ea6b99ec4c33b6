"""Rows of detectors: boxes, and suppression of those that overlap.

A corner box is (left, top, right, bottom), a centre box (x, y, width, height).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, cast
from netferry.converters.mxnet.to_onnx.sizes import cut, positions_along, shape_tensor, size_of

# ---- boxes -------------------------------------------------------------------------------------------


def columns(g: Emitter, x: Tensor, *indices: int) -> list[Tensor]:
    """Columns of the last axis, each (..., 1)."""
    return [cut(g, x, [x.rank - 1], [index], [index + 1]) for index in indices]


def _corners(g: Emitter, boxes: Tensor, form: str) -> list[Tensor]:
    """The four sides of boxes (..., 4), each (..., 1)."""
    first, second, third, fourth = columns(g, boxes, 0, 1, 2, 3)
    if form == "corner":
        return [first, second, third, fourth]
    half = g.scalar(0.5, boxes)
    across, down = g.Mul(third, half), g.Mul(fourth, half)
    return [g.Sub(first, across), g.Sub(second, down), g.Add(first, across), g.Add(second, down)]


def _form(a: Attrs, name: str, default: str = "corner") -> str:
    return a.string(name, default, among="corner center")


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
    first, second, third, fourth = columns(g, anchors, 0, 1, 2, 3)
    if form == "corner":
        half = g.scalar(0.5, anchors)
        width, height = g.Sub(third, first), g.Sub(fourth, second)
        centre = [g.Add(first, g.Mul(width, half)), g.Add(second, g.Mul(height, half))]
    else:
        width, height, centre = third, fourth, [first, second]
    dx, dy, dw, dh = (
        g.Mul(c, g.scalar(std, x)) for c, std in zip(columns(g, x, 0, 1, 2, 3), stds, strict=True)
    )
    if clip > 0:
        dw, dh = (g.Min(each, g.scalar(clip, x)) for each in (dw, dh))
    return _moved(g, (dx, dy, dw, dh), centre, (width, height))


def _moved(g: Emitter, moves: Sequence[Tensor], centre: Sequence[Tensor], extent: Sequence[Tensor]) -> Tensor:
    """Corner boxes, (..., 4): centres moved by parts of their extents, which are scaled by an exponential."""
    half = g.scalar(0.5, moves[0])
    x, y = (g.Add(g.Mul(move, size), at) for move, size, at in zip(moves[:2], extent, centre, strict=True))
    w, h = (g.Mul(g.Mul(g.Exp(d), size), half) for d, size in zip(moves[2:], extent, strict=True))
    return g.Concat(g.Sub(x, w), g.Sub(y, h), g.Add(x, w), g.Add(y, h), axis=-1)


def _centre_form(g: Emitter, boxes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """(x, y) and (width, height) of corner boxes."""
    half = g.scalar(0.5, boxes)
    left, top, right, bottom = columns(g, boxes, 0, 1, 2, 3)
    extent = [g.Sub(right, left), g.Sub(bottom, top)]
    return [g.Mul(g.Add(left, right), half), g.Mul(g.Add(top, bottom), half)], extent


# ---- suppression -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranked:
    """Boxes in the order in which they may suppress each other.

    ``sides``: four of (batch, boxes, 1); ``valid``: (batch, boxes), bools; ``classes``: (batch, boxes),
    int64, or None where all boxes meet each other.
    """

    sides: Sequence[Tensor]
    valid: Tensor
    classes: Tensor | None = None


def survivors(g: Emitter, boxes: Ranked, threshold: float) -> Tensor:
    """(batch, boxes), bools: what greedy suppression keeps.

    ONNX ranks by score: here the score is the rank, and 0 what takes no part. A box whose corners are exchanged
    has no extent in MXNet; ONNX would exchange them back.
    """
    if threshold >= 1:  # no overlap is larger
        return boxes.valid
    if threshold < 0 and boxes.classes is None:  # any two overlap by more: the first alone is left
        counted = g.CumSum(cast(g, boxes.valid, np.int64), g.constant(1, np.int64))
        return g.And(boxes.valid, g.Equal(counted, g.constant(1, np.int64)))
    left, top, right, bottom = boxes.sides
    corners = g.Concat(left, top, g.Max(left, right), g.Max(top, bottom), axis=-1)
    if threshold < 0:  # of each class the first alone is left, as it is where all boxes are one
        corners = g.Expand(g.constant([[[0, 0, 1, 1]]], corners.dtype), g.Shape(corners))
        threshold = 0.5
    valid = boxes.valid
    rank = cast(g, positions_along(g, valid, 1), FLOAT32)
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
    positions = g.Gather(chosen, g.ints(0, 2), axis=1)
    nothing = g.Expand(g.constant(False), g.Shape(valid))
    taken = g.Expand(g.constant(True), g.Shape(positions, start=0, end=1))
    return g.ScatterND(nothing, positions, taken)


def gathered(g: Emitter, x: Tensor, positions: Tensor) -> Tensor:
    """Rows of x: (batch, boxes, width), by positions: (batch, chosen)."""
    index = g.Unsqueeze(positions, g.ints(2))
    return g.GatherND(x, index, batch_dims=1)


def largest_first(g: Emitter, keys: Tensor, count: Tensor) -> tuple[Tensor, ...]:
    """The largest keys along axis 1 and where they stand; of equal ones the first comes first."""
    return g.ops("TopK", keys, count, outputs=2, axis=1, largest=1, sorted=1)


def _packed(g: Emitter, kept: Tensor, x: Tensor) -> Tensor:
    """Rows of x that are kept, in order, at the front; rows of -1 behind."""
    count = shape_tensor(g, kept, [size_of(kept, 1)])
    positions = largest_first(g, cast(g, kept, FLOAT32), count)[1]
    moved = gathered(g, x, positions)
    still = g.GatherElements(kept, positions, axis=1)
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
        valid = g.And(valid, g.Less(positions_along(g, valid, 1), g.constant(topk, np.int64)))
    classes = None
    if column >= 0 and not force:
        classes = g.Squeeze(cast(g, columns(g, boxes, column)[0], np.int64), g.ints(2))
    sides = _corners(g, cut(g, boxes, [2], [start], [start + 4]), form)
    kept = survivors(g, Ranked(sides, valid, classes), overlap)
    y = _in_form(g, _packed(g, kept, boxes), start, form, target)
    return y if x.rank == 3 else g.Reshape(y, g.Shape(x))


def _valid_by_score(
    g: Emitter, x: Tensor, score: int, least: float, background: tuple[int, float]
) -> tuple[Tensor, Tensor]:
    """Boxes by score and, (batch, boxes), which of them count; those that do not stand behind.

    A box counts whose score is above ``least`` and whose class, in a column, is not the background.
    """
    scores = columns(g, x, score)[0]
    valid = g.Greater(scores, g.scalar(least, x))
    column, none = background
    if column >= 0:
        valid = g.And(valid, g.Not(g.Equal(columns(g, x, column)[0], g.scalar(none, x))))
    lowest = g.scalar(-np.inf, x)
    keys = g.Squeeze(g.Where(valid, scores, lowest), g.ints(2))
    positions = largest_first(g, keys, shape_tensor(g, keys, [size_of(keys, 1)]))[1]
    return gathered(g, x, positions), g.GatherElements(g.Squeeze(valid, g.ints(2)), positions, axis=1)


def _in_form(g: Emitter, y: Tensor, start: int, have: str, want: str) -> Tensor:
    """The boxes in the other form; MXNet leaves those alone whose first number is negative."""
    if have == want:
        return y
    box = cut(g, y, [2], [start], [start + 4])
    if want == "corner":
        converted = g.Concat(*_corners(g, box, "center"), axis=-1)
    else:
        centre, extent = _centre_form(g, box)
        converted = g.Concat(*centre, *extent, axis=-1)
    first = columns(g, box, 0)[0]
    box = g.Where(g.Less(first, g.scalar(0, y)), box, converted)
    before = [cut(g, y, [2], [0], [start])] if start else []
    behind = [cut(g, y, [2], [start + 4], [None])] if start + 4 < y.size(2) else []
    return g.Concat(*before, box, *behind, axis=-1)


@ROWS.row("_contrib_MultiBoxDetection")
def multi_box_detection(
    g: Emitter, a: Attrs, probabilities: Tensor, shifts: Tensor, anchors: Tensor
) -> Tensor:
    """(batch, boxes, 6): class, score, corner box; by score. A suppressed box keeps all but its class, -1.

    probabilities: (batch, classes, boxes) with the background first; shifts: (batch, boxes * 4);
    anchors: (1, boxes, 4).
    """
    a.ignore("background_id")  # MXNet reads it, and takes the first class for the background
    force = a.flag("force_suppress", False)
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
    positions = largest_first(g, g.Where(valid, score, g.scalar(-1, score)), whole)[1]
    ranked, counted = gathered(g, rows, positions), g.GatherElements(valid, positions, axis=1)
    meeting = counted
    if topk > 0:  # MXNet ranks so many, and leaves the others where they stand, without a class
        inside = g.Less(positions_along(g, score, 1), g.constant(topk, np.int64))
        ranked = g.Where(g.Unsqueeze(inside, g.ints(0, 2)), ranked, _packed(g, valid, rows))
        meeting = g.And(counted, inside)
    rows, valid = ranked, counted
    label = g.Squeeze(cast(g, columns(g, rows, 0)[0], np.int64), g.ints(2))
    sides = columns(g, rows, 2, 3, 4, 5)
    classes = None if force else label
    # ONNX suppresses above the threshold, MXNet at it too
    below = float(np.nextafter(np.float32(overlap), np.float32(0)))
    kept = survivors(g, Ranked(sides, meeting, classes), below)
    minus = g.scalar(-1, rows)
    labels = g.Where(g.Unsqueeze(kept, g.ints(2)), columns(g, rows, 0)[0], minus)
    return g.Where(
        g.Unsqueeze(valid, g.ints(2)), g.Concat(labels, cut(g, rows, [2], [1], [None]), axis=2), minus
    )


def _decoded(g: Emitter, a: Attrs, shifts: Tensor, anchors: Tensor) -> Tensor:
    """(batch, boxes, 4): anchors moved and scaled as predicted."""
    variances = a.numbers("variances", (0.1, 0.1, 0.2, 0.2))
    centre, extent = _centre_form(g, anchors)
    moves = columns(g, g.Reshape(shifts, g.ints(0, -1, 4)), 0, 1, 2, 3)
    boxes = _moved(
        g, [g.Mul(d, g.scalar(v, d)) for d, v in zip(moves, variances, strict=True)], centre, extent
    )
    return g.Clip(boxes, g.scalar(0, boxes), g.scalar(1, boxes)) if a.flag("clip", True) else boxes
