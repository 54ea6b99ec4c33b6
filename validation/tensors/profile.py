"""Where an error arises: how far each tensor inside the source is from its counterpart in the target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from netferry.converters.signature import Array, Example
from netferry.inference.binding import bind, rebind
from netferry.validation.comparison.metrics import FAILED
from netferry.validation.pair import paired
from netferry.validation.reports.inside import BEYOND, FirstDifference, Inside, Layers, Side, Value
from netferry.validation.reports.report import Report
from netferry.validation.tensors.alignment import Arranged, beside
from netferry.validation.tensors.bisect import worst_sample
from netferry.validation.tensors.matching import Pairs, Trace, pairs

AT_ONCE = 1 << 25
"""Elements of the source's tensors that are kept at a time: the models run again for each such share."""

MOST_VALUES = 8
"""Elements of the first tensor that differs that are kept."""


def profile(
    a: object,
    b: object,
    given: Sequence[Example] | None = None,
    *,
    report: Report | None = None,
    seed: int = 0,
) -> Layers:
    """The errors alone of what ``inside`` finds."""
    return inside(a, b, given, report=report, seed=seed).layers


def inside(
    a: object,
    b: object,
    given: Sequence[Example] | None = None,
    *,
    report: Report | None = None,
    seed: int = 0,
) -> Inside:
    """The errors of the source's floats, on the inputs on which ``report`` found the most, else on the first.

    ``a`` (the source) and ``b`` (the target) are models in memory. A tensor's counterpart is the one that holds the same
    values, once both were compared element by element. Only where an output differs (by the verdict of ``report``, where
    it is given) the tensors that lead to it are compared with the closest of their layer's.
    """
    pair = paired(a, b, given, seed if report is None else report.seed, quick=report is None)
    _, feed = worst_sample(report, pair.made.samples)
    arrays = bind(feed, pair.source.signature)
    left = Trace(a, list(arrays.values())).run()
    right = Trace(b, list(rebind(arrays, pair.target.signature).values())).run()
    forth, back = pairs(left, right, dict(zip(left.ends.inputs, right.ends.inputs, strict=False)))
    ends = _ends(left, right)
    astray = _leading_to(_differing(ends, left, right, report), left, right, forth, back)
    names = [name for name in left.made if left.digests[name].dtype.startswith(_FLOATS)]
    layers: list[tuple[str, float | None]] = []
    counterparts: dict[str, str] = {}
    first: FirstDifference | None = None
    for share in _shares(names, left):
        for row in _rows(share, ends, forth, astray, left, right):
            layers.append((row.name, row.error))
            if row.nearest is not None and row.error is not None:
                counterparts[row.name] = row.other
                if first is None and not row.error <= BEYOND:
                    worst = _worst(row.array, row.nearest.b)
                    first = FirstDifference(row.name, row.other, row.error, row.nearest.how, worst)
    return Inside(tuple(layers), (_side(left), _side(right)), counterparts, first)


def _side(one: Trace) -> Side:
    sizes = {name: f"{found.dtype}{list(found.shape)}" for name, found in one.digests.items()}
    return Side(tuple(one.steps), sizes, one.ends)


def _worst(a: Array, b: Array) -> tuple[Value, ...]:
    """The elements that are furthest apart; one that is a number on one side alone is further than any."""
    x, y = (np.asarray(one).astype(np.float64).reshape(-1) for one in (a, b))
    with np.errstate(invalid="ignore"):
        apart = np.abs(x - y)
    apart[(x == y) | (np.isnan(x) & np.isnan(y))] = 0.0
    apart[np.isnan(apart)] = np.inf
    count = min(MOST_VALUES, apart.size)
    chosen = np.argpartition(-apart, count - 1)[:count]
    return tuple(
        Value(tuple(map(int, np.unravel_index(at, np.shape(a)))), float(x[at]), float(y[at]))
        for at in sorted(chosen, key=lambda at: (-apart[at], at))
        if apart[at] > 0
    )


_FLOATS = ("float", "bfloat")

_MOST_TRIED = 8
"""Tensors of one layer that are tried for one that equals none."""


def _ends(left: Trace, right: Trace) -> dict[str, tuple[str, str]]:
    """For each tensor that is an output: the output's name, and the target's tensor of that name."""
    outputs = right.ends.outputs
    common = {name: tensor for name, tensor in left.ends.outputs.items() if name in outputs}
    return {
        tensor: (name, outputs[name])
        for name, tensor in common.items()
        if _size(left, tensor) == _size(right, outputs[name]) is not None
    }


def _size(side: Trace, tensor: str) -> int | None:
    return side.digests[tensor].size if tensor in side.digests else None


def _differing(
    ends: Mapping[str, tuple[str, str]], left: Trace, right: Trace, report: Report | None
) -> dict[str, str]:
    """The outputs that differ, as the tensors of both sides."""
    if report is not None:
        failed = {verdict.name for verdict in report.outputs if verdict.comparison.status == FAILED}
        return {ours: theirs for ours, (name, theirs) in ends.items() if name in failed}
    taken = {ours: theirs for ours, (_, theirs) in ends.items()}
    x, y = left.read(taken), right.read(taken.values())
    return {o: t for o, t in taken.items() if not beside(left, right, (o, t), (x[o], y[t])).same}


def _leading_to(differing: Mapping[str, str], left: Trace, right: Trace, forth: Pairs, back: Pairs) -> Pairs:
    """For each tensor that leads to a differing output and equals none, the tensors of its layer that do so too."""
    ours, _ = left.before(differing, {name for name in forth if name not in differing})
    theirs, _ = right.before(differing.values(), {name for name in back if name not in differing.values()})
    found = {
        name: [
            other
            for other in theirs
            if _size(right, other) == _size(left, name)
            and (left.layers[name] & right.layers[other] or left.keys(name) & right.keys(other))
        ][:_MOST_TRIED]
        for name in ours
        if name in left.digests
    }
    return {name: others for name, others in found.items() if others}


def _shares(names: Sequence[str], left: Trace) -> Iterator[list[str]]:
    share: list[str] = []
    taken = 0
    for name in names:
        size = left.digests[name].size
        if share and taken + size > AT_ONCE:
            yield share
            share, taken = [], 0
        share.append(name)
        taken += size
    if share:
        yield share


@dataclass(frozen=True)
class _Row:
    """A tensor of the source, its error, and the tensor of the target that is nearest to it."""

    name: str
    array: Array
    error: float | None
    other: str = ""
    nearest: Arranged | None = None


def _rows(
    names: Sequence[str],
    ends: Mapping[str, tuple[str, str]],
    forth: Pairs,
    astray: Pairs,
    left: Trace,
    right: Trace,
) -> Iterator[_Row]:
    tried = {
        name: [ends[name][1]] if name in ends else [*forth.get(name, ()), *astray.get(name, ())]
        for name in names
    }
    ours = left.read(name for name in names if tried[name])
    theirs = right.read(other for others in tried.values() for other in others)

    for name in names:
        found: dict[str, Arranged] = {}
        for other in tried[name]:
            found[other] = beside(left, right, (name, other), (ours[name], theirs[other]))
            if found[other].same:
                break
        if not found:
            yield _Row(name, np.empty(0), None)
            continue
        last = next(reversed(found.values()))
        other = min(found, key=lambda one: _error(found[one]))
        known = name in ends or name in astray or last.same
        yield _Row(name, ours[name], _error(found[other]) if known else None, other, found[other])


def _error(found: Arranged) -> float:
    """Infinite where one side alone is not finite."""
    error = found.comparison.max_rel
    return error if error is not None else (0.0 if found.same else math.inf)
