"""Keras to ONNX: the model runs on symbols and each layer and operation that it calls is written.

Sequential, functional and subclassed models take one route (``trace.py``); a layer or an operation of
``keras.ops`` is a row of a table (``emitter.ROWS``). Functions of TensorFlow, and models with something that has no row,
are written operator by operator (``fallback.py``), by tf2onnx where one of them has no row.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import Unsupported, UnsupportedError
from netferry.converters.exported import ExportedModel
from netferry.converters.signature import Example
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.interface import ModelInterface, functional, interface_of
from netferry.converters.tensorflow.runtime import Functional, keras
from netferry.converters.tensorflow.specs import named_outputs, served_specs, tensor_specs, traced_outputs
from netferry.converters.tensorflow.to_onnx import (
    activations,
    attention,
    convolution,
    elementwise,
    embedding,
    fallback,
    image,
    indexing,
    linear,
    merging,
    normalization,
    pooling,
    preprocessing,
    random,
    recurrent,
    recurrent_steps,
    reduction,
    shape,
)
from netferry.converters.tensorflow.to_onnx.emitter import Emitter
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import Traced
from netferry.converters.tensorflow.to_onnx.trace import TRAINING, OutrightError, Walk, title


def to_onnx(model: Any, given: Sequence[Example] | None = None) -> ExportedModel:
    """Convert a Keras model, a SavedModel or a function of TensorFlow.

    Raises:
        UsageError: the model does not declare its sizes and ``given`` is None.
        UnsupportedError: layers that neither netferry nor tf2onnx converts, all of them at once.
    """
    interface = interface_of(model, given)
    if not isinstance(model, keras.Model):
        return fallback.by_operator(interface, given)
    _refuse_outright(model)
    try:
        return _direct(model, interface, given)
    except OutrightError:
        raise
    except UnsupportedError as error:
        return fallback.by_operator(interface, given, error)


def _direct(model: Any, interface: ModelInterface, given: Sequence[Example] | None) -> ExportedModel:
    bound = interface.inputs(given)
    if not model.built and given is not None:
        interface.call([example.array for example in given])
    g = Emitter(model.name, model.variables)
    named = Walk(g)(interface.call, [Traced(g.input(spec)) for spec in bound.specs])
    for name, x in named.items():
        g.output(x.tensor if isinstance(x, Traced) else g.lift(np.asarray(x)), name)
    exported = g.finish()
    written = exported.graph.initializers
    made_of = {name: sources for name, sources in g.made_of.items() if name in written}
    return ExportedModel(exported, notes=bound.notes, weights=made_of)


# ---- what is refused before any work --------------------------------------------------------


def _refuse_outright(model: Any) -> None:
    """What no route converts rightly: states kept between calls, training, arithmetic that ONNX would change."""
    problems = [
        Unsupported(layer.name, type(layer).__name__, *reason)
        for layer in model._flatten_layers(include_self=False)
        if (reason := _why_not(layer)) is not None
    ]
    graph = functional(model)
    problems += [
        Unsupported(name, title(node.operation), TRAINING)
        for name, node in ({} if graph is None else dict(_calls(graph, ""))).items()
        if node.arguments.kwargs.get("training") and not _trains_by_itself(node.operation)
    ]
    if problems:
        raise UnsupportedError(problems)


def _trains_by_itself(layer: Any) -> bool:
    """Whether training is what a layer takes for granted by default; Keras notes it in the graph."""
    asked = inspect.signature(layer.call).parameters.get("training")
    return asked is not None and bool(asked.default)


def _why_not(layer: Any) -> tuple[str, str] | None:
    if getattr(layer, "stateful", False) and isinstance(layer, keras.layers.RNN):
        return (
            "it keeps its state from one call to the next",
            "Build it with stateful=False and pass the state",
        )
    for kinds, reason in _OF_TEXT.items():
        if isinstance(layer, kinds):
            return reason, "Give the model what this layer makes of them, indices: --input-at takes its name"
    if layer.compute_dtype == "bfloat16":
        return (
            f"it computes in bfloat16 ({layer.dtype_policy.name}), which onnxruntime does not",
            "Set layer.dtype_policy = 'float32' on every layer and convert again",
        )
    return None


_OF_TEXT = {
    (keras.layers.StringLookup, keras.layers.TextVectorization): "it works on strings",
    (
        keras.layers.Hashing,
        keras.layers.HashedCrossing,
    ): "it hashes numbers as text, which ONNX does not hold",
}


def _calls(graph: Functional, prefix: str) -> Iterator[tuple[str, Any]]:
    """Each call of an operation with the operation's name, in inner models ``model/layer``."""
    for node in _nodes(graph):
        name, inner = prefix + node.operation.name, _inner(node.operation)
        if inner is None:
            yield name, node
        else:
            yield from _calls(inner, f"{name}/")


def _inner(operation: Any) -> Functional | None:
    return functional(operation) if isinstance(operation, keras.Model) else None


def _nodes(graph: Functional) -> Iterator[Any]:
    """The calls of operations in a graph of Keras' own."""
    for nodes in graph._nodes_by_depth.values():
        yield from (node for node in nodes if node.operation and not node.is_input)
