"""The table of torch functions: quantising and back, as PyTorch's own quantiser writes it into exported programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.live import numpy_dtype
from netferry.converters.pytorch.to_onnx.emitter import Emitter, Operand
from netferry.converters.pytorch.to_onnx.table import row


def _parameters(
    e: Emitter, scale: Operand, zero_point: Operand, dtype: np.dtype[Any], channels: bool
) -> tuple[Tensor, Tensor]:
    """Scale and zero point: 0-D, or one of each for a channel."""
    found = e.tensor(scale, np.dtype(np.float32)), e.tensor(zero_point, dtype)
    if channels:
        return found
    return tuple(e.reshape(one, []) if one.rank else one for one in found)  # type: ignore[return-value]


def _quantized(
    e: Emitter, input: Tensor, scale: Operand, zero_point: Operand, low: Any, high: Any, axis: int | None
) -> Tensor:
    """Rounded to the nearest step; ends that the type has not are cut off before."""
    kind = numpy_dtype(e.out.dtype)
    limits = np.iinfo(kind)
    step, zero = _parameters(e, scale, zero_point, kind, axis is not None)
    found = e.g.QuantizeLinear(input, step, zero, axis=axis)
    return found if (low, high) == (limits.min, limits.max) else _cut(e, found, low, high)


def _cut(e: Emitter, x: Tensor, low: int, high: int) -> Tensor:
    """Between ends that are narrower than the type's; onnxruntime clips integers of four bytes at the least."""
    whole = e.g.Clip(
        e.cast(x, np.dtype(np.int32)), *(e.tensor(end, np.dtype(np.int32)) for end in (low, high))
    )
    return e.cast(whole, x.dtype)


@row("quantized_decomposed::quantize_per_tensor")
def quantize_per_tensor(
    e: Emitter, input: Tensor, scale: Operand, zero_point: Operand, quant_min: int, quant_max: int, dtype: Any
) -> Tensor:
    return _quantized(e, input, scale, zero_point, quant_min, quant_max, None)


@row("quantized_decomposed::quantize_per_channel")
def quantize_per_channel(
    e: Emitter, input: Tensor, scales: Tensor, zero_points: Tensor, axis: int, quant_min: int, quant_max: int, dtype: Any
) -> Tensor:  # fmt: skip
    return _quantized(e, input, scales, zero_points, quant_min, quant_max, axis)


@row("quantized_decomposed::dequantize_per_tensor")
def dequantize_per_tensor(
    e: Emitter, input: Tensor, scale: Operand, zero_point: Operand, quant_min: int, quant_max: int, dtype: Any, *,
    out_dtype: Any = None,
) -> Tensor:  # fmt: skip
    return e.cast(_dequantized(e, input, scale, zero_point, None), e.dtype)


@row("quantized_decomposed::dequantize_per_channel")
def dequantize_per_channel(
    e: Emitter, input: Tensor, scales: Tensor, zero_points: Tensor | None, axis: int, quant_min: int, quant_max: int,
    dtype: Any, *, out_dtype: Any = None,
) -> Tensor:  # fmt: skip
    return e.cast(_dequantized(e, input, scales, 0 if zero_points is None else zero_points, axis), e.dtype)


def _dequantized(e: Emitter, input: Tensor, scale: Operand, zero_point: Operand, axis: int | None) -> Tensor:
    if input.dtype.kind not in "iu" or input.dtype.itemsize > 4:
        raise CannotConvert(f"dequantising {input.dtype}")
    if axis is not None and not isinstance(zero_point, Tensor):
        assert isinstance(scale, Tensor)
        zero_point = e.full(0, e.sizes_of(scale), input.dtype)
    step, zero = _parameters(e, scale, zero_point, input.dtype, axis is not None)
    return e.g.DequantizeLinear(input, step, zero, axis=axis)
