"""What an optimizer keeps of the weights that it trains, in no framework's words.

Each framework's ``optimizer.py`` reads its own optimizers into an ``OptimizerState``, and makes one of its own of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import Array

Kind = Literal["sgd", "adam", "adamw"]

KEPT: Mapping[Kind, str] = {
    "sgd": "SGD: a momentum, or nothing",
    "adam": "Adam: two moments",
    "adamw": "AdamW: two moments",
}
"""The optimizers whose state goes from one framework to another, and what they keep of a weight."""


@dataclass(frozen=True)
class Settings:
    """The numbers that an optimizer was made with; None where nothing says them.

    ``weight_decay`` is SGD's and Adam's own, which is added to the gradient; ``decoupled_decay`` shrinks the weight itself.
    ``uneven``: weights that have a learning rate or a decay of their own.
    """

    learning_rate: float | None = None
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    amsgrad: bool = False
    weight_decay: float = 0.0
    decoupled_decay: float = 0.0
    uneven: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerState:
    """``moments``: what is kept of each weight, by its name, in its shape.

    SGD's momentum is the sum of gradients, as PyTorch has it; Adam's are the mean of gradients, that of their squares and,
    with ``amsgrad``, the largest of these. ``steps`` is how often Adam has stepped.
    """

    kind: Kind
    moments: Mapping[str, tuple[Array, ...]]
    steps: int = 0
    settings: Settings = field(default_factory=Settings)

    def mapped(
        self, push: Callable[[Mapping[str, Array]], Mapping[str, Array]], wanted: Mapping[str, Array]
    ) -> OptimizerState:
        """The same of other weights, of which ``push`` makes the values of one moment and ``wanted`` says the shapes."""
        count = max((len(kept) for kept in self.moments.values()), default=0)
        parts = [push({name: kept[place] for name, kept in self.moments.items()}) for place in range(count)]
        moments = {
            name: tuple(part[name].reshape(array.shape).astype(array.dtype) for part in parts)
            for name, array in wanted.items()
            if parts and name in parts[0]
        }
        return replace(self, moments=moments)


def demand_fit(moments: Mapping[str, tuple[Array, ...]], weights: Mapping[str, Array], where: str) -> None:
    """Refuse a state whose arrays have other shapes than the weights that they are kept of."""
    strange = list(_strange(moments, weights))
    if strange:
        raise UsageError("the optimizer's state does not fit the model", where=where, received=strange[0])


def _strange(moments: Mapping[str, tuple[Array, ...]], weights: Mapping[str, Array]) -> Iterator[str]:
    for name, kept in moments.items():
        for array in kept:
            if name not in weights or np.shape(array) != weights[name].shape:
                own = (
                    f"which has {list(weights[name].shape)}" if name in weights else "which the model has not"
                )
                yield f"{list(np.shape(array))} for '{name}', {own}"


def demand_even(settings: Settings, where: str) -> None:
    """Refuse to make one optimizer of weights that have learning rates of their own."""
    if settings.uneven:
        raise UsageError(
            "some weights have a learning rate or a decay of their own, which one group of an optimizer has not",
            where=where,
            received=", ".join(settings.uneven[:5]),
            remedy="netferry.optimizer_state gives the state alone: make groups with these rates, and load it into them",
        )


def refusal(where: str, received: str) -> UsageError:
    """An optimizer that no other framework has, or whose state is its own."""
    return UsageError(
        "the state of this optimizer cannot go on in another framework",
        where=where,
        expected="; ".join(KEPT.values()),
        received=received,
    )
