"""The tensors inside the model while TensorFlow runs it, operation by operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Take
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.native import module, native


def stream(model: GraphModel, arrays: Sequence[Array], take: Take) -> Ends:
    """Run in inference mode and hand each operation to ``take``."""
    found: Ends = module("intermediate").stream(native(model), arrays, take)
    return found


def weights(model: GraphModel) -> Iterator[tuple[str, Array]]:
    """Variables by their names."""
    yield from module("intermediate").weights(native(model))


def piece(model: GraphModel, name: str, reads: Mapping[str, Array], gives: str) -> Any | None:
    """A graph of operators has no layers to take out."""
    return None
