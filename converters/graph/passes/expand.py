"""Operators that ONNX defines by others: the fallback for those that nobody has a row for.

An expanded LayerNormalization works, but nobody recognises it; so an operator is expanded only where there is
no other way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, inliner

from netferry.converters.graph.inference import contents, evaluate
from netferry.converters.graph.inference.evaluate import Evaluator
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.passes import contrib
from netferry.converters.graph.schema.opset import OPSET, schema_of

LAYERS = frozenset(
    """
    Attention AveragePool BatchNormalization Conv ConvInteger ConvTranspose DeformConv Dropout GRU Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool GroupNormalization InstanceNormalization LRN LSTM LayerNormalization LpPool MatMul MaxPool
    MaxRoiPool MaxUnpool PRelu QLinearConv RMSNormalization RNN Recurrent Linear Gelu Swish HardSwish Mish If Loop Scan
    Constant
    """.split()
)
"""Operators that the targets have as layers of their own, or that never reach them."""

Expand = Callable[[ir.Node, Evaluator], "list[ir.Node] | None"]
"""Nodes that stand in the place of a node from now on, and have no facts yet; None where it stays."""


@cache
def supported() -> frozenset[str]:
    """Every operator that needs no expansion."""
    from netferry.converters.graph.ops import OPS

    return LAYERS | frozenset(OPS)


def opener(node: ir.Node, evaluator: Evaluator) -> list[ir.Node] | None:
    """Opens an operator of onnxruntime's own domain, and no other."""
    if not contrib.is_contrib(node):
        return None
    return [] if contrib.opened(node, evaluator) else None


def float_opener(node: ir.Node, evaluator: Evaluator) -> list[ir.Node] | None:
    """``opener`` for weights of integers that are to be floats."""
    return [] if contrib.is_contrib(node) and contrib.opened(node, evaluator, floats=True) else None


def expander(known: Collection[str], *, opens: bool = True) -> Expand:
    """A function that puts the body of an operator that is not ``known`` in its place, and opens those of onnxruntime.

    Without ``opens`` the latter stay, and what they give is not known.
    """

    def expand(node: ir.Node, evaluator: Evaluator) -> list[ir.Node] | None:
        if contrib.is_contrib(node):
            return opener(node, evaluator) if opens else None
        if node.op_type in _RESTATED and not node.domain:
            return _RESTATED[node.op_type](node, evaluator.facts)
        if not node.domain and node.op_type in known:
            return None
        schema = schema_of(node.domain, node.op_type)
        if schema is None or not (schema.has_function or schema.has_context_dependent_function):
            return None
        return _inlined(node, evaluator.facts)

    return expand


def _counted(node: ir.Node, facts: Mapping[ir.Value, Fact]) -> list[ir.Node] | None:
    """Range(0.0, Cast(size), 1.0)    becomes    Cast(Range(0, size, 1)):   its length follows from sizes then."""
    x = node.inputs[1]
    cast = None if x is None else x.producer()
    numbers = [None if v is None else facts[v].constant for v in (node.inputs[0], node.inputs[2])]
    size = cast.inputs[0] if cast is not None and cast.op_type == "Cast" and not cast.domain else None
    whole = [
        int(n) for n in numbers if n is not None and n.size == 1 and float(n.reshape(-1)[0]).is_integer()
    ]
    dtype = None if x is None else facts[x].dtype
    if size is None or dtype is None or len(whole) != 2 or not is_float(dtype):
        return None
    if facts[size].dtype != np.dtype(np.int64) or facts[size].content is None:
        return None
    ends = [ir.node("Constant", [], {"value_int": number}, name=f"{node.name}/whole") for number in whole]
    counted = ir.node("Range", [ends[0].outputs[0], size, ends[1].outputs[0]], name=f"{node.name}/whole")
    floats = ir.node("Cast", counted.outputs, {"to": contents.onnx_dtype(dtype).value}, name=node.name)
    return _in_place_of(node, [*ends, counted, floats])


def _cast_like(node: ir.Node, facts: Mapping[ir.Value, Fact]) -> list[ir.Node] | None:
    """CastLike(x, y)    becomes    Cast(x):   it is known where x is, whatever y is made of."""
    x, like = node.inputs
    dtype = None if x is None or like is None else facts[like].dtype
    if dtype is None:
        return None
    given = {"to": contents.onnx_dtype(dtype).value, **{name: a.value for name, a in node.attributes.items()}}
    return _in_place_of(node, [ir.node("Cast", [x], given, name=node.name)])


_RESTATED: Mapping[str, Callable[[ir.Node, Mapping[ir.Value, Fact]], list[ir.Node] | None]] = {
    "Range": _counted,
    "CastLike": _cast_like,
}
"""Operators that tell more of their results in other words."""


def _in_place_of(node: ir.Node, made: list[ir.Node]) -> list[ir.Node]:
    """What is made, the last of which gives the node's result."""
    old, result = node.outputs[0], made[-1].outputs[0]
    for position, one in enumerate(made):
        one.outputs[0].name = f"{old.name}/whole_{position}"
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name, old.name = old.name, f"{old.name}/before"
    assert node.graph is not None
    node.graph.insert_before(node, made)
    node.graph.remove(node, safe=True)
    return made


def _inlined(node: ir.Node, facts: Mapping[ir.Value, Fact]) -> list[ir.Node] | None:
    """The nodes of the operator's definition, put in the place of the node; None where it defines nothing here."""
    outer = {str(value.name): value for value in _outer(node)}
    positions = {f"i{position}": value for position, value in enumerate(node.inputs) if value is not None}
    known: dict[str, ir.Value] = {**outer, **positions}
    graph = helper.make_graph(
        [evaluate.node_proto(node)],
        "definition",
        [
            onnx.ValueInfoProto(name=name, type=evaluate.type_proto(value, facts[value], {}))
            for name, value in known.items()
        ],
        [
            onnx.ValueInfoProto(name=f"o{position}")
            for position, value in enumerate(node.outputs)
            if value.name
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    if node.domain:
        model.opset_import.append(helper.make_opsetid(node.domain, 1))
    found = inliner.inline_selected_functions(
        model, [(node.domain, node.op_type)], inline_schema_functions=True
    )
    if any(one.op_type == node.op_type and one.domain == node.domain for one in found.graph.node):
        return None
    return _spliced(node, ir.serde.deserialize_model(found).graph, known)


def _spliced(node: ir.Node, body: ir.Graph, known: Mapping[str, ir.Value]) -> list[ir.Node]:
    for value in body.inputs:
        value.replace_all_uses_with(known[str(value.name)], replace_graph_outputs=True)
    results = list(body.outputs)
    body.outputs.clear()
    nodes = list(body)
    body.remove(nodes)
    for value, result in zip([v for v in node.outputs if v.name], results, strict=True):
        value.replace_all_uses_with(result, replace_graph_outputs=True)
        result.name = value.name
    for position, one in enumerate(nodes):
        one.name = f"{node.name}/{one.op_type}_{position}"
        for value in one.outputs:
            if value.name and value not in results:
                value.name = f"{node.name}/{value.name}"
    assert node.graph is not None
    node.graph.insert_before(node, nodes)
    node.graph.remove(node, safe=True)
    return nodes


def _outer(node: ir.Node) -> list[ir.Value]:
    """The values of the surroundings that the node's subgraphs read."""
    inside: set[ir.Value] = set()
    read: dict[ir.Value, None] = {}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            graph = attribute.value
            inside |= {*graph.inputs, *graph.initializers.values()}
            for one in graph.all_nodes():
                inside |= set(one.outputs)
                read |= dict.fromkeys(value for value in one.inputs if value is not None)
            read |= dict.fromkeys(graph.outputs)
    return [value for value in read if value not in inside]
