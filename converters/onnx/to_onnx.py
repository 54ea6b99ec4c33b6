"""ONNX to ONNX: the model as it is."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from netferry.converters.export import Export
from netferry.converters.signature import Example


def to_onnx(model: onnx.ModelProto | ir.Model, given: Sequence[Example] | None = None) -> Export:
    """Hand the model on unchanged."""
    return Export(model if isinstance(model, ir.Model) else ir.from_proto(model), road="as it is")
