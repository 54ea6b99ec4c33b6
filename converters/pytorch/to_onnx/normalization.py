"""The table of torch functions: normalisation, with weights as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import rsqrt
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row


@row(F.local_response_norm)
def local_response_norm(
    e: Emitter, input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha / size * sum of squares over ``size`` neighbouring channels) ^ beta."""
    if size % 2 == 0:
        raise CannotConvert(
            "a local response normalisation over an even number of channels", "Use an odd size"
        )
    return e.g.LRN(input, size=size, alpha=float(alpha), beta=float(beta), bias=float(k))


def _or_constant(e: Emitter, weight: Tensor | None, value: float, size: int, dtype: np.dtype[Any]) -> Tensor:
    return e.g.constant(np.full(size, value, dtype)) if weight is None else weight


@row(F.layer_norm, torch.layer_norm)
def layer_norm(
    e: Emitter,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Tensor:
    count = len(normalized_shape)
    base, wrap = e.beneath(input, trailing=count)
    if weight is None:
        weight = e.g.constant(np.ones(tuple(normalized_shape), input.dtype))
    return wrap(e.g.LayerNormalization(base, weight, bias, axis=-count, epsilon=float(eps)))


@row(F.rms_norm, torch.rms_norm)
def rms_norm(
    e: Emitter,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight; the operator of this name came to ONNX only with opset 23."""
    base, wrap = e.beneath(input, trailing=len(normalized_shape))
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    mean = e.g.ReduceMean(e.g.Mul(base, base), e.g.ints(*range(-len(normalized_shape), 0)), keepdims=1)
    y = e.g.Mul(base, rsqrt(e, e.g.Add(mean, e.tensor(eps, input.dtype))))
    return wrap(y if weight is None else e.g.Mul(y, weight))


@row(F.batch_norm)
def batch_norm(
    e: Emitter,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """ONNX's momentum is the share that the old statistics keep, PyTorch's that of the new ones."""
    if training or running_mean is None or running_var is None:
        return _by_its_batch(e, input, weight, bias, eps)
    channels = running_mean.size(0)
    return e.g.BatchNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        running_mean,
        running_var,
        epsilon=float(eps),
        momentum=None if momentum is None else 1 - momentum,
    )


def _by_its_batch(e: Emitter, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """By mean and spread of each channel over all else, as weights are standardised."""
    axes = e.g.ints(*(axis for axis in range(x.rank) if axis != 1))
    apart = e.g.Sub(x, e.g.ReduceMean(x, axes, keepdims=1))
    variance = e.g.ReduceMean(e.g.Mul(apart, apart), axes, keepdims=1)
    y = e.g.Mul(apart, rsqrt(e, e.g.Add(variance, e.tensor(eps, x.dtype))))
    shape = e.g.ints(-1, *[1] * (x.rank - 2))
    y = y if weight is None else e.g.Mul(y, e.g.Reshape(weight, shape))
    return y if bias is None else e.g.Add(y, e.g.Reshape(bias, shape))


@row(F.group_norm, torch.group_norm)
def group_norm(
    e: Emitter,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Tensor:
    channels = input.size(1)
    return e.g.GroupNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        num_groups=num_groups,
        epsilon=float(eps),
    )


@row(F.instance_norm)
def instance_norm(
    e: Emitter,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return batch_norm(e, input, running_mean, running_var, weight, bias, False, momentum, eps)
    channels = input.size(1)
    return e.g.InstanceNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        epsilon=float(eps),
    )
