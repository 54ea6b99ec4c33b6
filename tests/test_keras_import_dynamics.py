"""ONNX to Keras: boxes that are left, ends of free axes, axes that fall away, loops in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

import netferry
from netferry.converters import import_model
from netferry.converters.tensorflow import live

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(2)


def model(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], **constants: Any
) -> ModelProto:
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    typed = [[helper.make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
    graph = helper.make_graph(list(nodes), "g", *typed, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def compared(proto: ModelProto, *feeds: Any, form: str) -> None:
    arrived = import_model(ir.from_proto(proto), "tensorflow")
    assert arrived.form == form
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for feed in feeds:
        received = live.run(arrived.model, list(feed.values()))
        for expected, y in zip(session.run(None, feed), received.values(), strict=True):
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("center", [0, 1])
def test_the_boxes_that_are_left_are_onnxruntimes(center: int) -> None:
    node = helper.make_node(
        "NonMaxSuppression", ["b", "s", "most", "shared", "least"], ["y"], center_point_box=center
    )
    proto = model(
        [node],
        [("b", FLOAT, ["n", 20, 4]), ("s", FLOAT, ["n", 3, 20])],
        [("y", INT64, ["k", 3])],
        most=np.array([4]),
        shared=np.array([0.4], "f4"),
        least=np.array([0.3], "f4"),
    )
    feeds = [
        {"b": np.sort(RNG.random((n, 20, 4)), -1).astype("f4"), "s": RNG.random((n, 3, 20)).astype("f4")}
        for n in (1, 2)
    ]
    compared(proto, *feeds, form="function")


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("shape", [["n", "t", 4], ["n", 3, "h", "w"]])
def test_a_free_axis_is_made_longer_in_a_functional_model(mode: str, shape: list[Any]) -> None:
    rank = len(shape)
    free = [axis for axis, size in enumerate(shape) if axis and isinstance(size, str)]
    pads = [int(axis in free) for axis in range(rank)] + [2 * int(axis in free) for axis in range(rank)]
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["q"], mode=mode),
        helper.make_node("Relu", ["q"], ["y"]),
    ]
    proto = model(nodes, [("x", FLOAT, shape)], [("y", FLOAT, [None] * rank)], pads=np.array(pads))
    feeds = [
        {"x": RNG.standard_normal([2 if a == 0 else size if a in free else d for a, d in enumerate(shape)]).astype("f4")}
        for size in (5, 9)
    ]  # fmt: skip
    compared(proto, *feeds, form="functional")


def test_axes_of_size_one_fall_away_as_the_tensor_has_them() -> None:
    proto = model(
        [helper.make_node("Squeeze", ["x"], ["y"])], [("x", FLOAT, ["n", 1, 4, 1])], [("y", FLOAT, [None, 4])]
    )
    compared(proto, {"x": RNG.standard_normal((3, 1, 4, 1)).astype("f4")}, form="function")


def turns(x: str, y: str, operator: str, name: str) -> Any:
    """Three turns of ``operator`` on the state and itself: of Concat it grows."""
    settings = {"axis": 0} if operator == "Concat" else {}
    state, test = (
        [helper.make_tensor_value_info(f"{name}_{end}", FLOAT, [None, 4]) for end in ("in", "out")],
        [helper.make_tensor_value_info(f"{name}_{end}", BOOL, []) for end in ("go", "on")],
    )
    body = helper.make_graph(
        [
            helper.make_node(operator, [f"{name}_in", f"{name}_in"], [f"{name}_two"], **settings),
            helper.make_node("Tanh", [f"{name}_two"], [f"{name}_out"]),
            helper.make_node("Identity", [f"{name}_go"], [f"{name}_on"]),
        ],
        f"{name}_body",
        [helper.make_tensor_value_info(f"{name}_turn", INT64, []), test[0], state[0]],
        [test[1], state[1]],
    )
    return helper.make_node("Loop", ["three", "true", x], [y], body=body)


@pytest.mark.parametrize("operators", [("Mul", "Mul"), ("Concat", "Concat"), ("Concat", "Add")])
@pytest.mark.parametrize("rows", ["n", 2])
def test_loops_in_a_row_hand_on_what_has_grown(operators: tuple[str, str], rows: Any) -> None:
    nodes = [turns("x", "l", operators[0], "a"), turns("l", "y", operators[1], "b")]
    proto = model(
        nodes, [("x", FLOAT, [rows, 4])], [("y", FLOAT, [None, 4])], three=np.array(3), true=np.array(True)
    )
    compared(proto, {"x": RNG.standard_normal((2, 4)).astype("f4")}, form="function")


@pytest.mark.parametrize(("activation", "infinite"), [("Relu", False), ("Sigmoid", False), ("Tanh", True)])
def test_a_pool_is_padded_with_a_number_that_small_integers_hold(activation: str, infinite: bool) -> None:
    """Behind what is never negative zero is as low as anything; minus infinity has no place in eight bits."""
    nodes = [
        helper.make_node(activation, ["x"], ["a"], name="act"),
        helper.make_node(
            "MaxPool", ["a"], ["y"], name="pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
        ),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 9, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 5, 4])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    done = netferry.convert(model, "tensorflow", quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    assert done.imported is not None
    assert ("inf" in done.imported.source) is infinite
