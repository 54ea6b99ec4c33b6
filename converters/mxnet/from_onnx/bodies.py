"""Bodies of loops and branches: nodes that were written where they stand, taken into a graph of their own."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet import symbol as graphs
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.writer import FLOAT32
from netferry.converters.mxnet.symbol import Entry, Node


@dataclass
class Enclosed:
    """A graph of nodes of another, grown from its heads; what stands outside is read through variables.

    ``reads`` is what its variables are outside, in the order in which a walk from the heads meets them: so does MXNet count.
    """

    outside: Sequence[Node]
    within: Container[int]
    nodes: list[Node] = field(default_factory=list)
    heads: list[Entry] = field(default_factory=list)
    _of_node: dict[int, int] = field(default_factory=dict)
    _of_entry: dict[Entry, int] = field(default_factory=dict)

    @property
    def graph(self) -> graphs.Symbol:
        return graphs.Symbol(tuple(self.nodes), tuple(self.heads))

    @property
    def reads(self) -> list[Entry]:
        return list(self._of_entry)

    def places(self, entries: Iterable[Entry]) -> tuple[int, ...]:
        """Which variables these are; of an entry that is not read nothing."""
        reads = self.reads
        return tuple(reads.index(entry) for entry in entries if entry in self._of_entry)

    def end_with(self, heads: Iterable[Entry]) -> Enclosed:
        """Each head is a node's of its own, as MXNet wants it."""
        for head in heads:
            end = self._taken(head)
            if self.nodes[end[0]].is_variable or end in self.heads:
                end = self._added(
                    Node(f"{self.nodes[end[0]].name}_copy{len(self.nodes)}", "_copy", inputs=(end,))
                )
            self.heads.append(end)
        return self

    def _taken(self, head: Entry) -> Entry:
        """What an entry is in here, once all that it reads is."""
        stack = [head]
        while stack:
            position, output = entry = stack[-1]
            node = self.outside[position]
            waiting = (
                [each for each in node.inputs if self._found(each) is None] if position in self.within else []
            )
            if waiting and self._found(entry) is None:
                stack.append(waiting[0])
                continue
            stack.pop()
            if self._found(entry) is not None:
                continue
            if position in self.within:
                inputs = tuple(self._known(each) for each in node.inputs)
                self._of_node[position] = self._added(replace(node, inputs=inputs))[0]
            else:
                name = f"{node.name}_{output}" if output else node.name
                self._of_entry[entry] = self._added(Node(name, "null"))[0]
        return self._known(head)

    def _found(self, entry: Entry) -> Entry | None:
        position, output = entry
        if position not in self.within:
            return (self._of_entry[entry], 0) if entry in self._of_entry else None
        return (self._of_node[position], output) if position in self._of_node else None

    def _known(self, entry: Entry) -> Entry:
        found = self._found(entry)
        assert found is not None
        return found

    def _added(self, node: Node) -> Entry:
        self.nodes.append(node)
        return len(self.nodes) - 1, 0


def _needing(nodes: Sequence[Node], given: Iterable[Entry]) -> set[int]:
    """The nodes that need what a body is given; all that it computes without stays outside."""
    first = {position for position, _ in given}
    found = set(first)
    for position in range(min(first), len(nodes)):
        if any(source in found for source, _ in nodes[position].inputs):
            found.add(position)
    return found - first


Turn = Callable[[list[Symbol], list[Symbol]], tuple[Sequence[Symbol], Sequence[Symbol]]]
"""A body: from rows and states to what it gives and the next states."""


def foreach(
    xp: MxnetNamespace, turn: Turn, along: Sequence[Symbol], states: Sequence[Symbol]
) -> tuple[list[Symbol], list[Symbol]]:
    """``_foreach``: a turn at each position of the first axis of ``along``; what the turns give, stacked, and the last states.

    MXNet takes no row and no state that the body does not read: such a state is what the last turn gave.
    """
    with xp.apart():
        rows = [xp.stand_in("row", x.dtype, x.shape[1:]) for x in along]
        carried = [xp.stand_in("state", x.dtype, x.shape) for x in states]
        given, following = (list(each) for each in turn(rows, carried))
    entries = [x.expr for x in [*rows, *carried]]
    within = _needing(xp.nodes, entries)
    read = Enclosed(xp.nodes, within).end_with(x.expr for x in [*given, *following]).reads
    if not any(row.expr in read for row in rows):
        raise CannotConvert("a loop whose body reads nothing of its turn")
    held = [state.expr in read for state in carried]
    last = [x for x, kept in zip(following, held, strict=True) if not kept]
    kept = [x for x, kept in zip(following, held, strict=True) if kept]
    body = Enclosed(xp.nodes, within).end_with(x.expr for x in [*given, *last, *kept])
    others = [entry for entry in body.reads if entry not in entries]
    inputs = [x for row, x in zip(rows, along, strict=True) if row.expr in read]
    inputs += [x for x, kept in zip(states, held, strict=True) if kept]
    inputs += [Symbol(xp, Fact(None), entry) for entry in others]
    position = xp.node_of(
        "_foreach", *inputs, bodies=[body.graph], num_args=len(inputs) + 1, num_outputs=len(body.heads),
        num_out_data=len(given) + len(last), in_data_locs=body.places(row.expr for row in rows),
        in_state_locs=body.places(state.expr for state in carried), remain_locs=body.places(others),
    )  # fmt: skip
    turns = along[0].shape[0]
    stacked = [_rows(xp, position, place, turns, x) for place, x in enumerate([*given, *last])]
    ends = iter([xp.entry(position, place, x.dtype, x.shape) for place, x in enumerate(kept, len(stacked))])
    rest = iter(xp.take(x, -1, 0) for x in stacked[len(given) :])
    return stacked[: len(given)], [next(ends if kept else rest) for kept in held]


def _rows(xp: MxnetNamespace, position: int, place: int, turns: object, one: Symbol) -> Symbol:
    """What the turns give; a number without axes stands in each as one of size 1."""
    rows = xp.entry(position, place, one.dtype, (turns, *(one.shape or (1,))))
    return rows if one.shape else xp.reshape(rows, (turns,))


def cond(
    xp: MxnetNamespace, condition: Symbol, bodies: Sequence[Callable[[], Sequence[Symbol]]]
) -> list[Symbol]:
    """``_cond``: what the first body gives where the condition holds, else the second; both give the same sizes."""
    holds = xp.reshape(xp.astype(condition, FLOAT32), (1,))
    parts = [Enclosed(xp.nodes, ()).end_with([holds.expr])]
    results: list[list[Symbol]] = []
    for body in bodies:
        start = len(xp.nodes)
        with xp.apart():
            results.append(list(body()))
        heads = [x.expr for x in results[-1]]
        within = {p for p in range(start, len(xp.nodes)) if not xp.nodes[p].is_variable}
        parts.append(Enclosed(xp.nodes, within).end_with(heads))
    for one, other in zip(*results, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            raise CannotConvert(
                f"branches that give {one.dtype.name} {list(one.shape)} and {other.dtype.name} {list(other.shape)}"
            )
    reads = list(dict.fromkeys(entry for part in parts for entry in part.reads))
    locs = {
        f"{name}_input_locs": tuple(reads.index(entry) for entry in part.reads)
        for name, part in zip(("cond", "then", "else"), parts, strict=True)
    }
    position = xp.node_of(
        "_cond", *(Symbol(xp, Fact(None), entry) for entry in reads), bodies=[part.graph for part in parts],
        num_args=len(reads) + 3, num_outputs=len(results[0]), **locs,
    )  # fmt: skip
    return [xp.entry(position, place, x.dtype, x.shape) for place, x in enumerate(results[0])]
