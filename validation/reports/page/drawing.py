"""A graph as a picture: layers from top to bottom, drawn in groups where there are too many nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from markupsafe import Markup

from netferry.validation.reports.page.graphs import Graph, Node, plain
from netferry.validation.reports.page.svg import picture, shortened, tag, text_width

MOST_BOXES = 30
"""More nodes than this are drawn in groups: by layer where their names have layers, else by position."""

WIDTH, BOX_HEIGHT, GAP, ROW = 320.0, 22.0, 10.0, 34.0
SIZE, SMALL = 10.5, 9.0
MOST_IN_A_ROW = 4
SWEEPS = 11


@dataclass(frozen=True)
class Group:
    """Neighbouring operations that are drawn as one box; ``href`` is where it leads, ``mark`` what is to be seen of it."""

    label: str
    detail: str
    kind: str
    nodes: Sequence[Node]
    href: str = ""
    mark: str = ""


@dataclass(eq=False)
class _Box:
    """What stands in one row: a group of nodes, an end of the graph, or (without a label) a bend of an edge."""

    label: str = ""
    detail: str = ""
    kind: str = "bend"
    href: str = ""
    mark: str = ""
    row: int = 0
    x: float = 0.0
    width: float = 4.0
    above: list[_Box] = field(default_factory=list)
    below: list[_Box] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """What stands in the picture, its height (it is ``WIDTH`` wide), and what it shows and leaves out."""

    body: Markup
    height: float
    caption: str


class Sprites:
    """The drawings of a page, each kept once however often it is shown."""

    def __init__(self) -> None:
        self._names: dict[Markup, str] = {}

    def show(self, drawing: Drawing, label: str) -> Markup:
        name = self._names.setdefault(drawing.body, f"drawing-{len(self._names)}")
        use = tag("use", href=f"#{name}", width=WIDTH, height=drawing.height)
        return picture(WIDTH, drawing.height, label, use, class_="graph")

    def sheet(self) -> Markup:
        """All drawings, to stand unseen in the page."""
        symbols = (tag("g", body, id=name) for body, name in self._names.items())
        return tag("svg", tag("defs", *symbols), class_="sheet", aria_hidden="true", width=0, height=0)


def draw(graph: Graph, most: int = MOST_BOXES) -> Drawing:
    """Layered from top to bottom; more than ``most`` operations are drawn as groups."""
    groups = [_group_of(nodes) for nodes in _grouped(graph.nodes, most)]
    count = len(graph.nodes)
    caption = f"{count:,} operation{'' if count == 1 else 's'}"
    if len(groups) < count:
        caption += f", drawn as {len(groups)} groups of neighbours"
    return draw_groups(graph, groups, caption)


def draw_groups(graph: Graph, groups: Sequence[Group], caption: str) -> Drawing:
    """The groups, which hold all of the graph's operations, from top to bottom."""
    rows = _rows(_boxes(graph, groups))
    _place(rows)
    height = ROW * len(rows) - (ROW - BOX_HEIGHT) + 2
    return Drawing(_body(rows), height, caption)


def _grouped(nodes: Sequence[Node], most: int) -> list[list[Node]]:
    """Runs of neighbours in an order of execution, so that groups never form a circle.

    A run holds the nodes under one layer's name, as deep as leaves at most ``most`` runs; where no depth does,
    runs are of equal length.
    """
    if len(nodes) <= most:
        return [[node] for node in nodes]
    for depth in (4, 3, 2, 1):
        runs = [list(run) for _, run in groupby(nodes, key=lambda node: _scope(node.name, depth))]
        if 3 <= len(runs) <= most:
            return runs
    length = -(-len(nodes) // most)
    return [list(nodes[start : start + length]) for start in range(0, len(nodes), length)]


def _scope(name: str, depth: int) -> tuple[str, ...]:
    return tuple(name.strip("/").replace(".", "/").split("/")[:depth])


def _boxes(graph: Graph, groups: Sequence[Group]) -> list[_Box]:
    ends = [_Box(plain(name), kind="end") for name in graph.inputs[:MOST_IN_A_ROW]]
    made = dict(zip(graph.inputs, ends, strict=False))
    boxes = list(ends)
    for group in groups:
        box = _Box(group.label, group.detail, group.kind, group.href, group.mark)
        _join((made[name] for node in group.nodes for name in node.inputs if name in made), box)
        made.update({name: box for node in group.nodes for name in node.outputs})
        boxes.append(box)
    last = [made[name] for name in graph.outputs if name in made]
    named = "" if any(":" in name for name in graph.outputs) else ", ".join(graph.outputs)
    closing = _Box(f"{len(last)} outputs" if len(last) > 1 else named or "output", kind="end")
    _join(last, closing)
    return [*boxes, closing] if last else boxes


def _group_of(nodes: Sequence[Node]) -> Group:
    kind = "weighted" if any(node.weighted for node in nodes) else "plain"
    if len(nodes) == 1:
        return Group(nodes[0].op, nodes[0].name, kind, nodes)
    counts = Counter(node.op for node in nodes)
    what = " · ".join(f"{op} {n}" if n > 1 else op for op, n in counts.most_common(4))
    return Group(f"{len(nodes)} ops", what, kind, nodes)


def _join(before: Iterable[_Box], box: _Box) -> None:
    for other in dict.fromkeys(before):
        other.below.append(box)
        box.above.append(other)
    box.row = 1 + max((other.row for other in box.above), default=-1)


def _rows(boxes: Sequence[_Box]) -> list[list[_Box]]:
    """Boxes by row; crowded rows are split, and an edge that passes rows gets a bend in each of them."""
    crowd = Counter(box.row for box in boxes)
    start, first = 0, {}
    for row in sorted(crowd):
        first[row] = start
        start += -(-crowd[row] // MOST_IN_A_ROW)
    seen: Counter[int] = Counter()
    for box in boxes:
        number, seen[box.row] = seen[box.row], seen[box.row] + 1
        box.row = first[box.row] + number // MOST_IN_A_ROW
    rows: list[list[_Box]] = [[] for _ in range(start)]
    for box in boxes:
        rows[box.row].append(box)
    for box in boxes:
        box.below = [_bent(rows, box, other) for other in box.below]
    return rows


def _bent(rows: list[list[_Box]], box: _Box, other: _Box) -> _Box:
    """The first step from ``box`` on its way to ``other``; bends stand in the rows between."""
    before = box
    for row in range(box.row + 1, other.row):
        bend = _Box(row=row, above=[before], below=[other])
        rows[row].append(bend)
        if before is not box:
            before.below = [bend]
        before = bend
    if before is box:
        return other
    other.above[other.above.index(box)] = before
    first = before
    while first.above[0] is not box:
        first = first.above[0]
    return first


def _place(rows: list[list[_Box]]) -> None:
    """Widths by label, order by the mean position of neighbours, then each as near to that mean as room allows."""
    for row in rows:
        real = [box for box in row if box.label]
        room = (WIDTH - 2 - GAP * (len(row) - 1) - 4 * (len(row) - len(real))) / max(1, len(real))
        for box in real:
            wanted = text_width(box.label, SIZE) + (text_width(box.detail, SMALL) + 6 if box.detail else 0)
            box.width = min(room, wanted + 18, WIDTH - 2)
        _spread(row, [WIDTH / 2] * len(row))
    for sweep in range(SWEEPS):
        downward = sweep % 2 == 0
        for row in rows if downward else reversed(rows):
            wanted_at = {id(box): _wanted(box, downward) for box in row}
            row.sort(key=lambda box: (wanted_at[id(box)], not box.label))
            _spread(row, [wanted_at[id(box)] for box in row])
    _centre(rows)


def _wanted(box: _Box, downward: bool) -> float:
    """The mean position of the neighbours on one side; boxes count before bends, so that a chain stands straight."""
    near = (box.above if downward else box.below) or box.above or box.below
    chosen = [other for other in near if other.label] or near
    return sum(other.x for other in chosen) / len(chosen) if chosen else WIDTH / 2


def _centre(rows: list[list[_Box]]) -> None:
    """Sweeps may have moved everything to one side."""
    boxes = [box for row in rows for box in row]
    left = min(box.x - box.width / 2 for box in boxes)
    right = max(box.x + box.width / 2 for box in boxes)
    for box in boxes:
        box.x += (WIDTH - left - right) / 2


def _spread(row: list[_Box], wanted: Sequence[float]) -> None:
    """Put boxes side by side, without overlap, inside the picture, as near to where they want to be as room allows."""
    edge = -WIDTH
    for box, x in zip(row, wanted, strict=True):
        box.x = max(x, edge + box.width / 2)
        edge = box.x + box.width / 2 + GAP
    off = [x - box.x for box, x in zip(row, wanted, strict=True) if box.label] or [0.0]
    shift = sum(off) / len(off)
    edge = WIDTH - 1
    for box in reversed(row):
        box.x = min(box.x + shift, edge - box.width / 2)
        edge = box.x - box.width / 2 - GAP
    edge = 1.0
    for box in row:
        box.x = max(box.x, edge + box.width / 2)
        edge = box.x + box.width / 2 + GAP


def _body(rows: list[list[_Box]]) -> Markup:
    edges = [
        _edge(box, other) for row in rows for box in row if box.label for other in dict.fromkeys(box.below)
    ]
    shapes = [_shape(box) for row in rows for box in row if box.label]
    return Markup("").join([*edges, *shapes])


def _top(row: int) -> float:
    return 1 + ROW * row


def _edge(box: _Box, other: _Box) -> Markup:
    """From the lower side of ``box`` through the bends to the upper side of the next box."""
    x, y = box.x, _top(box.row) + BOX_HEIGHT
    steps = [f"M{x:.0f} {y:.0f}"]
    while True:
        top = _top(other.row)
        middle = (y + top) / 2
        steps.append(f"C{x:.0f} {middle:.0f} {other.x:.0f} {middle:.0f} {other.x:.0f} {top:.0f}")
        if other.label:
            return tag("path", d="".join(steps), class_="edge")
        x, y = other.x, top + BOX_HEIGHT
        steps.append(f"L{x:.0f} {y:.0f}")
        other = other.below[0]


def _shape(box: _Box) -> Markup:
    left, top = box.x - box.width / 2, _top(box.row)
    room = box.width - 14
    op = shortened(box.label, room, SIZE)
    rest = room - text_width(op, SIZE) - 6
    texts: list[str] = [op]
    if box.detail and rest >= min(text_width(box.detail, SMALL), 4 * SMALL):
        texts += [" ", tag("tspan", shortened(box.detail, rest, SMALL), class_="detail", dx=3)]
    said = " ".join(filter(None, (box.label, box.detail, box.mark)))
    inside = (
        tag("rect", tag("title", said), x=left, y=top, width=box.width, height=BOX_HEIGHT, rx=4),
        tag("text", *texts, x=box.x, y=top + 15, text_anchor="middle"),
    )
    kind = f"box {box.kind}{' marked' if box.mark else ''}"
    if not box.href:
        return tag("g", *inside, class_=kind)
    return tag("a", *inside, class_=kind, href=box.href)
