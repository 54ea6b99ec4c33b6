"""Old opsets: what a model meant when it was written is what arrives, held against onnxruntime, which runs it as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.errors import RefusedError
from netferry.inference.session import Session

RNG = np.random.default_rng(11)


def normal(*sizes: int) -> np.ndarray:
    return RNG.standard_normal(sizes).astype(np.float32)


def one_node(
    operator: str, opset: int, x: np.ndarray, *constants: np.ndarray, outputs: int = 1, **attributes: Any
) -> onnx.ModelProto:
    """A model of one node whose first operand is the input and whose others are initializers."""
    names = [f"constant_{place}" for place in range(len(constants))]
    results = [f"y_{place}" for place in range(outputs)]
    node = helper.make_node(operator, ["x", *names], results, name="the_node", **attributes)
    spec = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    weights = [numpy_helper.from_array(array, name) for array, name in zip(constants, names, strict=True)]
    graph = helper.make_graph(
        [node], "one", [spec], [helper.make_empty_tensor_value_info(y) for y in results], weights
    )
    opsets = [helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets, ir_version=6))


def scales(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


ENLARGED = [(1, 1, 3, 3), (1, 1, 2, 2), (1, 1, 1.5, 2.5)]
IMAGE, CUBE, SIGNAL = normal(1, 2, 3, 4), normal(2, 3, 4), normal(2, 3, 4, 5)

CASES: dict[str, tuple[onnx.ModelProto, np.ndarray]] = {
    **{
        f"upsample-{opset}-{mode}-{factors}": (
            one_node("Upsample", opset, IMAGE, mode=mode, scales=[float(f) for f in factors]), IMAGE)
        for opset in (7, 8) for mode in ("nearest", "linear") for factors in ENLARGED
    },
    **{
        f"{operator}-{opset}-{mode}-{factors}": (
            one_node(operator, opset, IMAGE, scales(*factors), mode=mode), IMAGE)
        for operator, opset in (("Upsample", 9), ("Resize", 10))
        for mode in ("nearest", "linear") for factors in ENLARGED
    },
    "resize-10-shrunk": (
        one_node("Resize", 10, normal(1, 2, 7, 8), scales(1, 1, 0.6, 0.5), mode="nearest"), normal(1, 2, 7, 8)),
    **{
        f"{operator}-{opset}-axis-{axis}": (
            one_node(operator, opset, CUBE, **({} if axis is None else {"axis": axis})), CUBE)
        for operator in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 11, 12) for axis in (None, 0, 1, 2)
    },
    **{
        f"batch-normalization-{opset}": (
            one_node("BatchNormalization", opset, SIGNAL, normal(3), normal(3), normal(3), abs(normal(3)) + 0.5,
                     epsilon=1e-2), SIGNAL)
        for opset in (7, 8, 9, 14)
    },
    "pad-2": (one_node("Pad", 2, SIGNAL, pads=[0, 0, 1, 2, 0, 0, 2, 1], value=1.5), SIGNAL),
    "slice-1": (one_node("Slice", 1, SIGNAL, starts=[1, 0], ends=[1000, -1], axes=[1, 3]), SIGNAL),
    "top-k-1": (one_node("TopK", 1, CUBE, outputs=2, axis=1, k=2), CUBE),
    "clip-6": (one_node("Clip", 6, CUBE, min=-0.3, max=0.4), CUBE),
    "reduce-l2-11": (one_node("ReduceL2", 11, SIGNAL, axes=[1, -1], keepdims=0), SIGNAL),
    "split-2": (one_node("Split", 2, CUBE, outputs=2, axis=2), CUBE),
    "average-pool-10-ceil": (
        one_node("AveragePool", 10, normal(1, 2, 8, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
                 ceil_mode=1, count_include_pad=1), normal(1, 2, 8, 8)),
    "conv-transpose-1-sizes": (
        one_node("ConvTranspose", 1, normal(1, 2, 4, 4), normal(2, 3, 3, 3), strides=[2, 2], output_shape=[9, 9]),
        normal(1, 2, 4, 4)),
    "gru-7": (
        one_node("GRU", 7, normal(4, 2, 3), normal(1, 15, 3), normal(1, 15, 5), normal(1, 30), outputs=2,
                 hidden_size=5), normal(4, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_old_opset_means_what_it_meant(name: str) -> None:
    model, x = CASES[name]
    expected = Session(model).run([x])
    carried = netferry.run(netferry.convert(model, "pytorch", verify=False).model, [x])
    assert list(carried) == list(expected)
    for output, want in expected.items():
        assert carried[output].shape == want.shape
        assert np.abs(carried[output] - want).max() <= 5e-6 * np.abs(want).max()


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_before_opset_7_broadcasts_along_its_axis(operator: str) -> None:
    """onnxruntime has no kernel for these: numpy says what they meant."""
    y = abs(normal(3)) + 0.5
    model = one_node(operator, 6, SIGNAL, y, broadcast=1, axis=1)
    [carried] = netferry.run(netferry.convert(model, "pytorch", verify=False).model, [SIGNAL]).values()
    words = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
    np.testing.assert_allclose(carried, words[operator](SIGNAL, y.reshape(3, 1, 1)), rtol=1e-6)


@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu_before_opset_7_has_a_slope_for_each_channel(slopes: int) -> None:
    slope = normal(slopes)
    model = one_node("PRelu", 6, SIGNAL, slope)
    [carried] = netferry.run(netferry.convert(model, "pytorch", verify=False).model, [SIGNAL]).values()
    np.testing.assert_allclose(
        carried, np.where(SIGNAL < 0, SIGNAL * slope.reshape(-1, 1, 1), SIGNAL), rtol=1e-6
    )


def test_a_resize_that_nobody_can_tell_is_refused() -> None:
    """One axis grows and one shrinks: opset 10 does not say which neighbour is the nearest."""
    model = one_node("Resize", 10, IMAGE, scales(1, 1, 2, 0.5), mode="nearest")
    with pytest.raises(RefusedError, match="the_node"):
        netferry.convert(model, "pytorch", verify=False)


def test_a_newer_opset_than_is_known_is_refused() -> None:
    model = one_node("Relu", 13, IMAGE)
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1
    with pytest.raises(RefusedError, match="newer opset"):
        netferry.convert(model, "pytorch", verify=False)


def test_a_type_that_is_not_told_is_refused() -> None:
    model = one_node("Relu", 13, IMAGE)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UNDEFINED
    with pytest.raises(netferry.NetferryError):
        netferry.convert(model, "pytorch", verify=False)


def test_nodes_may_stand_in_any_order() -> None:
    weight = normal(3, 2)
    graph = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("MatMul", ["x", "w"], ["h"])], "g",
        [helper.make_tensor_value_info("x", 1, ["n", 3])], [helper.make_tensor_value_info("y", 1, ["n", 2])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    before = model.SerializeToString()
    x = normal(4, 3)
    (y,) = netferry.run(netferry.convert(model, "pytorch").model, {"x": x}).values()
    np.testing.assert_allclose(y, np.maximum(x @ weight, 0), rtol=1e-5)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1, -2])
def test_a_softmax_means_the_same_at_an_older_opset(operator: str, axis: int | None) -> None:
    """Before opset 13 it looks along all axes from its own on, and ONNX's converter knows no way back."""
    model = one_node(operator, 18, CUBE, **({} if axis is None else {"axis": axis}))
    right = netferry.run(model, {"x": CUBE})["y_0"]
    for opset in (8, 9, 11, 12):
        older = netferry.convert(model, "onnx", opset=opset).model
        assert older.opset_import[0].version == opset
        np.testing.assert_allclose(netferry.run(older, {"x": CUBE})["y_0"], right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factors", ENLARGED)
def test_a_resize_of_opset_10_means_the_same_at_a_newer_one(mode: str, factors: Any) -> None:
    """Its coordinates are not today's default, which ONNX's converter leaves."""
    model = one_node("Resize", 10, IMAGE, scales(*factors), mode=mode)
    newer = netferry.convert(model, "onnx", opset=13).model
    assert newer.opset_import[0].version == 13
    right = netferry.run(model, {"x": IMAGE})["y_0"]
    np.testing.assert_allclose(netferry.run(newer, {"x": IMAGE})["y_0"], right, rtol=1e-5, atol=1e-6)


def test_an_adapted_operator_is_valid_at_the_opset_that_was_asked_for() -> None:
    """Upsample is one until opset 9, and is written as today's Resize only where that is known."""
    model = one_node("Upsample", 7, IMAGE, mode="linear", scales=[1.0, 1.0, 2.0, 2.0])
    right = netferry.run(model, {"x": IMAGE})["y_0"]
    older = netferry.convert(model, "onnx", opset=8).model
    assert [node.op_type for node in older.graph.node] == ["Upsample"]
    for made in (older, netferry.convert(model, "onnx", opset=13).model):
        onnx.checker.check_model(made, full_check=True)
        np.testing.assert_allclose(netferry.run(made, {"x": IMAGE})["y_0"], right, rtol=1e-5, atol=1e-6)
    with pytest.raises(RefusedError, match="cannot be written at opset 11"):  # its Resize has no optional roi
        netferry.convert(model, "onnx", opset=11)
