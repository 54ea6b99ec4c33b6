"""A graph as an outline: operations in the modules that their names' paths say, each with its sizes and attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from netferry.validation.reports import wording
from netferry.validation.reports.page.graphs import Graph, Node

BEYOND = 1e-4
"""Of a tensor's scale: what rounding in float32 does not do to a layer."""

MOST = 2000
"""Operations that an outline shows; a page of more is slow to open."""


@dataclass(frozen=True)
class Leaf:
    """One operation: its name within its module, and what is seen when it is opened."""

    op: str
    name: str
    weighted: bool
    facts: tuple[tuple[str, str], ...]
    worst: float | None = None

    @property
    def error(self) -> str:
        return "" if self.worst is None else wording.number(self.worst)

    @property
    def differs(self) -> bool:
        """Whether its error is more than rounding makes."""
        return self.worst is not None and not self.worst <= BEYOND

    @property
    def words(self) -> str:
        """What a search looks through."""
        return " ".join([self.op, self.name, *(value for _, value in self.facts)]).lower()


@dataclass
class Branch:
    """A module: what is in it, in order of execution."""

    name: str
    parts: list[Branch | Leaf] = field(default_factory=list)

    @property
    def leaves(self) -> int:
        return sum(part.leaves if isinstance(part, Branch) else 1 for part in self.parts)

    @property
    def said(self) -> str:
        return wording.count(self.leaves, "operation")

    @property
    def differs(self) -> bool:
        return any(part.differs for part in self.parts)


@dataclass(frozen=True)
class Outline:
    """One side's graph; ``left_out`` is how many operations are not shown."""

    title: str
    parts: tuple[Branch | Leaf, ...]
    said: str
    left_out: int = 0


def outline(graph: Graph, errors: Mapping[str, float | None]) -> Outline:
    """``errors`` are those of tensors, by their names; an operation that makes one shows it."""
    top = Branch("")
    way = [top]
    for node, (*path, name) in zip(graph.nodes, _paths(graph.nodes[:MOST]), strict=False):
        depth = 0
        while depth < len(path) and depth + 1 < len(way) and way[depth + 1].name == path[depth]:
            depth += 1
        del way[depth + 1 :]
        for step in path[depth:]:
            branch = Branch(step)
            way[-1].parts.append(branch)
            way.append(branch)
        way[-1].parts.append(_leaf(node, name, errors))
    said = wording.count(len(graph.nodes), "operation")
    parts = tuple(_folded(part) for part in top.parts)
    return Outline(graph.title, parts, said, max(0, len(graph.nodes) - MOST))


def _paths(nodes: Sequence[Node]) -> list[list[str]]:
    """Each operation's modules, then its own name. What a program does between two steps of a module bears the name of a variable at
    the most, and belongs to that module."""
    paths = [_path(node) for node in nodes]
    behind: list[str] = []
    loose = [
        len(path) == 1 and not node.sizes and not node.weighted
        for node, path in zip(nodes, paths, strict=True)
    ]
    for place in reversed(range(len(paths))):
        if loose[place]:
            paths[place] = [*behind, *paths[place]]
        else:
            behind = paths[place][:-1]
    before: list[str] = []
    for place, path in enumerate(paths):
        if loose[place]:
            shared = [one for one, other in zip(before, path[:-1], strict=False) if one == other]
            paths[place] = [*(shared if before[: len(shared)] == path[: len(shared)] else []), path[-1]]
        before = paths[place][:-1]
    return paths


def _path(node: Node) -> list[str]:
    """``encoder/layer.0/Relu`` -> ``[encoder, layer, 0, Relu]``; an operation without a name stands on its own."""
    return [step for step in re.split(r"[/.]+", node.name) if step] or [""]


def _folded(part: Branch | Leaf) -> Branch | Leaf:
    """A module of one thing is that thing, under both names."""
    if isinstance(part, Leaf):
        return part
    parts = [_folded(one) for one in part.parts]
    if len(parts) > 1:
        return Branch(part.name, parts)
    [only] = parts
    name = ".".join(filter(None, (part.name, only.name)))
    return Branch(name, only.parts) if isinstance(only, Branch) else replace(only, name=name)


def _leaf(node: Node, name: str, errors: Mapping[str, float | None]) -> Leaf:
    found = [error for key in (*node.outputs, node.name) if (error := errors.get(key)) is not None]
    facts = [
        ("reads", ", ".join(map(_plain, node.inputs))),
        ("gives", ", ".join(node.sizes or map(_plain, node.outputs))),
        *node.attributes,
    ]
    shown = tuple((title, value) for title, value in facts if value)
    return Leaf(node.op, name, node.weighted, shown, max(found) if found else None)


def _plain(value: str) -> str:
    """The name of a value of a program has its place before it."""
    return re.sub(r"^\d+:", "", value)


def first_difference(layers: tuple[tuple[str, float | None], ...]) -> tuple[str, float] | None:
    """The first tensor, in order of execution, that is further off than ``BEYOND``."""
    return next(((name, error) for name, error in layers if error is not None and not error <= BEYOND), None)
