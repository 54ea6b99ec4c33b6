"""One output on one sample: form, meaning, arithmetic, and what is to be made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from netferry.converters.signature import Array
from netferry.validation import stages, truth
from netferry.validation.metrics import FAILED, NOT_CHECKED, PASSED, Comparison, Tolerance, compare
from netferry.validation.truth import Double

Outputs = Mapping[str, Array]

JITTERS, FLIPS = 4, 8
"""Runs with jittered weights: for a yardstick, and for outputs that are places."""

EXACT = 1e-12
"""A roundoff below this is float64's."""

RATIO_REASON = "its error is"

SHAKY = 1e-3
"""Where one-ulp jitters of the weights move the truth by this much of its scale, the sample decides nothing."""


@dataclass
class Runs:
    """What one sample gave: the source and the target as they are, and their float64 runs, made when asked for."""

    label: str
    s: Outputs
    t: Outputs
    ours: Sequence[Array]
    theirs: Sequence[Array]
    source: Double
    target: Double
    arithmetic: bool
    meaning: bool

    @cached_property
    def r(self) -> Outputs:
        return self.source.run(self.ours) or {} if self.arithmetic else {}

    @cached_property
    def t64(self) -> Outputs:
        """Also where it was not planned: a doubtful ratio asks for it."""
        return self.target.run(self.theirs) or {}

    @cached_property
    def _jitters(self) -> dict[int, Outputs]:
        return {}

    def jittered(self, count: int) -> list[Outputs]:
        for seed in range(len(self._jitters), count):
            self._jitters[seed] = self.source.jittered(self.ours, seed)
        return [self._jitters[seed] for seed in range(count)]

    @cached_property
    def nudged(self) -> tuple[Outputs, Outputs]:
        return self.source.nudged(self.ours) or {}, self.target.nudged(self.theirs) or {}

    def kernels_agree(self, name: str) -> bool:
        """Whether both models have their non-finite values at the same places in float64 as they are."""
        pairs = ((self.s, self.r), (self.t, self.t64))
        return all(
            name in wide and np.array_equal(np.isfinite(plain[name]), np.isfinite(wide[name]))
            for plain, wide in pairs
        )

    def yardstick(self, name: str) -> float:
        """The largest change of the truth under one-ulp jitters of the weights, relative to its scale."""
        r = self.r[name]
        with np.errstate(all="ignore"):
            return max(stages.meaning(run[name], r) for run in self.jittered(JITTERS))


def replace_target(runs: Runs, outputs: Outputs) -> Runs:
    """The same sample with other outputs of the target; what was run in float64 is kept."""
    other = Runs(
        f"{runs.label}, unoptimised", runs.s, outputs, runs.ours, runs.theirs, runs.source, runs.target,
        runs.arithmetic, runs.meaning,
    )  # fmt: skip
    kept = {key: value for key, value in vars(runs).items() if key in ("r", "t64", "nudged", "_jitters")}
    vars(other).update(kept)
    return other


@dataclass
class Judge:
    """Holds one pair of models; what it learns of an output on one sample counts for the next."""

    source: Double
    target: Double
    tolerance: Tolerance | None = None
    narrow: dict[str, str] = field(default_factory=dict)
    kept: dict[str, list[tuple[str, stages.Triple]]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    yardsticks: dict[str, float] = field(default_factory=dict)

    def __call__(self, runs: Runs) -> dict[str, Comparison]:
        """Outputs are paired by name: one that is missing, added or renamed is a difference."""
        result = {
            name: self._output(name, np.asarray(runs.s[name]), np.asarray(runs.t[name]), runs)
            if name in runs.t
            else Comparison(FAILED, "the target has no such output")
            for name in runs.s
        }
        extra = {
            name: Comparison(FAILED, "the source has no such output") for name in runs.t if name not in runs.s
        }
        return result | extra

    def _output(self, name: str, s: Array, t: Array, runs: Runs) -> Comparison:
        direct = compare(s, t, self.tolerance)
        if self.tolerance is not None or direct.status == NOT_CHECKED:
            return direct
        if s.shape != t.shape or s.dtype != t.dtype:
            return direct
        if stages.is_index(s, t) and direct.status == FAILED:
            return self._places(name, s, t, direct, runs)
        if direct.limit is None or (s.dtype == np.float64 and not runs.meaning):
            return direct
        r = runs.r.get(name)
        if r is None or r.shape != s.shape or self._is_narrow(name, r, runs):
            return direct
        if truth.is_suspect(s, r):
            return self._suspected(name, direct, runs)
        three = stages.triple(s, t, r)
        return direct if three is None else self._staged(name, three, direct, runs)

    def _staged(self, name: str, three: stages.Triple, direct: Comparison, runs: Runs) -> Comparison:
        """Both stages; a float64 model has the first alone, for its source is its own truth."""
        second = stages.arithmetic(three)
        if three.s.size < stages.SMALL:
            self.kept.setdefault(name, []).append((runs.label, three))
        single = three.u > EXACT
        doubtful = single and second.ratio > stages.PASS
        d = self._meaning(name, runs) if runs.meaning or doubtful else None
        fault = self._fault(name, d, runs) if d is not None and d > stages.MEANING else ""
        if name in self.narrow:
            d = None
        if doubtful and d is not None and not fault:
            second = stages.arithmetic(three, three.scale)
        measured = replace(direct, status=PASSED, reason="", meaning=d, limit=None)
        if single:
            measured = replace(measured, ratio=second.ratio, slice=second.slice, histogram=second.histogram)
        if fault:
            return replace(measured, status=FAILED, reason=fault)
        if single:
            return self._weighed(name, measured, direct, runs)
        return direct if d is None else measured

    def _weighed(self, name: str, measured: Comparison, direct: Comparison, runs: Runs) -> Comparison:
        """What the ratio says: up to 8 passed, beyond 32 failed, between them what stage 1 says."""
        assert measured.ratio is not None
        if measured.ratio <= stages.PASS:
            return measured
        if measured.ratio <= stages.FAIL and (measured.meaning is not None or direct.status == PASSED):
            return measured
        if self._is_shaky(name, runs):
            return replace(measured, ratio=None, meaning=None)
        return replace(
            measured, status=FAILED, reason=f"{RATIO_REASON} {measured.ratio:.3g} times the source's own"
        )

    def _meaning(self, name: str, runs: Runs) -> float | None:
        t64, t = runs.t64.get(name), runs.t[name]
        if t64 is None or name in self.narrow:
            return None
        if t64.shape != t.shape or np.any(np.isfinite(t) & ~np.isfinite(t64)):
            self.notes[f"the target's float64 run is not like its own for {name} on '{runs.label}'"] = None
            return None
        with np.errstate(all="ignore"):
            return stages.meaning(t64, runs.r[name])

    def _fault(self, name: str, d: float, runs: Runs) -> str:
        """Why a distance in float64 is a fault; empty where rounding weights or constants explains it."""
        if d <= stages.BAKED and self._constants_rounded:
            return ""
        yardstick = self.yardsticks.get(name, 0.0)
        if not self.carried_exactly and d <= stages.YARDSTICKS * yardstick:
            return ""
        yardstick = runs.yardstick(name)
        if yardstick > SHAKY:
            self.notes[
                f"'{runs.label}' decides nothing for {name}: one-ulp jitters move it by {yardstick:.1e}"
            ] = None
            return ""
        self.yardsticks[name] = max(yardstick, self.yardsticks.get(name, 0.0))
        if not self.carried_exactly and d <= stages.YARDSTICKS * yardstick:
            self.notes["weights were rounded anew on the way (folded or merged)"] = None
            return ""
        if not self._answers(name, runs):
            self.narrow[name] = "the target passes through float32 in its float64 run"
            return ""
        return f"in float64 it differs by {d:.3g} of its scale"

    def _answers(self, name: str, runs: Runs) -> bool:
        ours, theirs = runs.nudged
        if name not in ours or name not in theirs:
            return True
        return truth.answers_alike((runs.r[name], ours[name]), (runs.t64[name], theirs[name])) or not (
            stages.meaning(runs.t64[name], runs.r[name]) < truth.SUSPECT["float32"] / 100
        )

    def _is_shaky(self, name: str, runs: Runs) -> bool:
        return runs.yardstick(name) > SHAKY

    def _is_narrow(self, name: str, r: Array, runs: Runs) -> bool:
        """Looked at once for each output, on the first sample that has a truth."""
        if name not in self.narrow and name not in self._looked:
            self._looked.add(name)
            ours = self.source.nudged(runs.ours) or {}
            if name in ours and truth.is_narrow(r, ours[name]):
                self.narrow[name] = "the source passes through float32 in its float64 run"
        return self.narrow.get(name, "").startswith("the source")

    @cached_property
    def _looked(self) -> set[str]:
        return set()

    @cached_property
    def carried_exactly(self) -> bool:
        return truth.carried_exactly(self.source.weights, self.target.weights)

    @cached_property
    def _constants_rounded(self) -> bool:
        return truth.is_rounded(self.source.constants | self.target.constants)

    def _places(self, name: str, s: Array, t: Array, direct: Comparison, runs: Runs) -> Comparison:
        """An index output may flip only where the source flips itself."""
        r = runs.r.get(name)
        if r is None or r.shape != s.shape:
            return direct
        alike = stages.flips_alike(s, t, [r, *(run[name] for run in runs.jittered(FLIPS))])
        if not alike:
            return direct
        self.notes[f"{name} flips where the source flips under one-ulp jitters of its weights"] = None
        return replace(direct, status=PASSED, reason="")

    def _suspected(self, name: str, direct: Comparison, runs: Runs) -> Comparison:
        """Truth that looks wrong passes nothing: source and target are compared directly."""
        self.notes[f"the truth is suspect for {name} on '{runs.label}': compared directly"] = None
        if direct.status == PASSED:
            return direct
        d = stages.meaning(runs.t64[name], runs.r[name]) if name in runs.t64 else float("inf")
        if d > stages.BAKED:
            return direct
        return replace(
            direct, status=NOT_CHECKED, reason="the truth is suspect: the source errs by more than 1e-3"
        )
