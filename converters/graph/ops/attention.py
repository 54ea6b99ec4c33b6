"""Attention and what stands beside it in a language model: rotary embedding, linear attention, causal convolution."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.elementwise import Swish
from netferry.converters.graph.ops.table import (
    BOOL,
    FLOAT32,
    INT64,
    as_dtype,
    choice,
    dtype_of,
    ints,
    op,
    shaped,
)

_NEVER = -float("inf")


def split_heads(xp: Any, x: Symbol, count: Any) -> Any:
    """(batch, length, heads * size) as (batch, heads, length, size); four axes stay as they are."""
    if x.ndim == 4:
        return x
    if not count:
        raise CannotConvert("its input has three axes and it does not say how many heads they hold")
    batch, length, width = x.shape
    return xp.permute_dims(xp.reshape(x, (batch, length, count, width // count)), (0, 2, 1, 3))


def merge_heads(xp: Any, x: Any, batch: Any, length: Any) -> Any:
    """(batch, heads, length, size) as (batch, length, heads * size)."""
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (batch, length, -1))


@op
def Attention(
    xp: Any,
    q: Symbol,
    k: Symbol,
    v: Symbol,
    attn_mask: Symbol | None = None,
    past_key: Symbol | None = None,
    past_value: Symbol | None = None,
    nonpad_kv_seqlen: Symbol | None = None,
    *,
    is_causal: int,
    kv_num_heads: int | None,
    left_window_size: int,
    q_num_heads: int | None,
    qk_matmul_output_mode: int,
    right_window_size: int,
    scale: float | None,
    softcap: float,
    softmax_precision: int | None,
) -> Any:
    """softmax(q k^T * scale + mask) v, for grouped heads too; a query that may see no key gives zeros.

    ``q``, ``k``, ``v``: (batch, heads, length, size), or (batch, length, heads * size). Returns y, the present
    key and value, and the scores at the stage that ``qk_matmul_output_mode`` names.
    """
    packed = q.ndim == 3
    length, total = (x.shape[1 if packed else 2] for x in (q, k))
    if packed and not (q_num_heads and kv_num_heads):
        raise CannotConvert("its inputs have three axes and it does not say how many heads they hold")
    counts: tuple[Any, Any] = (q_num_heads, kv_num_heads) if packed else (q.shape[1], k.shape[1])
    (size,) = ints((q.shape[2] // counts[0] if packed else q.shape[3],), "heads' sizes")
    query, key, value = (split_heads(xp, x, counts[position]) for x, position in ((q, 0), (k, 1), (v, 1)))
    past: Any = 0
    if past_key is not None:
        past = past_key.shape[2]
        total = total + past
        key, value = xp.concat([past_key, key], 2), xp.concat([past_value, value], 2)
    present = key, value
    key, value = (_repeated(xp, x, *counts, q.shape[0], total) for x in present)

    factor = 1 / math.sqrt(size) if scale is None else scale
    raw = xp.matmul(query * factor, xp.permute_dims(key, (0, 1, 3, 2)))
    capped = xp.tanh(raw / softcap) * softcap if softcap else raw
    right = 0 if is_causal else right_window_size
    sight = _sight(xp, length, total, past, nonpad_kv_seqlen, left_window_size, right)
    masked = _masked(xp, capped, sight, _mask(xp, attn_mask, total))
    may_be_blind = attn_mask is not None or nonpad_kv_seqlen is not None or left_window_size >= 0
    wide = masked if softmax_precision is None else as_dtype(xp, masked, dtype_of(softmax_precision))
    weights = as_dtype(xp, _weights(xp, wide, may_be_blind), q.dtype)
    y = xp.matmul(weights, value)
    stages = raw, capped, masked, weights
    mode = choice(qk_matmul_output_mode, range(len(stages)), "qk_matmul_output_mode")
    return merge_heads(xp, y, q.shape[0], length) if packed else y, *present, stages[mode]


def _repeated(xp: Any, x: Any, heads: Any, groups: Any, batch: Any, length: Any) -> Any:
    """Each of ``groups`` heads as often as it takes to make ``heads`` of them, neighbours alike."""
    if heads == groups:
        return x
    spread = xp.tile(xp.expand_dims(x, (2,)), (1, 1, heads // groups, 1, 1))
    return xp.reshape(spread, (batch, heads, length, -1))


def _sight(
    xp: Any, length: Any, total: Any, past: Any, lengths: Symbol | None, left: int, right: int
) -> list[Any]:
    """Which keys each query may see, as conditions of four axes: (batch or 1, 1, query, key)."""
    if lengths is None and left < 0 and right < 0:
        return []
    key = xp.reshape(xp.arange(0, total, 1, INT64), (1, 1, 1, -1))
    query = xp.reshape(xp.arange(past, past + length, 1, INT64), (1, 1, -1, 1))
    conditions = []
    if lengths is not None:
        valid = xp.reshape(as_dtype(xp, lengths, INT64), (-1, 1, 1, 1))
        conditions.append(key < valid)
        query = query + (valid - length)
    if right >= 0:
        conditions.append(key <= (query + right if right else query))
    if left >= 0:
        conditions.append(key >= query - left)
    return conditions


def _mask(xp: Any, mask: Symbol | None, total: Any) -> Any:
    """The mask with four axes; keys beyond its end are not seen."""
    if mask is None:
        return None
    wide = xp.expand_dims(mask, tuple(range(4 - mask.ndim))) if mask.ndim < 4 else mask
    missing = total - mask.shape[-1]
    if not isinstance(missing, Size) and missing <= 0:
        return wide
    nothing = False if mask.dtype == BOOL else _NEVER
    padded = xp.pad(wide, ((0, 0), (0, 0), (0, 0), (0, missing)), "constant", nothing)
    return shaped(padded, (*wide.shape[:-1], total)) if isinstance(padded, Symbol) else padded


def _masked(xp: Any, scores: Any, sight: list[Any], mask: Any) -> Any:
    """The scores with a float mask added; -infinity where a key is not seen."""
    if mask is not None and mask.dtype == BOOL:
        sight = [*sight, mask]
    elif mask is not None:
        scores = scores + mask
    return xp.where(reduce(xp.logical_and, sight), scores, _NEVER) if sight else scores


def _weights(xp: Any, scores: Any, may_be_blind: bool) -> Any:
    """Softmax over the keys; 0 for a query that sees none, and no NaN on the way."""
    if not may_be_blind:
        return xp.softmax(scores, 3)
    blind = xp.equal(xp.max(scores, (3,), True), _NEVER)
    return xp.where(blind, 0, xp.softmax(xp.where(blind, 0, scores), 3))


@op
def RotaryEmbedding(
    xp: Any,
    x: Symbol,
    cos_cache: Symbol,
    sin_cache: Symbol,
    position_ids: Symbol | None = None,
    *,
    interleaved: int,
    num_heads: int | None,
    rotary_embedding_dim: int,
) -> Any:
    """The first ``rotary_embedding_dim`` features of each head rotated, in pairs, by the angle of its position."""
    size = x.shape[3] if x.ndim == 4 else x.shape[2] // (num_heads or 1)
    width = rotary_embedding_dim or size
    parts = split_heads(xp, x, num_heads)
    rotated = parts if width == size else xp.slice(parts, {3: (0, width, 1)})
    step, half = (2, 1) if interleaved else (1, width // 2)
    first = xp.slice(rotated, {3: (0, width if interleaved else half, step)})
    second = xp.slice(rotated, {3: (half, width, step)})
    cos, sin = (
        xp.expand_dims(cache if position_ids is None else xp.take(cache, position_ids, 0), (1,))
        for cache in (cos_cache, sin_cache)
    )
    pair = [cos * first - sin * second, sin * first + cos * second]
    batch, length = x.shape[0], x.shape[2 if x.ndim == 4 else 1]
    count = x.shape[1] if x.ndim == 4 else num_heads
    y = xp.reshape(xp.stack(pair, 4), (batch, count, length, width)) if interleaved else xp.concat(pair, 3)
    if width != size:
        y = xp.concat([y, xp.slice(parts, {3: (width, size, 1)})], 3)
    return y if x.ndim == 4 else merge_heads(xp, y, batch, length)


_DECAYS = {"linear": False, "gated": True, "delta": False, "gated_delta": True}


@op
def LinearAttention(
    xp: Any,
    query: Symbol,
    key: Symbol,
    value: Symbol,
    past_state: Symbol | None = None,
    decay: Symbol | None = None,
    beta: Symbol | None = None,
    *,
    kv_num_heads: int,
    q_num_heads: int,
    chunk_size: int,
    scale: float,
    update_rule: str,
) -> Any:
    """The recurrence S = decay S + beta k (v - S^T k), y = scale S^T q, step by step.

    S: (batch, kv heads, key size, value size). Rules without ``delta`` have neither beta nor the correction;
    half precision is computed in float32.
    """
    choice(update_rule, tuple(_DECAYS), "update_rule")
    batch, steps, width = query.shape
    if isinstance(steps, Size):
        raise CannotConvert("how many steps it takes is known only when the model runs")
    size, depth = ints((width // q_num_heads, value.shape[2] // kv_num_heads), "heads' sizes")
    parts = (query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads)
    q, k, v = (_single(xp, split_heads(xp, x, count)) for x, count in parts)
    gates = rates = None
    if decay is not None and _DECAYS[update_rule]:
        gates = xp.exp(_single(xp, split_heads(xp, decay, kv_num_heads)))
    if beta is not None and "delta" in update_rule:
        rates = _single(xp, split_heads(xp, beta, beta.shape[2]))
    if past_state is None:
        past_state = xp.full((batch, kv_num_heads, size, depth), 0, query.dtype)
    state = _single(xp, past_state)
    outputs = []
    budget.write(steps)
    for step in range(steps):
        at = {2: (step, step + 1, 1)}
        parts_now = (None if x is None else xp.slice(x, at) for x in (k, v, gates, rates))
        state = xp.let(_moved(xp, state, *parts_now), "state")
        shared = _repeated(xp, state, q_num_heads, kv_num_heads, batch, size)
        outputs.append(xp.matmul(xp.slice(q, at), shared))
    y = xp.concat(outputs, 2) * (scale or 1 / math.sqrt(size))
    y = merge_heads(xp, as_dtype(xp, y, query.dtype), batch, steps)
    return y, as_dtype(xp, state, past_state.dtype)


def _moved(xp: Any, state: Any, k: Any, v: Any, gate: Any, rate: Any) -> Any:
    """One step of the recurrence; ``k``, ``v``, ``gate``, ``rate``: (batch, heads, 1, size)."""
    if gate is not None:
        state = xp.permute_dims(gate, (0, 1, 3, 2)) * state
    if rate is not None:
        v = rate * (v - xp.matmul(k, state))
    return state + xp.matmul(xp.permute_dims(k, (0, 1, 3, 2)), v)


@op
def CausalConvWithState(
    xp: Any,
    x: Symbol,
    weight: Symbol,
    bias: Symbol | None = None,
    past_state: Symbol | None = None,
    *,
    activation: str,
) -> Any:
    """Each channel with its own kernel over what has come so far; returns the last steps as the next state.

    Half precision is added up in float32, as the reference and every kernel do.
    """
    span, length = weight.shape[2], x.shape[2]
    if past_state is None:
        padded = xp.pad(x, ((0, 0), (0, 0), (span - 1, 0)), "constant", 0)
    else:
        padded = xp.concat([past_state, x], 2)
    wide, kernel = _single(xp, padded), _single(xp, weight)
    taps = [
        xp.slice(wide, {2: (tap, tap + length, 1)})
        * xp.squeeze(xp.slice(kernel, {2: (tap, tap + 1, 1)}), (1,))
        for tap in range(span)
    ]
    y = sum(taps[1:], start=taps[0])
    if bias is not None:
        y = y + xp.expand_dims(_single(xp, bias), (1,))
    y = as_dtype(xp, y, x.dtype)
    if choice(activation, ("none", "silu", "swish"), "activation") != "none":
        y = as_dtype(xp, Swish(xp, _single(xp, y), alpha=1.0), x.dtype)
    return y, xp.slice(padded, {2: (length, length + span - 1, 1)})


def _single(xp: Any, x: Any) -> Any:
    """Half precision as float32."""
    return xp.astype(x, FLOAT32) if x.dtype.itemsize == 2 else x
