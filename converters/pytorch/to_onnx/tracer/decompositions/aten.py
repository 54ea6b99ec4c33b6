"""Functions that are decomposed into others: the spellings of PyTorch's operator library, as exported programs have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed

_ATEN: Any = torch.ops.aten


@decomposed("_softmax")
def _softmax(input: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return input.softmax(dim, torch.float32 if half_to_float else None)


@decomposed("_log_softmax")
def _log_softmax(input: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    return input.log_softmax(dim, torch.float32 if half_to_float else None)


@decomposed("native_layer_norm")
def _native_layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    """The normalised, and for training the mean and one over the spread."""
    axes = list(range(-len(normalized_shape), 0))
    mean = input.mean(axes, keepdim=True)
    spread = ((input - mean).square().mean(axes, keepdim=True) + eps).rsqrt()
    return F.layer_norm(input, list(normalized_shape), weight, bias, eps), mean, spread


@decomposed("native_group_norm")
def _native_group_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, N: Any, C: Any, HxW: Any, group: int, eps: float
) -> tuple[Tensor, ...]:  # fmt: skip
    parts = input.reshape(N, group, -1)
    mean = parts.mean(-1)
    spread = ((parts - mean.unsqueeze(-1)).square().mean(-1) + eps).rsqrt()
    return F.group_norm(input, group, weight, bias, eps), mean, spread


@decomposed("_native_batch_norm_legit_no_training")
def _native_batch_norm(
    input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor, running_var: Tensor, momentum: float,
    eps: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    found = F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    nothing = input.new_zeros((0,))
    return found, nothing, nothing


@decomposed("convolution", "_convolution")
def _convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *_: bool,
) -> Any:  # fmt: skip
    axes = weight.dim() - 2
    if transposed:
        function: Any = getattr(F, f"conv_transpose{axes}d")
        return function(input, weight, bias, stride, padding, output_padding, groups, dilation)
    function = getattr(F, f"conv{axes}d")
    return function(input, weight, bias, stride, padding, dilation, groups)


@decomposed("_adaptive_avg_pool2d")
def _adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    return F.adaptive_avg_pool2d(input, output_size)


@decomposed("_adaptive_avg_pool3d")
def _adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    return F.adaptive_avg_pool3d(input, output_size)


@decomposed(_ATEN.index.Tensor, _ATEN._unsafe_index.Tensor, _ATEN.index, _ATEN._unsafe_index)
def _index(input: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """An axis without an index stays whole."""
    return input[tuple(slice(None) if index is None else index for index in indices)]


@decomposed("conv_tbc")
def _conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """(time, batch, channels) with weight (kernel, in, out)."""
    return F.conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


@decomposed(torch.ops.prims.convert_element_type.default, torch.ops.prims.convert_element_type)
def _convert_element_type(a: Tensor, dtype: torch.dtype) -> Tensor:
    return a.to(dtype)
