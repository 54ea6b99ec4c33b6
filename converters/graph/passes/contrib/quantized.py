"""Quantised operators: those that compute in integers as integers, the others between DequantizeLinear and QuantizeLinear."""

# ruff: noqa: N803 - attributes have the names of their schemas

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.passes.contrib.convolution import Windows, first, last
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer


@opens("QuantizeLinear")
def quantize_linear(g: Writer, x: Value, scale: Value, zero: Maybe = None, *, axis: int = 1) -> Value:
    return g.QuantizeLinear(x, scale, zero, axis=axis)


@opens("DequantizeLinear")
def dequantize_linear(g: Writer, x: Value, scale: Value, zero: Maybe = None, *, axis: int = 1) -> Value:
    return g.DequantizeLinear(x, scale, zero, axis=axis)


def _quantized(g: Writer, y: Value, scale: Value, zero: Maybe, pattern: Value) -> Value:
    """To the dtype of ``pattern``, where no zero point says it."""
    return g.QuantizeLinear(y, scale, g.constant(0, g.dtype(pattern)) if zero is None else zero)


# ---- products -----------------------------------------------------------------------------------------------


def product(
    g: Writer,
    a: Value,
    a_scale: Value,
    a_zero: Maybe,
    b: Value,
    b_scale: Value,
    b_zero: Maybe,
    bias: Maybe = None,
) -> Value:
    """(a - zero) (b - zero) in int32, times both scales, plus the bias. Those of ``b`` are of all or of columns.

    It is computed in float32, also where the scales are of half precision, which cannot hold what is not scaled yet.
    """
    whole = g.MatMulInteger(a, b, _number(g, a_zero), b_zero)
    scale = _wide(g, a_scale)
    y = g.Mul(g.like(whole, scale), g.Mul(_number(g, scale), _wide(g, b_scale)))
    y = y if bias is None else g.Add(y, _wide(g, bias))
    return g.like(y, a_scale)


def _wide(g: Writer, x: Value) -> Value:
    """What is of half precision in float32."""
    return g.as_dtype(x, np.float32) if g.dtype(x) == np.float16 else x


def _number(g: Writer, x: Maybe) -> Maybe:
    """A vector of one as a number."""
    return x if x is None or g.dims(x) != (1,) else g.Reshape(x, g.constant([], np.int64))


@opens("MatMulIntegerToFloat")
def matmul_integer_to_float(
    g: Writer,
    a: Value,
    b: Value,
    a_scale: Value,
    b_scale: Value,
    a_zero: Maybe = None,
    b_zero: Maybe = None,
    bias: Maybe = None,
) -> Value:
    return product(g, a, a_scale, a_zero, b, b_scale, b_zero, bias)


@opens("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    g: Writer, a: Value, b: Value, b_scale: Value, b_zero: Maybe = None, bias: Maybe = None
) -> Value:
    quantized, scale, zero = g.ops("DynamicQuantizeLinear", a, outputs=3)
    return product(g, quantized, scale, zero, b, b_scale, b_zero, bias)


@opens("QGemm")
def quantized_gemm(
    g: Writer,
    a: Value,
    a_scale: Value,
    a_zero: Value,
    b: Value,
    b_scale: Value,
    b_zero: Value,
    c: Maybe = None,
    y_scale: Maybe = None,
    y_zero: Maybe = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """``c`` holds integers at the scale of the products; without a scale for ``y`` that stays float."""
    left, right = (g.Transpose(x, perm=[1, 0]) if turn else x for x, turn in ((a, transA), (b, transB)))
    whole = g.MatMulInteger(left, right, _number(g, a_zero), b_zero)
    whole = whole if c is None else g.Add(whole, c)
    scale = g.Mul(_number(g, a_scale), b_scale)
    y = g.Mul(g.like(whole, scale), scale if alpha == 1 else g.Mul(scale, g.scalar(alpha, scale)))
    return y if y_scale is None else _quantized(g, y, y_scale, y_zero, a)


@opens("QLinearConv")
def quantized_conv(
    g: Writer,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    w: Value,
    w_scale: Value,
    w_zero: Value,
    y_scale: Value,
    y_zero: Value,
    bias: Maybe = None,
    *,
    channels_last: int = 0,
    group: int = 1,
    windows: Windows,
) -> Value:
    """ONNX's, also on (batch, *space, channels); the kernel is (out, in, *space) as ever."""
    rank = g.rank(x)
    y = g.QLinearConv(
        g.transpose(x, first(rank)) if channels_last else x,
        x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias,
        group=group, **windows,
    )  # fmt: skip
    return g.transpose(y, last(rank)) if channels_last else y


# ---- between floats -------------------------------------------------------------------------------------------


@opens("QLinearAdd", "QLinearMul")
def quantized_add_or_mul(
    g: Writer, a: Value, a_scale: Value, a_zero: Maybe, b: Value, b_scale: Value, b_zero: Maybe, c_scale: Value,
    c_zero: Maybe = None,
) -> Value:  # fmt: skip
    combine = getattr(g, g.node.op_type.removeprefix("QLinear"))
    y = combine(g.DequantizeLinear(a, a_scale, a_zero), g.DequantizeLinear(b, b_scale, b_zero))
    return _quantized(g, y, c_scale, c_zero, a)


@opens("QLinearSigmoid")
def quantized_sigmoid(
    g: Writer, x: Value, x_scale: Value, x_zero: Maybe, y_scale: Value, y_zero: Maybe = None
) -> Value:
    return _quantized(g, g.Sigmoid(g.DequantizeLinear(x, x_scale, x_zero)), y_scale, y_zero, x)


@opens("QLinearLeakyRelu")
def quantized_leaky_relu(
    g: Writer,
    x: Value,
    x_scale: Value,
    x_zero: Maybe,
    y_scale: Value,
    y_zero: Maybe = None,
    *,
    alpha: float = 0.01,
) -> Value:
    return _quantized(g, g.LeakyRelu(g.DequantizeLinear(x, x_scale, x_zero), alpha=alpha), y_scale, y_zero, x)


@opens("QLinearSoftmax")
def quantized_softmax(
    g: Writer,
    x: Value,
    x_scale: Value,
    x_zero: Maybe,
    y_scale: Value,
    y_zero: Value,
    *,
    opset: int,
    axis: int = -1,
) -> Value:
    """Along ``axis``; for an ``opset`` below 13 along all axes from that one on as one."""
    rank = g.rank(x)
    place = axis % rank
    wide = g.DequantizeLinear(x, x_scale, x_zero)
    if opset >= 13 or place == rank - 1:
        return _quantized(g, g.Softmax(wide, axis=place), y_scale, y_zero, x)
    y = g.Reshape(g.Softmax(g.Flatten(wide, axis=place), axis=-1), g.Shape(x))
    return _quantized(g, y, y_scale, y_zero, x)


@opens("QLinearAveragePool")
def quantized_average_pool(
    g: Writer,
    x: Value,
    x_scale: Value,
    x_zero: Maybe,
    y_scale: Value,
    y_zero: Maybe = None,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    channels_last: int = 0,
    count_include_pad: int = 0,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Value:
    rank = g.rank(x)
    wide = g.DequantizeLinear(x, x_scale, x_zero)
    wide = g.transpose(wide, first(rank)) if channels_last else wide
    y = g.AveragePool(
        wide, kernel_shape=list(kernel_shape), auto_pad=None if auto_pad == "NOTSET" else auto_pad,
        ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        pads=None if pads is None else list(pads), strides=None if strides is None else list(strides),
    )  # fmt: skip
    y = _quantized(g, y, y_scale, y_zero, x)
    return g.transpose(y, last(rank)) if channels_last else y


@opens("QLinearGlobalAveragePool")
def quantized_global_average_pool(
    g: Writer,
    x: Value,
    x_scale: Value,
    x_zero: Value,
    y_scale: Value,
    y_zero: Value,
    *,
    channels_last: int = 0,
) -> Value:
    rank = g.rank(x)
    wide = g.DequantizeLinear(x, x_scale, x_zero)
    wide = g.transpose(wide, first(rank)) if channels_last else wide
    y = _quantized(g, g.GlobalAveragePool(wide), y_scale, y_zero, x)
    return g.transpose(y, last(rank)) if channels_last else y


@opens("QLinearReduceMean")
def quantized_mean(
    g: Writer, x: Value, x_scale: Value, x_zero: Maybe, y_scale: Value, y_zero: Maybe = None, *,
    axes: Sequence[int], keepdims: int,
) -> Value:  # fmt: skip
    wide = g.DequantizeLinear(x, x_scale, x_zero)
    return _quantized(g, g.ReduceMean(wide, g.ints(*axes), keepdims=keepdims), y_scale, y_zero, x)


@opens("QLinearConcat")
def quantized_concat(g: Writer, y_scale: Value, y_zero: Value, *parts: Maybe, axis: int) -> Value:
    """Each part brings its scale and its zero point."""
    if len(parts) % 3 or not parts:
        raise CannotConvert(f"it has {len(parts)} inputs after the first two, expected three for each part")
    wide = [g.DequantizeLinear(*parts[place : place + 3]) for place in range(0, len(parts), 3)]
    return g.QuantizeLinear(g.Concat(*wide, axis=axis), y_scale, y_zero)


@opens("QLinearWhere")
def quantized_where(
    g: Writer, condition: Value, x: Value, x_scale: Value, x_zero: Value, y: Value, y_scale: Value, y_zero: Value,
    z_scale: Value, z_zero: Value,
) -> Value:  # fmt: skip
    wide = (g.DequantizeLinear(*parts) for parts in ((x, x_scale, x_zero), (y, y_scale, y_zero)))
    return g.QuantizeLinear(g.Where(condition, *wide), z_scale, z_zero)
