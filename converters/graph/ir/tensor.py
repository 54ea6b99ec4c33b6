"""A value on its way through an exporter, and what ONNX's own inference says of the outputs of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs, helper, numpy_helper, shape_inference

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.signature import Array, Dim

_SHAPE_CONTENT_LIMIT = 64
"""Integer constants up to this many elements are handed to shape inference (shapes, axes, pads)."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value on its way through an exporter.

    ``dims`` are the sizes as the reader sees them; ``perm``, where set, is the transposition that
    still lies between ``value`` and the reader; ``array`` is the content of a constant.
    """

    value: ir.Value
    dtype: np.dtype[Any]
    dims: tuple[Dim, ...] | None
    array: Array | None = None
    perm: layout.Perm | None = None

    @property
    def rank(self) -> int:
        if self.dims is None:
            raise CannotConvert(
                "the rank of its input is not known", "Say the input's sizes with --input name:1,3,224,224"
            )
        return len(self.dims)

    @property
    def name(self) -> str:
        return self.value.name or ""

    def size(self, axis: int) -> int:
        """The size of one axis, which must be known."""
        dim = self.dims[axis] if self.dims is not None else None
        if not isinstance(dim, int):
            raise CannotConvert(f"the size of axis {axis} of its input is not known")
        return dim


def typed(value: ir.Value, dtype: np.dtype[Any], dims: tuple[Dim, ...] | None) -> Tensor:
    value.type = ir.TensorType(ir.DataType.from_numpy(dtype))
    value.shape = None if dims is None else ir.Shape(dims)
    return Tensor(value, dtype, dims)


def inferred(
    node: ir.Node, operands: Sequence[Tensor | None], attributes: Mapping[str, Any], opset: int
) -> dict[str, onnx.TypeProto]:
    """What ONNX's own inference says of a node's outputs, by their names; a node that does not fit is refused."""
    proto = helper.make_node(
        node.op_type,
        ["" if x is None else x.name for x in operands],
        [str(value.name) for value in node.outputs],
        **attributes,
    )
    types: dict[str, onnx.TypeProto] = {}
    content: dict[str, onnx.TensorProto] = {}
    for x in operands:
        if x is None:
            continue
        types[x.name] = helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(x.dtype), x.dims)
        if x.array is not None and x.array.dtype == np.int64 and x.array.size <= _SHAPE_CONTENT_LIMIT:
            content[x.name] = numpy_helper.from_array(x.array, x.name)
    try:
        return dict(
            shape_inference.infer_node_outputs(
                defs.get_schema(node.op_type, opset),
                proto,
                types,
                content,
                opset_imports=[helper.make_opsetid("", opset)],
                ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", opset)]),
            )
        )
    except (shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        sizes = ", ".join(
            f"{x.name} {x.dtype.name}[{', '.join(map(str, x.dims or ['?']))}]" for x in operands if x
        )
        reason = str(error).strip().rsplit("] ", 1)[-1].splitlines()[0]
        raise CannotConvert(f"its inputs do not fit ONNX's {node.op_type} ({sizes}): {reason}") from error


def of_type(value: ir.Value, proto: onnx.TypeProto | None) -> Tensor:
    """An output of a node, of the type that was inferred for it."""
    if proto is None or not proto.tensor_type.elem_type:
        raise CannotConvert(f"the dtype of '{value.name}' is not known")
    tensor = proto.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    dims: tuple[Dim, ...] | None = None
    if tensor.HasField("shape"):
        dims = tuple(
            dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
            for dim in tensor.shape.dim
        )
    return typed(value, dtype, dims)
