"""Functions that are decomposed into others: rounding as quantised models are trained with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed


def _rounded(input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Any:
    """To the nearest step between the two ends, and back."""
    steps = (input / scale).round() + zero_point
    return (steps.clamp(quant_min, quant_max) - zero_point) * scale


@decomposed("fake_quantize_per_tensor_affine")
def _fake_quantize(input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Any:
    return _rounded(input, scale, zero_point, quant_min, quant_max)


@decomposed("fake_quantize_per_channel_affine")
def _fake_quantize_channels(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int
) -> Any:
    shape = [-1 if position == axis % input.dim() else 1 for position in range(input.dim())]
    zero = zero_point.to(input.dtype).view(shape)
    return _rounded(input, scale.view(shape), zero, quant_min, quant_max)


@decomposed("_fake_quantize_per_tensor_affine_cachemask_tensor_qparams")
def _fake_quantize_with_mask(
    input: Tensor,
    scale: Tensor,
    zero_point: Tensor,
    fake_quant_enabled: Tensor,
    quant_min: int,
    quant_max: int,
) -> tuple[Tensor, Tensor]:
    found = _rounded(input, scale, zero_point, quant_min, quant_max)
    return found, torch.ones_like(input, dtype=torch.bool)
