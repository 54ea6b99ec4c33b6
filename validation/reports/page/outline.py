"""A graph as an outline: operations in the modules that their names' paths say, each with its sizes and attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from netferry.validation.reports import wording
from netferry.validation.reports.inside import BEYOND
from netferry.validation.reports.page.graphs import Graph, Node, plain
from netferry.validation.reports.page.sides import Mark

MOST = 2000
"""Operations that an outline shows; a page of more is slow to open."""

MOST_PARTS = 30
"""Parts of a module that stand side by side."""


@dataclass(frozen=True)
class Leaf:
    """One operation: its name within its module, and what is seen when it is opened. ``place`` is its place in the graph, ``mark``
    what differs beside the other side, ``twin`` the anchor of its counterpart there."""

    op: str
    name: str
    weighted: bool
    facts: tuple[tuple[str, str], ...]
    worst: float | None = None
    place: int = 0
    anchor: str = ""
    mark: str = ""
    twin: str = ""

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
    anchor: str = ""

    @property
    def leaves(self) -> int:
        return sum(part.leaves if isinstance(part, Branch) else 1 for part in self.parts)

    @property
    def said(self) -> str:
        return wording.count(self.leaves, "operation")

    @property
    def differs(self) -> bool:
        return any(part.differs for part in self.parts)

    @property
    def mark(self) -> str:
        marked = sum(1 for leaf in leaves_of(self) if leaf.mark)
        return f"{marked} marked" if marked else ""


def leaves_of(part: Branch | Leaf) -> Iterator[Leaf]:
    """The operations of a module, in order."""
    if isinstance(part, Leaf):
        yield part
        return
    for one in part.parts:
        yield from leaves_of(one)


@dataclass(frozen=True)
class Outline:
    """One side's graph; ``left_out`` is how many operations are not shown, ``marked`` how many differ beside the other side,
    ``alone`` how many of these stand on this side only."""

    title: str
    parts: tuple[Branch | Leaf, ...]
    said: str
    left_out: int = 0
    marked: int = 0
    alone: int = 0
    side: str = "a"


def outline(
    graph: Graph, errors: Mapping[str, float | None], marks: Sequence[Mark] = (), side: str = "a"
) -> Outline:
    """``errors`` are those of tensors, by their names; an operation that makes one shows it. ``marks`` are the operations' beside the
    other side, of which this one is ``side``, a or b."""
    top = Branch("")
    way = [top]
    for place, (node, (*path, name)) in enumerate(zip(graph.nodes, _paths(graph.nodes[:MOST]), strict=False)):
        depth = 0
        while depth < len(path) and depth + 1 < len(way) and way[depth + 1].name == path[depth]:
            depth += 1
        del way[depth + 1 :]
        for step in path[depth:]:
            branch = Branch(step)
            way[-1].parts.append(branch)
            way.append(branch)
        mark = marks[place] if marks else None
        way[-1].parts.append(_marked(_leaf(node, name, errors), place, side, mark))
    parts = tuple(_bundled([_folded(part) for part in top.parts]))
    for number, found in enumerate(branches_of(parts)):
        found.anchor = f"{side}m{number}"
    said = wording.count(len(graph.nodes), "operation")
    alone = sum(mark.twin is None for mark in marks)
    left_out = max(0, len(graph.nodes) - MOST)
    return Outline(graph.title, parts, said, left_out, sum(map(bool, marks)), alone, side)


def branches_of(parts: Iterable[Branch | Leaf]) -> Iterator[Branch]:
    """All modules, each before those inside it."""
    for part in parts:
        if isinstance(part, Branch):
            yield part
            yield from branches_of(part.parts)


def _marked(leaf: Leaf, place: int, side: str, mark: Mark | None) -> Leaf:
    placed = replace(leaf, place=place, anchor=f"{side}{place}")
    if mark is None:
        return placed
    twin = f"{'b' if side == 'a' else 'a'}{mark.twin}" if mark.twin is not None and mark.twin < MOST else ""
    return replace(placed, mark=mark.said if mark else "", twin=twin)


def _bundled(parts: list[Branch | Leaf]) -> list[Branch | Leaf]:
    """Very many parts of one module in runs of neighbours, as modules that say only where they stand."""
    if len(parts) <= MOST_PARTS:
        return parts
    runs = min(MOST_PARTS, math.isqrt(len(parts) - 1) + 1)
    length = -(-len(parts) // runs)
    return [
        Branch(f"{start + 1} to {min(start + length, len(parts))}", _bundled(parts[start : start + length]))
        for start in range(0, len(parts), length)
    ]


def _paths(nodes: Sequence[Node]) -> list[list[str]]:
    """Each operation's modules, then its own name. What a program does between two steps of a module bears the name of a variable at
    the most, and belongs to that module."""
    paths = [_path(node) for node in nodes]
    modules = {tuple(path[:depth]) for path in paths for depth in range(1, len(path))}
    for node, path in zip(nodes, paths, strict=True):
        if not node.weighted and tuple(path) in modules:
            path.append(node.op.lower())  # what a module itself does bears the module's name
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
        return Branch(part.name, _bundled(parts))
    [only] = parts
    name = ".".join(filter(None, (part.name, only.name)))
    return Branch(name, only.parts) if isinstance(only, Branch) else replace(only, name=name)


def _leaf(node: Node, name: str, errors: Mapping[str, float | None]) -> Leaf:
    found = [error for key in (*node.outputs, node.name) if (error := errors.get(key)) is not None]
    facts = [
        ("reads", ", ".join(map(plain, node.inputs))),
        ("gives", ", ".join(node.sizes or map(plain, node.outputs))),
        *node.attributes,
    ]
    shown = tuple((title, value) for title, value in facts if value)
    return Leaf(node.op, name, node.weighted, shown, max(found) if found else None)


def first_difference(layers: tuple[tuple[str, float | None], ...]) -> tuple[str, float] | None:
    """The first tensor, in order of execution, that is further off than ``BEYOND``."""
    return next(((name, error) for name, error in layers if error is not None and not error <= BEYOND), None)
