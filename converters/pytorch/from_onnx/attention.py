"""Attention as PyTorch's fused kernel, where it means the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.from_onnx.layers import Xp, as_float32, row


@row("Attention")
def Attention(
    xp: Xp, q: Symbol, k: Symbol, v: Symbol, attn_mask: Symbol | None = None, past_key: Symbol | None = None,
    past_value: Symbol | None = None, nonpad_kv_seqlen: Symbol | None = None, **attributes: Any,
) -> Any:  # fmt: skip
    """One fused kernel where the operator is softmax(q k^T scale + mask) v and nothing more is asked for."""
    causal = bool(attributes.get("is_causal", 0))
    extras = (
        any(part is not None for part in (past_key, past_value, nonpad_kv_seqlen))
        or not _set(attributes) <= _PLAIN
    )
    alike = q.dtype == k.dtype == v.dtype and attributes.get("softmax_precision") in (None, 1)
    masked_twice = causal and attn_mask is not None
    if extras or any(map(xp.wanted, (1, 2, 3))) or not alike or masked_twice or q.ndim != k.ndim:
        return NotImplemented
    if not _mask_fits(attn_mask, k):
        return NotImplemented
    heads = (attributes.get("q_num_heads"), attributes.get("kv_num_heads"))
    flat = q.ndim == 3
    if flat:
        q, k, v = (_heads(xp, x, count) for x, count in ((q, heads[0]), (k, heads[1]), (v, heads[1])))
    scale = attributes.get("scale")
    same_heads = q.fact.dims is not None and k.fact.dims is not None and q.fact.dims[1] == k.fact.dims[1]
    if attn_mask is not None and attn_mask.dtype.kind not in "b" and attn_mask.dtype != q.dtype:
        attn_mask = xp.astype(attn_mask, q.dtype)
    made = xp.call(
        "F.scaled_dot_product_attention", q, k, v, attn_mask=attn_mask, is_causal=True if causal else None,
        scale=None if scale is None else as_float32(scale), enable_gqa=None if same_heads else True, dtype=q.dtype,
    )  # fmt: skip
    return _merged(xp, made) if flat else made


_PLAIN = frozenset("is_causal q_num_heads kv_num_heads scale softmax_precision".split())
"""The attributes of Attention that the fused kernel knows."""


def _set(attributes: Mapping[str, Any]) -> set[str]:
    """The attributes that are not neutral: a window of -1 is none, a softcap or an output mode of 0 is none."""
    neutral = {"softcap": 0.0, "qk_matmul_output_mode": 0, "left_window_size": -1, "right_window_size": -1}
    return {name for name, value in attributes.items() if neutral.get(name) != value or name not in neutral}


def _mask_fits(mask: Symbol | None, k: Symbol) -> bool:
    """The mask's last axis is the keys', or is known to be broadcast over them."""
    if mask is None:
        return True
    if mask.fact.dims is None or k.fact.dims is None or mask.ndim < 2:
        return False
    keys = k.shape[-2]
    return mask.shape[-1] == keys or mask.shape[-1] == 1


def _heads(xp: Xp, x: Symbol, count: int | None) -> Symbol:
    """(batch, length, heads * size) -> (batch, heads, length, size)."""
    if not count:
        raise CannotConvert("the number of heads is not given for inputs of rank 3")
    batch, length, width = x.shape
    if isinstance(width, Size):
        raise CannotConvert("the width of its input is not known before it runs")
    split = xp.reshape(x, (batch, length, count, width // count))
    made = xp.permute_dims(split, (0, 2, 1, 3))
    return xp.made(made.expr, x, dims=(batch, count, length, width // count))


def _merged(xp: Xp, x: Symbol) -> Symbol:
    """(batch, heads, length, size) -> (batch, length, heads * size)."""
    return xp.method(xp.method(x, "transpose", 1, 2), "flatten", 2)
