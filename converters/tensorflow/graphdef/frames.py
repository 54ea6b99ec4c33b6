"""TensorFlow 1's branches and loops. A loop is made functions: a frame of Enter, Merge, Switch, NextIteration and Exit as one node with a condition and a body.

```
Enter -> Merge -> Switch -> body -> NextIteration -> Merge
                    |  `-> Exit          LoopCond(condition of the Merges) says which way a Switch goes
```

Arrays of tensors become the lists that TensorFlow 2 has: what flows is the list itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from netferry.converters.tensorflow.graphdef.graph import ARGUMENT, Graph, Node, Ref, in_order

FRAME = "_Frame"
"""The operator of a node that stands for a loop; its attributes ``cond`` and ``body`` are graphs."""

CHOICE = "_Choice"
"""The operator of a Merge whose condition is known: two values, then the condition."""

_MERGES = ("Merge", "RefMerge")
_ENTERS, _EXITS = ("Enter", "RefEnter"), ("Exit", "RefExit")
_ARRAYS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "TensorArrayReadV3": ("TensorListGetItem", (2, 1)),
    "TensorArrayWriteV3": ("TensorListSetItem", (3, 1, 2)),
    "TensorArrayScatterV3": ("TensorListFromTensor", (2,)),
    "TensorArrayGatherV3": ("TensorListStack", (2,)),
    "TensorArraySizeV3": ("TensorListLength", (1,)),
}
"""Of each operator on an array, the one on a list and which of its inputs that reads, in order."""


def with_functions(graph: Graph, where: str) -> Graph:
    """The graph with each frame as one node; a graph without frames as it is."""
    arrays = any(node.operator in _ARRAYS for node in graph.nodes.values())
    names = dict.fromkeys(name for node in graph.nodes.values() if (name := _frame(node)))
    merges = any(node.operator in _MERGES for node in graph.nodes.values())
    if not names and not arrays and not merges:
        return graph
    nodes = {name: _as_list(graph, node) for name, node in graph.nodes.items()}
    for name in sorted(names, key=len, reverse=True):  # a frame within another has the longer name
        nodes = _folded(nodes, name, where)
    return replace(
        graph,
        nodes=nodes | {name: _choice(nodes, node) for name, node in nodes.items() if _joins(nodes, node)},
    )


# ---- branches --------------------------------------------------------------------------------------


def _joins(nodes: Mapping[str, Node], node: Node) -> bool:
    """Whether a Merge joins two branches."""
    sources = [nodes[ref.node].operator for ref in node.inputs if ref.node in nodes]
    return (
        node.operator in _MERGES
        and len(sources) == 2
        and not {"NextIteration", "RefNextIteration"} & set(sources)
    )


def _choice(nodes: Mapping[str, Node], merge: Node) -> Node:
    """The Merge with its condition as a third input, and which of the others lives where that holds."""
    first, second = (_sides(nodes, ref) for ref in merge.inputs)
    for condition in first:
        ports = first[condition], second.get(condition)
        if ports in (({0}, {1}), ({1}, {0})):
            return replace(
                merge,
                operator=CHOICE,
                inputs=(*merge.inputs, condition),
                attributes={**merge.attributes, "true": 0 if ports[0] == {1} else 1},
            )
    return merge


def _sides(nodes: Mapping[str, Node], ref: Ref) -> dict[Ref, set[int]]:
    """For each condition behind a tensor, on which sides of its Switches the tensor lies."""
    found: dict[Ref, set[int]] = {}
    waiting, seen = [ref], {ref}
    while waiting:
        here = waiting.pop()
        node = nodes.get(here.node)
        if node is None:
            continue
        if node.operator in ("Switch", "RefSwitch"):
            found.setdefault(_origin(nodes, node.inputs[1]), set()).add(here.port)
        for each in (*node.inputs, *(Ref(name, 0) for name in node.controls)):
            if each not in seen:
                seen.add(each)
                waiting.append(each)
    return found


def _origin(nodes: Mapping[str, Node], ref: Ref) -> Ref:
    while ref.node in nodes and nodes[ref.node].operator == "Identity":
        ref = nodes[ref.node].inputs[0]
    return ref


# ---- loops -----------------------------------------------------------------------------------------


def _frame(node: Node) -> str:
    if node.operator not in _ENTERS or "frame_name" not in node.attributes:
        return ""
    return str(node.attributes["frame_name"].text.decode("utf-8", "replace"))


def _as_list(graph: Graph, node: Node) -> Node:
    known = _ARRAYS.get(node.operator)
    if known is None or (
        known[0] in ("TensorListFromTensor", "TensorListStack") and not _in_order(graph, node)
    ):
        return node
    operator, places = known
    attributes = dict(node.attributes)
    if "dtype" in attributes or "T" in attributes:
        attributes["element_dtype"] = attributes.get("dtype") or attributes["T"]
    return replace(
        node, operator=operator, inputs=tuple(node.inputs[place] for place in places), attributes=attributes
    )


def _in_order(graph: Graph, node: Node) -> bool:
    """Whether the indices of a scatter or gather count all places."""
    source = graph.nodes.get(node.inputs[1].node)
    return source is not None and source.operator == "Range"


@dataclass(frozen=True)
class _Parts:
    """The nodes of one frame: what enters it, as a variable of the loop or to be read, and what closes the circle."""

    enters: Sequence[Node]
    merges: Sequence[Node]
    switches: Sequence[Node | None]
    nexts: Sequence[Node]
    kept: Sequence[Node]
    condition: Node


def _folded(nodes: dict[str, Node], name: str, where: str) -> dict[str, Node]:
    parts = _parts(nodes, name)
    if parts is None:
        return nodes
    count = len(parts.merges)
    arguments = tuple(f"{name}/argument_{place}" for place in range(count + len(parts.kept)))
    inside = dict(nodes)
    inside |= {each: Node(each, ARGUMENT, (), (), {"index": place}) for place, each in enumerate(arguments)}
    for place, merge in enumerate(parts.merges):
        given: tuple[Ref, ...] = (Ref(arguments[place], 0),) * 2
        inside[merge.name] = replace(merge, operator="IdentityN", inputs=given, controls=())
        switch = parts.switches[place]
        if switch is not None:
            inside[switch.name] = replace(switch, operator="IdentityN", inputs=given, controls=())
    for place, enter in enumerate(parts.kept, count):
        inside[enter.name] = replace(
            enter, operator="Identity", inputs=(Ref(arguments[place], 0),), controls=()
        )
    kept = tuple(Ref(each, 0) for each in arguments[count:])
    condition = _function(f"{name}/cond", inside, arguments, (parts.condition.inputs[0],), where)
    body = _function(
        f"{name}/body", inside, arguments, (*(each.inputs[0] for each in parts.nexts), *kept), where
    )
    read = tuple(each.inputs[0] for each in (*parts.enters, *parts.kept))
    folded = dict(nodes)
    folded[f"{name}/loop"] = Node(f"{name}/loop", FRAME, read, (), {"cond": condition, "body": body})
    for place, switch in enumerate(parts.switches):
        for node in nodes.values():
            if switch is not None and node.operator in _EXITS and node.inputs[0] == Ref(switch.name, 0):
                folded[node.name] = replace(
                    node, operator="Identity", inputs=(Ref(f"{name}/loop", place),), controls=()
                )
    return folded


def _function(
    name: str, nodes: Mapping[str, Node], arguments: tuple[str, ...], returns: tuple[Ref, ...], where: str
) -> Graph:
    whole = Graph(name, nodes, arguments, returns)
    needed = in_order(whole, [ref.node for ref in returns], where)
    return replace(
        whole, nodes={each: nodes[each] for each in arguments} | {node.name: node for node in needed}
    )


def _parts(nodes: Mapping[str, Node], name: str) -> _Parts | None:
    enters = {node.name: node for node in nodes.values() if _frame(node) == name}
    merges = [
        node
        for node in nodes.values()
        if node.operator in ("Merge", "RefMerge") and any(ref.node in enters for ref in node.inputs)
    ]
    variables = [next(enters[ref.node] for ref in merge.inputs if ref.node in enters) for merge in merges]
    nexts = [_next(nodes, merge) for merge in merges]
    switches = [_switch(nodes, merge) for merge in merges]
    conditions = {nodes[switch.inputs[1].node].name for switch in switches if switch is not None}
    taken = {each.name for each in variables}
    if len(conditions) != 1 or any(each is None for each in nexts):
        return None
    condition = nodes[conditions.pop()]
    if condition.operator != "LoopCond":
        return None
    kept = [each for each in enters.values() if each.name not in taken]
    return _Parts(variables, merges, switches, [each for each in nexts if each is not None], kept, condition)


def _next(nodes: Mapping[str, Node], merge: Node) -> Node | None:
    found = [nodes[ref.node] for ref in merge.inputs if ref.node in nodes]
    return next((node for node in found if node.operator in ("NextIteration", "RefNextIteration")), None)


def _switch(nodes: Mapping[str, Node], merge: Node) -> Node | None:
    return next(
        (
            node
            for node in nodes.values()
            if node.operator in ("Switch", "RefSwitch")
            and node.inputs[0] == Ref(merge.name, 0)
            and nodes[node.inputs[1].node].operator == "LoopCond"
        ),
        None,
    )
