"""What the page of a benchmark shows: medians as bars, throughput against batch size, a table of all timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netferry.validation.reports.page.charts import Series, bars, curves
from netferry.validation.reports.page.journey import Figure
from netferry.validation.reports.wording import Document, count, number

_HEAD = ("model", "batch", "threads", "p50 ms", "p95 ms", "p99 ms", "rows/s", "roof ms")


@dataclass(frozen=True)
class Timings:
    """A benchmark as the template takes it: ``rows`` are cells under ``head``; all but the first are numbers."""

    headline: str
    sentences: tuple[str, ...]
    figures: tuple[Figure, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def timings(document: Document) -> Timings:
    """Of what ``Bench.to_dict()`` gives."""
    times: Sequence[Document] = document["timings"]
    free = [one for one in times if one["threads"] is None]
    batches = list(dict.fromkeys(one["batch"] for one in free))
    models = list(dict.fromkeys(one["model"] for one in free))
    figures = [_medians(batch, [one for one in free if one["batch"] == batch]) for batch in batches]
    if len(batches) > 1:
        figures.append(_throughput(models, free, batches))
    threads = [one for one in times if one["threads"] is not None]
    if threads:
        figures.append(_threads(threads, max(one["batch"] for one in threads)))
    figures.append(_memory(document["starts"]))
    roofs = {(one["model"], one["batch"]): one for one in document["roofs"]}
    rows = tuple(_row(one, roofs.get((one["model"], one["batch"]))) for one in times)
    return Timings(_headline(free, models), tuple(_sentences(document, models)), tuple(figures), _HEAD, rows)


def _headline(times: Sequence[Document], models: Sequence[str]) -> str:
    if len(models) == 1:
        return f"{models[0]}: {number(_median(times[0]), 3)} ms."
    first = min((one for one in times if one["batch"] == times[0]["batch"]), key=_median)
    return f"{first['model']} is the fastest at batch {first['batch']}."


def _median(one: Document) -> float:
    return float(one["milliseconds"][50])


def _sentences(document: Document, models: Sequence[str]) -> list[str]:
    runs = document["timings"][0]["runs"]
    said = [
        f"{count(len(models), 'model')}, each run {runs} times at each batch size, in turns, so that whatever else the "
        "machine did met all of them alike.",
        f"This machine was measured at {number(document['gflops'], 3)} GFLOP/s (float32 products) and "
        f"{number(document['gbytes_per_s'], 3)} GB/s (memory read and written).",
    ]
    if document["roofs"]:
        said.append(
            "The roof is the least time that the graph’s arithmetic and traffic allow at these rates."
        )
    return said


def _medians(batch: int, times: Sequence[Document]) -> Figure:
    title = f"Median of a run at batch {batch}"
    shown = [(str(one["model"]), _median(one), "within") for one in times]
    return Figure(title, bars(shown, "ms", title))


def _throughput(models: Sequence[str], times: Sequence[Document], batches: Sequence[int]) -> Figure:
    title = "Rows per second"
    lines = [
        Series(
            model,
            "source",
            tuple(float(one["rows_per_second"]) for one in times if one["model"] == model),
            dash,
        )
        for dash, model in enumerate(models)
    ]
    return Figure(title, curves(lines, title, unit="batch size", marks=[str(batch) for batch in batches]))


def _threads(times: Sequence[Document], batch: int) -> Figure:
    title = f"Threads of onnxruntime, at batch {batch}"
    shown = [
        (f"{one['model']}, {count(one['threads'], 'thread')}", _median(one), "within")
        for one in times
        if one["batch"] == batch
    ]
    return Figure(title, bars(shown, "ms", title))


def _memory(starts: Sequence[Document]) -> Figure:
    title = "Seconds to the first result"
    caption = "; ".join(
        f"{one['model']}: {number(one['memory_mb'], 3)} MB {'at the most' if one['fresh'] else 'more'} ({one['device']})"
        for one in starts
    )
    shown = [(str(one["model"]), float(one["first_result_s"]), "within") for one in starts]
    return Figure(
        title,
        bars(shown, "s", title),
        f"Each file in a process of its own, from its beginning. Memory: {caption}.",
    )


def _row(one: Document, roof: Mapping[str, Any] | None) -> tuple[str, ...]:
    ms = one["milliseconds"]
    return (
        str(one["model"]), str(one["batch"]), str(one["threads"] or "–"),
        *(f"{ms[percentile]:.3f}" for percentile in (50, 95, 99)),
        f"{one['rows_per_second']:,.0f}", "–" if roof is None else f"{roof['milliseconds']:.3f}",
    )  # fmt: skip
