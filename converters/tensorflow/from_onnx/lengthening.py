"""An axis of a free size made longer from within, where a functional model holds no table of its places."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layout import Tensor, base_axes, perm_of


def lengthened(xp: Any, x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Reflected, or with its ends repeated or wrapped; there must be as many places as are added."""
    dims = x.fact.dims and tuple(
        size + before + after if i == axis else size for i, size in enumerate(x.fact.dims)
    )
    result: Tensor = (
        _reflected(xp, x, axis, before, after)
        if mode == "reflect"
        else xp.concat(
            [*_ends(xp, x, axis, before, mode, first=True), x, *_ends(xp, x, axis, after, mode, first=False)],
            axis,
        )
    )
    result.fact = Fact(x.fact.dtype, dims)
    return result


def _reflected(xp: Any, x: Tensor, axis: int, before: int, after: int) -> Any:
    perm = perm_of(x)
    inner = base_axes(perm, (axis,))[0]
    grown = tuple((before, after) if i == inner else (0, 0) for i in range(x.ndim))
    return xp.write_call("pad", xp._base(x), grown, mode="reflect", dtype=x.dtype, perm=perm)


def _ends(xp: Any, x: Symbol, axis: int, count: int, mode: str, *, first: bool) -> list[Symbol]:
    """What is put before or behind: the outermost place again and again, or the other end."""
    if count == 0:
        return []
    if mode == "edge":
        return [xp.slice(x, {axis: (0, 1, 1) if first else (-1, None, 1)})] * count
    return [xp.slice(x, {axis: (-count, None, 1) if first else (0, count, 1)})]
