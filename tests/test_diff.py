"""``netferry diff``: how two models are made, part by part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import netferry
from netferry.tasks.diff import Change


def network(
    strides: list[int] | None, width: int = 4, activation: str = "Relu", dtype: type = np.float32
) -> onnx.ModelProto:
    """A convolution and an activation; strides of None are left at ONNX's default."""
    made = np.random.default_rng(3).normal(size=(width, 3, 3, 3)).astype(dtype)
    given = {} if strides is None else {"strides": strides}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", **given),
        helper.make_node(activation, ["c"], ["y"], name="act"),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = helper.make_tensor_value_info("x", kind, ["n", 3, 9, 9])
    y = helper.make_tensor_value_info("y", kind, ["n", width, None, None])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(made, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_equal_models_are_made_alike_whatever_their_numbers() -> None:
    other = network([1, 1])
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "w"))
    found = netferry.diff(network([1, 1]), other)
    assert found.same
    assert found.equal["weight"] == 1
    assert found.equal["operator"] == 2


def test_each_kind_of_change_is_told() -> None:
    found = netferry.diff(network([1, 1]), network([2, 1], width=5, activation="Tanh"))
    told = {(change.kind, change.name.partition(" ")[0]): (change.a, change.b) for change in found.changes}
    assert told["weight", "w"] == ("float[4, 3, 3, 3]", "float[5, 3, 3, 3]")
    assert told["attribute", "conv.strides"] == ("[1, 1]", "[2, 1]")
    assert told["operator", "Relu"] == ("1", None)
    assert told["operator", "Tanh"] == (None, "1")
    assert "y" in {name for kind, name in told if kind == "output"}
    assert "operator Tanh: only in the second (1)" in found.to_text()


def test_what_is_left_at_its_default_is_no_change() -> None:
    left, right = network(None), network(None)
    right.graph.node[0].attribute.append(helper.make_attribute("group", 1))
    assert netferry.diff(left, right).same


def test_a_change_of_dtype_is_told() -> None:
    found = netferry.diff(network([1, 1]), network([1, 1], dtype=np.float64))
    assert Change("weight", "w", "float[4, 3, 3, 3]", "double[4, 3, 3, 3]") in found.changes
    assert {change.kind for change in found.changes} == {"input", "output", "weight"}


def test_models_of_two_frameworks_are_compared_as_they_stand_in_onnx() -> None:
    torch = pytest.importorskip("torch")
    small = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    other = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh())
    found = netferry.diff(small, other, {"x": np.ones((2, 4), np.float32)})
    assert {change.name for change in found.changes} == {"Relu", "Tanh"}


def test_a_model_and_the_file_that_was_made_of_it_are_made_alike(tmp_path: Path) -> None:
    """A file holds attributes in four bytes: an epsilon of 0.001 comes back as another double."""
    torch = pytest.importorskip("torch")
    norm, slope = torch.nn.BatchNorm1d(3, eps=1e-3, momentum=0.01), torch.nn.LeakyReLU(0.2)
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), norm, slope).eval()
    x = np.ones((2, 4), np.float32)
    netferry.convert(model, destination=tmp_path / "a.onnx", inputs={"x": x}, verify=False)
    found = netferry.diff(model, tmp_path / "a.onnx", {"x": x})
    assert found.same, found.to_text()
    assert found.equal["attribute"] > 3


@pytest.mark.parametrize(("strides", "code"), [([1, 1], 0), ([2, 2], 1)])
def test_the_command_ends_with_a_code(strides: list[int], code: int, tmp_path: Path) -> None:
    onnx.save(network([1, 1]), tmp_path / "a.onnx")
    onnx.save(network(strides), tmp_path / "b.onnx")
    command = [sys.executable, "-m", "netferry", "diff", "a.onnx", "b.onnx", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["same"] is (code == 0)
