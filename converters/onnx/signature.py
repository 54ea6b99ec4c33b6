"""What an ONNX graph takes and gives, as it declares it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx
import onnx_ir as ir
from onnx import helper

from netferry.converters.errors import RefusedError
from netferry.converters.onnx.completing import completed
from netferry.converters.signature import NAMELESS, Dim, Example, InputNames, Signature, TensorSpec


def signature(model: onnx.ModelProto | ir.Model, given: Sequence[Example] | None = None) -> Signature:
    """Names, dtypes and sizes as the graph declares them; initializers are no inputs."""
    if isinstance(model, ir.Model):
        inside = model.graph
        inputs = [value for value in inside.inputs if value.name not in inside.initializers]
        return Signature(*(_specs(map(ir.serde.serialize_value, side)) for side in (inputs, inside.outputs)))
    model = completed(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        _specs(value for value in model.graph.input if value.name not in weights), _specs(model.graph.output)
    )


def input_names(model: onnx.ModelProto | ir.Model) -> InputNames:
    """As the graph declares them; initializers are no inputs."""
    if isinstance(model, ir.Model):
        return InputNames(
            tuple(one.name or "" for one in model.graph.inputs if one.name not in model.graph.initializers)
        )
    weights = {tensor.name for tensor in model.graph.initializer}
    return InputNames(tuple(value.name for value in model.graph.input if value.name not in weights))


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
    return TensorSpec(value.name, dtype, tuple(map(_dim, tensor.shape.dim)))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    """A size; 0 and -1, which old exporters write for a free one, are no sizes."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return dim.dim_value
    return None if dim.dim_param in ("", NAMELESS) else dim.dim_param
