"""Sampling at computed places: grids, regions of interest, deformable kernels.

One idea serves them: a coordinate along an axis becomes a few (place, weight) pairs, the places of all axes
one flat index, and the result is a sum of picked elements times weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Dim, largest, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import INT64, as_dtype, choice, content, ints, op, shaped
from netferry.converters.graph.schema.windows import Windows

Taps = list[tuple[Any, Any]]
"""(place, weight) pairs of one axis; a place is an int64 symbol within the axis, a weight a float one or 1."""


def _reflected(xp: Any, x: Any, outer: float, span: Any) -> Any:
    """``x`` folded back and forth between two borders, ``outer`` before the first element and ``span`` apart."""
    if span == 0:
        return x * 0 - outer
    away = xp.abs(x + outer)
    length = span if isinstance(span, int) else largest(span, 1)  # an axis of one element has nowhere to turn
    turns = xp.floor(away / length)
    rest = away - turns * length
    even = xp.equal(turns - xp.floor(turns / 2) * 2, 0)
    return xp.where(even, rest - outer, xp.subtract(span, rest + outer))


def _bounded(xp: Any, x: Any, size: Dim, padding: str, corners: bool) -> Any:
    """A coordinate brought back into its axis; one that pads with zeros stays where it is."""
    if padding == "reflection":
        x = _reflected(xp, x, *((0.0, size - 1) if corners else (0.5, size)))
    return x if padding == "zeros" else xp.minimum(xp.maximum(x, 0), size - 1)


def _tap(xp: Any, position: Any, weight: Any, size: Dim, padding: str, corners: bool) -> tuple[Any, Any]:
    """A whole coordinate as a place; outside, with zeros, any place that weighs nothing."""
    if padding == "zeros":
        inside = (position >= 0) & (position <= size - 1)
        weight = (
            xp.where(inside, weight, 0) if not isinstance(weight, int) else xp.astype(inside, position.dtype)
        )
        position = xp.minimum(xp.maximum(position, 0), size - 1)
    else:
        position = _bounded(xp, position, size, padding, corners)
    return xp.astype(position, INT64), weight


def _cubic(xp: Any, t: Any, a: float = -0.75) -> list[Any]:
    """The weights of the four nearest elements; R. Keys, 1981."""

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _taps(xp: Any, x: Any, size: Dim, mode: str, padding: str, corners: bool) -> Taps:
    """The places that a coordinate (in elements) is made of, and their weights."""
    if mode == "nearest":
        x = _bounded(xp, xp.round(x), size, padding, corners)
        return [_tap(xp, xp.round(x), 1, size, padding, corners)]
    if padding != "zeros" and mode == "linear":
        x = _bounded(xp, x, size, padding, corners)
    low = xp.floor(x)
    t = x - low
    weights = [1 - t, t] if mode == "linear" else _cubic(xp, t)
    first = 0 if mode == "linear" else -1
    return [
        _tap(xp, low + (first + i) if first + i else low, weight, size, padding, corners)
        for i, weight in enumerate(weights)
    ]


def _picked(xp: Any, flat: Any, taps: Sequence[Taps], space: Sequence[Dim], spread: Any) -> Any:
    """The weighed sum over all combinations of taps; ``spread`` makes an index as large as what it picks."""
    total = None
    for combination in itertools.product(*taps):
        position: Any = 0
        weight: Any = 1
        for (where, share), size in zip(combination, space, strict=True):
            position = where if isinstance(position, int) else position * size + where
            weight = (
                share if isinstance(weight, int) else weight if isinstance(share, int) else weight * share
            )
        term = spread(flat, position)
        term = term if isinstance(weight, int) else term * xp.expand_dims(weight, (1,))
        total = term if total is None else total + term
    return total


@op
def GridSample(
    xp: Any,
    x: Symbol,
    grid: Symbol,
    *,
    align_corners: int,
    mode: str,
    padding_mode: str,
) -> Any:
    """``x``: (batch, channels, *space), ``grid``: (batch, *out, dims) in [-1, 1], the last axis of ``x`` first."""
    choice(mode, ("nearest", "linear", "cubic"), "mode")
    choice(padding_mode, ("zeros", "border", "reflection"), "padding_mode")
    space = x.shape[2:]
    (batch, *out), channels = grid.shape[:-1], x.shape[1]
    sizes = (batch, product(out), len(space))
    points = shaped(xp.reshape(as_dtype(xp, grid, x.dtype), sizes), sizes)
    taps = []
    for size, n in zip(space, xp.unstack(points, 2)[::-1], strict=True):
        position = ((n + 1) * (size - 1) if align_corners else (n + 1) * size - 1) / 2
        taps.append(_taps(xp, position, size, mode, padding_mode, bool(align_corners)))
    flat = xp.reshape(x, (batch, channels, product(space)))

    def spread(data: Any, position: Any) -> Any:
        wide = xp.broadcast_to(xp.expand_dims(position, (1,)), (batch, channels, product(out)))
        return xp.take_along_axis(data, wide, 2)

    return xp.reshape(_picked(xp, flat, taps, space, spread), (batch, channels, *out))


@dataclass(frozen=True)
class Samples:
    """Where the samples of each bin of each region lie along one axis: (rois, bins, samples), in elements.

    ``inside`` tells those near enough to the axis to count, ``taken`` those that are taken at all (None: all
    are), ``count`` how many a bin has.
    """

    size: Any
    number: int
    where: Any
    inside: Any
    taken: Any
    count: Any

    def weights(self, xp: Any) -> Any:
        """(rois, bins, size): how much each element weighs in the mean of each bin."""
        elements = xp.reshape(xp.arange(0, self.size, 1, self.where.dtype), (1, 1, 1, -1))
        shares = xp.maximum(1 - xp.abs(xp.expand_dims(self.where, (3,)) - elements), 0)
        counts = self.inside if self.taken is None else self.inside & self.taken
        return xp.sum(xp.where(xp.expand_dims(counts, (3,)), shares, 0), (2,), False) / self.count

    def neighbours(self, xp: Any, sample: int) -> list[tuple[Any, Any]]:
        """(place, weight) of the two elements beside one sample of each bin: (rois, bins) each."""
        at = {2: (sample, sample + 1, 1)}
        where, inside = (xp.squeeze(xp.slice(x, at), (2,)) for x in (self.where, self.inside))
        low = xp.floor(where)
        part = where - low
        positions = low, xp.minimum(low + 1, self.size - 1)
        weights = (xp.where(inside, share, 0) for share in (1 - part, part))
        return [
            (xp.astype(position, INT64), weight) for position, weight in zip(positions, weights, strict=True)
        ]


@op
def RoiAlign(
    xp: Any,
    x: Symbol,
    rois: Symbol,
    batch_indices: Symbol,
    *,
    coordinate_transformation_mode: str,
    mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
) -> Any:
    """The mean or the maximum, over each bin of each region, of samples between neighbouring elements.

    A mean is separable: one matrix for each of the two axes. ``rois``: (rois, 4), x before y.
    """
    modes = ("half_pixel", "output_half_pixel")
    half = choice(coordinate_transformation_mode, modes, "coordinate_transformation_mode") == modes[0]
    corners = shaped(rois * spatial_scale - (0.5 if half else 0.0), rois.shape)
    left, top, right, bottom = xp.unstack(corners, 1)
    count, (channels, height, width) = rois.shape[0], x.shape[1:]
    regions = shaped(xp.take(x, batch_indices, 0), (count, channels, height, width))

    def samples(start: Any, stop: Any, bins: int, axis: int) -> Samples:
        most = sampling_ratio or _most(rois, bins, spatial_scale, axis)
        span = stop - start if half else xp.maximum(stop - start, 1)
        return _samples(xp, start, span, bins, x.shape[3 - axis], sampling_ratio, most)

    rows, columns = samples(top, bottom, output_height, 1), samples(left, right, output_width, 0)
    if choice(mode, ("avg", "max"), "mode") == "max":
        return _largest_share(xp, regions, rows, columns, (channels, output_height, output_width))
    down = shaped(xp.expand_dims(rows.weights(xp), (1,)), (count, 1, output_height, height))
    above = shaped(xp.matmul(down, regions), (count, channels, output_height, width))
    across = xp.expand_dims(xp.permute_dims(columns.weights(xp), (0, 2, 1)), (1,))
    return xp.matmul(above, shaped(across, (count, 1, width, output_width)))


def _most(rois: Symbol, bins: int, scale: float, axis: int) -> int:
    """How many samples a bin of the largest region has, where their number follows the region's size."""
    corners = content(rois, "regions, which decide how many samples are taken,")
    spans = np.maximum((corners[:, axis + 2] - corners[:, axis]) * scale, 1)
    return int(np.ceil(spans / bins).max(initial=1))


def _samples(xp: Any, start: Any, span: Any, bins: int, size: Any, fixed: int, most: int) -> Samples:
    """``fixed`` samples for each bin of ``span`` elements behind ``start``, or, with 0, one for each element."""
    width = xp.expand_dims(span / bins, (1, 2))
    wanted = None if fixed else xp.ceil(width)
    count = fixed if fixed else xp.maximum(wanted, 1)
    budget.make(most + bins)
    sample = xp.asarray(np.arange(most).reshape(1, 1, -1), start.dtype)
    positions = xp.asarray(np.arange(bins).reshape(1, -1, 1), start.dtype)
    where = xp.expand_dims(start, (1, 2)) + positions * width + (sample + 0.5) * (width / count)
    inside = (where >= -1.0) & (where <= size)
    where = xp.minimum(xp.maximum(where, 0), size - 1)
    return Samples(size, most, where, inside, None if fixed else xp.less(sample, wanted), count)


def _largest_share(xp: Any, regions: Any, rows: Samples, columns: Samples, sizes: Sequence[Any]) -> Any:
    """The largest of all neighbours of all samples, each times its own weight, as the reference has it."""
    channels, height, width = sizes
    flat = xp.reshape(regions, (-1, channels, rows.size * columns.size))
    best = None
    for i, j in itertools.product(range(rows.number), range(columns.number)):
        shares = []
        for (y, high), (x, wide) in itertools.product(rows.neighbours(xp, i), columns.neighbours(xp, j)):
            position = xp.expand_dims(y, (2,)) * columns.size + xp.expand_dims(x, (1,))
            weight = xp.expand_dims(high, (2,)) * xp.expand_dims(wide, (1,))
            index = xp.tile(xp.reshape(position, (-1, 1, height * width)), (1, channels, 1))
            shares.append(xp.take_along_axis(flat, index, 2) * xp.reshape(weight, (-1, 1, height * width)))
        share = reduce(xp.maximum, shares)
        if rows.taken is not None and i + j:
            taken = xp.slice(rows.taken, {2: (i, i + 1, 1)}) & xp.slice(
                columns.taken, {2: (j, j + 1, 1)}
            )  # (rois, 1, 1): as many in every bin
            share = xp.where(taken, share, -float("inf"))
        best = share if best is None else xp.maximum(best, share)
    return xp.reshape(best, (-1, channels, height, width))


@op
def MaxRoiPool(xp: Any, x: Symbol, rois: Symbol, *, pooled_shape: Sequence[int], spatial_scale: float) -> Any:
    """The maximum over each bin of each region, 0 where a bin holds nothing. ``rois``: (regions, 5), which image, then x before y.

    A maximum is separable: first over the columns of each bin, then over its rows.
    """
    budget.make(sum(pooled_shape))
    which, *corners = xp.unstack(shaped(as_dtype(xp, rois, x.dtype), rois.shape), 1)
    images = xp.take(x, xp.astype(which, INT64), 0)
    left, top, right, bottom = (xp.floor(corner * spatial_scale + 0.5) for corner in corners)
    rows = _bins(xp, top, bottom, pooled_shape[0], x.shape[2])
    columns = _bins(xp, left, right, pooled_shape[1], x.shape[3])
    low = -float("inf")
    across = [
        xp.max(xp.where(xp.expand_dims(inside, (1, 2)), images, low), (3,), False)
        for inside in _held(xp, *columns, x.shape[3])
    ]
    narrow = xp.stack(across, 3)
    down = [
        xp.max(xp.where(xp.expand_dims(inside, (1, 3)), narrow, low), (2,), False)
        for inside in _held(xp, *rows, x.shape[2])
    ]
    some_rows, some_columns = (xp.less(begins, ends) for begins, ends in (rows, columns))
    some = xp.expand_dims(some_rows, (2,)) & xp.expand_dims(some_columns, (1,))
    return xp.where(xp.expand_dims(some, (1,)), xp.stack(down, 2), 0)


def _bins(xp: Any, start: Any, stop: Any, count: int, size: Any) -> tuple[Symbol, Symbol]:
    """Where the bins of each region begin and end on an axis of ``size`` elements: (regions, count) each."""
    width = xp.expand_dims(xp.maximum(stop - start + 1, 1) / count, (1,))
    bins = xp.reshape(xp.arange(0, count, 1, start.dtype), (1, count))
    begins = xp.floor(bins * width) + xp.expand_dims(start, (1,))
    ends = xp.ceil((bins + 1) * width) + xp.expand_dims(start, (1,))
    begins, ends = (xp.minimum(xp.maximum(each, 0), size) for each in (begins, ends))
    return shaped(begins, (start.shape[0], count)), shaped(ends, (start.shape[0], count))


def _held(xp: Any, begins: Symbol, ends: Symbol, size: Any) -> Iterator[Any]:
    """Bin by bin, which elements of the axis it holds: (regions, size)."""
    places = xp.reshape(xp.arange(0, size, 1, begins.dtype), (1, -1))
    for begin, end in zip(xp.unstack(begins, 1), xp.unstack(ends, 1), strict=True):
        yield (places >= xp.expand_dims(begin, (1,))) & xp.less(places, xp.expand_dims(end, (1,)))


@op
def DeformConv(
    xp: Any,
    x: Symbol,
    w: Symbol,
    offset: Symbol,
    b: Symbol | None = None,
    mask: Symbol | None = None,
    *,
    windows: Windows,
    group: int,
    offset_group: int,
) -> Any:
    """A convolution whose kernel looks between the elements, moved by ``offset``; outside are zeros.

    ``offset``: (batch, offset_group * kernel * 2, *out), y before x; ``mask``: the same without the 2.
    """
    space, out = ints(x.shape[2:], "image sizes"), ints(offset.shape[2:], "output sizes")
    if len(space) != 2:
        raise CannotConvert(f"it convolves over {len(space)} axes, two are supported")
    batch, channels, count = x.shape[0], x.size(1), product(windows.kernel)
    base = _kernel_positions(windows, out)
    moved = xp.reshape(offset, (-1, count, 2, *out)) + xp.asarray(base, x.dtype)
    taps = []
    for size, position in zip(
        space, xp.unstack(shaped(moved, (batch * offset_group, count, 2, *out)), 2), strict=True
    ):
        flat_position = xp.reshape(position, (-1, count * product(out)))
        taps.append(_taps(xp, flat_position, size, "linear", "zeros", True))
    depth = channels // offset_group
    data = xp.reshape(x, (-1, depth, product(space)))

    def spread(flat: Any, position: Any) -> Any:
        wide = xp.tile(xp.expand_dims(position, (1,)), (1, depth, 1))
        return xp.take_along_axis(flat, wide, 2)

    columns = _picked(xp, data, taps, space, spread)
    if mask is not None:
        columns = columns * xp.reshape(mask, (-1, 1, count * product(out)))
    columns = xp.reshape(columns, (batch, group, channels // group * count, product(out)))
    y = xp.matmul(xp.reshape(w, (group, w.shape[0] // group, -1)), columns)
    y = xp.reshape(y, (batch, w.shape[0], *out))
    return y if b is None else y + xp.expand_dims(b, (1, 2))


def _kernel_positions(windows: Windows, out: Sequence[int]) -> Any:
    """(kernel, 2, *out): where each element of the kernel stands at each output place, before it is moved."""
    kernel = windows.kernel
    budget.make(2 * product(kernel) * product(out))
    settings = zip(kernel, out, windows.strides, windows.listed, windows.dilations, strict=True)
    axes = [
        np.arange(k)[:, None] * dilation + np.arange(o)[None, :] * stride - before
        for k, o, stride, (before, _), dilation in settings
    ]
    rows = np.broadcast_to(axes[0][:, None, :, None], (*kernel, *out))
    columns = np.broadcast_to(axes[1][None, :, None, :], (*kernel, *out))
    return np.stack([rows, columns], 2).reshape(product(kernel), 2, *out)
