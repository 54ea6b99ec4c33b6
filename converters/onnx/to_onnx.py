"""ONNX to ONNX: the model as it is."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.export import Export
from netferry.converters.signature import Example


def to_onnx(model: onnx.ModelProto | ir.Model, given: Sequence[Example] | None = None) -> Export:
    """Hand the model on unchanged."""
    try:
        return Export(model if isinstance(model, ir.Model) else ir.from_proto(model), road="as it is")
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise RefusedError(f"not an ONNX model that holds together ({first_line(error)})") from error
