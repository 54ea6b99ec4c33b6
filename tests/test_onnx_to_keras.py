"""ONNX to Keras and TensorFlow: real layers, channels-last, alive, legible, and loadable where netferry is not."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from keras_models import distance
from models import model as small
from onnx import TensorProto, helper
from torch import nn

from netferry.converters import export_model
from netferry.converters.artifact import look
from netferry.converters.errors import UnsupportedError
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.imported import ImportedModel
from netferry.converters.onnx.signature import signature
from netferry.converters.signature import Example
from netferry.converters.tensorflow import files, live
from netferry.converters.tensorflow.from_onnx import from_onnx
from netferry.converters.tensorflow.runtime import keras, tf

CLOSE = 2e-6


def arrived(proto: onnx.ModelProto, name: str = "model") -> ImportedModel:
    return from_onnx(plan(proto), signature(proto), name=name)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """In eval mode, with statistics that are not those of a new BatchNorm."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.3, generator=generator)
    return module.eval()


def from_torch(
    module: nn.Module, example: Any, free: dict[int, str]
) -> tuple[onnx.ModelProto, ImportedModel]:
    proto = ir.to_proto(
        export_model(module, given=[Example("x", np.asarray(example), free, asked=True)]).model
    )
    return proto, arrived(proto)


def expected(proto: onnx.ModelProto, *arrays: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], arrays, strict=True)))


def worst(proto: onnx.ModelProto, model: Any, *arrays: np.ndarray) -> float:
    names = [value.name for value in proto.graph.output]
    received = live.run(model, arrays)
    assert set(received) == set(names)
    return max(distance(a, received[n]) for n, a in zip(names, expected(proto, *arrays), strict=True))


def drawn(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8, eps=1e-3, momentum=0.3)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8 * 4 * 4, 5)

    def forward(self, x: Any) -> Any:
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(x + self.conv2(x), 1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(16, 5, batch_first=True)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(self.gru(self.lstm(x)[0])[0])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.position = nn.Parameter(torch.zeros(1, 32, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(self.encoder(self.embedding(x) + self.position[:, : x.shape[1]]))


def tokens(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, 20, (batch, length))


NETS: dict[str, tuple[Any, Any, dict[int, str]]] = {
    "cnn": (Residual, lambda batch, length: drawn(batch, 3, 16, 16, seed=length), {0: "batch"}),
    "recurrent": (Recurrent, lambda batch, length: drawn(batch, length, 6), {0: "batch", 1: "length"}),
    "encoder": (Encoder, tokens, {0: "batch", 1: "length"}),
}


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> tuple[nn.Module, Any, onnx.ModelProto, ImportedModel]:
    make, inputs, free = NETS[request.param]
    module = randomised(make())
    return module, inputs, *from_torch(module, inputs(2, 7), free)


def test_a_net_arrives_as_a_functional_model_right_at_every_batch_and_length(net: Any) -> None:
    _, inputs, proto, imported = net
    assert imported.form == "functional"
    assert max(worst(proto, imported.model, inputs(*sizes)) for sizes in ((1, 1), (2, 7), (5, 12))) < CLOSE


def test_every_weight_is_trainable_and_keeps_its_path(net: Any) -> None:
    module, _, _, imported = net
    paths = {variable.path for variable in imported.model.weights}
    assert set(imported.names.values()) <= paths
    trained = {variable.path for variable in imported.model.trainable_variables}
    named = {imported.names[name] for name, _ in module.named_parameters() if name in imported.names}
    assert named
    assert named <= trained
    assert len(trained) == len(imported.model.trainable_variables)


def test_a_keras_file_loads_in_safe_mode_where_netferry_is_not(net: Any, tmp_path: Path) -> None:
    _, inputs, _, imported = net
    path, data = tmp_path / "net.keras", tmp_path / "x.npy"
    files.write(imported, path)
    np.save(data, inputs(3, 5))
    code = (
        "import sys, numpy as np, keras\n"
        f"model = keras.saving.load_model({str(path)!r}, safe_mode=True)\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, np.asarray(model(np.load({str(data)!r}))))\n"
        "assert not any(name.startswith('netferry') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
    assert np.array_equal(
        np.load(tmp_path / "y.npy"), next(iter(live.run(imported.model, [inputs(3, 5)]).values()))
    )


def test_the_same_model_gives_the_same_keras_file(tmp_path: Path) -> None:
    proto = small([node("Relu", "x")], {"x": ["batch", 3]}, {"y": ["batch", 3]})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        files.write(arrived(proto), tmp_path / name / "m.keras")
    assert (tmp_path / "a" / "m.keras").read_bytes() == (tmp_path / "b" / "m.keras").read_bytes()


def test_a_saved_model_serves_the_names_of_onnx(net: Any, tmp_path: Path) -> None:
    _, inputs, proto, imported = net
    files.write(imported, tmp_path / "net")
    loaded = files.read(look(tmp_path / "net"))
    assert worst(proto, loaded, inputs(3, 4)) < CLOSE


def test_gradients_are_those_of_the_source(net: Any) -> None:
    module, inputs, _, imported = net
    x = inputs(3, 5)
    torch.square(module(torch.from_numpy(x))).sum().backward()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(imported.model(x, training=False)))
    variables = {variable.path: variable for variable in imported.model.trainable_variables}
    found = tape.gradient(loss, [variable.value for variable in variables.values()])
    gradients = dict(zip(variables, (np.asarray(tf.convert_to_tensor(g)) for g in found), strict=True))
    checked = 0
    for name, parameter in module.named_parameters():
        path = imported.names.get(name, "")
        if path not in gradients or gradients[path].size != parameter.numel() or parameter.grad is None:
            continue
        want = parameter.grad.numpy()
        scale = np.abs(want).max() + 1e-6
        assert abs(np.abs(gradients[path]).sum() - np.abs(want).sum()) < 1e-3 * scale * want.size
        checked += 1
    assert checked >= 3


def test_a_net_learns_on(net: Any) -> None:
    _, inputs, _, imported = net
    model = keras.models.clone_model(imported.model)
    model.set_weights(imported.model.get_weights())
    x = inputs(8, 5)
    target = np.zeros_like(np.asarray(model(x)))
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse")
    losses = model.fit(x, target, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


# ---- layout ---------------------------------------------------------------------------------------------


def test_a_cnn_has_one_transpose_at_its_input() -> None:
    _, imported = from_torch(randomised(Residual()), drawn(2, 3, 16, 16), {0: "batch"})
    traced = tf.function(imported.model).get_concrete_function(tf.TensorSpec([None, 3, 16, 16], tf.float32))
    assert Counter(op.type for op in traced.graph.get_operations())["Transpose"] == 1


def test_a_two_layer_lstm_has_no_transpose_of_its_own() -> None:
    _, imported = from_torch(randomised(Recurrent()), drawn(2, 7, 6), {0: "batch", 1: "length"})
    assert "transpose(" not in imported.source


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "op", ["Softmax", "ReduceSum", "Concat", "Slice", "Gather", "Pad", "Flatten", "Split"]
)
def test_an_axis_after_a_convolution_is_the_readers_axis(op: str, axis: int) -> None:
    """The convolution leaves its output channels-last; every size differs, so a wrong axis shows."""
    axes = np.array([axis], np.int64)
    after: dict[str, tuple[list[str], dict[str, Any]]] = {
        "Softmax": (["c"], {"axis": axis}),
        "ReduceSum": (["c", "axes"], {"keepdims": axis % 2}),
        "Concat": (["c", "c"], {"axis": axis}),
        "Slice": (["c", "one", "two", "axes"], {}),
        "Gather": (["c", "one"], {"axis": axis}),
        "Pad": (["c", "pads"], {}),
        "Flatten": (["c"], {"axis": axis}),
        "Split": (["c", "halves"], {"axis": axis}),
    }
    size = (2, 4, 6, 8)[axis]
    pads = np.zeros(8, np.int64)
    pads[axis] = 1
    inputs, attributes = after[op]
    outputs = ["y", "z"] if op == "Split" else ["y"]
    proto = small(
        [node("Conv", "x w", "c", pads=[1, 1, 1, 1]), helper.make_node(op, inputs, outputs, **attributes)],
        {"x": [2, 3, 6, 8]},
        {name: [None] * (2 if op == "Flatten" else 4 if op != "ReduceSum" or axis % 2 else 3) for name in outputs},  # type: ignore[list-item]
        {
            "w": drawn(4, 3, 3, 3), "axes": axes, "one": np.array([1], np.int64), "two": np.array([2], np.int64),
            "pads": pads, "halves": np.array([1, size - 1], np.int64),
        },
    )  # fmt: skip
    assert worst(proto, arrived(proto).model, drawn(2, 3, 6, 8)) < CLOSE


# ---- defaults that differ --------------------------------------------------------------------------------


def test_an_einsum_in_capital_letters_leaves_a_free_axis_free() -> None:
    class Product(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum(x, [0, 1, 2], torch.arange(12.0).view(3, 4), [2, 3], [3, 0, 1])

    _, found = from_torch(Product(), np.zeros((2, 5, 3), "f"), {0: "b", 1: "t"})
    for shape in ((2, 5, 3), (4, 7, 3)):
        x = np.random.default_rng(shape[0]).standard_normal(shape).astype(np.float32)
        (got,) = live.run(found.model, [x]).values()
        np.testing.assert_allclose(got, np.einsum("btc,cd->dbt", x, np.arange(12.0).reshape(3, 4)), rtol=1e-5)


def test_batch_normalization_keeps_epsilon_momentum_and_statistics() -> None:
    _, imported = from_torch(randomised(Residual()), drawn(2, 3, 16, 16), {0: "batch"})
    layer = imported.model.get_layer("bn1")
    assert (round(layer.epsilon, 6), round(layer.momentum, 6)) == (1e-3, 0.7)
    before = np.array(layer.moving_mean)
    imported.model(drawn(4, 3, 16, 16), training=True)
    assert not np.array_equal(before, np.asarray(layer.moving_mean))
    assert any("biased variance" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("pads", "strides", "dilations"),
    [([1, 1, 1, 1], [2, 2], [1, 1]), ([0, 1, 2, 1], [1, 1], [1, 1]), ([2, 2, 2, 2], [1, 1], [2, 2]), ([0, 0, 1, 1], [2, 2], [1, 1]),
     ([1, 2, 1, 0], [2, 3], [2, 1])],
)  # fmt: skip
@pytest.mark.parametrize("size", [7, 8])
def test_padding_of_a_convolution_is_onnxs(pads: Any, strides: Any, dilations: Any, size: int) -> None:
    proto = small(
        [node("Conv", "x w b", pads=pads, strides=strides, dilations=dilations)],
        {"x": ["batch", 3, "height", "width"]},
        {"y": ["batch", 4, "h", "w_out"]},
        {"w": drawn(4, 3, 3, 3), "b": drawn(4)},
    )
    assert worst(proto, arrived(proto).model, drawn(2, 3, size, size + 1)) < CLOSE


DILATED = {
    "series": (1, {"dilations": [3], "pads": [1, 4]}),
    "cut deeper than the kernel reaches": (1, {"dilations": [2], "pads": [5, 6]}),
    "image": (2, {"dilations": [2, 3], "pads": [1, 0, 2, 1]}),
    "padded behind": (2, {"dilations": [2, 3], "pads": [1, 0, 2, 1], "output_padding": [1, 2]}),
    "along one axis": (2, {"dilations": [1, 2]}),
    "groups": (2, {"dilations": [2, 2], "group": 2}),
    "depthwise": (2, {"dilations": [2, 2], "group": 4, "pads": [2, 1, 0, 3]}),
    "same": (2, {"dilations": [2, 2], "auto_pad": "SAME_UPPER"}),
    "volume": (3, {"dilations": [2, 1, 2], "pads": [0, 1, 0, 2, 0, 1]}),
}
"""Spatial axes and attributes of transposed convolutions that TensorFlow's own kernels for the CPU do not know.

onnxruntime pads none of them behind; PyTorch does.
"""


def dilated(name: str, computed: bool = False) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one ConvTranspose over x: (batch, 4, *space) and its weights, as inputs too where ``computed``."""
    rank, attributes = DILATED[name]
    filters = 3
    weights = {
        "w": drawn(4, filters, *(3, 2, 3)[:rank]),
        "b": drawn(filters * attributes.get("group", 1), seed=2),
    }
    sizes = ["depth", "height", "width"][-rank:]
    inputs = {
        "x": ["batch", 4, *sizes],
        **({k: list(v.shape) for k, v in weights.items()} if computed else {}),
    }
    outputs = {"y": ["batch", len(weights["b"]), *(f"{size}_out" for size in sizes)]}
    return small(
        [node("ConvTranspose", "x w b", **attributes)], inputs, outputs, {} if computed else weights
    ), weights


@pytest.mark.parametrize("computed", [False, True], ids=["weights", "computed"])
@pytest.mark.parametrize("name", [name for name in DILATED if name != "padded behind"])
def test_a_dilated_transposed_convolution_runs_on_every_processor(name: str, computed: bool) -> None:
    proto, weights = dilated(name, computed)
    model = arrived(proto).model
    for batch, size in ((1, 8), (3, 9)):
        x = drawn(batch, 4, *(size, size + 1, size - 1)[: DILATED[name][0]])
        assert worst(proto, model, x, *(weights.values() if computed else ())) < CLOSE


@pytest.mark.parametrize("name", [name for name in DILATED if name != "same"])
def test_a_step_takes_a_dilated_transposed_convolution_where_it_takes_the_sources(name: str) -> None:
    proto, weights = dilated(name)
    rank, attributes = DILATED[name]
    x = drawn(2, 4, *(8, 9, 7)[:rank])
    pads = attributes.get("pads", [0] * (2 * rank))
    crop = (
        slice(None),
        slice(None),
        *(slice(a, -b or None) for a, b in zip(pads[:rank], pads[rank:], strict=True)),
    )
    kept = {k: torch.from_numpy(v).requires_grad_() for k, v in weights.items()}

    def run() -> Any:
        transposed = getattr(nn.functional, f"conv_transpose{rank}d")
        settings = {"groups": attributes.get("group", 1), "dilation": attributes["dilations"]}
        settings["output_padding"] = attributes.get("output_padding", 0)
        return transposed(torch.from_numpy(x), kept["w"], kept["b"], **settings)[crop]

    torch.square(run()).mean().backward()
    model = arrived(proto).model
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(x, training=True)))
    variables = [variable.value for variable in model.trainable_variables]
    assert sum(int(tf.size(v)) for v in variables) == sum(v.size for v in weights.values())
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.5 * gradient)
    before = run().detach().numpy()
    with torch.no_grad():
        for tensor in kept.values():
            tensor -= 0.5 * tensor.grad
    assert distance(before, run().detach().numpy()) > 0.01
    assert distance(run().detach().numpy(), np.asarray(model(x))) < 10 * CLOSE


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("ceil_mode", [0, 1])
def test_an_average_counts_what_onnx_counts(include: int, ceil_mode: int) -> None:
    kept = {"count_include_pad": include, "ceil_mode": ceil_mode}
    pool = node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 1], **kept)
    proto = small([pool], {"x": ["batch", 2, 6, 8]}, {"y": ["batch", 2, "h", "w"]})
    assert worst(proto, arrived(proto).model, drawn(3, 2, 6, 8) + 3) < CLOSE


@pytest.mark.parametrize(
    "operator", ["MaxPool", "AveragePool", "AveragePool of what is padded"], ids=lambda name: name.split()[-1]
)
@pytest.mark.parametrize("kernel, stride, pad", [(2, 2, 0), (3, 2, 1), (3, 3, 0), (5, 3, 2), (4, 2, 1)])
def test_a_pool_that_rounds_up_is_right_at_every_size(
    operator: str, kernel: int, stride: int, pad: int
) -> None:
    """Also along axes whose size is not known before it runs."""
    kind, _, padded = operator.partition(" ")
    more = {"count_include_pad": 1} if padded else {}
    settings = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [pad] * 4}
    pool = node(kind, "x", ceil_mode=1, **settings, **more)
    proto = small([pool], {"x": ["batch", 2, "h", "w"]}, {"y": ["batch", 2, "high", "wide"]})
    model = arrived(proto).model
    for batch, height, width in ((2, 8, 9), (3, 7, 12), (1, 5, 10), (2, 13, 6)):
        assert worst(proto, model, drawn(batch, 2, height, width) - 2) < CLOSE


RESIZED: dict[str, dict[str, str]] = {
    "corners": {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    "between": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "between, first of one": {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    "left": {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "nearest centre": {"mode": "nearest", "nearest_mode": "round_prefer_floor"},
}


@pytest.mark.parametrize("name", RESIZED)
def test_an_image_is_resized_to_the_size_of_another_whatever_that_is(name: str) -> None:
    """As what a network of segmentation or a pyramid of features does, with a free height and width."""
    nodes = [
        node("Shape", "x", "kept", end=2),
        node("Shape", "like", "space", start=2),
        node("Concat", "kept space", "sizes", axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **RESIZED[name]),
    ]
    inputs = {"x": ["batch", 3, "h", "w"], "like": ["batch", 1, "high", "wide"]}
    proto = small(nodes, inputs, {"y": ["batch", 3, "high", "wide"]})
    model = arrived(proto).model
    for batch, (height, width), other in ((2, (6, 9), (12, 18)), (1, (7, 5), (3, 11)), (3, (4, 8), (1, 8))):
        assert worst(proto, model, drawn(batch, 3, height, width), drawn(batch, 1, *other)) < CLOSE


@pytest.mark.parametrize("by", [(1.5, 0.5), (2.0, 1.25), (0.75, 3.0)], ids=str)
@pytest.mark.parametrize("name", ["between", "nearest"])
def test_an_image_of_any_size_is_resized_by_factors_that_are_not_whole(
    name: str, by: tuple[float, float]
) -> None:
    scales = {"scales": np.array([1, 1, *by], np.float32)}
    resize = helper.make_node("Resize", ["x", "", "scales"], ["y"], **RESIZED[name])
    proto = small([resize], {"x": ["batch", 3, "h", "w"]}, {"y": ["batch", 3, "high", "wide"]}, scales)
    model = arrived(proto).model
    for batch, height, width in ((2, 8, 6), (1, 7, 9), (3, 5, 4)):
        assert worst(proto, model, drawn(batch, 3, height, width)) < CLOSE


def test_a_maximum_of_negative_numbers_is_not_the_padding() -> None:
    proto = small(
        [node("MaxPool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])],
        {"x": [1, 2, 5, 5]},
        {"y": [1, 2, 5, 5]},
    )
    assert worst(proto, arrived(proto).model, -np.abs(drawn(1, 2, 5, 5)) - 1) < CLOSE


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_keeps_its_form(approximate: str) -> None:
    proto = small([node("Gelu", "x", approximate=approximate)], {"x": ["batch", 200]}, {"y": ["batch", 200]})
    assert (
        worst(proto, arrived(proto).model, np.linspace(-4, 4, 400, dtype=np.float32).reshape(2, 200)) < CLOSE
    )


@pytest.mark.parametrize("after", [0, 1])
def test_a_gru_resets_where_onnx_does(after: int) -> None:
    weights = {"w": drawn(1, 12, 3), "r": drawn(1, 12, 4, seed=2), "b": drawn(1, 24, seed=3)}
    proto = small(
        [node("GRU", "x w r b", hidden_size=4, linear_before_reset=after)],
        {"x": ["time", "batch", 3]},
        {"y": ["time", 1, "batch", 4]},
        weights,
    )
    imported = arrived(proto)
    assert imported.form == "functional"
    assert worst(proto, imported.model, drawn(5, 2, 3)) < CLOSE


def test_an_integer_quotient_goes_toward_zero() -> None:
    proto = small([node("Div", "a b")], {"a": [4], "b": [4]}, {"y": [4]}, dtype=TensorProto.INT32)
    a, b = np.array([-7, 7, -7, 6], np.int32), np.array([2, -2, -2, 3], np.int32)
    assert live.run(arrived(proto).model, [a, b])["y"].tolist() == [-3, -3, 3, 2]


def test_a_negative_index_counts_from_the_end() -> None:
    proto = small(
        [node("Gather", "w x")], {"x": ["batch"]}, {"y": ["batch", 3]}, {"w": drawn(4, 3)}, TensorProto.FLOAT
    )
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    assert worst(proto, arrived(proto).model, np.array([-1, 0, 3, -4])) < CLOSE


@pytest.mark.parametrize("shapes", [((3, 4, 4), (1, 4, 1)), ((2, 8, 5, 5), (8, 1, 1)), ((4, 8, 1, 4), (4, 1, 1, 1)),
                                    ((1, 4, 1), (1, 1, 4)), ((4, 4), (4, 1)), ((2, 4), (1, 1, 4))])  # fmt: skip
def test_a_sum_is_not_taken_for_a_bias(shapes: Any) -> None:
    """``keras.ops.add`` squeezes a second operand that looks like a bias, and adds it along another axis."""
    a, b = shapes
    proto = small([node("Add", "a b")], {"a": a, "b": b}, {"y": [None] * max(map(len, shapes))})  # type: ignore[list-item]
    assert worst(proto, arrived(proto).model, drawn(*a), drawn(*b, seed=2)) < CLOSE


def test_a_sum_is_not_taken_for_a_bias_when_the_batch_is_the_number_of_heads() -> None:
    proto = small(
        [node("Add", "a b")],
        {"a": ["batch", 4, "length", "length"], "b": ["batch", 1, 1, "length"]},
        {"y": ["batch", 4, "length", "length"]},
    )
    model = arrived(proto).model
    for batch, length in ((4, 1), (1, 4), (4, 4), (2, 3)):
        assert (
            worst(proto, model, drawn(batch, 4, length, length), drawn(batch, 1, 1, length, seed=2)) < CLOSE
        )


@pytest.mark.parametrize("dtype", [TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_a_model_keeps_its_precision(dtype: int) -> None:
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    proto = small(
        [node("Gemm", "x w b", "h"), node("Tanh", "h")],
        {"x": ["batch", 3]},
        {"y": ["batch", 4]},
        {"w": drawn(3, 4).astype(kind), "b": drawn(4).astype(kind)},
        dtype,
    )
    model = arrived(proto).model
    assert {variable.dtype for variable in model.weights} == {kind.name}
    assert live.run(model, [drawn(2, 3).astype(kind)])["y"].dtype == kind
    assert worst(proto, model, drawn(2, 3).astype(kind)) < (1e-14 if kind == np.float64 else 2e-3)


# ---- what a functional model cannot hold -----------------------------------------------------------------


def late() -> onnx.ModelProto:
    """A branch that depends on a value."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(op, ["x"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])],
        )
        for name, op in (("then", "Relu"), ("otherwise", "Neg"))
    }
    zero = np.zeros((), np.float32)
    return small(
        [
            node("ReduceSum", "x", "sum", keepdims=0),
            node("Greater", "sum zero", "positive"),
            helper.make_node(
                "If", ["positive"], ["h"], then_branch=branches["then"], else_branch=branches["otherwise"]
            ),
            node("Gemm", "h w", "y"),
        ],
        {"x": ["batch", 3]},
        {"y": ["batch", 4]},
        {"zero": zero, "w": drawn(3, 4)},
    )


def test_a_branch_arrives_as_a_model_with_its_own_source(tmp_path: Path) -> None:
    proto = late()
    imported = arrived(proto)
    assert imported.form == "function"
    assert imported.model.trainable_variables
    for sign in (1, -1):
        assert worst(proto, imported.model, sign * np.abs(drawn(5, 3))) < CLOSE
    with pytest.raises(UnsupportedError, match="SavedModel"):
        files.write(imported, tmp_path / "m.keras")
    files.write(imported, tmp_path / "m")
    assert worst(proto, files.read(look(tmp_path / "m")), -np.abs(drawn(4, 3))) < CLOSE


def test_a_model_with_its_own_source_learns_on() -> None:
    model = arrived(late()).model
    model.compile(optimizer="sgd", loss="mse")
    losses = model.fit(drawn(8, 3), np.zeros((8, 4), np.float32), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_what_nobody_carries_is_refused_by_name() -> None:
    proto = small(
        [helper.make_node("NoSuch", ["x"], ["y"], name="odd", domain="else")], {"x": [1]}, {"y": [1]}
    )
    with pytest.raises(UnsupportedError, match="odd"):
        arrived(proto)


# ---- source and names ---------------------------------------------------------------------------------------


def test_the_source_reads_like_a_model() -> None:
    _, imported = from_torch(randomised(Residual()), drawn(2, 3, 16, 16), {0: "batch"})
    body = imported.source.split("def build():\n")[1].split("\n\n")[0]
    lines = [line.strip() for line in body.splitlines()]
    assert "layers.Conv2D(8, 3, strides=2, use_bias=False, name='conv1')" in body
    assert "layers.BatchNormalization(epsilon=0.001, momentum=0.7, name='bn1')" in body
    assert "layers.DepthwiseConv2D(3, padding='same', name='conv2')" in body
    assert "layers.Dense(5, name='fc')" in body
    assert lines[-1].startswith("return keras.Model(")


def test_the_source_runs_where_netferry_is_not(tmp_path: Path) -> None:
    proto, imported = from_torch(randomised(Residual()), drawn(2, 3, 16, 16), {0: "batch"})
    imported.write_source(tmp_path / "net.py")
    np.save(tmp_path / "x.npy", drawn(3, 3, 16, 16))
    code = "import sys, numpy as np, net\nnp.save('y.npy', np.asarray(net.load()(np.load('x.npy'))))\nassert 'netferry' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)
    assert distance(expected(proto, drawn(3, 3, 16, 16))[0], np.load(tmp_path / "y.npy")) < CLOSE


def test_writing_a_program_needs_no_tensorflow() -> None:
    code = (
        "import sys, onnx, onnx.helper as h\n"
        "from netferry.converters.graph.passes.normalize import plan\n"
        "from netferry.converters.onnx.signature import signature\n"
        "from netferry.converters.tensorflow.from_onnx import from_onnx\n"
        "v = lambda n: h.make_tensor_value_info(n, 1, ['b', 3])\n"
        "m = h.make_model(h.make_graph([h.make_node('Relu', ['x'], ['y'])], 'g', [v('x')], [v('y')]))\n"
        "assert 'relu' in from_onnx(plan(m), signature(m)).source\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


HOSTILE = ["x'); import os; os._exit(3) #", "a/b:0", "class", "add_1", "input.1", "ä ß", "ops", ""]


@pytest.mark.parametrize("name", HOSTILE[:-1])
def test_a_hostile_name_is_only_a_name(name: str) -> None:
    proto = small(
        [
            helper.make_node("Gemm", [name, f"{name}.weight"], ["h"], name=name),
            helper.make_node("Relu", ["h"], [f"{name}_out"]),
        ],
        {name: ["batch", 3]},
        {f"{name}_out": ["batch", 4]},
        {f"{name}.weight": drawn(3, 4)},
    )
    imported = arrived(proto, name)
    assert worst(proto, imported.model, drawn(2, 3)) < CLOSE


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_reflection_by_pads_that_are_data_takes_any_size(size: int) -> None:
    nodes = [helper.make_node("Pad", ["x", "pads"], ["y"], mode="reflect")]
    proto = small(nodes, {"x": ("n", size), "pads": (4,)}, {"y": (None, None)})
    proto.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    module = arrived(proto).model
    for batch, pads in ((3, [0, 0, 0, 0]), (2, [1, size - 1, 1, 0]), (4, [0, 0, 3, size - 1])):
        x = np.random.default_rng(batch).normal(size=(batch, size)).astype(np.float32)
        (y,) = live.run(module, [x, np.array(pads, np.int64)]).values()
        assert np.array_equal(y, np.pad(x, ((pads[0], pads[2]), (pads[1], pads[3])), mode="reflect"))


def test_a_weight_that_serves_two_nodes_is_one_layer() -> None:
    proto = small(
        [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("Gemm", "r w b", "y")],
        {"x": ["batch", 3]}, {"y": ["batch", 3]}, {"w": drawn(3, 3), "b": drawn(3)},
    )  # fmt: skip
    model = arrived(proto).model
    assert len(model.trainable_variables) == 2
    assert worst(proto, model, drawn(2, 3)) < CLOSE


class TwoSides(nn.Module):
    """Attention whose queries and keys see where they stand, and whose values do not: three parts of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        placed = x + torch.arange(x.shape[1]).sin()[None, :, None]
        return self.attention(placed, placed, x, need_weights=False)[0]


@pytest.mark.parametrize("free", [{0: "batch"}, {0: "batch", 1: "length"}])
def test_parts_of_one_weight_are_layers_of_their_own(free: dict[int, str]) -> None:
    module = randomised(TwoSides())
    proto, model = from_torch(module, np.zeros((2, 5, 8), np.float32), free)
    for batch, length in ((2, 5), (3, 7 if 1 in free else 5)):
        assert worst(proto, model.model, drawn(batch, length, 8)) < CLOSE


def test_weights_come_home_bit_for_bit() -> None:
    """Keras to ONNX and back."""
    source = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, padding="same", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(5, name="out"),
        ]
    )
    proto = ir.to_proto(export_model(source).model)
    imported = arrived(proto)
    home = {variable.path: np.asarray(variable) for variable in imported.model.weights}
    for variable in source.weights:
        assert np.array_equal(home[imported.names[variable.path]], np.asarray(variable)), variable.path
