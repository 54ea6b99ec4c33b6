"""What a person calls from Python: convert, verify, run, inspect."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx_ir as ir

from netferry import converters
from netferry.converters import artifact, frameworks, source, staging
from netferry.converters.arrival import Arrival
from netferry.converters.errors import Unsupported, UnsupportedError, UsageError
from netferry.converters.export import Export
from netferry.converters.signature import Example, Signature, examples
from netferry.inference import run as inference
from netferry.validation.metrics import FAILED, Tolerance
from netferry.validation.report import Report
from netferry.validation.verify import verify as compare

PathLike = str | os.PathLike[str]
Inputs = Mapping[str, Any] | Sequence[Any] | Sequence[Example]
Dynamic = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Conversion:
    """What a conversion gives: the model, the verdict (None where none was asked for), the files written.

    ``export`` is the model on its way, as ONNX; ``arrival`` is what it has become in another framework.
    """

    export: Export = field(repr=False)
    source: str
    to: str
    report: Report | None = None
    files: tuple[Path, ...] = ()
    arrival: Arrival | None = field(default=None, repr=False)

    @cached_property
    def model(self) -> Any:
        """The live model: an ``nn.Module``, a Keras model, a gluon block, or an ``onnx.ModelProto``."""
        return ir.to_proto(self.export.model) if self.arrival is None else self.arrival.model

    @property
    def road(self) -> str:
        return self.export.road

    @property
    def notes(self) -> tuple[str, ...]:
        return self.export.notes + (() if self.arrival is None else self.arrival.notes)

    @property
    def names(self) -> Mapping[str, str]:
        """The source's weights -> the parameters that they have become."""
        return {} if self.arrival is None else self.arrival.names

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "to": self.to,
            "road": self.road,
            "form": None if self.arrival is None else self.arrival.form,
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
    weights: PathLike | None = None,
    write_source: bool = False,
    verify: bool = True,
    keep: bool = False,
    seed: int = 0,
) -> Conversion:
    """Carry ``model`` (a path, ``package.module:factory``, or a live model) to the framework ``to``.

    Left out, ``to`` is what the name of ``destination`` says (``.onnx``, ``.pt2``, ``.keras``,
    ``-symbol.json``). ``inputs`` maps names to example arrays, bound by position; their names become the
    model's input names. ``dynamic`` maps an input's name to ``{axis: symbol}``; left out, the batch axis is
    free. ``write_source`` also writes the model as a readable Python module beside ``destination``.
    With ``verify`` source and result are run on the same inputs. Nothing is written to ``destination``
    when they differ, unless ``keep``.

    Raises a ``NetferryError`` whose message says where, what was expected, what was received, what to do.
    """
    place = None if destination is None else Path(destination)
    target = _target(to, place, opset, write_source)
    title, given = source.title(model), _given(inputs, dynamic)
    live = source.open_source(model, weights)
    export = converters.carry(live, given=given, opset=opset)
    arrival = None if target == "onnx" else converters.arrive(export.model, target, name=Path(title).stem)
    done = Conversion(export, title, target, arrival=arrival)

    def check(result: object) -> Report | None:
        return compare(live, result, given, names=(title, target), seed=seed) if verify else None

    if place is None:
        return replace(done, report=check(done.model) if verify else None)
    return _deliver(done, place, check, keep, write_source)


def _target(to: str | None, destination: Path | None, opset: int | None, write_source: bool) -> str:
    """The framework to arrive in, once the call is known to make sense."""
    if to is None and destination is None:
        raise UsageError("neither a framework nor a destination is given", remedy='Say to="pytorch"')
    name = frameworks.named(to).name if to is not None else artifact.arrives_in(destination or Path())
    if name == "onnx" and write_source:
        raise UsageError("an ONNX model has no source", remedy="Leave --source out, or say another --to")
    if name != "onnx" and opset is not None:
        raise UsageError("only an ONNX model has an opset", remedy="Leave --opset out")
    return name


def _deliver(
    done: Conversion,
    destination: Path,
    check: Callable[[object], Report | None],
    keep: bool,
    write_source: bool,
) -> Conversion:
    """Write beside the destination, check what was written, and only then put it in place."""
    with staging.staged(destination) as stage:
        converters.write(done.arrival or done.export, stage)
        if write_source and done.arrival is not None:
            done.arrival.write_source(stage.with_name(f"{_stem(destination)}.py"))
        report = check(_written(stage))
        if report is not None and report.status == FAILED and not keep:
            shutil.rmtree(stage.parent)
            stage.parent.mkdir()
        names = sorted(file.relative_to(stage.parent) for file in stage.parent.rglob("*") if file.is_file())
    return replace(done, report=report, files=tuple(destination.parent / name for name in names))


def _stem(destination: Path) -> str:
    return destination.name.removesuffix("-symbol.json").partition(".")[0]


def _written(stage: Path) -> object:
    """What was written, opened as a person would open it."""
    module = stage / "model.py" if stage.is_dir() else stage
    if module.suffix == ".py" and module.is_file():
        return source.open_module(module)
    return _opened(stage, None)


def verify(
    a: object,
    b: object,
    inputs: Inputs | None = None,
    *,
    dynamic: Dynamic | None = None,
    weights: tuple[PathLike | None, PathLike | None] = (None, None),
    seed: int = 0,
    rtol: float | None = None,
    atol: float | None = None,
    device: str = "cpu",
) -> Report:
    """Run two models on the same inputs; the report's ``status`` is passed, failed or not_checked.

    ``a`` and ``b`` are paths, factories or live models of any framework; ``a`` is the source, whose
    signature the inputs are made from unless ``inputs`` are given. ``rtol`` and ``atol`` replace
    netferry's own limit; both are needed, and both directions must hold.
    """
    if (rtol is None) != (atol is None):
        raise UsageError("rtol and atol go together", expected="both or neither")
    tolerance = None if rtol is None or atol is None else Tolerance(rtol, atol)
    left, right = (_opened(model, given) for model, given in zip((a, b), weights, strict=True))
    return compare(
        left,
        right,
        _given(inputs, dynamic),
        names=(source.title(a), source.title(b)),
        seed=seed,
        tolerance=tolerance,
        device=device,
    )


def run(
    model: object,
    inputs: Mapping[str, Any] | Sequence[Any],
    *,
    weights: PathLike | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Run a path, a factory or a live model once; outputs come in the model's order under its names."""
    return inference.run(_opened(model, weights), inputs, device)


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
    road: str
    notes: tuple[str, ...] = ()
    targets: Mapping[str, Prospect] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.title,
            "framework": self.framework,
            **self.signature.to_json(),
            "operators": dict(self.operators),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "opset": self.opset,
            "road": self.road,
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
) -> Inspection:
    """Describe a model as it stands in ONNX, which is what every conversion starts from.

    ``to`` names frameworks (or is "all"): what each of them can take is found out without importing it.
    """
    live = source.open_source(model, weights)
    export = converters.carry(live, given=_given(inputs, dynamic))
    graph = export.model.graph
    tensors = [value.const_value for value in graph.initializers.values() if value.const_value is not None]
    weights_only = [tensor for tensor in tensors if tensor.dtype.is_floating_point()]
    counts = Counter(node.op_type for node in graph)
    onnx_live = frameworks.named("onnx").live
    signature: Signature = onnx_live.signature(export.model)
    return Inspection(
        title=source.title(model),
        framework=frameworks.of(live).title,
        signature=signature,
        operators=dict(sorted(counts.items())),
        parameters=sum(tensor.size for tensor in weights_only),
        bytes=sum(tensor.nbytes for tensor in tensors),
        opset=export.model.opset_imports[""],
        road=export.road,
        notes=export.notes,
        targets={name: _prospect(export.model, name) for name in _targets(to)},
    )


def _targets(to: str | Sequence[str]) -> tuple[str, ...]:
    names = tuple(name for name in frameworks.FRAMEWORKS if name != "onnx") if to == "all" else to
    return tuple(frameworks.named(name).name for name in ([names] if isinstance(names, str) else names))


def _prospect(model: ir.Model, to: str) -> Prospect:
    if to == "onnx":
        return Prospect("graph")
    try:
        arrival = converters.arrive(model, to)
    except UnsupportedError as error:
        return Prospect(problems=error.problems)
    return Prospect(arrival.form, notes=arrival.notes)


def _opened(model: object, weights: PathLike | None) -> object:
    """What can be run: a model in memory, or the path of an ONNX file, which onnxruntime opens itself."""
    if isinstance(model, str | os.PathLike) and source.is_onnx_file(model):
        return Path(model)
    return source.open_source(model, weights)


def _given(inputs: Inputs | None, dynamic: Dynamic | None) -> tuple[Example, ...] | None:
    if inputs is None:
        if dynamic is not None:
            raise UsageError("dynamic needs inputs", remedy="Give example arrays for the inputs it names")
        return None
    if not isinstance(inputs, Mapping) and inputs and all(isinstance(item, Example) for item in inputs):
        return tuple(inputs)
    return examples(inputs, dynamic)
