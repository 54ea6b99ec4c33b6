"""Sizes of attention: the result, the present key and value, the scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, ranked


@SHAPES.row("Attention")
@ranked
def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    *_: Any,
    q_num_heads: int = 0,
    kv_num_heads: int = 0,
    **__: Any,
) -> list[Dims] | None:
    if k.dims is None or v.dims is None:
        return None
    queries, keys, values = (
        _heads(x.dims, n) for x, n in ((q, q_num_heads), (k, kv_num_heads), (v, kv_num_heads))
    )
    before = 0 if past_key is None else (past_key.dims or (None,) * 4)[2]
    length = None if before is None else before + keys[2]
    batch, heads, positions, _width = queries
    y = (batch, positions, heads * values[3]) if len(q.dims) == 3 else (batch, heads, positions, values[3])
    present = [(*keys[:2], length, keys[3]), (*values[:2], length, values[3])]
    return [y, *present, (batch, heads, positions, length)]


def _heads(dims: Sequence[Any], count: int) -> tuple[Any, ...]:
    """(batch, heads, length, width) of an operand of Attention that may have its heads in the last axis."""
    if len(dims) == 4:
        return tuple(dims)
    batch, length, width = dims
    return (batch, count, length, width // count)
