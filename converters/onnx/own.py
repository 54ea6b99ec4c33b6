"""A model with operators that a person has defined, as a runtime that does not know them can run it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from netferry.converters.artifact import Artifact
from netferry.converters.graph.passes import contrib, normalize, versions
from netferry.converters.graph.schema.own import OWN
from netferry.converters.onnx import files
from netferry.converters.onnx.live import proto
from netferry.converters.onnx.to_onnx.opset import to_opset

RUN = 24
"""The opset that it is brought to: what onnxruntime runs lies behind what ONNX has."""


def runnable(model: Any) -> Any:
    """The model (in memory, or the path of its file) with these operators opened; one without any as it is.

    Raises:
        UnsupportedError, RefusedError: what they are made of cannot be said at that opset.
    """
    if not OWN:
        return model
    found = files.read(Artifact("onnx", Path(model))) if isinstance(model, str | os.PathLike) else model
    graph = found if isinstance(found, ir.Model) else ir.from_proto(found)
    if not any(map(contrib.is_own, graph.graph.all_nodes())):
        return model
    whole: onnx.ModelProto = proto(to_opset(normalize.standard(versions.raised(graph.clone())), RUN))
    return whole
