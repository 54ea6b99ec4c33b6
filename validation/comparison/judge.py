"""One output on one sample: form, meaning, arithmetic, and what is to be made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from netferry.converters.signature import Array
from netferry.validation.comparison import stages, truth
from netferry.validation.comparison.earlier import ALLOWANCE, Earlier
from netferry.validation.comparison.metrics import (
    DECIDED_BY_ROUNDING,
    FAILED,
    NOT_CHECKED,
    PASSED,
    Comparison,
    Tolerance,
    compare,
)
from netferry.validation.comparison.runs import MOST_INDEX_RUNS, MOST_ROUNDED, ROUNDED, Runs
from netferry.validation.comparison.stages import Noise
from netferry.validation.comparison.truth import Double
from netferry.validation.comparison.whole_numbers import in_steps

MOSTLY = 0.5
"""Of the whole numbers that differ, the share that never moves from which no more runs are made."""

A_HANDFUL, MOST_RUNS_FOR_A_FEW = 8, 128
"""Where no more whole numbers than these are left, so many runs are asked, later ones coarser than the first: of many rows of
saturated scores some show what kernels made for speed give."""

A_FEW = 2
"""Whole numbers of which so few differ are asked in all runs: behind a quantiser rounding moves each of them seldom."""

SEVERAL = 3
"""Values that an element takes, from which it is believed to take others too that no run has shown."""

AGREED = 16.0
"""Unit roundoffs of its scale within which two results are one."""

EXACT = 1e-12
"""A roundoff below this is float64's."""

HIDES_NOTHING = 1e-6
"""A share of an output's scale below which no fault is looked for."""

RATIO_REASON = "its error is"


@dataclass
class Judge:
    """Judges one pair of models; what it finds out of an output on one sample counts for the next."""

    source: Double
    target: Double
    tolerance: Tolerance | None = None
    narrow: dict[str, str] = field(default_factory=dict)
    kept: dict[str, dict[str, stages.Triple]] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    earlier: Earlier = field(default_factory=Earlier)
    _moved: dict[tuple[str, tuple[frozenset[str], frozenset[str]]], float] = field(default_factory=dict)

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
        if self.tolerance is not None or direct.status == NOT_CHECKED or s.dtype != t.dtype:
            return direct
        step = self.source.steps.get(name)
        if step is not None and direct.status == FAILED:
            found, said = in_steps(direct, s, t, runs.plain.get(name), step)
            self.notes |= {f"{name} on '{runs.label}': {said}": None} if said else {}
            return found
        if direct.status == FAILED:
            runs.demand_truth()
        if s.shape != t.shape:
            return self._sized(name, t, direct, runs)
        if stages.is_index(s, t) and direct.status == FAILED:
            return self._indices(name, s, t, direct, runs)
        if s.dtype.kind in "biu" or (s.dtype == np.float64 and not runs.meaning):
            return direct
        r = runs.r.get(name)
        if r is None:
            return self._without_truth(name, direct, runs)
        if r.shape != s.shape:
            return self._sized(name, t, direct, runs)
        return self._with_truth(name, t, direct, runs)

    # ---- outputs of floats --------------------------------------------------------------------------

    def _with_truth(self, name: str, t: Array, direct: Comparison, runs: Runs) -> Comparison:
        """First without asking what rounding alone does; what fails then is judged by that, in more runs if need be."""
        if direct.limit is None:
            direct = self._mended(name, t, direct, runs)
        found = direct if direct.limit is None else self._measured(name, direct, runs)
        for count in (ROUNDED, MOST_ROUNDED):
            if found.status == PASSED or name in self.failed:
                break
            if direct.limit is not None and self.earlier.admits(name, np.asarray(runs.s[name]), t):
                self.notes[f"{name} on '{runs.label}': held to what rounding did on the inputs before"] = None
                return replace(direct, status=PASSED, reason="", limit=None)
            noise = self.earlier.noise(name, count, runs)
            if noise is None:
                break
            noise = noise.without(self._settled(name, t, runs))
            found = self._with_noise(name, t, direct, runs, noise)
            if found.status == PASSED:
                self.earlier.learn(name, noise)
            if noise.shows_all and not (noise.suspect or _same_in_float64(found)):
                break
        if found.status == FAILED:
            self.failed.add(name)
        return found

    def _settled(self, name: str, t: Array, runs: Runs) -> Array:
        """Places where both models as they are agree, and the float64 run of one has fallen to the other side of a
        threshold (an average of integers lies on one often): what people run is what counts."""
        s, r, t64 = np.asarray(runs.s[name]).astype(np.float64), runs.r[name], runs.t64.get(name)
        with np.errstate(all="ignore"):
            scale = np.abs(r[np.isfinite(r)]).max(initial=0.0)
            wide = t.astype(np.float64)
            crossed = np.abs(s - r) > self._gross * scale
            if t64 is not None and t64.shape == t.shape:
                crossed |= np.abs(wide - t64) > self._gross * scale
            return np.asarray(crossed & (np.abs(wide - s) <= AGREED * self.source.u * scale))

    def _mended(self, name: str, t: Array, direct: Comparison, runs: Runs) -> Comparison:
        """Where the source's kernels leave the finite numbers and its float64 run does not, a finite target is compared
        with that run."""
        s, r = np.asarray(runs.s[name]), runs.r[name]
        broken = ~np.isfinite(s) & np.isfinite(r) & np.isfinite(t)
        if not broken.any():
            return direct
        mended = np.where(broken, r, s).astype(s.dtype)
        runs.s = {**runs.s, name: mended}
        title = self.source.framework.title
        self.notes[
            f"{title}'s kernels give no finite {_share(broken)} of {name} on '{runs.label}'; its float64 run does, and "
            "the target is compared with that"
        ] = None
        return compare(mended, t)

    def _with_noise(self, name: str, t: Array, direct: Comparison, runs: Runs, noise: Noise) -> Comparison:
        if direct.limit is None and not _alike_where_told(np.asarray(runs.s[name]), t, noise):
            return direct
        whole = self._measured(name, direct, runs, replace(noise, loose=noise.wild))
        if not noise.loose.any() or (whole.status == PASSED and _same_in_float64(whole)):
            return whole
        if not noise.admits(t.astype(np.float64)):
            return replace(direct, status=FAILED, reason=direct.reason or OUTSIDE)
        if whole.status == PASSED and whole.meaning is not None:
            return whole
        found = self._measured(name, direct, runs, noise)
        if found.status == PASSED:
            self.notes[f"rounding alone decides {_share(noise.loose)} of {name} on '{runs.label}'"] = None
        return found

    def _measured(self, name: str, direct: Comparison, runs: Runs, noise: Noise | None = None) -> Comparison:
        s, t, r = np.asarray(runs.s[name]), np.asarray(runs.t[name]), runs.r[name]
        three = stages.triple(s, t, r, noise)
        if three is None:
            return replace(direct, status=NOT_CHECKED, reason=DECIDED_BY_ROUNDING, limit=None)
        if truth.is_suspect(s, r) if noise is None else noise.suspect:
            return self._suspected(name, three, direct, runs, noise)
        return self._staged(name, three, direct, runs, noise)

    def _staged(
        self, name: str, three: stages.Triple, direct: Comparison, runs: Runs, noise: Noise | None
    ) -> Comparison:
        """Both stages; a float64 model has the first alone, for its source is its own truth."""
        second = stages.arithmetic(three)
        if three.s.size < stages.SMALL:
            self.kept.setdefault(name, {})[runs.label] = three
        single = three.u > EXACT
        doubtful = single and second.ratio > stages.PASS
        d = self._meaning(name, runs, noise) if runs.meaning or doubtful else None
        fault = self._fault(name, d, runs, noise) if d is not None and d > stages.MEANING else ""
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
            return _weighed(measured, direct, second)
        return direct if d is None else measured

    def _meaning(self, name: str, runs: Runs, noise: Noise | None) -> float | None:
        t64, t = runs.t64.get(name), runs.t[name]
        if t64 is None or name in self.narrow:
            return None
        if t64.shape != t.shape or np.any(np.isfinite(t) & ~np.isfinite(t64)):
            self.notes[f"the target's float64 run is not like its own for {name} on '{runs.label}'"] = None
            return None
        with np.errstate(all="ignore"):
            return stages.meaning(t64, runs.r[name], loose=None if noise is None else noise.loose)

    def _fault(self, name: str, d: float, runs: Runs, noise: Noise | None) -> str:
        """Why a distance in float64 is a fault; empty where rounding weights or constants explains it."""
        fault = f"in float64 it differs by {d:.3g} of its scale"
        if d > self._gross and (noise is None or noise.is_astray(runs.t64[name])):
            return fault
        if self._constants_rounded and (
            d <= stages.BAKED
            or (self._constants_may_differ and self._is_explained(name, d, runs, (frozenset(), frozenset())))
        ):
            return ""
        if any(self._anew) and self._is_explained(name, d, runs, self._anew):
            self.notes["weights were rounded anew on the way (folded or merged)"] = None
            return ""
        if noise is not None and noise.rough and noise.is_as_near(runs.t64[name]):
            return ""
        self.narrow |= self._passes_float32(name, d, runs)
        return "" if name in self.narrow else fault

    def _is_explained(
        self, name: str, d: float, runs: Runs, names: tuple[frozenset[str], frozenset[str]]
    ) -> bool:
        """Whether a distance is no larger than what constants, and weights of these names, make when they are rounded anew.

        The least that this made on earlier inputs is enough, as long as it is too small for a fault to hide in it.
        """
        known = self._moved.get((name, names), np.inf)
        if d <= stages.YARDSTICKS * known and known <= HIDES_NOTHING:
            return True
        found = runs.yardstick(name, *names, enough=d / stages.YARDSTICKS)
        self._moved[name, names] = min(known, found)
        return d <= stages.YARDSTICKS * found

    def _passes_float32(self, name: str, d: float, runs: Runs) -> dict[str, str]:
        """Whose float64 run goes through float32 somewhere, where that may explain a distance of ``d``."""
        ours, theirs = runs.nudged if d < truth.SUSPECT["float32"] / 100 else ({}, {})
        if name in ours and truth.is_narrow(runs.r[name], ours[name], runs.pushed.get(name, ours[name])):
            return {name: "the source passes through float32 in its float64 run"}
        moved = name in ours and name in theirs
        if moved and not truth.answers_alike((runs.r[name], ours[name]), (runs.t64[name], theirs[name])):
            return {name: "the target passes through float32 in its float64 run"}
        return {}

    @cached_property
    def _gross(self) -> float:
        """A distance that no rounding of numbers explains."""
        return truth.SUSPECT.get(self.source.format, truth.SUSPECT["float32"])

    @cached_property
    def _anew(self) -> tuple[frozenset[str], frozenset[str]]:
        """The source's weights that are not in the target, and the target's that are not in the source; none where
        one weight alone differs, for no other number makes up for it."""
        ours, theirs = self.source.weights, self.target.weights
        found = truth.not_copied(ours, theirs), truth.not_copied(theirs, ours)
        sizes = [
            [weights[name].size for name in names]
            for weights, names in zip((ours, theirs), found, strict=True)
        ]
        alone = len(sizes[0]) == 1 and sizes[0] == sizes[1] and len(ours) == len(theirs)
        return (frozenset(), frozenset()) if alone and not self._other_constants else found

    @property
    def _other_constants(self) -> bool:
        return self.source.constants != self.target.constants

    @property
    def _constants_may_differ(self) -> bool:
        """Whether a constant may be another one in the target: not in a model of the same framework with the same numbers."""
        return self._other_constants or self._other_numbers

    @cached_property
    def _other_numbers(self) -> bool:
        if self.source.framework is not self.target.framework:
            return True
        return truth.single_numbers(self.source.weights) != truth.single_numbers(self.target.weights)

    @cached_property
    def _constants_rounded(self) -> bool:
        return truth.is_rounded(self.source.constants | self.target.constants)

    def _suspected(
        self, name: str, three: stages.Triple, direct: Comparison, runs: Runs, noise: Noise | None
    ) -> Comparison:
        """The source lies far from its own truth. Equal to the target, it is believed; else the truth is, where
        the target computes it in its own framework, and the source's kernels are named as what is off."""
        d = None if direct.status == PASSED else self._meaning(name, runs, noise)
        if d is None or (d > stages.MEANING and self._fault(name, d, runs, noise)):
            self.notes[f"the truth is suspect for {name} on '{runs.label}': compared directly"] = None
            return direct
        if noise is None:
            return replace(direct, status=FAILED)  # judged again, by what rounding does
        true = replace(three, s=three.r)
        second = stages.arithmetic(true, three.scale)
        if second.ratio > stages.PASS:
            return replace(
                direct, status=NOT_CHECKED, reason="the truth is suspect: the source errs by more than 1e-3"
            )
        self.notes[self._kernel(name, three, runs)] = None
        return replace(direct, status=PASSED, reason="", limit=None, meaning=d, ratio=second.ratio, slice=second.slice,
                       histogram=second.histogram)  # fmt: skip

    def _kernel(self, name: str, three: stages.Triple, runs: Runs) -> str:
        """Whose kernels are off, and how far, as a sentence."""
        off = float(np.abs(three.s - three.r).max()) / three.scale
        title = "onnxruntime" if self.source.framework.name == "onnx" else self.source.framework.title
        plain = runs.plain.get(name)
        certain = three.s != 0
        if plain is not None and plain.shape == three.r.shape and certain.any():
            rest = float(np.abs(plain.astype(np.float64) - three.r)[certain].max()) / three.scale
            return (
                f"{name} on '{runs.label}': {title}'s kernels are off by {off:.2g} of scale from the source's float64 "
                f"truth, which the target computes; with its optimisations off by {rest:.2g}"
            )
        return (
            f"{name} on '{runs.label}': {title}'s kernels are off by {off:.2g} of scale from the source's float64 "
            "truth, which the target computes"
        )

    def _without_truth(self, name: str, direct: Comparison, runs: Runs) -> Comparison:
        """Without a truth: a target may be as far from the source as its own optimisation levels are apart."""
        plain = runs.plain.get(name) if direct.status == FAILED and direct.limit is not None else None
        s = np.asarray(runs.s[name])
        if plain is None or plain.shape != s.shape or direct.max_abs is None or direct.limit is None:
            return direct
        with np.errstate(all="ignore"):
            apart = np.abs(s.astype(np.float64) - plain.astype(np.float64))
        limit = max(direct.limit, stages.PASS * float(np.nan_to_num(apart).max(initial=0.0)))
        if direct.max_abs > limit:
            return direct
        self.notes[f"{name}: onnxruntime's optimisation levels lie as far apart as source and target"] = None
        return replace(direct, status=PASSED, reason="", limit=limit)

    # ---- whole numbers, and sizes made by data -------------------------------------------------------

    def _indices(self, name: str, s: Array, t: Array, direct: Comparison, runs: Runs) -> Comparison:
        """A whole number may differ only towards a value that the source takes there: in float64, or rounded."""
        r = runs.r.get(name)
        if r is None or r.shape != s.shape:
            return direct if r is None else self._sized(name, t, direct, runs)
        if name in self.failed:
            return direct
        where = np.flatnonzero(s != t)
        count = where.size
        taken = np.stack([one.reshape(-1)[where] for one in (s, r)])
        for number in range(MOST_RUNS_FOR_A_FEW):
            rest = _unexplained(t.reshape(-1)[where], taken, number)
            if not rest.any():
                self.notes[
                    f"{count} of {s.size} values of {name} on '{runs.label}' are decided by rounding: the "
                    "source takes the target's value too"
                ] = None
                return replace(direct, status=PASSED, reason="", limit=None)
            if number >= MOST_INDEX_RUNS:
                if rest.sum() > A_HANDFUL or runs.price * number > ALLOWANCE:
                    break
                where, taken = where[rest], taken[:, rest]
            run = runs.rounded(number).get(name)
            if run is None or run.shape != s.shape:
                return self._sized(name, t, direct, runs)
            taken = np.concatenate([taken, run.reshape(1, -1)[:, where]])
            still = (taken == taken[0]).all(0)
            if number == ROUNDED and still.mean() > MOSTLY and still.sum() > A_FEW:
                break  # at most of these elements nothing ever moves
        self.failed.add(name)
        return direct

    def _sized(self, name: str, t: Array, direct: Comparison, runs: Runs) -> Comparison:
        """A size that data makes may differ where rounding changes it in the source: that decides nothing."""
        if direct.status != FAILED or name not in runs.r:
            return direct
        arrays = [runs.s[name], runs.r[name], *(runs.rounded(k).get(name) for k in range(ROUNDED))]
        shapes = [array.shape for array in arrays if array is not None and array.ndim == t.ndim]
        if len(set(shapes)) < 2:
            return direct
        low, high = np.min(shapes, 0), np.max(shapes, 0)
        inside = np.all((t.shape >= 2 * low - high) & (t.shape <= 2 * high - low))
        return replace(direct, status=NOT_CHECKED, reason=DECIDED_BY_ROUNDING) if inside else direct


OUTSIDE = "where rounding decides, it takes values that the source does not"


def _weighed(measured: Comparison, direct: Comparison, second: stages.Arithmetic) -> Comparison:
    """What the ratio says: up to 8 passed, beyond 32 failed, between them what stage 1 says; who is as near the truth
    as the source is never fails."""
    if second.ratio <= stages.PASS or second.nearer:
        return measured
    if second.ratio <= stages.FAIL and (measured.meaning is not None or direct.status == PASSED):
        return measured
    return replace(
        measured, status=FAILED, reason=f"{RATIO_REASON} {second.ratio:.3g} times the source's own"
    )


def _alike_where_told(s: Array, t: Array, noise: Noise) -> bool:
    """Whether non-finite values stand alike wherever rounding does not decide that they do."""
    certain = ~noise.wild
    return (
        compare(np.where(certain, s, 0).astype(s.dtype), np.where(certain, t, 0).astype(t.dtype)).limit
        is not None
    )


def _same_in_float64(found: Comparison) -> bool:
    """Where this is so both take the same decisions; models that differ as they are have met a step that more runs may
    meet."""
    return found.meaning is not None and found.meaning <= stages.BAKED


def _unexplained(wanted: Array, taken: Array, runs: int) -> Array:
    """Which wanted values were not taken (runs, elements); an element that takes several others may lie among them."""
    rest = ~(taken == wanted).any(0)
    if not rest.any() or runs < ROUNDED:
        return np.asarray(rest)
    own, ordered = wanted[rest].astype(np.float64), np.sort(taken[:, rest].astype(np.float64), 0)
    several = 1 + (ordered[1:] != ordered[:-1]).sum(0) >= SEVERAL
    low, high = ordered[0], ordered[-1]
    with np.errstate(invalid="ignore"):
        rest[rest] = ~(several & (own >= 2 * low - high) & (own <= 2 * high - low))
    return np.asarray(rest)


def _share(loose: Array) -> str:
    return f"{int(loose.sum())} of {loose.size} values"
