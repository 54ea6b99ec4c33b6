"""Integers for ONNX's reference evaluator, their products and what they stand for: exact in float64, and by its fast kernels.

A sum of products of eight-bit numbers stays below 2^53 for more than 10^11 terms, so float64 has it exactly; numpy's own
products of integers are a hundred times slower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops._quant_utils import reshape_input

from netferry.converters.onnx.reference.convolution import convolved, wide
from netferry.converters.signature import Array


class DequantizeLinear(OpRun):
    op_domain = ""

    def _run(
        self,
        x: Array,
        x_scale: Array,
        x_zero_point: Array | None = None,
        axis: int = 1,
        block_size: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        """The evaluator's own multiplies by a single scale in float32."""

        def beside(numbers: Array) -> Array:
            return np.asarray(reshape_input(numbers.astype(np.float64), x.shape, axis, block_size))

        moved = x.astype(np.float64) - (0 if x_zero_point is None else beside(x_zero_point))
        return ((moved * beside(x_scale)).astype(x_scale.dtype),)


class MatMulInteger(OpRun):
    op_domain = ""

    def _run(
        self, a: Array, b: Array, a_zero_point: Array | None = None, b_zero_point: Array | None = None
    ) -> tuple[Array]:
        """A zero point of ``a`` is one number or one of each row, that of ``b`` one or one of each column."""
        return (_as_int32(_shifted(a, a_zero_point, -2) @ _shifted(b, b_zero_point, -1)),)


class QLinearMatMul(OpRun):
    op_domain = ""

    def _run(
        self, a: Array, a_scale: Array, a_zero_point: Array, b: Array, b_scale: Array, b_zero_point: Array,
        y_scale: Array, y_zero_point: Array,
    ) -> tuple[Array]:  # fmt: skip
        product = _shifted(a, a_zero_point, -2) @ _shifted(b, b_zero_point, -1)
        scale = _along(a_scale, -2) * _along(b_scale, -1) / y_scale
        return (_quantized(product * scale, y_zero_point),)


class ConvInteger(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override]
        self,
        x: Array,
        w: Array,
        x_zero_point: Array | None = None,
        w_zero_point: Array | None = None,
        *,
        group: int = 1,
        **attributes: Any,
    ) -> tuple[Array]:
        """A zero point of ``w`` is one number or one of each output channel."""
        return (_as_int32(_convolved(x, w, x_zero_point, w_zero_point, group, attributes)),)


class QLinearConv(OpRun):
    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Array, x_scale: Array, x_zero_point: Array, w: Array, w_scale: Array, w_zero_point: Array,
        y_scale: Array, y_zero_point: Array, b: Array | None = None, *, group: int = 1, **attributes: Any,
    ) -> tuple[Array]:  # fmt: skip
        """``b`` is in steps of ``x_scale * w_scale``, as the products are."""
        total = _convolved(x, w, x_zero_point, w_zero_point, group, attributes)
        if b is not None:
            total = total + _along(b, 1 - x.ndim)
        return (_quantized(total * (_along(x_scale * w_scale, 1 - x.ndim) / y_scale), y_zero_point),)


def _convolved(
    x: Array, w: Array, x_zero: Array | None, w_zero: Array | None, group: int, attributes: Mapping[str, Any]
) -> Array:
    """Padding is of the value zero, not of the number zero: it comes after the zero point is taken off."""
    return convolved(_shifted(x, x_zero), _shifted(w, w_zero, -w.ndim), None, group, attributes)


def _shifted(array: Array, zero_point: Array | None, axis: int = -1) -> Array:
    """Without its zero point, in float64; several of these are of the places along ``axis``."""
    if zero_point is None or not zero_point.any():
        return wide(array)
    return wide(array) - _along(wide(zero_point), axis)


def _along(values: Array, axis: int) -> Array:
    """A row of numbers turned so that it lies along this axis, counted from the end; one number is without an axis."""
    if np.size(values) == 1:
        return np.reshape(values, ())
    return values.reshape(-1, *[1] * (-1 - axis)) if values.ndim == 1 else values


def _as_int32(total: Array) -> Array:
    return total.astype(np.int64).astype(np.int32)


def _quantized(steps: Array, zero_point: Array) -> Array:
    """Rounded half to even, moved by the zero point and held within its dtype."""
    limits = np.iinfo(zero_point.dtype)
    return np.clip(np.rint(steps) + wide(zero_point), limits.min, limits.max).astype(zero_point.dtype)
