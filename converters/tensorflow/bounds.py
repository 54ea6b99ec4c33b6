"""What a Keras model's inputs may hold: the rows of the Embedding that they reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.signature import Example, Range
from netferry.converters.tensorflow.interface import Subclassed, interface_of
from netferry.converters.tensorflow.runtime import keras

_PASSING = frozenset(
    "Cast ExpandDims Flatten GetItem Identity Masking Permute Reshape SpatialDropout1D Squeeze Transpose".split()
)
"""Layers and operations that hand indices on as they are."""


def ranges(model: Any, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """By the position of the input; nothing is known of a model whose layers cannot be walked."""
    interface = interface_of(model, given)
    if isinstance(interface, Subclassed) and given is None:
        return {place: [Range(0, rows - 1)] for place, rows in interface.looked_up().items()}
    graph = getattr(interface, "graph", None)
    positions = (
        {id(tensor): position for position, tensor in enumerate(graph.inputs)} if graph is not None else {}
    )
    found: dict[int, list[Range]] = {}
    for layer in graph.operations if graph is not None else ():
        if isinstance(layer, keras.layers.Embedding):
            for node in layer._inbound_nodes:
                position = _origin(node.input_tensors[0], positions)
                if position is not None:
                    found.setdefault(position, []).append(Range(0, layer.input_dim - 1))
    return found


def _origin(tensor: Any, positions: dict[int, int]) -> int | None:
    """The input that a tensor is, but for its shape and type."""
    while id(tensor) not in positions:
        operation, index, _ = tensor._keras_history
        if type(operation).__name__ not in _PASSING:
            return None
        tensor = operation._inbound_nodes[index].input_tensors[0]
    return positions[id(tensor)]
