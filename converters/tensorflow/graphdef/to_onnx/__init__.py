"""A graph of TensorFlow's operators to ONNX: what a signature executes is written row by row, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, Unsupported, UnsupportedError
from netferry.converters.exported import ExportedModel
from netferry.converters.frameworks import named
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import OPSET, Tensor
from netferry.converters.signature import Example, TensorSpec
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.frames import with_functions
from netferry.converters.tensorflow.graphdef.inputs import specs_of
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.native import native
from netferry.converters.tensorflow.graphdef.to_onnx import (
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
    random,
    reduction,
    resampling,
    shape,
    special,
)
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Emitter
from netferry.converters.tensorflow.graphdef.to_onnx.walk import DRAWS, KEEPS, Complex, Drawn, Text, Walk

__all__ = [
    "complex_numbers", "control_flow", "convolution", "elementwise", "image", "indexing", "linear", "lists", "lookups", "loops", "normalization", "pooling",
    "random", "reduction", "resampling", "shape", "special", "to_onnx",
]  # fmt: skip


def to_onnx(model: GraphModel, given: Sequence[Example] | None = None) -> ExportedModel:
    """Convert the signature that is meant.

    Raises:
        UnsupportedError: what it executes has operators without a row, all of them at once.
    """
    found = specs_of(model, given)
    _refuse_texts(model)
    try:
        return direct(model, found.specs, found.notes)
    except UnsupportedError as error:
        if is_final(error) or model.source is None or not named("tensorflow").installed:
            raise
        try:
            held = native(model)
        except RefusedError:  # then what stands in our way says more
            raise error from None
        fallback = import_module("netferry.converters.tensorflow.to_onnx.fallback")
        converted: ExportedModel = fallback.convert_native(held, given, error)
        return converted


def is_final(error: UnsupportedError) -> bool:
    """Whether no other route gives the model's results either: tf2onnx writes such a graph without a word, or makes it however large."""
    return isinstance(error.__cause__, budget.TooMuch) or any(
        problem.reason in (DRAWS[0], KEEPS[0]) for problem in error.problems
    )


def _refuse_texts(model: GraphModel) -> None:
    """Outputs that are declared as strings (an estimator's ``classes``), with those that can be asked for instead."""
    outputs = model.signature.outputs
    others = " ".join(f"--output {port.name}" for port in outputs if not messages.is_text(port.dtype))
    remedy = f"Ask for the others: {others}" if others else "End the model before them: --output NODE"
    texts = [
        Unsupported(port.name, "output", "it gives strings, which ONNX models do not", remedy)
        for port in outputs
        if messages.is_text(port.dtype)
    ]
    if texts:
        raise UnsupportedError(texts, where=model.label)


def direct(
    model: GraphModel, specs: Sequence[TensorSpec], notes: Sequence[str] = (), *, opset: int = OPSET
) -> ExportedModel:
    """The route of our own: inputs of these sizes."""
    signature = model.signature
    g = Emitter("tensorflow", opset)
    fed: dict[str, list[Any]] = {}
    for port, spec in zip(signature.inputs, specs, strict=True):
        held = fed.setdefault(port.ref.node, [])
        held += [None] * (port.ref.port + 1 - len(held))
        held[port.ref.port] = g.input(spec)
    for name, x in model.captured.items():
        fed[name] = [g.constant(x) if isinstance(x, np.ndarray) else x]
    graph = with_functions(model.graph, model.label)
    results = Walk(model, g).outputs(graph, [port.ref for port in signature.outputs], fed)
    for port, value in zip(signature.outputs, results, strict=True):
        with g.scope(port.name):
            g.output(_output(model, g, port.name, value), port.name)
    exported = g.finished()
    made_of = {name: of for name, of in g.made_of.items() if name in exported.graph.initializers}
    notes = [*notes, _WIDENED] if model.holds(messages.BFLOAT16) else notes
    return ExportedModel(exported, notes=tuple(notes), weights=made_of)


_WIDENED = "what the model computes in bfloat16 is computed in float32: onnxruntime computes next to nothing in bfloat16"


def _output(model: GraphModel, g: Emitter, name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        what = next(
            (title for kind, title in _NO_TENSOR.items() if isinstance(value, kind)), "what is no tensor"
        )
        raise UnsupportedError(
            [Unsupported(name, "output", f"it gives {what}, which ONNX models do not")], where=model.label
        )
    return value


_NO_TENSOR = {Text: "strings", Complex: "complex numbers", Drawn: "random numbers"}
