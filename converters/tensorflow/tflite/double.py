"""A TFLite model has no float64 form: its interpreter has kernels of float32 and whole numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.signature import Array, Example
from netferry.converters.tensorflow.tflite.model import LiteModel

Change = Callable[[str, Array], Array]


def as_float64(model: LiteModel, change: Change | None = None, given: Sequence[Example] | None = None) -> Any:
    raise CannotConvert("TFLite's interpreter does not compute in float64")


def weights(model: LiteModel) -> dict[str, Array]:
    """Every constant of floats by its name, as it is."""
    return model.weights


def size(model: LiteModel) -> int:
    """The number of weights."""
    return sum(math.prod(array.shape) for array in model.weights.values())


def constants(model: LiteModel) -> set[float]:
    """The file holds its floats as weights."""
    return set()


def narrowest(model: LiteModel) -> str:
    """The interpreter computes in float32, whatever weights are stored as."""
    return "float32"


def run_rounded(wide: Any, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    raise CannotConvert("TFLite's interpreter does not compute in float64")
