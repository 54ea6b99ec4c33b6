"""The tensors inside a Keras or TensorFlow model while it runs.

A functional model is run layer by layer, as its graph stands; any other model runs eagerly, and TensorFlow reports
each operation; a SavedModel's graph is run operation by operation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import NetferryError, RefusedError, first_line
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Array, examples
from netferry.converters.steps import Ends, Take
from netferry.converters.tensorflow.interface import Concrete, Layered, functional, interface_of
from netferry.converters.tensorflow.layer_steps import has_activation, run_layers
from netferry.converters.tensorflow.operation_steps import run_eagerly, run_graph
from netferry.converters.tensorflow.runtime import keras, tf


def stream(model: object, arrays: Sequence[Array], take: Take) -> Ends:
    """Run in inference mode and hand each layer or operation to ``take``."""
    interface = interface_of(model, examples(arrays))
    tensors = [tf.convert_to_tensor(array) for array in arrays]
    try:
        if isinstance(interface, Layered):
            return run_layers(interface, tensors, take)
        if isinstance(interface, Concrete):
            return run_graph(interface, tensors, take)
        return run_eagerly(interface, tensors, take)
    except NetferryError:
        raise
    except Exception as error:
        raise RefusedError(f"TensorFlow could not run the model ({first_line(error)})") from error


def weights(model: Any) -> Iterator[tuple[str, Array]]:
    """Variables by their paths, numbered where two have one path; a bare function has those that it borrows."""
    taken: set[str] = set()
    kept: Iterable[Any] = getattr(model, "weights", None) or getattr(model, "variables", None) or ()
    for variable in kept:
        yield unique(getattr(variable, "path", variable.name), taken), np.asarray(variable)


def piece(
    model: Any,
    name: str,
    reads: Mapping[str, Array],
    gives: str,
) -> Any | None:
    """The layers that compute the tensor ``gives`` from ``reads``, where the model is made of layers, each called once.

    What a layer gives before its activation comes from the layer without it.
    """
    graph = functional(model) if isinstance(model, keras.Model) else None
    if graph is None:
        return None
    title, _, activation = gives.partition("/")
    layer = {operation.name: operation for operation in graph.operations}.get(title)
    if not isinstance(layer, keras.Layer):
        return None
    try:
        if activation and list(reads) == [title]:
            x = keras.Input(batch_shape=layer.output.shape, dtype=layer.output.dtype)
            return keras.Model(x, keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)(x))
        inputs = [_symbol(graph, read) for read in reads]
        whole = activation or not has_activation(layer)
        inside = inputs[0] if len(inputs) == 1 else inputs
        return keras.Model(inside, layer.output if whole else _bare(layer)(layer.input))
    except (
        KeyError,
        ValueError,
        AttributeError,
        TypeError,
    ):  # a layer that is called twice, a copy that needs more
        return None


def _symbol(graph: Any, tensor: str) -> Any:
    """A tensor between two layers, or an input, in the model's graph."""
    inputs = {f"input_{position}": symbol for position, symbol in enumerate(graph.inputs)}
    if tensor in inputs:
        return inputs[tensor]
    title, _, activation = tensor.partition("/")
    layer = {operation.name: operation for operation in graph.operations}[title]
    if has_activation(layer) and not activation:
        raise KeyError(tensor)
    return layer.output


def _bare(layer: Any) -> Any:
    bare = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    bare.build(layer.input.shape)
    bare.set_weights(layer.get_weights())
    return bare


# ---- layer by layer -----------------------------------------------------------------------------------


# ---- operation by operation -----------------------------------------------------------------------------


# ---- a graph of operations ------------------------------------------------------------------------------
