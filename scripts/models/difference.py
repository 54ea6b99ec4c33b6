"""How an output that arrived differs from the model's own."""

from __future__ import annotations

from typing import Any

TOLERANCE = 1e-3
"""Of an output's scale."""


def difference(got: Any, want: Any) -> str:
    """In words; nothing where both are alike to a thousandth of the output's scale."""
    import numpy as np

    if got is None:
        return "it is not there"
    if got.shape != want.shape:
        return f"{got.shape}, not {want.shape}"
    if want.dtype.kind != "f":
        return "" if np.array_equal(got, want) else f"{np.mean(got != want):.0%} of its whole numbers differ"
    finite = np.isfinite(want)
    scale = np.abs(want[finite]).max(initial=0) or 1.0
    off = np.abs(got[finite].astype(np.float64) - want[finite]).max(initial=0) / scale
    same = np.array_equal(np.isfinite(got), finite) and off <= TOLERANCE
    return "" if same else f"off by {off:.1e} of its scale"
