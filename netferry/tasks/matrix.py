"""The matrix: every reference model, trained in each framework, carried, run and compared."""

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
from netferry.tasks.extras import graphs_of, layers_between
from netferry.tasks.fanout import Answer, Task, fan_out
from netferry.validation.comparison.metrics import FAILED
from netferry.validation.reports.page.graphs import of_dict
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
"""Every framework a model arrives in, and the file or folder that it becomes."""

HELD_OUT = 64
"""Held-out rows that each cell is checked on beside the made inputs."""


@dataclass(frozen=True)
class Errand:
    """What becomes of each trained model: where it is carried to, and the device that its ONNX form is checked on.

    Models and results are written under ``directory``; ``data_dir`` holds MNIST's files where there are some.
    """

    directory: Path
    data_dir: Path | None = None
    targets: Sequence[str] = tuple(TARGETS)
    device: str = CPU
    force: bool = False

    def place(self, model: str, framework: str, target: str) -> Path:
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
    """Train, carry and verify; models and results are written under ``directory``.

    What stands there already and is not as an earlier run left it is replaced only with ``force``.

    ``device`` is where onnxruntime runs the models that have become ONNX. With ``fan`` each model of each framework is worked on in a process of its own, a crash is the failure of its cells
    alone, and the cells that are done are kept in ``directory/results``, where the next run finds them.
    """
    names = list(catalog.CATALOG if models is None else models)
    specs = [catalog.named(name) for name in names]
    errand = Errand(
        directory, data_dir, [frameworks.named(target).name for target in targets], choose(device), force
    )
    for name in names:
        for one in sources:
            _demand(name, one, errand)
    if fan is not None:
        return _fanned([(spec.name, one) for spec in specs for one in sources], errand, progress, fan)
    tell = progress or silent
    total = len(specs) * len(sources)
    cells: list[Cell] = []
    for number, (spec, framework) in enumerate((s, f) for s in specs for f in sources):
        tell(number, total, f"{spec.name} in {framework}")
        cells.extend(_cells(spec, framework, errand))
    tell(total, total, "done")
    return Matrix(tuple(cells))


def _demand(model: str, framework: str, errand: Errand) -> None:
    """Refuse, before any work, what stands where the results are to go."""
    replacing = Overwriting(errand.force)
    demand_trained(errand.directory, model, framework, replacing)
    for target in errand.targets:
        demand(errand.place(model, framework, target), MODEL, replacing)


def _fanned(places: Sequence[tuple[str, str]], errand: Errand, progress: Progress | None, fan: Fan) -> Matrix:
    where, rows = errand.directory.absolute(), None if errand.data_dir is None else errand.data_dir.absolute()
    how = list(errand.targets), errand.device, errand.force
    tasks = [
        Task(
            f"{model} in {framework}",
            "netferry.tasks.matrix:cells_of",
            (model, framework, str(where), None if rows is None else str(rows), *how),
            known_by={"model": model, "framework": framework, "how": how[:2]},
            files=() if rows is None else (rows,),
        )
        for model, framework in places
    ]
    answers = fan_out(
        tasks,
        where / "results",
        engine=fan.engine,
        workers=fan.workers,
        progress=progress,
        force=errand.force,
    )
    return Matrix(
        tuple(
            cell
            for place, answer in zip(places, answers, strict=True)
            for cell in _told(*place, errand.targets, answer)
        )
    )


def _told(model: str, framework: str, targets: Sequence[str], answer: Answer) -> Iterator[Cell]:
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
class _Told:
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
) -> _Told:
    """One model of one framework, carried to each target: what a task of the matrix calls."""
    errand = Errand(Path(directory), None if data_dir is None else Path(data_dir), targets, device, force)
    return _Told(tuple(_cells(catalog.named(model), framework, errand)))


def _cells(spec: catalog.ModelSpec, framework: str, errand: Errand) -> Iterator[Cell]:
    trained = train(spec, framework, errand.directory, errand.data_dir, force=errand.force)
    given = example(trained, errand.data_dir)
    own = _latency(runnable(trained.model, [given]), given)
    learns = set(errand.targets) != {"onnx"}
    reference = reference_of(trained, errand.data_dir) if learns else None
    for target in errand.targets:
        cell = carry_trained(
            trained,
            target,
            errand.place(spec.name, framework, target),
            given,
            errand.data_dir,
            reference,
            errand.device if target == "onnx" else CPU,
            errand.force,
        )
        yield replace(cell, source_ms=own)


def carry_trained(
    trained: Trained,
    target: str,
    destination: Path,
    given: Example,
    data_dir: Path | None = None,
    reference: TrainingReference | None = None,
    device: str = CPU,
    force: bool = False,
) -> Cell:
    """One cell: the trained model carried to ``target``, held against itself (real rows first), trained on.

    ``lesson`` is what the model learns further, where several targets share it; ``device`` is where it runs as ONNX.
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
        arrived = (
            Session(destination, device, threads=1) if target == "onnx" else runnable(done.model, [given])
        )
        latency = _latency(arrived, given)
    report = done.report
    if done.imported is not None:
        report = replace(
            report, training=compare_with(reference or reference_of(trained, data_dir), done.model)
        )
    learnt = report.training
    curve = None if learnt is None else next((c for c in learnt.curves if c.optimizer == "adam"), None)
    return replace(
        cell,
        status=report.status,
        reason=report.reason or ("" if learnt is None else learnt.reason),
        max_abs=report.max_abs,
        max_rel=report.max_rel,
        route=done.route,
        seconds=time.perf_counter() - begun,
        files=tuple(str(file) for file in done.files),
        latency_ms=latency,
        further=() if curve is None else curve.target,
        gradient_ratio=None if learnt is None else learnt.gradients,
        training_ratio=None if learnt is None else learnt.training,
        report=report,
        layers=layers_between(trained.model, done.model, [given], report),
        graphs=graphs_of(done),
    )


def reference_of(trained: Trained, data_dir: Path | None = None) -> TrainingReference:
    """What a trained model learns further, in its own framework: every target is held against it."""
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
