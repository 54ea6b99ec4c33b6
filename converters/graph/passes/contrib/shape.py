"""What moves, cuts out and counts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from netferry.converters.graph.ops.table import choice
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer
from netferry.converters.graph.schema.opset import OWN_DOMAIN


@opens("Pad")
def pad(g: Writer, x: Value, pads: Value, value: Maybe = None, *, mode: str = "constant") -> Value:
    """ONNX's Pad; pads may be (1, 2 * rank)."""
    flat = pads if g.rank(pads) == 1 else g.reshape(pads, -1)
    number = value if value is None or g.rank(value) == 0 else g.Reshape(value, g.constant([], np.int64))
    return g.Pad(x, flat, number, mode=choice(mode, ("constant", "reflect", "edge"), "mode"))


@opens("Trilu")
def trilu(g: Writer, x: Value, k: Maybe = None, *, upper: int = 1) -> Value:
    scalar = k if k is None or g.rank(k) == 0 else g.Reshape(k, g.constant([], np.int64))
    return g.Trilu(x, scalar, upper=upper)


@opens("ExpandDims")
def expand_dims(g: Writer, x: Value, axis: Value) -> Value:
    """A new axis; one below 0 counts from the end of what is made."""
    return g.unsqueeze(x, *(int(place) for place in g.content(axis, "its axis").reshape(-1)))


@opens("Range")
def span(g: Writer, start: Value, limit: Value, delta: Maybe = None) -> Value:
    """Numbers from ``start`` on; each operand is a number or a vector of one."""
    step = g.scalar(1, start) if delta is None else delta
    operands = (start, limit, step)
    flat = [x if g.rank(x) == 0 else g.Reshape(x, g.constant([], np.int64)) for x in operands]
    return g.Range(*flat)


@opens("Inverse")
def inverse(g: Writer, x: Value) -> Value:
    """The standard has no inverse of a matrix: an operator of our own."""
    return g.ops("Inverse", x, outputs=1, domain=OWN_DOMAIN)[0]


@opens("GatherND")
def gather_nd(g: Writer, x: Value, indices: Value) -> Value:
    return g.GatherND(x, g.as_dtype(indices, np.int64))


MODES: Mapping[str, str] = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}
"""Names of interpolations, and what ONNX calls them today."""


@opens("GridSample")
def grid_sample(
    g: Writer,
    x: Value,
    grid: Value,
    *,
    align_corners: int = 0,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Value:
    kind = MODES[choice(mode, tuple(MODES), "mode")]
    return g.GridSample(x, grid, align_corners=align_corners, mode=kind, padding_mode=padding_mode)


@opens("CropAndResize")
def crop_and_resize(
    g: Writer,
    x: Value,
    rois: Value,
    batch_indices: Value,
    crop_size: Value,
    *,
    extrapolation_value: float = 0.0,
    mode: str = "bilinear",
) -> Value:
    """Boxes (y1, x1, y2, x2) in shares of the image, sampled at places that lie on their corners.

    A place at y of n: y1 (height - 1) + y (y2 - y1) (height - 1) / (n - 1); of one row the middle of the box. A place
    outside of the image has ``extrapolation_value``. ``nearest`` rounds halves up.
    """
    nearest = choice(mode, ("bilinear", "nearest"), "mode") == "nearest"
    count = [int(size) for size in g.content(crop_size, "its crop_size").reshape(-1)]
    images = g.Gather(x, batch_indices, axis=0)
    scales, inside = [], []
    for axis, size in enumerate(count):
        place, edge = _places(g, x, rois, axis, size)
        inside.append(g.And(g.GreaterOrEqual(place, g.scalar(0, x)), g.LessOrEqual(place, edge)))
        if nearest:
            place = g.Floor(g.Add(place, g.scalar(0.5, x)))
        span = g.Max(edge, g.scalar(1, x))
        scales.append(g.Sub(g.Div(g.Mul(place, g.scalar(2, x)), span), g.scalar(1, x)))
    shape = g.sizes(g.size(rois, 0), *count)
    down, across = (g.Expand(g.unsqueeze(part, 2 - axis), shape) for axis, part in enumerate(scales))
    grid = g.Concat(g.unsqueeze(across, 3), g.unsqueeze(down, 3), axis=3)
    kind = "nearest" if nearest else "linear"
    y = g.GridSample(images, grid, align_corners=1, mode=kind, padding_mode="border")
    within = g.And(g.unsqueeze(inside[0], 2), g.unsqueeze(inside[1], 1))
    return g.Where(g.unsqueeze(within, 1), y, g.scalar(extrapolation_value, x))


def _places(g: Writer, x: Value, rois: Value, axis: int, count: int) -> tuple[Value, Value]:
    """Where ``count`` samples lie along an axis of the image, (boxes, count), and the last place of the image."""
    edge = g.like(g.squeeze(g.Sub(g.size(x, 2 + axis), g.ints(1)), 0), x)
    low, high = (g.slice(rois, 1, place, place + 1) for place in (axis, axis + 2))
    if count == 1:
        middle = g.Mul(g.Add(low, high), g.scalar(0.5, x))
        return g.Mul(middle, edge), edge
    steps = g.constant(np.arange(count).reshape(1, -1), g.dtype(x))
    step = g.Div(g.Mul(g.Sub(high, low), edge), g.scalar(count - 1, x))
    return g.Add(g.Mul(low, edge), g.Mul(steps, step)), edge
