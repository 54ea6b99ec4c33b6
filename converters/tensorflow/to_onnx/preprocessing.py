"""Preprocessing layers that turn values into categories, and categories into vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import keras, nn_ops as nn, numpy_ops as kn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, refuse_unless

layers = keras.layers


@ROWS.row(layers.CategoryEncoding)
def category_encoding(g: Emitter, layer: Any, x: Tensor, *, count_weights: Tensor | None = None) -> Tensor:
    refuse_unless(not layer.sparse, "its output is sparse")
    return _encoded(g, x, layer.output_mode, layer.num_tokens, layer.dtype, count_weights)


@ROWS.row(layers.Discretization)
def discretization(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    refuse_unless(not layer.sparse, "its output is sparse")
    edges = layer.bin_boundaries
    return _encoded(g, digitized(g, x, edges), layer.output_mode, len(edges) + 1, layer.output_dtype)


@ROWS.row(layers.IntegerLookup)
def integer_lookup(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """The index of a number in the vocabulary; what is not in it gets the indices kept for that."""
    plain = layer.output_mode in ("int", "one_hot", "multi_hot", "count") and not layer.sparse
    refuse_unless(plain and not layer.invert, "it looks up backwards, or gives weighted or sparse vectors")
    spare = layer.num_oov_indices
    refuse_unless(spare > 0, "it stops at a number that is not in its vocabulary (num_oov_indices=0)")
    refuse_unless(spare == 1 or layer.oov_method != "farmhash", "it hashes numbers outside of its vocabulary")
    x = g.cast(x, np.int64)
    tokens = np.asarray(layer.get_vocabulary(include_special_tokens=False), np.int64)
    start, first = layer._token_start_index(), layer._oov_start_index()
    found = g.Equal(g.Unsqueeze(x, g.ints(-1)), g.constant(tokens))
    position = g.ArgMax(g.cast(found, np.int32), axis=-1, keepdims=0)
    known = g.cast(g.ReduceMax(g.cast(found, np.int32), g.ints(-1), keepdims=0), np.bool_)
    other = (
        g.constant(first, np.int64)
        if spare == 1
        else g.Add(g.Mod(x, g.constant(spare, np.int64)), g.constant(first, np.int64))
    )
    index = g.Where(known, g.Add(position, g.constant(start, np.int64)), other)
    if layer.mask_token is not None:
        masked = g.Equal(x, g.constant(layer.mask_token, np.int64))
        index = g.Where(masked, g.constant(int(layer._mask_value), np.int64), index)
    depth = layer.max_tokens if layer.pad_to_max_tokens else layer.vocabulary_size()
    return _encoded(g, index, layer.output_mode, depth, layer._value_dtype)


def digitized(g: Emitter, x: Tensor, edges: Any) -> Tensor:
    """How many edges are at or below a value, as int32. The edges are float32 to TensorFlow."""
    dtype = np.dtype(np.float64) if x.dtype.kind != "f" else np.promote_types(x.dtype, np.float32)
    known = g.constant(np.asarray(edges, np.float32).astype(dtype))
    reached = g.GreaterOrEqual(g.Unsqueeze(g.cast(x, dtype), g.ints(-1)), known)
    return g.ReduceSum(g.cast(reached, np.int32), g.ints(-1), keepdims=0)


def one_hot(g: Emitter, x: Tensor, classes: int, dtype: Any, axis: int = -1) -> Tensor:
    """What is no class, a negative number too, is zero everywhere (ONNX' OneHot counts it from the end)."""
    axis %= x.rank + 1
    numbers = g.constant(np.arange(classes).reshape(-1, *[1] * (x.rank - axis)))
    return g.cast(g.Equal(g.Unsqueeze(g.cast(x, np.int64), g.ints(axis)), numbers), dtype)


def multi_hot(g: Emitter, x: Tensor, classes: int, dtype: Any, axis: int = -1) -> Tensor:
    """One for each class that is there, over the second axis (or the only one)."""
    hot = one_hot(g, x, classes, np.int32, axis)
    return g.cast(g.ReduceMax(hot, g.ints(1 if x.rank > 1 else 0), keepdims=0), dtype)


def _encoded(
    g: Emitter, x: Tensor, mode: str, classes: int, dtype: Any, weights: Tensor | None = None
) -> Tensor:
    """Numbers of classes as vectors, by Keras' ``encode_categorical_inputs``."""
    if mode == "int":
        return g.cast(x, dtype)
    x = x if x.rank else g.Unsqueeze(x, g.ints(0))
    if mode == "one_hot":
        last = x.dims[-1] if x.dims is not None else None
        return one_hot(g, g.Squeeze(x, g.ints(-1)) if x.rank > 1 and last == 1 else x, classes, dtype)
    if mode == "multi_hot":
        return multi_hot(g, x, classes, dtype)
    hot = one_hot(g, x, classes, dtype if weights is None else weights.dtype)
    hot = hot if weights is None else g.Mul(hot, g.Unsqueeze(weights, g.ints(-1)))
    return g.ReduceSum(hot, g.ints(1 if x.rank > 1 else 0), keepdims=0)


@ROWS.row(nn.OneHot)
def one_hot_operation(g: Emitter, op: Any, x: Any) -> Tensor:
    refuse_unless(not op.sparse, "its output is sparse")
    return one_hot(g, g.lift(x), op.num_classes, op.dtype or np.float32, op.axis)


@ROWS.row(nn.MultiHot)
def multi_hot_operation(g: Emitter, op: Any, inputs: Any) -> Tensor:
    refuse_unless(not op.sparse, "its output is sparse")
    return multi_hot(g, g.lift(inputs), op.num_classes, op.dtype or np.float32, op.axis)


@ROWS.row(kn.Digitize)
def digitize(g: Emitter, op: Any, x: Tensor, bins: Any) -> Tensor:
    return digitized(g, x, bins.array if isinstance(bins, Tensor) else bins)
