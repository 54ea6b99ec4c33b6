"""The first difference: a planted fault is named, in every framework, and comes with a reproduction that shows it."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

import netferry
from netferry import converters
from netferry.converters.errors import WriteError
from netferry.converters.signature import Example
from netferry.inference.intermediate import stream
from netferry.validation.tensors.alignment import arranged
from netferry.validation.tensors.bisect import bisect
from netferry.validation.tensors.difference import Bisection
from netferry.validation.tensors.matching import digest

RNG = np.random.default_rng(7)


# ---- models with a layer whose weight can be transposed without changing its shape ------------------


class Cnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.middle = nn.Conv2d(6, 6, 3)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.stem(x)))
        y = torch.relu(self.middle(y))
        return self.head(y.mean((2, 3)))


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Linear(5, 7)
        self.memory = nn.LSTM(7, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.memory(torch.tanh(self.entry(x)))
        return self.head(y)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Linear(5, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.entry(x)))


MODELS: dict[str, tuple[type[nn.Module], tuple[int, ...], str]] = {
    "cnn": (Cnn, (2, 3, 6, 7), "middle.weight"),
    "lstm": (Lstm, (2, 4, 5), "memory.weight_hh_l0"),
    "transformer": (Transformer, (2, 4, 5), "encoder.linear1.weight"),
}


def _source(name: str) -> nn.Module:
    """The model with random weights and statistics."""
    torch.manual_seed(3)
    model = MODELS[name][0]().eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in key else torch.randn_like(tensor) / 2)
    return model


def _given(name: str) -> tuple[Example, ...]:
    array = np.random.default_rng(5).standard_normal(MODELS[name][1]).astype(np.float32)
    return (Example("x", array),)


def _faulty(name: str) -> nn.Module:
    """A copy with one weight transposed: of an LSTM the recurrent matrix of its first gate."""
    model = copy.deepcopy(_source(name))
    with torch.no_grad():
        weight = dict(model.named_parameters())[MODELS[name][2]]
        part = weight[: weight.shape[1]]
        part.copy_(part.transpose(0, 1).clone())
    return model


def _carried(model: nn.Module, name: str, to: str) -> Any:
    export = converters.export_model(model, given=_given(name))
    return ir.to_proto(export.model) if to == "onnx" else converters.import_model(export.model, to).model


def _named(found: Bisection) -> tuple[str, str]:
    assert found.difference is not None, found.reason
    return found.difference.source.name, found.difference.target.name


@pytest.mark.parametrize("to", ["onnx", "pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize("name", MODELS)
def test_a_transposed_weight_is_named_in_both_models(name: str, to: str) -> None:
    layer = MODELS[name][2].rpartition(".")[0]
    found = bisect(_source(name), _carried(_faulty(name), name, to), _given(name))
    source, target = _named(found)
    assert source == layer
    assert target.removesuffix("/Add") == layer
    assert found.difference is not None
    assert found.difference.inputs
    assert found.status == "failed"


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
@pytest.mark.parametrize("origin", ["tensorflow", "mxnet", "onnx"])
def test_a_fault_is_named_whatever_the_source_is(origin: str, to: str) -> None:
    source = _carried(_source("cnn"), "cnn", origin)
    found = bisect(source, _carried(_faulty("cnn"), "cnn", to), _given("cnn"))
    assert _named(found) == ("middle", "middle")


def test_models_with_equal_outputs_have_no_first_difference() -> None:
    found = bisect(_source("cnn"), _carried(_source("cnn"), "cnn", "onnx"), _given("cnn"))
    assert found.difference is None
    assert found.status == "passed"
    assert "no output differs" in found.to_text()


# ---- graphs whose names say nothing ------------------------------------------------------------------


def _model(
    nodes: list[onnx.NodeProto], weights: dict[str, Any], dims: Any, out: str = "y"
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _chain(prefix: str, slope: float = 0.2) -> onnx.ModelProto:
    """Matrices, a leaky rectifier and a softmax under names that share nothing but the input's and the output's."""
    rng = np.random.default_rng(1)
    weights = {f"{prefix}a": rng.standard_normal((5, 6)), f"{prefix}b": rng.standard_normal((6, 6))}
    nodes = [
        helper.make_node("MatMul", ["x", f"{prefix}a"], [f"{prefix}1"]),
        helper.make_node("LeakyRelu", [f"{prefix}1"], [f"{prefix}2"], alpha=slope),
        helper.make_node("MatMul", [f"{prefix}2", f"{prefix}b"], [f"{prefix}3"]),
        helper.make_node("Tanh", [f"{prefix}3"], ["y"]),
    ]
    return _model(nodes, {name: array.astype(np.float32) for name, array in weights.items()}, ["batch", 5])


def test_without_common_names_order_and_values_find_the_step() -> None:
    found = bisect(_chain("p"), _chain("q", slope=0.25))
    assert found.difference is not None
    assert (found.difference.source.tensor, found.difference.target.tensor) == ("p2", "q2")
    assert found.difference.how == "size and order of execution"
    assert [(pair.source, pair.target) for pair in found.difference.inputs] == [("p1", "q1")]


def test_a_wrong_transposition_of_a_square_is_found_though_it_keeps_all_values() -> None:
    weight = RNG.standard_normal((4, 4)).astype(np.float32)

    def turned(order: list[int]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Tanh", ["x"], ["a"]),
            helper.make_node("Transpose", ["a"], ["b"], perm=order),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ]
        return _model(nodes, {"w": weight}, [3, 4, 4])

    found = bisect(turned([0, 2, 1]), turned([0, 1, 2]))
    assert found.difference is not None
    assert found.difference.source.kind == "Transpose"


def test_a_fused_step_is_met_where_the_steps_of_the_other_side_end() -> None:
    weight, bias = RNG.standard_normal((5, 6)).astype(np.float32), RNG.standard_normal(6).astype(np.float32)
    apart = [
        helper.make_node("MatMul", ["x", "fc.weight"], ["product"], name="fc"),
        helper.make_node("Add", ["product", "fc.bias"], ["sum"], name="fc/Add"),
        helper.make_node("Tanh", ["sum"], ["y"]),
    ]
    fused = [
        helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["z"], name="fc"),
        helper.make_node("Tanh", ["z"], ["y"]),
    ]
    a = _model(apart, {"fc.weight": weight, "fc.bias": bias}, ["batch", 5])
    b = _model(fused, {"fc.weight": weight, "fc.bias": bias[::-1].copy()}, ["batch", 5])
    found = bisect(a, b)
    assert found.difference is not None
    assert found.difference.source.tensor == "sum"
    assert found.difference.source.path == ("MatMul 'fc'", "Add 'fc/Add'")
    assert found.difference.target.tensor == "z"


def test_where_nan_comes_first_is_told() -> None:
    def rooted(offset: float) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Add", ["x", "c"], ["moved"], name="moving"),
            helper.make_node("Sqrt", ["moved"], ["root"], name="rooting"),
            helper.make_node("Mul", ["root", "root"], ["y"], name="squaring"),
        ]
        return _model(nodes, {"c": np.float32(offset)}, ["batch", 5])

    found = bisect(rooted(100.0), rooted(-2.5))
    assert "in the target NaN comes first from Sqrt 'rooting'" in found.notes
    assert _named(found) == ("moving", "moving")


def test_a_target_that_cannot_run_is_a_difference_and_its_last_step_is_told() -> None:
    def reshaped(shape: list[int]) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Tanh", ["x"], ["t"], name="bending"),
            helper.make_node("Reshape", ["t", "s"], ["y"], name="shaping"),
        ]
        return _model(nodes, {"s": np.array(shape)}, ["batch", 5])

    found = bisect(reshaped([0, 5]), reshaped([1, 5]))
    assert found.status == "failed"
    assert found.difference is None
    assert "the target stops" in found.reason


# ---- one step here, several there --------------------------------------------------------------------


ACTIVE = ("conv", "separable", "hidden", "head")


def _keras(fault: str = "") -> Any:
    """Layers with activations of their own; of the layer ``fault`` the first weight is turned round and moved."""
    from netferry.converters.tensorflow.runtime import keras

    layers, rng = keras.layers, np.random.default_rng(13)
    model = keras.Sequential(
        [
            keras.Input((9, 7, 3), name="image"),
            layers.Conv2D(6, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.SeparableConv2D(6, 2, activation="gelu", name="separable"),
            layers.Flatten(name="flatten"),
            layers.Dense(8, activation="tanh", name="hidden"),
            layers.Dense(4, activation="softmax", name="head"),
        ],
        name="net",
    )
    for weight in model.weights:
        weight.assign(rng.standard_normal(weight.shape) / 2)
    if fault:
        weight = model.get_layer(fault).weights[0]
        weight.assign(np.flip(np.asarray(weight), 0) + 0.03)
    return model


IMAGES = (Example("image", np.random.default_rng(5).standard_normal((3, 9, 7, 3)).astype(np.float32)),)


@pytest.mark.parametrize("turned", [False, True], ids=["from-keras", "to-keras"])
@pytest.mark.parametrize("other", ["onnx", "pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize("layer", ACTIVE)
def test_a_layer_with_an_activation_is_held_against_the_step_that_it_is(
    layer: str, other: str, turned: bool, tmp_path: Path
) -> None:
    """What the script shows is what both sides give: before the activation in both, computed here once more."""
    whole = _keras(layer), _keras()
    export = converters.export_model(whole[0] if not turned else whole[1], given=IMAGES)
    elsewhere = (
        ir.to_proto(export.model) if other == "onnx" else converters.import_model(export.model, other).model
    )
    pair = (elsewhere, whole[0]) if turned else (whole[1], elsewhere)
    found = netferry.bisect(*pair, IMAGES, output=tmp_path / "d")
    assert found.difference is not None
    source, target = found.difference.source, found.difference.target
    assert {source.name.split("/")[0].split(".")[-1], target.name.split("/")[0].split(".")[-1]} <= {
        layer,
        "pointwise",
    }
    true = {"source": _before(_keras(), layer), "target": _before(_keras(layer), layer)}
    for side, expected in true.items():
        shown = np.load(tmp_path / "d" / f"{side}.npy")
        held = arranged(expected, shown, views=[expected.shape] if expected.ndim > 2 else ())
        assert held.same, f"{side}: {held.comparison.reason}"
    shown_text = subprocess.run(
        [sys.executable, tmp_path / "d" / "show.py"], capture_output=True, text=True, check=True
    ).stdout
    assert "gives the source's values again" in shown_text or "gives the target's values again" in shown_text
    worst = np.abs(np.load(tmp_path / "d" / "source.npy") - np.load(tmp_path / "d" / "target.npy")).max()
    assert f"the largest error is {worst:.6g}" in shown_text
    for line in shown_text.splitlines():
        if "they differ by" in line:
            assert float(line.rpartition(" ")[2].rstrip(")")) < 1e-4


def _before(model: Any, layer: str) -> Any:
    """What the layer gives before its activation, by Keras alone: its activation is taken away."""
    from netferry.converters.tensorflow.runtime import keras

    at = model.get_layer(layer)
    at.activation = keras.activations.linear
    return np.asarray(keras.Model(model.inputs[0], at.output)(IMAGES[0].array, training=False))


def test_a_keras_layer_gets_its_activation_back() -> None:
    model = _keras()
    before = {layer.name: getattr(layer, "activation", None) for layer in model.layers}
    seen: dict[str, Any] = {}
    stream(model, [IMAGES[0].array], lambda step, tensors: seen.update(dict.fromkeys(tensors, step.kind)))
    assert {layer.name: getattr(layer, "activation", None) for layer in model.layers} == before
    assert seen["conv"] == "Conv2D"
    assert seen["conv/relu"] == "relu"
    assert "pool/linear" not in seen


def _fused(fused: bool, factor: float = 1.0) -> onnx.ModelProto:
    """A convolution and its rectifier as two nodes, or as onnxruntime fuses them."""
    rng = np.random.default_rng(3)
    weights = {
        name: rng.standard_normal((3, 3, 3, 3)).astype(np.float32) for name in ("a.weight", "b.weight")
    }
    weights["b.weight"] *= np.float32(factor)
    nodes = []
    for place, (name, x, y) in enumerate((("a", "x", "t"), ("b", "t", "y"))):
        if fused:
            nodes.append(
                helper.make_node(
                    "FusedConv", [x, f"{name}.weight"], [y], name, domain="com.microsoft", activation="Relu"
                )
            )
        else:
            nodes.append(helper.make_node("Conv", [x, f"{name}.weight"], [f"c{place}"], name))
            nodes.append(helper.make_node("Relu", [f"c{place}"], [y], f"relu{place}"))
    made = _model(nodes, weights, ["batch", 3, 9, 9])
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return made


@pytest.mark.parametrize("turned", [False, True])
def test_a_fused_rectifier_is_met_behind_the_rectifier(turned: bool) -> None:
    pair = (_fused(False), _fused(True, 1.1))
    found = bisect(*(pair[::-1] if turned else pair))
    assert found.difference is not None
    places = {
        found.difference.source.kind: found.difference.source,
        found.difference.target.kind: found.difference.target,
    }
    assert set(places) == {"Relu", "FusedConv"}
    assert places["Relu"].path == ("Conv 'b'", "Relu 'relu1'")
    assert found.difference.comparison.max_rel == pytest.approx(0.1 / (1.1 if turned else 1.0), rel=1e-3)


def test_a_batch_norm_that_was_folded_is_met_behind_it() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3, bias=False)
            self.norm = nn.BatchNorm2d(6)
            self.head = nn.Conv2d(6, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.norm(self.conv(x))))

    torch.manual_seed(5)
    model = Net().eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5 if "var" in key else torch.randn_like(tensor) / 2)
    given = (Example("x", np.random.default_rng(5).standard_normal((2, 3, 9, 9)).astype(np.float32)),)
    folded = ir.to_proto(converters.export_model(model, given=given, fuse=True).model)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu", "Conv"]
    weight = next(one for one in folded.graph.initializer if list(one.dims) == [6, 3, 3, 3])
    wrong = numpy_helper.to_array(weight).copy()
    wrong[2] *= 1.1
    weight.CopyFrom(numpy_helper.from_array(wrong, weight.name))
    found = bisect(model, folded, given)
    assert found.difference is not None
    assert found.difference.source.kind == "BatchNorm2d/batch_norm"
    assert found.difference.target.kind == "Conv"
    assert found.difference.comparison.max_rel is not None
    assert found.difference.comparison.max_rel < 0.2


def test_a_twin_that_is_right_does_not_stand_in_for_the_one_that_is_wrong() -> None:
    """Two layers of one input and equal weights: where one of them is wrong the other equals what it should be."""

    def twins(factor: float) -> onnx.ModelProto:
        weight = np.random.default_rng(3).standard_normal((5, 6)).astype(np.float32)
        nodes = [
            helper.make_node("MatMul", ["x", "left.weight"], ["a"], "left"),
            helper.make_node("Tanh", ["a"], ["c"], "bent"),
            helper.make_node("MatMul", ["x", "right.weight"], ["b"], "right"),
            helper.make_node("Tanh", ["b"], ["d"], "bent again"),
            helper.make_node("Add", ["c", "d"], ["y"], "both"),
        ]
        weights = {"left.weight": weight * np.float32(factor), "right.weight": weight}
        return _model(nodes, weights, ["batch", 5])

    found = bisect(twins(1.0), twins(1.2))
    assert _named(found) == ("left", "left")
    assert found.difference is not None
    assert [(one.source, one.target) for one in found.difference.inputs] == [("x", "x")]


# ---- tensors inside ------------------------------------------------------------------------------------


def _branching() -> onnx.ModelProto:
    """A graph with an If whose branches read from around them, and a constant that is computed."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["t", "two"], ["p"])], "then", [],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Identity", ["t"], ["q"])], "other", [],
        [helper.make_tensor_value_info("q", TensorProto.FLOAT, None)],
    )  # fmt: skip
    nodes = [
        helper.make_node("Add", ["one", "one"], ["two"]),
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "one"], ["many"]),
        helper.make_node("If", ["many"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Sub", ["chosen", "two"], ["y"]),
    ]
    return _model(nodes, {"one": np.float32(1)}, ["batch", 5])


@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_an_onnx_graph_in_pieces_gives_what_the_reference_gives_in_one(budget: int) -> None:
    from netferry.converters.onnx import intermediate
    from netferry.inference.intermediate import _run

    model, seen = _branching(), {}
    x = np.abs(RNG.standard_normal((3, 5))).astype(np.float32)
    intermediate.stream(model, [x], lambda _step, tensors: seen.update(tensors), _run, budget)
    assert list(seen) == ["t", "total", "many", "chosen", "y"]
    whole = copy.deepcopy(model)
    del whole.graph.output[:]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in seen)
    for name, expected in zip(seen, ReferenceEvaluator(whole).run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(seen[name], expected, rtol=1e-6, atol=1e-7)


def test_external_data_stays_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_chain("p"), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    seen: dict[str, Any] = {}
    x = RNG.standard_normal((2, 5)).astype(np.float32)
    stream(path, [x], lambda _step, tensors: seen.update(tensors))
    expected = ReferenceEvaluator(_chain("p")).run(None, {"x": x})[0]
    np.testing.assert_allclose(seen["y"], expected, rtol=1e-5, atol=1e-6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "weights.bin"]


@pytest.mark.parametrize("to", ["pytorch", "tensorflow", "mxnet"])
def test_the_last_tensors_of_a_stream_are_the_models_outputs(to: str) -> None:
    model = _carried(_source("transformer"), "transformer", to)
    x = _given("transformer")[0].array
    seen: dict[str, Any] = {}
    ends = stream(model, [x], lambda _step, tensors: seen.update({n: a.copy() for n, a in tensors.items()}))
    for name, expected in netferry.run(model, [x]).items():
        np.testing.assert_allclose(seen[ends.outputs[name]], expected, rtol=1e-5, atol=1e-6)


def test_a_module_is_left_as_it_was() -> None:
    model = _source("cnn").train()
    before = copy.deepcopy(model.state_dict())
    stream(model, [_given("cnn")[0].array], lambda _step, _tensors: None)
    assert model.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_an_exported_program_and_a_scripted_module_show_their_tensors(tmp_path: Path) -> None:
    model, x = _source("cnn"), _given("cnn")[0].array
    expected = netferry.run(model, [x])["output"]
    torch.jit.trace(model, torch.from_numpy(x)).save(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    for one in (torch.export.export(model, (torch.from_numpy(x),)), torch.jit.load(tmp_path / "model.pt")):  # type: ignore[no-untyped-call]
        seen: dict[str, Any] = {}
        stream(
            one, [x], lambda _step, tensors, seen=seen: seen.update({n: a.copy() for n, a in tensors.items()})
        )
        assert len(seen) >= 7
        np.testing.assert_allclose(list(seen.values())[-1], expected, rtol=1e-5, atol=1e-6)


# ---- arrangements -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "move",
    [
        lambda a: a.transpose(0, 2, 3, 1),
        lambda a: a.reshape(2, -1),
        lambda a: a.transpose(1, 0, 2, 3)[:, None],
        lambda a: a.transpose(0, 2, 3, 1).reshape(2, 20, 3),
    ],
)
def test_a_rearranged_tensor_is_the_same_and_a_changed_one_is_not(move: Any) -> None:
    array = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    assert digest(array).alike(digest(move(array)), 0.0) or np.allclose(digest(array).mean, array.mean())
    assert arranged(array, move(array)).same
    changed = move(array).copy()
    changed.flat[17] += 0.01
    found = arranged(array, changed)
    assert not found.same
    assert np.count_nonzero(found.b != array) == 1


def test_a_square_that_was_transposed_is_not_the_same() -> None:
    array = RNG.standard_normal((2, 4, 4)).astype(np.float32)
    assert not arranged(array, array.transpose(0, 2, 1).copy()).same


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_digest_counts_what_is_not_finite(value: float) -> None:
    array = RNG.standard_normal(600_000).astype(np.float32)
    array[300_000] = value
    one = digest(array)
    assert one.nans + sum(one.infinities) == 1
    np.testing.assert_allclose(one.mean, np.delete(array, 300_000).mean(dtype=np.float64), rtol=1e-9)
    assert not one.alike(digest(np.nan_to_num(array, posinf=0.0, neginf=0.0)), 1.0)


# ---- the reproduction and the command line ------------------------------------------------------------


def test_the_reproduction_shows_the_difference_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "difference"
    source, target = _source("cnn"), _carried(_faulty("cnn"), "cnn", "onnx")
    found = netferry.bisect(source, target, _given("cnn"), output=folder)
    assert {Path(file).name for file in found.files} == {file.name for file in folder.iterdir()}
    with np.load(folder / "target_inputs.npz") as inputs:
        feed = {name: inputs[name] for name in inputs.files}
    part = onnx.load(folder / "target.onnx")
    assert [node.op_type for node in part.graph.node] == ["Conv"]
    again = ReferenceEvaluator(part).run(None, feed)[0]
    np.testing.assert_allclose(np.load(folder / "target.npy"), again, rtol=1e-4, atol=1e-5)
    assert np.abs(np.load(folder / "source.npy") - again).max() > 0.01
    shown = subprocess.run([sys.executable, folder / "show.py"], capture_output=True, text=True, check=True)
    assert "source.onnx on source_inputs.npz gives the source's values again" in shown.stdout
    assert str(tmp_path) not in (folder / "bisect.json").read_text()
    (folder / "README.txt").write_text("mine")
    with pytest.raises(WriteError, match="changed after netferry"):
        netferry.bisect(source, target, _given("cnn"), output=folder)


def test_the_command_line_says_which_step_and_ends_with_one_or_zero(tmp_path: Path) -> None:
    for name, model in (("a", _chain("p")), ("b", _chain("q", slope=0.25))):
        onnx.save(model, tmp_path / f"{name}.onnx")

    def ends(*arguments: str) -> int:
        command = [sys.executable, "-m", "netferry", "bisect", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False).returncode

    assert ends("a.onnx", "b.onnx", "--output", "d") == 1
    assert (
        (tmp_path / "d" / "README.txt").read_text().startswith("a.onnx against b.onnx: the first difference")
    )
    assert ends("a.onnx", "a.onnx") == 0


# ---- memory --------------------------------------------------------------------------------------------

_ONE_PASS = """
import resource, sys
import numpy as np
import netferry.validation.tensors.bisect
from netferry.inference.session import Session
model = Session(sys.argv[1], optimize=False)
model.run([np.ones((1, 16, 512, 512), np.float32)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

_BISECT = """
import resource, sys
import netferry
found = netferry.bisect(sys.argv[1], sys.argv[2])
assert found.difference.source.name == "step900", found.to_text()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _deep(path: Path, fault: int | None = None) -> None:
    """A thousand nodes on tensors of 16 MiB, all of them kept in range by orthogonal weights."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {}, "x"
    for place in range(999):
        if place % 3 == 0:
            weight = np.linalg.qr(rng.standard_normal((16, 16)))[0].astype(np.float32)
            weight = weight.T.copy() if place == fault else weight
            weights[f"w{place}"] = weight[:, :, None, None]
            nodes.append(helper.make_node("Conv", [last, f"w{place}"], [f"v{place}"], name=f"step{place}"))
        elif place % 3 == 1:
            weights[f"w{place}"] = rng.standard_normal((1, 16, 1, 1)).astype(np.float32) / 10
            nodes.append(helper.make_node("Add", [last, f"w{place}"], [f"v{place}"], name=f"step{place}"))
        else:
            nodes.append(
                helper.make_node("LeakyRelu", [last], [f"v{place}"], name=f"step{place}", alpha=0.999)
            )
        last = f"v{place}"
    nodes.append(helper.make_node("GlobalMaxPool", [last], ["y"], name="pool"))
    onnx.save(_model(nodes, weights, [1, 16, 512, 512]), path)


def _peak(code: str, *arguments: Path) -> int:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


@pytest.mark.slow
def test_a_graph_of_a_thousand_nodes_takes_at_most_twice_the_memory_of_one_pass(tmp_path: Path) -> None:
    a, b = tmp_path / "a.onnx", tmp_path / "b.onnx"
    _deep(a)
    _deep(b, fault=900)
    assert _peak(_BISECT, a, b) <= 2 * _peak(_ONE_PASS, a)
