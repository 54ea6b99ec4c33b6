"""A TFLite model has no float64 form: its interpreter has kernels of float32 and whole numbers alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.rounding import Step
from netferry.converters.signature import Array, Example
from netferry.converters.tensorflow.tflite.model import LiteModel, place_of

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


def steps(model: LiteModel) -> dict[str, Step]:
    """How each output is rounded that is made of whole numbers: it is stored as them, or read from what is.

    Where activations are quantised while the model runs (weights of int8, inputs of floats), a step is a share of an output.
    """
    found = {}
    for port in model.signature.outputs:
        tensor = model.origin_of(place_of(port))
        if tensor.quantised is not None and tensor.dtype is not None and tensor.dtype.kind in "iu":
            stored = model.main.tensors[place_of(port)].dtype == tensor.dtype
            size = 1.0 if stored else float(tensor.quantised.scale.max())
            found[port.name] = Step(size, _MOST if tensor.dtype.itemsize == 1 else _MOST_OF_16)
        elif model.stores("int8", "uint8", "int16"):
            found[port.name] = Step(1 / 127, _MOST_IN_FLIGHT, relative=True)
    return found


def reaches(model: LiteModel) -> dict[str, float]:
    """The largest value of each output that a function makes which has one."""
    made = {port.name: model.made_by(place_of(port)) for port in model.signature.outputs}
    return dict.fromkeys((name for name, operator in made.items() if operator in _BOUNDED), 1.0)


_BOUNDED = frozenset(("LOGISTIC", "SOFTMAX", "TANH"))
_MOST, _MOST_OF_16, _MOST_IN_FLIGHT = 2.0, 16.0, 2.0
"""Steps: of 8 bits; of 16, whose functions are tables that are interpolated; of activations quantised as they come."""


def run_rounded(wide: Any, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    raise CannotConvert("TFLite's interpreter does not compute in float64")
