"""The training of a source: its trajectory over some batches, in its own precision and in float64."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from netferry.converters import frameworks
from netferry.converters.errors import CannotConvert, NetferryError, UsageError, first_line
from netferry.converters.signature import BATCH, Array, Example, Signature, TensorSpec
from netferry.converters.training import SQUARES, Batch, Gradients, Loss, Optimizer, Training
from netferry.validation.samples.sizes import symbol_of
from netferry.validation.training.trajectory import (
    Trajectory,
    Unlearnable,
    framework_module,
    record_trajectory,
    training_of,
    under_names_of,
)

FLOOR = 1e-3
"""The part of the global RMS below which a weight's own gradient counts as none (a bias before BatchNorm)."""

ROUNDOFF = 2.0**-24

JITTER, JITTERS = 1e-13, 4
"""How far inputs in float64 are moved, in parts of their largest, and how often, to see whether a gradient jumps."""

BATCHES, ROWS, LENGTH = 2, 16, 32
"""How many batches are made where none are given, of how many rows, and the size of any other free axis."""

STEP = 3e-4
"""How far a first step goes, in parts of the weights' own size: long enough to move every loss, too short for
the chaos of training (a maximum that another element takes) to drown what is compared."""


@dataclass(frozen=True)
class Yardstick:
    """What is true (``truth``) and what the source makes of it, once or more often (``plain``).

    ``origin`` says where they come from, ``exact`` whether the truth is in float64; ``jumps`` are, for each gradient,
    how far the truth itself moves when its inputs are jittered: where two maxima tie, a gradient jumps.
    """

    truth: Trajectory
    plain: tuple[Trajectory, ...]
    origin: str
    exact: bool
    jumps: Gradients | None = None


class TrainingReference:
    """The training of a source on some batches, in its own precision and in float64; many targets are compared with it.

    ``targets`` are what a model's only output should be, batch by batch; left out, they lie a random distance from
    the source's own outputs, so that the first gradient is a random projection of the outputs.
    """

    def __init__(
        self,
        model: object,
        inputs: Sequence[Sequence[Array]],
        *,
        given: Sequence[Example] | None = None,
        steps: int = 0,
        loss: Loss = SQUARES,
        targets: Sequence[Array] | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.given, self.count, self.loss = model, given, steps, loss
        self.framework = frameworks.of(model).name
        self._inputs, self._targets, self._seed = inputs, targets, seed
        self._rotated: dict[int, TrainingReference] = {}
        with training_of(model, len(inputs[0])) as training:
            self.weights, self.statistics = training.weights, training.statistics
            self.trainable, self.fixed, self.notes = training.trainable, training.fixed, training.notes
            self.one_by_one = training.one_by_one
            self.batches = _batches(training, inputs, targets, seed)
            first = record_trajectory(training, self.batches, loss, (), 0).gradients
            self.optimizers = _optimizers(self.weights, first) if steps else ()
            self._yardsticks: dict[tuple[str, ...], Yardstick] = {}
            self.plain = record_trajectory(training, self.batches, loss, self.optimizers, steps)
        if not all(math.isfinite(v) for one in self.plain.steps.values() for v in one.losses):
            raise Unlearnable("the source's own losses do not stay finite")

    def begun_with(self, number: int) -> TrainingReference:
        """The same training, begun with another of its batches."""
        if number not in self._rotated:
            inputs, targets = (
                one if one is None else [*one[number:], *one[:number]]
                for one in (self._inputs, self._targets)
            )
            self._rotated[number] = TrainingReference(
                self.model, inputs or (), given=self.given, steps=self.count, loss=self.loss, targets=targets,
                seed=self._seed,
            )  # fmt: skip
        return self._rotated[number]

    @cached_property
    def yardstick(self) -> Yardstick:
        return self._yardstick({})

    def _yardstick(self, frozen: Mapping[str, Array]) -> Yardstick:
        """The source in float64 and as it is; without float64, as it is and as it is after a jitter."""
        plain = self.plain if not frozen else self._run(self.model, self.batches, frozen)
        try:
            batches = [_widened(batch) for batch in self.batches]
            truth = self._run(_in_float64(self.model), batches, frozen)
        except (NetferryError, CannotConvert, Unlearnable) as why:
            origin = (
                f"none: the source cannot be trained in float64 ({first_line(why)}); the yardstick is how far it moves "
                "when its weights are jittered by one rounding"
            )
            return Yardstick(plain, (self._jittered(frozen),), origin, exact=False)
        origin = f"the source itself in float64, in {frameworks.FRAMEWORKS[self.framework].title}"
        return Yardstick(truth, (plain,), origin, exact=True)

    def _run(self, model: object, batches: Sequence[Batch], frozen: Mapping[str, Array]) -> Trajectory:
        with training_of(model, len(batches[0].inputs)) as training:
            to = dict(zip(self.weights, training.weights, strict=True))
            factors = {to[name]: factor for name, factor in frozen.items()}
            trajectory = record_trajectory(training, batches, self.loss, self.optimizers, self.count, factors)
            return under_names_of(trajectory, training, self)

    def _jittered(self, frozen: Mapping[str, Array]) -> Trajectory:
        """The source once more, every weight moved by one rounding, up or down."""
        rng = np.random.default_rng(1)
        own = training_of(self.model, len(self.batches[0].inputs))
        moved = {name: _rounded(array, rng) for name, array in own.weights.items()}
        try:
            return self._run(own.holding(moved), self.batches, frozen)
        finally:
            own.reset()

    def _jumps(self, truth: Gradients, rounded: bool) -> Gradients:
        """How far the gradients in float64 move at most when the inputs are moved by ``JITTER``: next to nothing where
        they are smooth, but ties between maxima (a plain background) fall to one side or the other.

        Where the target keeps a weight ``rounded`` (the sum of two biases), the weights are moved by one rounding too.
        """
        rng = np.random.default_rng(1)
        batch = _widened(self.batches[0])
        found = []
        for _ in range(JITTERS):
            inputs = tuple(_moved(x, rng) for x in batch.inputs)
            model = _in_float64(self.model)
            if rounded:
                own = training_of(model, len(inputs))
                model = own.holding({name: _rounded(w, rng) for name, w in own.weights.items()})
            with training_of(model, len(inputs)) as training:
                trajectory = record_trajectory(training, [replace(batch, inputs=inputs)], self.loss, (), 0)
                found.append(_distance(truth, under_names_of(trajectory, training, self).gradients))
        return _largest_of(found)

    def with_jitter(self, frozen: Mapping[str, Array]) -> Yardstick:
        """The yardstick for what did not pass at once: a source that came near the truth by luck says too little."""
        key = (*sorted(frozen), "jittered")
        if key not in self._yardsticks:
            known = self.with_frozen(frozen)
            jumps = self._jumps(known.truth.gradients, bool(frozen)) if known.exact else None
            plain = (*known.plain, self._jittered(frozen))
            self._yardsticks[key] = replace(known, plain=plain, jumps=jumps)
        return self._yardsticks[key]

    def with_frozen(self, frozen: Mapping[str, Array]) -> Yardstick:
        """The source's trajectories, run again where one of its weights must be frozen for this target."""
        if not frozen:
            return self.yardstick
        key = tuple(sorted(frozen))
        if key not in self._yardsticks:
            self._yardsticks[key] = self._yardstick(frozen)
        return self._yardsticks[key]

    def in_float64(self, target: object, own: Training, batches: Sequence[Batch]) -> Trajectory | None:
        """The first pass of a target in float64, under its own names; None where it has no such form."""
        try:
            wide = _in_float64(target)
            with training_of(wide, len(batches[0].inputs)) as training:
                trajectory = record_trajectory(training, [_widened(batches[0])], self.loss, (), 0)
                return under_names_of(trajectory, training, own)
        except (NetferryError, CannotConvert, Unlearnable):
            return None


def demand_gradients(model: object) -> None:
    """Refuse a model that has no gradients: an ONNX graph, in memory or as a file."""
    if isinstance(model, os.PathLike) or frameworks.of(model).name == "onnx":
        raise UsageError(
            "an ONNX model has no gradients",
            expected="two models of PyTorch, Keras or MXNet",
            received=str(model) if isinstance(model, os.PathLike) else "an ONNX model",
            remedy="Convert it first: netferry convert MODEL.onnx MODEL --to pytorch",
        )


def _in_float64(model: object) -> Any:
    return framework_module(model, "double").as_float64(model)


def batches_for(
    signature: Signature, given: Sequence[Example] | None = None, seed: int = 0
) -> tuple[tuple[Array, ...], ...]:
    """``BATCHES`` batches of ordinary inputs by position: normal floats, integers over their known range."""
    rng = np.random.default_rng(seed)
    shown = {example.name: example for example in given or ()}
    sizes = {s: e.array.shape[axis] for e in shown.values() for axis, s in e.free.items() if s != BATCH}

    def made(spec: TensorSpec) -> Array:
        if spec.dims is None:
            raise UsageError(f"the rank of input '{spec.name}' is not known", remedy="Give example inputs")
        shape = [
            dim
            if isinstance(dim, int)
            else ROWS
            if dim == BATCH
            else sizes.get(symbol_of(spec, axis), LENGTH)
            for axis, dim in enumerate(spec.dims)
        ]
        if spec.dtype.kind not in "biu":
            return rng.standard_normal(shape).astype(spec.dtype)
        example = shown.get(spec.name)
        top = 1 if example is None or not example.array.size else max(int(example.array.max()), 1)
        return rng.integers(0, top + 1, shape).astype(spec.dtype)

    return tuple(tuple(made(spec) for spec in signature.inputs) for _ in range(BATCHES))


def _widened(batch: Batch) -> Batch:
    return replace(
        batch, inputs=tuple(x.astype(np.float64) if x.dtype.kind == "f" else x for x in batch.inputs)
    )


def _batches(
    training: Training, inputs: Sequence[Sequence[Array]], targets: Sequence[Array] | None, seed: int
) -> tuple[Batch, ...]:
    """The batches with targets and weights: what is given for the only output, or a loss of about one for each."""
    rng = np.random.default_rng(seed)
    shown = inputs if targets is None else inputs[:1]
    outputs = [_finite(training.outputs(arrays)) for arrays in shown]
    training.reset()
    if not all(outputs):
        raise Unlearnable("no output of the source is made of finite floats")
    if targets is None:
        return tuple(_own_batch(arrays, made, rng) for arrays, made in zip(inputs, outputs, strict=True))
    [name] = outputs[0]
    return tuple(
        Batch(tuple(arrays), {name: aim}, {name: 1 / len(aim)})
        for arrays, aim in zip(inputs, targets, strict=True)
    )


def _finite(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: y for name, y in outputs.items() if y.size and np.isfinite(y).all()}


def _own_batch(arrays: Sequence[Array], outputs: Mapping[str, Array], rng: np.random.Generator) -> Batch:
    """Targets a random distance, of the outputs' own RMS, from the outputs."""
    sizes = {name: rms(y) or 1.0 for name, y in outputs.items()}
    aims = {
        name: (y + sizes[name] * rng.standard_normal(y.shape)).astype(np.float32)
        for name, y in outputs.items()
    }
    weights = {name: 1 / (y.size * sizes[name] ** 2) for name, y in outputs.items()}
    return Batch(tuple(arrays), aims, weights)


def _optimizers(weights: Mapping[str, Array], first: Gradients) -> tuple[Optimizer, ...]:
    """SGD and Adam with rates that suit the model: a first step moves the weights by ``STEP`` of their size.

    Adam's epsilon is ``FLOOR`` of the gradients' RMS, so that a weight whose gradient is none is not moved by
    its rounding error. All are rounded to float32, in which some frameworks keep them.
    """
    alive = [g for g in first.weights.values() if g is not None]
    slope = rms(*alive)
    if not slope:
        raise Unlearnable("no gradient of the source is other than zero")
    size = rms(*(weights[name] for name, g in first.weights.items() if g is not None)) or 1.0
    return (
        Optimizer("sgd", float(np.float32(STEP * size / slope))),
        Optimizer("adam", float(np.float32(STEP * size)), float(np.float32(FLOOR * slope))),
    )


def _rounded(array: Array, rng: np.random.Generator) -> Array:
    """Every element moved by one rounding of float32, up or down."""
    factor: Array = (1 + 2 * ROUNDOFF * rng.choice([-1, 1], array.shape)).astype(array.dtype)
    return np.multiply(array, factor)


def _moved(x: Array, rng: np.random.Generator) -> Array:
    if x.dtype.kind != "f":
        return x
    top = float(np.abs(x).max(initial=0.0)) or 1.0
    return np.add(x, JITTER * top * rng.standard_normal(x.shape))


def _distance(one: Gradients, other: Gradients) -> Gradients:
    """How far apart two passes lie, element by element."""

    def apart(a: Array | None, b: Array | None) -> Array | None:
        return None if a is None or b is None else np.abs(widen(a) - widen(b))

    weights = {name: apart(slope, other.weights.get(name)) for name, slope in one.weights.items()}
    return Gradients({}, weights, tuple(apart(*pair) for pair in zip(one.inputs, other.inputs, strict=True)))


def _largest_of(found: Sequence[Gradients]) -> Gradients:
    """Of several distances the largest, element by element."""

    def largest(arrays: Sequence[Array | None]) -> Array | None:
        there = [array for array in arrays if array is not None]
        return np.max(there, axis=0) if there else None

    weights = {name: largest([one.weights[name] for one in found]) for name in found[0].weights}
    indices = range(len(found[0].inputs))
    return Gradients(
        {}, weights, tuple(largest([one.inputs[position] for one in found]) for position in indices)
    )


def widen(array: Any) -> Array:
    return np.asarray(array, np.float64)


def rms(*arrays: Array) -> float:
    """The root of the mean square over all elements of all arrays; 0.0 where there are none."""
    count = sum(array.size for array in arrays)
    total = sum(float(np.square(widen(array)).sum()) for array in arrays)
    return math.sqrt(total / count) if count else 0.0
