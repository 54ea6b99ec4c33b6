"""Where the truth comes from: each framework's own float64 run, and the guards on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from models import dense, unary
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from verdict_pairs import cnn, graph, lstm, node, randomised

import netferry
from netferry.converters.graph.ir.build import GraphBuilder
from netferry.converters.mxnet.live import import_mxnet
from netferry.converters.signature import examples
from netferry.inference.session import Session
from netferry.validation.comparison import truth
from netferry.validation.comparison.truth import Double

RNG = np.random.default_rng(0)


def test_the_source_is_untouched_by_its_float64_run() -> None:
    model = randomised(cnn())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    outputs = Double(model).run([RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)])
    assert outputs is not None
    assert outputs["output"].dtype == np.float64
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


class Casts(nn.Module):
    """Code that names float32 itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(torch.float32).exp() + torch.ones(3, dtype=torch.float32) / 3 + x.float()


def test_a_dtype_that_pytorch_code_names_is_widened() -> None:
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    outputs = Double(Casts()).run([x])
    assert outputs is not None
    wide = x.astype(np.float64)
    np.testing.assert_allclose(outputs["output"], np.exp(wide) + 1 / 3 + wide, rtol=1e-15)


def test_pytorch_and_the_reference_evaluator_agree_in_float64() -> None:
    for make, shape in ((cnn, (2, 3, 8, 8)), (lstm, (2, 7, 5))):
        source = randomised(make())
        x = RNG.standard_normal(shape).astype(np.float32)
        target = netferry.convert(source, "onnx", inputs={"x": x}, verify=False).model
        ours, theirs = Double(source).run([x]), Double(target).run([x])
        assert ours is not None and theirs is not None
        [r], [t] = ours.values(), theirs.values()
        assert np.abs(r - t).max() <= 1e-12 * np.abs(r).max()


RECURRENT = {
    "LSTM": (4, {}),
    "LSTM with coupled gates and clip": (4, {"input_forget": 1, "clip": 0.5}),
    "LSTM of other activations": (4, {"activations": ["HardSigmoid", "Softsign", "Relu"] * 2}),
    "GRU": (3, {}),
    "GRU that resets after the product": (3, {"linear_before_reset": 1}),
    "RNN": (1, {"activations": ["LeakyRelu"] * 2, "activation_alpha": [0.1, 0.3]}),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_kernels_agree_with_onnxruntime(name: str) -> None:
    gates, attributes = RECURRENT[name]
    op = name.split()[0]
    hidden, size, batch, time = 5, 4, 3, 6
    draw = lambda *shape: RNG.uniform(-0.7, 0.7, shape).astype(np.float32)  # noqa: E731
    weights = {
        "w": draw(2, gates * hidden, size), "r": draw(2, gates * hidden, hidden), "b": draw(2, 2 * gates * hidden),
        "lengths": np.int32([6, 2, 4]), "h": draw(2, batch, hidden), "c": draw(2, batch, hidden),
        "p": draw(2, 3 * hidden),
    }  # fmt: skip
    inputs = ["x", "w", "r", "b", "lengths", "h", *(["c", "p"] if op == "LSTM" else [])]
    recurrent = helper.make_node(
        op, inputs, ["y", "last"], hidden_size=hidden, direction="bidirectional", **attributes
    )
    value = helper.make_tensor_value_info
    proto = helper.make_model(
        helper.make_graph(
            [recurrent], "g", [value("x", 1, [time, batch, size])],
            [value("y", 1, [time, 2, batch, hidden]), value("last", 1, [2, batch, hidden])],
            [numpy_helper.from_array(weights[name], name) for name in inputs[1:]],
        ),
        opset_imports=[helper.make_opsetid("", 21)], ir_version=10,
    )  # fmt: skip
    x = draw(time, batch, size)
    wide, plain = Double(proto).run([x]), Session(proto).run({"x": x})
    assert wide is not None
    for key in plain:
        np.testing.assert_allclose(wide[key], plain[key], atol=2e-6)


WINDOWS = {
    "Conv": ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, [(6, 4, 3, 3)]),
    "Conv in groups": ({"group": 2, "dilations": [2, 1], "pads": [1, 0, 2, 1]}, [(6, 2, 3, 2), (6,)]),
    "ConvTranspose": ({"strides": [2, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 2]}, [(4, 3, 3, 2), (3,)]),
    "ConvTranspose of a size": ({"strides": [2, 2], "output_shape": [15, 14], "group": 2}, [(4, 3, 3, 3)]),
    "MaxPool": ({"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1}, []),
    "AveragePool": ({"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}, []),
    "AveragePool with its padding": (
        {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "ceil_mode": 1, "count_include_pad": 1}, [],
    ),
    "LpPool": ({"kernel_shape": [2, 3], "p": 3}, []),
    "LRN": ({"size": 3, "alpha": 0.2, "beta": 0.6, "bias": 1.5}, []),
    "Gelu": ({}, []),
    "Gelu by tanh": ({"approximate": "tanh"}, []),
    "Erf": ({}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_double_kernels_agree_with_onnxruntime_and_are_no_float32(name: str) -> None:
    attributes, shapes = WINDOWS[name]
    weights = {
        f"w{place}": RNG.standard_normal(shape).astype(np.float32) for place, shape in enumerate(shapes)
    }
    proto = graph(
        [node(name.split()[0], " ".join(["x", *weights]), "y", **attributes)],
        (2, 4, 7, 8),
        ("n", "c", "h", "w"),
        **weights,
    )
    x = RNG.standard_normal((2, 4, 7, 8)).astype(np.float32)
    wide, plain = Double(proto).run([x]), Session(proto).run({"x": x})["y"]
    assert wide is not None
    assert wide["y"].dtype == np.float64
    assert np.abs(wide["y"] - plain).max() <= 2e-6 * np.abs(plain).max()
    if name != "MaxPool":
        assert np.any(wide["y"] != wide["y"].astype(np.float32))


def test_softmax_of_an_old_opset_is_raised_first() -> None:
    proto = graph([node("Softmax", "x", "y", axis=1)], (2, 3, 4))
    proto.opset_import[0].version = 11
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    wide = Double(proto).run([x])
    assert wide is not None
    np.testing.assert_allclose(wide["y"].reshape(2, -1).sum(1), 1)


@pytest.mark.parametrize("opset", [13, 18])
def test_quantisers_of_an_older_opset_have_a_float64_run(opset: int) -> None:
    proto = graph(
        [node("QuantizeLinear", "x scale zero", "q"), node("DequantizeLinear", "q scale zero", "y")],
        (2, 3),
        scale=np.float32(0.05),
        zero=np.uint8(128),
    )
    proto.opset_import[0].version = opset
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    wide = Double(proto).run([x])
    assert wide is not None
    assert np.abs(wide["y"] - Session(proto).run({"x": x})["y"]).max() <= 1e-6


def test_zeros_of_no_stated_dtype_are_float64_in_a_float64_run() -> None:
    proto = graph(
        [
            node("ConstantOfShape", "shape", "empty"),
            node("ScatterElements", "empty places w", "table", axis=0),
            node("MatMul", "x table", "y"),
        ],
        (2, 3),
        shape=np.array([3, 2]),
        places=np.array([[0, 2], [1, 1]]),
        w=RNG.standard_normal((2, 2)).astype(np.float32),
    )
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    wide = Double(proto).run([x])
    assert wide is not None
    assert wide["y"].dtype == np.float64
    assert np.abs(wide["y"] - Session(proto).run({"x": x})["y"]).max() <= 1e-6


def test_a_float32_bottleneck_is_seen() -> None:
    r, whole = np.float64([0.1, 0.2]), np.float64([1, 2])
    assert truth.is_narrow(r, r, r + 1e-6)
    assert not truth.is_narrow(r, r + 1e-12, r + 1e-6)
    assert not truth.is_narrow(whole, whole, whole + 1e-6)
    assert not truth.is_narrow(r, r, r + 1e-9), "saturated: nothing moves it"
    assert not truth.answers_alike((r, r + 1e-12), (r, r))
    assert truth.answers_alike((r, r), (r, r + 1e-16)), "float64's own rounding says nothing"


def test_a_truth_that_looks_wrong_passes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a yardstick as huge as a wrong truth makes it, any target would pass."""
    real = Double.run

    def wrong(self: Double, arrays: list[np.ndarray]) -> dict[str, np.ndarray] | None:
        outputs = real(self, arrays)
        return outputs and {name: array * 1.01 for name, array in outputs.items()}

    monkeypatch.setattr(Double, "run", wrong)
    report = netferry.verify(dense(), dense(1.001))
    assert report.status != "passed"
    assert any("suspect" in note for note in report.notes)


def test_a_fault_shared_by_every_road_of_the_exporter_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong epsilon in the exporter: a truth made from its graph would be wrong alike."""
    pen = GraphBuilder.__getattr__

    def faulty(self: GraphBuilder, op_type: str) -> Any:
        call = pen(self, op_type)
        if op_type != "BatchNormalization":
            return call
        return lambda *inputs, **attributes: call(*inputs, **{**attributes, "epsilon": 1.1e-5})

    monkeypatch.setattr(GraphBuilder, "__getattr__", faulty)
    source = randomised(cnn())
    x = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
    for to in ("onnx", "pytorch"):
        done = netferry.convert(source, to, inputs={"x": x})
        assert done.report is not None
        assert done.report.status == "failed", done.report.to_text()
        assert "in float64 it differs" in done.report.outputs[0].comparison.reason


def test_without_a_float64_run_the_report_says_so_and_compares_directly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Double, "run", lambda self, _arrays: setattr(self, "reason", "no such kernel"))
    assert netferry.verify(dense(), dense()).truth == "none: no such kernel"
    assert netferry.verify(dense(), dense()).status == "passed"
    assert netferry.verify(dense(), dense(1.001)).status == "failed"


def test_weights_are_known_again_in_any_arrangement() -> None:
    w = RNG.standard_normal((4, 6)).astype(np.float32)
    assert not truth.not_copied({"w": w}, {"a": w.T.copy()})
    assert not truth.not_copied({"w": w, "v": w + 1}, {"all": np.concatenate([w + 1, -w]).reshape(-1)})
    assert truth.not_copied({"w": w, "v": w + 1}, {"a": np.nextafter(w, np.float32(9)), "b": w + 1}) == {"w"}


def test_one_number_that_is_another_is_no_folding() -> None:
    """Folding changes a whole weight: a single number that is off must not be allowed for as rounded anew."""
    w = RNG.standard_normal((16, 16)).astype(np.float32)
    one, many = w.copy(), w * np.float32(1.1)
    one[3, 4] *= 1.01
    assert not truth.not_copied({"w": w}, {"a": one})
    assert truth.not_copied({"w": w}, {"a": many}) == {"w"}


@pytest.mark.parametrize("seed", range(4))
def test_a_weight_of_a_half_precision_model_is_not_allowed_for_by_constants_that_both_have(seed: int) -> None:
    """Both hold the same slope, which half precision rounds: it explains nothing of what they differ by."""
    rng = np.random.default_rng(seed)
    first, second, third = (
        (rng.standard_normal(shape) / 3).astype(np.float16) for shape in ((6, 16), (16, 16), (16, 4))
    )
    moved = second.copy()
    moved[2, 1] += np.float16(0.016)

    def half(middle: np.ndarray) -> Any:
        nodes = [
            node("MatMul", "x a", "p"), node("Elu", "p", "q", alpha=0.8), node("MatMul", "q b", "r"),
            node("HardSigmoid", "r", "s", alpha=0.05, beta=0.4), node("MatMul", "s c", "t"), node("Softmax", "t", "y"),
        ]  # fmt: skip
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT16, ["batch", size])
            for name, size in (("x", 6), ("y", 4))
        ]
        tensors = [
            numpy_helper.from_array(array, name)
            for array, name in ((first, "a"), (middle, "b"), (third, "c"))
        ]
        made = helper.make_graph(nodes, "halves", ends[:1], ends[1:], tensors)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    halves = [half(second), half(moved)]
    assert netferry.verify(halves[0], halves[0], seed=seed).status == "passed"
    assert netferry.verify(*halves, seed=seed).status == "failed"


def test_keras_in_float64_agrees_with_pytorch() -> None:
    source = randomised(cnn())
    x = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
    target = netferry.convert(source, "tensorflow", inputs={"x": x}, verify=False).model
    ours, theirs = Double(source).run([x]), Double(target).run([x])
    assert ours is not None and theirs is not None
    [r], [t] = ours.values(), theirs.values()
    assert np.abs(r - t).max() <= 1e-12 * np.abs(r).max()


def test_a_subclassed_keras_model_is_widened_as_a_graph() -> None:
    import keras

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.cell = keras.layers.Dense(4), keras.layers.LSTM(3)

        def call(self, x: object) -> object:
            return self.cell(keras.ops.gelu(self.dense(x), approximate=False) * 0.3)

    model = Subclassed()
    x = RNG.standard_normal((2, 6, 4)).astype(np.float32)
    plain = np.asarray(model(x))
    wide = Double(model, examples([x])).run([x])
    assert wide is not None
    assert wide["output_0"].dtype == np.float64
    np.testing.assert_allclose(wide["output_0"], plain, atol=1e-6)


def test_mxnet_in_float64_agrees_with_pytorch() -> None:
    source = randomised(cnn())
    x = RNG.standard_normal((2, 3, 8, 8)).astype(np.float32)
    target = netferry.convert(source, "mxnet", inputs={"x": x}, verify=False).model
    ours, theirs = Double(source).run([x]), Double(target).run([x])
    assert ours is not None and theirs is not None
    [r], [t] = ours.values(), theirs.values()
    assert np.abs(r - t).max() <= 1e-12 * np.abs(r).max()


def test_the_report_says_where_the_truth_came_from() -> None:
    assert netferry.verify(unary("Relu"), unary("Relu")).truth == "ONNX's reference evaluator in float64"


@pytest.mark.parametrize("size", [(15, 13), (130, 7), (1, 1)])
def test_a_bilinear_resize_of_mxnet_has_its_positions_in_float64(size: tuple[int, int]) -> None:
    """MXNet's own has them in float32, in a float64 run too: a right conversion of a large one would fail."""
    mx = import_mxnet()
    x = RNG.standard_normal((2, 3, 20, 24)).astype(np.float32)
    symbol = mx.sym.contrib.BilinearResize2D(mx.sym.var("x"), height=size[0], width=size[1])
    source = mx.gluon.SymbolBlock(symbol, [mx.sym.var("x")])
    wide = Double(source).run([x])
    assert wide is not None
    [y] = wide.values()
    places = [
        np.linspace(0, n - 1, k) if k > 1 else np.zeros(1) for n, k in zip(x.shape[2:], size, strict=True)
    ]
    want = x.astype(np.float64)
    for axis, at in enumerate(places, 2):
        low = np.minimum(at.astype(int), want.shape[axis] - 2)
        part = np.reshape(at - low, (-1, *[1] * (3 - axis)))
        want = np.take(want, low, axis) * (1 - part) + np.take(want, low + 1, axis) * part
    assert np.abs(y - want).max() <= 1e-13
    report = netferry.convert(source, "onnx", inputs={"x": x}).report
    assert report is not None and report.status == "passed", report and report.to_text()
