"""Rewriting a graph whose facts are known: new nodes get their facts at once, nothing is inferred again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.inference import contents
from netferry.converters.graph.inference.evaluate import Evaluator
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.facts import Fact, Home
from netferry.converters.graph.ir.sizes import Size, TooLong


class Editor:
    """A graph with its facts, while patterns are rewritten.

    Nodes that nothing reads any more stay until ``sweep``; ``live`` tells them apart.
    """

    def __init__(self, graph: ir.Graph, evaluator: Evaluator) -> None:
        self.graph = graph
        self.evaluator = evaluator
        self.facts = evaluator.facts
        self._moved: dict[ir.Value, ir.Value] = {}
        self._made: set[ir.Value] = set()
        self._swept = False
        self._flat = not any(_subgraphs(node) for node in graph)
        self._taken = {str(value.name) for node in graph.all_nodes() for value in node.outputs}

    # ---- asking -------------------------------------------------------------------------------------

    def nodes(self) -> Iterator[ir.Node]:
        """The nodes that something reads, as the graph stands now, those of subgraphs too."""
        for node in list(self.graph if self._flat else self.graph.all_nodes()):
            if node.graph is not None and self.live(node):
                yield node

    def live(self, node: ir.Node) -> bool:
        return any(value.is_graph_output() or value.uses() for value in node.outputs)

    def maker(self, value: ir.Value | None, *operators: str) -> ir.Node | None:
        """The node that makes ``value``, if it is one of these operators and the value is no constant."""
        node = None if value is None or self.facts[value].content is not None else value.producer()
        known = node is not None and node.domain in ("", "netferry") and node.op_type in operators
        return node if known else None

    def inner(self, value: ir.Value) -> bool:
        """Whether one node alone reads the value, and no free size lives in it: it may be fused away."""
        return not value.is_graph_output() and len(value.uses()) == 1

    def reader(self, value: ir.Value) -> ir.Node | None:
        """The one node that reads the value; None where there are more, or an output of the graph."""
        return next(iter(value.uses())).node if self.inner(value) else None

    def constant(self, value: ir.Value | None) -> Any:
        """The content of a constant; None elsewhere."""
        return None if value is None else self.facts[value].constant

    def number(self, value: ir.Value | None) -> float | None:
        """The number that a constant of one element holds."""
        array = self.constant(value)
        return (
            None
            if array is None or array.size != 1 or array.dtype.kind in "UO"
            else float(array.reshape(-1)[0])
        )

    def dims(self, value: ir.Value | None) -> tuple[Any, ...]:
        """The sizes of a value; of an unknown rank, those of nothing."""
        return () if value is None else self.facts[value].dims or ()

    def dtype(self, value: ir.Value) -> np.dtype[Any]:
        dtype = self.facts[value].dtype
        assert dtype is not None
        return dtype

    # ---- writing --------------------------------------------------------------------------------------

    def add(
        self,
        before: ir.Node,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        outputs: int = 1,
        name: str | None = None,
        domain: str = "",
    ) -> Any:
        """Write a node; the value that it makes, or a tuple of them."""
        inputs = list(inputs)
        while inputs and inputs[-1] is None:
            inputs.pop()
        node = ir.node(
            operator, inputs, attributes or {}, num_outputs=outputs, domain=domain, name=name or before.name
        )
        for position, value in enumerate(node.outputs):
            value.name = unique(f"{before.outputs[0].name}_{operator.lower()}{position or ''}", self._taken)
        assert before.graph is not None
        before.graph.insert_before(before, node)
        self._made.update(node.outputs)
        self._swept = False
        self.evaluator.node(node)
        return node.outputs[0] if outputs == 1 else tuple(node.outputs)

    def sizes(self, sizes: Sequence[int | Size], name: str) -> ir.Value:
        """A value that holds sizes, as Reshape takes them."""
        return self.value(contents.of_sizes(list(sizes)), name)

    def value(self, fact: Fact, name: str) -> ir.Value:
        """A constant that no node makes."""
        assert fact.dtype is not None
        value = ir.Value(name=name, type=ir.TensorType(contents.onnx_dtype(fact.dtype)))
        self.facts[value] = fact
        if fact.constant is not None:
            value.const_value = ir.Tensor(fact.constant, name=name)
        return value

    def reshape(self, before: ir.Node, x: ir.Value, sizes: Sequence[int | Size]) -> ir.Value:
        shape = self.sizes(sizes, f"{before.outputs[0].name}_sizes")
        made: ir.Value = self.add(before, "Reshape", [x, shape])
        self.facts[made] = replace(self.facts[made], dims=tuple(sizes))
        return made

    def transpose(self, before: ir.Node, x: ir.Value, perm: Sequence[int]) -> ir.Value:
        made: ir.Value = self.add(before, "Transpose", [x], {"perm": list(perm)})
        return made

    def attempt(self, rule: Callable[..., None], node: ir.Node, *more: Any) -> None:
        """Let a rule act on a node; where it would need a size that is too long, the graph stays as it is."""
        with suppress(TooLong):
            rule(self, node, *more)

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let ``new`` be read wherever ``old`` was; it takes the name, which is the source's.

        An output of the graph keeps its name: what is an input, a constant or another output itself is handed to
        it by an Identity.
        """
        self._swept = False
        maker, leaves = new.producer(), old.is_graph_output()
        if leaves and (maker is None or new.is_graph_output() or self.facts[new].content is not None):
            writer = old.producer()
            assert writer is not None
            new = self.add(writer, "Identity", [new])
        have, known = self.facts[new], self.facts[old]
        if known.dims is not None and have.content is None:
            self.facts[new] = replace(
                have, dims=known.dims, fill=known.fill if have.fill is None else have.fill
            )
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if leaves or new in self._made:
            new.name = old.name
        new.type = new.type or old.type
        if old in self.evaluator.read:
            self.evaluator.read.setdefault(new, self.evaluator.read[old])
        self._moved[old] = new

    # ---- ending -----------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Drop what nothing reads; a free size whose value is gone is read off another value that has it."""
        if self._swept:
            return
        self._swept = True
        self._follow()
        roots: set[ir.Value] = set()
        while True:
            kept: dict[ir.Value, None] = {}
            self._collect(self.graph, kept, roots)
            first: dict[str, ir.Value] = {}
            for value in kept:
                for name in self._names(value):
                    first.setdefault(name, value)
            homeless = [name for name in first if self.evaluator.homes[name].value not in kept]
            if not homeless:
                break
            for name in homeless:
                self._rehome(name, first[name], roots)
        self._drop(self.graph, kept)

    def hush(self) -> None:
        """Take the names of outputs that nothing reads: no row needs to make them."""
        homes = {home.value for home in self.evaluator.homes.values()}
        for node in self.graph.all_nodes():
            for value in node.outputs:
                if not value.uses() and not value.is_graph_output() and value not in homes:
                    value.name = ""

    def _follow(self) -> None:
        """Free sizes whose value has been replaced live in what stands for it now."""
        homes = self.evaluator.homes
        for name, home in homes.items():
            value = home.value
            while value in self._moved:
                value = self._moved[value]
            homes[name] = replace(home, value=value)
        self._moved.clear()

    def _collect(self, graph: ir.Graph, kept: dict[ir.Value, None], roots: set[ir.Value]) -> None:
        """Mark what the graph's outputs and ``roots`` are made of, in the graph's order; constants need no maker."""
        kept.update(dict.fromkeys(graph.inputs))
        wanted: set[ir.Value | None] = {*graph.outputs, *roots}
        nodes = []
        for node in reversed(graph):
            if any(value in wanted and self.facts[value].content is None for value in node.outputs):
                nodes.append(node)
                wanted.update(node.inputs if self._flat else _reads(node))
        for node in reversed(nodes):
            kept.update(dict.fromkeys(value for value in node.inputs if value is not None))
            for subgraph in () if self._flat else _subgraphs(node):
                self._collect(subgraph, kept, roots)
            kept.update(dict.fromkeys(node.outputs))
        kept.update(dict.fromkeys(graph.outputs))

    def _drop(self, graph: ir.Graph, kept: Mapping[ir.Value, None]) -> None:
        for node in reversed(graph):
            if not any(value in kept and self.facts[value].content is None for value in node.outputs):
                graph.remove(node)
                for position in range(len(node.inputs)):
                    node.replace_input_with(position, None)
                continue
            for subgraph in () if self._flat else _subgraphs(node):
                self._drop(subgraph, kept)
        for name in [name for name, value in graph.initializers.items() if value not in kept]:
            del graph.initializers[name]

    def _names(self, value: ir.Value) -> Iterator[str]:
        """The free sizes that a value speaks of."""
        fact = self.facts[value]
        items = [*(fact.dims or ()), *self.evaluator.read.get(value, ())]
        if fact.content is not None and fact.content.dtype == object:
            items += list(fact.content.reshape(-1))
        for item in items:
            if isinstance(item, Size):
                yield from item.names()

    def _rehome(self, name: str, first: ir.Value, roots: set[ir.Value]) -> None:
        """Read a free size off the first value that speaks of it, where it stands there alone; else keep its home."""
        size = Size.named(name)
        dims = self.facts[first].dims or ()
        if size in dims and self.facts[first].content is None:
            self.evaluator.homes[name] = Home(first, "dim", dims.index(size))
        else:
            roots.add(self.evaluator.homes[name].value)


Rule = Callable[[Editor, ir.Node], None]
"""One pattern at the node that it ends in: it rewrites the graph, or leaves it as it is."""


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    return [
        attribute.value for attribute in node.attributes.values() if attribute.type == ir.AttributeType.GRAPH
    ]


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """The values that a node reads, those that its subgraphs read of their surroundings too."""
    yield from (value for value in node.inputs if value is not None)
    for subgraph in _subgraphs(node):
        for inner in subgraph:
            yield from _reads(inner)
        yield from subgraph.outputs
