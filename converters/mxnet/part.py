"""A part of an MXNet symbol: what ``get_internals()`` names, from one tensor to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from netferry.converters.errors import UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.frameworks import named
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.heads import DROPPED
from netferry.converters.mxnet.live import symbol_model
from netferry.converters.mxnet.symbol import Entry, Node, Symbol, output_name
from netferry.converters.part import found
from netferry.converters.signature import Example, TensorSpec


def cut(
    model: object, outputs: Sequence[str], inputs: Sequence[str], given: tuple[Example, ...] | None
) -> tuple[SymbolModel, tuple[Example, ...] | None]:
    """The symbol from ``inputs`` to ``outputs``, each with or without ``_output``; what is needed of its own inputs stays."""
    source = symbol_model(model, None if inputs or outputs else given)
    graph, known = source.graph, names(source.graph)
    ends = tuple(dict.fromkeys(found(name, known) for name in outputs)) or graph.heads
    begins = {found(name, known): name for name in inputs}
    begun = replace(graph, nodes=_begun(graph, begins), heads=ends)
    begun = replace(
        begun, heads=tuple((begins_at(graph, begins, end), 0) if end in begins else end for end in ends)
    )
    read = {begun.nodes[position].name for position in begun.variables}
    for name in inputs:
        if name not in read:
            raise UsageError(f"nothing between the part's begin and end reads '{name}'")
    params = {name: array for name, array in source.params.items() if name in read}
    notes = tuple(note for note in source.notes if not (outputs and note.startswith(DROPPED)))
    part = replace(source, graph=begun, params=params, called=_called(source, begun, inputs), notes=notes)
    shown = (
        None if given is None else tuple(one for one in given if one.name in read and one.name not in params)
    )
    return part, shown or None


def names(graph: Symbol) -> dict[str, Entry]:
    """What MXNet calls the tensors of a symbol; a node's own name means its first."""
    counts: dict[int, int] = {}
    for position, index in (*graph.heads, *(entry for node in graph.nodes for entry in node.inputs)):
        counts[position] = max(counts.get(position, 1), index + 1)
    known: dict[str, Entry] = {}
    # those that inference needs first, then what only outputs that fell away need
    for position in dict.fromkeys((*graph.order, *range(len(graph.nodes)))):
        node, count = graph.nodes[position], counts.get(position, 1)
        known.setdefault(node.name, (position, 0))
        for index in range(count):
            known.setdefault(_output_name(node, index, count), (position, index))
    return known


def _output_name(node: Node, index: int, count: int) -> str:
    try:
        return output_name(node, index, count)
    except IndexError:  # a tensor that has no name of its own
        return f"{node.name}_output{index}"


def _begun(graph: Symbol, begins: Mapping[Entry, str]) -> tuple[Node, ...]:
    """The nodes, and behind them a variable for each place where the part begins, which is read there instead."""
    if not begins:
        return graph.nodes

    def entry(one: Entry) -> Entry:
        return (begins_at(graph, begins, one), 0) if one in begins else one

    nodes = [replace(node, inputs=tuple(map(entry, node.inputs))) for node in graph.nodes]
    return (*nodes, *(Node(name, "null") for name in begins.values()))


def begins_at(graph: Symbol, begins: Mapping[Entry, str], entry: Entry) -> int:
    """The place of the variable that stands for a tensor."""
    return len(graph.nodes) + list(begins).index(entry)


def _called(source: SymbolModel, graph: Symbol, inputs: Sequence[str]) -> tuple[str, ...]:
    read = {graph.nodes[position].name for position in graph.variables}
    return tuple(name for name in (*source.called, *inputs) if name in read)


def layers(model: object, export: ExportedModel, given: tuple[Example, ...] | None) -> tuple[TensorSpec, ...]:
    """What MXNet calls the tensors that operators give, with the sizes that they have in the exported graph."""
    graph = symbol_model(model, given).graph
    there = {spec.name: spec for spec in named("onnx").part.specs(export.model)}
    made = []
    for name, (position, index) in names(graph).items():
        node = graph.nodes[position]
        spec = there.get(name) or (there.get(node.name) if index == 0 else None)
        if not node.is_variable and name != node.name and spec is not None:
            made.append(replace(spec, name=name))
    return tuple(made)
