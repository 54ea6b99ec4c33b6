"""Grouped-query attention over a cache whose rows may be of different lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ops.table import choice
from netferry.converters.graph.passes.contrib.attention import by_heads, merged
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer


@opens(
    "GroupQueryAttention",
    kv_cache_bit_width=0,
    sliding_window_cache=0,
    qk_output=0,
    qk_norm_epsilon=1e-6,
    k_quant_type="NONE",
    v_quant_type="NONE",
)
def group_query_attention(
    g: Writer,
    query: Value,
    key: Maybe,
    value: Maybe,
    past_key: Maybe,
    past_value: Maybe,
    seqlens_k: Value,
    total_sequence_length: Value,
    cos_cache: Maybe = None,
    sin_cache: Maybe = None,
    position_ids: Maybe = None,
    attention_bias: Maybe = None,
    head_sink: Maybe = None,
    k_scale: Maybe = None,
    v_scale: Maybe = None,
    q_norm_weight: Maybe = None,
    k_norm_weight: Maybe = None,
    *,
    num_heads: int,
    kv_num_heads: int,
    causal: int = 1,
    do_rotary: int = 0,
    local_window_size: int = -1,
    rotary_interleaved: int = 0,
    scale: float | None = None,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
) -> tuple[Value, Value, Value]:
    """``seqlens_k`` holds the last place of each row; new keys stand behind those of before, or alone in a first call.

    A row's queries lie at its last places; each sees the keys up to its own place, or the last
    ``local_window_size`` of them.
    """
    for name, given in (("head_sink", head_sink), ("k_scale", k_scale), ("v_scale", v_scale),
                        ("q_norm_weight", q_norm_weight), ("k_norm_weight", k_norm_weight)):  # fmt: skip
        if given is not None:
            raise CannotConvert(f"it has {name}, which netferry does not support")
    choice(smooth_softmax, (-1, 0), "smooth_softmax")
    parts = _projections(g, query, key, value, num_heads, kv_num_heads)
    counts = num_heads, kv_num_heads, kv_num_heads
    q, k, v = (by_heads(g, part, count) for part, count in zip(parts, counts, strict=True))
    width = num_heads * g.known(v, 3, "the width of its values")
    length = g.size(q, 2)
    ends = g.unsqueeze(g.Add(g.as_dtype(g.reshape(seqlens_k, -1), np.int64), g.constant(1)), 1)
    total = g.as_dtype(g.reshape(total_sequence_length, 1), np.int64)
    before = _before(g, ends, length, total, past_key)
    places = g.Add(before, _counted(g, length))
    if do_rotary:
        if cos_cache is None or sin_cache is None:
            raise CannotConvert("its cos_cache or sin_cache is missing")
        at = places if position_ids is None else position_ids
        q, k = (
            g.RotaryEmbedding(x, cos_cache, sin_cache, at, interleaved=rotary_interleaved) for x in (q, k)
        )
    if past_key is not None and past_value is not None:
        k, v = _behind(g, (past_key, past_value), (k, v), before, ends, total)
    seen = _seen(g, places, ends, g.size(k, 2), causal, local_window_size)
    mask = (
        seen if attention_bias is None else g.Where(seen, attention_bias, g.scalar(-np.inf, attention_bias))
    )
    y = g.Attention(q, k, v, mask, scale=scale or None, softcap=softcap or None)
    return merged(g, y, width), k, v


def _projections(
    g: Writer, query: Value, key: Maybe, value: Maybe, heads: int, groups: int
) -> tuple[Value, Value, Value]:
    """Queries, keys and values; keys and values may stand behind the queries in one tensor."""
    if key is not None and value is not None:
        return query, key, value
    size = g.known(query, 2, "the width of its heads") // (heads + 2 * groups)
    q, k, v = g.split(query, 2, heads * size, groups * size, groups * size)
    return q, k, v


def _before(g: Writer, ends: Value, length: Value, total: Value, past: Maybe) -> Value:
    """How many keys each row has from before, (batch, 1): none in a first call, in which all keys are new."""
    left = g.Sub(ends, length)
    none = g.Mul(ends, g.constant(0))
    return none if past is None else g.Where(g.Equal(total, length), none, left)


def _counted(g: Writer, length: Value) -> Value:
    """(1, length): 0, 1, 2 ..."""
    return g.unsqueeze(g.Range(g.constant(0), g.squeeze(length, 0), g.constant(1)), 0)


def _behind(
    g: Writer, past: Sequence[Value], new: Sequence[Value], before: Value, ends: Value, total: Value
) -> Sequence[Value]:
    """The caches with the new keys of each row at their places, as long as the longer of both; 0 where a row is over."""
    held, added = g.size(past[0], 2), g.size(new[0], 2)
    place = _counted(g, g.Max(held, total))
    shift = g.Sub(place, before)
    fresh = g.And(g.GreaterOrEqual(shift, g.constant(0)), g.Less(shift, added))
    most = g.Sub(g.Add(held, added), g.constant(1))
    source = g.unsqueeze(g.Where(fresh, g.Add(held, shift), g.Min(place, most)), 1, 3)
    alive = g.unsqueeze(g.Less(place, ends), 1, 3)
    whole = []
    for old, one in zip(past, new, strict=True):
        index = g.Expand(source, g.sizes(g.size(one, 0), g.size(one, 1), g.size(place, 1), g.size(one, 3)))
        moved = g.GatherElements(g.Concat(old, one, axis=2), index, axis=2)
        whole.append(g.Where(alive, moved, g.scalar(0, one)))
    return whole


def _seen(g: Writer, places: Value, ends: Value, count: Value, causal: int, window: int) -> Value:
    """Which keys each query sees: (batch, 1, length, keys)."""
    key = g.unsqueeze(_counted(g, count), 1)
    place = g.unsqueeze(places, 2)
    seen = g.LessOrEqual(key, place) if causal else g.Less(key, g.unsqueeze(ends, 2))
    if window >= 0:
        seen = g.And(seen, g.Greater(key, g.Sub(place, g.constant(window))))
    return g.unsqueeze(seen, 1)
