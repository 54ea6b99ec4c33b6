"""One model trained on some batches: the first gradients, and what some steps of each optimizer change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from netferry.converters import frameworks
from netferry.converters.errors import CannotConvert, NetferryError, first_line
from netferry.converters.signature import Array
from netferry.converters.training import Batch, Gradients, Loss, Optimizer, Training


class Unlearnable(Exception):  # noqa: N818 - the verdict is that nothing was proved
    """There is nothing to train (no float output, no gradient), or a framework cannot train the model."""


@dataclass(frozen=True)
class Trajectory:
    """What one model did: the first pass, what BatchNorm kept of it, and each optimizer's steps."""

    gradients: Gradients
    statistics: Mapping[str, Array]
    steps: Mapping[str, Steps] = field(default_factory=dict)


@dataclass(frozen=True)
class Steps:
    """The losses step by step, the change of each weight over all of them, and the statistics afterwards."""

    losses: tuple[float, ...]
    changes: Mapping[str, Array]
    statistics: Mapping[str, Array]


def training_of(model: object, inputs: int) -> Training:
    training: Training = framework_module(model, "training").Training(model, inputs)
    return training


def framework_module(model: object, name: str) -> Any:
    """The file of this name in the folder of a model's framework."""
    return frameworks.of(model).module(name)


def record_trajectory(
    training: Training,
    batches: Sequence[Batch],
    loss: Loss,
    optimizers: Sequence[Optimizer],
    steps: int,
    frozen: Mapping[str, Array] | None = None,
) -> Trajectory:
    """One model trained on all batches with each optimizer, from the same state each time."""
    try:
        return _recorded(training, batches, loss, optimizers, steps, frozen or {})
    except (NetferryError, Unlearnable, CannotConvert):
        raise
    except Exception as error:  # whatever a framework raises for this model
        reason = f"{type(training).__module__.split('.')[-2]} cannot train it ({first_line(error)})"
        raise Unlearnable(reason) from error


def _recorded(
    training: Training,
    batches: Sequence[Batch],
    loss: Loss,
    optimizers: Sequence[Optimizer],
    steps: int,
    frozen: Mapping[str, Array],
) -> Trajectory:
    gradients = training.gradients(batches[0], loss)
    first = Trajectory(gradients, training.current()[1])
    training.reset()
    done: dict[str, Steps] = {}
    for optimizer in optimizers:
        step = training.stepper(optimizer, loss, frozen)
        losses = []
        for number in range(steps):
            batch = batches[number % len(batches)]
            losses.append(batch.loss(loss, step(batch)))
        weights, statistics = training.current()
        changes = {name: array.astype(np.float64) - training.weights[name] for name, array in weights.items()}
        done[optimizer.kind] = Steps(tuple(losses), changes, statistics)
        training.reset()
    return replace(first, steps=done)


class _Named(Protocol):
    """What has weights and statistics by name."""

    weights: Mapping[str, Array]
    statistics: Mapping[str, Array]


def under_names_of(trajectory: Trajectory, training: Training, own: _Named) -> Trajectory:
    """The trajectory of a widened copy under the names of the model itself: a copy may be called otherwise."""
    there = (*training.weights, *training.statistics)
    here = (*own.weights, *own.statistics)
    if there == here:
        return trajectory
    to = dict(zip(there, here, strict=True))

    def named(values: Mapping[str, Any]) -> dict[str, Any]:
        return {to[name]: value for name, value in values.items()}

    return Trajectory(
        replace(trajectory.gradients, weights=named(trajectory.gradients.weights)),
        named(trajectory.statistics),
        {
            kind: Steps(steps.losses, named(steps.changes), named(steps.statistics))
            for kind, steps in trajectory.steps.items()
        },
    )
