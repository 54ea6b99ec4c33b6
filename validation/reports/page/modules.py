"""A graph in pictures that lead into one another: the whole, then each module that is folded there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from netferry.validation.reports.page.drawing import MOST_BOXES, WIDTH, Group, draw_groups
from netferry.validation.reports.page.graphs import Graph
from netferry.validation.reports.page.outline import Branch, Leaf, Outline, leaves_of
from netferry.validation.reports.page.svg import tag
from netferry.validation.reports.wording import count

MOST_VIEWS = 300
"""Modules of one side that have a picture; the list below has them all."""


WHOLE = "the whole model"


@dataclass(frozen=True)
class View:
    """The picture of a module: its anchor, the way to it as (name, anchor) pairs, and its names alone as one text."""

    anchor: str
    way: tuple[tuple[str, str], ...]
    path: str
    picture: Markup
    caption: str


@dataclass(frozen=True)
class Pictured:
    """One side: the list of its operations, and the pictures, that of the whole first."""

    outline: Outline
    views: tuple[View, ...]


def pictured(graph: Graph, found: Outline) -> Pictured:
    """The side with its pictures."""
    whole = Branch(WHOLE, list(found.parts), f"{found.side}m")
    readers: dict[str, set[int]] = {}
    for place, node in enumerate(graph.nodes):
        for name in node.inputs:
            readers.setdefault(name, set()).add(place)
    pictures = _Pictures(graph, readers)
    return Pictured(found, tuple(pictures.of(whole, (), ())))


@dataclass
class _Pictures:
    graph: Graph
    readers: dict[str, set[int]]
    made: int = 0

    def of(self, branch: Branch, way: tuple[tuple[str, str], ...], path: tuple[str, ...]) -> Iterator[View]:
        """The module's picture, then those of the modules that are folded in it."""
        leaves = list(leaves_of(branch))
        flat = len(leaves) <= MOST_BOXES
        parts: Sequence[Branch | Leaf] = list(_by_their_ways(branch)) if flat else branch.parts
        groups = [self._group(part) for part in parts]
        here = (*way, (branch.name, view_of(branch.anchor)))
        caption = count(len(leaves), "operation")
        drawing = draw_groups(self._inside(branch, leaves), groups, caption)
        picture = tag(
            "svg", drawing.body, viewBox=f"0 0 {WIDTH:.0f} {drawing.height:.0f}", class_="graph", role="group",
            aria_label=f"{branch.name}: {caption}",
        )  # fmt: skip
        self.made += 1
        yield View(view_of(branch.anchor), here, "/".join(path), picture, caption)
        for part in parts:
            if isinstance(part, Branch) and self.made < MOST_VIEWS:
                yield from self.of(part, here, (*path, part.name))

    def _group(self, part: Branch | Leaf) -> Group:
        nodes = [self.graph.nodes[leaf.place] for leaf in leaves_of(part)]
        kind = "weighted" if any(node.weighted for node in nodes) else "plain"
        if isinstance(part, Leaf):
            return Group(part.op, part.name, kind, nodes, f"#{part.anchor}", part.mark)
        return Group(part.name, part.said, f"{kind} module", nodes, f"#{part.anchor}", part.mark)

    def _inside(self, branch: Branch, leaves: Sequence[Leaf]) -> Graph:
        """The module as a graph: what comes into it, and what others read of it."""
        places = {leaf.place for leaf in leaves}
        nodes = tuple(self.graph.nodes[leaf.place] for leaf in leaves)
        own = {name for node in nodes for name in node.outputs}
        inputs = tuple(dict.fromkeys(name for node in nodes for name in node.inputs if name not in own))
        ends = set(self.graph.outputs)
        outputs = tuple(
            name
            for node in nodes
            for name in node.outputs
            if name in ends or self.readers.get(name, places) - places
        )
        return Graph(branch.name, inputs, outputs, nodes)


def _by_their_ways(branch: Branch) -> Iterator[Leaf]:
    """The operations of a module, each by its name with those of the modules in between."""
    for part in branch.parts:
        if isinstance(part, Leaf):
            yield part
        else:
            yield from (replace(leaf, name=f"{part.name}.{leaf.name}") for leaf in _by_their_ways(part))


def view_of(anchor: str) -> str:
    """The anchor of a module's picture, by that of its entry in the list."""
    return f"view-{anchor}"
