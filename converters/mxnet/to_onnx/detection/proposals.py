"""Rows of what comes before a detector's boxes: anchors and proposals."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.detection.boxes import (
    Ranked,
    columns,
    gathered,
    largest_first,
    survivors,
)
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, cast, few
from netferry.converters.mxnet.to_onnx.sizes import cut, positions_along, shape_tensor, size_of

# ---- anchors ----------------------------------------------------------------------------------------


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


# ---- proposals --------------------------------------------------------------------------------------


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
    """(batch * chosen, 5): the image's position and a corner box; and, (batch * chosen, 1), its score.

    scores: (batch, 2 * anchors, height, width); shifts: (batch, 4 * anchors, height, width); image: (batch,
    3), height, width and scale of the image. Where too few boxes are left they come again from the first.
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
    if wanted < 0:
        raise CannotConvert(f"rpn_post_nms_top_n={wanted}")
    if wanted == 0:
        a.ignore("threshold", "rpn_min_size", "iou_loss", "output_score")
        return [g.constant(np.zeros((0, size)), scores.dtype) for size in (5, 1)]
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
    ranked, positions = largest_first(g, g.Squeeze(score, g.ints(2)), g.ints(considered))
    rows = gathered(g, rows, positions)
    one = g.scalar(1, rows)
    left, top, right, bottom = columns(g, rows, 0, 1, 2, 3)
    everything = g.Expand(g.constant(True), g.Shape(ranked))
    kept = survivors(
        g, Ranked([left, top, g.Add(right, one), g.Add(bottom, one)], everything), a.number("threshold", 0.7)
    )
    return _filled_up(g, a, rows, kept, min(wanted, considered), wanted)


def _clipped_proposals(g: Emitter, a: Attrs, moves: Tensor, anchors: object, image: Tensor) -> list[Tensor]:
    """The anchors moved, inside of the image: four sides (batch, boxes, 1)."""
    array = np.asarray(anchors)
    one, half, zero = g.scalar(1, moves), g.scalar(0.5, moves), g.scalar(0, moves)
    d = columns(g, moves, 0, 1, 2, 3)
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
    high, wide = (g.Unsqueeze(g.Sub(c, one), g.ints(2)) for c in columns(g, image, 0, 1))
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
    """Boxes below the least size grow by it and score -1; so do those of cells outside of the image."""
    height, width, kinds = form
    one, minus = g.scalar(1, score), g.scalar(-1, score)
    cell = np.indices((height, width, kinds))[:2].reshape(2, 1, -1, 1)
    real = [
        g.Unsqueeze(g.Floor(g.Div(c, g.scalar(stride, image))), g.ints(2)) for c in columns(g, image, 0, 1)
    ]
    outside = g.Or(*(g.GreaterOrEqual(g.constant(cell[i], score.dtype), real[i]) for i in (0, 1)))
    score = g.Where(outside, minus, score)
    scale = g.Unsqueeze(columns(g, image, 2)[0], g.ints(2))
    least = g.Mul(scale, g.scalar(a.integer("rpn_min_size", 16), scale))
    extents = [g.Add(g.Sub(sides[i + 2], sides[i]), one) for i in (0, 1)]
    small = g.Or(*(g.Less(extent, least) for extent in extents))
    grow = g.Where(small, g.Mul(least, g.scalar(0.5, least)), g.scalar(0, least))
    grown = [g.Sub(side, grow) for side in sides[:2]] + [g.Add(side, grow) for side in sides[2:]]
    return grown, g.Where(small, minus, score)


def _filled_up(g: Emitter, a: Attrs, rows: Tensor, kept: Tensor, most: int, wanted: int) -> list[Tensor]:
    """The first ``most`` kept rows of each image, again from the first until there are ``wanted``."""
    count = shape_tensor(g, kept, [size_of(kept, 1)])
    order = largest_first(g, cast(g, kept, FLOAT32), count)[1]
    number = g.ReduceSum(cast(g, kept, np.int64), g.ints(1), keepdims=1)
    number = g.Min(number, g.constant(most, np.int64))
    cyclic = g.Mod(g.constant(np.arange(few(wanted))[None], np.int64), number)
    chosen = gathered(g, rows, g.GatherElements(order, cyclic, axis=1))
    image = g.Unsqueeze(cast(g, positions_along(g, rows, 0), rows.dtype), g.ints(1, 2))
    image = g.Add(g.Mul(cut(g, chosen, [2], [4], [5]), g.scalar(0, rows)), image)
    boxes = g.Reshape(g.Concat(image, cut(g, chosen, [2], [0], [4]), axis=2), g.ints(-1, 5))
    scores = g.Reshape(cut(g, chosen, [2], [4], [5]), g.ints(-1, 1))
    a.ignore("output_score")  # it says whether the second output is one of the model
    return [boxes, scores]
