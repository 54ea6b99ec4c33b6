"""Rows of losses, counts, searches and functions that ONNX has no operator for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx.convolution import padding_of
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter


@ROWS.row("SoftmaxCrossEntropyWithLogits")
def softmax_cross_entropy(g: Emitter, a: Attrs, logits: Tensor, labels: Tensor) -> list[Tensor]:
    """The loss of each row, and what flows back: softmax(logits) - labels."""
    loss = g.Neg(g.ReduceSum(g.Mul(labels, g.LogSoftmax(logits, axis=-1)), g.ints(-1), keepdims=0))
    return [loss, g.Sub(g.Softmax(logits, axis=-1), labels)]


@ROWS.row("SparseSoftmaxCrossEntropyWithLogits")
def sparse_softmax_cross_entropy(g: Emitter, a: Attrs, logits: Tensor, labels: Tensor) -> list[Tensor]:
    rows = g.Unsqueeze(g.index(labels), g.ints(-1))
    loss = g.Neg(g.Squeeze(g.GatherElements(g.LogSoftmax(logits, axis=-1), rows, axis=-1), g.ints(-1)))
    count = g.length(logits, logits.rank - 1)
    places = g.Range(g.constant(0, np.int64), count, g.constant(1, np.int64))
    hit = g.cast(g.Equal(rows, places), logits.dtype)
    return [loss, g.Sub(g.Softmax(logits, axis=-1), hit)]


@ROWS.row("InTopKV2", "InTopK")
def in_top_k(g: Emitter, a: Attrs, predictions: Tensor, targets: Tensor, k: Tensor | None = None) -> Tensor:
    """Whether fewer than ``k`` of a row's numbers are larger than the target's own."""
    count = g.constant(a.integer("k"), np.int64) if k is None else g.index(k)
    own = g.GatherElements(predictions, g.Unsqueeze(g.index(targets), g.ints(1)), axis=1)
    larger = g.ReduceSum(g.cast(g.Greater(predictions, own), np.int64), g.ints(1), keepdims=0)
    return g.Less(larger, count)


@ROWS.row("Bincount", "DenseBincount")
def bincount(g: Emitter, a: Attrs, values: Tensor, size: Tensor, weights: Tensor) -> Tensor:
    """How often each number below ``size`` stands there, or the sum of its weights; larger numbers are left out.

    values: (n,), or (rows, n), each row counted by itself.
    """
    last = values.rank - 1
    count = g.Reshape(g.index(size), g.ints(1))
    places = g.Range(g.constant(0, np.int64), g.Squeeze(count, g.ints(0)), g.constant(1, np.int64))
    hits = g.Equal(g.Unsqueeze(g.index(values), g.ints(-1)), places)
    plain = weights.dims is not None and 0 in weights.dims
    if a.flag("binary_output"):
        return g.cast(g.ReduceMax(g.cast(hits, np.int32), g.ints(last), keepdims=0), weights.dtype)
    each = g.cast(hits, weights.dtype)
    if not plain:
        each = g.Mul(each, g.Unsqueeze(weights, g.ints(-1)))
    return g.ReduceSum(each, g.ints(last), keepdims=0)


@ROWS.row("HistogramFixedWidth")
def histogram(g: Emitter, a: Attrs, values: Tensor, bounds: Tensor, count: Tensor) -> Tensor:
    """How many numbers lie in each of the equal parts between two bounds; what lies outside is in the first or the last."""
    (parts,) = g.numbers(count, "number of parts")
    budget.make(parts)
    low, high = (g.Gather(bounds, g.constant(place, np.int64), axis=0) for place in (0, 1))
    width = g.Div(g.Sub(high, low), g.constant(parts, values.dtype))
    place = g.Floor(g.Div(g.Sub(g.Reshape(values, g.ints(-1)), low), width))
    inside = g.Min(g.Max(place, g.like(0, values)), g.constant(parts - 1, values.dtype))
    hits = g.Equal(g.Unsqueeze(inside, g.ints(1)), g.constant(np.arange(parts), values.dtype))
    return g.ReduceSum(g.cast(hits, a.dtype("dtype", np.int32)), g.ints(0), keepdims=0)


@ROWS.row("NthElement")
def nth_element(g: Emitter, a: Attrs, x: Tensor, n: Tensor) -> Tensor:
    """The number at place ``n`` of each row in its order, the largest first where ``reverse``."""
    count = g.Add(g.Reshape(g.index(n), g.ints(1)), g.ints(1))
    values, _ = g.ops("TopK", x, count, outputs=2, axis=-1, largest=int(a.flag("reverse")), sorted=1)
    return g.Gather(values, g.constant(-1, np.int64), axis=-1)


@ROWS.row("ApproxTopK")
def approximate_top_k(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    """All of the largest, or smallest, are found, as TensorFlow finds them on a processor."""
    if not a.flag("aggregate_to_topk", True):
        raise CannotConvert("it gives more than the k best (aggregate_to_topk=False)")
    values, places = g.ops(
        "TopK",
        x,
        g.ints(a.integer("k")),
        outputs=2,
        axis=a.integer("reduction_dimension", -1),
        largest=int(a.flag("is_max_k", True)),
        sorted=1,
    )
    return [values, g.cast(places, np.int32)]


def _of_rows_looked_up(power: float | None) -> Any:
    """``power`` is by what the sum of a segment is divided: its count to this power."""

    def row(
        g: Emitter, a: Attrs, table: Tensor, places: Tensor, segments: Tensor, count: Tensor | None = None
    ) -> Tensor:
        """table: (rows, ...); places, segments: (n,): each segment's sum of the rows at these places."""
        found = g.Gather(table, g.index(places), axis=0)
        name, more = ("SegmentSum", ()) if count is None else ("UnsortedSegmentSum", (count,))
        total: Tensor = ROWS[name](g, a, found, segments, *more)
        if power is None:
            return total
        ones = g.Expand(g.like(1, table), g.shape(segments))
        each = g.Max(ROWS[name](g, a, ones, segments, *more), g.like(1, table))
        by = g.Sqrt(each) if power == 0.5 else each
        return g.Div(total, g.Unsqueeze(by, g.ints(*range(1, table.rank))))

    return row


for _name, _power in {"Sum": None, "Mean": 1.0, "SqrtN": 0.5}.items():
    ROWS.row(f"SparseSegment{_name}", f"SparseSegment{_name}WithNumSegments")(_of_rows_looked_up(_power))


@ROWS.row("Bucketize")
def bucketize(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """In which of the intervals between the boundaries each number lies."""
    bounds = g.constant(np.asarray(a.numbers("boundaries"), np.float32))
    above = g.GreaterOrEqual(g.Unsqueeze(g.cast(x, np.float32), g.ints(-1)), bounds)
    return g.ReduceSum(g.cast(above, np.int32), g.ints(-1), keepdims=0)


def _searched(operator: str) -> Any:
    def row(g: Emitter, a: Attrs, sorted_: Tensor, values: Tensor) -> Tensor:
        """sorted: (rows, n), values: (rows, m): how many of a row stand before each value."""
        before = g.op(operator, g.Unsqueeze(sorted_, g.ints(1)), g.Unsqueeze(values, g.ints(2)))
        return g.ReduceSum(g.cast(before, a.dtype("out_type", np.int32)), g.ints(2), keepdims=0)

    return row


ROWS.row("LowerBound")(_searched("Less"))
ROWS.row("UpperBound")(_searched("LessOrEqual"))


@ROWS.row("SegmentMean")
def segment_mean(g: Emitter, a: Attrs, x: Tensor, places: Tensor) -> Tensor:
    total, ones = (ROWS["SegmentSum"](g, a, each, places) for each in (x, g.Expand(g.like(1, x), g.shape(x))))
    return g.Div(total, g.Max(ones, g.like(1, x)))


@ROWS.row("Cumprod")
def cumprod(g: Emitter, a: Attrs, x: Tensor, axis: Tensor) -> Tensor:
    """Place by place; the number of places must be known."""
    (along,) = g.numbers(axis, "axis")
    count = x.size(along)
    parts = list(g.ops("Split", x, outputs=count, axis=along, num_outputs=count)) if count > 1 else [x]
    parts = parts[::-1] if a.flag("reverse") else parts
    made = [g.Expand(g.like(1, x), g.shape(parts[0])) if a.flag("exclusive") else parts[0]]
    rest = parts[:-1] if a.flag("exclusive") else parts[1:]
    for part in rest:
        made.append(g.Mul(made[-1], part))
    made = made[::-1] if a.flag("reverse") else made
    return g.Concat(*made, axis=along)


@ROWS.row("CumulativeLogsumexp")
def cumulative_logsumexp(g: Emitter, a: Attrs, x: Tensor, axis: Tensor) -> Tensor:
    if a.flag("exclusive"):
        raise CannotConvert("it leaves out the place itself")
    (along,) = g.numbers(axis, "axis")
    most = g.ReduceMax(x, g.ints(along), keepdims=1)
    total = g.CumSum(g.Exp(g.Sub(x, most)), g.constant(along, np.int64), reverse=int(a.flag("reverse")))
    return g.Add(g.Log(total), most)


def _where_not_zero(write: Any) -> Any:
    """A function of two that is 0 where the first one is."""

    def row(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
        zero = g.like(0, x)
        empty = g.Equal(x, zero)
        return g.Where(empty, zero, write(g, x, g.Where(empty, g.like(1, y), y)))

    return row


for _name, _write in {
    "Xlogy": lambda g, x, y: g.Mul(x, g.Log(y)),
    "Xlog1py": lambda g, x, y: g.Mul(x, g.Log(g.Add(y, g.like(1, y)))),
    "Xdivy": lambda g, x, y: g.Div(x, y),
}.items():
    ROWS.row(_name)(_where_not_zero(_write))


_LANCZOS = (
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059, 12.507343278686905,
    -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip


@ROWS.row("Lgamma")
def log_gamma(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Lanczos' series (g = 7, n = 9), below 1/2 by reflection."""
    half, one = g.like(0.5, x), g.like(1, x)
    small = g.Less(x, half)
    z = g.Sub(g.Where(small, g.Sub(one, x), x), one)
    total = g.like(0.99999999999980993, x)
    for place, each in enumerate(_LANCZOS, 1):
        total = g.Add(total, g.Div(g.like(each, x), g.Add(z, g.like(place, x))))
    t = g.Add(z, g.like(7.5, x))
    known = g.Add(
        g.Sub(g.Mul(g.Add(z, half), g.Log(t)), t),
        g.Add(g.like(math.log(math.sqrt(2 * math.pi)), x), g.Log(total)),
    )
    reflected = g.Sub(g.Log(g.Abs(g.Div(g.like(math.pi, x), g.Sin(g.Mul(g.like(math.pi, x), x))))), known)
    return g.Where(small, reflected, known)


@ROWS.row("ListDiff")
def list_difference(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> list[Tensor]:
    """What of ``x`` is not in ``y``, and where it stood."""
    held = g.cast(g.Equal(g.Unsqueeze(x, g.ints(1)), g.Unsqueeze(y, g.ints(0))), np.int32)
    missing = g.Equal(g.ReduceSum(held, g.ints(1), keepdims=0), g.constant(0, np.int32))
    places = g.Squeeze(g.NonZero(missing), g.ints(0))
    return [g.Gather(x, places, axis=0), g.cast(places, a.dtype("out_idx", np.int32))]


@ROWS.row("DynamicPartition")
def dynamic_partition(g: Emitter, a: Attrs, x: Tensor, places: Tensor) -> list[Tensor]:
    """The rows of each number."""
    if places.rank != 1:
        raise CannotConvert("it divides by more than one axis")
    return [
        g.Compress(x, g.Equal(places, g.like(number, places)), axis=0)
        for number in range(a.integer("num_partitions", 1))
    ]


@ROWS.row("RGBToHSV")
def rgb_to_hsv(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (..., 3). Hue, saturation and value, each between 0 and 1."""
    red, green, blue = g.ops("Split", x, outputs=3, axis=-1, num_outputs=3)
    value, least = g.ReduceMax(x, g.ints(-1), keepdims=1), g.ReduceMin(x, g.ints(-1), keepdims=1)
    zero, one = g.like(0, x), g.like(1, x)
    span = g.Sub(value, least)
    flat = g.Equal(span, zero)
    by = g.Where(flat, one, span)
    turns = [
        g.Div(g.Sub(green, blue), by),
        g.Add(g.Div(g.Sub(blue, red), by), g.like(2, x)),
        g.Add(g.Div(g.Sub(red, green), by), g.like(4, x)),
    ]
    hue = g.Where(g.Equal(red, value), turns[0], g.Where(g.Equal(green, value), turns[1], turns[2]))
    hue = g.Div(hue, g.like(6, x))
    hue = g.Where(g.Less(hue, zero), g.Add(hue, one), hue)
    black = g.Equal(value, zero)
    saturation = g.Where(black, zero, g.Div(span, g.Where(black, one, value)))
    return g.Concat(g.Where(flat, zero, hue), saturation, value, axis=-1)


@ROWS.row("HSVToRGB")
def hsv_to_rgb(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    hue, saturation, value = g.ops("Split", x, outputs=3, axis=-1, num_outputs=3)
    zero, one, six = g.like(0, x), g.like(1, x), g.Mul(hue, g.like(6, x))

    def ramp(centre: float, sign: float) -> Tensor:
        distance = g.Abs(g.Sub(six, g.like(centre, x)))
        raw = g.Add(g.Mul(distance, g.like(sign, x)), g.like(-1 if sign > 0 else 2, x))
        return g.Min(g.Max(raw, zero), one)

    parts = [ramp(3, 1), ramp(2, -1), ramp(4, -1)]
    keep = g.Sub(one, saturation)
    return g.Concat(*(g.Mul(value, g.Add(keep, g.Mul(part, saturation))) for part in parts), axis=-1)


@ROWS.row("AdjustSaturation")
def adjust_saturation(g: Emitter, a: Attrs, x: Tensor, factor: Tensor) -> Tensor:
    hue, saturation, value = g.ops("Split", rgb_to_hsv(g, a, x), outputs=3, axis=-1, num_outputs=3)
    moved = g.Min(g.Max(g.Mul(saturation, factor), g.like(0, x)), g.like(1, x))
    return hsv_to_rgb(g, a, g.Concat(hue, moved, value, axis=-1))


@ROWS.row("AdjustHue")
def adjust_hue(g: Emitter, a: Attrs, x: Tensor, delta: Tensor) -> Tensor:
    hue, saturation, value = g.ops("Split", rgb_to_hsv(g, a, x), outputs=3, axis=-1, num_outputs=3)
    moved = g.Add(hue, delta)
    return hsv_to_rgb(g, a, g.Concat(g.Sub(moved, g.Floor(moved)), saturation, value, axis=-1))


@ROWS.row("MaxPoolWithArgmax")
def max_pool_with_argmax(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor | None]:
    """x: (batch, height, width, channels). Places are counted over rows, columns and channels, and over the batch where asked."""
    batch, height, width, channels = (g.length(x, axis) for axis in range(4))
    first = g.transpose(x, (0, 3, 1, 2))
    window, strides = a.integers("ksize")[1:3], a.integers("strides")[1:3]
    pads = padding_of(g, a, first, window, strides, [1, 1], False)
    y, places = g.ops("MaxPool", first, outputs=2, kernel_shape=window, strides=strides, **pads)
    zero, one = g.constant(0, np.int64), g.constant(1, np.int64)
    plane = g.Mul(height, width)
    channel = g.Unsqueeze(g.Range(zero, channels, one), g.ints(0, 2, 3))
    counted = g.Add(g.Mul(g.Mod(places, plane), channels), channel)
    if a.flag("include_batch_in_index"):
        image = g.Unsqueeze(g.Range(zero, batch, one), g.ints(1, 2, 3))
        counted = g.Add(counted, g.Mul(image, g.Mul(plane, channels)))
    return [g.transpose(each, (0, 2, 3, 1)) for each in (y, g.cast(counted, a.dtype("Targmax", np.int64)))]


@ROWS.row("Erfinv", "Ndtri", "Digamma", "Igamma", "Igammac", "Zeta", "Polygamma", "Betainc")
def no_such_function(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    raise CannotConvert("ONNX has no such function")
