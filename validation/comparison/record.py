"""One output over all samples."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_

import numpy as np

from netferry.converters.signature import Array
from netferry.validation.comparison import stages
from netferry.validation.comparison.judge import RATIO_REASON, Judge
from netferry.validation.comparison.metrics import (
    DECIDED_BY_ROUNDING,
    EMPTY,
    FAILED,
    NOT_CHECKED,
    NOTHING_FINITE,
    PASSED,
    Comparison,
)
from netferry.validation.reports.report import OutputVerdict
from netferry.validation.samples.inputs import SPECIAL_VALUES, Sample


@dataclass
class Record:
    """What is known of one output so far: each sample's comparison, and whether the output ever moves."""

    comparisons: list[tuple[str, Comparison]] = field(default_factory=list)
    seen: dict[tuple[int, ...], Array] = field(default_factory=dict)
    moved: bool = False
    varied: bool = False

    def add(self, sample: Sample, a: Array, one: Comparison) -> None:
        self.comparisons.append((sample.label, one))
        if sample.label.startswith(SPECIAL_VALUES):
            return
        before = self.seen.setdefault(a.shape, a)
        self.moved |= not np.array_equal(before, a, equal_nan=a.dtype.kind == "f")
        self.varied |= a.size > 0 and not _all_equal(a)

    def close(self, name: str, judge: Judge) -> OutputVerdict:
        """All samples together, brought down to ``not_checked`` where equality proves nothing."""
        judged = _pooled(
            name, _seen_from_usual(_informative(self.comparisons), judge.source.reaches.get(name, 0.0)), judge
        )
        whole = reduce(or_, (one for _, one in judged))
        label = max(judged, key=lambda pair: (pair[1].status == FAILED, pair[1].max_rel or 0.0))[0]
        why = self._proves_nothing()
        if why and whole.status == PASSED and name not in judge.source.made_of_sizes:
            whole |= Comparison(NOT_CHECKED, why)
        if whole.status == PASSED:
            whole = replace(whole, bound=3 / len(judged))
        return OutputVerdict(
            name,
            whole,
            label,
            meaning_sample=_label_of("meaning", judged),
            ratio_sample=_label_of("ratio", judged),
            samples=tuple(label for label, _ in judged),
        )

    def _proves_nothing(self) -> str:
        if not self.moved and not self.varied:
            return "the output is constant"
        if not self.moved and len(self.comparisons) > len(self.seen):
            return "the output does not depend on the input"
        return ""


Judged = list[tuple[str, Comparison]]


def _informative(comparisons: Judged) -> Judged:
    """Without the samples on which nothing was there, finite or certain, where others are informative."""
    silent = (EMPTY, NOTHING_FINITE, DECIDED_BY_ROUNDING)
    informative = [(label, one) for label, one in comparisons if one.reason not in silent]
    return informative or comparisons


def _seen_from_usual(comparisons: Judged, reach: float) -> Judged:
    """Direct comparisons once more, now that the output's usual scale is known, and how far it reaches at all."""
    scales = [one.scale for _, one in comparisons if one.scale is not None]
    usual = statistics.median(scales) if scales else 0.0
    return [(label, one.seen_from(usual, reach)) for label, one in comparisons]


def _pooled(name: str, judged: Judged, judge: Judge) -> Judged:
    """Ratios of a small output once more, against the source's error over all samples."""
    kept = judge.kept.get(name, {})
    if not kept:
        return judged
    usual = statistics.median(three.scale for three in kept.values())
    own = [stages.arithmetic(three, usual) for three in kept.values()]
    pool = _usual_most([one.g for one in own]), _usual_most([one.gm for one in own])
    again = {label: stages.arithmetic(three, usual, pool) for label, three in kept.items()}
    return [(label, _with_ratio(one, again[label]) if label in again else one) for label, one in judged]


def _usual_most(errors: list[float]) -> float:
    """The largest, without those that a step on the way has made: what one sample meets excuses nothing on the others."""
    return min(max(errors), stages.PASS * statistics.median(errors))


def _with_ratio(one: Comparison, second: stages.Arithmetic) -> Comparison:
    if one.ratio is None:
        return one
    forgiven = one.status == FAILED and one.reason.startswith(RATIO_REASON) and second.ratio <= stages.FAIL
    found = replace(one, ratio=second.ratio, slice=second.slice)
    return replace(found, status=PASSED, reason="") if forgiven else found


def _label_of(metric: str, judged: Judged) -> str:
    informative = [(getattr(one, metric), label) for label, one in judged if getattr(one, metric) is not None]
    return max(informative)[1] if informative else ""


def _all_equal(a: Array) -> bool:
    first = a.flat[0]
    return bool(np.all((a == first) | ((a != a) & (first != first))))
