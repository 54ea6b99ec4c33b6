"""The comparator: when two arrays are the same output.

Each rule is a fault that a well-known tool lets pass: a NaN on one side, (3, 1) broadcast against
(1, 3), int8 that wraps round, an infinity of the other sign, an empty array called equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.signature import Array

PASSED, FAILED, NOT_CHECKED = "passed", "failed", "not_checked"

RELATIVE_TO_SCALE: Mapping[str, float] = {
    "float64": 1e-10,
    "float32": 2e-5,
    "float16": 5e-3,
    "bfloat16": 4e-2,
}
"""The largest error, relative to the largest value of the output, that is called rounding."""


@dataclass(frozen=True)
class Tolerance:
    """``|a - b| <= atol + rtol * |a|`` and the same with ``|b|``: both directions must hold."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Comparison:
    """One output compared: errors absolute, relative to the output's scale, and in units in the last place."""

    status: str
    reason: str = ""
    elements: int = 0
    max_abs: float | None = None
    max_rel: float | None = None
    max_ulp: float | None = None
    top1: float | None = None

    def __or__(self, other: Comparison) -> Comparison:
        """Both together: a difference outranks what was not checked, which outranks equality."""
        rank = (FAILED, NOT_CHECKED, PASSED)
        worse = min(self, other, key=lambda one: rank.index(one.status))
        return replace(
            worse,
            elements=self.elements + other.elements,
            max_abs=_largest(self.max_abs, other.max_abs),
            max_rel=_largest(self.max_rel, other.max_rel),
            max_ulp=_largest(self.max_ulp, other.max_ulp),
            top1=_smallest(self.top1, other.top1),
        )


def compare(a: Array, b: Array, tolerance: Tolerance | None = None) -> Comparison:
    """Compare the output ``a`` of the source with the output ``b`` of the target.

    Without a tolerance, floats are held to ``RELATIVE_TO_SCALE`` of their dtype; integers and booleans are
    always compared exactly.
    """
    if a.shape != b.shape:
        return Comparison(FAILED, f"shape {a.shape} became {b.shape}")
    if a.dtype != b.dtype:
        return Comparison(FAILED, f"dtype {a.dtype} became {b.dtype}")
    if a.size == 0:
        return Comparison(NOT_CHECKED, "the output is empty")
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
        return Comparison(NOT_CHECKED, "no value of the output is finite", elements=a.size)
    x, y = wide_a[finite], wide_b[finite]
    error = np.abs(x - y)
    scale = float(np.abs(x).max())
    worst = float(error.max())
    measured = Comparison(
        PASSED,
        elements=a.size,
        max_abs=worst,
        max_rel=worst / scale if scale else (0.0 if worst == 0 else float("inf")),
        max_ulp=float((error / _spacing(x, a.dtype)).max()),
        top1=_top1(wide_a, wide_b),
    )
    problem = _beyond(error, x, y, a.dtype, tolerance)
    return replace(measured, status=FAILED, reason=problem) if problem else measured


def _not_finite_alike(a: Array, b: Array) -> str:
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return "NaN on one side only"
    infinite = np.isinf(a) | np.isinf(b)
    if not np.array_equal(a[infinite], b[infinite]):
        return "an infinity on one side only, or of the other sign"
    return ""


def _beyond(error: Array, x: Array, y: Array, dtype: np.dtype[Any], tolerance: Tolerance | None) -> str:
    """Why the error is more than rounding, or nothing."""
    if tolerance is not None:
        limit = tolerance.atol + tolerance.rtol * np.minimum(np.abs(x), np.abs(y))
        outside = int((error > limit).sum())
        return f"{outside} of {x.size} values are outside rtol and atol" if outside else ""
    limit = RELATIVE_TO_SCALE[dtype.name] * min(np.abs(x).max(), np.abs(y).max())
    if error.max() > limit:
        return f"an error of {error.max():.3g}, where rounding explains {limit:.3g}"
    return ""


def _spacing(x: Array, dtype: np.dtype[Any]) -> Array:
    """The distance from each value to the next one that ``dtype`` can hold."""
    import ml_dtypes

    info = ml_dtypes.finfo(dtype)
    exponent = np.floor(np.log2(np.maximum(np.abs(x), float(info.smallest_normal))))
    return np.asarray(np.exp2(exponent) * float(info.eps))


def _top1(a: Array, b: Array) -> float | None:
    """The share of rows whose largest entry stands at the same place; None where there is no choice."""
    if a.ndim < 2 or a.shape[-1] < 2:
        return None
    return float((a.argmax(-1) == b.argmax(-1)).mean())


def _largest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _smallest(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)
