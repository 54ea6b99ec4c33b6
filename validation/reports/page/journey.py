"""One model and what it has become: a verdict, as the page shows it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from netferry.validation.comparison.metrics import FAILED
from netferry.validation.reports import wording
from netferry.validation.reports.inside import BEYOND, FirstDifference
from netferry.validation.reports.page import charts
from netferry.validation.reports.page.charts import Series
from netferry.validation.reports.page.drawing import Sprites, draw
from netferry.validation.reports.page.extras import Extras, FileFact
from netferry.validation.reports.page.graphs import Graph
from netferry.validation.reports.page.modules import Pictured, pictured
from netferry.validation.reports.page.outline import first_difference, outline
from netferry.validation.reports.page.sides import Mark, marks
from netferry.validation.reports.wording import Document


@dataclass(frozen=True)
class Figure:
    """A chart under its title; ``caption`` says what it shows."""

    title: str
    picture: Markup
    caption: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the table of outputs, sorted by the values themselves."""

    title: str
    key: str
    numeric: bool = True


@dataclass(frozen=True)
class Entry:
    """One place in the table: what is read, and what it is sorted by."""

    text: str
    value: str
    label: str
    numeric: bool = True


@dataclass(frozen=True)
class Journey:
    """What the template needs of one verdict."""

    source: str
    target: str
    status: str
    headline: str
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    graphs: tuple[Figure, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    facts: tuple[tuple[str, str], ...]
    samples: tuple[str, ...]
    notes: tuple[str, ...]
    files: tuple[FileFact, ...]
    sides: tuple[Pictured, ...] = ()
    apart: str = ""
    begins: str = ""
    worst: tuple[tuple[str, str, str, str], ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        return wording.MARKS[self.status]

    @property
    def stated(self) -> str:
        return wording.STATED[self.status]


COLUMNS = (
    Column("output", "name", numeric=False),
    Column("verdict", "status", numeric=False),
    Column("error / yardstick", "ratio"),
    Column("meaning, float64", "meaning"),
    Column("error / scale", "max_rel"),
    Column("absolute error", "max_abs"),
    Column("ULP", "max_ulp"),
    Column("same largest entry", "top1"),
    Column("values", "elements"),
    Column("worst in", "slice", numeric=False),
    Column("worst on", "worst_sample", numeric=False),
    Column("reason", "reason", numeric=False),
)
"""Columns that are empty for every output are left out."""


def journey(document: Document, extras: Extras, sprites: Sprites, *, whole: bool = False) -> Journey:
    """``document`` is what ``Report.to_dict()`` gives; fields that it lacks are left out. ``whole`` is a page of this alone: it shows
    every operation, and where a difference begins."""
    outputs = list(document.get("outputs") or ())
    columns = tuple(column for column in COLUMNS if any(_filled(one.get(column.key)) for one in outputs))
    return Journey(
        source=str(document["source"]),
        target=str(document["target"]),
        status=document["status"],
        headline=wording.headline(document),
        sentences=tuple(wording.sentences(document)),
        figures=tuple(_figures(document, outputs, extras)),
        graphs=() if whole else tuple(_graphs(extras.graphs, sprites)),
        columns=columns,
        rows=tuple(tuple(_entry(one, column) for column in columns) for one in outputs),
        facts=tuple(_facts(document)),
        samples=tuple(map(str, document.get("samples") or ())),
        notes=(*map(str, document.get("notes") or ()), *extras.notes),
        files=extras.files,
        **(_whole(document, extras) if whole else {}),
    )


def _whole(document: Document, extras: Extras) -> dict[str, Any]:
    """What a page of one verdict alone shows: every operation, and where a difference begins."""
    failed = document["status"] == FAILED
    sides = tuple(_sides(extras))
    return {
        "sides": sides,
        "apart": _apart(sides),
        "begins": _begins(extras) if failed else "",
        "worst": tuple(_worst(extras.first)) if failed else (),
        "commands": (extras.commands or tuple(_commands(document))) if failed else (),
    }


def _sides(extras: Extras) -> Iterator[Pictured]:
    """Both graphs, each with its operations' errors and with what it alone has."""
    errors = dict(extras.layers)
    theirs = {other: errors.get(ours) for ours, other in extras.counterparts.items()}
    found: Sequence[Sequence[Mark]] = [()] * len(extras.graphs)
    if len(extras.graphs) == 2:
        found = marks(extras.graphs[0], extras.graphs[1], extras.counterparts)
    for graph, own, marked, side in zip(extras.graphs, (errors, theirs), found, "ab", strict=False):
        yield pictured(graph, outline(graph, own or errors, marked, side))


def _apart(sides: Sequence[Pictured]) -> str:
    """How far both sides are made alike."""
    if len(sides) != 2:
        return ""
    said = [
        f"{wording.count(alone, 'operation')} of {one.outline.title} for which {other.outline.title} has none"
        for one, other in (sides, sides[::-1])
        if (alone := one.outline.alone)
    ]
    pairs = sides[0].outline.marked - sides[0].outline.alone
    if pairs:
        said.append(f"{wording.count(pairs, 'pair')} of operations with attributes that differ")
    return (
        f"Marked: {wording.listed(said)}."
        if said
        else "Each operation has its counterpart on the other side."
    )


def _begins(extras: Extras) -> str:
    """Where the difference begins, as far as the tensors inside were compared."""
    if not extras.layers:
        return "The tensors inside were not compared."
    found = first_difference(extras.layers)
    if found is None:
        return f"No tensor inside is more than {wording.number(BEYOND)} of its scale off: the difference is in the outputs alone."
    name, error = found
    there = (
        f" It is {extras.first.other} in the target." if extras.first and extras.first.other != name else ""
    )
    return (
        f"The first tensor that is more than {wording.number(BEYOND)} of its scale off is {name}: "
        f"{wording.number(error)} of its scale.{there}"
    )


def _worst(first: FirstDifference | None) -> Iterator[tuple[str, str, str, str]]:
    """Where, in the source, in the target, how far apart."""
    for value in first.values if first else ():
        place = ", ".join(map(str, value.place)) or "the one value"
        apart = abs(value.source - value.target)
        yield place, f"{value.source:.7g}", f"{value.target:.7g}", wording.number(apart)


def _commands(document: Document) -> Iterator[str]:
    """What shows it again: the first step that differs, and the whole comparison."""
    models = f"{shlex.quote(str(document['source']))} {shlex.quote(str(document['target']))}"
    seed = document.get("seed", 0)
    yield f"netferry bisect {models} --seed {seed} --output difference"
    yield f"netferry verify {models} --seed {seed}"


def _filled(value: Any) -> bool:
    return value is not None and value != "" and value != {}


def _entry(output: Document, column: Column) -> Entry:
    value = output.get(column.key)
    if column.key == "status":
        return Entry(
            f"{wording.MARKS[output['status']]} {wording.STATED[output['status']]}",
            str(value),
            column.title,
            False,
        )
    if not column.numeric:
        return Entry(str(value or ""), str(value or ""), column.title, False)
    found = wording.measure(value)
    if column.key == "elements":
        return Entry("–" if found is None else f"{found:,.0f}", str(found or 0), column.title)
    if column.key == "top1" and found is not None:
        return Entry(f"{found:.4g}", str(found), column.title)
    return Entry(wording.number(value), "-1" if found is None else str(found), column.title)


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    """What stands beside a verdict, where it is known."""
    for title, key in (
        ("truth", "truth"),
        ("onnxruntime’s optimisations move", "optimised"),
        ("seed", "seed"),
        ("route", "route"),
    ):
        value = document.get(key)
        if _filled(value) and value is not False:
            yield title, _said(value)
    rate = wording.proved([document])
    if rate:
        yield wording.RATE, rate
    if document.get("quick"):
        yield "samples", "the quick set"


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items() if _filled(item))
    if isinstance(value, list | tuple):
        return ", ".join(map(_said, value))
    return wording.number(value) if isinstance(value, float) else str(value)


def _figures(document: Document, outputs: Sequence[Document], extras: Extras) -> Iterator[Figure]:
    for output in outputs:
        counts = [int(n) for n in output.get("histogram") or ()]
        if sum(counts):
            yield _errors(output, counts, alone=len(outputs) == 1)
    layers = extras if extras.layers else _layers_of(document)
    if any(error is not None for _, error in layers.layers):
        yield _layers(layers)
    training = document.get("training")
    if isinstance(training, Mapping):
        yield from _training(training)
    if extras.latencies:
        rows = [(one.label, one.milliseconds, one.framework) for one in extras.latencies]
        caption = "One row at a time, the median of repeated runs."
        label = "; ".join(f"{name}: {wording.number(value)} milliseconds" for name, value, _ in rows)
        yield Figure("Latency", charts.bars(rows, "ms", label), caption)


def _errors(output: Document, counts: Sequence[int], *, alone: bool) -> Figure:
    total, clear = sum(counts), charts.within_limit(counts)
    name = "" if alone else f" of {output['name']}"
    ratio = wording.measure(output.get("ratio"))
    caption = (
        f"{wording.count(total, 'value')}; the yardstick is the error that float32 costs the source itself."
    )
    if ratio is not None:
        caption += f" The verdict’s own ratio, the worst over all slices, is {wording.number(ratio)}."
    label = f"Errors{name}: {clear / total:.1%} of {total:,} values err by less than 8 yardsticks"
    return Figure(f"Errors{name} against the yardstick", charts.histogram(counts, label), caption)


def _layers_of(document: Document) -> Extras:
    """The error of each tensor, where the verdict itself holds it: ``layers`` with ``name`` and ``ratio`` or ``max_rel``."""
    rows = [row for row in document.get("layers") or () if isinstance(row, Mapping)]
    in_yardsticks = any(row.get("ratio") is not None for row in rows)
    values = (
        (str(row["name"]), wording.measure(row.get("ratio" if in_yardsticks else "max_rel"))) for row in rows
    )
    found = tuple((name, value) for name, value in values if value is not None)
    if in_yardsticks:
        return Extras(layers=found, layers_unit="yardsticks", layers_limit=charts.LIMIT)
    return Extras(layers=found)


def _layers(extras: Extras) -> Figure:
    rows = [(name, error) for name, error in extras.layers if error is not None]
    name, worst = max(rows, key=lambda row: row[1])
    if worst == 0:
        caption = "Every tensor is the same to the last bit."
    else:
        caption = f"The largest, {wording.number(worst)} {extras.layers_unit}, is in {name}."
    label = f"The error of {wording.count(len(rows), 'tensor')} in order of execution. {caption}"
    picture = charts.profile(rows, label, extras.layers_limit)
    return Figure("Error from layer to layer", picture, " ".join([caption, *_alone(extras.layers)]))


MOST_NAMED = 3
"""Tensors without a counterpart that are named in a sentence."""


def _alone(layers: Sequence[tuple[str, float | None]]) -> Iterator[str]:
    """What the source computes and the target does not."""
    names = [name for name, error in layers if error is None]
    if names:
        rest = [wording.count(len(names) - MOST_NAMED, "other")] if len(names) > MOST_NAMED else []
        hold = "holds" if len(names) == 1 else "hold"
        yield f"{wording.listed([*names[:MOST_NAMED], *rest])} {hold} what no tensor of the target holds."


def _training(training: Document) -> Iterator[Figure]:
    """The losses of both sides for each optimiser, and how far the gradient of each weight is off."""
    for curve in training.get("curves") or ():
        optimiser = str(curve["optimizer"])
        series = [
            Series(side, side, tuple(wording.measure(v) or 0.0 for v in curve[side]), dash)
            for side, dash in (("source", 0), ("target", 2))
        ]
        if not all(one.values for one in series):
            continue
        ends = "; ".join(
            f"{one.label} from {wording.number(one.values[0])} to {wording.number(one.values[-1])}"
            for one in series
        )
        label = f"Loss over {len(series[0].values)} steps of {optimiser}: {ends}"
        ratio = wording.measure((curve.get("measured") or {}).get("ratio"))
        caption = "Both sides start from the same state and see the same batches."
        caption += "" if ratio is None else f" The curves are {wording.number(ratio)} yardsticks apart."
        yield Figure(f"Training goes on with {optimiser}", charts.curves(series, label, unit="step"), caption)
    rows = [
        (str(weight["name"]), ratio)
        for weight in training.get("weights") or ()
        if (ratio := wording.measure((weight.get("gradient") or {}).get("ratio"))) is not None
    ]
    if rows:
        caption = f"In yardsticks, one point for each of {wording.count(len(rows), 'weight')}."
        label = f"The error of each weight’s gradient, at most {wording.number(max(r for _, r in rows))} yardsticks"
        yield Figure("The gradient of each weight", charts.profile(rows, label, noun="weight"), caption)


def _graphs(graphs: Sequence[Graph], sprites: Sprites) -> Iterator[Figure]:
    for title, graph in zip(("before", "after"), graphs, strict=False):
        drawing = draw(graph)
        caption = f"{drawing.caption}. Those that hold weights are filled."
        yield Figure(
            f"The graph {title}: {graph.title}" if len(graphs) > 1 else f"The graph: {graph.title}",
            sprites.show(drawing, f"{graph.title}: {drawing.caption}"),
            caption,
            "graph",
        )
