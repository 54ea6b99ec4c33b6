"""Attention with its projection, its masks and its caches, as ONNX's Attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.passes.contrib.activations import summed
from netferry.converters.graph.passes.contrib.quantized import product
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer

FILTER = -10000.0
"""What is added to the score of a key that is masked, where no attribute says another number."""

Present = tuple[Value, Value]


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values by heads, (batch, heads, length, size), and how they are weighed."""

    q: Value
    k: Value
    v: Value
    scale: float | None = None
    causal: int = 0

    def attend(self, g: Writer, bias: Maybe, past: Present | None) -> tuple[Value, Present]:
        """(batch, length, heads * size), and keys and values with those of before.

        ``bias`` is added to the scores. A query sees the keys up to its own place, which counts from the past on.
        """
        q, k, v = self.q, self.k, self.v
        if past is not None:
            k, v = (g.Concat(*pair, axis=2) for pair in zip(past, (k, v), strict=True))
        alone = past is None and bias is None
        if self.causal and not alone:
            bias = _causal(g, q, k, bias, past)
        y = g.Attention(q, k, v, bias, scale=self.scale or None, is_causal=int(alone and bool(self.causal)))
        return self._merged(g, y), (k, v)

    def _merged(self, g: Writer, y: Value) -> Value:
        heads = g.known(self.q, 1, "the number of its heads")
        return merged(g, y, heads * g.known(self.v, 3, "the width of its values"))


def by_heads(g: Writer, x: Value, count: int) -> Value:
    """(batch, length, heads * size) as (batch, heads, length, size)."""
    size = g.known(x, 2, "the width of its heads") // count
    return g.transpose(g.reshape(x, 0, 0, count, size), [0, 2, 1, 3])


def merged(g: Writer, x: Value, width: int) -> Value:
    """(batch, heads, length, size) as (batch, length, heads * size), which is ``width``."""
    return g.reshape(g.transpose(x, [0, 2, 1, 3]), 0, 0, width)


# ---- masks --------------------------------------------------------------------------------------------------


def key_bias(g: Writer, mask: Maybe, x: Value, total: Value, filtered: float) -> Maybe:
    """What a mask adds to the scores of queries that are made of ``x``: (batch, 1, 1 or length, total).

    A mask of two or three axes says 0 for a key that is hidden. One of one axis holds where the keys of each row end,
    and behind that, where there are twice as many, where they begin.
    """
    if mask is None:
        return None
    if g.rank(mask) in (2, 3):
        seen = g.unsqueeze(g.Greater(mask, g.scalar(0, mask)), *((1, 2) if g.rank(mask) == 2 else (1,)))
    elif g.rank(mask) == 1:
        seen = _between(g, mask, x, total)
    else:
        raise CannotConvert(f"its mask has {g.rank(mask)} axes, expected one, two or three")
    return g.Where(seen, g.scalar(0, x), g.scalar(filtered, x))


def _between(g: Writer, ends: Value, x: Value, total: Value) -> Value:
    (count,), batch = g.dims(ends), g.dims(x)[0]
    key = g.unsqueeze(_places(g, total), 0)
    places = g.as_dtype(ends, np.int64)
    if count == batch:
        return g.unsqueeze(g.Less(key, g.unsqueeze(places, 1)), 1, 2)
    if count != 2 * batch:
        raise CannotConvert(
            f"its mask has {count} elements for a batch of {batch}, expected as many or twice as many"
        )
    rows = g.size(x, 0)
    end = g.unsqueeze(g.slice(places, 0, 0, rows), 1)
    start = g.unsqueeze(g.slice(places, 0, rows, g.size(places, 0)), 1)
    return g.unsqueeze(g.And(g.Less(key, end), g.GreaterOrEqual(key, start)), 1, 2)


def _joined(g: Writer, *biases: Maybe) -> Maybe:
    return summed(g, *biases) if any(bias is not None for bias in biases) else None


def _causal(g: Writer, q: Value, k: Value, bias: Maybe, past: Present | None) -> Value:
    """``bias`` where a key is not behind its query, which comes after the past; minus infinity elsewhere."""
    place = _places(g, g.size(q, 2))
    if past is not None:
        place = g.Add(place, g.size(past[0], 2))
    seen = g.LessOrEqual(_places(g, g.size(k, 2)), g.unsqueeze(place, 1))
    return g.Where(seen, g.scalar(0, q) if bias is None else bias, g.scalar(-np.inf, q))


def _places(g: Writer, count: Value) -> Value:
    """0, 1, 2 ... as many as ``count``, a vector of one, says."""
    return g.Range(g.constant(0), g.squeeze(count, 0), g.constant(1))


# ---- self-attention -----------------------------------------------------------------------------------------


@opens("Attention", do_rotary=0, past_present_share_buffer=0, rotary_embedding_dim=0)
def attention(
    g: Writer,
    x: Value,
    weights: Value,
    bias: Maybe = None,
    mask_index: Maybe = None,
    past: Maybe = None,
    attention_bias: Maybe = None,
    past_sequence_length: Maybe = None,
    *,
    num_heads: int,
    mask_filter_value: float = FILTER,
    qkv_hidden_sizes: Sequence[int] = (),
    scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Value, Maybe]:
    """x (batch, length, width), weights (width, sizes of q + k + v), past (2, batch, heads, length, size)."""
    _demand_no_buffer(past_sequence_length)
    whole = summed(g, g.MatMul(x, weights), bias)
    width = g.known(weights, 1, "the width of its projection")
    sizes = list(qkv_hidden_sizes) or [width // 3] * 3
    return _self_attention(
        g, whole, sizes, num_heads, mask_index, past, attention_bias, mask_filter_value, scale, unidirectional
    )


@opens("QAttention", do_rotary=0, past_present_share_buffer=0)
def quantized_attention(
    g: Writer,
    x: Value,
    weight: Value,
    bias: Value,
    input_scale: Value,
    weight_scale: Value,
    mask_index: Maybe = None,
    input_zero_point: Maybe = None,
    weight_zero_point: Maybe = None,
    past: Maybe = None,
    *,
    num_heads: int,
    mask_filter_value: float = FILTER,
    scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Value, Maybe]:
    """``attention`` whose projection is of integers."""
    whole = product(g, x, input_scale, input_zero_point, weight, weight_scale, weight_zero_point, bias)
    width = g.known(weight, 1, "the width of its projection")
    return _self_attention(
        g,
        whole,
        [width // 3] * 3,
        num_heads,
        mask_index,
        past,
        None,
        mask_filter_value,
        scale,
        unidirectional,
    )


def _self_attention(
    g: Writer,
    whole: Value,
    sizes: Sequence[int],
    heads: int,
    mask: Maybe,
    past: Maybe,
    attention_bias: Maybe,
    filtered: float,
    scale: float | None,
    causal: int,
) -> tuple[Value, Maybe]:
    q, k, v = (by_heads(g, part, heads) for part in g.split(whole, 2, *sizes))
    before = None if past is None else _halves(g, past)
    total = g.size(q, 2) if before is None else g.Add(g.size(q, 2), g.size(before[0], 2))
    bias = _joined(g, key_bias(g, mask, whole, total, filtered), attention_bias)
    y, present = Heads(q, k, v, scale, causal).attend(g, bias, before)
    return y, g.Concat(*(g.unsqueeze(part, 0) for part in present), axis=0) if g.asked(1) else None


def _halves(g: Writer, past: Value) -> Present:
    first, second = (g.squeeze(g.slice(past, 0, place, place + 1), 0) for place in (0, 1))
    return first, second


def _demand_no_buffer(*inputs: Maybe) -> None:
    if any(value is not None for value in inputs):
        raise CannotConvert(
            "its past and present share a buffer", "Export the model without past_present_share_buffer"
        )


# ---- attention between two sequences -------------------------------------------------------------------------


@opens("MultiHeadAttention")
def multi_head_attention(
    g: Writer,
    query: Value,
    key: Maybe = None,
    value: Maybe = None,
    bias: Maybe = None,
    key_padding_mask: Maybe = None,
    attention_bias: Maybe = None,
    past_key: Maybe = None,
    past_value: Maybe = None,
    past_sequence_length: Maybe = None,
    cache_indirection: Maybe = None,
    *,
    num_heads: int,
    mask_filter_value: float = FILTER,
    scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Value, Value, Value]:
    """Queries, keys and values each alone, or packed along an axis before the last, or keys and values by heads."""
    _demand_no_buffer(past_sequence_length, cache_indirection)
    q, k, v = _projections(g, query, key, value)
    parts = _with_bias(g, (q, k, v), bias)
    split = [part if g.rank(part) == 4 else by_heads(g, part, num_heads) for part in parts]
    past = None if past_key is None or past_value is None else (past_key, past_value)
    total = g.size(split[1], 2) if past is None else g.Add(g.size(split[1], 2), g.size(past[0], 2))
    hidden = key_bias(g, key_padding_mask, q, total, mask_filter_value)
    made = Heads(split[0], split[1], split[2], scale, unidirectional)
    y, present = made.attend(g, _joined(g, hidden, attention_bias), past)
    return y, *present


def _projections(g: Writer, query: Value, key: Maybe, value: Maybe) -> tuple[Value, Value, Value]:
    """Each as (batch, length, width), or by heads where it comes so."""
    if g.rank(query) == 5:
        q, k, v = (_unpacked(g, query, place) for place in range(3))
        return q, k, v
    if key is None:
        third = g.known(query, 2, "the width of its heads") // 3
        q, k, v = g.split(query, 2, third, third, third)
        return q, k, v
    if g.rank(key) == 5:
        k, v = (_unpacked(g, key, place) for place in range(2))
        return query, k, v
    if value is None:
        raise CannotConvert("its value is missing")
    return query, key, value


def _unpacked(g: Writer, x: Value, place: int) -> Value:
    """(batch, length, heads, count, size) at one of ``count``, as (batch, length, heads * size)."""
    width = g.known(x, 2, "the number of its heads") * g.known(x, 4, "the width of its heads")
    return g.reshape(g.slice(x, 3, place, place + 1), 0, 0, width)


def _with_bias(g: Writer, parts: Sequence[Value], bias: Maybe) -> Sequence[Value]:
    """The bias of the projections, as far as they are no heads yet."""
    if bias is None:
        return parts
    q, k, v = parts
    width = g.known(q, 2, "the width of its heads")
    last = g.known(bias, 0, "the size of its bias") - 2 * width
    pieces = g.split(bias, 0, width, width, last)
    return [x if g.rank(x) == 4 else g.Add(x, part) for x, part in zip((q, k, v), pieces, strict=True)]


@opens("DecoderMaskedMultiHeadAttention", output_qk=0)
def decoder_masked_multi_head_attention(
    g: Writer,
    query: Value,
    key: Maybe = None,
    value: Maybe = None,
    mask_index: Maybe = None,
    attention_bias: Maybe = None,
    past_key: Maybe = None,
    past_value: Maybe = None,
    past_sequence_length: Maybe = None,
    beam_width: Maybe = None,
    cache_indirection: Maybe = None,
    bias: Maybe = None,
    *,
    num_heads: int,
    mask_filter_value: float = FILTER,
    past_present_share_buffer: int = 0,
    scale: float | None = None,
) -> tuple[Value, Value, Value]:
    """``multi_head_attention`` of one query at a time; its past may be a buffer, of which a part is filled.

    Beams that share a cache stay out.
    """
    if beam_width is not None or cache_indirection is not None:
        raise CannotConvert(
            "its cache is shared between beams", "Export the decoder for a search without beams"
        )
    if (
        not past_present_share_buffer
        or past_key is None
        or past_value is None
        or past_sequence_length is None
    ):
        return multi_head_attention(
            g, query, key, value, bias, mask_index, attention_bias, past_key, past_value,
            num_heads=num_heads, mask_filter_value=mask_filter_value, scale=scale,
        )  # fmt: skip
    if mask_index is not None or attention_bias is not None:
        raise CannotConvert(
            "it has a mask beside a buffer", "Export the decoder without past_present_share_buffer"
        )
    parts = _with_bias(g, _projections(g, query, key, value), bias)
    q, k, v = (by_heads(g, part, num_heads) for part in parts)
    filled = g.as_dtype(g.reshape(past_sequence_length, 1), np.int64)
    place = _places(g, g.size(past_key, 2))
    here = g.unsqueeze(g.Equal(place, filled), 1)
    k, v = (g.Where(here, new, old) for new, old in ((k, past_key), (v, past_value)))
    seen = g.unsqueeze(g.LessOrEqual(place, filled), 0)
    y = g.Attention(q, k, v, seen, scale=scale or None)
    width = num_heads * g.known(v, 3, "the width of its values")
    return merged(g, y, width), k, v


@opens("RotaryEmbedding", is_packed_batching=0, scale=1.0)
def rotary_embedding(
    g: Writer,
    x: Value,
    position_ids: Value,
    cos_cache: Value,
    sin_cache: Value,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Value:
    """ONNX's; one position stands for a row of them that begins there."""
    length = g.size(x, 2 if g.rank(x) == 4 else 1)
    places = g.as_dtype(position_ids, np.int64)
    if g.rank(places) == 1:
        row = g.Add(places, _places(g, length))
        places = g.Expand(g.unsqueeze(row, 0), g.sizes(g.size(x, 0), length))
    if g.rank(x) == 3 and not num_heads:
        size = 2 * g.known(cos_cache, 1, "the width of its table")
        num_heads = math.ceil(g.known(x, 2, "the width of its heads") / size)
    return g.RotaryEmbedding(
        x, cos_cache, sin_cache, places, interleaved=interleaved,
        num_heads=num_heads if g.rank(x) == 3 else None, rotary_embedding_dim=rotary_embedding_dim,
    )  # fmt: skip
