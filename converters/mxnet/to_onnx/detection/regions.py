"""Rows of what detectors read of each region: pooled, aligned, turned, or by position.

A region is a row of ``rois``: the position of its image in the batch, then a corner box, in the image's own pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.detection.boxes import columns
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, cast
from netferry.converters.mxnet.to_onnx.sizes import cut
from netferry.converters.signature import Array


def _regions(g: Emitter, rois: Tensor) -> tuple[Tensor, Tensor]:
    """(regions,) the image of each, as int64, and (regions, 4) its corner box; rois: (regions, 5)."""
    image = g.Squeeze(columns(g, rois, 0)[0], g.ints(1))
    return cast(g, image, np.int64), cut(g, rois, [1], [1], [5])


@ROWS.row("_contrib_ROIAlign")
def roi_align(g: Emitter, a: Attrs, x: Tensor, rois: Tensor) -> Tensor:
    """(regions, channels, *pooled_size)."""
    apart = a.flag("position_sensitive", False)
    height, width = a.integers("pooled_size")
    aligned = a.flag("aligned", False)
    image, boxes = _regions(g, rois)
    y = g.RoiAlign(
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
    return _by_position(g, y, height, width) if apart else y


def _by_position(g: Emitter, y: Tensor, height: int, width: int) -> Tensor:
    """Of (regions, channels, height, width): each cell from the channel that is its own, (regions, channels / cells, ...)."""
    cells = height * width
    own = g.constant(np.eye(cells), y.dtype)
    grouped = g.Reshape(y, g.ints(0, -1, cells, cells))
    return g.Reshape(g.ReduceSum(g.Mul(grouped, own), g.ints(2), keepdims=0), g.ints(0, -1, height, width))


@ROWS.row("ROIPooling")
def roi_pooling(g: Emitter, a: Attrs, x: Tensor, rois: Tensor) -> Tensor:
    """(regions, channels, *pooled_size): maxima over the cells of each region."""
    return g.MaxRoiPool(
        x, rois, pooled_shape=list(a.integers("pooled_size")), spatial_scale=a.number("spatial_scale")
    )


def _rounded(g: Emitter, x: Tensor) -> Tensor:
    """To whole numbers, halves away from zero."""
    return g.Mul(g.Sign(x), g.Floor(g.Add(g.Abs(x), g.scalar(0.5, x))))


def _own_channels(outputs: int, groups: int, pooled: int) -> Array:
    """(outputs, pooled, pooled): the channel that a cell of an output reads."""
    cell = np.clip(np.arange(pooled) * groups // pooled, 0, groups - 1)
    own = np.arange(outputs)[:, None, None] * groups * groups
    found: Array = own + cell[:, None] * groups + cell
    return found


@dataclass(frozen=True)
class _Spans:
    """Where regions begin and how large their cells are, (regions, 1, 1, 1) each, down and across."""

    start: tuple[Tensor, Tensor]
    extent: tuple[Tensor, Tensor]
    cell: tuple[Tensor, Tensor]


def _spans(g: Emitter, boxes: Tensor, scale: float, pooled: int, shift: float = 0.0) -> _Spans:
    """Of corner boxes in whole pixels whose last row and column belong to them."""
    sides = [g.Unsqueeze(_rounded(g, side), g.ints(2, 3)) for side in columns(g, boxes, 1, 0, 3, 2)]
    factor, moved = g.scalar(scale, boxes), g.scalar(shift, boxes)
    starts = tuple(g.Sub(g.Mul(side, factor), moved) for side in sides[:2])
    ends = (g.Sub(g.Mul(g.Add(side, g.scalar(1, side)), factor), moved) for side in sides[2:])
    extents = tuple(
        g.Max(g.Sub(end, start), g.scalar(0.1, start)) for start, end in zip(starts, ends, strict=True)
    )
    cells = tuple(g.Div(extent, g.scalar(pooled, extent)) for extent in extents)
    return _Spans((starts[0], starts[1]), (extents[0], extents[1]), (cells[0], cells[1]))


def _at(g: Emitter, x: Tensor, image: Tensor, channels: Tensor, y: Tensor, across: Tensor) -> Tensor:
    """Elements of x: (batch, channels, height, width) by positions that are broadcast, all of them int64."""
    high, wide = x.size(2), x.size(3)
    plane = g.Add(g.Mul(image, g.constant(x.size(1), np.int64)), channels)
    row = g.Add(g.Mul(plane, g.constant(high, np.int64)), y)
    flat = g.Add(g.Mul(row, g.constant(wide, np.int64)), across)
    return g.Gather(g.Reshape(x, g.ints(-1)), flat, axis=0)


def _between(g: Emitter, x: Tensor, image: Tensor, channels: Tensor, y: Tensor, across: Tensor) -> Tensor:
    """Between the four pixels around each position, which lies inside of the image."""
    whole, share = [], []
    for place, size in ((y, x.size(2)), (across, x.size(3))):
        low = g.Floor(place)
        share.append(g.Sub(place, low))
        first = cast(g, low, np.int64)
        one, last = g.constant(1, np.int64), g.constant(size - 1, np.int64)
        whole.append((first, g.Min(g.Add(first, one), last)))
    one = g.scalar(1, x)
    rows = []
    for y_at in whole[0]:
        left, right = (_at(g, x, image, channels, y_at, x_at) for x_at in whole[1])
        rows.append(g.Add(g.Mul(left, g.Sub(one, share[1])), g.Mul(right, share[1])))
    return g.Add(g.Mul(rows[0], g.Sub(one, share[0])), g.Mul(rows[1], share[0]))


@ROWS.row("_contrib_PSROIPooling")
def position_sensitive_pooling(g: Emitter, a: Attrs, x: Tensor, rois: Tensor) -> Tensor:
    """(regions, output_dim, pooled_size, pooled_size): averages of whole pixels, by sums over all that is above and left."""
    pooled, outputs = a.integer("pooled_size"), a.integer("output_dim")
    image, boxes = _regions(g, rois)
    spans = _spans(g, boxes, a.number("spatial_scale"), pooled)
    channels = _own_channels(outputs, a.integer("group_size", 0) or pooled, pooled)
    summed = cast(g, g.Pad(x, g.ints(0, 0, 1, 1, 0, 0, 0, 0), g.scalar(0, x)), np.float64)
    for axis in (2, 3):
        summed = g.CumSum(summed, g.constant(axis, np.int64))
    edges = []
    for axis in (0, 1):
        shape = (1, 1, pooled, 1) if axis == 0 else (1, 1, 1, pooled)
        at = np.arange(pooled, dtype=np.float32).reshape(shape)
        low = g.Floor(g.Add(g.Mul(g.constant(at, x.dtype), spans.cell[axis]), spans.start[axis]))
        high = g.Ceil(g.Add(g.Mul(g.constant(at + 1, x.dtype), spans.cell[axis]), spans.start[axis]))
        zero, size = g.scalar(0, x), g.scalar(x.size(2 + axis), x)
        edges.append([cast(g, g.Max(g.Min(edge, size), zero), np.int64) for edge in (low, high)])
    own = (g.Unsqueeze(image, g.ints(1, 2, 3)), g.constant(channels[None], np.int64))
    (top, bottom), (left, right) = edges
    inside = g.Sub(_at(g, summed, *own, bottom, right), _at(g, summed, *own, top, right))
    inside = g.Sub(inside, g.Sub(_at(g, summed, *own, bottom, left), _at(g, summed, *own, top, left)))
    zero = g.constant(0, np.int64)
    count = g.Mul(g.Max(g.Sub(bottom, top), zero), g.Max(g.Sub(right, left), zero))
    whole = cast(g, g.Max(count, g.constant(1, np.int64)), np.float64)
    found = g.Where(g.Equal(count, zero), g.constant(0, np.float64), g.Div(inside, whole))
    return cast(g, found, x.dtype)


@ROWS.row("_contrib_DeformablePSROIPooling")
def deformable_pooling(g: Emitter, a: Attrs, x: Tensor, rois: Tensor, trans: Tensor | None = None) -> Tensor:
    """(regions, output_dim, pooled_size, pooled_size): means of samples, cells moved by ``trans``, parts of the region's size.

    trans: (regions, 2 * classes, part_size, part_size), across before down.
    """
    pooled, outputs, samples = (
        a.integer("pooled_size"),
        a.integer("output_dim"),
        a.integer("sample_per_part", 1),
    )
    image, boxes = _regions(g, rois)
    spans = _spans(g, boxes, a.number("spatial_scale"), pooled, 0.5)
    channels = _own_channels(outputs, a.integer("group_size"), pooled)[None, ..., None, None]
    moves = _moves(g, a, trans, pooled, outputs)
    places, inside = [], None
    for axis in (0, 1):
        start, extent, cell = (
            g.Unsqueeze(z[axis], g.ints(4, 5)) for z in (spans.start, spans.extent, spans.cell)
        )
        shape = [1, 1, 1, 1, 1, 1]
        shape[2 + axis] = pooled
        at = g.Mul(g.constant(np.arange(pooled, dtype=np.float32).reshape(shape), x.dtype), cell)
        at = g.Add(at, start)
        if moves:
            at = g.Add(at, g.Mul(moves[axis], extent))
        shape[2 + axis], shape[4 + axis] = 1, samples
        step = g.Div(cell, g.scalar(samples, cell))
        at = g.Add(at, g.Mul(g.constant(np.arange(samples, dtype=np.float32).reshape(shape), x.dtype), step))
        size = x.size(2 + axis)
        within = g.And(g.GreaterOrEqual(at, g.scalar(-0.5, at)), g.LessOrEqual(at, g.scalar(size - 0.5, at)))
        inside = within if inside is None else g.And(inside, within)
        places.append(g.Max(g.Min(at, g.scalar(size - 1, at)), g.scalar(0, at)))
    assert inside is not None
    found = _between(g, x, g.Unsqueeze(image, g.ints(1, 2, 3, 4, 5)), g.constant(channels, np.int64), *places)
    counted = cast(g, inside, x.dtype)
    number = g.ReduceSum(counted, g.ints(4, 5), keepdims=0)
    total = g.ReduceSum(g.Mul(found, counted), g.ints(4, 5), keepdims=0)
    return g.Div(total, g.Max(number, g.scalar(1, x)))


def _moves(g: Emitter, a: Attrs, trans: Tensor | None, pooled: int, outputs: int) -> list[Tensor]:
    """How far each cell is moved, down and across, (regions, outputs, pooled, pooled, 1, 1); none where nothing is."""
    strength, part = a.number("trans_std", 0.0), a.integer("part_size", 0) or pooled
    if a.flag("no_trans", False) or trans is None:
        return []
    classes = trans.size(1) // 2
    if classes < 1 or outputs % classes:
        raise CannotConvert(f"{outputs} outputs of {classes} classes")
    part_of = np.arange(pooled) * part // pooled
    own = np.arange(outputs) // (outputs // classes)
    found = g.Gather(trans, g.constant(part_of, np.int64), axis=2)
    found = g.Gather(found, g.constant(part_of, np.int64), axis=3)
    scaled = g.Unsqueeze(g.Mul(found, g.scalar(strength, trans)), g.ints(4, 5))
    return [g.Gather(scaled, g.constant(own * 2 + other, np.int64), axis=1) for other in (1, 0)]


@ROWS.row("_contrib_RROIAlign")
def rotated_align(g: Emitter, a: Attrs, x: Tensor, rois: Tensor) -> Tensor:
    """(regions, channels, *pooled_size); rois: (regions, 6), the image, centre, width and height, and the angle in degrees."""
    (high, wide), samples = a.integers("pooled_size"), a.integer("sampling_ratio", -1)
    if samples <= 0:
        raise CannotConvert("sampling_ratio=-1, with which a region's size says how often it is sampled")
    scale = g.scalar(a.number("spatial_scale"), rois)
    spread = g.ints(2, 3, 4, 5)
    image, *numbers = (g.Unsqueeze(c, spread) for c in columns(g, rois, 0, 1, 2, 3, 4, 5))
    middle_x, middle_y, width, height = (g.Mul(c, scale) for c in numbers[:4])
    angle = g.Mul(numbers[4], g.scalar(math.pi / 180, rois))
    along = []
    for axis, (count, extent) in enumerate(((high, height), (wide, width))):
        extent = g.Max(extent, g.scalar(1, extent))
        shape = [1, 1, 1, 1, 1, 1]
        shape[2 + axis], shape[4 + axis] = count, samples
        cells = np.arange(count)[:, None] + (np.arange(samples) + 0.5) / samples
        part = g.constant(cells.reshape(shape) / count - 0.5, x.dtype)
        along.append(g.Mul(part, extent))
    sine, cosine = g.Sin(angle), g.Cos(angle)
    across = g.Add(g.Add(g.Mul(along[1], cosine), g.Mul(along[0], sine)), middle_x)
    down = g.Add(g.Sub(g.Mul(along[0], cosine), g.Mul(along[1], sine)), middle_y)
    places, inside = [], None
    for place, size in ((down, x.size(2)), (across, x.size(3))):
        within = g.And(
            g.GreaterOrEqual(place, g.scalar(-1, place)), g.LessOrEqual(place, g.scalar(size, place))
        )
        inside = within if inside is None else g.And(inside, within)
        places.append(g.Max(g.Min(place, g.scalar(size - 1, place)), g.scalar(0, place)))
    assert inside is not None
    channels = g.constant(np.arange(x.size(1)).reshape(1, -1, 1, 1, 1, 1), np.int64)
    found = _between(g, x, cast(g, image, np.int64), channels, *places)
    found = g.Where(inside, found, g.scalar(0, x))
    return g.Div(g.ReduceSum(found, g.ints(4, 5), keepdims=0), g.scalar(samples * samples, x))
