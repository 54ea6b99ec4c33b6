"""Loss, gradients and steps of the model, as TensorFlow trains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.native import module, native


def Training(model: GraphModel, inputs: int) -> Any:
    """TensorFlow's own, of what it has loaded."""
    return module("training").Training(native(model), inputs)


def rehearse(model: GraphModel, inputs: Sequence[Array]) -> str:
    return str(module("training").rehearse(native(model), inputs))
