"""A part of a TFLite model: from some tensors of the subgraph that its signature runs to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from netferry.converters.errors import UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.part import found
from netferry.converters.signature import Example, TensorSpec
from netferry.converters.tensorflow.declared import dims_of
from netferry.converters.tensorflow.tflite.files import port_of
from netferry.converters.tensorflow.tflite.graph import needed
from netferry.converters.tensorflow.tflite.model import LiteModel, place_of


def cut(
    model: LiteModel, outputs: Sequence[str], inputs: Sequence[str], given: tuple[Example, ...] | None
) -> tuple[LiteModel, tuple[Example, ...] | None]:
    """The model from the tensors ``inputs`` to the tensors ``outputs``."""
    known, own = _places(model), model.signature
    ends = tuple(port_of(model.main, found(name, known), name) for name in outputs) or own.outputs
    begins = tuple(port_of(model.main, found(name, known), name) for name in inputs)
    starts = {place_of(port) for port in begins}
    read = {
        index
        for each in needed(model.main, [place_of(port) for port in ends], starts)
        for index in each.inputs
    }
    read |= {place_of(port) for port in ends}
    for port in begins:
        if place_of(port) not in read:
            raise UsageError(f"nothing between the part's begin and end reads '{port.name}'")
    kept = tuple(port for port in own.inputs if place_of(port) in read - starts)
    part = replace(model, meant=replace(own, inputs=(*kept, *begins), outputs=ends), cut=True)
    left = {port.name for port in part.signature.inputs}
    return part, None if given is None else tuple(one for one in given if one.name in left) or None


def layers(
    model: LiteModel, export: ExportedModel, given: tuple[Example, ...] | None
) -> tuple[TensorSpec, ...]:
    """What each operator gives."""
    tensors = model.main.tensors
    return tuple(
        TensorSpec(name, tensors[index].dtype, dims_of(name, tensors[index].dims or ()))  # type: ignore[arg-type]
        for name, index in _places(model).items()
        if tensors[index].dtype is not None
    )


def _places(model: LiteModel) -> Mapping[str, int]:
    """What operators give, by the names of the file, and by the first of those that TFLite has joined."""
    made = [index for operation in model.main.operations for index in operation.outputs]
    names = {model.main.tensors[index].name.partition(";")[0]: index for index in reversed(made)}
    return {name: names[name] for name in reversed(names)} | {
        model.main.tensors[index].name: index for index in made
    }
