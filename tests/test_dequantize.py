"""``--dequantize``: integers that stand for floats arrive as these floats, and nothing is rounded but the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.onnx.unrounded import unrounded

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)


def graph(
    nodes: list[Any],
    given: dict[str, Array],
    x: list[Any],
    y: list[Any],
    kind: int = TensorProto.FLOAT,
    ids: bool = False,
) -> onnx.ModelProto:
    """x -> y, with ``given`` as initializers, at the opset that has quantisation in blocks."""
    source = TensorProto.INT64 if ids else TensorProto.FLOAT
    made = helper.make_graph(
        nodes, "quantised", [helper.make_tensor_value_info("x", source, x)],
        [helper.make_tensor_value_info("y", kind, y)],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


def integers(*shape: int, dtype: Any = np.int8) -> Array:
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def f32(value: Any) -> Array:
    return np.asarray(value, np.float32)


def held(x: Array, scale: float, zero: int, dtype: Any = np.uint8) -> Array:
    """What quantising and dequantising leaves of ``x`` but for the rounding."""
    limits = np.iinfo(dtype)
    return np.clip(x, (limits.min - zero) * scale, (limits.max - zero) * scale)


def of_qdq() -> tuple[onnx.ModelProto, Any]:
    """QuantizeLinear, DequantizeLinear around a product, with a scale for each column, and a Reshape in between."""
    w, scales, bias = integers(6, 4), f32(RNG.uniform(0.01, 0.1, 4)), integers(4, dtype=np.int32) // 10**7
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "xs", "xz"], ["d"]),
        helper.make_node("DequantizeLinear", ["w_quantized", "ws"], ["w"], axis=1),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["c"]),
        helper.make_node("MatMul", ["d", "w"], ["m"]),
        helper.make_node("Add", ["m", "c"], ["y"]),
    ]
    given = {
        "xs": f32(0.02), "xz": np.uint8(100), "shape": np.asarray([-1, 6]), "w_quantized": w, "ws": scales,
        "b": bias, "bs": f32(0.01),
    }  # fmt: skip
    made = graph(nodes, given, ["n", 2, 3], ["n", 4])
    return made, lambda x: held(x, 0.02, 100).reshape(-1, 6) @ (w * scales) + bias * 0.01


def of_operators() -> tuple[onnx.ModelProto, Any]:
    """QLinearConv and QLinearMatMul, one behind the other: bounds between them stay."""
    w, b, m = integers(3, 2, 1, 1), integers(3, dtype=np.int32) // 10**7, integers(3, 5)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z", "w", "ws", "wz", "s2", "z", "b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("QLinearMatMul", ["t", "s2", "z", "m", "ms", "mz", "s3", "z"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "s3", "z"], ["y"]),
    ]
    ws = f32([0.01, 0.02, 0.03])
    given = {
        "s": f32(0.02), "z": np.uint8(90), "w": w, "ws": ws, "wz": np.zeros(3, np.int8), "s2": f32(0.05),
        "b": b, "m": m, "ms": f32(0.02), "mz": np.int8(3), "s3": f32(0.1),
    }  # fmt: skip

    def expected(x: Array) -> Array:
        kernel = w[:, :, 0, 0] * ws[:, None]
        c = np.einsum("nihw,oi->nhwo", held(x, 0.02, 90), kernel) + b * (0.02 * ws)
        return held(held(c, 0.05, 90) @ ((m - 3.0) * 0.02), 0.1, 90)

    return graph(nodes, given, ["n", 2, 3, 4], ["n", 3, 4, 5]), expected


def of_dynamic() -> tuple[onnx.ModelProto, Any]:
    """What ``quantize_dynamic`` writes: DynamicQuantizeLinear, MatMulInteger, Cast, Mul."""
    w, scale = integers(7, 4, dtype=np.uint8), f32(0.013)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    made = graph(nodes, {"w": w, "ws": scale, "wz": np.uint8(120)}, ["n", 7], ["n", 4])
    return made, lambda x: x @ ((w - 120.0) * scale)


def of_convolution() -> tuple[onnx.ModelProto, Any]:
    """ConvInteger, with a scale for each channel behind it."""
    w, scale = integers(4, 3, 1), f32(RNG.uniform(0.01, 0.1, (1, 4, 1)))
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("ConvInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["both"]),
        helper.make_node("Mul", ["f", "both"], ["y"]),
    ]
    made = graph(nodes, {"w": w, "ws": scale, "wz": np.int8(0)}, ["n", 3, "t"], ["n", 4, "t"])
    return made, lambda x: np.einsum("nit,oi->not", x, w[:, :, 0] * scale[0])


def of_four_bits() -> tuple[onnx.ModelProto, Any]:
    """MatMulNBits: two numbers in each byte, a scale for each block of 16."""
    packed, scales = integers(5, 2, 8, dtype=np.uint8), f32(RNG.uniform(0.01, 0.1, 10))
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=32, N=5, bits=4, block_size=16
    )
    whole = np.stack([packed & 15, packed >> 4], -1).reshape(5, 32) - 8.0
    floats = whole * np.repeat(scales.reshape(5, 2), 16, 1)
    return graph([node], {"w": packed, "s": scales}, ["n", 32], ["n", 5]), lambda x: x @ floats.T


def of_lstm() -> tuple[onnx.ModelProto, Any]:
    """DynamicQuantizeLSTM becomes ONNX's own LSTM; the oracle steps through it."""
    w, r, size = integers(1, 3, 8), integers(1, 2, 8), 2
    ws, rs = f32([0.01]), f32([0.008])
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    node = helper.make_node(
        "DynamicQuantizeLSTM", names, ["y", "h", "c"], domain="com.microsoft", hidden_size=size
    )
    bias = f32(RNG.standard_normal((1, 16)))
    given = {
        "w": w, "r": r, "b": bias, "ws": ws, "wz": np.zeros(1, np.int8), "rs": rs, "rz": np.zeros(1, np.int8),
    }  # fmt: skip

    def sigmoid(v: Array) -> Array:
        return 1 / (1 + np.exp(-v))

    def expected(x: Array) -> Array:
        h = c = np.zeros((x.shape[1], size))
        found = []
        for step in x:
            gates = step @ (w[0] * ws) + h @ (r[0] * rs) + bias[0, :8] + bias[0, 8:]
            i, o, f, g = np.split(gates, 4, 1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            found.append(h)
        return np.stack(found)[:, None]

    return graph([node], given, ["t", "n", 3], ["t", 1, "n", size]), expected


def of_table() -> tuple[onnx.ModelProto, Any]:
    """Rows of a table of integers, dequantised behind the Gather."""
    table = integers(9, 4, dtype=np.uint8)
    nodes = [
        helper.make_node("Gather", ["t", "x"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    made = graph(nodes, {"t": table, "s": f32(0.04), "z": np.uint8(128)}, ["n"], ["n", 4], ids=True)
    return made, lambda x: ((table - 128.0) * 0.04)[x]


MODELS = {
    "qdq": of_qdq, "operators": of_operators, "dynamic": of_dynamic, "convolution": of_convolution,
    "four bits": of_four_bits, "lstm": of_lstm, "table": of_table,
}  # fmt: skip


def inputs(model: onnx.ModelProto, free: int) -> Array:
    kind = model.graph.input[0].type.tensor_type
    shape = [dim.dim_value or free + place for place, dim in enumerate(kind.shape.dim)]
    if kind.elem_type == TensorProto.INT64:
        return RNG.integers(0, 9, shape)
    return f32(2 * RNG.standard_normal(shape))


def assert_near(got: Array, want: Array) -> None:
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 3e-6 * np.abs(want).max()


@pytest.mark.parametrize("kind", MODELS)
def test_weights_arrive_in_pytorch_as_floats_that_are_trained(kind: str) -> None:
    model, expected = MODELS[kind]()
    done = netferry.convert(model, "pytorch", dequantize=True, quick=True, seed=1)
    assert done.report is not None
    assert done.report.status == "passed", done.report.to_text()
    for free in (2, 5):
        x = inputs(model, free)
        assert_near(next(iter(netferry.run(done.model, [x]).values())), expected(x))
    trained = [p for p in done.model.parameters() if p.requires_grad]
    whole = sum(numpy_helper.to_array(t).size * (2 if kind == "four bits" and t.name == "w" else 1)
                for t in model.graph.initializer if t.name.startswith(("w_q", "w", "m", "t", "r", "b"))
                and numpy_helper.to_array(t).size > 3)  # fmt: skip
    assert sum(p.numel() for p in trained) >= whole - 12
    assert not any(
        buffer.dtype.is_floating_point is False and buffer.numel() > 3 for buffer in done.model.buffers()
    )


@pytest.mark.parametrize("kind", MODELS)
def test_the_yardstick_is_the_source_without_its_roundings(kind: str) -> None:
    model, expected = MODELS[kind]()
    plain = unrounded(onnx_ir(model))
    x = inputs(model, 3)
    assert_near(next(iter(netferry.run(plain, [x]).values())), expected(x))


def onnx_ir(model: onnx.ModelProto) -> Any:
    import onnx_ir as ir

    return ir.from_proto(model)


def test_the_note_says_what_was_compared_and_how_far_the_source_lies() -> None:
    model, _ = of_dynamic()
    done = netferry.convert(model, "onnx", dequantize=True, quick=True, seed=1)
    assert done.report is not None
    assert done.report.source.endswith("without its roundings")
    assert any("y by 0.0" in note for note in done.report.notes), done.report.notes
    assert any(note.startswith("1 weights of integers are floats now") for note in done.export.notes)


def test_an_output_of_integers_is_still_rounded() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "s", "wz", "s2", "z"], ["y"]),
    ]
    w = integers(4, 3)
    given = {"s": f32(0.02), "z": np.uint8(128), "w": w, "wz": np.int8(0), "s2": f32(0.25)}
    model = graph(nodes, given, ["n", 4], ["n", 3], TensorProto.UINT8)
    done = netferry.convert(model, "pytorch", dequantize=True, verify=False)
    x = f32(RNG.standard_normal((5, 4)))
    want = np.clip(np.round(held(x, 0.02, 128) @ (w * 0.02) / 0.25) + 128, 0, 255)
    got = next(iter(netferry.run(done.model, [x]).values()))
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - want).max() <= 1  # at a tie


def test_a_model_without_integers_stays_as_it_is_and_the_note_says_so() -> None:
    model = graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": f32(RNG.random((3, 2)))}, ["n", 3], ["n", 2]
    )
    done = netferry.convert(model, "pytorch", dequantize=True, quick=True, seed=1)
    assert done.report is not None
    assert done.report.status == "passed"
    assert any(note.startswith("nothing was dequantised") for note in done.export.notes)


def test_a_wrong_scale_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from netferry.converters.graph.passes import floats

    right = floats._dequantized
    monkeypatch.setattr(floats, "_dequantized", lambda *parts: right(*parts) * (1 + 1e-4))
    done = netferry.convert(of_qdq()[0], "pytorch", dequantize=True, quick=True, seed=1)
    assert done.report is not None
    assert done.report.status == "failed"
