"""What a person calls from Python: convert, verify, run, inspect."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from netferry import converters
from netferry.converters import artifact, frameworks, source
from netferry.converters.errors import UsageError
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
    """What a conversion gives: the model, the verdict (None where none was asked for), the files written."""

    export: Export = field(repr=False)
    source: str
    to: str
    report: Report | None = None
    files: tuple[Path, ...] = ()

    @cached_property
    def model(self) -> onnx.ModelProto:
        return ir.to_proto(self.export.model)

    @property
    def road(self) -> str:
        return self.export.road

    @property
    def notes(self) -> tuple[str, ...]:
        return self.export.notes

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "to": self.to,
            "road": self.road,
            "files": [str(file) for file in self.files],
            "notes": list(self.notes),
            "status": None if self.report is None else self.report.status,
            "report": None if self.report is None else self.report.to_dict(),
        }


def convert(
    model: object,
    to: str,
    *,
    destination: PathLike | None = None,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    opset: int | None = None,
    weights: PathLike | None = None,
    verify: bool = True,
    keep: bool = False,
    seed: int = 0,
) -> Conversion:
    """Carry ``model`` (a path, ``package.module:factory``, or a live model) to the framework ``to``.

    ``inputs`` maps names to example arrays, bound by position; their names become the model's input
    names. ``dynamic`` maps an input's name to ``{axis: symbol}``; left out, the batch axis is free.
    With ``verify`` source and result are run on the same inputs. Nothing is written to ``destination``
    when they differ, unless ``keep``.

    Raises a ``NetferryError`` whose message says where, what was expected, what was received, what to do.
    """
    framework = frameworks.named(to)
    if framework.name != "onnx":
        raise UsageError(f"netferry does not write {framework.title} yet", expected="onnx", received=to)
    title, given = source.title(model), _given(inputs, dynamic)
    live = source.open_source(model, weights)
    export = converters.carry(live, given=given, opset=opset)

    def check(target: object) -> Report | None:
        return compare(live, target, given, names=(title, "onnx"), seed=seed) if verify else None

    if destination is None:
        return Conversion(export, title, to, check(export.model))
    return _deliver(export, title, to, Path(destination), check, keep)


def _deliver(export: Export, title: str, to: str, destination: Path, check: Any, keep: bool) -> Conversion:
    """Write beside the destination, check what was written, and only then put it in place."""
    with artifact.staged(destination) as stage:
        converters.write(export, stage)
        report = check(stage)
        names = sorted(file.name for file in stage.parent.iterdir())
        if report is not None and report.status == FAILED and not keep:
            for file in stage.parent.iterdir():
                file.unlink()
            names = []
    return Conversion(export, title, to, report, tuple(destination.parent / name for name in names))


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
        }


def inspect(
    model: object,
    *,
    inputs: Inputs | None = None,
    dynamic: Dynamic | None = None,
    weights: PathLike | None = None,
) -> Inspection:
    """Describe a model as it stands in ONNX, which is what every conversion starts from."""
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
    )


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
