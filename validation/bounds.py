"""The largest integer that an input may take, where the model says it: the rows of the table it looks into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx

from netferry.converters import frameworks

PASSING = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose")
"""Operators that hand indices on as they are."""


def largest_integers(*models: object) -> dict[str, int]:
    """By input; what is not known is left out. Only an ONNX graph in memory says it."""
    found: dict[str, int] = {}
    for model in models:
        if isinstance(model, onnx.ModelProto) and frameworks.of(model).name == "onnx":
            for name, rows in _looked_into(model.graph):
                found[name] = min(found.get(name, rows - 1), rows - 1)
    return found


def _looked_into(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    sizes: Mapping[str, list[int]] = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    origin = {value.name: value.name for value in graph.input if value.name not in sizes}
    for node in graph.node:
        if node.op_type in PASSING and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        if node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in origin:
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
            yield origin[node.input[1]], sizes[node.input[0]][axis]
