"""Which sample runs, and through which stage: small models get everything, large ones as much as the budget allows.

The plan counts elements and operations, and never looks at a clock: the same call gives the same verdict anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from netferry.validation.comparison.judge import Judge
from netferry.validation.samples.effort import Weigh, is_heavy
from netferry.validation.samples.inputs import AGAIN, GRIDDED_AGAIN, KINDS, MANY, Sample
from netferry.validation.samples.sizes import Sizes

BUDGET, QUICK_BUDGET = 9.0, 4.0
"""In forward passes of the source on the largest sample; the rest of 12 and 6 is for sessions and looking for sizes."""

SLOW_BUDGET = 22.0
"""Of 30, where the source is an ONNX graph, whose truth is slow."""

ANYWAY = 60_000_000_000
"""Operations that any verification may take beside: about two seconds of one processor."""

SPARE = {*KINDS, *MANY, *(again.partition(",")[0] for again in (*AGAIN, *GRIDDED_AGAIN))}
"""Kinds of samples that a budget may leave out."""

LEAST_KINDS = 3
"""Kinds of values that are tried whatever they cost."""

DEAR = 2
"""How many times as much float64 costs where its activations are large."""

COST: Mapping[str, float] = {"pytorch": 2.5, "tensorflow": 4.0, "mxnet": 4.0, "onnx": 16.0}
"""What a float64 run costs beside a float32 pass of the same framework (ONNX: the reference evaluator)."""

SMALL_WEIGHTS, SMALL_INPUT = 1_000_000, 50_000
"""Weights and elements of an input up to which a model is small, where there is no graph to count with."""


@dataclass(frozen=True)
class Share:
    """What one sample gets: whether it runs at all, stage 2, stage 1.

    ``price`` is what one float64 run of the source takes, in operations; 0 where that is not known.
    """

    runs: bool = True
    arithmetic: bool = True
    meaning: bool = True
    price: float = 0.0


def planned(
    made: Sequence[Sample], sizes: Sequence[Sizes], judge: Judge, quick: bool, weigh: Weigh
) -> list[Share]:
    """The share of each sample, in order; the first always gets all. ``sizes`` are what the free axes are in each."""
    if judge.tolerance is not None:
        return [Share(arithmetic=False, meaning=False)] * len(made)
    efforts = [weigh(one) for one in sizes]
    if all(effort is not None for effort in efforts):
        works = [float(effort.work) for effort in efforts if effort is not None]
        spare = ANYWAY / _largest(works, made)
    else:
        works = [float(_elements(sample)) for sample in made]
        spare = 0.0 if _is_large(made, judge) else float("inf")
    largest = _largest(works, made)
    shares = [max(work / largest, 1 / 16) for work in works]
    full = SLOW_BUDGET if judge.source.framework.name == "onnx" else BUDGET
    budget = (QUICK_BUDGET if quick else full) + spare
    dear = [effort is not None and is_heavy(effort, 4 * judge.source.size) for effort in efforts]
    cost = COST[judge.source.framework.name]
    prices = [0.0 if effort is None else cost * effort.work for effort in efforts]
    found = _within(made, list(zip(shares, dear, strict=True)), judge, budget)
    return [replace(share, price=price) for share, price in zip(found, prices, strict=True)]


def _largest(works: Sequence[float], made: Sequence[Sample]) -> float:
    """That of the samples by which a budget is measured: many rows are taken where they cost little beside."""
    usual = [work for work, one in zip(works, made, strict=True) if _kind(one) not in MANY]
    return max(usual, default=1.0) or 1.0


def _kind(sample: Sample) -> str:
    return sample.label.partition(",")[0]


def _within(
    made: Sequence[Sample], shares: Sequence[tuple[float, bool]], judge: Judge, budget: float
) -> Iterator[Share]:
    """First which samples run as both models are: normal ones at all sizes in any case, and kinds of values while the
    budget lasts. The rest goes to the stages, sample by sample, the second first.

    What is dear takes so much memory that it is run in float64 only where it comes first.
    """
    second, first = COST[judge.source.framework.name] + 1, COST[judge.target.framework.name]
    kinds = [position for position, sample in enumerate(made) if position and _kind(sample) in SPARE]
    runs = set(range(len(made))).difference(kinds)
    left = budget - sum(2 * shares[position][0] for position in runs)
    if shares:
        size, dear = shares[0]
        left -= size * (second + first) * (DEAR if dear else 1)
    for number, position in enumerate(kinds):
        if number < LEAST_KINDS or 2 * shares[position][0] <= left:
            runs.add(position)
            left -= 2 * shares[position][0]
    for position, (size, dear) in enumerate(shares):
        if position == 0 or position not in runs:
            yield Share(position in runs, position in runs, position in runs)
            continue
        both = not dear and size * (second + first) <= left
        one = both or (not dear and size * second <= left)
        left -= size * (second * one + first * both)
        yield Share(True, one, both)


def _is_large(made: Sequence[Sample], judge: Judge) -> bool:
    inputs = _largest([float(_elements(sample)) for sample in made], made)
    return judge.source.size > SMALL_WEIGHTS or inputs > SMALL_INPUT


def _elements(sample: Sample) -> int:
    return sum(array.size for array in sample.arrays.values())
