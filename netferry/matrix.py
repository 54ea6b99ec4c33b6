"""The matrix: every reference model, trained in each framework, carried, run and compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netferry.api import convert
from netferry.converters.errors import NetferryError
from netferry.converters.signature import BATCH, Example
from netferry.inference.session import Session
from netferry.validation.metrics import FAILED
from netferry.validation.report import finite
from netferry.zoo import catalog, data
from netferry.zoo.catalog import Progress
from netferry.zoo.train import TRAINERS, Trained, silent, train, train_on, trainer

SOURCES = tuple(TRAINERS)
TARGETS: Mapping[str, str] = {
    "onnx": "{}.onnx",
    "pytorch": "{}-pytorch",
    "tensorflow": "{}.keras",
    "mxnet": "{}-symbol.json",
}
"""Every framework a model arrives in, and the file or folder that it becomes."""

HELD_OUT = 64
"""Held-out rows that each cell is checked on beside the made inputs."""


@dataclass(frozen=True)
class Cell:
    """One model, one source, one target.

    ``history`` are the losses of its training in the source, ``further`` those of the steps that it took in
    the target after it had arrived.
    """

    model: str
    source: str
    target: str
    status: str
    max_abs: float | None = None
    max_rel: float | None = None
    seconds: float = 0.0
    road: str = ""
    train_seconds: float = 0.0
    latency_ms: float | None = None
    metric: float | None = None
    metric_name: str = ""
    history: tuple[float, ...] = ()
    further: tuple[float, ...] = ()
    files: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Matrix:
    """All cells of one run."""

    cells: tuple[Cell, ...]

    @property
    def passed(self) -> bool:
        return bool(self.cells) and all(cell.status == "passed" for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        return {"cells": [finite(asdict(cell)) for cell in self.cells]}

    def to_text(self) -> str:
        """A plain table: the verdict of each cell and its worst error relative to the output's scale."""
        targets = list(dict.fromkeys(cell.target for cell in self.cells))
        lines = [
            "model".ljust(18) + "from".ljust(12) + "".join(f"-> {target}".ljust(20) for target in targets)
        ]
        rows: dict[tuple[str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            rows.setdefault((cell.model, cell.source), {})[cell.target] = cell
        for (model, source), cells in rows.items():
            words = "".join(_word(cells.get(target)).ljust(20) for target in targets)
            lines.append((model.ljust(18) + source.ljust(12) + words).rstrip())
        return "\n".join(line.rstrip() for line in lines)


def _word(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return cell.status if cell.max_rel is None else f"{cell.status} {cell.max_rel:.1e}"


def matrix(
    models: Iterable[str] | None = None,
    sources: Sequence[str] = SOURCES,
    *,
    directory: Path,
    data_dir: Path | None = None,
    progress: Progress | None = None,
) -> Matrix:
    """Train, carry and verify; models and results are written under ``directory``."""
    names = list(catalog.CATALOG if models is None else models)
    specs = [catalog.named(name) for name in names]
    tell = progress or silent
    total = len(specs) * len(sources)
    cells: list[Cell] = []
    for number, (spec, framework) in enumerate((s, f) for s in specs for f in sources):
        tell(number, total, f"{spec.name} in {framework}")
        cells.extend(_cells(spec, framework, directory, data_dir))
    tell(total, total, "done")
    return Matrix(tuple(cells))


def _cells(spec: catalog.ModelSpec, framework: str, directory: Path, data_dir: Path | None) -> Iterator[Cell]:
    trained = train(spec, framework, directory, data_dir)
    given = example(trained, data_dir)
    for target, ending in TARGETS.items():
        yield carry_trained(
            trained, target, directory / framework / ending.format(spec.name), given, data_dir
        )


def carry_trained(
    trained: Trained, target: str, destination: Path, given: Example, data_dir: Path | None = None
) -> Cell:
    """One cell: the trained model carried to ``target``, held against itself (real rows first), trained on."""
    begun = time.perf_counter()
    cell = Cell(
        trained.spec.name,
        trained.framework,
        target,
        FAILED,
        train_seconds=trained.seconds,
        metric=trained.metric,
        metric_name=trained.spec.metric,
        history=trained.history,
    )
    try:
        done = convert(trained.model, target, destination=destination, inputs=[given])
    except NetferryError as error:
        return replace(cell, reason=str(error), seconds=time.perf_counter() - begun)
    assert done.report is not None
    latency = _latency(destination, given) if done.files and target == "onnx" else None
    further = (
        ()
        if done.arrival is None
        else train_on(done.model, trained.spec, target, trained.framework, data_dir)
    )
    falls = not further or statistics.mean(further[-5:]) < statistics.mean(further[:5])
    return replace(
        cell,
        status=done.report.status if falls else FAILED,
        reason=done.report.reason if falls else "its loss does not fall when training goes on",
        max_abs=done.report.max_abs,
        max_rel=done.report.max_rel,
        road=done.road,
        seconds=time.perf_counter() - begun,
        files=tuple(str(file) for file in done.files),
        latency_ms=latency,
        further=further,
    )


def example(trained: Trained, data_dir: Path | None = None) -> Example:
    """Held-out rows as the framework's model takes them; the batch, and a sequence's length, are free."""
    spec = trained.spec
    rows = data.load(spec, data_dir).x_test[:HELD_OUT]
    free = {axis + 1: "time" for axis, dim in enumerate(spec.dims) if dim is None}
    return Example(spec.input, trainer(trained.framework).to_native(rows), {0: BATCH} | free, asked=True)


def _latency(model: Path, given: Example, runs: int = 30) -> float:
    """Median milliseconds of one row in onnxruntime, on one thread."""
    session = Session(model, threads=1)
    row = [given.array[:1]]
    session.run(row)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        session.run(row)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3
