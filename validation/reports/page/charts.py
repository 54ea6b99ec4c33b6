"""The charts of the page: curves, a histogram against the yardstick, bars, a profile along the layers.

Each is drawn 320 units wide, the width of a phone, so that its text is never smaller than it is meant.
Colours come from the page's style sheet by class: a framework's name, or what a value means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from netferry.validation.reports.page.svg import path, picture, shortened, tag, text_width
from netferry.validation.reports.wording import brief, count, number

WIDTH = 320.0
LIMIT, FAILS = 8.0, 32.0
"""Errors in units of the yardstick: up to the first is passed, beyond the second failed (see the verdict)."""

MOST_DOTS = 100
"""A profile of more tensors is a line alone."""

LOG_FROM = 20.0
"""Values that span more than this factor are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Series:
    """A line: its label (empty for none), its class, its values, and how it is dashed (0 for not)."""

    label: str
    kind: str
    values: tuple[float, ...]
    dash: int = 0


@dataclass(frozen=True)
class Scale:
    """From values to positions."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(self.low), math.log(self.high), math.log(max(value, self.low)))
            if self.log
            else (self.low, self.high, value)
        )
        return self.start + (self.end - self.start) * (at - low) / ((high - low) or 1.0)

    def ticks(self) -> list[float]:
        if self.log:
            return _powers(self.low, self.high)
        step = _round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, int(self.high / step + 1e-9) + 1)]


def domain(series: Iterable[Series]) -> tuple[float, float]:
    """The least and the largest finite value."""
    values = [value for one in series for value in one.values if math.isfinite(value)]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _powers(low: float, high: float) -> list[float]:
    """1, 10, 100 ..., with 2 and 5 between where that gives too few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5)):
        ticks = [d * 10.0**e for e in exponents for d in digits if low <= d * 10.0**e <= high]
        if len(ticks) >= 3:
            break
    return ticks[:: -(-len(ticks) // 5)] if ticks else [low, high]


def _round_step(raw: float) -> float:
    if raw <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return float(next(m for m in (1, 2, 5, 10) if raw <= m * power * 1.0001) * power)


def curves(
    series: Sequence[Series],
    label: str,
    between: tuple[float, float] | None = None,
    unit: str = "epoch",
    marks: Sequence[str] = (),
) -> Markup:
    """Lines over 1, 2, 3 ..., or over ``marks``; their labels stand at their ends, apart from each other."""
    low, high = between or domain(series)
    log = low > 0 and high / low > LOG_FROM
    names = [one.label for one in series if one.label]
    right = WIDTH - 8 - max((text_width(name, 10) for name in names), default=0.0)
    y = Scale(low if log else min(0.0, low), high if high > low else low + 1, 150, 14, log)
    steps = max((len(one.values) for one in series), default=1)
    x = Scale(1, max(2, steps), 38, right)
    parts = [*_horizontal(y, right), *_steps(x, steps, unit, 150, marks)]
    parts += [_line(one, x, y) for one in series]
    ends = [(one.label, one.kind, y(one.values[-1])) for one in series if one.label and one.values]
    parts += _end_labels(ends, right + 5, 14, 150)
    return picture(WIDTH, 180, label, *parts)


def _line(one: Series, x: Scale, y: Scale) -> Markup:
    points = [(x(n), y(value)) for n, value in enumerate(one.values, 1) if math.isfinite(value)]
    if len(points) == 1:
        return tag("circle", cx=points[0][0], cy=points[0][1], r=2.5, class_=f"dot {one.kind}")
    return path(points, class_=f"line {one.kind} dash{one.dash}") if points else Markup("")


def _horizontal(y: Scale, right: float) -> list[Markup]:
    """The values along the axis, each with its line across."""
    positions = [(tick, y(tick)) for tick in y.ticks()]
    lines = "".join(f"M38 {at:.1f}H{right:.1f}" for _, at in positions)
    labels = (
        tag("text", brief(tick), x=33, y=at + 3.5, class_="tick", text_anchor="end") for tick, at in positions
    )
    return [tag("path", d=lines, class_="grid"), *labels]


def _steps(x: Scale, steps: int, unit: str, base: float, marks: Sequence[str]) -> list[Markup]:
    """The ends of the axis, and its middle where there is room."""
    shown = sorted({1, (steps + 1) // 2, steps})
    labels = marks or [str(n) for n in range(1, steps + 1)]
    parts = [
        tag("text", labels[n - 1], x=x(n), y=base + 15, class_="tick", text_anchor="middle") for n in shown
    ]
    return [
        *parts,
        tag("text", unit, x=(x.start + x.end) / 2, y=base + 27, class_="tick", text_anchor="middle"),
    ]


def _end_labels(ends: Sequence[tuple[str, str, float]], x: float, top: float, bottom: float) -> list[Markup]:
    """Labels at least a line apart, each as near to its own line as that allows."""
    ordered = sorted(ends, key=lambda end: end[2])
    positions: list[float] = []
    for _, _, y in ordered:
        positions.append(max(y, positions[-1] + 12 if positions else top))
    for index in range(len(positions) - 1, -1, -1):
        limit = bottom if index == len(positions) - 1 else positions[index + 1] - 12
        positions[index] = min(positions[index], limit)
    return [
        tag("text", label, x=x, y=position + 3.5, class_=f"name {kind}")
        for (label, kind, _), position in zip(ordered, positions, strict=True)
    ]


def histogram(counts: Sequence[int], label: str) -> Markup:
    """How many values err by how many yardsticks: counts between powers of two from 1/16 to 256.

    With two counts more than there are intervals, the first and the last are what lies outside.
    """
    total = sum(counts) or 1
    edges = _edges(len(counts))
    x = Scale(0, len(counts), 8, WIDTH - 8)
    y = Scale(0, max(counts, default=1) or 1, 128, 22)
    parts = [tag("path", d=f"M8 128H{WIDTH - 8:.0f}", class_="axis")]
    for position, n in enumerate(counts):
        if n:
            top = min(y(n), 126.5)
            kind = "fails" if edges[position] >= FAILS else "beyond" if edges[position] >= LIMIT else "within"
            parts.append(
                tag("rect", tag("title", f"{count(n, 'value')}, {n / total:.2%}"), class_=f"bar {kind}",
                    x=x(position) + 1, y=top, width=x(1) - x(0) - 2, height=128 - top)
            )  # fmt: skip
    for position, edge in enumerate(edges):
        if edge in (0.0625, 0.25, 1, 4, 16, 64, 256):
            parts.append(
                tag("text", _fraction(edge), x=x(position), y=142, class_="tick", text_anchor="middle")
            )
    for edge, word in ((LIMIT, "limit 8"), (FAILS, "fails 32")):
        if edge in edges:
            parts += _marker(x(edges.index(edge)), 8, 128, word)
    parts.append(tag("text", "error, in yardsticks", x=WIDTH / 2, y=157, class_="tick", text_anchor="middle"))
    return picture(WIDTH, 162, label, *parts)


def within_limit(counts: Sequence[int]) -> int:
    """How many values err by less than the limit."""
    return sum(n for n, edge in zip(counts, _edges(len(counts)), strict=True) if edge < LIMIT)


def _edges(bins: int) -> list[float]:
    """The lower edge of each bin; what lies under the lowest power starts at nothing."""
    powers = [2.0**e for e in range(-4, 9)]
    return [0.0, *powers][:bins] if bins > len(powers) - 1 else powers[:bins]


def _fraction(value: float) -> str:
    return f"1/{1 / value:.0f}" if value < 1 else f"{value:.0f}"


def _marker(x: float, top: float, bottom: float, word: str) -> list[Markup]:
    return [
        tag("path", d=f"M{x:.1f} {top:.0f}V{bottom:.0f}", class_="limit"),
        tag("text", word, x=x + 4, y=top + 7, class_="tick"),
    ]


def bars(rows: Sequence[tuple[str, float, str]], unit: str, label: str) -> Markup:
    """Horizontal bars from zero: (label, value, class); each shows its number."""
    high = max((value for _, value, _ in rows), default=1.0) or 1.0
    labels = [f"{number(value, 2)} {unit}" for _, value, _ in rows]
    left = min(150.0, 8 + max((text_width(name, 10) for name, _, _ in rows), default=0.0))
    right = WIDTH - 8 - max((text_width(word, 10) for word in labels), default=0.0)
    x = Scale(0, high, left, right)
    parts = []
    for position, ((name, value, kind), word) in enumerate(zip(rows, labels, strict=True)):
        top = 18 * position
        shown = shortened(name, left - 4, 10)
        parts.append(tag("text", shown, x=left - 6, y=top + 12.5, class_="tick", text_anchor="end"))
        width = max(1.5, x(value) - left)
        parts.append(
            tag("rect", tag("title", name), x=left, y=top + 4, width=width, height=10, class_=f"bar {kind}")
        )
        parts.append(tag("text", word, x=left + width + 5, y=top + 12.5, class_="name"))
    return picture(WIDTH, max(18, 18 * len(rows)), label, *parts)


def profile(
    rows: Sequence[tuple[str, float]], label: str, limit: float | None = None, noun: str = "tensor"
) -> Markup:
    """The error of each tensor in order of execution, on a logarithmic axis; the worst are named, at most three."""
    finite = [value for _, value in rows if math.isfinite(value) and value > 0]
    if not finite:
        return picture(WIDTH, 40, label, tag("text", f"no error in any {noun}", x=8, y=24, class_="tick"))
    low, high = min(finite), max(max(finite), limit or 0.0)
    y = Scale(low / 2, high * 2, 140, 18, log=True)
    x = Scale(0, max(1, len(rows) - 1), 44, WIDTH - 12)
    parts = _horizontal(y, WIDTH - 12)
    if limit is not None:
        at = y(limit)
        parts.append(tag("path", d=f"M38 {at:.1f}H{WIDTH - 12:.0f}", class_="limit"))
    points = _thinned([(x(n), y(_capped(value, low, high))) for n, (_, value) in enumerate(rows)])
    parts.append(path(points, class_="line source"))
    if len(points) <= MOST_DOTS:
        dots = "".join(f"M{px:.1f} {py:.1f}h0" for px, py in points)
        parts.append(tag("path", d=dots, class_="dots source"))
    parts += _worst_named(rows, x, y, (low, high))
    ends = ((44, "start", f"first {noun}"), (WIDTH - 12, "end", f"last of {len(rows):,}"))
    parts += [tag("text", word, x=at, y=158, class_="tick", text_anchor=anchor) for at, anchor, word in ends]
    return picture(WIDTH, 164, label, *parts)


def _capped(value: float, low: float, high: float) -> float:
    return high if not math.isfinite(value) else max(value, low / 2)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most one point for each unit of width: the worst of those that share it."""
    worst: dict[int, tuple[float, float]] = {}
    for x, y in points:
        if round(x) not in worst or y < worst[round(x)][1]:
            worst[round(x)] = (x, y)
    return list(worst.values())


def _worst_named(
    rows: Sequence[tuple[str, float]], x: Scale, y: Scale, ends: tuple[float, float]
) -> list[Markup]:
    """The names of the worst tensors; one through which the line of a worse neighbour would run is left out."""
    parts: list[Markup] = []
    taken: list[float] = []
    heights = [_capped(value, *ends) for _, value in rows]
    step = x(1) - x(0)
    for position in sorted(range(len(rows)), key=lambda n: -heights[n])[:3]:
        at_y = y(heights[position]) - 5
        shown = shortened(rows[position][0], 150, 9.5)
        width = text_width(shown, 9.5)
        at_x = min(max(x(position), 44 + width / 2), WIDTH - 4 - width / 2)
        first, last = (int((at_x + side - 44) / step) for side in (-width / 2, width / 2))
        crossed = max(heights[max(0, first) : last + 2]) > heights[position]
        if crossed or any(abs(at_y - other) < 11 for other in taken):
            continue
        taken.append(at_y)
        parts.append(tag("text", shown, x=at_x, y=at_y, class_="name", text_anchor="middle"))
    return parts
