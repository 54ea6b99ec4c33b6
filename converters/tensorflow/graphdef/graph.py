"""A graph and its functions as they are walked: nodes by name, each input as a node and the number of its output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from netferry.converters.errors import RefusedError

ARGUMENT = "_Arg"
"""The operator of a node that stands for what a function is given."""

ARRAY = "_Array"
"""The operator of a node whose attribute ``array`` is a constant that has been read already."""


class Ref(NamedTuple):
    """An output of a node."""

    node: str
    port: int


@dataclass(frozen=True)
class Node:
    """``controls`` are nodes that run before it and give it nothing."""

    name: str
    operator: str
    inputs: tuple[Ref, ...]
    controls: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """The main graph, or a function: ``arguments`` and ``returns`` are a function's, in order.

    ``acts`` are nodes that run whenever the function is called, though nobody reads what they give.
    """

    name: str
    nodes: Mapping[str, Node]
    arguments: tuple[str, ...] = ()
    returns: tuple[Ref, ...] = ()
    acts: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    return_names: tuple[str, ...] = ()


_OUTPUTS: Mapping[str, Sequence[str]] = {
    name: outputs.split()
    for names, outputs in {
        "BroadcastGradientArgs": "r0 r1",
        "BlockLSTM BlockLSTMV2 LSTMBlockCell": "i cs f o ci co h",
        "CudnnRNN CudnnRNNV2 CudnnRNNV3": "output output_h output_c reserve_space host_reserved",
        "CombinedNonMaxSuppression": "nmsed_boxes nmsed_scores nmsed_classes valid_detections",
        "FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 _FusedBatchNormEx":
            "y batch_mean batch_variance reserve_space_1 reserve_space_2 reserve_space_3",
        "ListDiff": "out idx",
        "LogMatrixDeterminant": "sign log_abs_determinant",
        "MaxPoolWithArgmax": "output argmax",
        "Merge": "output value_index",
        "NonMaxSuppressionV4": "selected_indices valid_outputs",
        "NonMaxSuppressionV5": "selected_indices selected_scores valid_outputs",
        "SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits": "loss backprop",
        "StatelessRandomGetKeyCounter": "key counter",
        "Switch": "output_false output_true",
        "TensorArrayV3": "handle flow",
        "TensorListPopBack": "output_handle tensor",
        "ApproxTopK TopK TopKV2": "values indices",
        "Unique UniqueV2": "y idx",
        "UniqueWithCounts UniqueWithCountsV2": "y idx count",
        "LookupTableExportV2": "keys values",
        "Svd": "s u v", "Qr": "q r", "SelfAdjointEigV2": "e v",
    }.items()
    for name in names.split()
}  # fmt: skip
"""Operators with more than one kind of output, by which a function's nodes name what they read, in order."""


def graph_of(nodes: Iterable[Any], where: str) -> Graph:
    """The main graph of a file: an input is ``node``, ``node:output`` or ``^node``."""
    return Graph("", _by_name((_node(each, lambda text: ref_of(text, where)) for each in nodes), where))


def function_of(message: Any, functions: Mapping[str, Any], where: str) -> Graph:
    """A function: an input is the name of an argument, or ``node:name of the output:number``."""
    arguments = tuple(each.name for each in message.signature.inputs)
    operators = {each.name: each.operator for each in message.nodes}

    def ref(text: str) -> Ref:
        node, _, rest = text.partition(":")
        output, _, number = rest.partition(":")
        base = _position(operators.get(node, ARGUMENT), output, functions)
        return Ref(node, base + _number(number, text, where))

    placed = [Node(name, ARGUMENT, (), (), {"index": position}) for position, name in enumerate(arguments)]
    nodes = _by_name([*placed, *(_node(each, ref) for each in message.nodes)], where)
    wanted = {entry.key: entry.value for entry in message.returns}
    names = tuple(each.name for each in message.signature.outputs)
    missing = [name for name in names if name not in wanted]
    if missing:
        raise RefusedError(
            f"a function gives no '{missing[0]}'", where=where, received=message.signature.name
        )
    return Graph(
        message.signature.name,
        nodes,
        arguments,
        tuple(ref(wanted[name]) for name in names),
        tuple(entry.value for entry in message.controls),
        {entry.key: entry.value for entry in message.attributes},
        names,
    )


def _position(operator: str, output: str, functions: Mapping[str, Any]) -> int:
    """Which output of a node a name means, where the operator has several kinds."""
    if operator in functions:
        names = [each.name for each in functions[operator].signature.outputs]
    else:
        names = list(_OUTPUTS.get(operator, ()))
    return names.index(output) if output in names else 0


def ref_of(text: str, where: str) -> Ref:
    """What ``node`` or ``node:output`` means."""
    node, _, number = text.partition(":")
    return Ref(node, _number(number, text, where))


def _number(number: str, text: str, where: str) -> int:
    """Which output; the first where it is not said."""
    if number and not number.isdecimal():
        raise RefusedError(
            "an output of a node is named by what is no number", where=where, expected="node:0", received=text
        )
    return int(number or 0)


def _node(message: Any, ref: Any) -> Node:
    inputs = [text for text in message.inputs if not text.startswith("^")]
    controls = [text[1:] for text in message.inputs if text.startswith("^")]
    return Node(
        message.name,
        message.operator,
        tuple(map(ref, inputs)),
        tuple(re.sub(r":\d+$", "", text) for text in controls),
        {entry.key: entry.value for entry in message.attributes},
    )


def _by_name(nodes: Iterable[Node], where: str) -> dict[str, Node]:
    listed = list(nodes)
    twice = [name for name, count in Counter(node.name for node in listed).items() if count > 1]
    if twice:
        raise RefusedError(f"two of one name: the node '{twice[0]}'", where=where)
    return {node.name: node for node in listed}


def in_order(graph: Graph, roots: Iterable[str], where: str, *, controls: bool = False) -> list[Node]:
    """All nodes that these need, each after those that it reads; a back edge of a loop is not followed.

    Raises:
        RefusedError: a node reads one that is not there, or itself.
    """
    done: dict[str, Node] = {}
    entered: set[str] = set()
    stack = [(name, False) for name in reversed(list(dict.fromkeys(roots)))]
    while stack:
        name, left = stack.pop()
        if left:
            done[name] = graph.nodes[name]
        elif name in entered and name not in done:
            raise RefusedError(f"the node '{name}' waits for itself", where=where)
        elif name not in done:
            if name not in graph.nodes:
                raise RefusedError(f"there is no node '{name}'", where=where)
            entered.add(name)
            stack.append((name, True))
            stack.extend((each, False) for each in reversed(_read(graph, graph.nodes[name], controls)))
    return list(done.values())


def reached(graph: Graph, roots: Iterable[str], where: str) -> list[Node]:
    """All nodes that run for these to run, in no order; around loops, too."""
    found: dict[str, Node] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in graph.nodes:
            raise RefusedError(f"there is no node '{name}'", where=where)
        node = found[name] = graph.nodes[name]
        waiting += [*(ref.node for ref in node.inputs), *node.controls]
    return list(found.values())


def _read(graph: Graph, node: Node, controls: bool) -> list[str]:
    read = [ref.node for ref in node.inputs] + (list(node.controls) if controls else [])
    if node.operator == "Merge":
        return [
            name for name in read if name not in graph.nodes or graph.nodes[name].operator != "NextIteration"
        ]
    return read
