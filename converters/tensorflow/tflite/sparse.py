"""Weights that are stored sparsely: TACO's format, a tree of axes (F. Kjolstad et al., The Tensor Algebra Compiler, 2017).

The axes of the tensor, and behind them those of the blocks that it is cut into, are gone through in an order of their own. A
dense axis has all its places; of a sparse one each parent has a segment of the indices that are there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array

_DENSE = 0
_VECTORS = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}


def bytes_of(table: Any, sizes: Sequence[int], dtype: np.dtype[Any]) -> int:
    """What a tensor takes with all its places, and its tree while it is read."""
    axes = len(sizes) + len(table.block_map)
    return math.prod(sizes) * (dtype.itemsize + 8 * axes)


def dense(table: Any, values: Array, sizes: Sequence[int], where: str) -> Array:
    """All places of the tensor, zeros where nothing is stored.

    Raises:
        RefusedError: the tree does not fit the sizes or the values.
    """
    order, blocked = [int(axis) for axis in table.traversal_order], [int(axis) for axis in table.block_map]
    extents = _extents(table, order, blocked, sizes, where)
    places = _places(table, extents, order, where)
    if len(places) != len(values):
        raise _damaged(where, f"{len(values)} numbers for {len(places)} places")
    rank = len(sizes)
    index = places[:, :rank].copy()
    for number, axis in enumerate(blocked):
        index[:, axis] = index[:, axis] * extents[rank + number] + places[:, rank + number]
    whole = np.zeros(sizes, values.dtype)
    whole[tuple(index.T)] = values
    return whole


def _extents(table: Any, order: list[int], blocked: list[int], sizes: Sequence[int], where: str) -> list[int]:
    """The number of places of each axis, those of blocks behind the tensor's own."""
    rank = len(sizes)
    count = rank + len(blocked)
    fits = sorted(order) == list(range(count)) and len(table.dim_metadata) == count
    if not fits or any(not 0 <= axis < rank for axis in blocked) or len(set(blocked)) != len(blocked):
        raise _damaged(where, "its axes do not fit its sizes")
    held = {axis: int(each.dense_size) for axis, each in zip(order, table.dim_metadata, strict=True)}
    blocks = {axis: held[rank + number] for number, axis in enumerate(blocked)}
    if any(size <= 0 or sizes[axis] % size for axis, size in blocks.items()):
        raise _damaged(where, "its blocks do not fit its sizes")
    own = [size // blocks.get(axis, 1) for axis, size in enumerate(sizes)]
    return [*own, *(blocks[axis] for axis in blocked)]


def _places(table: Any, extents: list[int], order: list[int], where: str) -> Array:
    """(numbers, axes): where each stored number stands."""
    found = np.zeros((1, len(extents)), np.int64)
    for axis, level in zip(order, table.dim_metadata, strict=True):
        if level.format == _DENSE:
            if int(level.dense_size) != extents[axis]:
                raise _damaged(where, "its axes do not fit its sizes")
            counts = np.full(len(found), extents[axis])
            index = np.tile(np.arange(extents[axis]), len(found))
        else:
            segments, index = (_vector(level, part, where) for part in ("array_segments", "array_indices"))
            counts = np.diff(segments)
            whole = len(segments) == len(found) + 1 and segments[:1].sum() == 0 and segments[-1] == len(index)
            if (
                not whole
                or (counts < 0).any()
                or (len(index) and not 0 <= index.min() <= index.max() < extents[axis])
            ):
                raise _damaged(where, "its segments do not fit its indices")
        if counts.sum() > math.prod(extents):
            raise _damaged(where, "it has more numbers than places")
        found = np.repeat(found, counts, 0)
        found[:, axis] = index
    return found


def _vector(level: Any, part: str, where: str) -> Array:
    kind = _VECTORS.get(getattr(level, f"{part}_type"))
    held = None if kind is None else level.as_(part, kind)
    if held is None:
        raise _damaged(where, "an axis without indices")
    return np.asarray(held.values, np.int64)


def _damaged(where: str, why: str) -> RefusedError:
    return RefusedError(f"its sparse weights are damaged: {why}", where=where)
