"""Weights that a file holds as small integers arrive in PyTorch as integers with their scales, and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry

Array = np.ndarray[Any, Any]
Given = dict[str, Any]
RNG = np.random.default_rng(23)
FREE = "n"


def integers(*shape: int, dtype: Any = np.int8) -> Array:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def scales(*shape: int) -> Array:
    return RNG.uniform(0.01, 0.05, shape).astype(np.float32)


def four_bits(name: str, array: Array, kind: int) -> onnx.TensorProto:
    return helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())


def graph(nodes: list[Any], given: Given, x: list[Any], *, ids: bool = False) -> onnx.ModelProto:
    """x -> y; ``given`` are initializers, as arrays or as they are."""
    tensors = [
        value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)
        for name, value in given.items()
    ]
    made = helper.make_graph(
        nodes, "quantised",
        [helper.make_tensor_value_info("x", TensorProto.INT64 if ids else TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], tensors,
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def dequantized(axis: int = 0, zero: bool = False, **more: Any) -> Any:
    return helper.make_node("DequantizeLinear", ["w", "s", "z"][: 2 + zero], ["f"], axis=axis, **more)


def node(operator: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, list(inputs), ["y"], **attributes)


def conv() -> onnx.ModelProto:
    given = {"w": integers(6, 2, 3, 3), "s": scales(6), "b": scales(6)}
    return graph([dequantized(), node("Conv", "x", "f", "b", group=2, pads=[1] * 4)], given, [FREE, 4, 7, 7])


def conv_of_one_scale_and_a_zero_point() -> onnx.ModelProto:
    given = {"w": integers(6, 4, 3, dtype=np.uint8), "s": np.float32(0.03), "z": np.uint8(117)}
    return graph([dequantized(zero=True), node("Conv", "x", "f")], given, [FREE, 4, 9])


def conv_transpose() -> onnx.ModelProto:
    given = {"w": integers(4, 5, 2, 2), "s": scales(5), "z": integers(5)}
    return graph(
        [dequantized(1, True), node("ConvTranspose", "x", "f", strides=[2, 2])], given, [FREE, 4, 5, 5]
    )


def gemm() -> onnx.ModelProto:
    given = {"w": integers(5, 8), "s": scales(5), "b": scales(5)}
    return graph([dequantized(), node("Gemm", "x", "f", "b", transB=1)], given, [FREE, 8])


def product() -> onnx.ModelProto:
    given = {"w": integers(8, 5), "s": scales(5), "z": integers(5), "b": scales(5)}
    nodes = [
        dequantized(1, True), helper.make_node("MatMul", ["x", "f"], ["p"]), node("Add", "p", "b"),
    ]  # fmt: skip
    return graph(nodes, given, [FREE, 3, 8])


def product_in_blocks_of_four_bits() -> onnx.ModelProto:
    given = {
        "w": four_bits("w", RNG.integers(-8, 8, (8, 5)), TensorProto.INT4), "s": scales(2, 5),
        "z": four_bits("z", RNG.integers(-8, 8, (2, 5)), TensorProto.INT4),
    }  # fmt: skip
    return graph([dequantized(0, True, block_size=4), node("MatMul", "x", "f")], given, [FREE, 8])


def table(zero: bool, axis: int | None) -> Callable[[], onnx.ModelProto]:
    def made() -> onnx.ModelProto:
        size = () if axis is None else ((11, 6)[axis],)
        given = {"w": integers(11, 6), "s": scales(*size), "z": integers(*size)}
        return graph([dequantized(axis or 0, zero), node("Gather", "f", "x")], given, [FREE, 3], ids=True)

    return made


def table_in_blocks() -> onnx.ModelProto:
    given = {"w": integers(11, 8), "s": scales(11, 2)}
    return graph([dequantized(1, block_size=4), node("Gather", "f", "x")], given, [FREE, 3], ids=True)


def tied_table() -> onnx.ModelProto:
    """The table of the first layer is, turned, the weight of the last one."""
    nodes = [
        dequantized(), helper.make_node("Gather", ["f", "x"], ["e"]), helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0]),
        node("MatMul", "e", "t"),
    ]  # fmt: skip
    return graph(nodes, {"w": integers(11, 6), "s": scales(11)}, [FREE, 3], ids=True)


def bits(count: int, zero: bool) -> Callable[[], onnx.ModelProto]:
    """MatMulNBits; its last block is not full."""

    def made() -> onnx.ModelProto:
        given = {"w": integers(5, 3, 16 * count // 8, dtype=np.uint8), "s": scales(5 * 3)}
        if zero:
            given["z"] = integers(5 * -(-3 * count // 8), dtype=np.uint8)
        inputs = ["x", "w", "s", "z"][: 3 + zero]
        return graph(
            [node("MatMulNBits", *inputs, domain="com.microsoft", K=40, N=5, bits=count, block_size=16)], given, [FREE, 40]
        )  # fmt: skip

    return made


def bits_in_full_blocks() -> onnx.ModelProto:
    given = {"w": integers(5, 2, 8, dtype=np.uint8), "s": scales(5 * 2)}
    return graph(
        [node("MatMulNBits", "x", "w", "s", domain="com.microsoft", K=32, N=5, bits=4, block_size=16)], given, [FREE, 32]
    )  # fmt: skip


def table_of_bits() -> onnx.ModelProto:
    given = {"w": integers(11, 16, dtype=np.uint8), "s": scales(11, 2)}
    return graph(
        [node("GatherBlockQuantized", "w", "x", "s", domain="com.microsoft", block_size=16, quantize_axis=1, gather_axis=0)],
        given, [FREE, 3], ids=True,
    )  # fmt: skip


STAYS: dict[str, Callable[[], onnx.ModelProto]] = {
    "a grouped convolution": conv,
    "a convolution of one scale and a zero point": conv_of_one_scale_and_a_zero_point,
    "a transposed convolution": conv_transpose,
    "a Gemm": gemm,
    "a product": product,
    "a product in blocks of four bits": product_in_blocks_of_four_bits,
    "a table of one scale": table(False, None),
    "a table with a scale and a zero point for each row": table(True, 0),
    "a table with a scale for each column": table(True, 1),
    "a table in blocks": table_in_blocks,
    "a table that is the last weight too": tied_table,
    "four bits": bits(4, False),
    "four bits with zero points": bits(4, True),
    "four bits in full blocks": bits_in_full_blocks,
    "eight bits with zero points": bits(8, True),
}


def feeds(model: onnx.ModelProto) -> list[Array]:
    declared = model.graph.input[0].type.tensor_type
    sizes = [dim.dim_value for dim in declared.shape.dim][1:]
    if declared.elem_type == TensorProto.INT64:
        return [RNG.integers(0, 11, (n, *sizes)) for n in (1, 4)]
    return [RNG.standard_normal((n, *sizes)).astype(np.float32) for n in (1, 4)]


def error(module: Any, model: onnx.ModelProto) -> float:
    """The largest difference to onnxruntime, by the output's scale."""
    plain = (
        onnxruntime.SessionOptions()
    )  # else products are fused with their scales, and rounded to eight bits
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), plain, providers=["CPUExecutionProvider"]
    )
    worst = 0.0
    for x in feeds(model):
        (want,) = session.run(None, {"x": x})
        got = netferry.run(module, {"x": x})["y"]
        assert got.shape == want.shape
        worst = max(worst, float(np.abs(got - want).max() / np.abs(want).max()))
    return worst


@pytest.mark.parametrize("kind", STAYS)
def test_a_weight_of_integers_stays_one(kind: str) -> None:
    import torch

    model = STAYS[kind]()
    result = netferry.convert(model, "pytorch", verify=False)
    module = result.model
    state = module.state_dict()
    assert state["w"].dtype in (torch.int8, torch.uint8)
    floats = {key for key, tensor in state.items() if tensor.dtype == torch.float32}
    assert floats <= {"b", "s"}
    assert [name for name, _ in module.named_parameters() if name != "b"] == []
    assert any("stay integers with their scales, as the file holds them: 1." in note for note in result.notes)
    assert error(module, model) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize("kind", STAYS)
def test_its_conversion_passes(kind: str) -> None:
    report = netferry.convert(STAYS[kind](), "pytorch").report
    assert report is not None
    assert report.status == "passed"


def test_a_table_of_four_bits_stays_one() -> None:
    """GatherBlockQuantized looks integers up and has no floats to become."""
    model = table_of_bits()
    module = netferry.convert(model, "pytorch", verify=False).model
    assert {name: str(tensor.dtype) for name, tensor in module.named_buffers()}["w"] == "torch.uint8"
    assert list(module.parameters()) == []
    assert error(module, model) < 2e-6


@pytest.mark.parametrize(
    "kind", ["a grouped convolution", "a product", "a table of one scale", "four bits with zero points"]
)
def test_floats_are_there_for_who_asks(kind: str) -> None:
    import torch

    model = STAYS[kind]()
    module = netferry.convert(model, "pytorch", dequantize=True).model
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    assert any(parameter.requires_grad for parameter in module.parameters())
    assert error(module, model) < 2e-6


@pytest.mark.parametrize("kind", ["a grouped convolution", "a product", "four bits with zero points"])
def test_a_model_of_integers_changes_its_dtype_as_others_do(kind: str) -> None:
    import torch

    model = STAYS[kind]()
    module = netferry.convert(model, "pytorch", verify=False).model
    x = torch.from_numpy(feeds(model)[1])
    want = module(x)
    wide = module.double()(x.double())
    assert wide.dtype == torch.float64
    assert (wide - want).abs().max() < 1e-5 * want.abs().max()
    half = module.half()(x.half())
    assert half.dtype == torch.float16
    assert (half - want).abs().max() < 2e-2 * want.abs().max()
    assert module.state_dict()["w"].dtype in (torch.int8, torch.uint8)


def test_what_no_product_reads_is_floats() -> None:
    """A weight that is added, that of a recurrent layer, and a bias of 32 bits."""
    given = {
        "w": integers(1, 12, 4), "s": scales(1), "r": integers(1, 12, 3), "a": integers(3), "c": RNG.integers(-99, 99, 3, np.int32),
        "i": integers(3, 3),
    }  # fmt: skip
    nodes = [
        *(helper.make_node("DequantizeLinear", [name, "s"], [f"{name}f"]) for name in "wraci"),
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["t", "wf", "rf"], ["", "h"], hidden_size=3),
        helper.make_node("Squeeze", ["h", "first"], ["k"]),
        helper.make_node("Add", ["k", "af"], ["e"]), node("Gemm", "e", "if", "cf"),
    ]  # fmt: skip
    model = graph(nodes, {**given, "first": np.array([0])}, [FREE, 5, 4])
    module = netferry.convert(model, "pytorch").model
    kinds = {name: str(tensor.dtype) for name, tensor in module.state_dict().items()}
    assert [name for name, kind in kinds.items() if kind == "torch.int8"] == ["i"]
    assert any(type(layer).__name__ == "LSTM" for layer in module.modules())
    assert error(module, model) < 2e-6


@pytest.mark.parametrize("to", ["tensorflow", "mxnet"])
def test_where_layers_hold_floats_the_weights_are_floats(to: str) -> None:
    model = conv()
    result = netferry.convert(model, to)
    assert not any("stay integers" in note for note in result.notes)
    assert error(result.model, model) < 2e-6
