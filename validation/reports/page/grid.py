"""The matrix as the page shows it: the heat map, a section for each model, a journey for each cell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from netferry.validation.comparison.metrics import PASSED, largest
from netferry.validation.reports import wording
from netferry.validation.reports.page import charts
from netferry.validation.reports.page.charts import Series
from netferry.validation.reports.page.drawing import Sprites
from netferry.validation.reports.page.extras import Extras
from netferry.validation.reports.page.journey import Figure, Journey, journey
from netferry.validation.reports.wording import Document, title_of

CellKey = tuple[str, str, str]
"""Model, source, target."""

RATIO_STEPS = (0.0, 1.0, 2.0, 4.0, 8.0)
SCALE_STEPS = (0.0, 1e-7, 5e-7, 2e-6, 1e-5)
"""Where a shade of the heat map ends: errors in yardsticks, or relative to the output's scale where no cell has those."""


@dataclass(frozen=True)
class Square:
    """A cell of the heat map: its anchor in the page, its verdict, its shade, and its caption."""

    anchor: str
    status: str
    shade: str
    value: str
    caption: str

    @property
    def mark(self) -> str:
        return wording.MARKS[self.status]


@dataclass(frozen=True)
class Row:
    model: str
    anchor: str
    squares: tuple[Square | None, ...]


@dataclass(frozen=True)
class HeatMap:
    """Models down; sources across, and under each the targets."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    rows: tuple[Row, ...]
    legend: tuple[tuple[str, str], ...]
    unit: str


@dataclass(frozen=True)
class Stop:
    """A journey within a model's section, with the square that leads to it."""

    square: Square
    source: str
    target: str
    journey: Journey


@dataclass(frozen=True)
class Section:
    """One model: its training in each framework and after the conversion, its journeys."""

    name: str
    anchor: str
    title: str
    formula: str
    status: str
    figures: tuple[Figure, ...]
    training: tuple[tuple[str, ...], ...]
    metric: str
    stops: tuple[Stop, ...]
    opened: str

    @property
    def by_source(self) -> dict[str, list[Stop]]:
        found: dict[str, list[Stop]] = {}
        for stop in self.stops:
            found.setdefault(stop.source, []).append(stop)
        return found

    @property
    def mark(self) -> str:
        return wording.MARKS[self.status]


@dataclass(frozen=True)
class Grid:
    """All of it, with the verdict in sentences and the figures that stand under it."""

    status: str
    headline: str
    sentences: tuple[str, ...]
    faults: tuple[Square, ...]
    stats: tuple[tuple[str, str], ...]
    heat: HeatMap
    sections: tuple[Section, ...]


def grid(
    document: Document,
    extras: Mapping[CellKey, Extras],
    titles: Mapping[str, tuple[str, str]],
    sprites: Sprites,
) -> Grid:
    """``document`` is what ``Matrix.to_dict()`` gives; ``titles`` are each model's title and formula."""
    cells: list[Document] = list(document["cells"])
    names = list(dict.fromkeys(str(cell["model"]) for cell in cells))
    anchors = dict(zip(names, _anchors(names), strict=True))
    squares = _squares(cells, anchors)
    sections = tuple(
        _section(
            name, [c for c in cells if c["model"] == name], anchors[name], squares, extras, titles, sprites
        )
        for name in names
    )
    return Grid(
        status=wording.worst_status(cells),
        headline=wording.matrix_headline(cells),
        sentences=tuple(wording.matrix_sentences(cells)),
        faults=tuple(square for square in squares.values() if square.status != PASSED),
        stats=tuple(_stats(cells)),
        heat=_heat(cells, anchors, squares),
        sections=sections,
    )


def _key(cell: Document) -> CellKey:
    return str(cell["model"]), str(cell["source"]), str(cell["target"])


def _anchors(names: Sequence[str]) -> list[str]:
    """What a link may be called: a name without marks of its own; names that come out alike are numbered."""
    made: list[str] = []
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-") or "model"
        made.append(slug if slug not in made else f"{slug}-{len(made)}")
    return made


def _stats(cells: Sequence[Document]) -> Iterator[tuple[str, str]]:
    passed = sum(cell["status"] == PASSED for cell in cells)
    yield f"{passed} / {len(cells)}", "journeys passed"
    worst = largest(wording.worst_ratio(wording.report_of(cell)) for cell in cells)
    if worst is not None:
        yield f"{wording.number(worst)} ×", "largest error, in yardsticks (limit 8)"
    relative = largest(wording.measure(cell.get("max_rel")) for cell in cells)
    if relative is not None:
        yield wording.number(relative), "largest error, of the output’s scale"
    spread = largest(_spread(cells, source, model) for model, source, _ in dict.fromkeys(map(_key, cells)))
    if spread is not None:
        yield f"{wording.number(spread * 100)} %", "widest gap between training curves after conversion"


def _spread(cells: Sequence[Document], source: str, model: str) -> float | None:
    """How far apart the targets' losses lie at any step of the further training, relative to their middle."""
    curves = _continuations(c for c in cells if c["model"] == model and c["source"] == source)
    gaps = [(max(step) - min(step)) / (sum(step) / len(step) or 1.0) for step in zip(*curves, strict=False)]
    return max(gaps) if len(curves) > 1 and gaps else None


def _continuations(cells: Iterable[Document]) -> list[tuple[float, ...]]:
    return [values for cell in cells if (values := _numbers(cell.get("further")))]


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(value for item in values or () if (value := wording.measure(item)) is not None)


def _squares(cells: Sequence[Document], anchors: Mapping[str, str]) -> dict[CellKey, Square]:
    ratios = {_key(cell): wording.worst_ratio(wording.report_of(cell)) for cell in cells}
    in_yardsticks = any(ratio is not None for ratio in ratios.values())
    made = {}
    for cell in cells:
        model, source, target = key = _key(cell)
        value = ratios[key] if in_yardsticks else wording.measure(cell.get("max_rel"))
        shade = cell["status"] if cell["status"] != PASSED else _shade(cell, value, in_yardsticks)
        made[key] = Square(
            anchor=f"{anchors[model]}/{source}/{target}",
            status=cell["status"],
            shade=shade,
            value=wording.brief(value),
            caption=_caption(cell, value, in_yardsticks),
        )
    return made


def _shade(cell: Document, value: float | None, in_yardsticks: bool) -> str:
    """The same bits are the lightest shade in either unit."""
    if wording.measure(cell.get("max_rel")) == 0:
        return "shade-0"
    steps = RATIO_STEPS if in_yardsticks else SCALE_STEPS
    return "shade-none" if value is None else f"shade-{max(1, sum(value > step for step in steps))}"


def _caption(cell: Document, value: float | None, in_yardsticks: bool) -> str:
    unit = "yardsticks" if in_yardsticks else "of the output’s scale"
    error = "" if value is None else f", error {wording.number(value)} {unit}"
    reason = f": {cell['reason']}" if cell.get("reason") else ""
    model, source, target = _key(cell)
    return (
        f"{model}, {title_of(source)} to {title_of(target)}: {wording.STATED[cell['status']]}{error}{reason}"
    )


def _heat(
    cells: Sequence[Document], anchors: Mapping[str, str], squares: Mapping[CellKey, Square]
) -> HeatMap:
    sources = tuple(dict.fromkeys(str(cell["source"]) for cell in cells))
    targets = tuple(dict.fromkeys(str(cell["target"]) for cell in cells))
    rows = tuple(
        Row(model, anchor, tuple(squares.get((model, s, t)) for s in sources for t in targets))
        for model, anchor in anchors.items()
    )
    in_yardsticks = any(wording.worst_ratio(wording.report_of(cell)) is not None for cell in cells)
    steps = RATIO_STEPS if in_yardsticks else SCALE_STEPS
    legend = [("shade-0", "same bits")]
    legend += [(f"shade-{n}", f"≤ {wording.number(step)}") for n, step in enumerate(steps) if n]
    legend.append((f"shade-{len(steps)}", "more"))
    unit = "Error in yardsticks" if in_yardsticks else "Error relative to the output’s scale"
    return HeatMap(sources, targets, rows, tuple(legend), unit)


def _section(
    name: str,
    cells: Sequence[Document],
    anchor: str,
    squares: Mapping[CellKey, Square],
    extras: Mapping[CellKey, Extras],
    titles: Mapping[str, tuple[str, str]],
    sprites: Sprites,
) -> Section:
    title, formula = titles.get(name, (name, ""))
    stops = tuple(
        _stop(cell, squares[_key(cell)], extras.get(_key(cell), Extras()), sprites) for cell in cells
    )
    worst = max(
        cells, key=lambda cell: (cell["status"] != PASSED, wording.measure(cell.get("max_rel")) or 0.0)
    )
    return Section(
        name=name,
        anchor=anchor,
        title=title,
        formula=formula,
        status=wording.worst_status(cells),
        figures=tuple(_figures(cells)),
        training=tuple(_training(cells)),
        metric=next((str(cell["metric_name"]) for cell in cells if cell.get("metric_name")), "metric"),
        stops=stops,
        opened=squares[_key(worst)].anchor,
    )


def _stop(cell: Document, square: Square, extras: Extras, sprites: Sprites) -> Stop:
    """A cell without a report (it was refused, say) still has its verdict and the reason."""
    source, target = (title_of(str(cell[side])) for side in ("source", "target"))
    alone = {
        "status": cell["status"],
        "reason": cell.get("reason"),
        "max_rel": cell.get("max_rel"),
        "samples": ("",) if cell["status"] == PASSED else (),
    }
    document_of = wording.report_of(cell) or alone
    judged = {
        **document_of,
        "status": cell["status"],
        "source": f"The {source} model",
        "target": f"the result in {target}",
    }
    judged["reason"] = cell.get("reason") or document_of.get("reason")
    made = journey(judged, extras, sprites)
    facts = ((("route", str(cell["route"])),) if cell.get("route") else ()) + made.facts
    if not wording.report_of(cell):
        made = replace(made, samples=(), sentences=tuple(_plain(cell)))
    return Stop(square, source, target, replace(made, facts=facts))


def _plain(cell: Document) -> Iterator[str]:
    """What can be said of a cell whose report is not there."""
    if cell.get("reason"):
        yield f"{str(cell['reason']).rstrip('.')}."
    elif cell.get("max_rel") is not None:
        yield f"The largest error is {wording.number(cell['max_rel'])} of the output’s scale."


def _by_source(cells: Sequence[Document]) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = {}
    for cell in cells:
        found.setdefault(str(cell["source"]), []).append(cell)
    return found


def _training(cells: Sequence[Document]) -> Iterator[tuple[str, ...]]:
    """Framework, metric on held-out rows, seconds of training."""
    for source, group in _by_source(cells).items():
        first = group[0]
        seconds = wording.measure(first.get("train_seconds"))
        yield (
            title_of(source),
            "–" if first.get("metric") is None else f"{wording.measure(first['metric']):.4f}",
            "–" if seconds is None else f"{seconds:.1f} s",
        )


def _figures(cells: Sequence[Document]) -> Iterator[Figure]:
    groups = _by_source(cells)
    trained = [
        Series(title_of(s), s, _numbers(group[0].get("history")), n)
        for n, (s, group) in enumerate(groups.items())
    ]
    further = [
        Series(title_of(source) if not n else "", source, values, n)
        for source, group in groups.items()
        for n, values in enumerate(_continuations(group))
    ]
    trained = [one for one in trained if one.values]
    if trained:
        label = "Loss while training: " + _ends(trained)
        caption = "One point for each pass over the data, in each framework’s own training loop."
        yield Figure("Loss while it was trained", charts.curves(trained, label), caption)
    if further:
        label = "Loss of the training after conversion, by source: " + _ends(
            [one for one in further if one.label]
        )
        picture = charts.curves(further, label, unit="step after conversion")
        yield Figure("Loss as training goes on elsewhere", picture, _continued(cells, groups))
    rows = list(_latencies(cells))
    if rows:
        label = "; ".join(f"{name}: {wording.number(value)} milliseconds" for name, value, _ in rows)
        yield Figure(
            "Latency of one row", charts.bars(rows, "ms", label), "The median of 30 runs, one row at a time."
        )


def _ends(series: Sequence[Series]) -> str:
    return "; ".join(
        f"{one.label} from {wording.number(one.values[0])} to {wording.number(one.values[-1])}"
        for one in series
    )


def _continued(cells: Sequence[Document], groups: Mapping[str, Sequence[Document]]) -> str:
    spreads = [_spread(cells, source, str(cells[0]["model"])) for source in groups]
    widest = largest(spreads)
    caption = "A line for each target, in the colour of the framework it came from."
    if widest is None:
        return caption
    return f"{caption} From the same source, no two lie more than {wording.number(widest * 100)} % apart at any step."


def _latencies(cells: Sequence[Document]) -> Iterator[tuple[str, float, str]]:
    for source, group in _by_source(cells).items():
        own = wording.measure(group[0].get("source_ms"))
        if own is not None:
            yield f"{title_of(source)} itself", own, source
        for cell in group:
            value = wording.measure(cell.get("latency_ms"))
            if value is not None:
                where = "onnxruntime" if cell["target"] == "onnx" else title_of(str(cell["target"]))
                yield f"{title_of(source)} → {where}", value, str(cell["target"])
