"""ONNX's normalizations as MXNet's layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE, computed, demand_floats, weight
from netferry.converters.mxnet.from_onnx.writer import FLOAT32


@NATIVE.row("BatchNormalization")
def batch_normalization(
    xp: MxnetNamespace,
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
    """x: (batch, channels, ...). The statistics become auxiliary states, which training moves."""
    if training_mode:
        raise CannotConvert(
            "training_mode=1: the statistics of the batch as outputs", "Export it in inference mode"
        )
    parts = (scale, b, mean, var)
    fits = (
        computed(x, *parts)
        and x.ndim >= 2
        and all(part.content is not None and part.fact.trainable for part in parts)
    )
    if not fits or len({x.dtype, *(part.dtype for part in parts)}) > 1:
        return NotImplemented
    gamma, beta = weight(xp, scale, fresh=True), weight(xp, b, fresh=True)
    states = [weight(xp, part, fresh=True) for part in (mean, var)]
    xp.states.update(xp.nodes[state.expr[0]].name for state in states)
    return xp.apply(
        "BatchNorm", x, gamma, beta, *states, dims=x.shape, eps=epsilon, momentum=momentum, fix_gamma=False
    )


@NATIVE.row("LayerNormalization")
def layer_normalization(
    xp: MxnetNamespace,
    x: Symbol,
    scale: Symbol,
    b: Symbol | None = None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Any:
    last = axis in (-1, x.ndim - 1) and scale.ndim == 1 and not isinstance(x.shape[-1], Size)
    if not last or scale.shape != x.shape[-1:] or not computed(x, scale, b) or xp.wanted(1) or xp.wanted(2):
        return NotImplemented
    beta = b if b is not None else xp.full(scale.shape, 0, x.dtype)
    return xp.apply("LayerNorm", x, scale, beta, dims=x.shape, axis=-1, eps=epsilon)


@NATIVE.row("InstanceNormalization")
def instance_normalization(xp: MxnetNamespace, x: Symbol, scale: Symbol, b: Symbol, *, epsilon: float) -> Any:
    demand_floats(xp, x)
    if x.dtype != FLOAT32:  # the layer knows no other
        return NotImplemented
    return xp.apply("InstanceNorm", x, scale, b, dims=x.shape, eps=epsilon)


@NATIVE.row("GroupNormalization")
def group_normalization(
    xp: MxnetNamespace,
    x: Symbol,
    scale: Symbol,
    bias: Symbol,
    *,
    epsilon: float,
    num_groups: int,
    stash_type: int,
) -> Any:
    """MXNet 1 scales each group, ONNX each channel: after the layer, unless a group has one scale throughout."""
    demand_floats(xp, x)
    channels = x.size(1)

    def normalized(gamma: Symbol, beta: Symbol) -> Symbol:
        return xp.apply("GroupNorm", x, gamma, beta, dims=x.shape, num_groups=num_groups, eps=epsilon)

    if all(_per_group(part, num_groups) for part in (scale, bias)):
        first = lambda content: content.reshape(num_groups, -1)[:, 0]  # noqa: E731
        return normalized(weight(xp, scale, first), weight(xp, bias, first))
    ones, zeros = (xp.full((num_groups,), value, x.dtype) for value in (1, 0))
    spread = (1, channels, *(1 for _ in x.shape[2:]))
    return xp.add(xp.multiply(normalized(ones, zeros), xp.reshape(scale, spread)), xp.reshape(bias, spread))


def _per_group(part: Symbol, groups: int) -> bool:
    if part.content is None or not part.fact.trainable:
        return False
    rows = part.content.reshape(groups, -1)
    return rows.shape[1] > 1 and bool(np.all(rows == rows[:, :1]))


@NATIVE.row("LRN")
def lrn(xp: MxnetNamespace, x: Symbol, *, size: int, alpha: float, beta: float, bias: float) -> Any:
    if size % 2 == 0 or x.dtype != FLOAT32 or x.ndim != 4:
        raise CannotConvert(f"LRN with size={size} over {x.dtype.name} of {x.ndim} axes")
    return xp.apply("LRN", x, dims=x.shape, nsize=size, alpha=alpha, beta=beta, knorm=bias)
