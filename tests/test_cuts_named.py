"""A refusal of what no tensor program holds names the cut that carries the rest, and the cut does."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import netferry
from netferry.converters.errors import UnsupportedError

NODE = helper.make_node


def _model(nodes: list[onnx.NodeProto], name: str, kind: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "edges",
        [helper.make_tensor_value_info(name, kind, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _labels() -> onnx.ModelProto:
    label = NODE(
        "LabelEncoder", ["s"], ["k"], domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[1, 2]
    )
    return _model(
        [label, NODE("Cast", ["k"], ["f"], to=1), NODE("Mul", ["f", "f"], ["y"])], "s", TensorProto.STRING
    )


def _scaled() -> onnx.ModelProto:
    scaler = NODE("Scaler", ["h"], ["y"], domain="ai.onnx.ml", offset=[0.5], scale=[2.0])
    return _model([NODE("Relu", ["x"], ["h"]), scaler], "x", TensorProto.FLOAT)


def test_what_begins_with_texts_is_carried_from_behind_them() -> None:
    with pytest.raises(UnsupportedError, match=r"begin behind it \(--input-at 'k'\)"):
        netferry.convert(_labels(), to="pytorch", verify=False)
    done = netferry.convert(_labels(), to="pytorch", input_at="k", verify=False)
    k = np.array([[1, 2, 1], [2, 2, 1]])
    assert np.array_equal(netferry.run(done.model, [k])["y"], (k * k).astype(np.float32))


def test_what_ends_in_a_classical_model_is_carried_up_to_it() -> None:
    with pytest.raises(UnsupportedError, match=r"end before it \(--output 'h'\)"):
        netferry.convert(_scaled(), to="pytorch", verify=False)
    done = netferry.convert(_scaled(), to="pytorch", outputs="h", verify=False)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    session = ort.InferenceSession(_scaled().SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    assert np.allclose((netferry.run(done.model, [x])["h"] - 0.5) * 2, y)
