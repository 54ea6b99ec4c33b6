"""A model that was read without TensorFlow, in memory: recognised here, run by TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.native import module, native


def accepts(model: object) -> bool:
    return isinstance(model, GraphModel)


def signatures(model: GraphModel) -> tuple[str, ...]:
    """The signatures of the file, by name; of a frozen graph none."""
    return tuple(model.signatures)


def served(model: GraphModel, name: str) -> GraphModel:
    """The model as the signature of this name serves it."""
    return model.called_by(name)


def run(model: Any, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run in TensorFlow itself, the model or its float64 form: inputs by position, outputs by name and in order."""
    found: dict[str, Array] = module("live").run(native(model) if accepts(model) else model, arrays)
    return found
