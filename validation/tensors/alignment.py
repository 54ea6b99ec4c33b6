"""Two tensors of as many elements compared, however they are laid out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import permutations
from operator import or_

import numpy as np

from netferry.converters.signature import Array
from netferry.validation.comparison.metrics import (
    FAILED,
    NOT_CHECKED,
    PASSED,
    RELATIVE_TO_SCALE,
    Comparison,
    Tolerance,
    compare,
)
from netferry.validation.tensors.matching import Shape, Trace


@dataclass(frozen=True)
class Arranged:
    """Two tensors compared: ``how`` the second lies beside the first, and what came out.

    ``b`` is the second one in the arrangement, the shape and the dtype of the first.
    """

    how: str
    comparison: Comparison
    b: Array = field(repr=False)

    @property
    def same(self) -> bool:
        return self.comparison.status == PASSED


_MOST_AXES = 5
_SHOWN = 4096


def beside(
    a: Trace,
    b: Trace,
    names: tuple[str, str],
    arrays: tuple[Array, Array],
    tolerance: Tolerance | None = None,
) -> Arranged:
    """``arranged`` for two tensors of two runs: where one side counts channels last and the other does not, the
    channels may have moved, before the elements were brought into another shape too."""
    (x, y), (left, right) = names, arrays
    if a.channels_last == b.channels_last:
        return arranged(left, right, tolerance)
    theirs = [view for shape in b.views.get(y, ()) for view in (_first(shape), _last(shape))]
    return arranged(left, right, tolerance, views=dict.fromkeys((*a.views.get(x, ()), *theirs)))


def _first(shape: Shape) -> Shape:
    """(n, ..., c) as (n, c, ...)"""
    return (shape[0], shape[-1], *shape[1:-1])


def _last(shape: Shape) -> Shape:
    """(n, c, ...) as (n, ..., c)"""
    return (shape[0], *shape[2:], shape[1])


def arranged(
    a: Array, b: Array, tolerance: Tolerance | None = None, *, views: Iterable[Shape] = ()
) -> Arranged:
    """Compare two tensors of as many elements in the arrangement in which they are closest.

    Tensors of one shape are compared as they lie; where the elements of ``a`` stand in one of ``views``, the channels may
    move within it. Of different shapes any order of the axes of one of them counts, if it runs through the elements as
    the other; where some order of axes gives the other's shape, only such orders.
    """
    x, y = _one_dtype(a, b)
    ways = list(_ways(x, y, tuple(views)))
    fitting = [way for way in ways if way[0]] or ways
    _, how, moved = min(fitting, key=lambda way: _distance(x, way[2]))
    moved = moved.reshape(x.shape)
    result = _compared(x, moved, tolerance)
    if result.status == NOT_CHECKED:  # empty, or nothing finite: it is the same, though it proves nothing
        result = replace(result, status=PASSED)
    return Arranged(how, result, moved)


def _compared(a: Array, b: Array, tolerance: Tolerance | None) -> Comparison:
    """``compare``, in blocks where the tensors are large; the limit is then that of the block with the largest scale."""
    if a.size <= _LARGE:
        return compare(a, b, tolerance)
    x, y = a.reshape(-1), b.reshape(-1)
    parts = [
        compare(x[start : start + _LARGE], y[start : start + _LARGE], tolerance)
        for start in range(0, x.size, _LARGE)
    ]
    whole = reduce(or_, parts)
    if (
        tolerance is not None
        or a.dtype.kind in "biu"
        or any(p.max_abs is None for p in parts if p.status == FAILED)
    ):
        return whole
    return whole.seen_from(0.0)


_LARGE = 1 << 19
"""Elements that are compared at a time: the comparator widens what it compares several times."""


def _ways(a: Array, b: Array, views: tuple[Shape, ...]) -> Iterator[tuple[bool, str, Array]]:
    """Arrangements worth trying: whether the sizes of the axes fit, as text, and ``b`` in the order of ``a``."""
    if a.shape == b.shape:
        yield True, "as it is", b
        for view in views:
            yield True, "channels first against last", np.moveaxis(b.reshape(_last(view)), -1, 1)
            yield True, "channels last against first", np.moveaxis(b.reshape(_first(view)), 1, -1)
        return
    x, y = a.squeeze(), b.squeeze()
    yield x.shape == y.shape, "reshaped", b
    if x.ndim <= _MOST_AXES:
        for order in list(permutations(range(x.ndim)))[1:]:
            sizes = tuple(x.shape[axis] for axis in order)
            moved = b.reshape(sizes).transpose(np.argsort(order))
            yield sizes == y.shape, f"the source's axes in the order {order}", moved
    if y.ndim <= _MOST_AXES and y.ndim != x.ndim:
        for order in list(permutations(range(y.ndim)))[1:]:
            yield False, f"the target's axes in the order {order}", y.transpose(order)


def _distance(a: Array, b: Array) -> float:
    """How far apart both are at the beginning, and at a stride through the whole."""
    stride = max(1, a.size // _SHOWN) | 1  # odd: it meets every channel
    x, y = (
        np.concatenate([v.flat[:_SHOWN], v.flat[::stride]]).astype(np.float64)
        for v in map(np.asarray, (a, b))
    )
    with np.errstate(invalid="ignore"):
        error = np.abs(x - y)
    error[~np.isfinite(error)] = 0.0
    return float(error.sum())


def _one_dtype(a: Array, b: Array) -> tuple[Array, Array]:
    """Both in one dtype: of two floats the narrower, of a float and an integer the float."""
    if a.dtype == b.dtype:
        return a, b
    floats = [x.dtype for x in (a, b) if x.dtype.name in RELATIVE_TO_SCALE]
    dtype = min(floats, key=lambda d: d.itemsize) if floats else np.dtype(np.int64)
    return a.astype(dtype), b.astype(dtype)
