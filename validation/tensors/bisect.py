"""The first difference: every tensor inside two models, in the order of execution, until one of them differs.

``verify`` says whether anything differs and on which inputs. From the outputs that differ the way leads back, in both
models, through all that has no equal in the other, to tensors that have one: the first step behind these is the first
difference, since everything that it reads is equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.converters.signature import Array, Example
from netferry.converters.steps import Step
from netferry.inference.binding import bind, rebind
from netferry.inference.intermediate import framework_of
from netferry.validation.comparison.metrics import FAILED, PASSED, Comparison, Tolerance, compare
from netferry.validation.pair import paired
from netferry.validation.reports.report import OutputVerdict, Report, versions
from netferry.validation.samples.inputs import SPECIAL_VALUES, Sample
from netferry.validation.samples.rows import Rows
from netferry.validation.tensors.alignment import Arranged, beside
from netferry.validation.tensors.difference import Bisection, Difference, Equal, Evidence, Location
from netferry.validation.tensors.matching import Pairs, Trace, pairs
from netferry.validation.verify import verify


def bisect(
    a: object,
    b: object,
    given: Sequence[Example] | None = None,
    *,
    names: tuple[str, str] = ("source", "target"),
    seed: int = 0,
    tolerance: Tolerance | None = None,
    rows: Rows | None = None,
) -> Bisection:
    """Name the first tensor inside ``a`` (the source) that differs in ``b``: what ``verify`` takes.

    Where the outputs are equal nothing differs; where a side does not run, the reason and its last step are reported.
    """
    report = _plain_difference(a, b, given, names, seed, tolerance, rows) or verify(
        a, b, given, names=names, seed=seed, tolerance=tolerance, rows=rows
    )
    if report.status != FAILED:
        reason = "no output differs" if report.status == PASSED else report.reason or "nothing was proved"
        return Bisection(report, reason=reason)
    pair = paired(a, b, given, seed, rows=rows)
    label, feed = worst_sample(report, pair.made.samples)
    arrays = bind(feed, pair.source.signature)
    theirs = rebind(arrays, pair.target.signature)
    search = _Search(Trace(a, list(arrays.values())), Trace(b, list(theirs.values())), tolerance)
    return search.run(Bisection(report, sample=label))


_PLAIN = 32
"""Errors of so many times the limit need no float64 run to tell them from rounding."""


def _plain_difference(
    a: object,
    b: object,
    given: Sequence[Example] | None,
    names: tuple[str, str],
    seed: int,
    tolerance: Tolerance | None,
    rows: Rows | None,
) -> Report | None:
    """The verdict where some output differs by far more than rounding explains: one run of both, and no truth."""
    try:
        pair = paired(a, b, given, seed, rows=rows)
        for sample in pair.made.samples:
            if sample.label.startswith(SPECIAL_VALUES):
                continue  # frameworks differ at NaN and infinities among themselves: that is for the verdict to judge
            feed = bind(sample.arrays, pair.source.signature)
            ours, theirs = pair.source.run(feed), pair.target.run(rebind(feed, pair.target.signature))
            found = {
                name: compare(ours[name], theirs[name], tolerance)
                for name in ours
                if name in theirs and ours[name].shape == theirs[name].shape
            }
            plain = {name: one for name, one in found.items() if _is_plain(one)}
            if plain:
                outputs = tuple(OutputVerdict(name, one, sample.label) for name, one in plain.items())
                return Report(*names, outputs, (sample.label,), seed, versions=versions())
    except NetferryError:
        return None  # what does not run is reported by the verdict
    return None


def _is_plain(one: Comparison) -> bool:
    if one.status != FAILED:
        return False
    return one.max_abs is None or one.limit is None or one.max_abs > _PLAIN * one.limit


def worst_sample(report: Report | None, made: Sequence[Sample]) -> tuple[str, Mapping[str, Array]]:
    """The inputs on which the first output that differs does so most, by their label; the first where none does."""
    outputs = () if report is None else report.outputs
    wanted = next((v.worst_sample for v in outputs if v.comparison.status == FAILED), "")
    if not made:
        raise UsageError("there are no inputs to compare the models on")
    found = next((sample for sample in made if sample.label == wanted), made[0])
    return found.label, found.arrays


class _Search:
    def __init__(self, a: Trace, b: Trace, tolerance: Tolerance | None) -> None:
        self.a, self.b = a, b
        self._tolerance = tolerance
        self._titles = tuple(framework_of(side.model).title for side in (a, b))

    def run(self, found: Bisection) -> Bisection:
        self.a.run()
        try:
            self.b.run()
        except RefusedError as error:
            last = f" after {self.b.steps[-1]}" if self.b.steps else ""
            return replace(found, reason=f"the target stops{last}: {error}", tensors=self._counts())
        found = replace(found, tensors=self._counts(), notes=tuple(self._not_finite()))
        known = self._inputs()
        forth, back = pairs(self.a, self.b, known)
        found = replace(found, corresponding=len(forth) - len(known))
        ends = self._differing_outputs(found.report)
        if not ends:
            return replace(
                found, reason="an output is missing, added or renamed, or none shows it on this sample"
            )
        for ours, theirs in ends:
            forth.pop(ours, None)
            back.pop(theirs, None)
        difference = self._locate(ends, forth, back)
        return replace(found, difference=difference, reason=difference.comparison.reason)

    def _counts(self) -> tuple[int, int]:
        return len(self.a.maker), len(self.b.maker)

    def _inputs(self) -> dict[str, str]:
        """The inputs of both, which are the same arrays."""
        pairs_of = zip(self.a.ends.inputs, self.a.arrays, strict=True)
        theirs = list(zip(self.b.ends.inputs, self.b.arrays, strict=True))
        return {name: next(n for n, other in theirs if other is array) for name, array in pairs_of}

    def _not_finite(self) -> Iterable[str]:
        for title, side in (("source", self.a), ("target", self.b)):
            for step in side.steps:
                one = next((side.digests[n] for n in step.gives if n in side.digests), None)
                if one is not None and (one.nans or any(one.infinities)):
                    what = "NaN" if one.nans else "an infinity"
                    yield f"in the {title} {what} comes first from {step}"
                    break

    def _differing_outputs(self, report: Report) -> list[tuple[str, str]]:
        failed = {v.name for v in report.outputs if v.comparison.status == FAILED}
        common = [
            (ours, self.b.ends.outputs[name])
            for name, ours in self.a.ends.outputs.items()
            if name in failed and name in self.b.ends.outputs
        ]
        return [
            (x, y) for x, y in common if x in self.a.maker and y in self.b.maker and not self._same(x, y).same
        ]

    def _same(self, ours: str, theirs: str) -> Arranged:
        x, y = self.a.read([ours])[ours], self.b.read([theirs])[theirs]
        return self._beside(ours, theirs, x, y)

    def _beside(self, ours: str, theirs: str, x: Array, y: Array) -> Arranged:
        return beside(self.a, self.b, (ours, theirs), (x, y), self._tolerance)

    # ---- back from the outputs ----------------------------------------------------------------------

    def _locate(self, ends: Sequence[tuple[str, str]], forth: Pairs, back: Pairs) -> Difference:
        """Until the tensors at the edge prove equal element by element: one that does not joins the region."""
        while True:
            ours, _ = self.a.before([x for x, _ in ends], forth)
            theirs, _ = self.b.before([y for _, y in ends], back)
            one, other, how = self._first(ours, theirs, ends)
            (left, right), equal, wrong = self._edges(one, other, forth, back)
            if not wrong:
                return self._difference((one, left), (other, right), how, equal, forth, back)
            for x, y in wrong:
                _part(forth, x, y)
                _part(back, y, x)

    def _edges(
        self, one: str, other: str, forth: Pairs, back: Pairs
    ) -> tuple[tuple[dict[str, Array], dict[str, Array]], list[Equal], list[tuple[str, str]]]:
        """What both steps read: the arrays of each side, the pairs that are equal, and those that are not."""
        edge_a, edge_b = self.a.before([one], forth)[1], self.b.before([other], back)[1]
        wanted = [(x, _likeliest(forth[x], edge_b)) for x in edge_a]
        wanted += [(_likeliest(back[y], edge_a), y) for y in edge_b]
        wanted = list(dict.fromkeys(wanted))
        left = self.a.read([one, *(x for x, _ in wanted)])
        right = self.b.read([other, *(y for _, y in wanted)])
        equal, wrong = [], []
        for x, y in wanted:
            found = self._beside(x, y, left[x], right[y])
            if found.same:
                equal.append(Equal(x, y, found.how, found.comparison.max_rel))
            elif x not in self.a.ends.inputs:
                wrong.append((x, y))
        return ({x: left[x] for x in edge_a}, {y: right[y] for y in edge_b}), equal, wrong

    def _first(
        self,
        ours: Sequence[str],
        theirs: Sequence[str],
        ends: Sequence[tuple[str, str]],
    ) -> tuple[str, str, str]:
        """The first tensors of both regions that are one another's counterpart, and how that is known."""
        named = self._by_name(ours, theirs)
        last = named or ends[0]
        end_a = ours.index(last[0]) if last[0] in ours else len(ours)
        end_b = theirs.index(last[1]) if last[1] in theirs else len(theirs)
        how = "name" if named else "the name of the output"
        entrance = bool(self.b.steps) and not set(self._reads(self.b, last[1])) & set(theirs[:end_b])
        if not (named and entrance):
            earlier = self._by_order(ours[:end_a], theirs[:end_b])
            if earlier is not None:
                last, how = earlier, "size and order of execution"
        one, other = self._ended(*last)
        return self._maker(self.a, one, ours), self._maker(self.b, other, theirs), how

    def _ended(self, one: str, other: str) -> tuple[str, str]:
        """What is one step on one side and several on the other (a layer with its activation, a BatchNorm that was
        folded) is met where the last of these ends, unless the first of them is closer."""
        left, right = self.a.onward(one, self.b, other), self.b.onward(other, self.a, one)
        extra = len(left) - len(right)
        if extra > 0:
            return min([(left[extra], other), (one, other)], key=self._apart)
        if extra < 0:
            return min([(one, right[-extra]), (one, other)], key=self._apart)
        return one, other

    def _apart(self, pair: tuple[str, str]) -> float:
        """The mean distance of two tensors."""
        ours, theirs = pair
        x, y = self.a.read([ours])[ours], self.b.read([theirs])[theirs]
        error = np.abs(x.astype(np.float64) - self._beside(ours, theirs, x, y).b)
        return float(np.mean(error, where=np.isfinite(error)))

    @staticmethod
    def _reads(side: Trace, tensor: str) -> tuple[str, ...]:
        return side.steps[side.maker[tensor]].reads if tensor in side.maker else ()

    def _by_name(self, ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
        """The target's first tensor that shares a name with one of the source's of its size.

        A layer that is several steps on one side alone is met where its last step ends.
        """
        ours = [x for x in ours if x in self.a.digests]
        theirs = [y for y in theirs if y in self.b.digests]
        keys_of = {name: self.a.keys(name) for name in ours}
        for other in theirs:
            keys, size = self.b.keys(other), self.b.digests[other].size
            left = [x for x in ours if self.a.digests[x].size == size and keys_of[x] & keys]
            if left:
                shared = set().union(*(keys_of[x] for x in left)) & keys
                right = [y for y in theirs if self.b.digests[y].size == size and self.b.keys(y) & shared]
                left, right = self.a.owned(left, shared), self.b.owned(right, shared)
                return left[max(len(left) // len(right), 1) - 1], right[max(len(right) // len(left), 1) - 1]
        return None

    def _by_order(self, ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, str] | None:
        """The target's first tensor for which the source has some of its size; of these the first, where both
        sides have as many, else the closest."""
        for other in (y for y in theirs if y in self.b.digests):
            size = self.b.digests[other].size
            left = [x for x in ours if x in self.a.digests and self.a.digests[x].size == size]
            right = [y for y in theirs if y in self.b.digests and self.b.digests[y].size == size]
            if len(left) == len(right):
                return left[0], other
            if left:
                target = self.b.read([other])[other]
                values = self.a.read(left[:8])
                return min(
                    values, key=lambda x: self._beside(x, other, values[x], target).comparison.max_rel or 0.0
                ), other
        return None

    def _maker(self, side: Trace, tensor: str, region: Sequence[str]) -> str:
        """Back over steps that only rearrange what they read: the difference is older than they are."""
        inside = set(region)
        while True:
            reads = [name for name in self._reads(side, tensor) if name in side.digests]
            one = side.digests[tensor]
            plain = [n for n in reads if n in inside and side.digests[n].alike(one, 0.0) and one.scale > 0]
            if len(plain) != 1 or plain[0] == tensor:
                return tensor
            tensor = plain[0]

    # ---- what is reported ---------------------------------------------------------------------------------

    def _difference(
        self,
        one: tuple[str, dict[str, Array]],
        other: tuple[str, dict[str, Array]],
        how: str,
        equal: Sequence[Equal],
        forth: Pairs,
        back: Pairs,
    ) -> Difference:
        (ours, left), (theirs, right) = one, other
        x, y = self.a.read([ours])[ours], self.b.read([theirs])[theirs]
        found = self._beside(ours, theirs, x, y)
        return Difference(
            self._place(self.a, ours, x, forth, self._titles[0]),
            self._place(self.b, theirs, y, back, self._titles[1]),
            found.comparison,
            how,
            found.how,
            tuple(equal),
            Evidence(left, right, x, y, found.b),
        )

    def _place(self, side: Trace, tensor: str, array: Array, known: Pairs, title: str) -> Location:
        step = side.step(tensor) or Step(tensor, "input", (), (tensor,))
        between, _ = side.before([tensor], known)
        steps = dict.fromkeys(str(side.steps[side.maker[name]]) for name in between)
        weights = dict.fromkeys(w for name in between for w in side.steps[side.maker[name]].weights)
        return Location(
            title, step.name, step.kind, tensor, np.shape(array), step.line, tuple(weights), tuple(steps)
        )


def _likeliest(others: Sequence[str], edge: Sequence[str]) -> str:
    """The first that the other side's step reads too, else the first."""
    return next((name for name in others if name in edge), others[0])


def _part(found: Pairs, one: str, other: str) -> None:
    """These two proved not to be the same; what may be the same yet stays."""
    left = [name for name in found.get(one, ()) if name != other]
    if left:
        found[one] = left
    else:
        found.pop(one, None)
