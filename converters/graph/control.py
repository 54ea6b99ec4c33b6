"""Facts of If, Loop and Scan: what their subgraphs' values are, and what comes out.

A size that belongs to the inside of a subgraph cannot be read outside: there the output gets a free size of its own.
What a loop carries has only what every turn keeps; the body is evaluated again until nothing more is given up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.contents import of_weight
from netferry.converters.graph.evaluate import CONTROL, Evaluator, declared_dtype
from netferry.converters.graph.facts import Fact
from netferry.converters.graph.shapes import Dims, ints
from netferry.converters.graph.sizes import Size

_INT64, _BOOL = np.dtype(np.int64), np.dtype(bool)


@CONTROL.row("If")
def _if(evaluator: Evaluator, node: ir.Node) -> None:
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = evaluator.facts[_given(node.inputs[0])].constant
    if condition is not None and condition.size == 1:
        _inline(evaluator, node, branches[0 if condition.reshape(-1)[0] else 1])
        return
    outside = set(evaluator.homes)
    for branch in branches:
        evaluator.graph(branch)
    for place, value in enumerate(node.outputs):
        then, otherwise = (evaluator.facts[branch.outputs[place]] for branch in branches)
        _keep_type(value, branches[0].outputs[place])
        dims = _outer(_common(then.dims, otherwise.dims), outside)
        evaluator.settle(value, then.dtype if then.dtype == otherwise.dtype else None, dims)


def _inline(evaluator: Evaluator, node: ir.Node, branch: ir.Graph) -> None:
    """Put the branch that will be taken in the place of the If.

    What the If gave is now given by an Identity for each output, so that the graph keeps its outputs' names.
    """
    graph = node.graph
    assert graph is not None
    for name, value in list(branch.initializers.items()):
        evaluator.facts[value] = of_weight(value)
        del branch.initializers[name]
    nodes, results = list(branch), list(branch.outputs)
    branch.outputs.clear()
    branch.remove(nodes)
    for value, result in zip(node.outputs, results, strict=True):
        identity = ir.node("Identity", [result], name=value.name)
        identity.outputs[0].name, identity.outputs[0].type = value.name, value.type
        value.replace_all_uses_with(identity.outputs[0], replace_graph_outputs=True)
        nodes.append(identity)
    graph.insert_before(node, nodes)
    graph.remove(node)
    for inner in nodes:
        evaluator.step(inner)


@CONTROL.row("Loop")
def _loop(evaluator: Evaluator, node: ir.Node) -> None:
    body = node.attributes["body"].as_graph()
    trips, _, *carried = node.inputs
    evaluator.facts[body.inputs[0]] = Fact(_INT64, ())
    evaluator.facts[body.inputs[1]] = Fact(_BOOL, ())
    outside = set(evaluator.homes)
    inner = body.inputs[2:]
    states = _steady(evaluator, body, inner, [_given(value) for value in carried], body.outputs[1:])
    for value, state in zip(node.outputs, states, strict=False):
        evaluator.settle(value, state.dtype, _outer(state.dims, outside))
    for value, (carry, result) in zip(node.outputs, zip(inner, body.outputs[1:], strict=False), strict=False):
        _keep_type(value, result if result.type is not None else carry)
    count = None if trips is None or len(body.outputs) == 0 else ints(evaluator.facts[trips])
    steady = _always(evaluator, node, body)
    turns = count[0] if count and steady else None
    for value, result in zip(node.outputs[len(inner) :], body.outputs[1 + len(inner) :], strict=True):
        fact = evaluator.facts[result]
        dims = _outer(fact.dims, outside)
        evaluator.settle(value, fact.dtype, None if dims is None else (turns, *dims))


def _always(evaluator: Evaluator, node: ir.Node, body: ir.Graph) -> bool:
    """Whether the loop runs to its last turn: its condition is true, or hands itself on."""
    start = node.inputs[1]
    first = True if start is None else evaluator.facts[start].constant
    again = evaluator.facts[body.outputs[0]].constant
    producer = body.outputs[0].producer()
    kept = body.outputs[0] is body.inputs[1] or (
        producer is not None and producer.op_type == "Identity" and producer.inputs[0] is body.inputs[1]
    )
    return bool(np.all(first if first is not None else False)) and (
        kept or (again is not None and bool(again.all()))
    )


@CONTROL.row("Scan")
def _scan(evaluator: Evaluator, node: ir.Node) -> None:
    body = node.attributes["body"].as_graph()
    scanned = node.attributes.get_int("num_scan_inputs", 0)
    states = len(node.inputs) - scanned
    axes = list(node.attributes.get_ints("scan_input_axes", ())) or [0] * scanned
    length: Any = None
    for value, inner, axis in zip(node.inputs[states:], body.inputs[states:], axes, strict=True):
        fact = evaluator.facts[_given(value)]
        dims = fact.dims
        if dims is not None:
            axis %= len(dims)
            length = length if isinstance(length, int) else dims[axis]
            dims = (*dims[:axis], *dims[axis + 1 :])
        evaluator.facts[inner] = Fact(fact.dtype, dims)
    outside = set(evaluator.homes)
    initial = [_given(value) for value in node.inputs[:states]]
    kept = _steady(evaluator, body, body.inputs[:states], initial, body.outputs)
    for value, state in zip(node.outputs, kept, strict=False):
        evaluator.settle(value, state.dtype, _outer(state.dims, outside))
    places = list(node.attributes.get_ints("scan_output_axes", ())) or [0] * (len(node.outputs) - states)
    for value, result, axis in zip(node.outputs[states:], body.outputs[states:], places, strict=True):
        fact = evaluator.facts[result]
        dims = _outer(fact.dims, outside)
        if dims is not None:
            axis %= len(dims) + 1
            dims = (*dims[:axis], length, *dims[axis:])
        evaluator.settle(value, fact.dtype, dims)


def _steady(
    evaluator: Evaluator,
    body: ir.Graph,
    inner: Sequence[ir.Value],
    initial: Sequence[ir.Value],
    results: Sequence[ir.Value],
) -> list[Fact]:
    """What is true of the carried values in every turn; the body is left evaluated under it."""
    states = [Fact(evaluator.facts[value].dtype, evaluator.facts[value].dims) for value in initial]
    for value, start in zip(inner, initial, strict=True):
        _keep_type(value, start)
    while True:
        mark = evaluator.mark()
        for value, state in zip(inner, states, strict=True):
            evaluator.settle(value, state.dtype, state.dims)
        opened = [evaluator.facts[value] for value in inner]
        evaluator.graph(body)
        after = [evaluator.facts[value] for value in results[: len(inner)]]
        merged = [
            Fact(state.dtype, state.dims if _common(opened[i].dims, after[i].dims) == opened[i].dims
                 else _common(state.dims, _common(opened[i].dims, after[i].dims)))
            for i, state in enumerate(states)
        ]  # fmt: skip
        if merged == states:
            return states
        states = merged
        evaluator.back_to(mark)


def _common(a: Dims, b: Dims) -> Dims:
    """Sizes that two shapes agree on; None where they do not."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(one if one == other else None for one, other in zip(a, b, strict=True))


def _outer(dims: Dims, outside: set[str]) -> Dims:
    """Sizes without those that are made inside a subgraph."""
    if dims is None:
        return None
    return tuple(None if isinstance(dim, Size) and not set(dim.names()) <= outside else dim for dim in dims)


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _keep_type(value: ir.Value, like: ir.Value) -> None:
    """Sequences and optionals carry their type on the value, since their fact says none."""
    if declared_dtype(value) is None and like.type is not None:
        value.type = like.type
