"""ONNX to ONNX: the model as it is."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
import onnx_ir as ir

from netferry.converters.errors import RefusedError, first_line
from netferry.converters.exported import ExportedModel
from netferry.converters.graph.schema.own import OWN, key
from netferry.converters.onnx import live
from netferry.converters.onnx.completing import completed
from netferry.converters.signature import Example


def to_onnx(model: onnx.ModelProto | ir.Model, given: Sequence[Example] | None = None) -> ExportedModel:
    """Hand the model on unchanged."""
    if isinstance(model, ir.Model):
        return _as_it_is(model)
    live.demand_no_maps(model)
    try:
        read = ir.from_proto(completed(model))
        read.graph.sort()  # onnxruntime takes nodes in any order
        return _as_it_is(read)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise RefusedError(f"not an ONNX model that holds together ({first_line(error)})") from error


def _as_it_is(model: ir.Model) -> ExportedModel:
    nodes = model.graph.all_nodes() if OWN else ()
    defined = sorted({name for node in nodes if (name := key(node.domain, node.op_type)) in OWN})
    notes = (
        f"{name} is taken as netferry.operator defines it, on both sides: the verdict says nothing of that"
        for name in defined
    )
    return ExportedModel(model, route="as it is", notes=tuple(notes))
