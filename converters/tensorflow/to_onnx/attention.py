"""Attention: MatMul, Softmax, MatMul, the form that onnxruntime knows how to fuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.signature import Array
from netferry.converters.tensorflow.runtime import keras, nn_ops as nn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, refuse_unless

layers = keras.layers

FAR_BELOW = -1e9
"""What a masked score becomes: far enough below all others that its softmax is zero."""


def _allowed(g: Emitter, scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """Where a score (..., queries, keys) may count; None where every one may."""
    if not causal:
        return mask
    ones = g.Expand(g.constant(1, np.int32), g.Shape(scores, start=scores.rank - 2))
    below = g.cast(g.Trilu(ones, upper=0), np.bool_)
    return below if mask is None else g.And(mask, below)


def masked_softmax(
    g: Emitter,
    scores: Tensor,
    mask: Tensor | None,
    causal: bool,
    below: float = FAR_BELOW,
    emptied: bool = False,
) -> Tensor:
    """The softmax of those scores (..., queries, keys) that may count.

    Where none may, all weights are alike; ``emptied`` makes them zero, as ``keras.layers.Softmax`` does.
    """
    allowed = _allowed(g, scores, mask, causal)
    if allowed is None:
        return g.Softmax(scores)
    scores = g.Where(allowed, scores, g.scalar(max(below, float(np.finfo(scores.dtype).min)), scores))
    weights = g.Softmax(scores)
    return g.Where(allowed, weights, g.scalar(0.0, weights)) if emptied and mask is not None else weights


def _heads(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """(batch, steps, features) -> (batch, heads, steps, size): a Dense whose output is split."""
    _, heads, size = layer.kernel.shape

    def flat(array: Array) -> Array:
        return array.reshape(*array.shape[:-2], heads * size)

    y = g.MatMul(x, g.weight(layer.kernel, flat))
    y = y if layer.bias is None else g.Add(y, g.weight(layer.bias, flat))
    return g.transpose(g.Reshape(y, g.ints(0, 0, heads, size)), (0, 2, 1, 3))


def _joined(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """(batch, heads, steps, size) -> (batch, steps, features)."""
    heads, size, *_ = layer.kernel.shape
    flat = g.Reshape(g.transpose(x, (0, 2, 1, 3)), g.ints(0, 0, heads * size))
    y = g.MatMul(flat, g.weight(layer.kernel, lambda array: array.reshape(heads * size, -1)))
    return y if layer.bias is None else g.Add(y, g.weight(layer.bias))


@ROWS.row(layers.MultiHeadAttention)
def multi_head_attention(
    g: Emitter,
    layer: Any,
    query: Tensor,
    value: Tensor,
    key: Tensor | None = None,
    *,
    attention_mask: Tensor | None = None,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Sequence[Tensor]:
    """``attention_mask``: (batch, queries, keys), or with the heads before the queries."""
    refuse_unless(query.rank == value.rank == 3, "its inputs have more than three axes")
    refuse_unless(tuple(layer.attention_axes) == (1,), "it attends along other axes than the second")
    refuse_unless(not layer._use_gate and layer._sliding_window is None, "it has a gate or a window")
    refuse_unless(len(layer.output_dense.kernel.shape) == 3, "its output has more than one axis")
    mask = None if attention_mask is None else g.cast(attention_mask, np.bool_)
    if mask is not None and mask.rank == 3:
        mask = g.Unsqueeze(mask, g.ints(1))
    queries, keys, values = (
        _heads(g, dense, x)
        for dense, x in (
            (layer.query_dense, query),
            (layer.key_dense, value if key is None else key),
            (layer.value_dense, value),
        )
    )
    scaled = g.Mul(queries, g.scalar(layer._inverse_sqrt_key_dim, queries))
    scores = g.MatMul(scaled, g.transpose(keys, (0, 1, 3, 2)))
    by_softmax = layer._dropout > 0 or return_attention_scores  # else by keras.ops.dot_product_attention
    weights = masked_softmax(g, scores, mask, use_causal_mask, emptied=by_softmax)
    output = _joined(g, layer.output_dense, g.MatMul(weights, values))
    return [output, weights] if return_attention_scores else [output]


@ROWS.row(layers.Attention)
def attention(
    g: Emitter,
    layer: Any,
    inputs: Sequence[Tensor],
    *,
    return_attention_scores: bool = False,
    use_causal_mask: bool = False,
) -> Sequence[Tensor]:
    """Luong's: query, value and, where it is not the value, key, each (batch, steps, size)."""
    refuse_unless(layer.score_mode == "dot", f"its score_mode '{layer.score_mode}' is not 'dot'")
    query, value, key = (*inputs, inputs[1])[:3]
    scores = g.MatMul(query, g.transpose(key, (*range(key.rank - 2), key.rank - 1, key.rank - 2)))
    scores = scores if layer.scale is None else g.Mul(scores, g.weight(layer.scale))
    weights = masked_softmax(g, scores, None, use_causal_mask)
    output = g.MatMul(weights, value)
    return [output, weights] if return_attention_scores else [output]


@ROWS.row(nn.DotProductAttention)
def dot_product_attention(
    g: Emitter,
    op: Any,
    query: Any,
    key: Any,
    value: Any,
    bias: Any = None,
    mask: Any = None,
    scale: Any = None,
) -> Tensor:
    """Each (batch, steps, heads, size); of keys and values a head may serve several of the queries'."""
    refuse_unless(op.attn_logits_soft_cap is None, "it caps its scores")
    q, k, v = (g.transpose(x, (0, 2, 1, 3)) for x in g.promoted(query, key, value))
    groups = q.size(1) // k.size(1)
    if groups > 1:
        k, v = (_each_for(g, x, groups) for x in (k, v))
    factor = 1 / np.sqrt(k.size(3)) if scale is None else scale
    scores = g.Mul(g.MatMul(q, g.transpose(k, (0, 1, 3, 2))), g.cast(g.lift(factor), q.dtype))
    if bias is not None:
        scores = g.Add(scores, g.cast(g.lift(bias), scores.dtype))
    allowed = None if mask is None else g.cast(g.lift(mask), np.bool_)
    weights = masked_softmax(g, scores, allowed, op.is_causal, FAR_BELOW)
    return g.transpose(g.MatMul(weights, v), (0, 2, 1, 3))


def _each_for(g: Emitter, x: Tensor, groups: int) -> Tensor:
    """(batch, heads, steps, size) with each head ``groups`` times."""
    heads, size = x.size(1), x.size(3)
    wide = g.Tile(g.Unsqueeze(x, g.ints(2)), g.ints(1, 1, groups, 1, 1))
    return g.Reshape(wide, g.ints(0, heads * groups, -1, size))
