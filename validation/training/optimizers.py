"""An optimizer's state as that of the model which the source has become: which element of which weight is which."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters import frameworks, origin
from netferry.converters.errors import UsageError
from netferry.converters.optimizer import OptimizerState
from netferry.converters.signature import Array, Example
from netferry.validation.training.weight_matching import WeightMatching, through_conversion

_KEEPS = ("pytorch", "tensorflow")
"""The frameworks whose optimizers can go on."""


def read(
    states: object, live: object, learning_rate: float | None = None, updates: int | None = None
) -> OptimizerState:
    """What an optimizer, or the file of one, keeps of the weights of a model in memory."""
    framework = frameworks.of(live)
    if framework.name == "onnx":
        raise UsageError("an ONNX graph has no optimizer", expected="a model of PyTorch, Keras or MXNet")
    states = Path(states) if isinstance(states, str | os.PathLike) else states
    found: OptimizerState = framework.module("optimizer").read(states, live, learning_rate, updates)
    return found


def demand(to: str) -> None:
    """Refuse a framework in which no optimizer goes on."""
    if to not in _KEEPS:
        raise UsageError(
            f"an optimizer's state cannot go on in {frameworks.named(to).title}",
            expected=", ".join(frameworks.named(name).title for name in _KEEPS),
        )


def carried(
    state: OptimizerState, live: object, target: object, given: Sequence[Example] | None
) -> OptimizerState:
    """The same of the weights of ``target``, which ``live`` has become."""
    to = frameworks.of(target).name
    demand(to)
    own, other = frameworks.of(live).module("optimizer"), frameworks.named(to).module("optimizer")
    other.demand(state, origin.named(live))
    theirs: Mapping[str, Array] = other.arrays(target)
    found = through_conversion(lambda values: own.holding(live, values), own.arrays(live), to, theirs, given)
    if found is None:
        return _by_values(state, own.arrays(live), theirs)
    return state.mapped(lambda values: _pushed(found, values), theirs)


def _pushed(found: WeightMatching, values: Mapping[str, Array]) -> dict[str, Array]:
    """One moment as the target has it. Of a sum of two weights both have the same gradient, and so the same moments."""
    vector = np.append(found.pool.flat(values), 0.0)  # what comes from nothing is the last
    return {
        name: vector[parts[0]]
        for name, parts in found.indices.items()
        if any(owner in values for owner in found.names[name])
    }


def _by_values(
    state: OptimizerState, own: Mapping[str, Array], theirs: Mapping[str, Array]
) -> OptimizerState:
    """The same where no conversion shows which weight is which: by the values that they have, and by their names."""
    found = {title: _source(title, array, state.moments, own) for title, array in theirs.items()}

    def push(values: Mapping[str, Array]) -> dict[str, Array]:
        return {
            title: values[name].T if turned else values[name]
            for title, (name, turned) in found.items()
            if name
        }

    return state.mapped(push, theirs)


def _source(title: str, array: Array, names: Mapping[str, Any], own: Mapping[str, Array]) -> tuple[str, bool]:
    """The weight of the source that a weight of the target has the values of, and whether it is transposed."""
    for turned in (False, True):
        wanted = array.T if turned else array
        same = [
            name for name, one in own.items() if one.shape == wanted.shape and np.array_equal(one, wanted)
        ]
        fits = [name for name in same if name in names]
        near = [name for name in fits if name.replace(".", "_").endswith(title.replace(".", "_"))] or fits
        if near:
            return near[0], turned
        if same:  # a statistic, or what is not trained
            return "", turned
    raise UsageError(
        f"no weight of the source has the values of '{title}'",
        remedy="Give the inputs of the conversion (inputs=), and take the state over before the first step",
    )
