"""The road of a conversion: a model of any framework becomes ONNX, and ONNX a model of any framework.

This page is the road; each step stands in the room that it names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.converters.arrival import Arrival
from netferry.converters.export import Export
from netferry.converters.signature import Example

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Arrival", "Export", "arrive", "carry", "write"]


def carry(model: object, *, given: Sequence[Example] | None = None, opset: int | None = None) -> Export:
    """Carry a model in memory to ONNX.

    ``given`` are example inputs, needed where a model does not know its own sizes (PyTorch, some MXNet
    symbols); ``opset`` asks for another opset than the one netferry writes.
    """
    from netferry.converters import frameworks
    from netferry.converters.onnx.opset import to_opset

    framework = frameworks.of(model)
    export: Export = framework.to_onnx.to_onnx(model, given)
    return export if opset is None else replace(export, model=to_opset(export.model, opset))


def arrive(model: ir.Model, to: str, *, name: str = "model") -> Arrival:
    """Carry ONNX to the framework ``to``: normalised, walked, written as a program of that framework.

    The framework itself is imported when the arrival's ``model`` is asked for. Raises ``UnsupportedError``
    with every node that the framework cannot take.
    """
    from netferry.converters import frameworks
    from netferry.converters.graph.normalize import plan

    framework = frameworks.named(to)
    signature = frameworks.named("onnx").live.signature(model)
    arrival: Arrival = framework.from_onnx.from_onnx(plan(model), signature, name=name)
    return arrival


def write(result: Export | Arrival, path: str | os.PathLike[str]) -> None:
    """Write what was carried to ``path``, in the format that its name asks for.

    Raises ``WriteError`` for whatever a framework's own writer raises where there is no room or no right.
    """
    from netferry.converters.errors import NetferryError, WriteError, first_line

    try:
        _write(result, Path(path))
    except (NetferryError, OSError):
        raise
    except Exception as error:
        raise WriteError(f"could not be written ({first_line(error)})") from error


def _write(result: Export | Arrival, path: Path) -> None:
    from netferry.converters import frameworks

    if isinstance(result, Export):
        frameworks.named("onnx").files.write(result.model, path)
    elif path.suffix == ".py":
        result.write_source(path)
    else:
        frameworks.named(result.framework).files.write(result, path)
