"""What the inputs of a graph may hold: the keys of the tables of numbers in which they are looked up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array, Example, Range
from netferry.converters.tensorflow.graphdef.graph import Graph, Node, Ref
from netferry.converters.tensorflow.graphdef.model import GraphModel
from netferry.converters.tensorflow.graphdef.part import opened
from netferry.converters.tensorflow.graphdef.restore import handle_of

_FINDS = frozenset({"LookupTableFind", "LookupTableFindV2"})
_PASSING = frozenset("Cast ExpandDims Identity Reshape Squeeze StridedSlice Transpose".split())


def ranges(model: GraphModel, given: Sequence[Example] | None = None) -> dict[int, list[Range]]:
    """Nothing is declared in the file; rows of tables that are gathered are found in the graph in ONNX."""
    if not _FINDS & model.executed()[1]:
        return {}
    graph, found = opened(model), dict[int, list[Range]]()
    for place, port in enumerate(model.signature.inputs):
        for node in _finding(graph, port.ref):
            for known in Range.of_keys(_keys(model, graph, node)):
                found.setdefault(place, []).append(known)
    return found


def _finding(graph: Graph, begin: Ref) -> Iterator[Node]:
    """The nodes that look up what an input holds, through those that only pass it on."""
    passed, news = set[Ref](), {begin}
    while news:
        passed |= news
        news = {
            Ref(node.name, 0)
            for node in graph.nodes.values()
            if node.operator in _PASSING and node.inputs and node.inputs[0] in news
        } - passed
    yield from (
        node
        for node in graph.nodes.values()
        if node.operator in _FINDS and len(node.inputs) > 1 and node.inputs[1] in passed
    )


def _keys(model: GraphModel, graph: Graph, node: Node) -> Array | None:
    """The keys of the table in which a node looks, where they are numbers that are known."""
    table = graph.nodes[node.inputs[0].node]
    while table.operator == "Identity" and table.inputs:
        table = graph.nodes[table.inputs[0].node]
    try:
        keys, _ = model.table(handle_of(table).name)
    except RefusedError:
        return None
    return None if keys is None or isinstance(keys, list) else np.asarray(keys)
