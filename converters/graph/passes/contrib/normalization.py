"""Normalisations, with the sums, embeddings and activations that have been fused into them."""

from __future__ import annotations

import numpy as np

from netferry.converters.graph.ops.table import choice
from netferry.converters.graph.passes.contrib.activations import half_as_single, summed
from netferry.converters.graph.passes.contrib.convolution import first, last
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer

Four = tuple[Value, Maybe, Maybe, Maybe]


@opens("SimplifiedLayerNormalization")
def simplified_layer_normalization(
    g: Writer, x: Value, scale: Value, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Value, Maybe]:
    """x / sqrt(mean(x^2) + epsilon) * scale, in the scale's dtype."""
    wide = g.like(x, scale)
    stash = 11 if g.dtype(wide) == np.float64 else stash_type
    return g.RMSNormalization(wide, scale, axis=axis, epsilon=epsilon, stash_type=stash), None


@opens("SkipLayerNormalization")
def skip_layer_normalization(
    g: Writer,
    x: Value,
    skip: Value,
    gamma: Value,
    beta: Maybe = None,
    bias: Maybe = None,
    *,
    epsilon: float = 1e-12,
) -> Four:
    """The normalised sum of ``x``, ``skip`` and ``bias``, and that sum."""
    total = summed(g, x, skip, bias)
    return g.LayerNormalization(total, gamma, beta, axis=-1, epsilon=epsilon), None, None, total


@opens("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    g: Writer, x: Value, skip: Value, gamma: Value, bias: Maybe = None, *, epsilon: float = 1e-12
) -> Four:
    total = summed(g, x, skip, bias)
    return g.RMSNormalization(total, gamma, axis=-1, epsilon=epsilon), None, None, total


@opens("EmbedLayerNormalization", mask_index_type=0)
def embed_layer_normalization(
    g: Writer,
    input_ids: Value,
    segment_ids: Maybe,
    word: Value,
    position: Value,
    segment: Maybe,
    gamma: Value,
    beta: Value,
    mask: Maybe = None,
    position_ids: Maybe = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Value, Value, Value]:
    """The sum of up to three embeddings, normalised; how many words of each row the mask lets through; the sum itself."""
    total = g.Add(g.Gather(word, input_ids, axis=0), _positions(g, position, position_ids, input_ids))
    if segment is not None and segment_ids is not None:
        total = g.Add(total, g.Gather(segment, segment_ids, axis=0))
    y = g.LayerNormalization(total, gamma, beta, axis=-1, epsilon=epsilon)
    return y, _counted(g, mask, input_ids), total


def _positions(g: Writer, table: Value, ids: Maybe, input_ids: Value) -> Value:
    """(1 or batch, length, width)."""
    if ids is not None:
        return g.Gather(table, ids, axis=0)
    return g.unsqueeze(g.slice(table, 0, 0, g.size(input_ids, 1)), 0)


def _counted(g: Writer, mask: Maybe, input_ids: Value) -> Value:
    """(batch,) int32: how many elements of each row of the mask are 1; 0 without a mask."""
    if mask is None:
        zero = g.constant(0, np.int32)
        return g.Expand(zero, g.size(input_ids, 0))
    ones = g.Cast(g.Equal(mask, g.scalar(1, mask)), to=6)
    return g.ReduceSum(ones, g.ints(1), keepdims=0)


@opens("QEmbedLayerNormalization")
def quantized_embed_layer_normalization(
    g: Writer,
    input_ids: Value,
    segment_ids: Maybe,
    word: Value,
    position: Value,
    segment: Maybe,
    gamma: Value,
    beta: Value,
    mask: Maybe,
    word_scale: Value,
    position_scale: Value,
    segment_scale: Maybe,
    gamma_scale: Value,
    beta_scale: Value,
    word_zero: Value,
    position_zero: Value,
    segment_zero: Maybe,
    gamma_zero: Value,
    beta_zero: Value,
    *,
    epsilon: float = 1e-12,
) -> tuple[Value, Value]:
    """``embed_layer_normalization`` with five quantised tables."""
    tables = (word, word_scale, word_zero), (position, position_scale, position_zero)
    words, places = (g.DequantizeLinear(*parts) for parts in tables)
    third = None if segment is None else g.DequantizeLinear(segment, segment_scale, segment_zero)
    factors = (gamma, gamma_scale, gamma_zero), (beta, beta_scale, beta_zero)
    scale, shift = (g.DequantizeLinear(*parts) for parts in factors)
    y, counts, _ = embed_layer_normalization(
        g, input_ids, segment_ids, words, places, third, scale, shift, mask, epsilon=epsilon
    )
    return y, counts


@opens("GroupNorm")
def group_norm(
    g: Writer,
    x: Value,
    gamma: Value,
    beta: Value,
    *,
    activation: int,
    groups: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> Value:
    """GroupNormalization, then SiLU where ``activation`` is 1; half precision is computed in float32."""
    rank = g.rank(x)
    wide = half_as_single(g, g.transpose(x, first(rank)) if channels_last else x)
    y = g.GroupNormalization(
        wide, g.like(gamma, wide), g.like(beta, wide), num_groups=groups, epsilon=epsilon
    )
    if choice(activation, (0, 1), "activation"):
        y = g.Swish(y)
    y = g.like(y, x)
    return g.transpose(y, last(rank)) if channels_last else y


@opens("SkipGroupNorm")
def skip_group_norm(
    g: Writer,
    x: Value,
    gamma: Value,
    beta: Value,
    skip: Value,
    bias: Maybe = None,
    *,
    activation: int,
    groups: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
) -> tuple[Value, Value]:
    """``group_norm`` of ``x + skip + bias``, and that sum. ``skip`` is of x's shape, or (batch, channels)."""
    rank = g.rank(x)
    if g.rank(skip) == 2:
        skip = g.unsqueeze(skip, *(range(1, rank - 1) if channels_last else range(2, rank)))
    if bias is not None and not channels_last:
        bias = g.unsqueeze(bias, *range(1, rank - 1))
    total = summed(g, x, skip, bias)
    return group_norm(
        g,
        total,
        gamma,
        beta,
        activation=activation,
        groups=groups,
        channels_last=channels_last,
        epsilon=epsilon,
    ), total
