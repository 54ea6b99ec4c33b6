"""What rounding did to outputs on earlier samples: the measure of later ones, once asking for it has cost enough."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from netferry.converters.signature import Array
from netferry.validation.comparison.runs import Runs
from netferry.validation.comparison.stages import YARDSTICKS, Noise

ALLOWANCE = 900_000_000_000
"""Operations that runs which round by chance may take: about half a minute of one processor."""


@dataclass
class Earlier:
    """``left`` is what such runs may still cost, in operations; ``moved`` how far they moved each output of those that
    rounding moves far, at most and in the mean (RMS), as shares of its scale."""

    left: float = field(default_factory=lambda: ALLOWANCE)
    moved: dict[str, tuple[float, float]] = field(default_factory=dict)

    def noise(self, name: str, count: int, runs: Runs) -> Noise | None:
        """That of ``runs``, which is paid for."""
        before = runs.spent
        noise = runs.noise(name, count)
        self.left -= runs.spent - before
        return noise

    def learn(self, name: str, noise: Noise) -> None:
        """Of a sample whose output passed."""
        if not noise.rough:
            return
        r, rounded = noise.taken[1], noise.taken[2:]
        far, usual = (max(values) for values in zip(*(_apart(run, r) for run in rounded), strict=True))
        known = self.moved.get(name, (0.0, 0.0))
        self.moved[name] = max(known[0], far), max(known[1], usual)

    def admits(self, name: str, s: Array, t: Array) -> bool:
        """Whether nothing is left to be spent, and two results lie no farther apart than twice what rounding did before."""
        if self.left > 0 or name not in self.moved or not np.array_equal(np.isfinite(s), np.isfinite(t)):
            return False
        apart = _apart(t.astype(np.float64), s.astype(np.float64))
        return all(own <= YARDSTICKS * known for own, known in zip(apart, self.moved[name], strict=True))


def _apart(run: Array, truth: Array) -> tuple[float, float]:
    """The largest distance and the RMS of all, where both are finite, as shares of the truth's largest value."""
    finite = np.isfinite(run) & np.isfinite(truth)
    scale = float(np.abs(truth[finite]).max(initial=0.0))
    if not scale:
        return 0.0, 0.0
    error = np.abs(run[finite] - truth[finite]) / scale
    return float(error.max()), float(np.sqrt(np.mean(error * error)))
