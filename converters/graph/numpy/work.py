"""How many elements each function of the numpy namespace makes, before it is called."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.signature import Array


def _count(sizes: Sequence[Any]) -> int:
    return math.prod(max(int(size), 0) for size in sizes)


def _nothing(*_: Any) -> int:
    return 0


def _copied(x: Array, *_: Any) -> int:
    return 0 if x.flags.c_contiguous else x.size


def _joined(xs: Sequence[Array], *_: Any) -> int:
    return sum(x.size for x in xs)


def _picked(x: Array, indices: Array, axis: int) -> int:
    return x.size // max(x.shape[axis], 1) * indices.size


def _placed(x: Array, indices: Array, updates: Array, *_: Any) -> int:
    return x.size + indices.size + updates.size


def _product(a: Array, b: Array) -> int:
    """Elements of the result, and an eighth of the products that are summed."""
    rows, columns = (a.shape[-2] if a.ndim > 1 else 1), (b.shape[-1] if b.ndim > 1 else 1)
    batch = max(_count(a.shape[:-2]), _count(b.shape[:-2]))
    return batch * rows * columns * (1 + a.shape[-1] // 8)


def _summed(equation: str, *xs: Array) -> int:
    """All places that the letters have: numpy goes through each of them."""
    letters: dict[str, int] = {}
    for term, x in zip(equation.replace(" ", "").partition("->")[0].split(","), xs, strict=True):
        plain = term.replace("...", "")
        letters |= dict(zip(plain, x.shape[-len(plain) :], strict=False)) if plain else {}
    return _count(list(letters.values())) * max((x.size for x in xs if "..." in equation), default=1)


MADE: Mapping[str, Callable[..., int]] = {
    "full": lambda sizes, *_: _count(sizes),
    "arange": lambda first, last, by, _: max(0, math.ceil((float(last) - float(first)) / float(by))),
    "eye": lambda rows, columns, *_: _count((rows, columns)),
    "broadcast_to": lambda _, sizes: _count(sizes),
    "tile": lambda x, repeats: x.size * _count(repeats),
    "pad": lambda x, pairs, *_: _count([n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)]),
    "concat": _joined,
    "stack": _joined,
    "take": _picked,
    "take_along_axis": lambda _x, indices, _axis: indices.size,
    "gather_nd": lambda x, indices, batch: (
        indices.size // max(indices.shape[-1], 1) * _count(x.shape[batch + indices.shape[-1] :])
    ),
    "scatter_nd": _placed,
    "scatter_along_axis": _placed,
    "nonzero": lambda x: x.size * max(x.ndim, 1),
    "unique": lambda x, *_: 8 * x.size,
    "topk": lambda x, *_: 4 * x.size,
    "erf": lambda x: 16 * x.size,
    "matmul": _product,
    "einsum": _summed,
    "dft": lambda x, axis, length, *_: 4 * x.size // max(x.shape[axis], 1) * length,
    "det": lambda x: x.size * x.shape[-1],
    "inv": lambda x: x.size * x.shape[-1],
    **dict.fromkeys(("reshape", "bitcast"), _copied),
    **dict.fromkeys(
        "shape permute_dims expand_dims squeeze unstack split flip slice diagonal".split(), _nothing
    ),
}
"""Function -> how many elements it makes, or as much work. What is not here makes as many as its operands have when broadcast."""


def made(word: str, args: Sequence[Any]) -> int:
    """How many elements a function is about to make, of arrays as it gets them. Texts and sizes count for many."""
    arrays = [x for x in args if isinstance(x, np.ndarray)]
    count = MADE[word](*args) if word in MADE else _together(arrays)
    return count * max((_HEAVY for x in arrays if x.dtype.kind in "OUS"), default=1)


def _together(arrays: Sequence[Array]) -> int:
    """Elements of arrays that are broadcast; of those that are not, all that there are."""
    try:
        return _count(np.broadcast_shapes(*(x.shape for x in arrays)))
    except ValueError:
        return sum(x.size for x in arrays)


_HEAVY = 32
"""As many numbers is an object."""
