"""What training is in every framework: the exercise, and what a model answers to it.

Each framework's ``training.py`` has a ``Training`` that speaks the verbs of the protocol below, with the
framework's own gradients and its own optimizers. The loss is defined here once, in signs that the tensors of
every framework understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np

from netferry.converters.errors import first_line
from netferry.converters.signature import Array

BETAS = (0.90625, 1 - 2.0**-10)
"""Adam's, near the usual 0.9 and 0.999 and exact in float32, in which some frameworks keep them."""

TINY = 1e-30
"""Keeps the logarithm of a probability finite; its gradient is right down to here."""


@dataclass(frozen=True)
class Loss:
    """A loss summed over elements: ``value(y, t)`` of each in numpy, ``slope(y, t)`` its derivative by ``y``.

    ``slope`` is made of arithmetic signs alone, so that it takes the tensors of any framework.
    """

    name: str
    value: Callable[[Array, Array], Array]
    slope: Callable[[Any, Any], Any]

    def heads(
        self, outputs: Mapping[str, Any], targets: Mapping[str, Any], weights: Mapping[str, float]
    ) -> list[Any]:
        """The gradient by each output that has targets, in the tensors of the framework that they come in."""
        return [self.slope(outputs[name], target) * weights[name] for name, target in targets.items()]


def _log(p: Array) -> Array:
    """The logarithm of a probability, which a framework's sigmoid may round past 0 or 1."""
    logarithm: Array = np.log(np.maximum(p, 0) + TINY)
    return logarithm


SQUARES = Loss("mean square to fixed targets", lambda y, t: (y - t) ** 2, lambda y, t: (y - t) * 2)
CROSS_ENTROPY = Loss(
    "cross entropy of probabilities", lambda p, t: -t * _log(p), lambda p, t: t / (p + TINY) * -1
)
BINARY_CROSS_ENTROPY = Loss(
    "binary cross entropy of probabilities",
    lambda p, t: -t * _log(p) - (1 - t) * _log(1 - p),
    lambda p, t: (p - t) / (p * (p * -1 + 1) + TINY),
)


@dataclass(frozen=True)
class Batch:
    """Inputs by position; for each output by name its targets and what an element weighs in the loss.

    Outputs that are not named have no part in the loss.
    """

    inputs: tuple[Array, ...]
    targets: Mapping[str, Array] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def loss(self, loss: Loss, outputs: Mapping[str, Array]) -> float:
        """What these outputs cost, in float64."""
        return float(
            sum(
                self.weights[name] * loss.value(outputs[name].astype(np.float64), target).sum()
                for name, target in self.targets.items()
            )
        )


@dataclass(frozen=True)
class Gradients:
    """One pass: the outputs, and the gradient of the loss by every trainable weight and every float input.

    None stands for a weight or an input from which no path leads to the loss.
    """

    outputs: Mapping[str, Array]
    weights: Mapping[str, Array | None]
    inputs: tuple[Array | None, ...]


@dataclass(frozen=True)
class Optimizer:
    """Plain SGD, or Adam with ``BETAS``; ``epsilon`` stands beside the corrected second moment (Kingma and Ba's
    algorithm 1)."""

    kind: Literal["sgd", "adam"]
    learning_rate: float
    epsilon: float = 0.0

    def epsilon_hat(self, step: int) -> float:
        """What stands beside the uncorrected moment at ``step`` (1, 2 ...) to give the same steps: Keras and MXNet
        are written so (the remark at the end of Kingma and Ba's section 2)."""
        return self.epsilon * float(np.sqrt(1 - BETAS[1] ** step))


Step = Callable[[Batch], Mapping[str, Array]]
"""One step of an optimizer: a batch -> the outputs before it."""


class Training(AbstractContextManager["Training"], Protocol):
    """A model as it is trained, with nothing left to chance: BatchNorm in train mode, dropout off.

    Inside ``with`` its weights may move; afterwards the model is what it was. ``statistics`` are what
    BatchNorm keeps, by name; its variances are in the biased form everywhere. ``fixed`` says why statistics
    cannot move, where they cannot; ``one_by_one`` says that BatchNorm adds up a batch element by element, so that
    its rounding errors grow with the batch; ``notes`` are sentences for the report.
    """

    weights: Mapping[str, Array]
    trainable: Mapping[str, bool]
    statistics: Mapping[str, Array]
    fixed: str
    one_by_one: bool
    notes: tuple[str, ...]

    def __init__(self, model: Any, inputs: int, /) -> None: ...
    def __enter__(self) -> Self: ...
    def current(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """The weights and the statistics as they are now."""

    def reset(self) -> None:
        """Back to the weights and statistics that the model came with."""

    def holding(self, values: Mapping[str, Array]) -> Any:
        """The model with these weights and statistics in the place of its own, until ``reset``."""

    def outputs(self, inputs: Sequence[Array]) -> dict[str, Array]:
        """The float outputs, in train mode."""

    def gradients(self, batch: Batch, loss: Loss) -> Gradients:
        """One pass forward and backward; BatchNorm's statistics move."""

    def stepper(self, optimizer: Optimizer, loss: Loss, held: Mapping[str, Array]) -> Step:
        """The framework's own optimizer over the trainable weights; ``held`` are factors (0 or 1) on gradients."""


WITH_GRADIENTS, IN_TRAINING = "when it is called with gradients on", "in training mode"
"""The ways in which whoever goes on with a model calls it; verification itself calls it in neither."""


def first_fault(calls: Mapping[str, Callable[[], object]]) -> str:
    """The first of these ways to call a model that raises, in words; empty where none does."""
    for how, call in calls.items():
        try:
            call()
        except Exception as error:  # whatever a framework raises
            return f"it raises {how}: {first_line(error)}"
    return ""


def arrays_of(training: Training) -> dict[str, Array]:
    """The weights and statistics of a model by their names."""
    return {**training.weights, **training.statistics}


@contextmanager
def holding(training: Training, values: Mapping[str, Array]) -> Iterator[Any]:
    """The model with these values in the place of its own, inside ``with``."""
    try:
        yield training.holding(values)
    finally:
        training.reset()
