"""Normalisations. Those of Keras have an epsilon of 1e-3 where other frameworks have 1e-5."""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.runtime import keras, nn_ops as nn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, Row, axes_of, one, refuse_unless

layers = keras.layers

UNIT_EPSILON = 1e-12
"""The smallest norm by which ``UnitNormalization`` divides."""


def second(axis: int, rank: int) -> layout.Perm:
    """The permutation that brings ``axis`` to where ONNX has the channels."""
    position = axis % rank
    if position == 0:
        raise CannotConvert("it normalises each element of the batch with weights of its own")
    return (0, position, *(other for other in range(1, rank) if other != position))


def _or(g: Emitter, variable: Any, fill: float, like: Array) -> Tensor:
    """A weight, or what stands for it where the layer has none and ONNX wants one."""
    return (
        g.constant(np.full_like(like, fill)) if variable is None else g.cast(g.weight(variable), like.dtype)
    )


def _as_float32(row: Row) -> Row:
    """Half floats are normalised as float32, with weights that are kept as float32, and come back as what they were."""

    @wraps(row)
    def wrapped_row(g: Emitter, layer: Any, x: Tensor, **arguments: Any) -> Tensor:
        if x.dtype != np.float16:
            return one(row(g, layer, x, **arguments))
        return g.cast(one(row(g, layer, g.cast(x, np.float32), **arguments)), np.float16)

    return wrapped_row


@ROWS.row(layers.BatchNormalization)
@_as_float32
def batch_normalization(g: Emitter, layer: Any, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Of a mask only training takes notice."""
    perm = second(layer.axis, x.rank)
    mean, variance = (g.cast(g.weight(w), x.dtype) for w in (layer.moving_mean, layer.moving_variance))
    like = np.ones(mean.size(0), x.dtype)
    y = g.BatchNormalization(
        g.transpose(x, perm),
        _or(g, layer.gamma, 1, like),
        _or(g, layer.beta, 0, like),
        mean,
        variance,
        epsilon=layer.epsilon,
        momentum=layer.momentum,
    )
    return g.transpose(y, layout.inverse(perm))


@ROWS.row(layers.GroupNormalization)
@_as_float32
def group_normalization(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    refuse_unless(x.rank > 2, "its input has no space beside the channels")
    perm = second(layer.axis, x.rank)
    like = np.ones(x.size(layer.axis % x.rank), x.dtype)
    y = g.GroupNormalization(
        g.transpose(x, perm),
        _or(g, layer.gamma, 1, like),
        _or(g, layer.beta, 0, like),
        num_groups=layer.groups,
        epsilon=layer.epsilon,
    )
    return g.transpose(y, layout.inverse(perm))


@ROWS.row(layers.LayerNormalization)
def layer_normalization(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    scale, bias = (None if w is None else g.weight(w) for w in (layer.gamma, layer.beta))
    axes = axes_of(layer.axis, x.rank)
    return over_axes(g, x, axes, scale, bias, layer.epsilon, rms_scaling=layer.rms_scaling)


def over_axes(
    g: Emitter,
    x: Tensor,
    axes: list[int],
    scale: Tensor | None,
    bias: Tensor | None,
    epsilon: float,
    *,
    rms_scaling: bool = False,
) -> Tensor:
    """Over the last axes as it is; over others after these were brought to the end."""
    given, x = x.dtype, _precise(g, x)
    perm = (*(axis for axis in range(x.rank) if axis not in axes), *axes)
    y, first = g.transpose(x, perm), x.rank - len(axes)
    scale = (
        g.constant(np.ones([x.size(axis) for axis in axes], x.dtype))
        if scale is None
        else g.cast(scale, x.dtype)
    )
    if rms_scaling:
        y = g.Mul(g.Div(y, _deviation(g, y, list(range(first, x.rank)), epsilon)), scale)
    else:
        axis = None if first == x.rank - 1 else first
        bias = None if bias is None else g.cast(bias, x.dtype)
        y = g.LayerNormalization(y, scale, bias, axis=axis, epsilon=epsilon)
    return g.cast(g.transpose(y, layout.inverse(perm)), given)


def _precise(g: Emitter, x: Tensor) -> Tensor:
    return g.cast(x, np.float32) if x.dtype == np.float16 else x


def _deviation(g: Emitter, x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    """sqrt(variance + epsilon)."""
    centred = g.Sub(x, g.ReduceMean(x, g.ints(*axes), keepdims=1))
    return _root_mean_square(g, centred, axes, epsilon)


def _root_mean_square(g: Emitter, x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    mean = g.ReduceMean(g.Mul(x, x), g.ints(*axes), keepdims=1)
    return g.Sqrt(g.Add(mean, g.scalar(epsilon, x)))


@ROWS.row(layers.RMSNormalization)
def rms_normalization(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return by_root_mean_square(g, x, axes_of(layer.axis, x.rank), g.weight(layer.scale), layer.epsilon)


def by_root_mean_square(
    g: Emitter, x: Tensor, axes: list[int], scale: Tensor | None, epsilon: float
) -> Tensor:
    given, x = x.dtype, _precise(g, x)
    y = g.Div(x, _root_mean_square(g, x, axes, epsilon))
    return g.cast(y if scale is None else g.Mul(y, g.cast(scale, x.dtype)), given)


@ROWS.row(layers.UnitNormalization)
def unit_normalization(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return unit(g, x, axes_of(layer.axis, x.rank), UNIT_EPSILON)


def unit(g: Emitter, x: Tensor, axes: list[int], epsilon: float, *, order: int = 2) -> Tensor:
    """``x`` divided by its length along ``axes``."""
    length = g.op(f"ReduceL{order}", x, g.ints(*axes), keepdims=1)
    return g.Div(x, g.Max(length, g.scalar(epsilon, x)))


# ---- preprocessing --------------------------------------------------------------------------


@ROWS.row(layers.Rescaling)
def rescaling(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    scale, offset = (np.asarray(value, layer.compute_dtype) for value in (layer.scale, layer.offset))
    refuse_unless(
        scale.ndim == 0 or keras.config.image_data_format() == "channels_last",
        "a scale for each channel in the layout channels_first",
    )
    y = g.Mul(g.cast(x, layer.compute_dtype), g.constant(scale))
    return g.Add(y, g.constant(offset)) if np.any(offset) else y


@ROWS.row(layers.Normalization)
def normalization(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """(x - mean) / deviation, or its inverse with ``invert``."""
    mean, variance = (np.asarray(value, layer.compute_dtype) for value in (layer.mean, layer.variance))
    scale = np.maximum(np.sqrt(variance), np.asarray(keras.config.epsilon(), variance.dtype))
    x = g.cast(x, layer.compute_dtype)
    mean_ = g.constant(mean, name=f"{layer.path}/mean")
    scale_ = g.constant(scale, name=f"{layer.path}/deviation")
    if layer.input_mean is None:
        g.made_of[scale_.name] = (f"{layer.path}/variance",)
    return g.Add(mean_, g.Mul(x, scale_)) if layer.invert else g.Div(g.Sub(x, mean_), scale_)


# ---- operations of keras.ops ----------------------------------------------------------------------


@ROWS.row(nn.BatchNorm)
def batch_norm(
    g: Emitter, op: Any, x: Tensor, mean: Any, variance: Any, offset: Any = None, scale: Any = None
) -> Tensor:
    x, *given = g.promoted(
        x, mean, variance, 0.0 if offset is None else offset, 1.0 if scale is None else scale
    )
    mean_, variance_, offset_, scale_ = (_expanded(g, value, given[0]) for value in given)
    perm = second(op.axis, x.rank)
    y = g.BatchNormalization(g.transpose(x, perm), scale_, offset_, mean_, variance_, epsilon=op.epsilon)
    return g.transpose(y, layout.inverse(perm))


def _expanded(g: Emitter, value: Tensor, like: Tensor) -> Tensor:
    return value if value.rank else g.Expand(value, g.Shape(like))


@ROWS.row(nn.LayerNorm)
def layer_norm(g: Emitter, op: Any, x: Tensor, gamma: Any = None, beta: Any = None) -> Tensor:
    axes = axes_of(op.axis, x.rank)
    epsilon = keras.config.epsilon() if op.epsilon is None else op.epsilon
    scale, bias = (None if value is None else g.lift(value) for value in (gamma, beta))
    return over_axes(g, x, axes, scale, bias, epsilon, rms_scaling=op.rms_scaling)


@ROWS.row(nn.RMSNorm)
def rms_norm(g: Emitter, op: Any, x: Tensor, scale: Any = None) -> Tensor:
    epsilon = keras.config.epsilon() if op.epsilon is None else op.epsilon
    return by_root_mean_square(
        g, x, axes_of(op.axis, x.rank), None if scale is None else g.lift(scale), epsilon
    )


@ROWS.row(nn.Normalize)
def normalize(g: Emitter, op: Any, x: Tensor) -> Tensor:
    refuse_unless(op.order in (1, 2), f"its order {op.order} is not 1 or 2")
    epsilon = keras.config.epsilon() if op.epsilon is None else op.epsilon
    return unit(g, x, axes_of(op.axis, x.rank), epsilon, order=op.order)
