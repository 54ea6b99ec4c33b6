"""Facts of If, Loop and Scan: what their subgraphs' values are, and what comes out.

A size that belongs to the inside of a subgraph cannot be read outside: there the output gets a free size of its own.
The states of a loop have only what every turn keeps; the body is evaluated again until nothing more is given up. What
was given up once stays so: the number of evaluations grows with the depth of the nesting, not with its power.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference.contents import of_weight
from netferry.converters.graph.inference.dims import Dims, ints
from netferry.converters.graph.inference.evaluate import CONTROL, Evaluator, GivenUp, declared_dtype
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size

_INT64, _BOOL = np.dtype(np.int64), np.dtype(bool)


@CONTROL.row("If")
def _if(evaluator: Evaluator, node: ir.Node) -> None:
    branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = evaluator.facts[_given(node.inputs[0])].constant
    if condition is not None and condition.size == 1:
        taken = branches[0 if condition.reshape(-1)[0] else 1]
        (_guess if evaluator.guesses else _inline)(evaluator, node, taken)
        return
    outside = evaluator.mark()
    for branch in branches:
        evaluator.graph(branch)
    for position, value in enumerate(node.outputs):
        then, otherwise = (evaluator.facts[branch.outputs[position]] for branch in branches)
        _keep_type(value, branches[0].outputs[position])
        dims = _outer(evaluator, _common(then.dims, otherwise.dims), outside)
        evaluator.settle(value, then.dtype if then.dtype == otherwise.dtype else None, dims)


def _guess(evaluator: Evaluator, node: ir.Node, branch: ir.Graph) -> None:
    """The facts of the branch that is taken as far as is known; a later turn of the loop around may take the other."""
    evaluator.graph(branch)
    for value, result in zip(node.outputs, branch.outputs, strict=True):
        _keep_type(value, result)
        evaluator.facts[value] = evaluator.facts[result]


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
    trips, _, *states_in = node.inputs
    evaluator.facts[body.inputs[0]] = Fact(_INT64, ())
    evaluator.facts[body.inputs[1]] = Fact(_BOOL, ())
    outside = evaluator.mark()
    inner = body.inputs[2:]
    states = _steady(evaluator, body, inner, [_given(value) for value in states_in], body.outputs[1:])
    for value, state in zip(node.outputs, states, strict=False):
        evaluator.settle(value, state.dtype, _outer(evaluator, state.dims, outside))
    for value, (state_in, result) in zip(
        node.outputs, zip(inner, body.outputs[1:], strict=False), strict=False
    ):
        _keep_type(value, result if result.type is not None else state_in)
    count = None if trips is None or len(body.outputs) == 0 else ints(evaluator.facts[trips])
    steady = _always(evaluator, node, body)
    turns = count[0] if count and steady else None
    for value, result in zip(node.outputs[len(inner) :], body.outputs[1 + len(inner) :], strict=True):
        fact = evaluator.facts[result]
        dims = _outer(evaluator, fact.dims, outside)
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
    outside = evaluator.mark()
    initial = [_given(value) for value in node.inputs[:states]]
    kept = _steady(evaluator, body, body.inputs[:states], initial, body.outputs)
    for value, state in zip(node.outputs, kept, strict=False):
        evaluator.settle(value, state.dtype, _outer(evaluator, state.dims, outside))
    positions = list(node.attributes.get_ints("scan_output_axes", ())) or [0] * (len(node.outputs) - states)
    for value, result, axis in zip(node.outputs[states:], body.outputs[states:], positions, strict=True):
        fact = evaluator.facts[result]
        dims = _outer(evaluator, fact.dims, outside)
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
    """What is true of the states in every turn; the body is left evaluated under it."""
    starts = [Fact(evaluator.facts[value].dtype, evaluator.facts[value].dims) for value in initial]
    given_up = evaluator.given_up.setdefault(body, [_kept_all(start.dims) for start in starts])
    for value, start in zip(inner, initial, strict=True):
        _keep_type(value, start)
    nodes, branching = 0, False
    for node in body.all_nodes():
        nodes, branching = nodes + 1, branching or node.op_type == "If"
    for turn in itertools.count(1):
        states = [replace(s, dims=_without(s.dims, lost)) for s, lost in zip(starts, given_up, strict=True)]
        mark = evaluator.mark()
        for value, state in zip(inner, states, strict=True):
            evaluator.settle(value, state.dtype, state.dims)
        opened, entered = [evaluator.facts[value].dims for value in inner], evaluator.mark()
        evaluator.guesses += 1
        evaluator.graph(body)
        evaluator.guesses -= 1
        after = [evaluator.facts[value].dims for value in results[: len(inner)]]
        changed = [_lost(a, b) for a, b in zip(opened, after, strict=True)]
        merged = [_both_lost(a, b) for a, b in zip(given_up, changed, strict=True)]
        if merged == given_up:
            if branching and not evaluator.guesses:
                evaluator.back_to(entered)
                evaluator.graph(body)
            return states
        given_up[:] = merged if turn < _PATIENCE else [_all_lost(lost, turn) for lost in merged]
        budget.look_again(nodes, f"the body '{body.name}' of a loop has to be looked at too often")
        evaluator.back_to(mark)
    raise AssertionError


_PATIENCE = 6
"""After so many evaluations of a body all sizes of its states are given up, then their ranks."""


def _kept_all(dims: Dims) -> GivenUp:
    return None if dims is None else (False,) * len(dims)


def _without(dims: Dims, lost: GivenUp) -> Dims:
    """Sizes without those that are given up."""
    if dims is None or lost is None or len(dims) != len(lost):
        return None
    return tuple(None if gone else dim for dim, gone in zip(dims, lost, strict=True))


def _lost(before: Dims, after: Dims) -> GivenUp:
    """Which sizes a turn does not keep."""
    kept = _common(before, after)
    return None if kept is None else tuple(dim is None for dim in kept)


def _both_lost(a: GivenUp, b: GivenUp) -> GivenUp:
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(one or other for one, other in zip(a, b, strict=True))


def _all_lost(lost: GivenUp, turn: int) -> GivenUp:
    return None if lost is None or turn >= 2 * _PATIENCE else (True,) * len(lost)


def _common(a: Dims, b: Dims) -> Dims:
    """Sizes that two shapes agree on; None where they do not."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(one if one == other else None for one, other in zip(a, b, strict=True))


def _outer(evaluator: Evaluator, dims: Dims, outside: tuple[int, int]) -> Dims:
    """Sizes without those that were made inside a subgraph, after the mark ``outside``."""
    return (
        None if dims is None else tuple(None if _is_inner(evaluator, dim, outside) else dim for dim in dims)
    )


def _is_inner(evaluator: Evaluator, dim: Any, outside: tuple[int, int]) -> bool:
    return isinstance(dim, Size) and any(evaluator.born[name] >= outside[0] for name in dim.names())


def _given(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value


def _keep_type(value: ir.Value, like: ir.Value) -> None:
    """The type of sequences and optionals stands on the value, since their fact says none."""
    if declared_dtype(value) is None and like.type is not None:
        value.type = like.type
