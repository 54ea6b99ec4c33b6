"""Two models on the same inputs: source against target, both measured by the source in float64."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from netferry.converters.errors import MissingError, RefusedError, UsageError
from netferry.converters.signature import Array, Example, Signature
from netferry.inference.binding import bind, rebind
from netferry.inference.run import Runnable
from netferry.validation.comparison import stages
from netferry.validation.comparison.judge import Judge
from netferry.validation.comparison.metrics import (
    FAILED,
    PASSED,
    Comparison,
    Tolerance,
    compare,
)
from netferry.validation.comparison.outputs import PairedDouble, Pairing
from netferry.validation.comparison.record import Record
from netferry.validation.comparison.runs import Runs, replace_target
from netferry.validation.comparison.truth import Double
from netferry.validation.pair import kind, no_kernel, other_path, paired, unoptimised
from netferry.validation.reports.report import Report, versions
from netferry.validation.samples.effort import Weigh
from netferry.validation.samples.explore import Made
from netferry.validation.samples.inputs import SPECIAL_VALUES, Sample
from netferry.validation.samples.plan import Share, planned
from netferry.validation.samples.rows import Rows
from netferry.validation.samples.sizes import sizes_of
from netferry.validation.training.trajectory import framework_module

Progress = Callable[[int, int, str], None]
"""Called with what is done, what there is in all, and what comes next."""


@dataclass
class _Verification:
    """One comparison under way."""

    report: Report
    source: Runnable
    target: Runnable
    judge: Judge
    plain: Runnable | None
    other_path: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    same_kernels: bool
    made: Made
    pairing: Pairing
    weigh: Weigh
    records: dict[str, Record] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fused: dict[str, float] = field(default_factory=dict)
    unfused: int = 0
    stopped: bool = False
    unrun: dict[str, list[str]] = field(default_factory=dict)
    remarked: bool = False

    def sample(self, sample: Sample, share: Share) -> bool:
        """Run one sample; False where only the target cannot, which ends the comparison."""
        try:
            feed = bind(sample.arrays, self.source.signature)
            left = self.made.outputs.pop(sample.label, None) or self.source.run(feed)
        except (RefusedError, UsageError) as error:
            self.unrun.setdefault(str(error), []).append(sample.label)
            return True
        self.labels.append(sample.label)
        try:
            other = rebind(feed, self.target.signature)
            right: Mapping[str, Array] = self.target.run(other)
        except (RefusedError, UsageError) as error:
            if why := no_kernel(error):
                raise MissingError(why) from error
            if sample.label.startswith(SPECIAL_VALUES) and not self.same_kernels:
                self.notes.append(f"at NaN and infinite inputs only the source runs: {error}")
                return True
            refused = Comparison(FAILED, f"only the source runs here: {error}")
            for name in left:
                self.records.setdefault(name, Record()).comparisons.append((sample.label, refused))
            return False
        right = self.pairing.renamed(right, left)
        runs = Runs(
            sample.label, left, right, list(feed.values()), list(other.values()),
            self.judge.source, self.judge.target, share.arithmetic, share.meaning, lambda: self.other_path(feed),
            share.price,
        )  # fmt: skip
        self._note_paths(runs)
        self._note_remarks(runs)
        if sample.label.startswith(SPECIAL_VALUES) and not self.same_kernels:
            self._note_special(sample, runs)
            return True
        found = self.judge(runs)
        if self.plain is not None and (
            _any_failed(found) or (share.arithmetic and self.unfused < PLAIN_RUNS)
        ):
            found = self._without_optimisations(other, runs, found)
        for name, one in found.items():
            tolerated = self._tolerated(runs, name, one)
            plain = left.get(name, np.empty(0))
            output = runs.r.get(name, plain) if share.arithmetic else plain
            self.records.setdefault(name, Record()).add(sample, output, tolerated)
        return True

    def _note_paths(self, runs: Runs) -> None:
        """A source of PyTorch that has a fast path: how far it lies from what its layers give."""
        if self.judge.source.framework.name != "pytorch":
            return
        for name, array in runs.plain.items():
            apart = stages.meaning(array, runs.s[name]) if name in runs.s and array.dtype.kind == "f" else 0.0
            if apart > PATHS_APART:
                self.notes.append(
                    f"on '{runs.label}' PyTorch's fast path (under no_grad) gives {name} {apart:.2g} of scale away from "
                    "what its layers give with gradients; the fast path is what is compared"
                )

    def _note_remarks(self, runs: Runs) -> None:
        """What the source's framework has to say of its own run, once: on the first usual sample."""
        remarks = getattr(self.judge.source.framework.live, "remarks", None)
        if self.remarked or remarks is None or runs.label.startswith(SPECIAL_VALUES):
            return
        self.remarked = True
        self.notes.extend(remarks(self.judge.source.model, runs.ours, runs.s))

    def _note_special(self, sample: Sample, runs: Runs) -> None:
        """Between frameworks a difference at NaN and infinities is noted whatever the truth is, so no float64 run is made."""
        for name in (name for name in runs.s if name in runs.t):
            s = np.asarray(runs.s[name])
            one = self._tolerated(runs, name, compare(s, np.asarray(runs.t[name]), self.judge.tolerance))
            self.records.setdefault(name, Record()).add(sample, s, one)

    def _tolerated(self, runs: Runs, name: str, one: Comparison) -> Comparison:
        """Kernels treat NaN and infinities apart (MaxPool and Sign between frameworks, a fused attention within
        one): noted, but no fault of the conversion. Between two ONNX models whose own kernels agree it is one."""
        if not runs.label.startswith(SPECIAL_VALUES) or one.status != FAILED or name not in runs.t:
            return one
        if self.same_kernels and runs.kernels_agree(name):
            return one
        self.notes.append(f"at NaN and infinite inputs {name} differs: {one.reason}")
        return Comparison(PASSED, elements=one.elements)

    def _without_optimisations(
        self, feed: Mapping[str, Array], runs: Runs, found: dict[str, Comparison]
    ) -> dict[str, Comparison]:
        """Run once more with onnxruntime's optimisations off: how far they move an output, and whose a fault is."""
        assert self.plain is not None
        self.unfused += 1
        try:
            off = self.pairing.renamed(self.plain.run(feed), runs.s)
        except RefusedError as error:
            alone = Comparison(
                FAILED, f"only with onnxruntime's optimisations does the target run here: {error}"
            )
            return dict.fromkeys(found, alone)
        for name, array in off.items():
            if array.dtype.kind == "f" and name in runs.t:
                apart = stages.meaning(np.asarray(runs.t[name]), array)
                self.fused[name] = max(self.fused.get(name, 0.0), apart)
        if not _any_failed(found):
            return found
        again = self.judge(replace_target(runs, off))
        return {name: _blamed(one, again[name]) if name in again else one for name, one in found.items()}

    def close(self) -> Report:
        outputs = tuple(record.close(name, self.judge) for name, record in self.records.items())
        narrow = [f"{name}: {why}" for name, why in self.judge.narrow.items()]
        return replace(
            self.report,
            outputs=outputs,
            samples=tuple(self.labels),
            notes=(*_unrun(self.unrun), *self.notes, *self.pairing.notes, *self.judge.notes, *narrow),
            reason=self.report.reason or ("" if self.labels else "the source ran on none of the inputs"),
            signature=self.source.signature,
            truth="" if self.judge.tolerance else self.judge.source.title,
            optimised=dict(self.fused),
            unchecked_axes=self.made.unchecked(self.labels),
            data=self.made.data,
        )


def _unrun(labels: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """Each cause for which the source did not run, once, with where."""
    causes: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for error, where in labels.items():
        causes.setdefault(re.sub(r"\d+", "#", error), []).append((error, where))
    for same in causes.values():
        first, *others = [label for _, where in same for label in where]
        more = f" and {len(others)} other samples" if others else ""
        yield f"the source cannot run at '{first}'{more}: {same[0][0]}"


PATHS_APART = 1e-4
"""Of an output's scale: how far two paths through one model may lie apart before a note says so."""

PLAIN_RUNS = 2
"""Samples that are run without onnxruntime's optimisations in any case."""


def _any_failed(found: Mapping[str, Comparison]) -> bool:
    return any(one.status == FAILED for one in found.values())


def _blamed(on: Comparison, off: Comparison) -> Comparison:
    """A fault that goes with the optimisations is a fusion's, and the report says so."""
    if on.status != FAILED or off.status == FAILED:
        return on
    return replace(
        on, reason=f"{on.reason}; with onnxruntime's optimisations off it passes: a fusion's error"
    )


def verify(
    a: object,
    b: object,
    given: Sequence[Example] | None = None,
    *,
    names: tuple[str, str] = ("source", "target"),
    seed: int = 0,
    tolerance: Tolerance | None = None,
    device: str = "cpu",
    quick: bool = False,
    count: int | None = None,
    outputs: Mapping[str, str] | None = None,
    rows: Rows | None = None,
    graph: object = None,
    progress: Progress | None = None,
) -> Report:
    """Run ``a`` (the source) and ``b`` (the target) on the same inputs and compare every output in two stages.

    Inputs come from the source's signature, ``rows`` of data and those of ``given`` first, at most ``count``; ``quick`` makes few. They
    have sizes at which the source runs; one at which only the target cannot run is a difference. ``outputs`` names
    which output of the target is which of the source, where names do not. ``graph`` is what the source is as ONNX,
    where that is at hand. ``tolerance`` replaces both stages.
    """
    report = Report(*names, seed=seed, versions=versions(), quick=quick)
    try:
        going = _begun(report, (a, b), given, (rows, graph), device, tolerance, Pairing(outputs or {}))
        made = going.made.samples[:count]
        _run_all(going, made, quick, progress)
    except MissingError as error:
        return _unchecked(report, error)
    done, why = going.close(), _rehearsed(a, b, going, made)
    reason = f"the result cannot be used: {why}" if why else ""
    return replace(done, unusable=why, reason=done.reason or reason)


def _begun(
    report: Report,
    models: tuple[object, object],
    given: Sequence[Example] | None,
    beside: tuple[Rows | None, object],
    device: str,
    tolerance: Tolerance | None,
    pairing: Pairing,
) -> _Verification:
    a, b = models
    rows, graph = beside
    pair = paired(a, b, given, report.seed, device=device, quick=report.quick, rows=rows, graph=graph)
    judge = Judge(Double(a, pair.shown[0]), PairedDouble(b, pair.shown[1], pairing), tolerance)
    return _Verification(
        report, pair.source, pair.target, judge, unoptimised(b, pair.target), other_path(a, pair.source),
        kind(a) == kind(b) == "onnx", pair.made, pairing, pair.weigh, notes=list(_input_notes(pair.source.signature, pair.target.signature)),
    )  # fmt: skip


def _run_all(going: _Verification, made: Sequence[Sample], quick: bool, progress: Progress | None) -> None:
    """The samples that the budget allows, one after the other."""
    sizes = [sizes_of(going.made.signature, sample.arrays) for sample in made]
    shares = planned(made, sizes, going.judge, quick, going.weigh)
    running = [(sample, share) for sample, share in zip(made, shares, strict=True) if share.runs]
    for index, (sample, share) in enumerate(running):
        if progress is not None:
            progress(index, len(running), sample.label)
        if not going.sample(sample, share):
            going.stopped = True
            break
    if progress is not None:
        progress(len(running), len(running), "done")


def _rehearsed(a: object, b: object, going: _Verification, made: Sequence[Sample]) -> str:
    """Why the target cannot be trained on or called as its framework's models are, where the source can."""
    usual = [sample for sample in made if not sample.label.startswith(SPECIAL_VALUES)]
    if kind(b) == "onnx" or not usual or not going.records or going.stopped:
        return ""
    sample = min(usual, key=lambda one: (_rows_of(one) < 2, sum(array.size for array in one.arrays.values())))
    feed = bind(sample.arrays, going.source.signature)
    fault = _rehearse(b, rebind(feed, going.target.signature))
    return fault if fault and not (kind(a) != "onnx" and _rehearse(a, feed)) else ""


def _rehearse(model: object, feed: Mapping[str, Array]) -> str:
    fault: str = framework_module(model, "training").rehearse(model, list(feed.values()))
    return fault


def _rows_of(sample: Sample) -> int:
    return min((len(array) for array in sample.arrays.values() if array.ndim), default=0)


def _unchecked(report: Report, error: MissingError) -> Report:
    """The source cannot be run here: nothing is proved, and the report says what is missing."""
    return replace(report, reason=str(error), missing=str(error))


def _input_notes(source: Signature, target: Signature) -> Iterable[str]:
    ours, theirs = ([spec.name for spec in side.inputs] for side in (source, target))
    if set(ours) != set(theirs):
        yield f"inputs are bound by position: {', '.join(ours)} to {', '.join(theirs)}"
