"""Functions that are decomposed into others: rounding as quantised models are trained with it, and products with weights of torchao's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.quantized_weights import is_quantized
from netferry.converters.pytorch.to_onnx.tracer.calls import map_structure
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


# ---- torchao ----------------------------------------------------------------------------------------

_LOW, _HIGH = -128, 127
_EPSILON = torch.finfo(torch.float32).eps
"""The smallest step that torchao gives an input."""


def opened(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Any]:
    """The arguments of a function with the weights that torchao has quantised as what they stand for.

    The input of a product is rounded as its weight wants it: by steps of its own for each row, or by known ones.
    """
    weight = args[1] if len(args) > 1 else kwargs.get("weight")
    if function in (F.linear, torch.conv1d, torch.conv2d, torch.conv3d) and is_quantized(weight):
        args = (_rounded_input(args[0], weight), *args[1:]) if args else args
        kwargs = kwargs if args else {**kwargs, "input": _rounded_input(kwargs["input"], weight)}
    found: tuple[Any, Any] = map_structure(_dequantized, (tuple(args), dict(kwargs)))
    return found


def _dequantized(item: Any) -> Any:
    """(quantised - zero) * step, each step and zero for a block of elements that lie one behind the other."""
    if not is_quantized(item):
        return item
    from torch.ao.quantization.fx import _decomposed  # noqa: F401 - it registers the operator

    quantised, sizes = item.qdata, list(item.qdata.shape)
    block = list(getattr(item, "block_size", ()))
    split = next((axis for axis, size in enumerate(block) if size != 1), len(block))
    if len(block) != len(sizes) or block[split + 1 :] != sizes[split + 1 :]:
        raise NotImplementedError(f"a {type(item).__name__} with blocks of {block}")
    zero = getattr(item, "zero_point", None)
    if zero is not None and zero.is_floating_point():
        raise NotImplementedError(f"a {type(item).__name__} with zeros that are no integers")
    scale = item.scale.reshape(-1).float()
    zero = torch.zeros_like(scale, dtype=torch.int64) if zero is None else zero.reshape(-1).to(torch.int64)
    rows = quantised.reshape(-1, math.prod(block))
    operator: Any = torch.ops.quantized_decomposed.dequantize_per_channel
    return operator(rows, scale, zero, 0, _LOW, _HIGH, torch.int8).reshape(sizes).to(item.dtype)


def _rounded_input(input: Tensor, weight: Any) -> Tensor:
    """As torchao rounds an input for this weight."""
    if getattr(weight, "act_pre_scale", None) is not None:
        input = input * weight.act_pre_scale
    wanted, other = (
        getattr(weight, "act_quant_kwargs", None),
        getattr(weight, "activation_quantization", None),
    )
    if getattr(weight, "act_quant_scale", None) is not None:
        zero = getattr(weight, "act_quant_zero_point", None)
        return _by(input, weight.act_quant_scale, 0 if zero is None else zero)
    if wanted is None and other is None:
        return input
    granularity = "PerRow" if wanted is None else type(wanted.granularity).__name__
    if granularity not in ("PerRow", "PerToken", "PerTensor"):
        raise NotImplementedError(f"inputs that are rounded {granularity}")
    axes = tuple(range(input.dim())) if granularity == "PerTensor" else (-1,)
    low, high = input.amin(axes, keepdim=True).clamp(max=0), input.amax(axes, keepdim=True).clamp(min=0)
    kind = "ASYMMETRIC" if wanted is None else wanted.mapping_type.name
    if kind == "SYMMETRIC":
        step = (torch.maximum(-low, high) / ((_HIGH - _LOW) / 2)).clamp(min=_EPSILON)
        return _by(input, step, 0)
    if kind != "ASYMMETRIC":
        raise NotImplementedError(f"inputs that are rounded {kind}")
    step = ((high - low) / (_HIGH - _LOW)).clamp(min=_EPSILON)
    return _by(input, step, (_LOW - (low / step).round()).clamp(_LOW, _HIGH))


def _by(input: Tensor, step: Any, zero: Any) -> Tensor:
    found: Tensor = (((input * (1 / step)).round() + zero).clamp(_LOW, _HIGH) - zero) * step
    return found
