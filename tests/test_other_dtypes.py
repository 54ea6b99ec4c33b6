"""ONNX's own cases of float32 at the other dtypes of floats: what arrives runs, and is what it is in float32."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, helper, numpy_helper
from onnx_cases import Case, case, cases

import netferry
from netferry.converters.errors import RefusedError

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}
UNITS = {"float16": 2**-6, "bfloat16": 2**-3, "float64": 2e-4}
"""Share of the largest output: the inputs are rounded, and the suite writes some outputs with few digits."""
BEYOND = "test_reduce_prod_default_axes_keepdims_example"
"""Its result is more than a half float holds."""


def sampled() -> list[str]:
    """One case for each operator: the first that has floats among its inputs and that no draw decides."""
    found: dict[frozenset[str], str] = {}
    for one in cases():
        floats = [x for x in one.data[0][0] if isinstance(x, np.ndarray) and x.dtype == np.float32]
        if one.core and floats and not one.random and "large_number" not in one.name and one.name != BEYOND:
            found.setdefault(one.operators, one.name)
    return sorted(found.values())


def retyped(graph: GraphProto, dtype: Any) -> None:
    """In place: what is float32, is of ``dtype``."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def of_type(given: TypeProto) -> None:
        if given.HasField("tensor_type") and given.tensor_type.elem_type == TensorProto.FLOAT:
            given.tensor_type.elem_type = kind

    def of_tensor(tensor: TensorProto) -> None:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))

    for value in [*graph.input, *graph.output, *graph.value_info]:
        of_type(value.type)
    for tensor in graph.initializer:
        of_tensor(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                of_tensor(attribute.t)
            elif attribute.type == AttributeProto.GRAPH:
                retyped(attribute.g, dtype)
            elif node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = kind


def model_of(one: Case, dtype: Any) -> ModelProto | None:
    """None where the operator has not this dtype."""
    made = ModelProto()
    made.CopyFrom(one.model)
    retyped(made.graph, dtype)
    try:
        onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True)
    except onnx.shape_inference.InferenceError:
        return None
    return made


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize(
    "dtype", ["float16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bfloat16", "float64"))]
)
@pytest.mark.parametrize("name", sampled())
def test_a_case_is_right_or_refused_at_another_dtype(name: str, dtype: str, to: str) -> None:
    one, kind = case(name), DTYPES[dtype]
    made = model_of(one, kind)
    if made is None:
        return
    try:
        arrived = netferry.convert(made, to, verify=False).model
    except netferry.NetferryError:
        return
    inputs, expected = one.data[0]
    given = [x.astype(kind) if isinstance(x, np.ndarray) and x.dtype == np.float32 else x for x in inputs]
    try:
        outputs = netferry.run(arrived, given)
    except RefusedError as error:
        assert to == "pytorch" and "not implemented for" in str(error), (
            error
        )  # told by PyTorch's processor kernels
        return
    for got, want in zip(outputs.values(), expected, strict=True):
        if isinstance(want, np.ndarray) and want.dtype == np.float32:
            finite = np.isfinite(want)
            scale = np.abs(want[finite]).max(initial=0.0) or 1.0
            assert got.shape == want.shape
            assert np.abs(got.astype(np.float64) - want)[finite].max(initial=0.0) <= UNITS[dtype] * scale
