"""Gradients and training: whether two models learn alike.

Both get the same batches and the same loss. Compared are the gradient of every weight, by name, and of the
inputs; what may be trained; what BatchNorm keeps; and the losses and the change of every weight over some
steps of SGD and of Adam. The yardstick is the source's own float32 error against itself in float64 (VERDICT,
stage 2): an error of the target is divided by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from netferry import converters
from netferry.converters import frameworks
from netferry.converters.errors import NetferryError
from netferry.converters.signature import Array, Example
from netferry.converters.training import Batch, Training
from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED
from netferry.validation.training import weight_matching
from netferry.validation.training.reference import (
    FLOOR,
    ROUNDOFF,
    TrainingReference,
    Trajectory,
    Unlearnable,
    Yardstick,
    demand_gradients,
    record_trajectory,
    rms,
    training_of,
    widen,
)
from netferry.validation.training.results import (
    LIMIT,
    MEANING,
    STATISTICS_MEANING,
    Curve,
    Measured,
    TrainingVerdict,
    WeightVerdict,
)
from netferry.validation.training.weight_matching import WeightMatching

SAME = 1e-5
"""How far, relative to their scale, two weights may lie apart that are called the same value."""

TWIN = 1e-4
"""The same for the gradients of two biases that a layer adds: a framework may sum each in an order of its own."""


def compare_training(
    a: object,
    b: object,
    inputs: Sequence[Sequence[Array]],
    *,
    given: Sequence[Example] | None = None,
    steps: int = 0,
    seed: int = 0,
) -> TrainingVerdict:
    """Hold the training of ``b`` against that of ``a`` on batches of inputs (by position).

    Raises UsageError where a side cannot be trained: an ONNX graph, a function without weights of its own.
    """
    for side in (a, b):
        demand_gradients(side)
    try:
        return compare_with(TrainingReference(a, inputs, given=given, steps=steps, seed=seed), b)
    except Unlearnable as why:
        return TrainingVerdict(NOT_CHECKED, str(why), steps=steps)


def compare_with(reference: TrainingReference, target: object) -> TrainingVerdict:
    """Hold a target against what its source learnt.

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
    told = (
        f"begun with the first batch, {verdict.reason}, though equal in float64; begun with another one it passes in "
        f"{len(passed)} of {len(again)}: a unit at its kink, where a gradient jumps"
    )
    return replace(passed[0], notes=(*passed[0].notes, told))


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
    held_here, held_there = _held(found, training)
    with training:
        renamed = _renamed(training, reference.batches)
        if renamed is None:
            return TrainingVerdict(FAILED, "its float outputs are others than the source's")
        did = record_trajectory(
            training, renamed, reference.loss, reference.optimizers, reference.count, held_there
        )
    yardstick = reference.held_still(held_here)
    wide = reference.in_float64(target, training, renamed) if yardstick.exact else None
    verdict = _Judge(reference, found, training, did, wide, yardstick).verdict()
    if verdict.status != FAILED:
        return verdict
    return _Judge(reference, found, training, did, wide, reference.looked_at(held_here)).verdict()


# ---- which is which --------------------------------------------------------------------------------------


def match_weights(reference: TrainingReference, target: object, training: Training) -> WeightMatching:
    """Which weights have become which: by a conversion either way, by their names, or by their values."""
    own = {**reference.weights, **reference.statistics}
    theirs = {**training.weights, **training.statistics}
    other = frameworks.of(target).name
    shapes = {name: array.shape for name, array in theirs.items()}
    if other == reference.framework and shapes == {name: array.shape for name, array in own.items()}:
        return weight_matching.by_name(own, theirs)
    count = len(reference.batches[0].inputs)
    forth = _through_conversion(reference.model, own, other, theirs, count, reference.given)
    if forth is not None and _agree(forth, own, theirs):
        return forth
    back = _through_conversion(target, theirs, reference.framework, own, count, reference.given)
    if back is not None and (forth is None or _agree(back, theirs, own)):
        return weight_matching.inverse(back, own, theirs)
    if forth is not None:
        return forth
    return weight_matching.by_value(own, theirs, "by the values that they have")


def _through_conversion(
    model: object,
    own: Mapping[str, Array],
    to: str,
    theirs: Mapping[str, Array],
    inputs: int,
    given: Sequence[Example] | None,
) -> WeightMatching | None:
    """The counterparts as netferry's own conversion makes them; None where it makes another model than this."""
    tags = weight_matching.distinct(own)
    if tags is None:
        return None
    try:
        training = training_of(model, inputs)
        try:
            export = converters.export_model(training.holding(tags), given=given)
            arrived = {
                n: np.array(array) for n, array in converters.import_model(export.model, to).weights.items()
            }
        finally:
            training.reset()
    except NetferryError:
        return None
    if any(name not in arrived or arrived[name].shape != array.shape for name, array in theirs.items()):
        return None
    return weight_matching.by_value(
        tags, {name: arrived[name] for name in theirs}, "by a conversion of weights that are all different"
    )


def _agree(found: WeightMatching, source: Mapping[str, Array], target: Mapping[str, Array]) -> bool:
    """Whether the target holds the values that a conversion of the source gives it."""
    return all(_value_distance(made, held) <= SAME for made, held in found.values(source, target).values())


def _value_distance(made: Array, held: Array) -> float:
    """How far two weights lie apart, relative to their scale."""
    size = float(np.abs(made).max(initial=0.0)) or 1.0
    return float(np.abs(held - made).max(initial=0.0)) / size


def _held(found: WeightMatching, training: Training) -> tuple[dict[str, Array], dict[str, Array]]:
    """The factors that hold still what one side has twice, on the source's side and on the target's.

    Of two biases that are one in the other framework only the first one is trained: else their sum would move
    twice as fast.
    """
    here: dict[str, Array] = {}
    for name, parts in found.places.items():
        for places in parts[1:] if training.trainable.get(name) else ():
            for owner in found.pool.owners(places):
                here[owner] = np.zeros(found.pool.shapes[owner], np.float32)
    there = {
        name: np.zeros(training.weights[name].shape, np.float32)
        for name in found.missing
        if training.trainable.get(name)
    }
    return here, there


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


class _Judge:
    """Holds one target's course against the source's, in the source's coordinates where there are any."""

    def __init__(
        self,
        reference: TrainingReference,
        found: WeightMatching,
        training: Training,
        trajectory: Trajectory,
        wide: Trajectory | None,
        yardstick: Yardstick,
    ) -> None:
        self.reference, self.found, self.training = reference, found, training
        self.trajectory, self.wide, self.told = trajectory, wide, yardstick.told
        self.truth, self.plain, self.jumps = yardstick.truth, yardstick.plain, yardstick.jumps
        longest = max(x.size for x in reference.batches[0].inputs)
        one_by_one = reference.one_by_one or training.one_by_one
        self.rounding = ROUNDOFF * (math.sqrt(longest) if one_by_one else 1.0)

    def verdict(self) -> TrainingVerdict:
        gradients, changes = self._gradients(), self._changes()
        weights = tuple(
            WeightVerdict(
                name,
                tuple(to for to, owners in self.found.names.items() if name in owners),
                trained,
                self._flags(name, gradients[name]),
                {kind: found[name] for kind, found in changes.items() if name in found},
            )
            for name, trained in self.reference.trainable.items()
        )
        inputs, statistics, curves = self._inputs(), self._statistics(), self._curves()
        whole = self._whole()
        problems = [
            *whole,
            *(m for w in weights for m in w.measured),
            *inputs,
            *statistics,
            *(curve.measured for curve in curves),
        ]
        status, reason = _together(problems)
        return TrainingVerdict(
            status,
            reason,
            self.reference.loss.name,
            self.told,
            self.reference.count,
            weights,
            inputs,
            statistics,
            curves,
            tuple(dict.fromkeys(self._told())),
            tuple(whole),
        )

    # ---- what is compared -------------------------------------------------------------------------

    def _gradients(self) -> dict[str, Measured]:
        truth = self.truth
        t = self.found.pull(self.trajectory.gradients.weights)
        wide = None if self.wide is None else self.found.pull(self.wide.gradients.weights)
        plain = [trajectory.gradients.weights for trajectory in self.plain]
        jumps = {} if self.jumps is None else self.jumps.weights
        return self._ratios(truth.gradients.weights, plain, t, wide, jumps)

    def _changes(self) -> dict[str, dict[str, Measured]]:
        """By optimizer, the changes in the target's coordinates, told under the source's names."""
        told: dict[str, dict[str, Measured]] = {}
        for kind, steps in self.trajectory.steps.items():
            truth = self.truth.steps[kind].changes
            r = self.found.push(truth)
            s = [self.found.push(trajectory.steps[kind].changes) for trajectory in self.plain]
            t = {name: steps.changes[name].reshape(-1) for name in steps.changes if name in r}
            measured = self._ratios({name: r[name] for name in t}, s, t, None, {})
            told[kind] = {}
            for name, one in measured.items():
                for owner in self.found.names[name]:
                    told[kind][owner] = _worse(told[kind].get(owner), replace(one, name=owner))
        return told

    def _ratios(
        self,
        truth: Mapping[str, Array | None],
        plain: Sequence[Mapping[str, Array | None]],
        target: Mapping[str, Array],
        wide: Mapping[str, Array] | None,
        jumps: Mapping[str, Array | None],
    ) -> dict[str, Measured]:
        """Each against the larger of the source's error in it and the source's error as a whole, in parts of its
        size, which is at least ``FLOOR`` of all."""
        r = {name: _filled(truth.get(name), target[name]) for name in target}
        own = [{name: _filled(one.get(name), target[name]) - r[name] for name in r} for one in plain]
        whole = rms(*r.values())
        share = max(rms(*errors.values()) for errors in own) / whole if whole else 0.0
        found = {}
        for name, exact in r.items():
            size = max(rms(exact), FLOOR * whole)
            yard = max(*(rms(errors[name]) for errors in own), share * size, self.rounding * size)
            d = None if wide is None else _beyond(wide[name], exact, jumps.get(name))
            top = max(float(np.abs(exact).max(initial=0.0)), FLOOR * whole)
            found[name] = _held_to_limits(name, rms(target[name] - exact), yard, size, d, top)
        return found

    def _flags(self, name: str, measured: Measured) -> Measured:
        """A weight that may be trained on one side and not on the other, or that has become nothing."""
        others = [to for to, owners in self.found.names.items() if name in owners]
        trained = self.reference.trainable[name]
        if not others:
            if not trained or self._idle(name):
                return Measured(name, PASSED)
            return Measured(name, NOT_CHECKED, "it has no counterpart in the target")
        frozen = [to for to in others if self.training.trainable.get(to, trained) != trained]
        if frozen:
            words = (
                "is trainable and its counterpart is frozen"
                if trained
                else "is frozen and its counterpart is trainable"
            )
            return replace(measured, status=FAILED, reason=f"it {words} ({', '.join(frozen)})")
        return measured if trained else Measured(name, PASSED)

    def _idle(self, name: str) -> bool:
        slope = self.truth.gradients.weights.get(name)
        return slope is None or not np.any(slope)

    def _inputs(self) -> tuple[Measured, ...]:
        truth, theirs = self.truth.gradients.inputs, self.trajectory.gradients.inputs
        found = []
        for place, (r, t) in enumerate(zip(truth, theirs, strict=True)):
            if r is None and t is None:
                continue
            shape = np.asarray(t if r is None else r)
            exact = _filled(r, shape)
            own = [_filled(trajectory.gradients.inputs[place], shape) - exact for trajectory in self.plain]
            wide = None if self.wide is None else _filled(self.wide.gradients.inputs[place], shape)
            jump = None if self.jumps is None else self.jumps.inputs[place]
            size, top = rms(exact), float(np.abs(exact).max(initial=0.0))
            yard = max(*map(rms, own), self.rounding * size)
            d = None if wide is None else _beyond(wide, exact, jump)
            found.append(
                _held_to_limits(f"input {place}", rms(_filled(t, shape) - exact), yard, size, d, top)
            )
        return tuple(found)

    def _statistics(self) -> tuple[Measured, ...]:
        """Each by itself, after the first pass and after all steps."""
        if self.reference.fixed or self.training.fixed:
            return ()
        wide = None if self.wide is None else self.wide.statistics
        passes = [
            (self.truth.statistics, [one.statistics for one in self.plain], self.trajectory.statistics, wide)
        ]
        for kind, steps in self.trajectory.steps.items():
            plain = [one.steps[kind].statistics for one in self.plain]
            passes.append((self.truth.steps[kind].statistics, plain, steps.statistics, None))
        found: dict[str, Measured] = {}
        for truth, plain, theirs, in_float64 in passes:
            exact, own = self.found.push(truth), [self.found.push(one) for one in plain]
            for name in self.training.statistics:
                if name not in exact:
                    continue
                r, t = exact[name], theirs[name].reshape(-1)
                size, top = rms(r), float(np.abs(r).max(initial=0.0))
                yard = max(*(rms(one[name] - r) for one in own), self.rounding * size)
                d = None if in_float64 is None else _beyond(in_float64[name].reshape(-1), r, None)
                told = ", ".join(self.found.names[name])
                one = _held_to_limits(told, rms(t - r), yard, size, d, top, STATISTICS_MEANING)
                found[name] = _worse(found.get(name), one)
        return tuple(found.values())

    def _curves(self) -> tuple[Curve, ...]:
        curves = []
        for optimizer in self.reference.optimizers:
            kind = optimizer.kind
            r, t = (np.array(one.steps[kind].losses) for one in (self.truth, self.trajectory))
            own = [np.array(one.steps[kind].losses) for one in self.plain]
            size = rms(r)
            yard = max(*(rms(one - r) for one in own), self.rounding * size)
            measured = _held_to_limits(f"losses of {kind}", rms(t - r), yard, size, None, size)
            curves.append(Curve(kind, optimizer.learning_rate, tuple(own[0]), tuple(t), measured))
        return tuple(curves)

    def _whole(self) -> list[Measured]:
        """What concerns no single weight: values that differ, weights and statistics that one side lacks."""
        problems = []
        lost = [name for name in self.reference.statistics if name in self.found.unread]
        if lost:
            problems.append(
                Measured(
                    "BatchNorm",
                    FAILED,
                    f"the source keeps running statistics that the target has not ({', '.join(lost[:4])}): BatchNorm was "
                    "folded into another layer, and the target does not train as the source does",
                )
            )
        problems += self._values()
        for name in self._unexplained():
            problems.append(
                Measured(name, NOT_CHECKED, "this weight of the target has no counterpart in the source")
            )
        fixed = self.reference.fixed or self.training.fixed
        if fixed:
            problems.append(Measured("BatchNorm", NOT_CHECKED, fixed))
        return problems

    def _values(self) -> list[Measured]:
        """Weights that hold other values than what they are made of, whatever the inputs show."""
        own = {**self.reference.weights, **self.reference.statistics}
        theirs = {**self.training.weights, **self.training.statistics}
        problems = []
        for name, (made, held) in self.found.values(own, theirs).items():
            apart = _value_distance(made, held)
            if not apart <= SAME:
                told = " + ".join(self.found.names.get(name, (name,)))
                problems.append(
                    Measured(told, FAILED, f"its value in the target is another ({apart:.1e} of its scale)")
                )
        return problems

    def _unexplained(self) -> list[str]:
        """Trainable weights of the target without a counterpart that are not the second half of a bias."""
        slopes = self.trajectory.gradients.weights
        missing = [name for name in self.found.missing if self.training.trainable.get(name)]
        return [name for name in missing if not self._second_half(name, slopes)]

    def _second_half(self, name: str, slopes: Mapping[str, Array | None]) -> bool:
        """A bias of zeros whose gradient is that of another one: the layer adds both."""
        own = slopes.get(name)
        if own is None or not np.any(own):
            return True
        if np.any(self.training.weights[name]) and self.found.origin is None:
            return False
        return any(
            other is not None
            and other.shape == own.shape
            and _value_distance(widen(own), widen(other)) <= TWIN
            for key, other in slopes.items()
            if key in self.found.places
        )

    def _told(self) -> list[str]:
        notes = [f"the weights were matched {self.found.how}"]
        here, there = _held(self.found, self.training)
        if here or there:
            names = ", ".join(sorted({*here, *there}))
            notes.append(
                f"{names}: one bias on one side and two on the other; of the two one is held still while both train, "
                "or their sum would move twice as fast"
            )
        idle = [
            n
            for n, trained in self.reference.trainable.items()
            if trained and n in self.found.unread and self._idle(n)
        ]
        if idle:
            notes.append(f"{', '.join(idle)}: no path leads from it to the loss, and the target has it not")
        norms = {*self.reference.notes, *self.training.notes}
        if len(norms) > 1:
            notes.append("; ".join(sorted(norms)) + ": compared with the factor (n-1)/n on the unbiased one")
        if self.reference.one_by_one or self.training.one_by_one:
            notes.append(
                "MXNet's BatchNorm adds up a batch one by one in float32: the yardstick is at least as many roundings as the "
                "square root of the elements of a batch"
            )
        if self.reference.statistics and not (self.reference.fixed or self.training.fixed):
            notes.append("BatchNorm is in train mode, dropout is off")
        return notes


def _held_to_limits(
    name: str, error: float, yard: float, size: float, d: float | None, top: float, most: float = MEANING
) -> Measured:
    ratio = error / yard if yard else (0.0 if not error else math.inf)
    meaning = None if d is None else (d / top if top else (0.0 if not d else math.inf))
    measured = Measured(name, PASSED, "", ratio, error / size if size else error, meaning)
    if meaning is not None and not meaning <= most:
        return replace(
            measured, status=FAILED, reason=f"in float64 it is {meaning:.1e} apart, relative to its largest"
        )
    if not ratio <= LIMIT:
        return replace(
            measured, status=FAILED, reason=f"its error is {ratio:.3g} times what float32 explains"
        )
    return measured


def _together(problems: Sequence[Measured]) -> tuple[str, str]:
    """A difference outranks what was not checked, which outranks equality; the first of its kind is told."""
    for status in (FAILED, NOT_CHECKED):
        found = [m for m in problems if m.status == status]
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return status, f"{found[0].name}: {found[0].reason}{more}"
    return (PASSED, "") if problems else (NOT_CHECKED, "there was nothing to compare")


def _worse(one: Measured | None, other: Measured) -> Measured:
    if one is None:
        return other
    return max((one, other), key=lambda m: (m.status == FAILED, m.ratio or 0.0))


def _beyond(one: Array, other: Array, jump: Array | None) -> float:
    """The largest distance between two arrays; where the truth itself jumps, what goes beyond twice its largest jump."""
    apart = float(np.abs(one - other).max(initial=0.0))
    known = 0.0 if jump is None else 2 * float(np.abs(jump).max(initial=0.0))
    return apart if apart > known else 0.0


def _filled(array: Array | None, like: Array) -> Array:
    """The array in float64; zeros where there is none."""
    return np.zeros(like.shape) if array is None else widen(array).reshape(like.shape)
