"""What the inputs of a graph may hold: the rows of the tables that they index."""

from __future__ import annotations

from collections.abc import Sequence

from netferry.converters.signature import Example, Range
from netferry.converters.tensorflow.graphdef.model import GraphModel


def ranges(model: GraphModel, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """Nothing is declared in the file; what the graph in ONNX says is found there."""
    return {}
