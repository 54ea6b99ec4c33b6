"""Functions that are decomposed into others: attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed
from netferry.converters.pytorch.to_onnx.tracer.decompositions.basic import dropout


@decomposed("scaled_dot_product_attention")
def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q k^T * scale + mask) v; a query that may look at nothing gets 0, as PyTorch has it.

    Of halves it is computed in float32, as PyTorch's kernels do: their scores are beyond what a float16 holds.
    """
    dropout(query, dropout_p)
    if query.dtype in (torch.float16, torch.bfloat16):
        mask = attn_mask.float() if attn_mask is not None and attn_mask.is_floating_point() else attn_mask
        wide = (query.float(), key.float(), value.float(), mask)
        return _attention(*wide, 0.0, is_causal, scale, enable_gqa).to(query.dtype)
    if enable_gqa:
        key, value = (one.repeat_interleave(query.size(-3) // one.size(-3), -3) for one in (key, value))
    scores = query @ key.transpose(-2, -1) * (query.size(-1) ** -0.5 if scale is None else scale)
    if is_causal:
        causal = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool, device=query.device).tril()
        return scores.masked_fill(~causal, -math.inf).softmax(-1) @ value
    if attn_mask is None:
        return scores.softmax(-1) @ value
    scores = (
        scores.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    )
    blind = scores.amax(-1, keepdim=True) == -math.inf
    return scores.softmax(-1).masked_fill(blind, 0.0) @ value


def _projections(
    query: Tensor, key: Tensor, value: Tensor, weight: Any, bias: Tensor | None
) -> Sequence[Tensor]:
    """The three input projections, of three weights or a packed one; of self-attention that is one product."""
    packed = isinstance(weight, Tensor)
    if packed and query is key and key is value:
        return F.linear(query, weight, bias).chunk(3, -1)
    weights = weight.chunk(3) if packed else weight
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return [F.linear(*parts) for parts in zip((query, key, value), weights, biases, strict=True)]


@decomposed("multi_head_attention_forward")
def _multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention over (time, batch, features). ``is_causal`` is only a hint at what ``attn_mask`` is."""
    if static_k is not None or static_v is not None:
        raise NotImplementedError("attention with static keys or values")
    batched = query.dim() == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weight = separate if use_separate_proj_weight else in_proj_weight
    q, k, v = _projections(query, key, value, weight, in_proj_bias)
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(-1, k.size(1), -1)])
        v = torch.cat([v, bias_v.expand(-1, v.size(1), -1)])
    if add_zero_attn:
        k, v = (F.pad(x, (0, 0, 0, 0, 0, 1)) for x in (k, v))
    mask = _merged_mask(q, k, attn_mask, key_padding_mask, num_heads)
    q, k, v = (x.view(x.size(0), x.size(1), num_heads, -1).permute(1, 2, 0, 3) for x in (q, k, v))
    if need_weights:
        scores = q @ k.transpose(-2, -1) * q.size(-1) ** -0.5
        weights_seen = (scores if mask is None else scores + mask).softmax(-1)
        heads = weights_seen @ v
        seen = weights_seen.mean(1) if average_attn_weights else weights_seen
        seen = seen if batched else seen.squeeze(0)
    else:
        heads, seen = F.scaled_dot_product_attention(q, k, v, mask), None
    out = F.linear(heads.permute(0, 2, 1, 3).flatten(2).transpose(0, 1), out_proj_weight, out_proj_bias)
    return (out if batched else out.squeeze(1)), seen


def _merged_mask(
    q: Tensor, k: Tensor, attention: Tensor | None, padding: Tensor | None, heads: int
) -> Tensor | None:
    """Both masks as one that is added to the scores: (batch or 1, heads or 1, query, key)."""
    grown = 0 if attention is None and padding is None else _grown_by(k, attention, padding)
    masks = []
    if attention is not None:
        full = F.pad(_additive(attention, q.dtype), (0, grown)) if grown else _additive(attention, q.dtype)
        masks.append(full if full.dim() == 2 else full.view(-1, heads, full.size(1), full.size(2)))
    if padding is not None:
        full = F.pad(_additive(padding, q.dtype), (0, grown)) if grown else _additive(padding, q.dtype)
        masks.append(full[:, None, None, :])
    return None if not masks else masks[0] if len(masks) == 1 else masks[0] + masks[1]


def _grown_by(k: Tensor, *masks: Tensor | None) -> int:
    """How many keys stand behind those that the masks know (``bias_k``, ``add_zero_attn``)."""
    known = next(mask for mask in masks if mask is not None).size(-1)
    return k.size(0) - known


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)
