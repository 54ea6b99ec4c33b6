"""Sizes of what runs along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, axes_of, ranked
from netferry.converters.graph.ir.facts import Fact

REDUCTIONS = tuple(
    """
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    """.split()
)


@SHAPES.row(*REDUCTIONS)
@ranked
def reduction(x: Any, axes: Fact | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Dims:
    rank = len(x.dims)
    over = axes_of(axes, rank)
    if over is None:
        return (None,) * rank if keepdims else None
    if not over:
        if noop_with_empty_axes:
            return x.dims  # type: ignore[no-any-return]
        over = tuple(range(rank))
    return _without(x.dims, over, keepdims)


def _without(dims: Sequence[Any], over: Sequence[int], keepdims: int) -> tuple[Any, ...]:
    return tuple(1 if axis in over else dim for axis, dim in enumerate(dims) if keepdims or axis not in over)


@SHAPES.row("ArgMax", "ArgMin")
@ranked
def argument(x: Any, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Dims:
    return _without(x.dims, (axis % len(x.dims),), keepdims)
