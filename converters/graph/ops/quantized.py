"""Quantised operators: exact integers in between, rounding half to even, saturating."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import (
    FLOAT32,
    FLOAT64,
    INT32,
    Sizes,
    along,
    as_dtype,
    dtype_of,
    op,
    per_channel,
    shaped,
)
from netferry.converters.graph.schema.windows import Windows

_UINT8 = np.dtype(np.uint8)

Fit = Callable[[Symbol], Any]

RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1),
}  # fmt: skip


def _spread(xp: Any, part: Symbol, x: Symbol, axis: int, block_size: int) -> Any:
    """A scale or zero point as something that broadcasts against ``x``: of all, of an axis, or of blocks."""
    if part.ndim == 0 or (part.ndim == x.ndim == 1 and not block_size):
        return part
    if part.shape == (1,):
        return xp.reshape(part, ())
    axis = along(axis, x.ndim)
    if part.ndim == 1 < x.ndim:
        return per_channel(xp, part, x.ndim, axis)
    blocks, size = part.shape[axis], x.shape[axis]
    if part.ndim != x.ndim or not block_size:
        raise CannotConvert(
            "its scale has neither one element, nor one per place of an axis, nor one per block"
        )
    if blocks == 1:
        return part
    before, after = part.shape[:axis], part.shape[axis + 1 :]
    whole = xp.broadcast_to(xp.expand_dims(part, (axis + 1,)), (*before, blocks, block_size, *after))
    flat = xp.reshape(whole, (*before, blocks * block_size, *after))
    return flat if blocks * block_size == size else xp.slice(flat, {axis: (0, size, 1)})


def _as_it_is(part: Symbol) -> Any:
    return part


def _offset(xp: Any, zero: Symbol | None, met: Fit = _as_it_is) -> Any:
    """A zero point in float32, as it meets a tensor; the number that it is everywhere, and None where that is 0."""
    if zero is None:
        return None
    known = zero.content
    if known is not None and known.size and (known == known.flat[0]).all():
        return float(known.flat[0]) or None
    return as_dtype(xp, met(zero), FLOAT32)


def _saturated(xp: Any, x: Any, offset: Any, dtype: np.dtype[Any]) -> Any:
    """round(x) + offset within the range of ``dtype``; float32 holds all integers of these ranges."""
    low, high = RANGES[dtype.name]
    y = as_dtype(xp, xp.round(x), FLOAT32)
    y = y if offset is None else y + offset
    return xp.astype(xp.minimum(xp.maximum(y, low), high), dtype)


@op
def QuantizeLinear(
    xp: Any,
    x: Symbol,
    y_scale: Symbol,
    y_zero_point: Symbol | None = None,
    *,
    axis: int,
    block_size: int,
    output_dtype: int,
    precision: int,
    saturate: int,
) -> Any:
    dtype = (
        y_zero_point.dtype if y_zero_point is not None else dtype_of(output_dtype) if output_dtype else _UINT8
    )
    wide = dtype_of(precision) if precision else y_scale.dtype

    def met(part: Symbol) -> Any:
        return _spread(xp, part, x, axis, block_size)

    scaled = as_dtype(xp, x, wide) / as_dtype(xp, met(y_scale), wide)
    if dtype.name in RANGES:
        return _saturated(xp, scaled, _offset(xp, y_zero_point, met), dtype)
    if not saturate:
        raise CannotConvert(f"it quantises to {dtype.name} without saturation")
    return xp.astype(scaled, dtype)


@op
def DequantizeLinear(
    xp: Any,
    x: Symbol,
    x_scale: Symbol,
    x_zero_point: Symbol | None = None,
    *,
    axis: int,
    block_size: int,
    output_dtype: int,
) -> Any:
    """(x - zero) * scale, in float32 and then in the scale's dtype."""
    split = _split_into_blocks(x, x_scale, axis, block_size)

    def met(part: Symbol) -> Any:
        return (
            xp.expand_dims(part, (along(axis, x.ndim) + 1,))
            if split
            else _spread(xp, part, x, axis, block_size)
        )

    y = xp.widened_like(xp.reshape(x, split) if split else x, x_scale)
    offset = _offset(xp, x_zero_point, lambda part: xp.widened_like(met(part), x_scale))
    y = (y if offset is None else y - offset) * as_dtype(xp, met(x_scale), FLOAT32)
    y = xp.reshape(y, x.shape) if split else y
    return as_dtype(xp, y, dtype_of(output_dtype) if output_dtype else x_scale.dtype)


def _split_into_blocks(x: Symbol, scale: Symbol, axis: int, block_size: int) -> Sizes | None:
    """The sizes of ``x`` with its blocks on an axis of their own, (..., blocks, block size, ...); None where it has none.

    One block is all of the axis, and the last of several may be shorter than the others.
    """
    if not block_size or scale.ndim != x.ndim or x.ndim == 0:
        return None
    axis = along(axis, x.ndim)
    blocks, size = scale.shape[axis], x.shape[axis]
    if blocks == 1 or blocks * block_size != size:
        return None
    return (*x.shape[:axis], blocks, block_size, *x.shape[axis + 1 :])


@op
def DynamicQuantizeLinear(xp: Any, x: Symbol) -> Any:
    """To uint8, with a scale whose range holds the input and 0."""
    axes = tuple(range(x.ndim))
    low, high = xp.minimum(xp.min(x, axes, False), 0), xp.maximum(xp.max(x, axes, False), 0)
    scale = xp.where(xp.equal(high, low), 1.0, high - low) / 255.0
    zero = _saturated(xp, -low / scale, None, _UINT8)
    return _saturated(xp, x / scale, _offset(xp, zero), _UINT8), scale, zero


# ---- products of integers: in float64, which holds every sum of 2**37 products of bytes ---------------------------


def _shifted(xp: Any, x: Symbol, zero: Symbol | None) -> Any:
    """``x - zero`` in float64."""
    wide = xp.astype(x, FLOAT64)
    nothing = zero is None or (zero.content is not None and not zero.content.any())
    return wide if nothing else wide - xp.astype(zero, FLOAT64)


def _of_rows(xp: Any, part: Symbol | None) -> Any:
    """What belongs to the rows of a matrix, one number each, where it meets them."""
    return xp.expand_dims(part, (1,)) if part is not None and part.ndim == 1 and part.shape != (1,) else part


@op
def MatMulInteger(
    xp: Any, a: Symbol, b: Symbol, a_zero_point: Symbol | None = None, b_zero_point: Symbol | None = None
) -> Any:
    """Zero points are one number, one for each row of ``a``, or one for each column of ``b``."""
    left = _shifted(xp, a, _of_rows(xp, a_zero_point))
    return xp.astype(xp.matmul(left, _shifted(xp, b, b_zero_point)), INT32)


@op
def QLinearMatMul(
    xp: Any,
    a: Symbol,
    a_scale: Symbol,
    a_zero_point: Symbol,
    b: Symbol,
    b_scale: Symbol,
    b_zero_point: Symbol,
    y_scale: Symbol,
    y_zero_point: Symbol,
) -> Any:
    """Scales and zero points of ``a`` and ``y`` are of all or of rows, those of ``b`` of all or of columns."""
    product = xp.matmul(_shifted(xp, a, _of_rows(xp, a_zero_point)), _shifted(xp, b, b_zero_point))
    a_scale, b_scale, y_scale = (
        xp.astype(scale, FLOAT64) for scale in (_of_rows(xp, a_scale), b_scale, _of_rows(xp, y_scale))
    )
    offset = _offset(xp, y_zero_point, lambda part: _of_rows(xp, part))
    return _saturated(xp, product * (a_scale * b_scale / y_scale), offset, y_zero_point.dtype)


def _convolved(
    xp: Any,
    x: Symbol,
    w: Symbol,
    x_zero_point: Symbol | None,
    w_zero_point: Symbol | None,
    windows: Windows,
    group: int,
) -> Any:
    """The convolution of shifted integers in float64, where padding is the zero point, so 0 after the shift."""
    whole = shaped(_shifted(xp, x, x_zero_point), x.shape)
    return xp.operator("Conv", whole, _kernel(xp, w, w_zero_point), windows=windows, group=group)


def _kernel(xp: Any, w: Symbol, zero: Symbol | None) -> Symbol:
    """The shifted kernel: a constant where it can be one and integers are not kept, so that a layer can hold it."""
    if xp.integers or w.content is None or (zero is not None and zero.content is None):
        by_output = zero if zero is None or zero.ndim == 0 else per_channel(xp, zero, w.ndim, 0)
        return shaped(_shifted(xp, w, by_output), w.shape)
    kernel = w.content.astype(np.float64)
    if zero is not None and zero.content is not None:
        kernel = kernel - zero.content.astype(np.float64).reshape(-1, *[1] * (w.ndim - 1))
    made = xp.symbol(Fact(FLOAT64, kernel.shape, kernel))
    assert isinstance(made, Symbol)
    return made


@op
def ConvInteger(
    xp: Any,
    x: Symbol,
    w: Symbol,
    x_zero_point: Symbol | None = None,
    w_zero_point: Symbol | None = None,
    *,
    windows: Windows,
    group: int,
) -> Any:
    return xp.astype(_convolved(xp, x, w, x_zero_point, w_zero_point, windows, group), INT32)


@op
def QLinearConv(
    xp: Any,
    x: Symbol,
    x_scale: Symbol,
    x_zero_point: Symbol,
    w: Symbol,
    w_scale: Symbol,
    w_zero_point: Symbol,
    y_scale: Symbol,
    y_zero_point: Symbol,
    b: Symbol | None = None,
    *,
    windows: Windows,
    group: int,
) -> Any:
    """The bias is an integer at the scale of the products."""
    y = _convolved(xp, x, w, x_zero_point, w_zero_point, windows, group)
    if b is not None:
        y = y + per_channel(xp, xp.astype(b, FLOAT64), x.ndim)
    scale = xp.astype(x_scale, FLOAT64) * xp.astype(w_scale, FLOAT64) / xp.astype(y_scale, FLOAT64)
    scale = scale if w_scale.ndim == 0 else per_channel(xp, scale, x.ndim)
    return _saturated(xp, y * scale, _offset(xp, y_zero_point), y_zero_point.dtype)
