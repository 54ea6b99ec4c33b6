"""The road of a conversion: a model of any framework becomes ONNX.

This page is the road; each step stands in the room that it names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from netferry.converters.export import Export
from netferry.converters.signature import Example

__all__ = ["Export", "carry"]


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


def write(export: Export, path: str | os.PathLike[str]) -> None:
    """Write the carried model to ``path``; weights over the limit of one protobuf go beside it."""
    from netferry.converters.onnx import files

    files.write(export.model, path)
