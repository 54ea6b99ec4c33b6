"""Two models on the same inputs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_

import numpy as np

from netferry.converters.errors import MissingError, RefusedError, UsageError
from netferry.converters.signature import Array, Example, Signature
from netferry.inference.run import Runnable, runnable
from netferry.inference.session import bind
from netferry.validation.inputs import Sample, samples
from netferry.validation.metrics import FAILED, NOT_CHECKED, PASSED, Comparison, Tolerance, compare
from netferry.validation.report import OutputVerdict, Report, versions


@dataclass
class _Record:
    """What is known of one output so far: each sample's comparison, and whether the output ever moves."""

    comparisons: list[tuple[str, Comparison]] = field(default_factory=list)
    seen: dict[tuple[int, ...], Array] = field(default_factory=dict)
    moved: bool = False
    varied: bool = False

    def add(self, sample: Sample, a: Array, one: Comparison) -> None:
        self.comparisons.append((sample.label, one))
        before = self.seen.setdefault(a.shape, a)
        self.moved |= not np.array_equal(before, a, equal_nan=a.dtype.kind == "f")
        self.varied |= a.size > 0 and not _all_equal(a)

    def close(self, name: str) -> OutputVerdict:
        """All samples together, brought down to ``not_checked`` where equality proves nothing."""
        scales = [one.scale for _, one in self.comparisons if one.scale is not None]
        usual = statistics.median(scales) if scales else 0.0
        judged = [(label, one.seen_from(usual)) for label, one in self.comparisons]
        whole = reduce(or_, (one for _, one in judged))
        label, _ = max(judged, key=lambda pair: (pair[1].status == FAILED, pair[1].max_rel or 0.0))
        why = self._proves_nothing()
        if why and whole.status == PASSED:
            whole |= Comparison(NOT_CHECKED, why)
        return OutputVerdict(name, whole, label)

    def _proves_nothing(self) -> str:
        if not self.moved and not self.varied:
            return "the output is constant"
        if not self.moved and len(self.comparisons) > len(self.seen):
            return "the output does not depend on the input"
        return ""


def verify(
    a: object,
    b: object,
    given: Sequence[Example] | None = None,
    *,
    names: tuple[str, str] = ("source", "target"),
    seed: int = 0,
    tolerance: Tolerance | None = None,
    device: str = "cpu",
) -> Report:
    """Run ``a`` (the source) and ``b`` (the target) on the same inputs and compare every output.

    Inputs come from the source's signature, those of ``given`` first. A size at which the source itself
    cannot run is left out and told; one at which only the target cannot run is a difference.
    """
    report = Report(*names, seed=seed, versions=versions())
    try:
        source = runnable(a, given)
    except MissingError as error:
        return _unchecked(report, error)
    target = runnable(b, given, device)
    try:
        return _compare_all(report, source, target, samples(source.signature, given, seed), tolerance)
    except MissingError as error:
        return _unchecked(report, error)


def _unchecked(report: Report, error: MissingError) -> Report:
    """The source cannot be run here: nothing is proved, and the report says what is missing."""
    return replace(report, reason=str(error))


def _compare_all(
    report: Report,
    source: Runnable,
    target: Runnable,
    made: Iterable[Sample],
    tolerance: Tolerance | None,
) -> Report:
    records: dict[str, _Record] = {}
    labels: list[str] = []
    notes: list[str] = list(_input_notes(source.signature, target.signature))
    for sample in made:
        try:
            feed = bind(sample.arrays, source.signature)
            left = source.run(feed)
        except RefusedError as error:
            notes.append(f"the source cannot run at '{sample.label}': {error}")
            continue
        labels.append(sample.label)
        try:
            right = target.run(feed)
        except (RefusedError, UsageError) as error:
            return replace(
                report,
                outputs=tuple(
                    OutputVerdict(
                        name, Comparison(FAILED, f"only the source runs here: {error}"), sample.label
                    )
                    for name in left
                ),
                samples=tuple(labels),
                notes=tuple(notes),
            )
        for name, one in _compare_outputs(left, right, tolerance).items():
            records.setdefault(name, _Record()).add(sample, left.get(name, np.empty(0)), one)
    return replace(
        report,
        outputs=tuple(record.close(name) for name, record in records.items()),
        samples=tuple(labels),
        notes=tuple(notes),
        reason="" if labels else "the source ran on none of the inputs",
        signature=source.signature,
    )


def _compare_outputs(
    left: Mapping[str, Array], right: Mapping[str, Array], tolerance: Tolerance | None
) -> dict[str, Comparison]:
    """Outputs are paired by name: one that is missing, added or renamed is a difference."""
    result = {
        name: compare(np.asarray(left[name]), np.asarray(right[name]), tolerance)
        if name in right
        else Comparison(FAILED, "the target has no such output")
        for name in left
    }
    extra = {name: Comparison(FAILED, "the source has no such output") for name in right if name not in left}
    return result | extra


def _input_notes(source: Signature, target: Signature) -> Iterable[str]:
    ours, theirs = ([spec.name for spec in side.inputs] for side in (source, target))
    if set(ours) != set(theirs):
        yield f"inputs are bound by position: {', '.join(ours)} to {', '.join(theirs)}"


def _all_equal(a: Array) -> bool:
    first = a.flat[0]
    return bool(np.all((a == first) | ((a != a) & (first != first))))
