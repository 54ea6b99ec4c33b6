"""A graph of TensorFlow's operators to ONNX: what a signature executes is written row by row, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from netferry.converters.errors import Unsupported, UnsupportedError
from netferry.converters.exported import ExportedModel
from netferry.converters.frameworks import named
from netferry.converters.graph.ir.build import OPSET, Tensor
from netferry.converters.signature import Example, TensorSpec
from netferry.converters.tensorflow.graphdef.frames import with_functions
from netferry.converters.tensorflow.graphdef.inputs import specs_of
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.native import native
from netferry.converters.tensorflow.graphdef.to_onnx import (
    bicubic,
    branches,
    complex_numbers,
    control_flow,
    convolution,
    elementwise,
    image,
    indexing,
    linear,
    lists,
    lookups,
    loops,
    normalization,
    pooling,
    reduction,
    shape,
    special,
)
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.walk import Complex, Text, Walk

__all__ = [
    "bicubic", "branches", "complex_numbers", "control_flow", "convolution", "elementwise", "image", "indexing", "linear", "lists", "lookups", "loops", "normalization", "pooling",
    "reduction", "shape", "special", "to_onnx",
]  # fmt: skip


def to_onnx(model: GraphModel, given: Sequence[Example] | None = None) -> ExportedModel:
    """Convert the signature that is meant.

    Raises:
        UnsupportedError: what it executes has operators without a row, all of them at once.
    """
    found = specs_of(model, given)
    try:
        return direct(model, found.specs, found.notes)
    except UnsupportedError as error:
        if model.source is None or not named("tensorflow").installed:
            raise
        fallback = import_module("netferry.converters.tensorflow.to_onnx.fallback")
        converted: ExportedModel = fallback.convert_native(native(model), given, error)
        return converted


def direct(
    model: GraphModel, specs: Sequence[TensorSpec], notes: Sequence[str] = (), *, opset: int = OPSET
) -> ExportedModel:
    """The route of our own: inputs of these sizes."""
    signature = model.signature
    g = Emitter("tensorflow", opset)
    fed: dict[str, Any] = {
        port.ref.node: g.input(spec) for port, spec in zip(signature.inputs, specs, strict=True)
    }
    fed |= {name: g.constant(x) if isinstance(x, np.ndarray) else x for name, x in model.captured.items()}
    graph = with_functions(model.graph, model.label)
    results = Walk(model, g).outputs(graph, [port.ref for port in signature.outputs], fed)
    for port, value in zip(signature.outputs, results, strict=True):
        with g.scope(port.name):
            g.output(_output(model, g, port.name, value), port.name)
    exported = g.finished()
    made_of = {name: of for name, of in g.made_of.items() if name in exported.graph.initializers}
    return ExportedModel(exported, notes=tuple(notes), weights=made_of)


def _output(model: GraphModel, g: Emitter, name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        what = _NO_TENSOR.get(type(value), "what is no tensor")
        raise UnsupportedError(
            [Unsupported(name, "output", f"it gives {what}, which ONNX models do not")], where=model.label
        )
    return value


_NO_TENSOR = {Text: "strings", Complex: "complex numbers"}
