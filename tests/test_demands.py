"""Ranks and sizes that follow from what the operators behind a value take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry

node = helper.make_node
RNG = np.random.default_rng(11)
FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    constants: dict[str, Any],
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, dims) for name, dims in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def right(proto: onnx.ModelProto, feed: dict[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, feed))


def carried(proto: onnx.ModelProto, to: str, feed: dict[str, Any]) -> None:
    done = netferry.convert(proto, to, seed=3)
    assert done.report is not None and done.report.status == "passed", done.report
    for got, want in zip(netferry.run(done.model, feed).values(), right(proto, feed), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


def branch(name: str, operator: str, operands: Sequence[str]) -> onnx.GraphProto:
    return helper.make_graph(
        [node(operator, operands, [f"{name}_out"])],
        name,
        [],
        [helper.make_tensor_value_info(f"{name}_out", FLOAT, None)],
    )


def squeezed_where_one() -> onnx.ModelProto:
    """What torch's exporter writes for ``squeeze(-1)``, twice, before a recurrent layer."""
    w, r = RNG.standard_normal((1, 16, 6)), RNG.standard_normal((1, 16, 4)) / 2
    nodes = [
        node("Conv", ["x", "k"], ["c"], pads=[1, 1]),
        node("Shape", ["c"], ["s"]),
        node("Gather", ["s", "two"], ["d"]),
        node("Equal", ["d", "one"], ["is"]),
        node(
            "If",
            ["is"],
            ["a"],
            then_branch=branch("t", "Squeeze", ["c", "minus"]),
            else_branch=branch("e", "Identity", ["c"]),
        ),
        node("Shape", ["a"], ["as"]),
        node("Size", ["as"], ["ar"]),
        node("Equal", ["ar", "two"], ["flat"]),
        node("Not", ["flat"], ["deep"]),
        node(
            "If",
            ["deep"],
            ["b"],
            then_branch=branch("u", "Unsqueeze", ["a", "ones"]),
            else_branch=branch("i", "Identity", ["a"]),
        ),
        node("Relu", ["b"], ["b1"]),
        node("Unsqueeze", ["b1", "zeros"], ["q"]),
        node("LSTM", ["q", "w", "r"], ["y"], hidden_size=4),
    ]
    constants = {
        "k": RNG.standard_normal((6, 3, 3)).astype(np.float32),
        "w": w.astype(np.float32),
        "r": r.astype(np.float32),
        "one": np.array(1),
        "two": np.array(2),
        "minus": np.array([-1]),
        "ones": np.array([1]),
        "zeros": np.array([0]),
    }
    return model(nodes, {"x": ["n", 3, "t"]}, {"y": None}, constants)


@pytest.mark.parametrize("to", ["pytorch", "tensorflow"])
def test_an_if_is_decided_by_the_rank_that_its_readers_take(to: str) -> None:
    carried(squeezed_where_one(), to, {"x": RNG.standard_normal((2, 3, 1)).astype(np.float32)})


def test_an_if_is_decided_inside_a_branch_for_that_branch_alone() -> None:
    """The same within an If on data, which stays."""
    inner = squeezed_where_one()
    branches = {}
    for name, scale in (("then_branch", 1.0), ("else_branch", -2.0)):
        copy = onnx.GraphProto.FromString(inner.graph.SerializeToString())
        del copy.input[:]
        copy.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), "scale"))
        copy.node.append(node("Mul", ["y", "scale"], ["z"]))
        copy.output[0].name, copy.name = "z", name
        branches[name] = copy
    nodes = [
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "zero"], ["up"]),
        node("If", ["up"], ["z"], **branches),
    ]
    proto = model(nodes, {"x": ["n", 3, "t"]}, {"z": None}, {"zero": np.float32(0)})
    carried(proto, "pytorch", {"x": RNG.standard_normal((2, 3, 1)).astype(np.float32)})


def test_an_if_of_two_ranks_that_nobody_asks_for_stays() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "one"], ["d"]),
        node("Equal", ["d", "one"], ["is"]),
        node(
            "If",
            ["is"],
            ["a"],
            then_branch=branch("t", "Squeeze", ["x", "axes"]),
            else_branch=branch("e", "Identity", ["x"]),
        ),
        node("Relu", ["a"], ["y"]),
    ]
    constants = {"one": np.array(1), "axes": np.array([1])}
    proto = model(nodes, {"x": ["n", "m"]}, {"y": None}, constants)
    done = netferry.convert(proto, "pytorch", verify=False)
    for shape in ((3, 1), (3, 2)):
        x = RNG.standard_normal(shape).astype(np.float32)
        (got,) = netferry.run(done.model, {"x": x}).values()
        np.testing.assert_array_equal(got, right(proto, {"x": x})[0])


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
def test_a_batch_is_what_the_state_beside_it_says(to: str) -> None:
    """A recurrent state of one row as an input, and a Squeeze without axes of all that is left."""
    nodes = [
        node("GRU", ["x", "w", "r", "", "", "h"], ["s", "last"], hidden_size=4, linear_before_reset=1),
        node("MatMul", ["last", "v"], ["m"]),
        node("Squeeze", ["m"], ["z"]),
        node("Slice", ["z", "zero", "two", "zero"], ["y"]),
    ]
    constants = {
        "w": RNG.standard_normal((1, 12, 3)).astype(np.float32),
        "r": RNG.standard_normal((1, 12, 4)).astype(np.float32) / 2,
        "v": RNG.standard_normal((4, 5)).astype(np.float32),
        "zero": np.array([0]),
        "two": np.array([2]),
    }
    proto = model(nodes, {"x": ["t", "batch", 3], "h": [1, 1, 4]}, {"y": ["batch"]}, constants)
    feed = {"x": RNG.standard_normal((6, 1, 3)), "h": RNG.standard_normal((1, 1, 4))}
    carried(proto, to, {name: array.astype(np.float32) for name, array in feed.items()})
    assert netferry.convert(proto, to, verify=False).imported.signature.inputs[0].dims == ("t", 1, 3)  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_a_free_axis_is_padded_from_inside_in_tensorflow(mode: str) -> None:
    nodes = [node("Pad", ["x", "pads"], ["y"], mode=mode)]
    proto = model(nodes, {"x": ["n", "t"]}, {"y": ["n", "u"]}, {"pads": np.array([0, 2, 0, 3])}, 19)
    carried(proto, "tensorflow", {"x": RNG.standard_normal((2, 7)).astype(np.float32)})
