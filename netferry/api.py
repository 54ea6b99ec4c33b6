"""What a person calls from Python: convert, verify, check, bisect, run, inspect."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from netferry import converters
from netferry.converters import artifact, frameworks, source
from netferry.converters.disk import ledger, staging
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import NetferryError, RefusedError, Unsupported, UnsupportedError, UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.imported import ImportedModel
from netferry.converters.onnx import stream
from netferry.converters.signature import Example, Signature, completed, examples

if TYPE_CHECKING:  # a conversion that is not verified does without inference and validation
    from netferry.inference.feed import Pixels
    from netferry.validation.comparison.metrics import Tolerance
    from netferry.validation.reports.certificate import Check
    from netferry.validation.reports.report import Report
    from netferry.validation.samples.rows import Rows
    from netferry.validation.tensors.difference import Bisection
    from netferry.validation.training.results import TrainingVerdict
    from netferry.validation.verify import Progress

PathLike = str | os.PathLike[str]
Inputs = Mapping[str, Any] | Sequence[Any] | Sequence[Example]
Dynamic = Mapping[str, Mapping[int, str]]
Data = PathLike | None
Columns = Mapping[str, Sequence[str]] | None

MODEL, CERTIFICATE = "model", "certificate"
"""What is written here, as the ledger has it."""


def _renamed(old: str, new: str) -> Any:
    """A property under its former name."""

    def value(self: Any) -> Any:
        warnings.warn(f"'{old}' is called '{new}'", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    return property(value)


@dataclass(frozen=True)
class Conversion:
    """What a conversion gives: the model, the verdict (None where none was asked for), the files written.

    ``export`` is the model on its way, as ONNX; ``imported`` is what it has become in another framework.
    """

    export: ExportedModel = field(repr=False)
    source: str
    to: str
    report: Report | None = None
    files: tuple[Path, ...] = ()
    imported: ImportedModel | None = field(default=None, repr=False)

    arrival = _renamed("arrival", "imported")
    road = _renamed("road", "route")

    @cached_property
    def model(self) -> Any:
        """The live model: an ``nn.Module``, a Keras model, a gluon block, or an ``onnx.ModelProto``."""
        if self.imported is None:
            return frameworks.named("onnx").live.proto(self.export.model)
        return self.imported.model

    @property
    def route(self) -> str:
        return self.export.route

    @property
    def notes(self) -> tuple[str, ...]:
        return self.export.notes + (() if self.imported is None else self.imported.notes)

    @property
    def names(self) -> Mapping[str, str]:
        """The source's weights -> the parameters that they have become."""
        return {} if self.imported is None else self.imported.names

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "to": self.to,
            "route": self.route,
            "road": self.route,  # its former name
            "form": None if self.imported is None else self.imported.form,
            "files": [str(file) for file in self.files],
            "names": dict(self.names),
            "notes": list(self.notes),
            "status": None if self.report is None else self.report.status,
            "report": None if self.report is None else self.report.to_dict(),
        }


def convert(
    model: object,
    to: str | None = None,
    *,
    destination: PathLike | None = None,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    opset: int | None = None,
    fuse: bool = False,
    weights: PathLike | None = None,
    write_source: bool = False,
    verify: bool = True,
    keep: bool = False,
    seed: int | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
    quick: bool = False,
    samples: int | None = None,
    outputs: Mapping[str, str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Carry ``model`` (a path, ``package.module:factory``, or a live model) to the framework ``to``.

    Left out, ``to`` is what the name of ``destination`` says (``.onnx``, ``.pt2``, ``.keras``,
    ``-symbol.json``). ``inputs`` maps names to example arrays, bound by position; their names become the
    model's input names. ``dynamic`` maps an input's name to ``{axis: symbol}``; left out, the batch axis is
    free. ``fuse`` folds BatchNormalization into the convolution before it, in an ONNX model. ``write_source`` also writes the model as a readable Python module beside ``destination``.
    With ``verify`` source and result are run on the same inputs, an ONNX model on ``device`` (cpu, cuda, auto). Nothing is written to ``destination``
    when they differ, unless ``keep``. ``seed`` (drawn anew where it is None), ``data``, ``quick``, ``samples`` and ``outputs`` are as for ``verify``;
    What stands at ``destination`` is replaced where netferry itself has written it and nobody has changed it since; anything else,
    and the source itself, only with ``force``. ``progress(done, total, what)`` is told of each stage. A file that names anything that could act outside the model is
    refused; ``unsafe`` lets it through and warns (``UnsafeWarning``) of what exactly.

    Raises a ``NetferryError`` whose message says where, what was expected, what was received, what to do.
    """
    place = None if destination is None else Path(destination)
    target = _target(to, place, opset, write_source, fuse, device)
    stages = _Stages(progress, writes=place is not None, arrives=target != "onnx", verifies=verify)
    title, given = source.title(model), given_examples(inputs, dynamic)
    source.demand(model)
    replacing = Overwriting(force, (model, weights, data))
    staging.demand(place, MODEL, replacing, _beside(place, target, write_source))
    stages.begin("reading")
    live = frameworks.called(source.open_source(model, weights, unsafe=unsafe), given)
    stages.begin("exporting")
    export, given = _exported(live, given, opset, fuse)
    stages.begin("importing")
    imported = (
        None if target == "onnx" else converters.import_model(export.model, target, name=Path(title).stem)
    )
    done = Conversion(export, title, target, imported=imported)
    stages.begin("writing")

    def check(result: Callable[[], object]) -> Report | None:
        if not verify:
            return None
        from netferry.validation.verify import verify as compare

        return compare(
            live, result(), _as_carried(given, export), names=(title, target), seed=drawn(seed), device=device,
            quick=quick, count=samples, outputs=outputs, rows=_rows(data, columns, pixels), graph=export.model, progress=stages.samples,
        )  # fmt: skip

    done = (
        replace(done, report=check(lambda: done.model))
        if place is None
        else _deliver(done, place, check, keep, write_source, replacing)
    )
    stages.end()
    return done


@dataclass
class _Stages:
    """Tells how far a conversion is: its stages, and of the last one its samples."""

    progress: Progress | None
    writes: bool
    arrives: bool
    verifies: bool
    _at: int = -1

    @cached_property
    def names(self) -> list[str]:
        wanted = {"importing": self.arrives, "writing": self.writes, "verifying": self.verifies}
        return [
            one
            for one in ("reading", "exporting", "importing", "writing", "verifying")
            if wanted.get(one, True)
        ]

    def begin(self, name: str) -> None:
        if self.progress is not None and name in self.names:
            self._at = self.names.index(name)
            left = self.names[self._at + 1 :]
            self.progress(self._at, len(self.names), f"{name}; then {', '.join(left)}" if left else name)

    def samples(self, done: int, total: int, label: str) -> None:
        """The samples of the verification, which is the last stage: so many more steps."""
        if self.progress is not None and done < total:
            before = len(self.names) - 1
            self.progress(before + done, before + total, f"verifying {done + 1} of {total}: {label}")

    def end(self) -> None:
        if self.progress is not None:
            self.progress(len(self.names), len(self.names), "done")


def _exported(
    live: object, given: tuple[Example, ...] | None, opset: int | None, fuse: bool
) -> tuple[ExportedModel, tuple[Example, ...] | None]:
    """The model as ONNX, and the examples: made ones too, where only some inputs of a model that says them are given."""
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


def drawn(seed: int | None) -> int:
    """The seed as it is given, else a new one."""
    return secrets.randbelow(1 << 31) if seed is None else seed


def _rows(data: Data, columns: Columns, pixels: Pixels | None) -> Rows | None:
    """Rows of a data set to compare on."""
    if data is None:
        if columns or pixels is not None:
            raise UsageError("columns and pixels are for data", remedy="Say data=, or leave them out")
        return None
    from netferry.validation.samples.rows import Rows

    return Rows(Path(data), columns, pixels)


def _target(
    to: str | None, destination: Path | None, opset: int | None, write_source: bool, fuse: bool, device: str
) -> str:
    """The framework to arrive in, once the call is known to make sense."""
    if to is None and destination is None:
        raise UsageError("neither a framework nor a destination is given", remedy='Say to="pytorch"')
    if to is not None and to not in frameworks.FRAMEWORKS and Path(to).suffix:
        raise UsageError("no such framework", received=to, remedy=f'A path is said with destination="{to}"')
    name = frameworks.named(to).name if to is not None else artifact.framework_of(destination or Path())
    if name == "onnx" and write_source:
        raise UsageError("an ONNX model has no source", remedy="Leave --source out, or say another --to")
    if name != "onnx" and opset is not None:
        raise UsageError("only an ONNX model has an opset", remedy="Leave --opset out")
    if device != "cpu":
        if name != "onnx":
            raise UsageError(
                "only an ONNX model is checked on another device", expected="cpu", received=device
            )
        from netferry.inference.devices import choose

        choose(device)  # what is not here is told before any work
    if name != "onnx" and fuse:
        raise UsageError(
            "only an ONNX model is fused", remedy="Leave --fuse out: what arrives goes on learning"
        )
    return name


def _as_carried(given: Sequence[Example] | None, export: ExportedModel) -> Sequence[Example] | None:
    """The examples without the batch axes that the model's own code fixes, which the export's notes tell."""
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


def _deliver(
    done: Conversion,
    destination: Path,
    check: Callable[[Callable[[], object]], Report | None],
    keep: bool,
    write_source: bool,
    replacing: Overwriting,
) -> Conversion:
    """Write beside the destination, check what was written, and only then put it in place."""
    stale = ledger.written(destination, MODEL) if done.to == "onnx" else {}
    with staging.staged(destination, MODEL, replacing) as stage:
        converters.write(done.imported or done.export, stage)
        if write_source and done.imported is not None:
            done.imported.write_source(stage.with_name(f"{_stem(destination)}.py"))
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


def _beside(destination: Path | None, target: str, write_source: bool) -> list[str]:
    """The names of the files that are known to come beside a destination."""
    if destination is None:
        return []
    names = [f"{_stem(destination)}{ending}" for ending in (".py", ".safetensors") if write_source]
    symbol = target == "mxnet" and destination.name.endswith("-symbol.json")
    return [*names, destination.name.replace("-symbol.json", "-0000.params")] if symbol else names


def _stem(destination: Path) -> str:
    return destination.name.removesuffix("-symbol.json").partition(".")[0]


def _written(stage: Path) -> object:
    """What was written, opened as a person would open it."""
    module = stage / "model.py" if stage.is_dir() else stage
    if module.suffix == ".py" and module.is_file():
        return source.open_module(module)
    return stage if source.is_onnx_file(stage) else source.open_source(stage)


def verify(
    a: object,
    b: object,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    seed: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    certificate: PathLike | None = None,
    gradients: bool = False,
    training_steps: int = 0,
    quick: bool = False,
    samples: int | None = None,
    outputs: Mapping[str, str] | None = None,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Run two models on the same inputs; the report's ``status`` is passed, failed or not_checked.

    ``a`` and ``b`` are paths, factories or live models of any framework; ``a`` is the source, whose
    signature the inputs are made from unless ``inputs`` are given. ``rtol`` and ``atol`` replace
    netferry's own limit; both are needed, and both directions must hold. ``certificate`` names a file
    for what was compared and what came out, which ``check`` repeats; one that netferry has not written itself it
    replaces only with ``force``. With ``gradients`` both also get the same loss,
    and the gradients of every weight and input are compared; ``training_steps`` adds so many steps of SGD and of
    Adam (``report.training``). Neither side may be ONNX then. ``quick`` takes few inputs, ``samples`` is the most
    that are taken. ``data`` is a file or folder whose first rows come before all others (``columns`` and ``pixels``
    as for ``run --data``). ``outputs`` maps outputs of ``a`` to those of ``b`` that have other names. ``seed`` is
    drawn anew where it is None; the report keeps it. ``progress(done, total, what)`` is told of each sample.
    """
    from netferry.validation.reports.certificate_form import told
    from netferry.validation.verify import verify as compare

    seed, rows = drawn(seed), _rows(data, columns, pixels)
    replacing = Overwriting(force, (a, b, *weights, data))
    staging.demand(certificate, CERTIFICATE, replacing)
    if device != "cpu":
        from netferry.inference.devices import choose

        choose(device)  # what is not here is told before any work
    left, right = (opened(model, given, unsafe) for model, given in zip((a, b), weights, strict=True))
    shown = given_examples(inputs, dynamic)
    left, right = frameworks.called(left, shown), frameworks.called(right, shown)
    if gradients or training_steps:
        _demand_gradients(left, right)
    report = compare(
        left,
        right,
        shown,
        names=(source.title(a), source.title(b)),
        seed=seed,
        tolerance=_tolerance(rtol, atol),
        device=device,
        quick=quick,
        count=samples,
        outputs=outputs,
        rows=rows,
        progress=progress,
    )
    if gradients or training_steps:
        report = replace(report, training=_training(left, right, report, shown, training_steps, seed))
    options: dict[str, Any] = {"seed": seed, "rtol": rtol, "atol": atol, "device": device}
    options |= {
        "gradients": gradients,
        "training_steps": training_steps,
        "quick": quick,
        "samples": samples,
        "outputs": None if outputs is None else dict(outputs),
    }
    report = replace(report, options=told(options))
    if certificate is not None:
        from netferry.validation.reports import certificate as certificates
        from netferry.validation.reports.certificate import Subject

        subjects = (Subject(a, left, weights[0]), Subject(b, right, weights[1]))
        certificates.write(Path(certificate), report, subjects, shown, options, replacing)
    return report


def check(
    certificate: PathLike,
    a: object = None,
    b: object = None,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    unsafe: bool = False,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
) -> Check:
    """Repeat what a certificate says was compared; ``.holds`` tells whether it comes out as it did.

    Models that are files are found beside the certificate; others, and inputs and data that were given, must be given
    again. The seed is the certificate's.
    """
    from netferry.validation.reports import certificate as certificates
    from netferry.validation.reports.certificate import Subject

    known = certificates.read(Path(certificate))
    named = known.subject("source", a), known.subject("target", b)
    shown = known.inputs(given_examples(inputs, dynamic), data is not None)
    left, right = (opened(model, own, unsafe) for model, own in zip(named, weights, strict=True))
    return known.check(
        (Subject(named[0], left, weights[0]), Subject(named[1], right, weights[1])),
        shown,
        lambda: verify(
            left, right, shown, unsafe=unsafe, data=data, columns=columns, pixels=pixels, **known.options
        ),
    )


def bisect(
    a: object,
    b: object,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    seed: int | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    output: PathLike | None = None,
    unsafe: bool = False,
    data: Data = None,
    columns: Columns = None,
    pixels: Pixels | None = None,
    force: bool = False,
) -> Bisection:
    """Name the first tensor inside ``a`` that differs in ``b``: what ``verify`` takes, across frameworks.

    ``output`` names a folder for a reproduction: the step alone, its inputs, both results and a script. It is new or
    empty, or as an earlier reproduction left it; what was changed there is replaced with ``force``.
    """
    from netferry.validation.tensors import bisect as room, reproduction

    replacing = Overwriting(force, (a, b, *weights, data))
    staging.demand(output, reproduction.KIND, replacing)
    left, right = (opened(model, given, unsafe) for model, given in zip((a, b), weights, strict=True))
    names = (source.title(a), source.title(b))
    found = room.bisect(
        left, right, given_examples(inputs, dynamic), names=names, seed=drawn(seed),
        tolerance=_tolerance(rtol, atol), rows=_rows(data, columns, pixels),
    )  # fmt: skip
    return found if output is None else reproduction.write(found, (left, right), Path(output), replacing)


def _demand_gradients(*models: object) -> None:
    from netferry.validation.training.reference import demand_gradients

    for model in models:
        demand_gradients(model)


def _training(
    a: object, b: object, report: Report, shown: Sequence[Example] | None, steps: int, seed: int
) -> TrainingVerdict:
    """Both models on the same batches, which are made from the source's signature."""
    from netferry.validation.training.gradients import compare_training
    from netferry.validation.training.reference import batches_for

    signature = report.signature or frameworks.of(a).signature(a, shown)
    return compare_training(a, b, batches_for(signature, shown, seed), given=shown, steps=steps, seed=seed)


def _tolerance(rtol: float | None, atol: float | None) -> Tolerance | None:
    if (rtol is None) != (atol is None):
        raise UsageError("rtol and atol go together", expected="both or neither")
    if rtol is None or atol is None:
        return None
    from netferry.validation.comparison.metrics import Tolerance

    return Tolerance(rtol, atol)


def run(
    model: object,
    inputs: Mapping[str, Any] | Sequence[Any],
    *,
    weights: PathLike | None = None,
    device: str = "cpu",
    unsafe: bool = False,
) -> dict[str, Any]:
    """Run a path, a factory or a live model once; outputs come in the model's order under its names."""
    from netferry.inference import run as inference

    return inference.run(opened(model, weights, unsafe), inputs, device)


@dataclass(frozen=True)
class Prospect:
    """What would arrive in a framework: the form that it would have, or the nodes that it cannot take."""

    form: str = ""
    problems: tuple[Unsupported, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "carried": not self.problems,
            "form": self.form,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Inspection:
    """What a model is: where it comes from, what goes in and out, and what it is made of."""

    title: str
    framework: str
    signature: Signature
    operators: Mapping[str, int]
    parameters: int
    bytes: int
    opset: int
    route: str
    notes: tuple[str, ...] = ()
    targets: Mapping[str, Prospect] = field(default_factory=dict)

    road = _renamed("road", "route")

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.title,
            "framework": self.framework,
            **self.signature.to_json(),
            "operators": dict(self.operators),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "opset": self.opset,
            "route": self.route,
            "road": self.route,  # its former name
            "notes": list(self.notes),
            "targets": {name: prospect.to_dict() for name, prospect in self.targets.items()},
        }


def inspect(
    model: object,
    *,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    weights: PathLike | None = None,
    to: str | Sequence[str] = (),
    unsafe: bool = False,
) -> Inspection:
    """Describe a model as it stands in ONNX, which is what every conversion starts from.

    ``to`` names frameworks (or is "all"): what each of them can take is found out without importing it.
    """
    live = source.open_source(model, weights, unsafe=unsafe)
    export = converters.export_model(live, given=given_examples(inputs, dynamic))
    graph = export.model.graph
    tensors = [value.const_value for value in graph.initializers.values() if value.const_value is not None]
    weights_only = [tensor for tensor in tensors if tensor.dtype.is_floating_point()]
    counts = Counter(node.op_type for node in graph)
    signature: Signature = frameworks.named("onnx").signature(export.model)
    try:
        targets = {name: _prospect(export.model, name) for name in _targets(to)}
    except RefusedError as error:
        raise error if error.where else error.at(source.title(model)) from None
    return Inspection(
        title=source.title(model),
        framework=frameworks.of(live).title,
        signature=signature,
        operators=dict(sorted(counts.items())),
        parameters=sum(tensor.size for tensor in weights_only),
        bytes=sum(tensor.nbytes for tensor in tensors),
        opset=export.model.opset_imports[""],
        route=export.route,
        notes=export.notes,
        targets=targets,
    )


def _targets(to: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(name for name in frameworks.FRAMEWORKS if name != "onnx") if to == "all" else to
    return tuple(frameworks.named(name).name for name in ([names] if isinstance(names, str) else names))


def _prospect(model: ir.Model, to: str) -> Prospect:
    if to == "onnx":
        return Prospect("graph")
    try:
        imported = converters.import_model(model, to)
    except UnsupportedError as error:
        return Prospect(problems=error.problems)
    return Prospect(imported.form, notes=imported.notes)


def opened(model: object, weights: PathLike | None, unsafe: bool) -> object:
    """What can be run: a model in memory, or the path of an ONNX file, which onnxruntime opens itself."""
    if isinstance(model, str | os.PathLike) and source.is_onnx_file(model):
        return source.looked_at(model, unsafe=unsafe)
    return source.open_source(model, weights, unsafe=unsafe)


def given_examples(inputs: Inputs | None, dynamic: Dynamic | None) -> tuple[Example, ...] | None:
    if inputs is None:
        if dynamic is not None:
            raise UsageError("dynamic needs inputs", remedy="Give example arrays for the inputs it names")
        return None
    if not isinstance(inputs, Mapping) and inputs and all(isinstance(item, Example) for item in inputs):
        return tuple(inputs)
    return examples(inputs, dynamic)
