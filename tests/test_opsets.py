"""``--opset``: each operator at each opset that has it or can express it, else a refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.errors import NetferryError
from netferry.converters.onnx.to_onnx.opset import to_opset

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 4, 6, 5)).astype(np.float32)
WEIGHTS = {
    "scale": RNG.standard_normal(4).astype(np.float32),
    "shift": RNG.standard_normal(4).astype(np.float32),
    "wide": RNG.standard_normal(5).astype(np.float32),
    "axes": np.array([1, 3]),
    "ends": np.array([3, 5]),
    "sizes": np.array([2, 4, 9, 8]),
    "factors": np.array([1, 1, 1.5, 2], np.float32),
    "pads": np.array([0, 0, 1, 0, 0, 0, 2, 1]),
    "grid": (RNG.random((2, 3, 3, 2)) * 2 - 1).astype(np.float32),
    "mean": RNG.standard_normal(4).astype(np.float32),
    "variance": RNG.random(4).astype(np.float32) + 1,
}

OPERATORS: dict[str, tuple[int, list[str], dict[str, Any], int]] = {
    "Gelu": (21, [], {}, 9),
    "Gelu of tanh": (21, [], {"approximate": "tanh"}, 9),
    "LayerNormalization": (21, ["wide"], {"axis": -1}, 13),
    "GroupNormalization": (21, ["scale", "shift"], {"num_groups": 2}, 15),
    "HardSwish": (21, [], {}, 9),
    "Mish": (21, [], {}, 9),
    "Celu": (21, [], {"alpha": 0.7}, 9),
    "Softmax": (21, [], {"axis": 1}, 9),
    "LogSoftmax": (21, [], {"axis": -2}, 9),
    "Hardmax": (21, [], {"axis": 1}, 9),
    "ReduceMean": (21, ["axes"], {"keepdims": 0}, 9),
    "ReduceSum": (21, ["axes"], {}, 9),
    "Unsqueeze": (21, ["axes"], {}, 9),
    "Resize to sizes": (
        21,
        ["", "", "sizes"],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"},
        11,
    ),
    "Resize by factors": (21, ["", "factors"], {"mode": "linear"}, 11),
    "Split": (21, [], {"num_outputs": 2, "axis": 2}, 9),
    "Slice": (21, ["axes", "ends", "axes"], {}, 9),
    "Pad": (21, ["pads"], {}, 11),
    "GridSample": (21, ["grid"], {"mode": "linear", "align_corners": 1}, 16),
    "BatchNormalization": (21, ["scale", "shift", "mean", "variance"], {}, 9),
    "LpPool": (21, [], {"kernel_shape": [2, 2], "strides": [2, 2]}, 11),
    "Upsample": (9, ["factors"], {"mode": "nearest"}, 9),
    "Resize of opset 10": (10, ["factors"], {"mode": "linear"}, 10),
    "Hardmax of opset 11": (11, [], {"axis": 1}, 9),
    "Softmax of opset 11": (11, [], {"axis": 1}, 9),
}
"""(its opset, inputs beside x, attributes, the oldest opset that must express it)"""

OPSETS = (9, 10, 11, 12, 13, 15, 16, 17, 18, 20, 21)


def model(name: str) -> onnx.ModelProto:
    opset, others, attributes, _ = OPERATORS[name]
    outputs = [f"y{position}" for position in range(attributes.get("num_outputs", 1))]
    node = helper.make_node(name.split()[0], ["x", *others], outputs, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
        [numpy_helper.from_array(WEIGHTS[one], one) for one in others if one],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def run(proto: onnx.ModelProto) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {"x": X}))


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_is_right_at_every_opset_that_can_say_it(name: str) -> None:
    made, oldest = model(name), OPERATORS[name][3]
    right = run(made)
    for opset in OPSETS:
        try:
            written = to_opset(ir.from_proto(made), opset)
        except NetferryError as error:
            assert opset < oldest, f"{opset}: {error}"
            assert "/onnx/" not in str(error)
            continue
        assert written.opset_imports[""] == opset
        for got, want in zip(run(ir.to_proto(written)), right, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5, err_msg=f"opset {opset}")


def test_what_no_older_opset_can_say_is_refused_by_name() -> None:
    node = helper.make_node("BitwiseNot", ["x"], ["y"], name="flip")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.INT32, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["n"])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(NetferryError, match=r"node 'flip' \(BitwiseNot\): opset 17 has no such operator"):
        to_opset(ir.from_proto(made), 17)


@pytest.mark.parametrize("opset", [16, 19])
def test_what_its_own_definition_does_not_run_as_is_refused_by_name(opset: int) -> None:
    """ONNX defines AffineGrid by a Range whose ends have an axis, which no runtime takes."""
    graph = helper.make_graph(
        [helper.make_node("AffineGrid", ["theta", "size"], ["y"], name="grid")],
        "g",
        [helper.make_tensor_value_info("theta", TensorProto.FLOAT, [2, 2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([2, 3, 4, 5]), "size")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(
        NetferryError, match=rf"node 'grid' \(AffineGrid\): opset {opset} has no such operator"
    ):
        to_opset(ir.from_proto(made), opset)
