"""Normalisations as Keras' layers: their weights trainable, BatchNormalization's statistics kept.

ONNX's momentum is the share of the old statistics, as Keras' is. Keras keeps the biased variance, PyTorch the
unbiased: the moving variances drift apart by n / (n - 1) while they train.
"""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layer_calls import called, channels_last, weight
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE

FLOAT = 1
"""ONNX's number for float32: the precision in which LayerNormalization computes."""


@NATIVE.row("BatchNormalization")
def BatchNormalization(
    xp: TensorflowNamespace,
    x: Symbol,
    scale: Symbol,
    b: Symbol,
    mean: Symbol,
    var: Symbol,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int,
) -> Any:
    parts = {"gamma": scale, "beta": b, "moving_mean": mean, "moving_variance": var}
    known = all(part.content is not None and part.dtype == x.dtype for part in parts.values())
    if training_mode or not known or x.ndim < 2 or x.dtype.name == "float16":
        return NotImplemented
    channels = scale.size(0)
    layer = xp.layer(
        "BatchNormalization",
        {operation: weight(part) for operation, part in parts.items()},
        (*(None,) * (x.ndim - 1), channels),
        dtype=x.dtype,
        epsilon=epsilon,
        momentum=momentum,
    )
    xp.note("BatchNormalization keeps the biased variance while it trains, PyTorch the unbiased")
    base, perm = channels_last(xp, x)
    return called(xp, layer, base, x, dims=x.shape, perm=perm)


@NATIVE.row("LayerNormalization")
def LayerNormalization(
    xp: TensorflowNamespace,
    x: Symbol,
    scale: Symbol,
    b: Symbol | None = None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Any:
    first = axis % x.ndim
    shape = x.shape[first:]
    parts = [scale] if b is None else [scale, b]
    known = all(part.content is not None and part.content.shape == shape for part in parts)
    exact = x.dtype.name == "float32" and stash_type == FLOAT
    if not known or not exact or xp.wanted(1) or xp.wanted(2) or first == 0:
        return NotImplemented
    perm = perm_of(x)
    if perm is not None and len(shape) > 1:
        perm = None
    base = x.base if perm is not None and isinstance(x, Tensor) else x.expr
    axes = [axis % x.ndim] if perm is None else [perm[-1]]
    axes = list(range(first, x.ndim)) if len(shape) > 1 else axes
    build = tuple(x.shape[(perm or range(x.ndim)).index(i)] if i in axes else None for i in range(x.ndim))
    layer = xp.layer(
        "LayerNormalization",
        {operation: weight(part) for operation, part in zip(("gamma", "beta"), parts, strict=False)},
        build,
        dtype=x.dtype,
        axis=None if axes == [x.ndim - 1] else axes,
        epsilon=epsilon,
        center=None if b is not None else False,
    )
    return called(xp, layer, base, x, dims=x.shape, perm=perm)


@NATIVE.row("RMSNormalization")
def RMSNormalization(
    xp: TensorflowNamespace,
    x: Symbol,
    scale: Symbol,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Any:
    content = scale.content
    last = axis in (-1, x.ndim - 1)
    if (
        content is None
        or not last
        or content.shape != x.shape[-1:]
        or x.dtype.name != "float32"
        or stash_type != FLOAT
    ):
        return NotImplemented
    build = (*(None,) * (x.ndim - 1), content.shape[0])
    layer = xp.layer("RMSNormalization", {"scale": weight(scale)}, build, dtype=x.dtype, epsilon=epsilon)
    return called(xp, layer, x, x, dims=x.shape)


@NATIVE.row("GroupNormalization")
def GroupNormalization(
    xp: TensorflowNamespace,
    x: Symbol,
    scale: Symbol,
    bias: Symbol,
    *,
    num_groups: int,
    epsilon: float,
    stash_type: int,
) -> Any:
    return _groups(xp, x, scale, bias, num_groups, epsilon) if stash_type == FLOAT else NotImplemented


@NATIVE.row("InstanceNormalization")
def InstanceNormalization(
    xp: TensorflowNamespace, x: Symbol, scale: Symbol, b: Symbol, *, epsilon: float
) -> Any:
    channels = x.shape[1]
    return _groups(xp, x, scale, b, channels, epsilon) if isinstance(channels, int) else NotImplemented


def _groups(
    xp: TensorflowNamespace, x: Symbol, scale: Symbol, bias: Symbol, groups: int, epsilon: float
) -> Any:
    """A GroupNormalization, where its weights are constants."""
    if scale.content is None or bias.content is None or x.dtype.name != "float32" or x.ndim < 3:
        return NotImplemented
    channels = scale.content.shape[0]
    layer = xp.layer(
        "GroupNormalization",
        {"gamma": weight(scale), "beta": weight(bias)},
        (*(None,) * (x.ndim - 1), channels),
        dtype=x.dtype,
        groups=groups,
        epsilon=epsilon,
    )
    base, perm = channels_last(xp, x)
    return called(xp, layer, base, x, dims=x.shape, perm=perm)
