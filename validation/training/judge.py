"""The comparison of two trajectories: gradients, weights, statistics and losses, each against the yardstick."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from netferry.converters.signature import Array
from netferry.converters.training import Training
from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED
from netferry.validation.training.reference import (
    FLOOR,
    ROUNDOFF,
    TrainingReference,
    Yardstick,
    rms,
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
from netferry.validation.training.trajectory import Trajectory
from netferry.validation.training.weight_matching import SAME, WeightMatching, value_distance

TWIN = 1e-4
"""As ``SAME``, for the gradients of two biases that a layer adds: a framework may sum each in an order of its own."""


def frozen_factors(found: WeightMatching, training: Training) -> tuple[dict[str, Array], dict[str, Array]]:
    """The factors that freeze what one side has twice, on the source's side and on the target's.

    Of two biases that are one in the other framework only the first one is trained: else their sum would move
    twice as fast.
    """
    here: dict[str, Array] = {}
    for name, parts in found.indices.items():
        for indices in parts[1:] if training.trainable.get(name) else ():
            for owner in found.pool.owners(indices):
                here[owner] = np.zeros(found.pool.shapes[owner], np.float32)
    there = {
        name: np.zeros(training.weights[name].shape, np.float32)
        for name in found.missing
        if training.trainable.get(name)
    }
    return here, there


class TrainingJudge:
    """Compares one target's trajectory with the source's, in the source's coordinates where there are any."""

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
        self.trajectory, self.wide, self.origin = trajectory, wide, yardstick.origin
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
            self.origin,
            self.reference.count,
            weights,
            inputs,
            statistics,
            curves,
            tuple(dict.fromkeys(self._notes())),
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
        """By optimizer, the changes in the target's coordinates, under the source's names."""
        by_owner: dict[str, dict[str, Measured]] = {}
        for kind, steps in self.trajectory.steps.items():
            truth = self.truth.steps[kind].changes
            r = self.found.push(truth)
            s = [self.found.push(trajectory.steps[kind].changes) for trajectory in self.plain]
            t = {name: steps.changes[name].reshape(-1) for name in steps.changes if name in r}
            measured = self._ratios({name: r[name] for name in t}, s, t, None, {})
            by_owner[kind] = {}
            for name, one in measured.items():
                for owner in self.found.names[name]:
                    by_owner[kind][owner] = _worse(by_owner[kind].get(owner), replace(one, name=owner))
        return by_owner

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
        for position, (r, t) in enumerate(zip(truth, theirs, strict=True)):
            if r is None and t is None:
                continue
            shape = np.asarray(t if r is None else r)
            exact = _filled(r, shape)
            own = [_filled(trajectory.gradients.inputs[position], shape) for trajectory in self.plain]
            wide = None if self.wide is None else _filled(self.wide.gradients.inputs[position], shape)
            jump = None if self.jumps is None else self.jumps.inputs[position]
            d = None if wide is None else _beyond(wide, exact, jump)
            found.append(self._measured(f"input {position}", exact, _filled(t, shape), own, d))
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
                d = None if in_float64 is None else _beyond(in_float64[name].reshape(-1), r, None)
                label = ", ".join(self.found.names[name])
                one = self._measured(label, r, t, [one[name] for one in own], d, STATISTICS_MEANING)
                found[name] = _worse(found.get(name), one)
        return tuple(found.values())

    def _curves(self) -> tuple[Curve, ...]:
        curves = []
        for optimizer in self.reference.optimizers:
            kind = optimizer.kind
            r, t = (np.array(one.steps[kind].losses) for one in (self.truth, self.trajectory))
            own = [np.array(one.steps[kind].losses) for one in self.plain]
            measured = self._measured(f"losses of {kind}", r, t, own)
            curves.append(Curve(kind, optimizer.learning_rate, tuple(own[0]), tuple(t), measured))
        return tuple(curves)

    def _measured(
        self,
        name: str,
        truth: Array,
        target: Array,
        own: Sequence[Array],
        d: float | None = None,
        most: float = MEANING,
    ) -> Measured:
        """One array by itself, against the source's own results; ``d`` is the distance in float64, ``most`` its limit."""
        size, top = rms(truth), float(np.abs(truth).max(initial=0.0))
        yard = max(*(rms(one - truth) for one in own), self.rounding * size)
        return _held_to_limits(name, rms(target - truth), yard, size, d, top, most)

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
        """Weights that have other values than what they are made of, whatever the inputs show."""
        own = {**self.reference.weights, **self.reference.statistics}
        theirs = {**self.training.weights, **self.training.statistics}
        problems = []
        for name, (made, kept) in self.found.values(own, theirs).items():
            apart = value_distance(made, kept)
            if not apart <= SAME:
                label = " + ".join(self.found.names.get(name, (name,)))
                problems.append(
                    Measured(label, FAILED, f"its value in the target is another ({apart:.1e} of its scale)")
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
            and value_distance(widen(own), widen(other)) <= TWIN
            for key, other in slopes.items()
            if key in self.found.indices
        )

    def _notes(self) -> list[str]:
        notes = [f"the weights were matched {self.found.how}"]
        here, there = frozen_factors(self.found, self.training)
        if here or there:
            names = ", ".join(sorted({*here, *there}))
            notes.append(
                f"{names}: one bias on one side and two on the other; of the two one is frozen while both train, "
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
    """A difference outranks what was not checked, which outranks equality; the first of its kind is reported."""
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
