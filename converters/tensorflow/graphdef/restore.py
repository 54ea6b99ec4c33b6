"""Which tensor of the checkpoint each variable gets, and what each table of the graph holds: the restore and initialising steps, followed.

Nothing runs: a step is followed as far as it hands on names, handles and constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.graph import ARGUMENT, Graph, Node, in_order

VARIABLES = frozenset("VarHandleOp VariableV2 Variable".split())
TABLES = frozenset("HashTableV2 HashTable MutableHashTableV2".split())
CALLS = frozenset("PartitionedCall StatefulPartitionedCall".split())
_ASSIGNS = frozenset("AssignVariableOp Assign".split())
_CHANGES = re.compile(
    "Assign(Add|Sub)?(VariableOp)?$|ResourceScatter|ResourceStridedSliceAssign$|Scatter(Add|Sub|Update)$"
)
_PASSING = frozenset("Identity IdentityN ReadVariableOp".split())
_DEEPEST = 50


@dataclass(frozen=True)
class Handle:
    """A variable or a table, by the name that all nodes that mean it share."""

    name: str


@dataclass(frozen=True)
class Saved:
    """A tensor of the checkpoint; ``part`` is the slice of it that is meant, as TensorFlow writes that, or nothing."""

    key: str
    part: str = ""


@dataclass
class Bindings:
    """What the steps that were followed set: variables from the checkpoint or from constants, tables; ``changed`` are all variables that they write."""

    saved: dict[str, Saved] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    tables: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)


def handle_of(node: Node) -> Handle:
    """The variable or table that a node makes: all of one ``shared_name`` are one."""
    shared = node.attributes.get("shared_name")
    text = shared.text.decode("utf-8", "replace") if shared is not None and shared.text else ""
    return Handle(text if text and text != "cd2c89b7-88b7-44c8-ad83-06c2a9158347" else node.name)


class Follower:
    """Follows steps through the functions that they call; ``function`` gives a function by its name, or None."""

    def __init__(self, function: Callable[[str], Graph | None], where: str) -> None:
        self._function, self._where = function, where
        self.bindings = Bindings()

    def follow(
        self,
        graph: Graph,
        roots: Iterable[str],
        given: Sequence[Any] = (),
        depth: int = 0,
        captured: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """All that runs for the nodes ``roots`` to run; what each node gives, as far as that is known.

        A branch and the body of a loop are not followed. ``captured`` is what nodes of this graph give that stands outside of it.
        """
        if depth > _DEEPEST:
            raise RefusedError("functions are nested too deep", where=self._where)
        known: dict[str, Any] = {name: [value] for name, value in (captured or {}).items()}
        for node in in_order(graph, roots, self._where, controls=True):
            if node.name in known:
                continue
            read = [_output(known.get(ref.node), ref.port) for ref in node.inputs]
            known[node.name] = self._step(node, read, given, depth)
        return known

    def _step(self, node: Node, read: Sequence[Any], given: Sequence[Any], depth: int) -> Any:
        operator = node.operator
        if operator == ARGUMENT:
            position = node.attributes.get("index")  # an input of the main graph has none
            return [given[position] if position is not None and position < len(given) else None]
        if operator in VARIABLES or operator in TABLES:
            return [handle_of(node)]
        if _CHANGES.match(operator) and read and isinstance(read[0], Handle):
            self.bindings.changed.add(read[0].name)
        if operator == "Const":
            return [self._constant(node)]
        if operator in _PASSING:
            return list(read)
        if operator == "RestoreV2" and len(read) == 3:
            return _restored(read)
        if operator in _ASSIGNS and len(read) == 2:
            self._assign(*read)
            return read[:1]
        if operator in ("LookupTableImportV2", "LookupTableImport") and len(read) == 3:
            if isinstance(read[0], Handle):
                self.bindings.tables[read[0].name] = (read[1], read[2])
            return None
        called = self._function(_called(node)) if _called(node) else None
        if called is None:
            return None
        roots = [*(ref.node for ref in called.returns), *called.acts]
        inside = self.follow(called, roots, read, depth + 1)
        return [_output(inside.get(ref.node), ref.port) for ref in called.returns]

    def _constant(self, node: Node) -> Any:
        value = node.attributes.get("value")
        if value is None:
            return None
        if messages.is_text(value.tensor.dtype):
            return [text.decode("utf-8", "surrogateescape") for text in value.tensor.texts]
        return messages.array_of(value.tensor, f"{self._where}: {node.name}")

    def _assign(self, to: Any, value: Any) -> None:
        if not isinstance(to, Handle):
            return
        if isinstance(value, Saved):
            self.bindings.saved[to.name] = value
        elif value is not None and not isinstance(value, list | Handle):
            self.bindings.constants[to.name] = value


def _restored(read: Sequence[Any]) -> list[Saved] | None:
    _, names, parts = read
    if not isinstance(names, list):
        return None
    parts = parts if isinstance(parts, list) and len(parts) == len(names) else [""] * len(names)
    return [Saved(name, part) for name, part in zip(names, parts, strict=True)]


def _called(node: Node) -> str:
    """The function that a node calls: its attribute ``f``, or an operator that is one."""
    if node.operator in CALLS:
        function = node.attributes.get("f")
        return function.function.name if function is not None else ""
    return str(node.operator)


def _output(made: Any, index: int) -> Any:
    return made[index] if isinstance(made, list) and index < len(made) else None


def part_of(array: Array, spec: str, where: str) -> Array:
    """The slice that ``10 4 0,5:0,4`` means: the sizes of the whole, then start and length of each axis, ``-`` for all."""
    *_, ranges = spec.split(" ")
    slices = []
    for axis, text in enumerate(ranges.split(":")):
        if text == "-":
            slices.append(slice(None))
            continue
        start, _, length = text.partition(",")
        fits = start.isdigit() and length.isdigit() and axis < array.ndim
        if not fits or int(start) + int(length) > array.shape[axis]:
            raise RefusedError("a slice that lies outside of its tensor", where=where, received=spec)
        slices.append(slice(int(start), int(start) + int(length)))
    return array[tuple(slices)]


def by_name(nodes: Mapping[str, Node]) -> Mapping[str, Node]:
    """The variables of the main graph by the name of their handle."""
    return {handle_of(node).name: node for node in nodes.values() if node.operator in VARIABLES}
