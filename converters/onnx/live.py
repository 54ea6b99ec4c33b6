"""An ONNX model in memory: recognised and described (``inference.session`` runs it)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir
from onnx import helper

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Dim, Example, Signature, TensorSpec


def accepts(model: object) -> bool:
    return isinstance(model, onnx.ModelProto | ir.Model)


def proto(model: onnx.ModelProto | ir.Model) -> onnx.ModelProto:
    return ir.to_proto(model) if isinstance(model, ir.Model) else model


def signature(model: onnx.ModelProto | ir.Model, given: Sequence[Example] | None = None) -> Signature:
    """Names, dtypes and sizes as the graph declares them; initializers are no inputs."""
    graph = proto(model).graph
    weights = {tensor.name for tensor in graph.initializer}
    return Signature(
        _specs(value for value in graph.input if value.name not in weights), _specs(graph.output)
    )


def _specs(values: Iterable[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(value) for value in values)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        raise RefusedError(f"'{value.name}' is not a tensor", expected="a tensor", received=kind or "nothing")
    tensor = value.type.tensor_type
    if not tensor.elem_type:
        raise RefusedError(f"'{value.name}' has no dtype", remedy="Run onnx.shape_inference over the model")
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, dtype, None)
    dims: tuple[Dim, ...] = tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None) for dim in tensor.shape.dim
    )
    return TensorSpec(value.name, dtype, dims)
