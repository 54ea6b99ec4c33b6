"""Text as numbers: how often each n-gram of a vocabulary occurs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import FLOAT32, choice, ints, op
from netferry.converters.signature import Array


@op
def TfIdfVectorizer(
    xp: Any,
    x: Symbol,
    *,
    max_gram_length: int,
    max_skip_count: int,
    min_gram_length: int,
    mode: str,
    ngram_counts: Sequence[int],
    ngram_indexes: Sequence[int],
    pool_int64s: Sequence[int] | None,
    pool_strings: Sequence[str] | None,
    weights: Sequence[float] | None,
) -> Any:
    """``x``: (length) or (batch, length); the result has a column for each n-gram, float32."""
    choice(mode, ("TF", "IDF", "TFIDF"), "mode")
    if pool_int64s is None:
        raise CannotConvert("its vocabulary holds strings", "Use a vocabulary of integers")
    (length,) = ints(x.shape[-1:], "length")
    width = max(ngram_indexes) + 1
    total = xp.full((*x.shape[:-1], width), 0, FLOAT32)
    for grams, columns in _vocabulary(
        pool_int64s, ngram_counts, ngram_indexes, min_gram_length, max_gram_length
    ):
        budget.make(len(columns) * width)
        position = np.zeros((len(columns), width))
        position[np.arange(len(columns)), columns] = 1
        for step in range(1, (max_skip_count if grams.shape[1] > 1 else 0) + 2):
            if (grams.shape[1] - 1) * step < length:
                found = _occurrences(xp, x, grams, step, length)
                total = total + xp.matmul(found, xp.asarray(position, FLOAT32))
    counts = total if mode != "IDF" else xp.astype(total > 0, FLOAT32)
    return counts if weights is None or mode == "TF" else counts * xp.asarray(np.array(weights), FLOAT32)


def _vocabulary(
    pool: Sequence[int], starts: Sequence[int], indexes: Sequence[int], least: int, most: int
) -> Iterator[tuple[Array, list[int]]]:
    """The n-grams of each length, (count, n), and the columns of the result that count them."""
    first = 0
    for size, (start, stop) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        grams = np.array(pool[start:stop], np.int64).reshape(-1, size)
        if len(grams) and least <= size <= most:
            yield grams, list(indexes[first : first + len(grams)])
        first += len(grams)


def _occurrences(xp: Any, x: Symbol, grams: Array, step: int, length: int) -> Any:
    """How often each n-gram occurs with its words ``step`` places apart: (..., count)."""
    axis, size = x.ndim - 1, grams.shape[1]
    matches = []
    for position in range(size):
        word = xp.slice(x, {axis: (position * step, length - (size - 1 - position) * step, 1)})
        matches.append(xp.equal(xp.expand_dims(word, (axis + 1,)), xp.asarray(grams[:, position], x.dtype)))
    return xp.sum(xp.astype(reduce(xp.logical_and, matches), FLOAT32), (axis,), False)
