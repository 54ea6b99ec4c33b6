"""The matrix: every reference model, trained in each framework, converted, run and compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from netferry.api import convert
from netferry.conversion import MODEL
from netferry.converters import frameworks
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand
from netferry.converters.errors import NetferryError
from netferry.converters.signature import BATCH, Example
from netferry.inference.devices import CPU, choose
from netferry.inference.run import Runnable, runnable
from netferry.inference.session import Session
from netferry.tasks.cells import Cell, Matrix
from netferry.tasks.extras import layers_between
from netferry.tasks.fanout import Answer, Task, fan_out
from netferry.validation.comparison.metrics import FAILED
from netferry.validation.reports.page.graphs import of_dict
from netferry.validation.reports.report import Report
from netferry.validation.reports.wording import measure
from netferry.validation.training.gradients import compare_with
from netferry.validation.training.reference import TrainingReference
from netferry.zoo import catalog, data
from netferry.zoo.catalog import Progress
from netferry.zoo.train import (
    FURTHER_STEPS,
    TRAINERS,
    Trained,
    demand_trained,
    further_batches,
    silent,
    train,
    trainer,
)

SOURCES = tuple(TRAINERS)
TARGETS: Mapping[str, str] = {
    "onnx": "{}.onnx",
    "pytorch": "{}-pytorch",
    "tensorflow": "{}.keras",
    "mxnet": "{}-symbol.json",
}
"""Every framework that a model is converted to, and the file or folder that it becomes."""

HELD_OUT = 64
"""Held-out rows that each cell is checked on beside the made inputs."""


@dataclass(frozen=True)
class Settings:
    """How each trained model is converted: its targets, and the device that its ONNX form is checked on.

    Models and results are written under ``directory``; ``data_dir`` holds MNIST's files where there are some.
    """

    directory: Path
    data_dir: Path | None = None
    targets: Sequence[str] = tuple(TARGETS)
    device: str = CPU
    force: bool = False

    def path_of(self, model: str, framework: str, target: str) -> Path:
        """Where a model goes; what comes back into its own framework stands beside the trained one."""
        name = f"{model}-carried" if target == framework else model
        return self.directory / framework / TARGETS[target].format(name)


@dataclass(frozen=True)
class Fan:
    """How the cells are shared out: an engine of ``fanout.ENGINES`` and the number of its workers."""

    engine: str
    workers: int | None = None


def matrix(
    models: Iterable[str] | None = None,
    sources: Sequence[str] = SOURCES,
    *,
    directory: Path,
    data_dir: Path | None = None,
    targets: Sequence[str] = tuple(TARGETS),
    device: str = CPU,
    progress: Progress | None = None,
    fan: Fan | None = None,
    force: bool = False,
) -> Matrix:
    """Train, convert and verify; models and results are written under ``directory``.

    What stands there already and is not as an earlier run left it is replaced only with ``force``.

    ``device`` is where onnxruntime runs the models that have become ONNX. With ``fan`` each model of each framework is worked on in a process of its own, a crash is the failure of its cells
    alone, and the cells that are done are kept in ``directory/results``, where the next run finds them.
    """
    names = list(catalog.CATALOG if models is None else models)
    specs = [catalog.named(name) for name in names]
    settings = Settings(
        directory, data_dir, [frameworks.named(target).name for target in targets], choose(device), force
    )
    for name in names:
        for one in sources:
            _demand(name, one, settings)
    if fan is not None:
        return _fanned([(spec.name, one) for spec in specs for one in sources], settings, progress, fan)
    tell = progress or silent
    total = len(specs) * len(sources)
    cells: list[Cell] = []
    for number, (spec, framework) in enumerate((s, f) for s in specs for f in sources):
        tell(number, total, f"{spec.name} in {framework}")
        cells.extend(_cells(spec, framework, settings))
    tell(total, total, "done")
    return Matrix(tuple(cells))


def _demand(model: str, framework: str, settings: Settings) -> None:
    """Refuse, before any work, what stands where the results are to go."""
    replacing = Overwriting(settings.force)
    demand_trained(settings.directory, model, framework, replacing)
    for target in settings.targets:
        demand(settings.path_of(model, framework, target), MODEL, replacing)


def _fanned(
    pairs: Sequence[tuple[str, str]], settings: Settings, progress: Progress | None, fan: Fan
) -> Matrix:
    where, rows = (
        settings.directory.absolute(),
        None if settings.data_dir is None else settings.data_dir.absolute(),
    )
    how = list(settings.targets), settings.device, settings.force
    tasks = [
        Task(
            f"{model} in {framework}",
            "netferry.tasks.matrix:cells_of",
            (model, framework, str(where), None if rows is None else str(rows), *how),
            known_by={"model": model, "framework": framework, "how": how[:2]},
            files=() if rows is None else (rows,),
        )
        for model, framework in pairs
    ]
    answers = fan_out(
        tasks,
        where / "results",
        engine=fan.engine,
        workers=fan.workers,
        progress=progress,
        force=settings.force,
    )
    return Matrix(
        tuple(
            cell
            for path_of, answer in zip(pairs, answers, strict=True)
            for cell in _cells_of(*path_of, settings.targets, answer)
        )
    )


def _cells_of(model: str, framework: str, targets: Sequence[str], answer: Answer) -> Iterator[Cell]:
    """The cells of one task; all of them failed where it came to no answer."""
    if answer.document is None:
        reason = "" if answer.error is None else str(answer.error["message"])
        for target in targets:
            yield Cell(model, framework, target, FAILED, seconds=answer.seconds, reason=reason)
        return
    for one in answer.document["cells"]:
        graphs = tuple(map(of_dict, one["graphs"]))
        layers = tuple((str(name), measure(error)) for name, error in one["layers"])
        yield Cell(**one | {"graphs": graphs, "layers": layers, "further": tuple(one["further"])})


@dataclass(frozen=True)
class _Cells:
    """Cells as they travel from a process of their own: as data, pictures and all."""

    cells: tuple[Cell, ...]

    def to_dict(self) -> dict[str, Any]:
        graphs = [[asdict(graph) for graph in cell.graphs] for cell in self.cells]
        return {"cells": [cell.to_dict() | {"graphs": g} for cell, g in zip(self.cells, graphs, strict=True)]}


def cells_of(
    model: str,
    framework: str,
    directory: str,
    data_dir: str | None,
    targets: Sequence[str],
    device: str,
    force: bool = False,
) -> _Cells:
    """One model of one framework, converted to each target: what a task of the matrix calls."""
    settings = Settings(Path(directory), None if data_dir is None else Path(data_dir), targets, device, force)
    return _Cells(tuple(_cells(catalog.named(model), framework, settings)))


def _cells(spec: catalog.ModelSpec, framework: str, settings: Settings) -> Iterator[Cell]:
    trained = train(spec, framework, settings.directory, settings.data_dir, force=settings.force)
    given = example(trained, settings.data_dir)
    own = _latency(runnable(trained.model, [given]), given)
    learns = set(settings.targets) != {"onnx"}
    reference = reference_of(trained, settings.data_dir) if learns else None
    for target in settings.targets:
        cell = convert_trained(
            trained,
            target,
            settings.path_of(spec.name, framework, target),
            given,
            settings.data_dir,
            reference,
            settings.device if target == "onnx" else CPU,
            settings.force,
        )
        yield replace(cell, source_ms=own)


def convert_trained(
    trained: Trained,
    target: str,
    destination: Path,
    given: Example,
    data_dir: Path | None = None,
    reference: TrainingReference | None = None,
    device: str = CPU,
    force: bool = False,
) -> Cell:
    """One cell: the trained model converted to ``target``, compared with the result (real rows first), trained on.

    ``reference`` is how the model trains on, where several targets share it; ``device`` is where it runs as ONNX.
    """
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
        done = convert(
            trained.model, target, destination=destination, inputs=[given], seed=0, device=device, force=force
        )
    except NetferryError as error:
        return replace(cell, reason=str(error), seconds=time.perf_counter() - begun)
    assert done.report is not None
    latency = None
    if done.files:
        result = (
            Session(destination, device, threads=1) if target == "onnx" else runnable(done.model, [given])
        )
        latency = _latency(result, given)
    report = done.report
    if done.imported is not None:
        report = replace(
            report, training=compare_with(reference or reference_of(trained, data_dir), done.model)
        )
    return replace(
        _with_verdict(cell, report),
        route=done.route,
        seconds=time.perf_counter() - begun,
        files=tuple(str(file) for file in done.files),
        latency_ms=latency,
        layers=layers_between(trained.model, done.model, [given], report),
        graphs=done.graphs(),
    )


def _with_verdict(cell: Cell, report: Report) -> Cell:
    """The cell with what the verdict says of outputs and, where both sides were trained, of gradients and steps."""
    training = report.training
    cell = replace(
        cell,
        status=report.status,
        reason=report.reason or ("" if training is None else training.reason),
        max_abs=report.max_abs,
        max_rel=report.max_rel,
        report=report,
    )
    if training is None:
        return cell
    further = next((curve.target for curve in training.curves if curve.optimizer == "adam"), ())
    return replace(cell, further=further, gradient_ratio=training.gradients, training_ratio=training.training)


def reference_of(trained: Trained, data_dir: Path | None = None) -> TrainingReference:
    """How a trained model trains on in its own framework: every target is compared with it."""
    inputs, aims, loss = further_batches(trained.spec, trained.framework, data_dir)
    return TrainingReference(
        trained.model,
        [[x] for x in inputs],
        given=[example(trained, data_dir)],
        steps=FURTHER_STEPS,
        loss=loss,
        targets=aims,
    )


def example(trained: Trained, data_dir: Path | None = None) -> Example:
    """Held-out rows as the framework's model takes them; the batch, and a sequence's length, are free."""
    spec = trained.spec
    rows = data.load(spec, data_dir).x_test[:HELD_OUT]
    free = {axis + 1: "time" for axis, dim in enumerate(spec.dims) if dim is None}
    return Example(spec.input, trainer(trained.framework).to_native(rows), {0: BATCH} | free, asked=True)


def _latency(model: Runnable, given: Example, runs: int = 30) -> float:
    """Median milliseconds of one row."""
    row = [given.array[:1]]
    model.run(row)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        model.run(row)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e3
