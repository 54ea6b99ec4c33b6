"""The interpreter: it knows no operator by name.

Nodes come in their order; each is handed to the row of its operator, the target's own first, then the
shared one. What no row supports is collected, with the node's name, until every problem is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.codegen.namespace import Namespace, without
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import Plan
from netferry.converters.graph.schema.constants import SIZES


class Walk:
    """One walk of a plan over a namespace; ``values`` holds what each value has become."""

    def __init__(self, plan: Plan, xp: Namespace) -> None:
        self.plan = plan
        self.xp = xp
        self.values: dict[ir.Value, Any] = {}
        self.problems: list[Unsupported] = []

    def run(self, take: Callable[[ir.Value], Any]) -> tuple[Any, ...]:
        """The outputs of the whole graph; every input and node that cannot be converted is reported at once.

        ``take`` makes the symbol of an input.
        """
        inputs = {value: self._input(value, take) for value in self.plan.graph.inputs}
        for value, symbol in inputs.items():
            self.xp.bind_input(value, symbol)
        outputs = self.graph(self.plan.graph, inputs)
        if self.problems:
            raise UnsupportedError(self.problems)
        return outputs

    def graph(self, graph: ir.Graph, inputs: Mapping[ir.Value, Any]) -> tuple[Any, ...]:
        """The outputs of a graph, or of a subgraph in the scope of what surrounds it."""
        self.values.update(inputs)
        for node in graph:
            if any(self.plan.fact(value).content is None for value in node.outputs if value.name):
                self._node(node)
        return tuple(self._value(value) for value in graph.outputs)

    def _input(self, value: ir.Value, take: Callable[[ir.Value], Any]) -> Any:
        try:
            return take(value)
        except CannotConvert as cannot:
            self._problem(value.name, "Input", cannot)
            return self._stand_in(value)

    def _node(self, node: ir.Node) -> None:
        budget.see()
        self.xp.node = node
        facts = [self.plan.fact(value) for value in node.outputs]
        try:
            results = self._converted(node)
            results = results if isinstance(results, tuple | list) else (results,)
            bound = self.xp.bind(node.outputs, results[: len(node.outputs)], facts)
        except CannotConvert as cannot:
            self._problem(node.name, node.op_type, cannot)
            bound = [self._stand_in(value) for value in node.outputs]
        self.values.update(zip(node.outputs, bound, strict=True))

    def _problem(self, name: str | None, operator: str, cannot: CannotConvert) -> None:
        self.problems.append(Unsupported(name or "", operator, cannot.reason, cannot.remedy))

    def _stand_in(self, value: ir.Value) -> Any:
        """What the nodes behind something that cannot be converted get, so that they are looked at too."""
        return self.xp.symbol(replace(self.plan.fact(value), content=None))

    def _converted(self, node: ir.Node) -> Any:
        """What a node's operator makes; one of another domain means something else under the same name."""
        if "refused" in node.meta:  # why it was not opened
            raise CannotConvert(*node.meta["refused"])
        if node.domain not in ("", "netferry"):
            raise CannotConvert(
                f"netferry does not support {node.domain}.{node.op_type}",
                f"{without(node)}, or define it (netferry.operator)",
            )
        return self.xp.operator(node.op_type, *self._operands(node), **attributes(node, self))

    def _operands(self, node: ir.Node) -> list[Any]:
        sizes = SIZES.get(node.op_type, ())
        return [
            None if value is None else self.sizes(value) if position in sizes else self._value(value)
            for position, value in enumerate(node.inputs)
        ]

    def _value(self, value: ir.Value) -> Any:
        if value not in self.values:
            self.values[value] = self.xp.symbol(self.plan.fact(value))
        return self.values[value]

    def sizes(self, value: ir.Value) -> tuple[Any, ...]:
        """An operand that an operator takes as sizes: ints and ``Size``, never a tensor."""
        content = self.plan.fact(value).content
        if content is not None:
            return tuple(item if content.dtype == object else int(item) for item in content.reshape(-1))
        if value not in self.plan.read:
            raise CannotConvert(f"how many sizes '{value.name}' holds is known only when the model runs")
        return self.plan.read[value]


class Body:
    """A subgraph as an attribute: rows of If, Loop and Scan walk it where they stand."""

    def __init__(self, graph: ir.Graph, walk: Walk) -> None:
        self.graph = graph
        self._walk = walk

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        """The outputs of the subgraph, written where the row stands."""
        node = self._walk.xp.node
        try:
            return self._walk.graph(self.graph, dict(zip(self.graph.inputs, inputs, strict=True)))
        finally:
            self._walk.xp.node = node

    def sizes_of_no_turn(self, place: int, dims: Sequence[Any]) -> list[int]:
        """The sizes of an output where no turn of a loop gives one: as they are known, else as the file says them, else 0."""
        said = self.graph.outputs[place].shape
        shown = said if said is not None and len(said) == len(dims) else dims
        return [
            next((size for size in both if isinstance(size, int)), 0)
            for both in zip(dims, shown, strict=True)
        ]


def attributes(node: ir.Node, walk: Walk) -> dict[str, Any]:
    """The attributes of a node as Python values; tensors as arrays, graphs as bodies."""
    return {name: _plain(attribute, walk) for name, attribute in node.attributes.items()}


def _plain(attribute: ir.Attr, walk: Walk) -> Any:
    value = attribute.value
    if attribute.type == ir.AttributeType.GRAPH:
        return Body(value, walk)
    if attribute.type == ir.AttributeType.TENSOR:
        return value.numpy()
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else value
