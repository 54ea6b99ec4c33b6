"""Rows of normalizations."""

from __future__ import annotations

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, known, rows, sized_like
from netferry.converters.mxnet.to_onnx.sizes import (
    moved,
    positive,
)


@ROWS.row("BatchNorm", "_contrib_SyncBatchNorm")
def batch_norm(
    g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """x: the channels on ``axis``. With fix_gamma, MXNet's default, gamma counts as ones."""
    axis = positive(a.integer("axis", 1), x.rank)
    channels = x.dims[axis] if x.dims is not None else None
    if isinstance(channels, int) and gamma.dims is not None and gamma.dims != (channels,):
        raise CannotConvert(f"axis={axis} has {channels} channels, and gamma {gamma.size(0)}")
    if a.flag("fix_gamma", True):
        ones = np.ones_like(known(gamma, "gamma, which fix_gamma sets to one,"))
        gamma = g.constant(ones, name=gamma.name)
    order = moved(x.rank, axis, 1)
    y = g.BatchNormalization(
        g.transpose(x, order),
        gamma,
        beta,
        mean,
        variance,
        epsilon=a.number("eps", 1e-3),
        momentum=a.number("momentum", 0.9),
    )
    return g.transpose(y, moved(x.rank, 1, axis))


@ROWS.row("LayerNorm")
def layer_norm(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """Over one axis; ONNX normalises the last."""
    axis, last = positive(a.integer("axis", -1), x.rank), x.rank - 1
    y = g.LayerNormalization(
        g.transpose(x, moved(x.rank, axis, last)), gamma, beta, epsilon=a.number("eps", 1e-5)
    )
    return g.transpose(y, moved(x.rank, last, axis))


@ROWS.row("GroupNorm")
def group_norm(g: Emitter, a: Attrs, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    """x: (batch, channels, *space). MXNet 1 has one gamma and beta per group, MXNet 2 one per channel."""
    groups = a.integer("num_groups", 1)

    def spread(v: Tensor) -> Tensor:
        if v.size(0) == x.size(1):
            return v
        return g.constant(np.repeat(known(v, "scale per group"), x.size(1) // groups), name=v.name)

    y = g.GroupNormalization(x, spread(gamma), spread(beta), num_groups=groups, epsilon=a.number("eps", 1e-5))
    return sized_like(y, x)


@ROWS.row("L2Normalization")
def l2_normalization(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x / sqrt(sum(x^2) + eps) over all but the batch, over the channels, or over space."""
    mode = a.string("mode", "instance", among="instance channel spatial")
    over = {"instance": range(1, x.rank), "channel": range(1, 2), "spatial": range(2, x.rank)}[mode]
    energy = g.ReduceSumSquare(x, g.ints(*over), keepdims=1)
    return g.Div(x, g.Sqrt(g.Add(energy, g.scalar(a.number("eps", 1e-10), x))))


@ROWS.row("LRN")
def lrn(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    size = a.integer("nsize")
    if size % 2 == 0:
        raise CannotConvert(f"nsize={size} is even")
    alpha, beta, bias = a.number("alpha", 1e-4), a.number("beta", 0.75), a.number("knorm", 2.0)
    if alpha > 0 and beta > 0:
        return g.LRN(x, size=size, alpha=alpha, beta=beta, bias=bias)
    flat = g.Reshape(g.Mul(x, x), g.ints(0, 1, x.size(1), -1))
    pads = [size // 2, 0] * 2
    mean = g.AveragePool(flat, kernel_shape=[size, 1], strides=[1, 1], pads=pads, count_include_pad=1)
    base = g.Add(g.Mul(g.Reshape(mean, g.Shape(x)), g.scalar(alpha, x)), g.scalar(bias, x))
    return g.Mul(x, g.Pow(base, g.scalar(-beta, x)))  # onnxruntime's LRN takes no alpha or beta below zero


rows(
    {
        "_contrib_BatchNormWithReLU": lambda g, a, x, *statistics: g.Relu(batch_norm(g, a, x, *statistics)),
        "InstanceNorm": lambda g, a, x, gamma, beta: g.InstanceNormalization(
            x, gamma, beta, epsilon=a.number("eps", 1e-3)
        ),
    }
)
