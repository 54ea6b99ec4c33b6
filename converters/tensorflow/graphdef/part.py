"""A part of a graph of TensorFlow's operators: from what some of its nodes give to what others give."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from netferry.converters.errors import Unsupported, UnsupportedError
from netferry.converters.exported import ExportedModel
from netferry.converters.graph.ir.build import unique
from netferry.converters.part import found
from netferry.converters.signature import Dim, Example, TensorSpec
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.files import placeholders
from netferry.converters.tensorflow.graphdef.graph import ARGUMENT, Graph, Node, Ref, in_order
from netferry.converters.tensorflow.graphdef.model import CalledBy, GraphModel, Port
from netferry.converters.tensorflow.graphdef.restore import CALLS

_GIVEN = ("Tout", "DstT", "out_type", "output_type", "dtype", "T", "Tparams", "Tvalues", "element_dtype")
"""The attributes that tell an operator's dtype, the surest first."""


def cut(
    model: GraphModel, outputs: Sequence[str], inputs: Sequence[str], given: tuple[Example, ...] | None
) -> tuple[GraphModel, tuple[Example, ...] | None]:
    """The model from what the nodes ``inputs`` give to what the nodes ``outputs`` give, by the names of nodes.

    Nodes of functions count by their own names; outputs of the signature by those that it gives them. What begins in
    the middle has the sizes of its example.
    """
    named = {port.name: port for port in model.signature.outputs}
    if model.signatures and not inputs and named.keys() >= set(outputs):
        kept = tuple(named[name] for name in outputs)
        return replace(model, meant=replace(model.signature, outputs=kept)), given
    graph = opened(model)
    served = {port.name: port.ref for port in _signature(model, graph).outputs}
    ends = [(name, served.get(name) or _ref(model, graph, name)) for name in outputs or served]
    begins = [(name, _ref(model, graph, name)) for name in inputs]
    ports = tuple(
        Port(name, ref, _code(model, graph, ref), _dims(graph.nodes[ref.node], ref.port))
        for name, ref in begins
    )
    nodes = {
        port.ref.node: replace(graph.nodes[port.ref.node], operator=ARGUMENT, inputs=(), controls=())
        for port in ports
    }
    cut_off = replace(graph, nodes={**graph.nodes, **nodes})
    own = {port.ref.node: port for port in _signature(model, graph).inputs}
    fed = placeholders(cut_off, [ref.node for _, ref in ends], model.label)
    signature = CalledBy(
        "",
        (*(own.get(port.ref.node, port) for port in fed if port.ref.node not in nodes), *ports),
        tuple(Port(name, ref, 0, None) for name, ref in ends),
    )
    names = {port.name for port in signature.inputs}
    left = None if given is None else tuple(one for one in given if one.name in names) or None
    source = model.source if graph is model.graph else None
    return replace(model, graph=cut_off, meant=signature, signatures={}, source=source), left


def layers(
    model: GraphModel, export: ExportedModel, given: tuple[Example, ...] | None
) -> tuple[TensorSpec, ...]:
    """What each node of the converted graph gives, as far as it stands in the file under the same name."""
    known = opened(model).nodes
    return tuple(
        TensorSpec(node.name or "", value.dtype.numpy(), None if value.shape is None else _plain(value.shape))
        for node in export.model.graph
        for value in node.outputs[:1]
        if node.name in known and value.dtype is not None
    )


def _plain(shape: Iterable[Any]) -> tuple[Dim, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape)


def _signature(model: GraphModel, graph: Graph) -> CalledBy:
    """The signature that is meant, of the opened graph."""
    return model.signature if graph is model.graph else _Opened(model).signature()


def _ref(model: GraphModel, graph: Graph, name: str) -> Ref:
    needed = in_order(graph, [port.ref.node for port in _signature(model, graph).outputs], model.label)
    node, _, port = name.partition(":")
    if port.isdigit() and node in graph.nodes:
        return Ref(node, int(port))
    known = {each.name: Ref(each.name, 0) for each in needed if each.operator != "Const"}
    return known.get(name) or (Ref(name, 0) if name in graph.nodes else found(name, known, "node"))


def _code(model: GraphModel, graph: Graph, ref: Ref) -> int:
    """The dtype of a tensor, as far as its node tells it."""
    node = graph.nodes[ref.node]
    codes = [node.attributes[name].type for name in _GIVEN if name in node.attributes]
    code = next((code for code in codes if code), 0)
    if node.operator in _PARSING:
        dense = _of_dense(node, ref.port)
        types = list(node.attributes["Tdense"].list.types)
        code = types[dense] if 0 <= dense < len(types) else 0
    if code not in messages.DTYPES:
        what = Unsupported(
            node.name, node.operator, "a part cannot begin there: it gives no numbers, or none that are known"
        )
        raise UnsupportedError([what], where=model.label)
    return code


_PARSING = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})
"""What reads the features out of an example: first three outputs for each sparse one, then the dense ones."""


def _of_dense(node: Node, port: int) -> int:
    """Which of the dense features an output is; negative where it is none."""
    return port - 3 * len(node.attributes["sparse_types"].list.types)


def _dims(node: Node, port: int) -> tuple[int | None, ...] | None:
    """The declared sizes of a feature, for each example of a batch; else what TensorFlow 1 noted of a node's output."""
    dense = _of_dense(node, port) if node.operator in _PARSING else -1
    noted = node.attributes.get("dense_shapes" if dense >= 0 else "_output_shapes")
    shapes, place = () if noted is None else noted.list.shapes, dense if dense >= 0 else port
    own = messages.dims_of(shapes[place]) if place < len(shapes) else None
    batch = (None,) if dense >= 0 and node.operator != "ParseSingleExample" else ()
    return None if own is None else (*batch, *own)


_NUMBERS_OF_TEXT = re.compile(
    r"LookupTableFind(V2)?|StringToHashBucket\w*|StringToNumber|StringLength|Decode\w+|Unicode\w+|Equal"
)
"""Operators that read texts and give numbers."""


def behind_texts(model: GraphModel) -> list[str]:
    """The nodes that make numbers of the signature's strings, at which a part can begin; of several outputs all that are read."""
    graph = opened(model)
    ends = [port.ref.node for port in _signature(model, graph).outputs]
    texts = {port.ref.node for port in model.signature.inputs if messages.is_text(port.dtype)}
    named, parsing = list[str](), set[str]()
    for node in in_order(graph, ends, model.label):
        for ref in node.inputs:
            name = f"{ref.node}:{ref.port}"
            if ref.node in parsing and name not in named:
                named.append(name)
        if any(ref.node in texts for ref in node.inputs):
            if node.operator in _PARSING:
                parsing.add(node.name)
            else:
                (named.append if _NUMBERS_OF_TEXT.fullmatch(node.operator) else texts.add)(node.name)
    return named


# ---- functions ---------------------------------------------------------------------------------------


def opened(model: GraphModel) -> Graph:
    """The main graph with the functions that the signature calls written in place; the graph itself where it calls none."""
    return _Opened(model).graph if any(map(_calls, model.graph.nodes.values())) else model.graph


def _calls(node: Node) -> bool:
    return node.operator in CALLS


class _Opened:
    """Nodes of functions keep their names, with a number behind one that is taken."""

    def __init__(self, model: GraphModel) -> None:
        self._model = model
        self._nodes = dict(model.graph.nodes)
        self._taken = set(self._nodes)
        ends = [port.ref.node for port in model.signature.outputs]
        self._ends = self._placed(model.graph, ends, (), lambda name: name)
        self.graph = replace(model.graph, nodes=self._nodes)

    def signature(self) -> CalledBy:
        held = self._model.signature
        ends = (replace(port, ref=self._ends[port.ref.node](port.ref.port)) for port in held.outputs)
        return replace(held, outputs=tuple(ends))

    def _placed(
        self, graph: Graph, wanted: Iterable[str], given: Sequence[Ref], called: Callable[[str], str]
    ) -> dict[str, Callable[[int], Ref]]:
        """Write what these nodes need; where the outputs of each stand then."""
        refs: dict[str, Callable[[int], Ref]] = {}
        for node in in_order(graph, wanted, self._model.label):
            inputs = tuple(refs[ref.node](ref.port) for ref in node.inputs)
            function = self._model.functions(node.attributes["f"].function.name) if _calls(node) else None
            if node.operator == ARGUMENT:
                refs[node.name] = _always(given[node.attributes["index"]])
            elif function is not None:
                inside = self._placed(function, [ref.node for ref in function.returns], inputs, self._fresh)
                refs[node.name] = [inside[ref.node](ref.port) for ref in function.returns].__getitem__
            else:
                name = called(node.name)
                self._nodes[name] = replace(node, name=name, inputs=inputs, controls=())
                refs[node.name] = _ports(name)
        return refs

    def _fresh(self, name: str) -> str:
        return unique(name, self._taken)


def _always(ref: Ref) -> Callable[[int], Ref]:
    return lambda _: ref


def _ports(name: str) -> Callable[[int], Ref]:
    return lambda port: Ref(name, port)
