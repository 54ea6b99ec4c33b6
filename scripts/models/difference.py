"""How an output that arrived differs from the model's own."""

from __future__ import annotations

from typing import Any

TOLERANCE = 1e-3
"""Of an output's scale."""

_MOST_ROWS = 2000


def difference(got: Any, want: Any, tolerance: float = TOLERANCE) -> str:
    """In words; nothing where both are alike to so much of the output's scale."""
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
    same = np.array_equal(np.isfinite(got), finite) and off <= tolerance
    return "" if same else f"off by {off:.1e} of its scale"


def astray(rows: Any, among: Any, tolerance: float = TOLERANCE) -> float:
    """The share of rows (..., row, features) for which there is none alike among the others, whatever their order.

    Of very many, as the lines of masks are, what stands at one place of the first axis is a row.
    """
    import numpy as np

    a, b = (np.asarray(one, np.float64) for one in (rows, among))
    if not a.size or not b.size:
        return float(a.size != b.size)
    if a.ndim > 1 and b.ndim > 1:
        many = max(a.size, b.size) > _MOST_ROWS * a.shape[-1]
        a, b = (one.reshape((len(one), -1) if many else (-1, one.shape[-1])) for one in (a, b))
    else:
        a, b = (one.reshape(-1, 1) for one in (a, b))
    near = [np.abs(b - row).max(1).min() for row in a]
    return float(np.mean(np.array(near) > tolerance * (np.abs(b).max() or 1.0)))
