"""A model read from a SavedModel or a frozen graph: its graph, its variables, and the signatures by which it is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef import messages, objects, restore
from netferry.converters.tensorflow.graphdef.checkpoint import Checkpoint, OldCheckpoint
from netferry.converters.tensorflow.graphdef.graph import (
    ARGUMENT,
    Graph,
    Node,
    Ref,
    function_of,
    in_order,
    reached,
)
from netferry.converters.tensorflow.graphdef.restore import Bindings, Follower, Handle
from netferry.converters.trust.permit import Looked


@dataclass(frozen=True)
class Port:
    """An input or output of a signature: the name that callers use, the tensor of the main graph, and what is declared."""

    name: str
    ref: Ref
    dtype: int
    dims: tuple[int | None, ...] | None


@dataclass(frozen=True)
class CalledBy:
    """A signature: what is fed and what is fetched, in order."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Source:
    """The file that a model was read from, as it was looked at."""

    path: Path
    kind: str
    looked: Looked


def signature_called(signatures: Mapping[str, CalledBy], name: str, where: str) -> CalledBy:
    """The signature of this name."""
    if name not in signatures:
        raise UsageError(
            "the model has no such signature",
            where=where,
            expected=f"one of {', '.join(signatures) or 'none'}",
            received=name,
        )
    return signatures[name]


def the_signature(meant: CalledBy | None, signatures: Mapping[str, CalledBy], where: str) -> CalledBy:
    """The signature that is meant.

    Raises:
        UsageError: there are several, and none is the default.
    """
    if meant is None:
        raise UsageError(
            "the model has several signatures and none is the default",
            where=where,
            expected=f"one of {', '.join(signatures)}",
            remedy="Name the one that is meant: --signature NAME",
        )
    return meant


class Library:
    """The functions of a graph, each read when it is called for the first time."""

    def __init__(self, functions: Iterable[Any], where: str) -> None:
        self._where = where
        self.messages: dict[str, Any] = {}
        for each in functions:
            if each.signature.name in self.messages:
                raise RefusedError(f"two of one name: the function '{each.signature.name}'", where=where)
            self.messages[each.signature.name] = each
        self._read: dict[str, Graph] = {}

    @property
    def read(self) -> Iterable[Graph]:
        """Those that have been called."""
        return self._read.values()

    def __call__(self, name: str) -> Graph | None:
        if name not in self._read and name in self.messages:
            self._read[name] = function_of(self.messages[name], self.messages, self._where)
        return self._read.get(name)


@dataclass(frozen=True, eq=False)
class GraphModel:
    """``label`` says where it came from; ``meant`` is the signature that is meant of ``signatures``, if any.

    ``steps`` are the nodes by which variables and tables get their content; ``arrays`` are variables that came without
    a checkpoint, ``captured`` nodes whose value stands outside of the graph, ``objects`` what was saved beside it. ``source`` is what TensorFlow can load, for those who want to run it there.
    """

    label: str
    graph: Graph
    functions: Library
    signatures: Mapping[str, CalledBy]
    meant: CalledBy | None
    steps: Sequence[str] = ()
    checkpoint: Checkpoint | OldCheckpoint | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    source: Source | None = None
    captured: Mapping[str, Handle | Array] = field(default_factory=dict)
    objects: Any = None

    def called_by(self, name: str) -> GraphModel:
        """The same model, another signature of it meant."""
        return replace(self, meant=signature_called(self.signatures, name, self.label))

    @property
    def signature(self) -> CalledBy:
        """The signature that is meant.

        Raises:
            UsageError: there are several, and none is the default.
        """
        return the_signature(self.meant, self.signatures, self.label)

    @cached_property
    def bindings(self) -> Bindings:
        follower = Follower(self.functions, self.label)
        present = [name for name in self.steps if name in self.graph.nodes]
        follower.follow(self.graph, present)
        return follower.bindings

    @cached_property
    def changes(self) -> frozenset[str]:
        """The variables that each call of the signature writes anew."""
        follower = Follower(self.functions, self.label)
        roots = [port.ref.node for port in self.signature.outputs]
        follower.follow(self.graph, roots, captured=self.captured)
        return frozenset(follower.bindings.changed)

    def variable(self, name: str) -> Array:
        """The content of the variable whose handle has this name.

        Raises:
            RefusedError: neither the checkpoint nor the graph gives it any.
        """
        if name in self.arrays:
            return self.arrays[name]
        saved = self.bindings.saved.get(name)
        if saved is None and name in self.bindings.constants:
            return np.asarray(self.bindings.constants[name])
        if self.checkpoint is None:
            raise RefusedError(
                f"the variable '{name}' has no content: the file is damaged, its checkpoint is missing",
                where=self.label,
            )
        if saved is None:
            saved = restore.Saved(self._kept.get(name, name))
        array = messages.written(self.checkpoint.read(saved.key))
        return restore.part_of(array, saved.part, self.label) if saved.part else array

    @cached_property
    def _kept(self) -> Mapping[str, str]:
        """The keys of variables that only the saved objects tell."""
        if self.objects is None or not self.objects.nodes:
            return {}
        found = objects.keys(self.objects, self.graph, lambda node: node.operator in restore.VARIABLES)
        return {restore.handle_of(node).name: key for node, key in found}

    def title_of(self, name: str) -> str:
        """What people call a variable: Keras writes each a second time, as ``dense/kernel_1``, and serves that one."""
        base = re.sub(r"_\d+$", "", name)
        if base == name or base not in self._variables or base in self._served:
            return name
        try:
            same = np.array_equal(self.variable(base), self.variable(name))
        except RefusedError:  # the first one is not kept at all
            return base
        return base if same else name

    @cached_property
    def _variables(self) -> Mapping[str, Node]:
        return restore.by_name(self.graph.nodes)

    @cached_property
    def _served(self) -> frozenset[str]:
        """The variables that the signature reads."""
        nodes = in_order(self.graph, [port.ref.node for port in self.signature.outputs], self.label)
        return frozenset(restore.handle_of(node).name for node in nodes if node.operator in restore.VARIABLES)

    def executed(self) -> tuple[frozenset[str], frozenset[str]]:
        """The nodes of the main graph that run for the signature, and the operators that run in it and in what it calls."""
        main = reached(self.graph, [port.ref.node for port in self.signature.outputs], self.label)
        operators: set[str] = set()
        seen: set[str] = set()
        waiting = list(main)
        while waiting:
            node = waiting.pop()
            for name in (node.operator, *_named_in(node)):
                function = self.functions(name)
                if function is not None and name not in seen:
                    seen.add(name)
                    waiting.extend(function.nodes.values())
            if self.functions(node.operator) is None and node.operator != ARGUMENT:
                operators.add(node.operator)
        return frozenset(node.name for node in main), frozenset(operators)

    def holds(self, dtype: int) -> bool:
        """Whether a tensor of this dtype stands in the graph or in a function of it."""
        bodies = (self.graph.nodes.values(), *(graph.nodes.values() for graph in self.functions.read))
        values = (value for nodes in bodies for node in nodes for value in node.attributes.values())
        return any(getattr(value, "type", 0) == dtype for value in values)

    def table(self, name: str) -> tuple[Any, Any]:
        """Keys and values of a lookup table."""
        if name not in self.bindings.tables:
            raise RefusedError(f"nothing fills the lookup table '{name}'", where=self.label)
        return self.bindings.tables[name]


def _named_in(node: Node) -> Iterable[str]:
    """The functions that a node's attributes name."""
    for value in node.attributes.values():
        if hasattr(value, "function"):
            yield from (each.name for each in (value.function, *value.list.functions) if each.name)
