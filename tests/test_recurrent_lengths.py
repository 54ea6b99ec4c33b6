"""Recurrent layers over sequences of different lengths, also of none: what onnxruntime gives, in every framework."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry

RNG = np.random.default_rng(2)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def model(cell: str, begun: bool) -> onnx.ModelProto:
    """Both directions of a layer whose lengths, and first states where it is ``begun``, are inputs."""
    states = ["h0", *(["c0"] if cell == "LSTM" else [])] if begun else []
    weights = {
        "W": RNG.standard_normal((2, GATES[cell] * 4, 3)),
        "R": RNG.standard_normal((2, GATES[cell] * 4, 4)) / 2,
    }
    more = {"linear_before_reset": 1} if cell == "GRU" else {}
    node = helper.make_node(
        cell,
        ["x", "W", "R", "", "lens", *states],
        ["Y", "Y_h"],
        hidden_size=4,
        direction="bidirectional",
        **more,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, "n", 3]),
            helper.make_tensor_value_info("lens", TensorProto.INT32, ["n"]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, "n", 4]) for name in states),
        ],
        [
            helper.make_tensor_value_info("Y", TensorProto.FLOAT, [5, 2, "n", 4]),
            helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, [2, "n", 4]),
        ],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("cell", GATES)
def test_a_row_without_a_step_gives_zeros(cell: str, begun: bool, to: str) -> None:
    made = model(cell, begun)
    feed = {
        "x": RNG.standard_normal((5, 4, 3)),
        "h0": RNG.standard_normal((2, 4, 4)),
        "c0": RNG.standard_normal((2, 4, 4)),
    }
    names = [value.name for value in made.graph.input]
    given = {name: array.astype(np.float32) for name, array in feed.items() if name in names}
    given["lens"] = np.array([5, 0, 2, 1], np.int32)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    right = session.run(None, given)
    assert not right[1][:, 1].any()
    done = netferry.convert(made, to, verify=False)
    for got, want in zip(netferry.run(done.model, given).values(), right, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5)
