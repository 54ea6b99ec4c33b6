"""Gradients and training: whether two models train alike.

Both get the same batches and the same loss. Compared are the gradient of every weight, by name, and of the
inputs; what may be trained; what BatchNorm keeps; and the losses and the change of every weight over some
steps of SGD and of Adam. The yardstick is the source's own float32 error against itself in float64 (VERDICT,
stage 2): an error of the target is divided by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from netferry.converters.signature import Array, Example
from netferry.converters.training import Batch, Training
from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED
from netferry.validation.training.judge import TrainingJudge, frozen_factors
from netferry.validation.training.reference import (
    TrainingReference,
    demand_gradients,
)
from netferry.validation.training.results import (
    LIMIT,
    MEANING,
    Measured,
    TrainingVerdict,
)
from netferry.validation.training.trajectory import Unlearnable, record_trajectory, training_of
from netferry.validation.training.weight_matching import match_weights


def compare_training(
    a: object,
    b: object,
    inputs: Sequence[Sequence[Array]],
    *,
    given: Sequence[Example] | None = None,
    steps: int = 0,
    seed: int = 0,
) -> TrainingVerdict:
    """Compare the training of ``b`` with that of ``a`` on batches of inputs (by position).

    Raises UsageError where a side cannot be trained: an ONNX graph, a function without weights of its own.
    """
    for side in (a, b):
        demand_gradients(side)
    try:
        return compare_with(TrainingReference(a, inputs, given=given, steps=steps, seed=seed), b)
    except Unlearnable as why:
        return TrainingVerdict(NOT_CHECKED, str(why), steps=steps)


def compare_with(reference: TrainingReference, target: object) -> TrainingVerdict:
    """Compare the training of a target with that of its source.

    A gradient jumps where a unit stands at its kink (a ReLU at zero, two maxima that tie): on a batch with such a row
    float32 may fall to one side in the source and to the other in the target. So where both agree in float64 and only
    float32's arithmetic is too far apart, the other batches decide: a fault shows in all of them, a kink in few.
    """
    verdict = _compare(reference, target)
    others = range(1, len(reference.batches))
    if not others or not _by_arithmetic_alone(verdict):
        return verdict
    again = [_compare(reference.begun_with(number), target) for number in others]
    passed = [one for one in again if one.status == PASSED]
    if len(passed) * 2 <= len(again):
        return verdict
    note = (
        f"begun with the first batch, {verdict.reason}, though equal in float64; begun with another one it passes in "
        f"{len(passed)} of {len(again)}: a unit at its kink, where a gradient jumps"
    )
    return replace(passed[0], notes=(*passed[0].notes, note))


def _by_arithmetic_alone(verdict: TrainingVerdict) -> bool:
    """Whether it fails, and each failure is one of float32 that float64 does not know."""
    measured = [*verdict.whole, *(m for w in verdict.weights for m in w.measured), *verdict.inputs]
    measured += [*verdict.statistics, *(curve.measured for curve in verdict.curves)]
    failed = [m for m in measured if m.status == FAILED]
    exact = any(w.gradient.meaning is not None for w in verdict.weights)
    return bool(failed) and exact and all(_is_arithmetic(m) for m in failed)


def _is_arithmetic(measured: Measured) -> bool:
    beyond = measured.ratio is not None and measured.ratio > LIMIT
    return beyond and (measured.meaning is None or measured.meaning <= MEANING)


def _compare(reference: TrainingReference, target: object) -> TrainingVerdict:
    training = training_of(target, len(reference.batches[0].inputs))
    found = match_weights(reference, target, training)
    frozen_here, frozen_there = frozen_factors(found, training)
    with training:
        renamed = _renamed(training, reference.batches)
        if renamed is None:
            return TrainingVerdict(FAILED, "its float outputs are others than the source's")
        did = record_trajectory(
            training, renamed, reference.loss, reference.optimizers, reference.count, frozen_there
        )
    yardstick = reference.with_frozen(frozen_here)
    wide = reference.in_float64(target, training, renamed) if yardstick.exact else None
    verdict = TrainingJudge(reference, found, training, did, wide, yardstick).verdict()
    if verdict.status != FAILED:
        return verdict
    return TrainingJudge(reference, found, training, did, wide, reference.with_jitter(frozen_here)).verdict()


# ---- which is which --------------------------------------------------------------------------------------


def _renamed(training: Training, batches: Sequence[Batch]) -> tuple[Batch, ...] | None:
    """The batches with the outputs' names in the target: the same, or by position."""
    names = list(training.outputs(batches[0].inputs))
    training.reset()
    asked = list(batches[0].targets)
    if set(asked) <= set(names):
        return tuple(batches)
    if len(names) != len(asked):
        return None
    to = dict(zip(asked, names, strict=True))
    return tuple(
        Batch(
            batch.inputs,
            {to[name]: target for name, target in batch.targets.items()},
            {to[name]: weight for name, weight in batch.weights.items()},
        )
        for batch in batches
    )


# ---- the judgement ---------------------------------------------------------------------------------------
