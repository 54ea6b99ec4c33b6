"""Read and write ``.onnx``."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError, UsageError, first_line
from netferry.converters.onnx import stream

EXTERNAL_FROM = 1_800_000_000
"""Bytes of weights from which they are written beside the model: a protobuf ends at 2 GiB."""


def read(artifact: Artifact, *, weights: Path | None = None) -> onnx.ModelProto:
    """Load and check a model; its external data must lie in its own folder."""
    where = str(artifact.path)
    if weights is not None:
        raise UsageError("an ONNX model brings its own weights", where=where, remedy="Leave --weights out")
    try:
        model = onnx.load(artifact.path)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise RefusedError(f"not an ONNX model ({first_line(error)})", where=where) from error
    if not model.ir_version or not model.HasField("graph"):
        raise RefusedError("not an ONNX model: it holds no graph", where=where)
    try:
        onnx.checker.check_model(artifact.path)
    except Exception as error:  # ValidationError, and RuntimeError from inside the checker
        raise RefusedError(f"ONNX's checker refuses it ({first_line(error)})", where=where) from error
    return model


def write(model: ir.Model, path: str | os.PathLike[str]) -> None:
    """Write ``path``, and ``path.data`` beside it where the weights do not fit into one protobuf."""
    path = Path(path)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size < EXTERNAL_FROM:
        stream.save(model, path)
    else:
        ir.save(model, path, external_data=f"{path.name}.data")
