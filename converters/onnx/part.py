"""A part of an ONNX graph: cut where it is told to begin and to end, with fixed sizes, under other names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, islice, takewhile

import onnx
import onnx_ir as ir

from netferry.converters.errors import NetferryError, UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.graph.inference import contents
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.names import identifier
from netferry.converters.graph.passes.normalize import evaluated, extents, graphs_of
from netferry.converters.onnx.completing import completed
from netferry.converters.part import Sizes, found, unknown
from netferry.converters.signature import Dim, Example, TensorSpec

Model = onnx.ModelProto | ir.Model


def cut(
    model: Model, outputs: Sequence[str], inputs: Sequence[str], given: tuple[Example, ...] | None
) -> tuple[ir.Model, tuple[Example, ...] | None]:
    """The graph from ``inputs`` (tensors, or nodes by name) to ``outputs``; what is needed of its own inputs stays.

    Examples of inputs that are gone are left out.
    """
    made = copied(model)
    made.graph.sort()
    graph, known = made.graph, _named(made.graph)
    begins, ends = ([found(name, known) for name in names] for names in (inputs, outputs))
    _type_all(made, [*begins, *ends])
    entering = [_begun(graph, value) for value in begins]
    if outputs:
        graph.outputs[:] = list(dict.fromkeys(ends))
    drop_unread(graph, inputs=True)
    for name, value in zip(inputs, entering, strict=True):
        if value not in graph.inputs:
            raise UsageError(f"nothing between the part's begin and end reads '{name}'")
    left = {value.name for value in graph.inputs}
    shown = None if given is None else tuple(one for one in given if one.name in left)
    return made, shown or None


def beginning(model: ir.Model, most: int) -> tuple[ir.Model, int]:
    """The first nodes of a graph as a model of their own, and how many those are: at most ``most``.

    Nodes of subgraphs count, and those that functions become. What later nodes read of them are its outputs.
    """
    graph = model.graph
    sums = accumulate(extents(model))
    first = [node for node, _ in zip(graph, takewhile(lambda count: count <= most, sums), strict=False)]
    read = {value for node in first for value in _reads(node)}
    later = {*graph.outputs, *(value for node in islice(graph, len(first), None) for value in _reads(node))}
    ends = [value for node in first for value in node.outputs if value in later]
    view = ir.GraphView(
        [value for value in graph.inputs if value in read],
        ends,
        nodes=first,
        initializers=[value for value in graph.initializers.values() if value in read],
        opset_imports=graph.opset_imports,
        name=graph.name,
    )
    made = ir.Model(view.clone(), ir_version=model.ir_version, functions=tuple(model.functions.values()))
    _type_all(made, made.graph.outputs)
    made.graph.outputs[:] = [value for value in made.graph.outputs if _as_a_tensor(value)]
    drop_unread(made.graph)
    return made, sum(extents(made))


def _as_a_tensor(value: ir.Value) -> bool:
    """Whether a value can leave a graph; one that comes of an operator that nobody knows is taken for floats."""
    maker = value.producer()
    if value.type is None and maker is not None and not _LISTS.match(maker.op_type):
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return isinstance(value.type, ir.TensorType)


_LISTS = re.compile("Sequence|Optional|SplitToSequence|If$|Loop$|Scan$|Identity$")
"""Operators that may give lists of tensors, or none."""


def fixed(model: Model, sizes: Sizes) -> ir.Model:
    """The graph with inputs of these sizes; a free size that two share is the same in both.

    Raises UsageError where an input has another rank, or another size that is fixed.
    """
    made = copied(model)
    inputs = {str(value.name): value for value in made.graph.inputs}
    named: dict[str, int] = {}
    for name, shape in sizes.items():
        if name not in inputs:
            raise unknown(name, inputs, "input")
        value = inputs[name]
        own = [None] * len(shape) if value.shape is None else list(value.shape)
        if len(own) != len(shape):
            raise UsageError(f"input '{name}' has another rank", expected=len(own), received=list(shape))
        for axis, (have, size) in enumerate(zip(own, shape, strict=True)):
            symbol = getattr(have, "value", None)
            if (isinstance(have, int) and have > 0 and have != size) or named.get(symbol or "", size) != size:
                raise UsageError(
                    f"axis {axis} of input '{name}' has another size already",
                    expected=named.get(symbol or "", have),
                    received=size,
                )
            named |= {symbol: size} if symbol else {}
        value.shape = ir.Shape(shape)
    for value in (*made.graph.inputs, *made.graph.outputs):
        if value.shape is not None:
            value.shape = ir.Shape([_settled(dim, named) for dim in value.shape])
    return made


def _settled(dim: int | ir.SymbolicDim, named: Mapping[str, int]) -> int | ir.SymbolicDim:
    return dim if isinstance(dim, int) or dim.value is None else named.get(dim.value, dim)


def renamed(model: Model, names: Mapping[str, str]) -> ir.Model:
    """The graph with other names for inputs and outputs."""
    made = copied(model)
    ends = {str(value.name): value for value in (*made.graph.inputs, *made.graph.outputs)}
    taken = set(_named(made.graph))
    for old, new in names.items():
        if old not in ends:
            raise unknown(old, ends, "input or output")
        if not new or (new in taken and new not in names):
            raise UsageError(f"'{old}' cannot get that name", expected="one that is free", received=repr(new))
    for old, new in names.items():
        ends[old].name = new
    return made


def layers(
    model: Model,
    export: ExportedModel,
    given: tuple[Example, ...] | None,
) -> tuple[TensorSpec, ...]:
    """Every tensor that a node of the graph gives."""
    return specs(export.model)


def specs(model: Model) -> tuple[TensorSpec, ...]:
    """Every tensor of a graph that a node gives, in order, with sizes as far as they can be known."""
    facts = _facts(model)
    names = [str(value.name) for node in copied(model).graph for value in node.outputs if value.name]
    return tuple(
        TensorSpec(name, fact.dtype, _dims(fact))
        for name in names
        if (fact := facts.get(name)) is not None and fact.dtype is not None
    )


def copied(model: Model) -> ir.Model:
    """A copy that may be changed; weights are shared."""
    return model.clone() if isinstance(model, ir.Model) else ir.from_proto(completed(model))


def _named(graph: ir.Graph) -> dict[str, ir.Value]:
    """Tensors by their names; a node's name means its first output."""
    known = {str(node.name): node.outputs[0] for node in graph if node.name and node.outputs}
    known |= {str(value.name): value for value in graph.inputs}
    return known | {str(value.name): value for node in graph for value in node.outputs if value.name}


def _facts(model: Model) -> dict[str, Fact]:
    """What is known of each value, by its name; of a graph that cannot be evaluated, nothing."""
    with suppress(NetferryError):
        _, evaluator = evaluated(model)
        return {str(value.name): fact for value, fact in evaluator.facts.items()}
    return {}


def _type_all(model: ir.Model, values: Sequence[ir.Value]) -> None:
    """Give the values at which a graph is cut their types, where the file does not say them.

    Sizes that are computed of others are sizes of their own, under names that tell what they are.
    """
    wanted = [value for value in values if value.type is None or value.shape is None]
    facts = _facts(model) if wanted else {}
    for value in wanted:
        fact = facts.get(str(value.name))
        if fact is not None and fact.dtype is not None:
            value.type = value.type or ir.TensorType(contents.onnx_dtype(fact.dtype))
            dims = _dims(fact)
            value.shape = None if dims is None else ir.Shape(dims)


def _dims(fact: Fact) -> tuple[Dim, ...] | None:
    if fact.dims is None:
        return None
    return tuple(dim if isinstance(dim, int) else identifier(str(dim)) for dim in fact.dims)


def _begun(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A new input of the graph that stands for what a node gives."""
    if value in graph.inputs:
        return value
    begun = ir.Value(name=value.name, type=value.type, shape=value.shape)
    value.replace_all_uses_with(begun, replace_graph_outputs=True)
    value.name = f"{value.name}_before"
    graph.inputs.append(begun)
    return begun


def drop_unread(graph: ir.Graph, *, inputs: bool = False) -> None:
    """Leave only what the outputs are made of: nodes, weights, and, of a part, inputs."""
    wanted: set[ir.Value] = set(graph.outputs)
    for node in reversed(list(graph)):
        if wanted.isdisjoint(node.outputs):
            graph.remove(node)
            for position in range(len(node.inputs)):
                node.replace_input_with(position, None)
        else:
            wanted.update(_reads(node))
    if inputs:
        graph.inputs[:] = [value for value in graph.inputs if value in wanted]
    for name, value in list(graph.initializers.items()):
        if value not in wanted:
            del graph.initializers[name]


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, in its subgraphs too."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        for graph in graphs_of(attribute):
            for inner in graph:
                yield from _reads(inner)
            yield from graph.outputs
