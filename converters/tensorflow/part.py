"""A part of a Keras model: from the output of some of its layers to that of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netferry.converters import origin
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.part import found
from netferry.converters.signature import Example, TensorSpec
from netferry.converters.tensorflow.declared import dims_of
from netferry.converters.tensorflow.interface import functional, interface_of
from netferry.converters.tensorflow.runtime import keras


def cut(
    model: Any, outputs: Sequence[str], inputs: Sequence[str], given: tuple[Example, ...] | None
) -> tuple[Any, tuple[Example, ...] | None]:
    """The model from what the layers ``inputs`` give to what the layers ``outputs`` give; its weights are shared.

    A layer of a model inside the model is named by the path of both: ``backbone/conv5``.
    """
    graph = _graph(model, given)
    ends = [_output(graph, name) for name in outputs] or list(graph.outputs)
    begins = [_output(graph, name) for name in inputs]
    needed = _needed(ends, begins)
    own = [tensor for tensor in graph.inputs if id(tensor) in needed]
    for name, tensor in zip(inputs, begins, strict=True):
        if id(tensor) not in needed:
            raise UsageError(f"nothing between the part's begin and end reads '{name}'")
    entering = [*own, *begins]
    try:
        part = keras.Model(
            entering[0] if len(entering) == 1 else entering,
            ends[0] if len(ends) == 1 else ends,
            name=f"{model.name}_part",
        )
    except ValueError as error:
        raise RefusedError(
            f"Keras cannot cut the model there ({error})", where=origin.named(model)
        ) from error
    for name, tensor in zip(inputs, part.inputs[len(own) :], strict=True):
        tensor._keras_history.operation.name = name  # Keras calls it by a number
    left = {spec.name for spec in interface_of(part).inputs(None).specs}
    return part, None if given is None else tuple(one for one in given if one.name in left) or None


def layers(
    model: Any,
    export: ExportedModel,
    given: tuple[Example, ...] | None,
) -> tuple[TensorSpec, ...]:
    """What each layer gives, those of models inside the model by their paths."""
    return tuple(
        TensorSpec(path, np.dtype(tensor.dtype), dims_of(path, tensor.shape))
        for path, tensor in _outputs(_graph(model, given))
    )


def _graph(model: Any, given: Sequence[Example] | None) -> Any:
    graph = functional(model) if isinstance(model, keras.Model) else None
    if graph is None and isinstance(model, keras.Sequential) and given:
        interface_of(model, given)  # builds it
        graph = functional(model)
    if graph is None:
        raise RefusedError(
            "only a Keras model that is a graph of layers is cut by their names",
            where=origin.named(model),
            received=type(model).__name__,
            remedy="Convert it to ONNX, and cut that",
        )
    return graph


def _outputs(graph: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for operation in graph.operations:
        if isinstance(operation, keras.layers.InputLayer) or len(operation._inbound_nodes) == 0:
            continue
        tensors = _given(graph, operation)
        if len(tensors) == 1:
            yield f"{path}{operation.name}", tensors[0]
        inner = functional(operation) if isinstance(operation, keras.Model) else None
        if inner is not None:
            yield from _outputs(inner, f"{path}{operation.name}/")


def _given(graph: Any, operation: Any) -> list[Any]:
    """What a layer gives in this model, at its first call there; it may have others in other models."""
    ours = {id(node) for nodes in graph._nodes_by_depth.values() for node in nodes}
    return next((list(node.output_tensors) for node in operation._inbound_nodes if id(node) in ours), [])


def _output(graph: Any, name: str) -> Any:
    """The tensor that a layer gives; within a model inside, in the words of the outer model."""
    paths = dict(_outputs(graph))
    found(name, paths, "layer")
    outer, _, rest = name.partition("/")
    if name in {operation.name for operation in graph.operations} or not rest:
        return found(name, paths, "layer")
    layer = next(operation for operation in graph.operations if operation.name == outer)
    inner: Any = functional(layer)
    node = next(one for one in layer._inbound_nodes if one.output_tensors[0] is _given(graph, layer)[0])
    tensors = list(node.input_tensors)
    opened = keras.Model(inner.inputs, _output(inner, rest), name=f"{outer}_{rest.replace('/', '_')}")
    return opened(tensors[0] if len(tensors) == 1 else tensors)


def _needed(ends: Sequence[Any], begins: Sequence[Any]) -> set[int]:
    """The tensors that the ends are made of, as far back as the begins."""
    stop, seen, waiting = {id(tensor) for tensor in begins}, set[int](), list(ends)
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        history = getattr(tensor, "_keras_history", None)
        if id(tensor) not in stop and history is not None and history.operation is not None:
            waiting += history.operation._inbound_nodes[history.node_index].input_tensors
    return seen
