"""The tensors inside a TFLite model while its interpreter runs it, operator by operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Step, Take
from netferry.converters.tensorflow.graphdef.native import module
from netferry.converters.tensorflow.tflite.model import LiteModel, place_of


def stream(model: LiteModel, arrays: Sequence[Array], take: Take) -> Ends:
    """Run once with all tensors kept, and hand each operator to ``take``."""
    graph = model.main
    names = [tensor.name or f"tensor_{index}" for index, tensor in enumerate(graph.tensors)]
    constant = {index for index, tensor in enumerate(graph.tensors) if tensor.content is not None}
    for operation, given in module("tflite.interpreter").steps(model, arrays):
        reads = [index for index in operation.inputs if index >= 0]
        step = Step(
            names[operation.outputs[0]] if operation.outputs else operation.name,
            operation.name,
            tuple(names[index] for index in reads if index not in constant),
            tuple(names[index] for index in given),
            tuple(names[index] for index in reads if index in constant),
        )
        take(step, {names[index]: array for index, array in given.items()})
    inputs = tuple(names[place_of(port)] for port in model.signature.inputs)
    return Ends(inputs, {port.name: names[place_of(port)] for port in model.signature.outputs})


def weights(model: LiteModel) -> Iterator[tuple[str, Array]]:
    """Constants of floats by their names."""
    yield from model.weights.items()


def piece(model: LiteModel, name: str, reads: Mapping[str, Array], gives: str) -> Any | None:
    """A file of operators has no layers to take out."""
    return None
