"""Normalisations. Those of Keras have an epsilon of 1e-3 where other frameworks have 1e-5."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotCarry
from netferry.converters.graph import layout
from netferry.converters.graph.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.pen import ROWS, Pen, axes_of, refuse_unless
from netferry.converters.tensorflow.runtime import keras

layers = keras.layers

UNIT_EPSILON = 1e-12
"""The smallest norm by which ``UnitNormalization`` divides."""


def _second(axis: int, rank: int) -> layout.Perm:
    """The permutation that brings ``axis`` to the place of ONNX' channels."""
    place = axis % rank
    if place == 0:
        raise CannotCarry("it normalises each element of the batch with weights of its own")
    return (0, place, *(other for other in range(1, rank) if other != place))


def _or(g: Pen, variable: Any, fill: float, like: Array) -> Tensor:
    """A weight, or what stands for it where the layer has none and ONNX wants one."""
    return g.constant(np.full_like(like, fill)) if variable is None else g.weight(variable)


@ROWS.row(layers.BatchNormalization)
def batch_normalization(g: Pen, layer: Any, x: Tensor) -> Tensor:
    perm, mean = _second(layer.axis, x.rank), np.asarray(layer.moving_mean)
    y = g.BatchNormalization(
        g.transpose(x, perm),
        _or(g, layer.gamma, 1, mean),
        _or(g, layer.beta, 0, mean),
        g.weight(layer.moving_mean),
        g.weight(layer.moving_variance),
        epsilon=layer.epsilon,
        momentum=layer.momentum,
    )
    return g.transpose(y, layout.inverse(perm))


@ROWS.row(layers.GroupNormalization)
def group_normalization(g: Pen, layer: Any, x: Tensor) -> Tensor:
    refuse_unless(x.rank > 2, "its input has no space beside the channels")
    perm = _second(layer.axis, x.rank)
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
def layer_normalization(g: Pen, layer: Any, x: Tensor) -> Tensor:
    """Over the last axes as it is; over others after these were brought to the end."""
    axes = axes_of(layer.axis, x.rank)
    perm = (*(axis for axis in range(x.rank) if axis not in axes), *axes)
    y, first = g.transpose(x, perm), x.rank - len(axes)
    like = np.ones([x.size(axis) for axis in axes], x.dtype)
    scale = _or(g, layer.gamma, 1, like)
    if layer.rms_scaling:
        y = g.Mul(g.Div(y, _deviation(g, y, list(range(first, x.rank)), layer.epsilon)), scale)
    else:
        bias = None if layer.beta is None else g.weight(layer.beta)
        axis = None if first == x.rank - 1 else first
        y = g.LayerNormalization(y, scale, bias, axis=axis, epsilon=layer.epsilon)
    return g.transpose(y, layout.inverse(perm))


def _deviation(g: Pen, x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    """sqrt(variance + epsilon)."""
    centred = g.Sub(x, g.ReduceMean(x, g.ints(*axes), keepdims=1))
    return _root_mean_square(g, centred, axes, epsilon)


def _root_mean_square(g: Pen, x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    mean = g.ReduceMean(g.Mul(x, x), g.ints(*axes), keepdims=1)
    return g.Sqrt(g.Add(mean, g.scalar(epsilon, x)))


@ROWS.row(layers.RMSNormalization)
def rms_normalization(g: Pen, layer: Any, x: Tensor) -> Tensor:
    axes = axes_of(layer.axis, x.rank)
    y = g.Div(x, _root_mean_square(g, x, axes, layer.epsilon))
    return g.Mul(y, g.weight(layer.scale))


@ROWS.row(layers.UnitNormalization)
def unit_normalization(g: Pen, layer: Any, x: Tensor) -> Tensor:
    return unit(g, x, axes_of(layer.axis, x.rank), UNIT_EPSILON)


def unit(g: Pen, x: Tensor, axes: list[int], epsilon: float) -> Tensor:
    """``x`` divided by its length along ``axes``."""
    length = g.ReduceL2(x, g.ints(*axes), keepdims=1)
    return g.Div(x, g.Max(length, g.scalar(epsilon, x)))


# ---- preprocessing --------------------------------------------------------------------------


@ROWS.row(layers.Rescaling)
def rescaling(g: Pen, layer: Any, x: Tensor) -> Tensor:
    scale, offset = (np.asarray(value, layer.compute_dtype) for value in (layer.scale, layer.offset))
    refuse_unless(
        scale.ndim == 0 or keras.config.image_data_format() == "channels_last",
        "a scale for each channel in the layout channels_first",
    )
    y = g.Mul(g.cast(x, layer.compute_dtype), g.constant(scale))
    return g.Add(y, g.constant(offset)) if np.any(offset) else y


@ROWS.row(layers.Normalization)
def normalization(g: Pen, layer: Any, x: Tensor) -> Tensor:
    """(x - mean) / deviation, or the way back with ``invert``."""
    mean, variance = (np.asarray(value, layer.compute_dtype) for value in (layer.mean, layer.variance))
    scale = np.maximum(np.sqrt(variance), np.asarray(keras.config.epsilon(), variance.dtype))
    x = g.cast(x, layer.compute_dtype)
    mean_ = g.constant(mean, name=f"{layer.path}/mean")
    scale_ = g.constant(scale, name=f"{layer.path}/deviation")
    if layer.input_mean is None:
        g.made_of[scale_.name] = (f"{layer.path}/variance",)
    return g.Add(mean_, g.Mul(x, scale_)) if layer.invert else g.Div(g.Sub(x, mean_), scale_)
