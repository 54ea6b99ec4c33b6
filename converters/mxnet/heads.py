"""What a symbol gives in inference: its labels and its training heads fall away."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import replace

from netferry.converters.graph.ir.build import unique
from netferry.converters.mxnet.symbol import INPUTS, Entry, Node, Symbol, output_name

CTC = frozenset({"CTCLoss", "_contrib_CTCLoss", "_contrib_ctc_loss", "ctc_loss"})

LABEL = "label"

DROPPED = "outputs of training fall away"

_LABELLED = re.compile(r"labels?\d*$", re.IGNORECASE)
"""How a variable is called that training alone is given."""

_OF_TRAINING = CTC | {"_contrib_MultiBoxTarget", "softmax_cross_entropy", "_contrib_box_encode"}
_DRAWING = re.compile(r"_(npi_)?(sample|random)_|_(npi|npx)_(normal|uniform)|_contrib_mrcnn_mask_target")
"""Operators that draw by chance, or make targets."""

_MASKED = frozenset({"LeakyReLU", "Dropout"})
"""Operators whose second output is the mask that training drew."""

_LOSSES = frozenset({"MakeLoss", "make_loss", "smooth_l1"})

INFERENCE, LOSS, TRAINING = range(3)
"""What a head is for: what a person wants, a loss of what the model gives, what needs labels or chance."""


def prepared(graph: Symbol, params: Container[str]) -> tuple[Symbol, tuple[str, ...]]:
    """The graph as inference runs it, and sentences for the report. ``params`` are the names of the weights."""
    graph, said = _without_chance(without_labels(graph, params))
    kinds = [_kind(graph, head, params) for head in graph.heads]
    if (best := min(kinds)) == TRAINING:
        graph, more = _before_ctc(graph)
        return graph, (*said, *more)
    kept = [head for head, kind in zip(graph.heads, kinds, strict=True) if kind == best]
    dropped = [head for head, kind in zip(graph.heads, kinds, strict=True) if kind != best]
    if not dropped:
        return graph, said
    names = ", ".join(name_of(graph, head) for head in dropped)
    note = f"{DROPPED}: {names}; --output NAME keeps one"
    return replace(graph, heads=tuple(kept)), (*said, note)


def _without_chance(graph: Symbol) -> tuple[Symbol, tuple[str, ...]]:
    """Dropout that acts in inference too would give other numbers at each run: it is left out."""
    names = [node.name for node in graph.nodes if node.op == "Dropout" and node.attrs.get("mode") == "always"]
    if not names:
        return graph, ()
    nodes = (
        replace(node, attrs={k: v for k, v in node.attrs.items() if k != "mode"})
        if node.op == "Dropout"
        else node
        for node in graph.nodes
    )
    note = f"dropout that acts in inference too (mode=always) is left out: {', '.join(names)}"
    return replace(graph, nodes=tuple(nodes)), (note,)


def without_labels(graph: Symbol, params: Container[str]) -> Symbol:
    """Every loss reads a label of its own where an operator made it: what only labels need is no part of the graph then."""
    nodes = list(graph.nodes)
    taken = {node.name for node in nodes}
    for position in graph.order:
        node = nodes[position]
        names = INPUTS.get(node.op, ())
        slot = names.index(LABEL) if LABEL in names else len(node.inputs)
        if slot < len(node.inputs) and not _plain(nodes[node.inputs[slot][0]], params):
            name = unique(f"{node.name}_label", taken)
            entries = (*node.inputs[:slot], (len(nodes), 0), *node.inputs[slot + 1 :])
            nodes[position] = replace(node, inputs=entries)
            nodes.append(Node(name, "null"))
    return graph if len(nodes) == len(graph.nodes) else replace(graph, nodes=tuple(nodes))


def _plain(node: Node, params: Container[str]) -> bool:
    return node.is_variable and node.name not in params


def _kind(graph: Symbol, head: Entry, params: Container[str]) -> int:
    node = graph.nodes[head[0]]
    if _needs_training(graph, head[0], params) or (node.op in _MASKED and head[1] > 0):
        return TRAINING
    weighed = node.attrs.get("grad_scale", "1") not in ("0", "0.0")
    return LOSS if node.op in _LOSSES and weighed else INFERENCE


def _needs_training(graph: Symbol, position: int, params: Container[str]) -> bool:
    """Whether labels (other than those that a loss passes over) or chance are needed to compute a node."""
    seen, waiting = {position}, [position]
    while waiting:
        node = graph.nodes[waiting.pop()]
        if node.op in _OF_TRAINING or _DRAWING.match(node.op):
            return True
        if node.is_variable and node.name not in params and _LABELLED.search(node.name):
            return True
        names = INPUTS.get(node.op, ())
        for slot, (source, _) in enumerate(node.inputs):
            passed_over = slot < len(names) and names[slot] == LABEL
            if not passed_over and source not in seen:
                seen.add(source)
                waiting.append(source)
    return False


def _before_ctc(graph: Symbol) -> tuple[Symbol, tuple[str, ...]]:
    """A CTC loss needs its labels: where nothing but losses is left, the model gives what the loss reads."""
    heads, read = [], []
    for head in graph.heads:
        position = head[0]
        while graph.nodes[position].op in _LOSSES:
            position = graph.nodes[position].inputs[0][0]
        if graph.nodes[position].op in CTC:
            head = graph.nodes[position].inputs[0]
            read.append(name_of(graph, head))
        heads.append(head)
    if not read:
        return graph, ()
    note = f"a CTC loss falls away, which needs labels: the output is what it reads, {', '.join(read)}, before its softmax"
    return replace(graph, heads=tuple(dict.fromkeys(heads))), (note,)


def _counts(graph: Symbol) -> list[int]:
    """How many outputs each node has: as it says, or as far as they are read."""
    counts = [_said(node) for node in graph.nodes]
    for position, index in (*graph.heads, *(entry for node in graph.nodes for entry in node.inputs)):
        counts[position] = max(counts[position], index + 1)
    return counts


def _said(node: Node) -> int:
    if node.op == "RNN" and node.attrs.get("state_outputs") in ("True", "1"):
        return 3 if node.attrs.get("mode") == "lstm" else 2
    text = node.attrs.get("num_outputs", "1") if node.op == "SliceChannel" else "1"
    return int(text) if text.isdigit() else 1


def name_of(graph: Symbol, head: Entry) -> str:
    """What MXNet calls an output."""
    return output_name(graph.nodes[head[0]], head[1], _counts(graph)[head[0]])
