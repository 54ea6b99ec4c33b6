"""A smaller ONNX model that computes the same, for who asks: ``--simplify``.

1. Branches that sizes or constants decide are in the place of their If.
2. What is known before the model runs is a weight, not a chain of nodes: shapes, axes, masks. Weights that are trained are moved
   and never computed with, so each stays the weight that it was. Floats that come of arithmetic stay nodes, since a weight would
   hold them rounded, and so does what takes more room than the nodes that make it.
3. What hands on its input as it is, and what nothing reads, is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from netferry.converters.graph.inference import contents
from netferry.converters.graph.inference.evaluate import Evaluator, declared_dtype
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.passes.normalize import evaluated
from netferry.converters.onnx.part import drop_unread
from netferry.converters.onnx.to_onnx.opset import to_opset
from netferry.converters.signature import Array

_NODE = 1024
"""Bytes of a weight that may stand in the place of any node."""


def simplified(model: ir.Model) -> tuple[ir.Model, int]:
    """The model at its own opset, and how many nodes it has less."""
    nodes = list(model.graph.all_nodes())
    graph, evaluator = evaluated(model, {node.op_type for node in nodes}, opens=False)
    graphs = (graph, *graph.subgraphs())
    _write_constants(graphs, evaluator)
    for inside in graphs:
        _write_sizes(inside, evaluator)
        _pass_on(inside)
    drop_unread(graph)
    whole = rebuilt(graph, model)
    return whole, len(nodes) - sum(1 for _ in whole.graph.all_nodes())


def rebuilt(graph: ir.Graph, model: ir.Model) -> ir.Model:
    """A graph that was made of a model's, as a model at its opset, with all else that it says of itself."""
    opsets = {**model.opset_imports}
    made = ir.Model(
        graph,
        ir_version=max(model.ir_version, 8),
        producer_name=model.producer_name,
        producer_version=model.producer_version,
        metadata_props=dict(model.metadata_props),
    )
    graph.opset_imports.update({domain: version for domain, version in opsets.items() if domain})
    own = opsets.get("", opsets.get("ai.onnx"))
    return made if own is None else to_opset(made, own)


def _write_constants(graphs: Sequence[ir.Graph], evaluator: Evaluator) -> None:
    """Weights for all values that are known, where nodes are left that read them."""
    for graph, value, array in list(_constants(graphs, evaluator)):
        weight = ir.Value(
            name=f"{value.name}_known",
            type=ir.TensorType(contents.onnx_dtype(array.dtype)),
            shape=ir.Shape(array.shape),
            const_value=ir.tensor(array, name=f"{value.name}_known"),
        )
        graph.register_initializer(weight)
        value.replace_all_uses_with(weight)


def _constants(
    graphs: Sequence[ir.Graph], evaluator: Evaluator
) -> Iterator[tuple[ir.Graph, ir.Value, Array]]:
    """Values that are worth a weight, and what they hold: one that takes no more room than the nodes in its place."""
    facts = evaluator.facts
    room = {
        x: fact.constant.nbytes
        for graph in graphs
        for x in graph.initializers.values()
        if (fact := facts.get(x)) and fact.constant is not None
    }
    for graph in graphs:
        for node in graph:
            given = max(_NODE, sum(room.get(x, 0) for x in node.inputs if x is not None))
            for value in node.outputs:
                fact, room[value] = facts.get(value), given
                if fact is None or fact.constant is None or value.is_graph_output() or not value.uses():
                    continue
                if fact.dtype is None or fact.constant.dtype.kind in "UO" or _is_rounded(node, fact, facts):
                    continue
                array = fact.constant.astype(declared_dtype(value) or fact.dtype, copy=False)
                if node.op_type == "Constant" or array.nbytes <= given:
                    room[value] = array.nbytes
                    yield graph, value, array


def _is_rounded(node: ir.Node, made: Fact, facts: Mapping[ir.Value, Fact]) -> bool:
    """Whether arithmetic on floats made it."""
    given = (facts[x].dtype for x in node.inputs if x is not None)
    return is_float(made.dtype) and node.op_type not in contents.MOVES and any(map(is_float, given))


def _write_sizes(graph: ir.Graph, evaluator: Evaluator) -> None:
    """Ranks and sizes of values whose types do not say them."""
    for node in graph:
        for value in node.outputs:
            fact = evaluator.facts.get(value)
            if fact is not None and fact.dtype is not None and fact.dims is not None and value.shape is None:
                value.type = value.type or ir.TensorType(contents.onnx_dtype(fact.dtype))
                value.shape = ir.Shape([dim if isinstance(dim, int) else None for dim in fact.dims])


def _pass_on(graph: ir.Graph) -> None:
    """Readers of an Identity read what it reads; an output of the graph is what another node makes, under its name."""
    for node in list(graph):
        x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type != "Identity" or node.domain or x is None:
            continue
        if not y.is_graph_output():
            y.replace_all_uses_with(x)
            continue
        maker = x.producer()
        if maker is not None and maker.graph is graph and not x.is_graph_output():
            name = y.name
            y.replace_all_uses_with(x, replace_graph_outputs=True)
            y.name, x.name = f"{name}_before", name
