"""A conversion: a model of any framework is exported to ONNX, and ONNX imported into any framework.

Each step stands in the module that it names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy and onnx wait until something is converted
    import onnx_ir as ir

    from netferry.converters.exported import ExportedModel
    from netferry.converters.graph.ir.budget import Budget
    from netferry.converters.graph.ir.facts import Plan
    from netferry.converters.imported import ImportedModel
    from netferry.converters.signature import Example, Signature

__all__ = ["export_model", "import_model", "importer", "write"]


def export_model(
    model: object, *, given: Sequence[Example] | None = None, opset: int | None = None, fuse: bool = False
) -> ExportedModel:
    """Export a model in memory to ONNX.

    ``given`` are example inputs, needed where a model does not know its own sizes (PyTorch, some MXNet
    symbols); ``opset`` asks for another opset than the one netferry writes; ``fuse`` folds BatchNormalization
    into the convolution before it.
    """
    from netferry.converters import frameworks
    from netferry.converters.graph.ir.budget import Budget, counted

    framework = frameworks.of(model)
    with counted(Budget()):
        export: ExportedModel = framework.to_onnx.to_onnx(model, given)
    if fuse:
        from netferry.converters.onnx.to_onnx.fuse import fused

        smaller, count = fused(export.model)
        note = f"{count} BatchNormalizations were folded into convolutions: the model is for inference"
        export = replace(export, model=smaller, notes=(*export.notes, note))
    if opset is not None:
        from netferry.converters.onnx.to_onnx.opset import to_opset

        export = replace(export, model=to_opset(export.model, opset))
    return export


def import_model(model: ir.Model, to: str, *, name: str = "model") -> ImportedModel:
    """Import ONNX into the framework ``to``: normalised, then written node by node as a program of that framework.

    The framework itself is imported when the result's ``model`` is asked for. Raises ``UnsupportedError``
    with every node that the framework cannot take.
    """
    return importer(model, name=name)(to)


def importer(
    model: ir.Model, *, name: str = "model", count: Callable[[ir.Model], Budget] | None = None
) -> Callable[[str], ImportedModel]:
    """``import_model`` for several frameworks: the model is normalised once, and once more for those that hold integers.

    ``count`` gives the budget of each step; without it, each has what a model of this length may ask for.
    """
    from netferry.converters import frameworks
    from netferry.converters.graph.ir.budget import Budget, counted
    from netferry.converters.graph.passes.integers import holds_integers
    from netferry.converters.graph.passes.normalize import plan

    count = count or Budget.of
    quantized = holds_integers(model)

    @cache
    def planned(integers: bool) -> tuple[Plan, Signature]:
        with counted(count(model)):
            made = plan(model, integers=integers)
        return made, frameworks.named("onnx").signature(model).narrowed(made.sizes)

    def imported(to: str) -> ImportedModel:
        framework = frameworks.named(to)
        made = planned(quantized and framework.integers)
        with counted(count(model)):
            found: ImportedModel = framework.from_onnx.from_onnx(*made, name=name)
        return found

    return imported


def write(result: ExportedModel | ImportedModel, path: str | os.PathLike[str]) -> None:
    """Write a result to ``path``, in the format that its name asks for.

    Raises ``WriteError`` for whatever a framework's own writer raises where there is no room or no right, ``MissingError`` where the
    framework is not installed.
    """
    from netferry.converters.errors import NetferryError, WriteError, first_line
    from netferry.converters.frameworks import missing

    try:
        _write(result, Path(path))
    except (NetferryError, OSError):
        raise
    except Exception as error:
        raise missing(error) or WriteError(f"could not be written ({first_line(error)})") from error


def _write(result: ExportedModel | ImportedModel, path: Path) -> None:
    from netferry.converters import frameworks
    from netferry.converters.exported import ExportedModel

    if isinstance(result, ExportedModel):
        frameworks.named("onnx").files.write(result.model, path)
    elif path.suffix == ".py":
        result.write_source(path)
    else:
        frameworks.named(result.framework).files.write(result, path)
