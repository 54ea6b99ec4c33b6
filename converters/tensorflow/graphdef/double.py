"""The model in float64: TensorFlow's own graph of it, widened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from netferry.converters.signature import Array, Example
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.native import module, native

Change = Callable[[str, Array], Array]


def as_float64(
    model: GraphModel, change: Change | None = None, given: Sequence[Example] | None = None
) -> Any:
    """The model with weights and arithmetic in float64."""
    return module("double").as_float64(native(model), change, given)


def weights(model: GraphModel) -> dict[str, Array]:
    """Every variable of floats by its name, as it is."""
    found: dict[str, Array] = module("double").weights(native(model))
    return found


def size(model: GraphModel) -> int:
    """The number of weights."""
    return int(module("double").size(native(model)))


def constants(model: GraphModel) -> set[float]:
    """The graph holds its floats as weights."""
    return set()


def narrowest(model: GraphModel) -> str:
    """The shortest float dtype that the model computes in, or holds weights of."""
    return str(module("double").narrowest(native(model)))


def run_rounded(wide: Any, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    """Outputs of a float64 run whose every operation rounds to ``u`` by chance."""
    found: dict[str, Array] = module("double").run_rounded(wide, arrays, u, seed)
    return found
