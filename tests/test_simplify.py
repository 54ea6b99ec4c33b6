"""``--simplify``: a smaller ONNX model that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import netferry

node = helper.make_node
RNG = np.random.default_rng(8)


def built(nodes: list[onnx.NodeProto], dims: list[Any], weights: dict[str, Any]) -> onnx.ModelProto:
    """From ``x`` of these sizes to ``y``, at opset 15."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def model() -> onnx.ModelProto:
    """A Reshape by sizes that are computed, a branch that a constant decides, a chain of constants, dead nodes."""
    branches = {
        name: helper.make_graph(
            [node(operator, ["h"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, operator in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [
        node("Shape", ["w"], ["s"]),
        node("Gather", ["s", "one"], ["d"], axis=0),
        node("Mul", ["d", "two"], ["e"]),
        node("Unsqueeze", ["e", "zero"], ["f"]),
        node("Concat", ["minus", "f"], ["sizes"], axis=0),
        node("MatMul", ["x", "w"], ["m"]),
        node("Identity", ["m"], ["i"]),
        node("Reshape", ["i", "sizes"], ["h"]),
        node("Sqrt", ["h"], ["nobody"]),
        node("Greater", ["two", "one"], ["up"]),
        node("If", ["up"], ["y"], **branches),
    ]
    weights: dict[str, Any] = {
        "w": RNG.standard_normal((4, 3)).astype(np.float32),
        "one": np.array(1),
        "two": np.array(2),
        "zero": np.array([0]),
        "minus": np.array([-1]),
    }
    return built(nodes, ["n", 4], weights)


def run(proto: onnx.ModelProto, x: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def test_what_is_known_is_written_and_the_bits_stay() -> None:
    made, x = model(), RNG.standard_normal((6, 4)).astype(np.float32)
    done = netferry.convert(made, "onnx", simplify=True, quick=True, seed=1)
    assert done.report is not None and done.report.status == "passed"
    assert [one.op_type for one in done.model.graph.node] == ["MatMul", "Reshape", "Relu"]
    assert "w" in {tensor.name for tensor in done.model.graph.initializer}
    assert done.model.opset_import[0].version == 15
    assert "nodes were simplified away" in " ".join(done.notes)
    np.testing.assert_array_equal(run(done.model, x), run(made, x))


def test_fixed_sizes_are_folded() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("ConstantOfShape", ["s"], ["z"]),
        node("Add", ["x", "z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    free = netferry.convert(made, "onnx", simplify=True, verify=False)
    fixed = netferry.convert(made, "onnx", simplify=True, fix={"x": (2, 3)}, verify=False)
    assert len(free.model.graph.node) == 3 and [one.op_type for one in fixed.model.graph.node] == ["Add"]


def test_neither_rounded_floats_nor_large_fillings_become_weights() -> None:
    """Sin of numbers that are known stays, as does what fills 256 kB; a mask of whole numbers does not."""
    nodes = [
        node("Shape", ["w"], ["s"]),
        node("Cast", ["s"], ["f"], to=TensorProto.FLOAT),
        node("Sin", ["f"], ["angles"]),
        node("ConstantOfShape", ["wide"], ["filled"]),
        node("Sub", ["s", "one"], ["whole"]),
        node("Cast", ["whole"], ["mask"], to=TensorProto.FLOAT),
        node("Add", ["x", "angles"], ["a"]),
        node("Mul", ["a", "mask"], ["b"]),
        node("Add", ["b", "filled"], ["y"]),
    ]
    weights = {"w": np.zeros((4, 3), np.float32), "wide": np.array([32768, 2]), "one": np.array(1)}
    made = built(nodes, ["n", 2], weights)
    done = netferry.convert(made, "onnx", simplify=True, verify=False).model
    assert [one.op_type for one in done.graph.node] == ["Sin", "ConstantOfShape", "Add", "Mul", "Add"]
    x = RNG.standard_normal((1, 2)).astype(np.float32)
    np.testing.assert_array_equal(run(done, x), run(made, x))


def test_operators_of_onnxruntime_stay() -> None:
    """They are not opened into many of ONNX's; what is known around them is written all the same."""
    nodes = [
        node("Shape", ["w"], ["s"]),
        node("Concat", ["s", "one"], ["sizes"], axis=0),
        node("BiasGelu", ["x", "bias"], ["h"], domain="com.microsoft"),
        node("Reshape", ["h", "sizes"], ["y"]),
    ]
    weights = {
        "w": np.zeros((4, 3), np.float32),
        "bias": RNG.standard_normal(3).astype(np.float32),
        "one": np.array([1]),
    }
    made = built(nodes, [4, 3], weights)
    done = netferry.convert(made, "onnx", simplify=True, verify=False).model
    assert [one.op_type for one in done.graph.node] == ["BiasGelu", "Reshape"]
    x = RNG.standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_array_equal(run(done, x), run(made, x))


def test_a_branch_reads_what_is_known_outside_of_it() -> None:
    """A mask of sizes becomes a weight; what a branch computes with it stays there."""
    branches = {
        name: helper.make_graph(
            [node("Sin", ["mask"], ["m"]), node(operator, ["x", "m"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, operator in (("then_branch", "Add"), ("else_branch", "Sub"))
    }
    nodes = [
        node("Shape", ["w"], ["s"]),
        node("Cast", ["s"], ["mask"], to=TensorProto.FLOAT),
        node("ReduceSum", ["x"], ["total"], keepdims=0),
        node("Greater", ["total", "zero"], ["up"]),
        node("If", ["up"], ["y"], **branches),
    ]
    made = built(nodes, ["n", 2], {"w": np.zeros((4, 3), np.float32), "zero": np.float32(0)})
    done = netferry.convert(made, "onnx", simplify=True, verify=False).model
    assert [one.op_type for one in done.graph.node] == ["ReduceSum", "Greater", "If"]
    for sign in (1, -1):
        x = sign * np.abs(RNG.standard_normal((3, 2))).astype(np.float32)
        np.testing.assert_array_equal(run(done, x), run(made, x))
