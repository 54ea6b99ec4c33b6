"""Tensors whose axes lie in another order than their reader sees: channels-last, batch-major.

A transposition is not written where it is asked for. It travels with the tensor as a permutation, passes
through what does not care, and is written where somebody reads the tensor as it is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.layout import Perm
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array


class Tensor(Symbol):
    """A symbol whose axis ``i`` is axis ``perm[i]`` of the tensor that the program holds (``base``).

    ``order``, where set, is the same for the elements of the last axis: element ``i`` is element
    ``order[i]`` of ``base``'s, as after flattening a channels-last image; ``deferred`` then writes the tensor
    as it is meant.
    """

    __slots__ = ("deferred", "order", "perm")

    def __init__(
        self,
        xp: Any,
        fact: Fact,
        expr: Any = None,
        perm: Perm | None = None,
        order: Array | None = None,
        deferred: Callable[[], Symbol] | None = None,
    ) -> None:
        super().__init__(xp, fact, expr)
        self.perm = None if perm is None or perm == layout.identity(len(perm)) else perm
        self.order = order
        self.deferred = deferred

    @property
    def base(self) -> Any:
        """The expression as the program holds it."""
        return super().expr

    @property
    def expr(self) -> Any:
        """The expression as its reader sees it: the transposition is written now."""
        if self.deferred is not None:
            return self.deferred().expr
        if self.perm is None:
            return super().expr
        return self.xp.transposed(super().expr, self.perm)


def perm_of(x: Any) -> Perm | None:
    """The permutation that is pending; None where there is none."""
    return getattr(x, "perm", None)


def base_axes(perm: Perm | None, axes: Sequence[int]) -> tuple[int, ...]:
    """The axes of the base that the reader's axes are, in ascending order."""
    return tuple(sorted(axes)) if perm is None else tuple(sorted(perm[axis] for axis in axes))


def without(perm: Perm | None, axes: Sequence[int]) -> Perm | None:
    """The permutation that is left when the reader's ``axes`` have gone."""
    if perm is None:
        return None
    kept = [position for axis, position in enumerate(perm) if axis not in axes]
    ranks = sorted(kept)
    return tuple(ranks.index(position) for position in kept)


def with_axis(perm: Perm, axis: int) -> tuple[Perm, int]:
    """The permutation when the reader sees a new axis at ``axis``, and where the base gets it."""
    position = perm[axis] if axis < len(perm) else len(perm)
    moved = [old + (old >= position) for old in perm]
    return (*moved[:axis], position, *moved[axis:]), position


def keeps_order(perm: Perm, dims: Sequence[int | Size]) -> bool:
    """Whether the elements lie in the same order either way: only axes of size 1 have moved."""
    positions = [position for position, size in zip(perm, dims, strict=True) if size != 1]
    return positions == sorted(positions)


def flattened_order(perm: Perm, dims: Sequence[int]) -> Array:
    """``order`` of a tensor whose ``dims`` (all axes but the first) are merged; ``perm`` counts from axis 0."""
    inner = tuple(position - 1 for position in perm[1:])
    based = tuple(dims[axis] for axis in layout.inverse(inner))
    return np.arange(int(np.prod(dims))).reshape(based).transpose(inner).reshape(-1)


def broadcast(dims: Sequence[Any]) -> Any:
    """The sizes of operands together, where each is known; None where one is not."""
    if any(one is None for one in dims):
        return None
    rank = max(len(one) for one in dims)
    padded = [(1,) * (rank - len(one)) + tuple(one) for one in dims]
    return tuple(next((size for size in column if size != 1), 1) for column in zip(*padded, strict=True))


def numbers(sizes: Sequence[Any] | None) -> bool:
    """Whether sizes are there and are all plain numbers."""
    return sizes is not None and known(sizes)


def reduced(dims: Any, axes: Sequence[int], keepdims: bool) -> Any:
    """The sizes that a reduction leaves; None where they are not known."""
    if dims is None:
        return None
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(dims))
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)
