"""What a symbol's inputs may hold, from the operators that read them as indices, lengths or boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from netferry.converters.mxnet import inputs
from netferry.converters.mxnet.live import symbol_model
from netferry.converters.mxnet.symbol import Node
from netferry.converters.signature import Example, Range

_PASSING = frozenset("Cast Flatten Reshape SwapAxis _copy expand_dims slice_axis squeeze transpose".split())
_SEQUENCES = frozenset("SequenceLast SequenceMask SequenceReverse".split())
_BOXES = frozenset("ROIPooling _contrib_ROIAlign".split())


def ranges(model: Any, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """By the position of the input."""
    source = symbol_model(model, given)
    graph = source.graph
    taken = inputs.variables(source).inputs
    found: dict[int, list[Range]] = {}

    def origin(position: int) -> int | None:
        while position not in taken:
            node = graph.nodes[position]
            if node.op not in _PASSING:
                return None
            position = node.inputs[0][0]
        return taken.index(position)

    for position in graph.order:
        node = graph.nodes[position]
        for reads, one in _rows(node, [origin(entry[0]) for entry in node.inputs]):
            at = None if reads >= len(node.inputs) else origin(node.inputs[reads][0])
            if at is not None:
                found.setdefault(at, []).append(one)
    return found


def _rows(node: Node, origins: Sequence[int | None]) -> Iterator[tuple[int, Range]]:
    """(which input of the operator, what it may hold)."""
    first = origins[0] if origins else None
    if node.op in ("Embedding", "_contrib_SparseEmbedding") and "input_dim" in node.attrs:
        yield 0, Range(0, int(node.attrs["input_dim"]) - 1)
    if node.op in _SEQUENCES:
        axis = int(node.attrs.get("axis", "0"))
        yield 1, Range(1, None if first is None else 0, None if first is None else (first, axis))
    if node.op in _BOXES:
        yield 1, Range(0, 0 if first is None else -1, None if first is None else (first, 0), column=0)
