"""Rows of integers: what ``mx.contrib.quantization`` makes of a network, as MXNet's kernels on a CPU compute it.

Every quantised tensor comes with the least and the largest number that it stands for, each (1,). An int8 tensor stands for
multiples of largest / 127.5, a uint8 one of largest / 255.5, an int32 one of largest / (2^31 - 1). Products are summed as
integers, exactly; what is scaled is rounded half to even and kept within the format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.convolution import demand_channels_first, per_axis
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, cast, known
from netferry.converters.mxnet.to_onnx.pooling import pooling
from netferry.converters.mxnet.to_onnx.sizes import positive
from netferry.converters.signature import Array

INT8, UINT8, INT32 = (np.dtype(kind) for kind in (np.int8, np.uint8, np.int32))
LEVELS = {INT8: 127.5, UINT8: 255.5, INT32: float(np.float32(2**31 - 1))}
"""How many steps lie between zero and the largest number that a format stands for."""

Quantized = list[Tensor]
"""A tensor of integers, the least and the largest number that it stands for."""


_FOLDED: Mapping[str, Callable[..., Array]] = {
    "Abs": np.abs, "Neg": np.negative, "Max": np.maximum, "Min": np.minimum, "Mul": np.multiply, "Div": np.divide, "Add": np.add,
}  # fmt: skip


def of_ranges(g: Emitter, name: str, *operands: Tensor) -> Tensor:
    """An operator on ranges: done at once where they are known, as calibration leaves them."""
    arrays = [x.array for x in operands]
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays):
        return g.op(name, *operands)
    with np.errstate(all="ignore"):
        return g.constant(_FOLDED[name](*known).astype(np.float32))


def largest_of(g: Emitter, low: Tensor, high: Tensor) -> Tensor:
    return of_ranges(g, "Max", of_ranges(g, "Abs", low), of_ranges(g, "Abs", high))


def step_of(g: Emitter, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """What one stands for."""
    return of_ranges(g, "Div", largest_of(g, low, high), levels_of(g, x.dtype))


def levels_of(g: Emitter, dtype: np.dtype[Any]) -> Tensor:
    return g.constant(LEVELS[dtype], FLOAT32)


def single(g: Emitter, x: Tensor) -> Tensor:
    return g.constant(x.array.reshape(1)) if x.array is not None else g.Reshape(x, g.ints(1))


def rounded(g: Emitter, x: Tensor, scale: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """x * scale as integers of a format."""
    limits = np.iinfo(dtype)
    scaled = g.Round(g.Mul(x, scale))
    return cast(g, g.Clip(scaled, g.scalar(limits.min, scaled), g.scalar(limits.max, scaled)), dtype)


def range_of(g: Emitter, largest: Tensor, dtype: np.dtype[Any]) -> list[Tensor]:
    least = g.constant([0.0], FLOAT32) if dtype == UINT8 else single(g, of_ranges(g, "Neg", largest))
    return [least, single(g, largest)]


def _in_range(g: Emitter, x: Tensor, low: Tensor, high: Tensor, dtype: np.dtype[Any]) -> Quantized:
    """Numbers as integers that cover a range."""
    largest = (
        of_ranges(g, "Max", high, g.constant(0.0, FLOAT32)) if dtype == UINT8 else largest_of(g, low, high)
    )
    return [
        rounded(g, x, of_ranges(g, "Div", levels_of(g, dtype), largest), dtype),
        *range_of(g, largest, dtype),
    ]


def calibrated(g: Emitter, a: Attrs) -> tuple[Tensor, Tensor] | None:
    """The range that calibration found, where it did."""
    ends = a.maybe_number("min_calib_range"), a.maybe_number("max_calib_range")
    if ends[0] is None or ends[1] is None:
        return None
    return g.constant([ends[0]], FLOAT32), g.constant([ends[1]], FLOAT32)


def _out_type(a: Attrs, default: str) -> np.dtype[Any]:
    kind = a.string("out_type", default, among="auto int8 uint8")
    if kind == "auto":
        least = a.maybe_number("min_calib_range")
        kind = "uint8" if least is not None and least >= 0 else "int8"
    return np.dtype(kind)


# ---- in and out --------------------------------------------------------------------------------------


@ROWS.row("_contrib_quantize_v2")
def quantize(g: Emitter, a: Attrs, x: Tensor) -> Quantized:
    ends = calibrated(g, a) or (g.ReduceMin(x, keepdims=0), g.ReduceMax(x, keepdims=0))
    return _in_range(g, x, *ends, _out_type(a, "int8"))


@ROWS.row("_contrib_quantize")
def quantize_in_range(g: Emitter, a: Attrs, x: Tensor, low: Tensor, high: Tensor) -> Quantized:
    return _in_range(g, x, low, high, _out_type(a, "uint8"))


@ROWS.row("_contrib_dequantize")
def dequantize(g: Emitter, a: Attrs, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    a.string("out_type", "float32", among="float32")
    return g.Mul(cast(g, x, FLOAT32), step_of(g, x, low, high))


@ROWS.row("_contrib_requantize")
def requantize(g: Emitter, a: Attrs, x: Tensor, low: Tensor, high: Tensor) -> Quantized:
    """int32 as eight bits, in the range that was calibrated, or in that which x takes."""
    dtype, step = _out_type(a, "int8"), step_of(g, x, low, high)
    numbers = cast(g, x, FLOAT32)
    ends = calibrated(g, a)
    if ends is None:
        ends = g.Mul(g.ReduceMin(numbers, keepdims=0), step), g.Mul(g.ReduceMax(numbers, keepdims=0), step)
    largest = largest_of(g, *ends)
    scale = of_ranges(g, "Mul", step, of_ranges(g, "Div", levels_of(g, dtype), largest))
    return [rounded(g, numbers, scale, dtype), *range_of(g, largest, dtype)]


# ---- products ----------------------------------------------------------------------------------------


def unsigned(g: Emitter, x: Tensor) -> tuple[Tensor, Tensor]:
    """x as uint8 and what stands for zero in it: products of those are exact on every processor."""
    if x.dtype == UINT8:
        return x, g.constant(0, np.uint8)
    return cast(g, g.Add(cast(g, x, np.int32), g.constant(128, np.int32)), np.uint8), g.constant(
        128, np.uint8
    )


def product_range(g: Emitter, x: Tensor, weight: Tensor, ends: Sequence[Tensor]) -> list[Tensor]:
    """The range of a sum of products, and the step of one."""
    step = of_ranges(g, "Mul", step_of(g, x, *ends[:2]), step_of(g, weight, *ends[2:4]))
    largest = of_ranges(g, "Mul", step, levels_of(g, INT32))
    return [*range_of(g, largest, INT32), step]


def _parted(
    a: Attrs, inputs: Sequence[Tensor], default: bool = False
) -> tuple[Tensor | None, Sequence[Tensor]]:
    """The bias, where there is one, and the ranges of data, weight and bias."""
    bare = a.flag("no_bias", default)
    return (None, inputs) if bare else (inputs[0], inputs[1:])


def _shifted(g: Emitter, y: Tensor, bias: Tensor | None, ends: Sequence[Tensor], step: Tensor) -> Tensor:
    """y with the bias in its own step; y: (batch, channels, ...)."""
    if bias is None:
        return y
    numbers = g.Mul(cast(g, bias, FLOAT32), of_ranges(g, "Div", step_of(g, bias, *ends[4:6]), step))
    whole = cast(g, g.Round(numbers), np.int32)
    return g.Add(y, whole if y.rank == 2 else g.Reshape(whole, g.ints(-1, *[1] * (y.rank - 2))))


@ROWS.row("_contrib_quantized_conv")
def quantized_convolution(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, *others: Tensor) -> Quantized:
    """x: (batch, channels, *space), int8 or uint8; int32 comes out."""
    demand_channels_first(a)
    bias, ends = _parted(a, others)
    a.ignore("num_filter")
    kernel = list(a.integers("kernel"))
    (data, zero), (filters, none) = unsigned(g, x), unsigned(g, weight)
    y = g.ConvInteger(
        data, filters, zero, none,
        kernel_shape=kernel, strides=per_axis(a, "stride", 1, len(kernel)),
        dilations=per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(per_axis(a, "pad", 0, len(kernel))), group=a.integer("num_group", 1),
    )  # fmt: skip
    low, high, step = product_range(g, x, weight, ends)
    return [_shifted(g, y, bias, ends, step), low, high]


@ROWS.row("_contrib_quantized_fully_connected")
def quantized_fully_connected(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, *others: Tensor) -> Quantized:
    """x: (batch, ...), int8 or uint8; int32 comes out."""
    bias, ends = _parted(a, others)
    a.ignore("num_hidden")
    flat = x if x.rank == 2 or not a.flag("flatten", True) else g.Flatten(x, axis=1)
    (data, zero), (filters, none) = unsigned(g, flat), unsigned(g, weight)
    y = g.MatMulInteger(data, g.transpose(filters, (1, 0)), zero, none)
    low, high, step = product_range(g, x, weight, ends)
    return [_shifted(g, y, bias, ends, step), low, high]


# ---- what keeps the range -----------------------------------------------------------------------------


@ROWS.row("_contrib_quantized_act")
def quantized_activation(g: Emitter, a: Attrs, x: Tensor, low: Tensor, high: Tensor) -> Quantized:
    a.string("act_type", among="relu")
    return [g.Max(x, g.scalar(0, x)), low, high]


@ROWS.row("_contrib_quantized_flatten")
def quantized_flatten(g: Emitter, a: Attrs, x: Tensor, low: Tensor, high: Tensor) -> Quantized:
    return [g.Flatten(x, axis=1), low, high]


@ROWS.row("_contrib_quantized_pooling")
def quantized_pooling(g: Emitter, a: Attrs, x: Tensor, low: Tensor, high: Tensor) -> Quantized:
    """Numbers up to 255 and their sums over a window are exact in float32; a mean is rounded."""
    kind = a.string("pool_type", "max", among="max avg")
    y = pooling(g, a, cast(g, x, FLOAT32))
    return [cast(g, y if kind == "max" else g.Round(y), x.dtype), low, high]


# ---- several tensors -----------------------------------------------------------------------------------


@ROWS.row("_contrib_quantized_concat")
def quantized_concat(g: Emitter, a: Attrs, *inputs: Tensor) -> Quantized:
    """Joined in the widest of their ranges."""
    count = a.integer("num_args")
    tensors, lows, highs = inputs[:count], inputs[count::2], inputs[count + 1 :: 2]
    dtype = UINT8 if all(x.dtype == UINT8 for x in tensors) else INT8
    largest = [largest_of(g, low, high) for low, high in zip(lows, highs, strict=True)]
    widest = reduce(lambda x, y: of_ranges(g, "Max", x, y), largest)
    parts = []
    for x, own in zip(tensors, largest, strict=True):
        unit = of_ranges(g, "Div", levels_of(g, dtype), widest)
        scale = of_ranges(g, "Mul", of_ranges(g, "Div", own, levels_of(g, x.dtype)), unit)
        same = own.array is not None and widest.array is not None and np.array_equal(own.array, widest.array)
        parts.append(x if same and x.dtype == dtype else rounded(g, cast(g, x, FLOAT32), scale, dtype))
    ends = [reduce(partial(of_ranges, g, name), each) for name, each in (("Min", lows), ("Max", highs))]
    return [g.Concat(*parts, axis=a.integer("dim", 1)), *ends]


@ROWS.row("_contrib_quantized_elemwise_add")
def quantized_add(
    g: Emitter,
    a: Attrs,
    x: Tensor,
    y: Tensor,
    low: Tensor,
    high: Tensor,
    other_low: Tensor,
    other_high: Tensor,
) -> Quantized:
    """int32 in the sum of both ranges, or eight bits in the range that was calibrated."""
    steps = step_of(g, x, low, high), step_of(g, y, other_low, other_high)
    ends = calibrated(g, a)
    dtype = INT32 if ends is None else INT8
    if ends is None:
        largest = g.Add(largest_of(g, low, high), largest_of(g, other_low, other_high))
    else:
        largest = largest_of(g, *ends)
    unit = g.Div(levels_of(g, dtype), largest)
    total = g.Add(
        *(g.Mul(cast(g, each, FLOAT32), g.Mul(step, unit)) for each, step in zip((x, y), steps, strict=True))
    )
    if dtype == INT32:
        return [cast(g, g.Round(total), np.int32), *range_of(g, largest, dtype)]
    return [rounded(g, total, g.constant(1.0, FLOAT32), dtype), *range_of(g, largest, dtype)]


@ROWS.row("_contrib_quantized_batch_norm")
def quantized_batch_norm(
    g: Emitter,
    a: Attrs,
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    *ends: Tensor,
) -> Quantized:
    """Of int8, in the range that was calibrated: a factor and a shift for each channel.

    MXNet puts the statistics into these two, and adds eps to the variance of one that is left.
    """
    out = calibrated(g, a)
    if out is None:
        raise CannotConvert("a batch norm of integers without a calibrated range")
    if positive(a.integer("axis", 1), x.rank) != 1:
        raise CannotConvert("a batch norm of integers over another axis than the channels")
    eps, shape = a.number("eps", 1e-3), (-1, *[1] * (x.rank - 2))
    a.ignore("momentum")
    own = [np.asarray(known(each, "statistics"), np.float32) for each in (gamma, beta, mean, variance)]
    if a.flag("fix_gamma", True):
        own[0] = np.ones_like(own[0])
    inside, outside = (
        np.abs(np.asarray([known(end, "range") for end in each])).max() for each in (ends, out)
    )
    steady = (1 / np.sqrt(own[3].astype(np.float64) + eps)).astype(np.float32)
    factor = own[0] * steady * inside / outside / np.sqrt(np.float32(1 + eps))
    shift = (own[1] - own[2] * own[0] * steady) * np.float32(LEVELS[INT8]) / outside
    y = g.Mul(cast(g, x, FLOAT32), g.constant(factor.astype(np.float32).reshape(shape)))
    y = g.Add(y, g.constant(shift.astype(np.float32).reshape(shape)))
    return [rounded(g, y, g.constant(1.0, FLOAT32), INT8), *out]


# ---- tables and products -------------------------------------------------------------------------------


@ROWS.row("_contrib_quantized_embedding")
def embedding(g: Emitter, a: Attrs, x: Tensor, table: Tensor, low: Tensor, high: Tensor) -> Quantized:
    """Rows of a table of integers, which keep its range; positions outside of it are clipped."""
    a.ignore("output_dim", "dtype", "sparse_grad")
    last = g.constant(a.integer("input_dim") - 1, np.int64)
    index = g.Max(g.Min(cast(g, x, np.int64), last), g.constant(0, np.int64))
    return [g.Gather(table, index, axis=0), single(g, low), single(g, high)]


@ROWS.row("_contrib_quantized_elemwise_mul")
def product(g: Emitter, a: Attrs, x: Tensor, y: Tensor, *ranges: Tensor) -> Tensor | Quantized:
    """int8 times int8: as floats, in the range that was calibrated, or as int32.

    Into that range MXNet cuts off where others round, and lets what lies beyond it wrap around.
    """
    if x.dtype != INT8 or y.dtype != INT8:
        raise CannotConvert(f"a product of {x.dtype.name} and {y.dtype.name}", "Supported: int8")
    exact = g.Mul(cast(g, x, INT32), cast(g, y, INT32))
    step = of_ranges(g, "Mul", step_of(g, x, *ranges[:2]), step_of(g, y, *ranges[2:]))
    ends = calibrated(g, a)
    if a.flag("enable_float_output", False):
        return g.Mul(cast(g, exact, FLOAT32), step)
    if ends is None:
        whole = g.constant(127.0, FLOAT32)
        both = (of_ranges(g, "Div", largest_of(g, *pair), whole) for pair in (ranges[:2], ranges[2:]))
        return [
            exact,
            *range_of(g, of_ranges(g, "Mul", of_ranges(g, "Mul", *both), levels_of(g, INT32)), INT32),
        ]
    scale = of_ranges(g, "Mul", step, of_ranges(g, "Div", levels_of(g, INT8), largest_of(g, *ends)))
    numbers = cast(g, g.Mul(cast(g, exact, FLOAT32), scale), INT32)
    return [cast(g, numbers, INT8), *(single(g, end) for end in ends)]
