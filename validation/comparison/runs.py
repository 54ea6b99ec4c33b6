"""What one sample gives: the outputs of both models, and their float64 runs, made when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from netferry.converters.signature import Array
from netferry.validation.comparison import stages, truth
from netferry.validation.comparison.stages import Noise
from netferry.validation.comparison.truth import Double

Outputs = Mapping[str, Array]


JITTERS, ROUNDED, MOST_ROUNDED, MOST_INDEX_RUNS = 4, 8, 32, 64
"""Runs with jittered numbers; runs that round by chance, the most of these, and the most where whole numbers differ. A
element on a threshold falls to one side in all of eight runs once in 128 times."""

COARSER = 3.0
"""How much more later runs err. Kernels of an elementary function err by six roundings where they are made for speed: those of
tanh in TensorFlow and onnxruntime are up to five apart near 1."""


@dataclass
class Runs:
    """What one sample gave: the source and the target as they are, and their float64 runs, made when asked for.

    ``other`` runs the source along its other path, where it has one (onnxruntime without optimisations); ``price`` is what
    one float64 run of the source takes, in operations.
    """

    label: str
    s: Outputs
    t: Outputs
    ours: Sequence[Array]
    theirs: Sequence[Array]
    source: Double
    target: Double
    arithmetic: bool
    meaning: bool
    other: Callable[[], Outputs] | None = None
    price: float = 0.0

    @cached_property
    def r(self) -> Outputs:
        return self.source.run(self.ours) or {} if self.arithmetic else {}

    def demand_truth(self) -> None:
        """Also on a sample whose plan left it out: a difference is not reported without it."""
        if not self.arithmetic:
            self.arithmetic = True
            vars(self).pop("r", None)

    @cached_property
    def t64(self) -> Outputs:
        """Also where it was not planned: a doubtful ratio asks for it."""
        return self.target.run(self.theirs) or {}

    @cached_property
    def plain(self) -> Outputs:
        """What the source gives along its other path; nothing where it has none."""
        return {} if self.other is None else self.other()

    @cached_property
    def _jitters(self) -> dict[tuple[bool, int, frozenset[str]], Outputs]:
        return {}

    @cached_property
    def _rounded(self) -> list[Outputs]:
        return []

    def rounded(self, number: int) -> Outputs:
        """The source's run number ``number`` that rounds by chance; the first ones are kept, later ones err more."""
        if number >= MOST_INDEX_RUNS:
            return self.source.rounded(self.ours, number, COARSER)
        for seed in range(len(self._rounded), number + 1):
            self._rounded.append(self.source.rounded(self.ours, seed))
        return self._rounded[number]

    @property
    def spent(self) -> float:
        """What the runs that round by chance took so far, in operations."""
        return self.price * len(self._rounded)

    def noise(self, name: str, count: int) -> Noise | None:
        """What rounding alone makes of an output; None where the source has no such runs of this size."""
        r = self.r.get(name)
        runs = [] if r is None else [self.rounded(number).get(name) for number in range(count)]
        if r is None or any(run is None or run.shape != r.shape for run in runs):
            return None
        limit = truth.SUSPECT.get(self.source.format, truth.SUSPECT["float32"])
        plain = np.asarray(self.s[name], np.float64)
        return Noise.of(r, plain, [run for run in runs if run is not None], limit, self.source.u)

    @cached_property
    def nudged(self) -> tuple[Outputs, Outputs]:
        return self.source.nudged(self.ours) or {}, self.target.nudged(self.theirs) or {}

    @cached_property
    def pushed(self) -> Outputs:
        return self.source.nudged(self.ours, truth.PUSH) or {}

    def kernels_agree(self, name: str) -> bool:
        """Whether both models have their non-finite values at the same places in float64 as they are."""
        pairs = ((self.s, self.r), (self.t, self.t64))
        return all(
            name in wide and np.array_equal(np.isfinite(plain[name]), np.isfinite(wide[name]))
            for plain, wide in pairs
        )

    def yardstick(
        self, name: str, ours: frozenset[str], theirs: frozenset[str], enough: float = np.inf
    ) -> float:
        """How far jitters of constants (and of weights by name), of one model or the other, lie apart, relative to
        their scale: the truth itself is not asked, so that a wrong one is no measure. Nor is the target, where the source's lie
        ``enough`` apart."""
        own = self._apart(name, self.source, self.ours, ours)
        return own if own >= enough else max(own, self._apart(name, self.target, self.theirs, theirs))

    def _apart(self, name: str, double: Double, arrays: Sequence[Array], names: frozenset[str]) -> float:
        for seed in range(JITTERS):
            key = double is self.source, seed, names
            if key not in self._jitters:
                self._jitters[key] = double.jittered(arrays, seed, names)
        first, *others = (self._jitters[double is self.source, seed, names][name] for seed in range(JITTERS))
        with np.errstate(all="ignore"):
            return max(stages.meaning(run, first) for run in others)


def replace_target(runs: Runs, outputs: Outputs) -> Runs:
    """The same sample with other outputs of the target; what was run in float64 is kept."""
    other = replace(runs, label=f"{runs.label}, unoptimised", t=outputs)
    made = ("r", "t64", "nudged", "pushed", "plain", "_jitters", "_rounded")
    vars(other).update({key: value for key, value in vars(runs).items() if key in made})
    return other
