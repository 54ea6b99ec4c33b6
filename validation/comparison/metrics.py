"""The comparator: when two arrays are the same output.

Each rule is a fault that a well-known tool lets pass: a NaN on one side, (3, 1) broadcast against
(1, 3), int8 that wraps round, an infinity of the other sign, an empty array called equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import ml_dtypes
import numpy as np

from netferry.converters.signature import Array

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not_checked"

NOTHING_FINITE = "no value of the output is finite"
EMPTY = "the output is empty"
DECIDED_BY_ROUNDING = "rounding alone decides the output here"

RELATIVE_TO_SCALE: Mapping[str, float] = {
    "float64": 1e-10,
    "float32": 2e-5,
    "float16": 5e-3,
    "bfloat16": 4e-2,
}
"""The largest error, relative to the largest value of the output, that is called rounding."""

ROUNDINGS = 4
"""Errors below this many roundings of the output's usual largest value are rounding at any rate: a sigmoid that
comes near zero has an error of the size of float32's rounding at one, not at its own small value."""


@dataclass(frozen=True)
class Tolerance:
    """``|a - b| <= atol + rtol * |a|`` and the same with ``|b|``: both directions must hold."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Comparison:
    """One output compared: errors absolute, relative to the output's scale, and in units in the last place.

    ``scale`` is the largest value of the source's output, ``limit`` the largest error that rounding explains,
    ``roundoff`` the unit roundoff of the output's dtype; they are None where no floats were compared.

    ``meaning`` is the distance of target and source in float64, relative to the scale; ``ratio`` the target's
    error beside the source's own, the worst over all slices, and ``slice`` the one that gave it; both are None
    where there was no truth. ``histogram`` counts errors in units of the yardstick: below 2^-4, then between
    powers of 2 up to 2^8, then above. ``bound`` is 3/n after n clean samples: at 95 % the share of such inputs
    that would show a difference is smaller.
    """

    status: str
    reason: str = ""
    elements: int = 0
    scale: float | None = None
    roundoff: float | None = None
    limit: float | None = None
    max_abs: float | None = None
    max_rel: float | None = None
    max_ulp: float | None = None
    top1: float | None = None
    meaning: float | None = None
    ratio: float | None = None
    slice: str = ""
    histogram: tuple[int, ...] = ()
    bound: float | None = None

    def seen_from(self, usual: float, reach: float = 0.0) -> Comparison:
        """The same comparison, once the output's ``usual`` scale (the median over all samples) is known; ``reach`` is the largest
        value of the function that makes it, where it has one."""
        if self.scale is None or self.max_abs is None:
            return self
        scale = max(self.scale, usual)
        seen = replace(self, max_rel=self.max_abs / scale if scale else self.max_rel)
        if self.limit is None or self.roundoff is None:
            return seen
        return _held_to_limit(
            replace(seen, limit=max(self.limit, ROUNDINGS * self.roundoff * max(usual, reach)))
        )

    def __or__(self, other: Comparison) -> Comparison:
        """Both together: a difference outranks what was not checked, which outranks equality."""
        rank = (FAILED, NOT_CHECKED, PASSED)
        worse = min(self, other, key=lambda one: rank.index(one.status))
        sliced = max(self, other, key=lambda one: -1.0 if one.ratio is None else one.ratio)
        return replace(
            worse,
            elements=self.elements + other.elements,
            scale=largest((self.scale, other.scale)),
            limit=largest((self.limit, other.limit)),
            max_abs=largest((self.max_abs, other.max_abs)),
            max_rel=largest((self.max_rel, other.max_rel)),
            max_ulp=largest((self.max_ulp, other.max_ulp)),
            top1=_smallest(self.top1, other.top1),
            meaning=largest((self.meaning, other.meaning)),
            ratio=sliced.ratio,
            slice=sliced.slice,
            histogram=tuple(map(sum, zip_longest(self.histogram, other.histogram, fillvalue=0))),
        )


def compare(a: Array, b: Array, tolerance: Tolerance | None = None) -> Comparison:
    """Compare the output ``a`` of the source with the output ``b`` of the target.

    Without a tolerance, floats are compared with ``RELATIVE_TO_SCALE`` of their dtype; integers and booleans are
    always compared exactly.
    """
    if a.shape != b.shape:
        return Comparison(FAILED, f"shape {a.shape} became {b.shape}")
    if a.dtype != b.dtype:
        return Comparison(FAILED, f"dtype {a.dtype} became {b.dtype}")
    if a.size == 0:
        return Comparison(NOT_CHECKED, EMPTY)
    if a.dtype.kind in "biu":
        return _compare_exactly(a, b)
    return _compare_floats(a, b, tolerance)


def _compare_exactly(a: Array, b: Array) -> Comparison:
    differ = a != b
    if not differ.any():
        return Comparison(PASSED, elements=a.size, max_abs=0.0, max_rel=0.0)
    # Python's integers: no width to wrap round in.
    worst = max(abs(int(x) - int(y)) for x, y in zip(a[differ], b[differ], strict=True))
    return Comparison(
        FAILED, f"{int(differ.sum())} of {a.size} integers differ", elements=a.size, max_abs=float(worst)
    )


def _compare_floats(a: Array, b: Array, tolerance: Tolerance | None) -> Comparison:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    problem = _not_finite_alike(wide_a, wide_b)
    if problem:
        return Comparison(FAILED, problem, elements=a.size)
    finite = np.isfinite(wide_a)
    if not finite.any():
        return Comparison(NOT_CHECKED, NOTHING_FINITE, elements=a.size)
    x, y = wide_a[finite], wide_b[finite]
    error = np.abs(x - y)
    scale, worst = float(np.abs(x).max()), float(error.max())
    measured = Comparison(
        PASSED,
        elements=a.size,
        scale=scale,
        roundoff=roundoff(a.dtype),
        max_abs=worst,
        max_rel=worst / scale if scale else (0.0 if worst == 0 else float("inf")),
        max_ulp=float((error / _spacing(x, a.dtype)).max()),
        top1=_top1(wide_a, wide_b),
    )
    if tolerance is not None:
        return _held_to_tolerance(measured, error, np.minimum(np.abs(x), np.abs(y)), tolerance)
    limit = RELATIVE_TO_SCALE[a.dtype.name] * min(scale, float(np.abs(y).max()))
    return _held_to_limit(replace(measured, limit=limit))


def _held_to_tolerance(measured: Comparison, error: Array, size: Array, tolerance: Tolerance) -> Comparison:
    outside = int((error > tolerance.atol + tolerance.rtol * size).sum())
    reason = f"{outside} of {error.size} values are outside rtol and atol"
    return replace(measured, status=FAILED, reason=reason) if outside else measured


def _held_to_limit(measured: Comparison) -> Comparison:
    assert measured.max_abs is not None
    assert measured.limit is not None
    if measured.max_abs <= measured.limit:
        return replace(measured, status=PASSED, reason="")
    reason = f"an error of {measured.max_abs:.3g}, where rounding explains {measured.limit:.3g}"
    return replace(measured, status=FAILED, reason=reason)


def _not_finite_alike(a: Array, b: Array) -> str:
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "NaN on one side only"
    infinite = np.isinf(a) | np.isinf(b)
    if not np.array_equal(a[infinite], b[infinite]):
        return "an infinity on one side only, or of the other sign"
    return ""


def _spacing(x: Array, dtype: np.dtype[Any]) -> Array:
    """The distance from each value to the next one that ``dtype`` can hold."""
    smallest = float(ml_dtypes.finfo(dtype).smallest_normal)
    exponent = np.floor(np.log2(np.maximum(np.abs(x), smallest)))
    return np.asarray(np.exp2(exponent) * _epsilon(dtype))


def roundoff(dtype: np.dtype[Any]) -> float:
    """Half the distance from one to the next larger value: 2^-24 for float32."""
    return _epsilon(dtype) / 2


def _epsilon(dtype: np.dtype[Any]) -> float:
    """The distance from one to the next larger value."""
    return float(ml_dtypes.finfo(dtype).eps)


def _top1(a: Array, b: Array) -> float | None:
    """The share of rows whose largest entry has the same index; None where there is no choice."""
    if a.ndim < 2 or a.shape[-1] < 2:
        return None
    return float((a.argmax(-1) == b.argmax(-1)).mean())


def largest(values: Iterable[float | None]) -> float | None:
    """The largest that is known; None where none is."""
    return max((value for value in values if value is not None), default=None)


def _smallest(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)
