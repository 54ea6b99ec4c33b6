"""Which sample gets which stage: small models get both on all, large ones as much as the budget allows.

The plan counts elements and weighs runs, and never looks at a clock: the same call gives the same verdict anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from netferry.validation.inputs import Sample
from netferry.validation.judge import Judge

BUDGET, QUICK_BUDGET = 18.0, 4.5
"""In forward passes of the source on the largest sample; the rest of 25 and 6 is for copies and sessions."""

COST: Mapping[str, float] = {"pytorch": 2.5, "tensorflow": 4.0, "mxnet": 4.0, "onnx": 16.0}
"""What a float64 run costs beside a float32 pass of the same framework (ONNX: the reference evaluator)."""

SMALL_WEIGHTS, SMALL_INPUT = 1_000_000, 50_000
"""Weights and elements of an input up to which a model is small, and everything is done."""


def planned(made: Sequence[Sample], judge: Judge, quick: bool) -> list[tuple[bool, bool]]:
    """(stage 2, stage 1) for each sample, in order; the first always gets both."""
    if judge.tolerance is not None:
        return [(False, False)] * len(made)
    return list(_within(made, judge, QUICK_BUDGET if quick else BUDGET)) if _is_large(made, judge) else [
        (True, True)
    ] * len(made)  # fmt: skip


def _is_large(made: Sequence[Sample], judge: Judge) -> bool:
    return judge.source.size > SMALL_WEIGHTS or max(map(_elements, made), default=0) > SMALL_INPUT


def _within(made: Sequence[Sample], judge: Judge, budget: float) -> Iterator[tuple[bool, bool]]:
    largest = max(map(_elements, made), default=1) or 1
    sizes = [max(_elements(sample) / largest, 1 / 16) for sample in made]
    left = budget - 2 * sum(sizes)  # source and target as they are, on every sample
    second, first = COST[judge.source.framework.name] + 1, COST[judge.target.framework.name]
    for place, size in enumerate(sizes):
        both = place == 0 or size * (second + first) <= left
        one = both or size * second <= left
        left -= size * (second * one + first * both)
        yield one, both


def _elements(sample: Sample) -> int:
    return sum(array.size for array in sample.arrays.values())
