"""The comparator's contract: each line is a silent pass seen in a well-known tool."""

from __future__ import annotations

import numpy as np
import pytest

from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED, Comparison, Tolerance, compare

NAN, INF = float("nan"), float("inf")


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


PAIRS = {
    "equal": (floats(1, 2, 3), floats(1, 2, 3), PASSED),
    "NaN on both sides": (floats(1, NAN), floats(1, NAN), PASSED),
    "NaN in the target only": (floats(1, 2), floats(1, NAN), FAILED),
    "NaN in the source only": (floats(1, NAN), floats(1, 2), FAILED),
    "NaN at another place": (floats(1, NAN, 2), floats(NAN, 1, 2), FAILED),
    "the same infinity": (floats(1, INF), floats(1, INF), PASSED),
    "an infinity of the other sign": (floats(1, INF), floats(1, -INF), FAILED),
    "an infinity against a large number": (floats(1, INF), floats(1, 3e38), FAILED),
    "shapes that would broadcast": (np.ones((3, 1), np.float32), np.ones((1, 3), np.float32), FAILED),
    "a shape that lost an axis of one": (np.ones((3, 1), np.float32), np.ones(3, np.float32), FAILED),
    "another dtype": (floats(1, 2), floats(1, 2).astype(np.float64), FAILED),
    "int8 that would wrap round": (np.int8([-128]), np.int8([127]), FAILED),
    "integers off by one": (np.int64([2**60]), np.int64([2**60 + 1]), FAILED),
    "equal integers": (np.uint64([2**63 + 1]), np.uint64([2**63 + 1]), PASSED),
    "booleans that differ": (np.array([True, False]), np.array([True, True]), FAILED),
    "empty": (np.empty((0, 3), np.float32), np.empty((0, 3), np.float32), NOT_CHECKED),
    "nothing finite": (floats(NAN, INF), floats(NAN, INF), NOT_CHECKED),
    "all zeros against a small number": (floats(0, 0, 0), floats(0, 9e-6, 0), FAILED),
    "all zeros on both sides": (floats(0, 0), floats(0, -0.0), PASSED),
    "a small output with a large relative error": (floats(1e-19, 2e-19), floats(1e-19, 3e-19), FAILED),
    "rounding": (floats(1, 100), floats(1 + 1e-6, 100), PASSED),
    "one wrong value among many": (
        np.ones(9999, np.float32),
        np.r_[np.ones(9998), 1.001].astype("f4"),
        FAILED,
    ),
    "a larger target": (floats(1, 1), floats(1, 1e6), FAILED),
    "float16 rounding": (np.float16([1, 2]), np.float16([1.001, 2]), PASSED),
    "float64 is held to more": (np.array([1.0, 2]), np.array([1.0 + 1e-6, 2]), FAILED),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_gets_its_verdict(name: str) -> None:
    a, b, verdict = PAIRS[name]
    assert compare(a, b).status == verdict


def test_int8_difference_is_measured_in_a_wider_type() -> None:
    assert compare(np.int8([-128]), np.int8([127])).max_abs == 255


def test_a_fixed_tolerance_must_hold_in_both_directions() -> None:
    a, b = floats(1.0), floats(2.0)
    assert abs(1.0 - 2.0) <= 0.6 * 2.0  # one direction alone would pass
    assert compare(a, b, Tolerance(rtol=0.6, atol=0.0)).status == FAILED
    assert compare(b, a, Tolerance(rtol=0.6, atol=0.0)).status == FAILED
    assert compare(a, b, Tolerance(rtol=1.1, atol=0.0)).status == PASSED


def test_a_tolerance_does_not_soften_integers() -> None:
    assert compare(np.int32([5]), np.int32([6]), Tolerance(1.0, 10.0)).status == FAILED


def test_errors_are_measured_in_three_ways() -> None:
    one = compare(floats(1, 4), floats(1 + 2**-22, 4))
    assert one.max_abs == 2**-22
    assert one.max_rel == 2**-24
    assert one.max_ulp == 2.0


def test_top1_says_where_a_choice_flips() -> None:
    a = np.array([[0.1, 0.9], [0.6, 0.4]], np.float32)
    assert compare(a, a).top1 == 1.0
    assert compare(a, a[:, ::-1].copy()).top1 == 0.0


def test_a_difference_outranks_what_was_not_checked() -> None:
    failed, unchecked, passed = (Comparison(status) for status in (FAILED, NOT_CHECKED, PASSED))
    assert (unchecked | failed).status == (failed | unchecked).status == FAILED
    assert (passed | unchecked).status == NOT_CHECKED
    assert (passed | passed).status == PASSED
