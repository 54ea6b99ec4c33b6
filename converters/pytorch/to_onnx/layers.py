"""The table of layers: ``nn`` modules that are kept whole, each as what it is in ONNX.

A row takes the layer and what it was called with. Layers that are a function with weights hand both to that
function's row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.registry import Table
from netferry.converters.pytorch.to_onnx import (
    activations,
    convolution,
    embedding,
    image,
    linear,
    normalization,
    shape,
)
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import FUNCTIONS, Row, RowT

MODULES: Table[type[nn.Module], Row] = Table("PyTorch layers")


def row(*kinds: type[nn.Module]) -> Callable[[RowT], RowT]:
    """Register for layer classes."""
    return MODULES.row(*kinds)


# ---- layers that are a function of their attributes -----------------------------------------------

PLAIN: dict[type[nn.Module], tuple[Any, tuple[str, ...]]] = {
    nn.ReLU: (F.relu, ()),
    nn.ReLU6: (F.relu6, ()),
    nn.LeakyReLU: (F.leaky_relu, ("negative_slope",)),
    nn.ELU: (F.elu, ("alpha",)),
    nn.SELU: (F.selu, ()),
    nn.CELU: (F.celu, ("alpha",)),
    nn.GELU: (F.gelu, ("approximate",)),
    nn.Sigmoid: (torch.sigmoid, ()),
    nn.Tanh: (torch.tanh, ()),
    nn.Softmax: (F.softmax, ("dim",)),
    nn.LogSoftmax: (F.log_softmax, ("dim",)),
    nn.Softmin: (F.softmin, ("dim",)),
    nn.Softplus: (F.softplus, ("beta", "threshold")),
    nn.Softsign: (F.softsign, ()),
    nn.SiLU: (F.silu, ()),
    nn.Mish: (F.mish, ()),
    nn.Hardswish: (F.hardswish, ()),
    nn.Hardsigmoid: (F.hardsigmoid, ()),
    nn.Hardtanh: (F.hardtanh, ("min_val", "max_val")),
    nn.Hardshrink: (F.hardshrink, ("lambd",)),
    nn.Softshrink: (F.softshrink, ("lambd",)),
    nn.Tanhshrink: (F.tanhshrink, ()),
    nn.LogSigmoid: (F.logsigmoid, ()),
    nn.Threshold: (F.threshold, ("threshold", "value")),
    nn.MaxPool1d: (F.max_pool1d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
    nn.MaxPool2d: (F.max_pool2d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
    nn.MaxPool3d: (F.max_pool3d, ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")),
    nn.AvgPool1d: (F.avg_pool1d, ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")),
    nn.AvgPool2d: (
        F.avg_pool2d,
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    nn.AvgPool3d: (
        F.avg_pool3d,
        ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
    ),
    nn.AdaptiveAvgPool1d: (F.adaptive_avg_pool1d, ("output_size",)),
    nn.AdaptiveAvgPool2d: (F.adaptive_avg_pool2d, ("output_size",)),
    nn.AdaptiveAvgPool3d: (F.adaptive_avg_pool3d, ("output_size",)),
    nn.AdaptiveMaxPool1d: (F.adaptive_max_pool1d, ("output_size", "return_indices")),
    nn.AdaptiveMaxPool2d: (F.adaptive_max_pool2d, ("output_size", "return_indices")),
    nn.AdaptiveMaxPool3d: (F.adaptive_max_pool3d, ("output_size", "return_indices")),
    nn.Flatten: (torch.flatten, ("start_dim", "end_dim")),
    nn.Unflatten: (torch.unflatten, ("dim", "unflattened_size")),
    nn.PixelShuffle: (F.pixel_shuffle, ("upscale_factor",)),
    nn.PixelUnshuffle: (F.pixel_unshuffle, ("downscale_factor",)),
}  # fmt: skip
"""Layers without weights: the function each stands for, and the attributes that are its arguments."""


def _plain(function: Any, attributes: Sequence[str], e: Emitter, module: nn.Module, input: Tensor) -> Any:
    return FUNCTIONS[function](e, input, *(getattr(module, name) for name in attributes))


for _kind, (_function, _attributes) in PLAIN.items():
    row(_kind)(partial(_plain, _function, _attributes))


@row(
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout
)  # fmt: skip
def identity(e: Emitter, module: nn.Module, input: Tensor) -> Tensor:
    """Nothing happens in inference."""
    return input


@row(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
def upsample(e: Emitter, m: nn.Upsample, input: Tensor) -> Tensor:
    return image.interpolate(
        e, input, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor
    )


@row(nn.Softmax2d)
def softmax2d(e: Emitter, m: nn.Softmax2d, input: Tensor) -> Any:
    return FUNCTIONS[F.softmax](e, input, -3)


@row(nn.PReLU)
def prelu(e: Emitter, m: nn.PReLU, input: Tensor) -> Tensor:
    weight = e.weight(m, "weight")
    assert weight is not None
    return activations.prelu(e, input, weight)


_PADS: dict[str, tuple[type[nn.Module], ...]] = {
    "constant": (
        nn.ConstantPad1d,
        nn.ConstantPad2d,
        nn.ConstantPad3d,
        nn.ZeroPad1d,
        nn.ZeroPad2d,
        nn.ZeroPad3d,
    ),
    "reflect": (nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    "replicate": (nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    "circular": (nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
}


def _pad(mode: str, e: Emitter, m: Any, input: Tensor) -> Tensor:
    return shape.pad(e, input, m.padding, mode, getattr(m, "value", None))


for _mode, _kinds in _PADS.items():
    row(*_kinds)(partial(_pad, _mode))

# ---- layers with weights --------------------------------------------------------------------------


@row(nn.Linear)
def linear_layer(e: Emitter, m: nn.Linear, input: Tensor) -> Tensor:
    weight = e.weight(m, "weight")
    assert weight is not None
    return linear.linear(e, input, weight, e.weight(m, "bias"))


def _conv(function: Any, e: Emitter, m: Any, input: Tensor) -> Any:
    """A padding that is not of zeros is written as a Pad of its own."""
    padding = m.padding
    if m.padding_mode != "zeros":
        input, padding = shape.pad(e, input, m._reversed_padding_repeated_twice, m.padding_mode), 0
    weights = e.weight(m, "weight"), e.weight(m, "bias")
    return FUNCTIONS[function](e, input, *weights, m.stride, padding, m.dilation, m.groups)


def _conv_transpose(function: Any, e: Emitter, m: Any, input: Tensor, output_size: Any = None) -> Any:
    """An output size of its own is given; what it adds at the ends follows from the input's."""
    weights = e.weight(m, "weight"), e.weight(m, "bias")
    extra = m.output_padding if output_size is None else [None] * len(m.stride)
    return FUNCTIONS[function](e, input, *weights, m.stride, m.padding, extra, m.groups, m.dilation)


for _kind, _function in {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}.items():
    row(_kind)(partial(_conv, _function))
for _kind, _function in {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}.items():
    row(_kind)(partial(_conv_transpose, _function))


def _statistics(e: Emitter, m: Any) -> dict[str, Any]:
    return {name: e.weight(m, name) for name in ("running_mean", "running_var", "weight", "bias")}


@row(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
def batch_norm(e: Emitter, m: Any, input: Tensor) -> Tensor:
    fixed = {"training": m.running_mean is None, "momentum": m.momentum, "eps": m.eps}
    return normalization.batch_norm(e, input, **_statistics(e, m), **fixed)


@row(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
def instance_norm(e: Emitter, m: Any, input: Tensor) -> Tensor:
    spatial_rank = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}
    axes = next(n for kind, n in spatial_rank.items() if isinstance(m, kind))
    given = {**_statistics(e, m), "use_input_stats": not m.track_running_stats, "momentum": m.momentum}
    return convolution.batched(
        e, input, axes, lambda x: normalization.instance_norm(e, x, **given, eps=m.eps)
    )


@row(nn.LayerNorm)
def layer_norm(e: Emitter, m: nn.LayerNorm, input: Tensor) -> Tensor:
    return normalization.layer_norm(
        e, input, m.normalized_shape, e.weight(m, "weight"), e.weight(m, "bias"), m.eps
    )


@row(nn.RMSNorm)
def rms_norm(e: Emitter, m: nn.RMSNorm, input: Tensor) -> Tensor:
    return normalization.rms_norm(e, input, m.normalized_shape, e.weight(m, "weight"), m.eps)


@row(nn.GroupNorm)
def group_norm(e: Emitter, m: nn.GroupNorm, input: Tensor) -> Tensor:
    return normalization.group_norm(e, input, m.num_groups, e.weight(m, "weight"), e.weight(m, "bias"), m.eps)


@row(nn.Embedding)
def embedding_layer(e: Emitter, m: nn.Embedding, input: Tensor) -> Tensor:
    weight = e.weight(m, "weight")
    assert weight is not None
    return embedding.embedding(e, input, weight, m.padding_idx, m.max_norm)
