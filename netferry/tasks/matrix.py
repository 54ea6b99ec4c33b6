"""The matrix: every reference model, trained in each framework, carried, run and compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from netferry.api import MODEL, convert
from netferry.converters import frameworks
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand
from netferry.converters.errors import NetferryError
from netferry.converters.signature import BATCH, Example
from netferry.inference.devices import CPU, choose
from netferry.inference.run import Runnable, runnable
from netferry.inference.session import Session
from netferry.tasks.fanout import Answer, Document, Task, fan_out
from netferry.tasks.pages import graphs_of, layers_between
from netferry.validation.comparison.metrics import FAILED
from netferry.validation.reports.page.graphs import Graph, of_dict
from netferry.validation.reports.report import Report, finite
from netferry.validation.reports.wording import measure
from netferry.validation.tensors.profile import Layers
from netferry.validation.training.gradients import compare_with
from netferry.validation.training.reference import TrainingReference
from netferry.validation.training.results import LIMIT
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
class Cell:
    """One model, one source, one target.

    ``history`` are the losses of its training in the source, ``further`` those of the steps that it took in
    the target after it had arrived. ``gradient_ratio`` and ``training_ratio`` are the worst errors of its gradients
    and of those steps in units of the yardstick. ``source_ms`` and ``latency_ms`` are median milliseconds of one row, in the
    source's framework and in the target's (onnxruntime for ONNX). ``report`` is the whole verdict, ``layers`` the
    error of each tensor inside, ``graphs`` are the model's on its way and as it arrived.
    """

    model: str
    source: str
    target: str
    status: str
    max_abs: float | None = None
    max_rel: float | None = None
    seconds: float = 0.0
    route: str = ""
    train_seconds: float = 0.0
    latency_ms: float | None = None
    metric: float | None = None
    metric_name: str = ""
    history: tuple[float, ...] = ()
    further: tuple[float, ...] = ()
    files: tuple[str, ...] = ()
    reason: str = ""
    source_ms: float | None = None
    gradient_ratio: float | None = None
    training_ratio: float | None = None
    report: Report | Document | None = field(default=None, repr=False)
    layers: Layers = field(default=(), repr=False)
    graphs: tuple[Graph, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The graphs are left out: they are pictures for the page."""
        plain = asdict(replace(self, report=None, graphs=()))
        del plain["graphs"]
        return {**plain, "report": self.report.to_dict() if isinstance(self.report, Report) else self.report}


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


@dataclass(frozen=True)
class Matrix:
    """All cells of one run."""

    cells: tuple[Cell, ...]

    @property
    def passed(self) -> bool:
        return bool(self.cells) and all(cell.status == "passed" for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        return {"cells": [finite(cell.to_dict()) for cell in self.cells]}

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
        return "\n".join([line.rstrip() for line in lines] + self._learnt())

    def _learnt(self) -> list[str]:
        """For each pair of frameworks the worst ratio to the yardstick, of gradients and of the steps after them."""
        pairs: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            if cell.gradient_ratio is not None and cell.training_ratio is not None:
                pairs.setdefault((cell.source, cell.target), []).append(cell)
        if not pairs:
            return []
        lines = ["", f"worst ratio to the yardstick (at most {LIMIT:g})   gradients   {FURTHER_STEPS} steps"]
        for (source, target), cells in pairs.items():
            slopes = max(cell.gradient_ratio or 0.0 for cell in cells)
            steps = max(cells, key=lambda cell: cell.training_ratio or 0.0)
            lines.append(
                f"{source:<12}-> {target:<28}{slopes:>9.2g}{steps.training_ratio or 0.0:>11.2g}  ({steps.model})"
            )
        return lines


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
