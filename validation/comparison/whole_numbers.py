"""Outputs that a model makes of whole numbers: a product that lies between two of them is rounded by each kernel in its own way.

TFLite's kernels multiply by a fixed-point number, XNNPACK's by a float, and what follows sees another whole number. So a
target is held to steps: it may lie a few away from what one of the source's own two sets of kernels gives, and in the mean
less than one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from netferry.converters.rounding import Step
from netferry.converters.signature import Array
from netferry.validation.comparison.metrics import PASSED, Comparison

MEAN = 0.5
"""Of the steps that one value may lie away, what the root of the mean of squares may be."""

OWN, OWN_IN_FLIGHT = 0.25, 1.0
"""Of the distance of the source's own two sets of kernels: how far a target may lie from the nearer one.

Activations that are quantised as they come are rounded anew by each kernel at each layer, so that the two lie as far from
each other as from what they round.
"""

NOT_THE_SAME = 0.5
"""Of a step."""

_SLACK = 1e-3


def in_steps(
    direct: Comparison, s: Array, t: Array, other: Array | None, step: Step
) -> tuple[Comparison, str]:
    """The comparison, held to steps, and what is to be said of it; as it was where that does not explain it.

    ``other`` is what the source's second set of kernels gives, where it has one.
    """
    if s.shape != t.shape or not (np.isfinite(s).all() and np.isfinite(t).all()):
        return direct, ""
    wide = s.astype(np.float64)
    size = step.size * (float(np.abs(wide).max(initial=0.0)) if step.relative else 1.0)
    if not size:
        return direct, ""
    sides = [wide] if other is None or other.shape != s.shape else [wide, other.astype(np.float64)]
    near = min((np.abs(t.astype(np.float64) - side) / size for side in sides), key=_rms)
    own = float(np.abs(sides[-1] - wide).max() / size)
    share = OWN_IN_FLIGHT if step.relative else OWN
    far, mean, most = float(near.max()), _rms(near), max(step.most, share * own)
    if far > most + _SLACK or mean > MEAN * most:
        reason = (
            f"it lies up to {far:.3g} steps of its whole numbers away ({mean:.2g} in the mean), where their rounding explains "
            f"{most:.3g} ({MEAN * most:.2g})"
        )
        return replace(direct, reason=reason, limit=None), ""
    said = (
        f"{np.mean(near > NOT_THE_SAME):.1%} of its values are rounded to another whole number, at most {far:.2g} steps away; "
        f"the source's own two sets of kernels are up to {own:.2g} apart"
    )
    limit = None if direct.limit is None else (own + most) * size
    return replace(direct, status=PASSED, reason="", limit=limit), said


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
