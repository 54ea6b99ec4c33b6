"""Layers without space or time: dense, embedding, reshaping, merging; and those that do nothing here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import convnext, keras
from netferry.converters.tensorflow.to_onnx.emitter import (
    ROWS,
    Emitter,
    activate,
    axes_of,
    one,
    refuse_unless,
)
from netferry.converters.tensorflow.to_onnx.normalization import unit

layers = keras.layers


# ---- dense and embedding --------------------------------------------------------------------


@ROWS.row(layers.Dense)
def dense(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    kernel = g.weight(layer.kernel)
    bias = g.weight(layer.bias) if layer.use_bias else None
    if x.rank == 2:
        y = g.MatMul(x, kernel) if bias is None else g.Gemm(x, kernel, bias)
    else:
        y = g.MatMul(x, kernel)
        y = y if bias is None else g.Add(y, bias)
    return activate(g, layer.activation, y)


@ROWS.row(layers.EinsumDense)
def einsum_dense(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    y = g.Einsum(x, g.weight(layer.kernel), equation=layer.equation.replace(" ", ""))
    y = y if layer.bias is None else g.Add(y, g.weight(layer.bias))
    return activate(g, layer.activation, y)


@ROWS.row(layers.Embedding)
def embedding(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    indices = x if x.dtype in (np.int32, np.int64) else g.cast(x, np.int32)
    return g.Gather(g.weight(layer.embeddings), indices)


# ---- nothing in inference -------------------------------------------------------------------


@ROWS.row(
    layers.ActivityRegularization,
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    convnext.StochasticDepth,
)
def nothing(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return x


_AUGMENTATIONS = [
    layers.AugMix,
    layers.CutMix,
    layers.MixUp,
    layers.RandAugment,
    *(kind for name, kind in vars(layers).items() if name.startswith("Random")),
]


@ROWS.row(*_AUGMENTATIONS)
def augmentation(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """In inference at most a cast; the transformation that Keras draws even there is not used."""
    return one(g.follow(layer.transform_images, x, transformation=None, training=False))


@ROWS.row(convnext.LayerScale)
def layer_scale(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.Mul(x, g.weight(layer.gamma))


@ROWS.row(layers.Masking)
def masking(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """Steps of which every feature is ``mask_value`` become zero (the mask itself is the walk's)."""
    differs = g.cast(g.Not(g.Equal(x, g.scalar(layer.mask_value, x))), np.int32)
    kept = g.cast(g.ReduceMax(differs, g.ints(-1), keepdims=1), np.bool_)
    return g.Where(kept, x, g.scalar(0, x))


# ---- reshaping ------------------------------------------------------------------------------


@ROWS.row(layers.Flatten)
def flatten(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    if x.rank == 1:
        return g.Unsqueeze(x, g.ints(1))
    if layer.data_format == "channels_first":
        x = g.transpose(x, layout.channels_last(x.rank))
    return x if x.rank == 2 else g.Flatten(x)


@ROWS.row(layers.Reshape)
def reshape(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """(batch, channels) -> (batch, 1, ..., channels), as before a gate, with the channels first at once."""
    target = [-1 if size is None else size for size in layer.target_shape]
    if x.rank == 2 and len(target) > 1 and set(target[:-1]) == {1}:
        y = g.Reshape(x, g.ints(0, target[-1], *target[:-1]))
        return g.transpose(y, layout.channels_last(y.rank))
    return g.Reshape(x, g.ints(0, *target))


@ROWS.row(layers.Permute)
def permute(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.transpose(x, (0, *layer.dims))


@ROWS.row(layers.RepeatVector)
def repeat_vector(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.Tile(g.Unsqueeze(x, g.ints(1)), g.ints(1, layer.n, 1))


# ---- merging --------------------------------------------------------------------------------


def _alike(g: Emitter, inputs: Sequence[Any]) -> list[Tensor]:
    """The inputs of a merge with one rank: those with fewer axes get axes of one after the batch."""
    tensors = [g.lift(x) for x in inputs]
    rank = max(x.rank for x in tensors)
    return [x if x.rank == rank else g.Unsqueeze(x, g.ints(*range(1, rank - x.rank + 1))) for x in tensors]


def _variadic(op_type: str, binary: str | None = None) -> Callable[[Emitter, Any, Sequence[Any]], Tensor]:
    """A merge of any number of inputs; of two with the operator that is at home there."""

    def merge(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
        tensors = _alike(g, inputs)
        return g.op(binary if binary and len(tensors) == 2 else op_type, *tensors)

    return merge


ROWS.row(layers.Add)(_variadic("Sum", "Add"))
ROWS.row(layers.Average)(_variadic("Mean"))
ROWS.row(layers.Maximum)(_variadic("Max"))
ROWS.row(layers.Minimum)(_variadic("Min"))


@ROWS.row(layers.Multiply)
def multiply(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    return reduce(g.Mul, _alike(g, inputs))


@ROWS.row(layers.Subtract)
def subtract(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    first, second = _alike(g, inputs)
    return g.Sub(first, second)


@ROWS.row(layers.Concatenate)
def concatenate_layer(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    return concatenate(g, [g.lift(x) for x in inputs], layer.axis)


def concatenate(g: Emitter, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """In the layout that all of them lie in, where that is one."""
    if len(tensors) == 1:
        return tensors[0]
    first, place = tensors[0], axis % tensors[0].rank
    if first.perm is None or any(x.perm != first.perm for x in tensors):
        return g.Concat(*tensors, axis=place)
    back = layout.inverse(first.perm)
    joined = g.Concat(*(g.transpose(x, back) for x in tensors), axis=first.perm[place])
    return g.transpose(joined, first.perm)


@ROWS.row(layers.Dot)
def dot(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    """The sum of products along one axis of each, batch by batch: a MatMul of three axes."""
    a, b = (g.lift(x) for x in inputs)
    refuse_unless(a.rank <= 3 and b.rank <= 3, "an input with more than three axes")
    wanted = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    (axis_a,), (axis_b,) = axes_of(wanted[0], a.rank), axes_of(wanted[1], b.rank)
    refuse_unless(axis_a > 0 and axis_b > 0, "a product along the batch")
    if layer.normalize:
        a, b = unit(g, a, [axis_a], keras.config.epsilon()), unit(g, b, [axis_b], keras.config.epsilon())
    left = g.Unsqueeze(a, g.ints(1)) if a.rank == 2 else g.transpose(a, (0, 3 - axis_a, axis_a))
    right = g.Unsqueeze(b, g.ints(2)) if b.rank == 2 else g.transpose(b, (0, axis_b, 3 - axis_b))
    y = g.MatMul(left, right)
    if a.rank == 2:
        return g.Squeeze(y, g.ints(1))
    return g.Squeeze(y, g.ints(2)) if b.rank == 2 else y
