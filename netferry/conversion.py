"""The steps of a conversion: its target, the export, and a result that is checked before it is put in place."""

from __future__ import annotations

import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from netferry import converters
from netferry.converters import artifact, frameworks, origin, pipeline, source
from netferry.converters.disk import ledger, staging
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import (
    NetferryError,
    RefusedError,
    UsageError,
    first_line,
)
from netferry.converters.exported import ExportedModel
from netferry.converters.onnx import stream
from netferry.converters.part import Part
from netferry.converters.signature import Example, Signature, completed
from netferry.results import Conversion, Totals

if TYPE_CHECKING:  # a conversion that is not verified does without inference and validation
    import onnx_ir as ir

    from netferry.converters.imported import ImportedModel
    from netferry.validation.reports.report import Report
    from netferry.validation.verify import Progress


_LOGGER = logging.getLogger("netferry")

_WHOLE = Part()

MODEL, CERTIFICATE = "model", "certificate"
"""What is written here, as the ledger has it."""


@dataclass
class Stages:
    """Reports how far a conversion is: its stages, and of the last one its samples."""

    progress: Progress | None
    writes: bool
    imports: bool
    verifies: bool
    _at: int = -1
    _samples: int = 1

    @cached_property
    def names(self) -> list[str]:
        wanted = {"importing": self.imports, "writing": self.writes, "verifying": self.verifies}
        return [
            one
            for one in ("reading", "exporting", "importing", "writing", "verifying")
            if wanted.get(one, True)
        ]

    def begin(self, name: str) -> None:
        if name in self.names:
            _LOGGER.info("%s", name)
        if self.progress is not None and name in self.names:
            self._at = self.names.index(name)
            left = self.names[self._at + 1 :]
            self.progress(self._at, len(self.names), f"{name}; then {', '.join(left)}" if left else name)

    def samples(self, done: int, total: int, label: str) -> None:
        """The samples of the verification, which is the last stage: so many more steps."""
        if self.progress is not None and done < total:
            before, self._samples = len(self.names) - 1, total
            self.progress(before + done, before + total, f"verifying {done + 1} of {total}: {label}")

    def end(self) -> None:
        if self.progress is not None:
            steps = len(self.names) - 1 + self._samples
            self.progress(steps, steps, "done")


def with_random_weights(model: object, given: tuple[Example, ...] | None, seed: int) -> object:
    """A symbol without params, with weights that were drawn by chance."""
    framework = frameworks.of(model)
    if framework.name != "mxnet":
        raise UsageError(
            "only an MXNet symbol comes without its weights", received=f"a {framework.title} model"
        )
    filled: object = framework.random_weights.with_random_weights(model, given, seed)
    return filled


def bound(
    live: object, given: tuple[Example, ...] | None, part: Part = _WHOLE
) -> tuple[object, tuple[Example, ...] | None]:
    """The part of a model as it is called with these inputs, and they in its order: of one that begins elsewhere, the part's own.

    Raises UsageError where a name is not the model's.
    """
    if not part.inputs:
        given = frameworks.bound(live, given)
    live = frameworks.called(live, given)
    if part:
        live, given = part.of(live, given)
    return live, frameworks.bound(live, given) if part.inputs else given


def exported(
    live: object, given: tuple[Example, ...] | None, opset: int | None, fuse: bool
) -> tuple[ExportedModel, tuple[Example, ...] | None]:
    """The model as ONNX, and the examples: made ones too, where the model knows its inputs and only some are given."""
    try:
        return converters.export_model(live, given=given, opset=opset, fuse=fuse), given
    except UsageError:
        if given is None:
            raise
        try:
            own: Signature = frameworks.of(live).signature(live)
        except NetferryError:
            own = Signature(())
        if len(given) >= len(own.inputs):
            raise
    whole = completed(given, own.inputs)
    return converters.export_model(live, given=whole, opset=opset, fuse=fuse), whole


def demand_runs(export: ExportedModel, live: object, given: Sequence[Example] | None) -> None:
    """Refuse what an exporter other than netferry's wrote and what does not run on its own example.

    It is for conversions that are not verified: a verdict says so otherwise.
    """
    if export.route == "direct" or given is None:
        return
    from netferry.inference.run import run

    inputs = {one.name: one.array for one in given}
    wanted = run(live, inputs)
    try:
        found = run(export.model, inputs)
    except NetferryError as error:
        if _WITHOUT_KERNEL in f"{error} {error.__cause__}":
            return
        reason = first_line(error)
    else:
        odd = [name for name, y in wanted.items() if name in found and found[name].shape != y.shape]
        if not odd and wanted.keys() == found.keys():
            return
        reason = f"its outputs have other sizes or names: {', '.join(odd or found)}"
    raise RefusedError(
        f"what the {export.route} exporter wrote does not run on its own example ({reason})",
        where=origin.named(live),
        remedy=f"{export.notes[0]}" if export.notes else "",
    )


_WITHOUT_KERNEL = "NOT_IMPLEMENTED"
"""What onnxruntime says of a valid model for whose types it has no kernel."""


def simplified(export: ExportedModel) -> ExportedModel:
    """The export with what is known before the model runs written as constants."""
    from netferry.converters.onnx.to_onnx import simplify

    try:
        smaller, count = simplify.simplified(export.model)
    except NetferryError as error:
        return replace(export, notes=(*export.notes, f"nothing was simplified: {error}"))
    return replace(export, model=smaller, notes=(*export.notes, f"{count} nodes were simplified away"))


@dataclass(frozen=True)
class Dequantized:
    """An export with floats in the place of integers, and what its result is held against: the source without its roundings,
    or nothing else than the source where it has no integers."""

    export: ExportedModel
    yardstick: object = None

    def against(self, live: object, title: str) -> tuple[object, str]:
        """The model that the result is held against, and its name."""
        return (live, title) if self.yardstick is None else (self.yardstick, f"{title} without its roundings")

    def noted(
        self, report: Report, source: object, result: object, given: Sequence[Example] | None
    ) -> Report:
        """The report, and how far the result lies from the source as it is."""
        if self.yardstick is None:
            return report
        from netferry.validation.apart import apart

        far = apart(source, result, given, report.seed)
        said = ", ".join(f"{name} by {share:.2g} of its scale" for name, share in far.items())
        note = (
            "compared is the source with its roundings of activations left out, operator by operator"
            f"{f'; as it is, it lies apart on an ordinary input: {said}' if said else ''}"
        )
        return replace(report, notes=(note, *report.notes))


def dequantized(export: ExportedModel) -> Dequantized:
    """The export with floats for a quantised model's integers."""
    from netferry.converters.onnx.to_onnx import dequantize
    from netferry.converters.onnx.unrounded import unrounded

    model, notes = dequantize.dequantized(export.model)
    made = replace(export, model=model, notes=(*export.notes, *notes))
    return Dequantized(made, None if model is export.model else unrounded(export.model))


def totals(model: ir.Model) -> Totals | None:
    """What a run costs by the graph alone, every free size being 1; None for a model that no plan is made of."""
    from netferry.converters.graph.inference.cost import cost, peak
    from netferry.converters.graph.passes.normalize import plan

    try:
        planned = plan(model)
    except NetferryError:
        return None
    ones: Mapping[str, int] = defaultdict(lambda: 1)
    found = cost(planned, ones)
    tensors = frameworks.named("onnx").live.constants(model)
    return Totals(found.flops, sum(one.nbytes for one in tensors), peak(planned, ones), found.unknown)


def target_of(
    to: str | os.PathLike[str] | None,
    destination: Path | None,
    opset: int | None,
    write_source: bool,
    fuse: bool,
    device: str,
    trains: bool = False,
) -> str:
    """The framework to convert to, once the call is known to make sense. A path given in its place is refused."""
    to = None if to is None else os.fspath(to)
    if to is None and destination is None:
        raise UsageError("neither a framework nor a destination is given", remedy='Use to="pytorch"')
    if to is not None and to.lower() not in frameworks.NAMES and Path(to).suffix:
        raise UsageError("no such framework", received=to, remedy=f'Give a path as destination="{to}"')
    name = frameworks.named(to).name if to is not None else artifact.framework_of(destination or Path())
    if destination is not None:
        artifact.demand_ending(destination, name)
    frameworks.named(name).demand_as_target()
    if destination is not None and destination.suffix == ".tflite":
        frameworks.LITE.require()
    if name == "onnx" and write_source:
        raise UsageError("an ONNX model has no source", remedy="Leave --source out, or use another --to")
    if name != "onnx" and opset is not None:
        raise UsageError("only an ONNX model has an opset", remedy="Leave --opset out")
    if device != "cpu":
        if name != "onnx":
            raise UsageError(
                "only an ONNX model is checked on another device", expected="cpu", received=device
            )
        from netferry.inference.devices import choose

        choose(device)  # what is missing is reported before any work
    if trains:
        from netferry.validation.training.optimizers import demand

        demand(name)
    if name != "onnx" and fuse:
        raise UsageError(
            "only an ONNX model is fused", remedy="Leave --fuse out: other results can be trained"
        )
    return name


def without_fixed_axes(given: Sequence[Example] | None, export: ExportedModel) -> Sequence[Example] | None:
    """The examples without the batch axes that the model's own code fixes, which the export's notes name."""
    if given is None:
        return None
    kept: Signature = frameworks.named("onnx").signature(export.model)
    free = {
        spec.name: {axis for axis, dim in enumerate(spec.dims or ()) if not isinstance(dim, int)}
        for spec in kept.inputs
    }
    return tuple(
        replace(one, free={axis: symbol for axis, symbol in one.free.items() if axis in free[one.name]})
        if one.name in free and not one.asked
        else one
        for one in given
    )


def going_on(
    imported: ImportedModel,
    live: object,
    states: object,
    given: Sequence[Example] | None,
    learning_rate: float | None,
    updates: int | None,
) -> ImportedModel:
    """The imported model, and what an optimizer of the source's keeps, for training to go on."""
    from netferry.converters.optimizer import demand_even
    from netferry.validation.training.optimizers import carried, read

    state = read(states, live, learning_rate, updates)
    demand_even(state.settings, origin.named(live))
    return replace(imported, optimizer=carried(state, live, imported.model, given))


def deliver(
    done: Conversion,
    destination: Path,
    check: Callable[[Callable[[], object]], Report | None],
    keep: bool,
    write_source: bool,
    replacing: Overwriting,
    origin: object = None,
) -> Conversion:
    """Write beside the destination, check what was written, and only then put it in place.

    The files of a pipeline that ``origin`` names go along: into a result that is a folder, else beside it.
    """
    stale = ledger.written(destination, MODEL) if done.to == "onnx" else {}
    with staging.staged(destination, MODEL, replacing) as stage:
        converters.write(done.imported or done.export, stage)
        if write_source and done.imported is not None:
            done.imported.write_source(stage.with_name(f"{_stem(destination)}.py"))
        home, into = (destination, stage) if stage.is_dir() else (destination.parent, stage.parent)
        pipeline.copy_beside(origin, home, into)
        report = check(lambda: _written(stage))
        if report is not None and report.failed and not keep:
            shutil.rmtree(stage.parent)
            stage.parent.mkdir()
        names = sorted(file.relative_to(stage.parent) for file in stage.parent.rglob("*") if file.is_file())
    files = tuple(destination.parent / name for name in names)
    if files:
        stream.remove_apart(
            destination, {name: one for name, one in stale.items() if destination.parent / name not in files}
        )
    return replace(done, report=report, files=files)


def companions(
    destination: Path | None, target: str, write_source: bool, origin: object = None, trains: bool = False
) -> list[str]:
    """The names of the files that are known to come beside a destination; ``origin`` may name a pipeline. ``trains``: the state of
    an optimizer comes along."""
    if destination is None:
        return []
    names = (
        [f"{destination.stem}.optimizer.pt"] if trains and target == "pytorch" and destination.suffix else []
    )
    names += [f"{_stem(destination)}{ending}" for ending in (".py", ".safetensors") if write_source]
    if destination.suffix:
        names += pipeline.beside(origin, destination.parent)
    symbol = target == "mxnet" and destination.name.endswith("-symbol.json")
    return [*names, destination.name.replace("-symbol.json", "-0000.params")] if symbol else names


def _stem(destination: Path) -> str:
    return destination.name.removesuffix("-symbol.json").partition(".")[0]


def fitted(imported: ImportedModel | None, path: Path | None) -> ImportedModel | None:
    """An imported model as its kind of file is written, which its notes say."""
    if imported is None or path is None or path.suffix != ".tflite":
        return imported
    from netferry.converters.tensorflow.tflite.writing import prepared

    return prepared(imported)


def _written(stage: Path) -> object:
    """What was written, opened as a person would open it."""
    module = stage / "model.py" if stage.is_dir() else stage
    if module.suffix == ".py" and module.is_file():
        return source.open_module(module)
    return stage if source.is_onnx_file(stage) else source.open_source(stage)
