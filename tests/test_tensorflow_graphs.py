"""SavedModels, frozen graphs and TensorFlow 1, read without TensorFlow: each against TensorFlow itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import numpy_helper
from served_models import agree, exported, floats, operators, ran, randomised, served

import netferry
from netferry.converters.artifact import Artifact
from netferry.converters.errors import NetferryError, RefusedError, UnsupportedError, UsageError
from netferry.converters.tensorflow.graphdef import files
from netferry.converters.tensorflow.graphdef.checkpoint import Checkpoint
from netferry.converters.tensorflow.graphdef.graph import Ref, ref_of
from netferry.converters.tensorflow.runtime import keras, quiet, tf
from netferry.converters.trust.snapshot import Snapshot

L = keras.layers

LAYERS: dict[str, tuple[Callable[[Any], Any], tuple[int | None, ...], set[str]]] = {
    "a convolution with its bias": (
        lambda x: L.Conv2D(4, 3, strides=2, padding="same")(x), (9, 8, 3), {"Conv", "Transpose"},
    ),
    "a dilated convolution": (
        lambda x: L.Conv2D(4, 3, dilation_rate=2, padding="same")(x), (9, None, 3), {"Conv", "Transpose"},
    ),
    "a causal convolution": (
        lambda x: L.Conv1D(4, 3, padding="causal", dilation_rate=2)(x), (12, 3), {"Conv", "Transpose", "Pad"},
    ),
    "batch normalization": (
        lambda x: L.BatchNormalization()(x), (5, 4, 3), {"BatchNormalization", "Transpose"},
    ),
    "layer normalization": (lambda x: L.LayerNormalization()(x), (7, 8), {"LayerNormalization"}),
    "gelu": (lambda x: L.Activation("gelu")(x), (7,), {"Gelu"}),
    "prelu": (lambda x: L.PReLU(shared_axes=[1])(x), (7, 4), {"PRelu"}),
    "an lstm": (lambda x: L.LSTM(6, return_sequences=True)(x), (7, 5), {"LSTM", "Squeeze", "Transpose"}),
    "a gru's last state": (lambda x: L.GRU(6)(x), (None, 5), {"GRU", "Squeeze", "Transpose"}),
    "a gru that resets before": (
        lambda x: L.GRU(6, reset_after=False)(x), (7, 5), {"GRU", "Squeeze", "Transpose"},
    ),
    "a simple rnn": (
        lambda x: L.SimpleRNN(6, activation="relu", return_sequences=True)(x), (7, 5), {"RNN", "Squeeze", "Transpose"},
    ),
    "both directions": (
        lambda x: L.Bidirectional(L.LSTM(6, return_sequences=True))(x), (7, 5), {"LSTM", "Reshape", "Transpose"},
    ),
    "both directions' last states": (
        lambda x: L.Bidirectional(L.GRU(6))(x), (7, 5), {"GRU", "Reshape", "Transpose"},
    ),
}  # fmt: skip
"""A layer, its input's sizes, and the operators that it becomes."""


@pytest.mark.parametrize("title", LAYERS)
def test_a_layer_is_found_again_in_a_saved_model(title: str, tmp_path: Path) -> None:
    build, shape, kinds = LAYERS[title]
    path = exported(build, shape, tmp_path)
    done = netferry.convert(path, "onnx", verify=False)
    assert done.route == "direct"
    assert set(operators(done.model)) == kinds
    for batch in (2, 5):
        feeds = {"x": floats(batch, *(size or 6 for size in shape))}
        agree(ran(done.model, feeds), served(path, feeds))


HALVES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "an lstm": (
        lambda x: L.LSTM(5, return_sequences=True, recurrent_initializer="glorot_uniform")(x),
        (7, 4),
    ),
    "attention": (lambda x: L.LayerNormalization()(L.MultiHeadAttention(2, 4)(x, x)), (7, 8)),
    "a convolution": (lambda x: L.BatchNormalization()(L.Conv2D(4, 3, activation="relu")(x)), (9, 8, 3)),
    "a gated unit": (lambda x: L.Dense(4)(L.Dense(6, activation="silu")(x)) + 0.5, (6,)),
}


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "mixed_float16"])
@pytest.mark.parametrize("title", HALVES)
def test_short_floats_of_a_saved_model_arrive(title: str, policy: str, to: str, tmp_path: Path) -> None:
    """What is written of bfloat16 computes in float32, as the same weights do under Keras' own policy of it."""
    build, sizes = HALVES[title]
    models = {}
    for each in ("float32", policy):
        keras.config.set_dtype_policy(each)
        try:
            inputs = keras.Input(sizes, name="x")
            models[each] = keras.Model(inputs, build(inputs))
        finally:
            keras.config.set_dtype_policy("float32")
    source, twin = models[policy], models["float32"]
    randomised(source)
    twin.set_weights([np.asarray(w).astype(np.float32) for w in source.weights])
    source.export(tmp_path / "net", verbose=False)
    done = netferry.convert(tmp_path / "net", to, seed=1)
    assert done.report is not None and done.report.status == "passed"
    assert ("float32" in "".join(done.notes)) == ("bfloat16" in policy)
    for batch in (1, 4):
        x = floats(batch, *sizes)
        wanted, held = np.asarray(twin(x)), np.asarray(source(x)).astype(np.float32)
        if policy == "bfloat16":  # this one rounds what it is given too
            x = x.astype(ml_dtypes.bfloat16).astype(np.float32)
            wanted = np.asarray(twin(x))
        found = next(iter(netferry.run(done.model, {"x": x}).values()))
        scale = np.abs(wanted).max()
        if "bfloat16" in policy:
            assert np.abs(found - wanted).max() <= 2e-6 * scale
        assert np.abs(found.astype(np.float32) - held).max() <= 0.05 * scale


def test_a_fault_shows_in_a_saved_model_of_short_floats(tmp_path: Path) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((7, 4), name="x")
        model = keras.Model(inputs, L.Dense(3, dtype="float32")(L.LSTM(5)(inputs)))
    finally:
        keras.config.set_dtype_policy("float32")
    randomised(model).export(tmp_path / "net", verbose=False)
    done = netferry.convert(tmp_path / "net", "onnx", verify=False)
    weights = done.model.graph.initializer
    recurrent = next(w for w in weights if "recurrent" in w.name)
    array = numpy_helper.to_array(recurrent).copy()
    array[..., :2] *= -1
    recurrent.CopyFrom(numpy_helper.from_array(array, recurrent.name))
    assert netferry.verify(tmp_path / "net", done.model, seed=1).status == "failed"


def test_weights_keep_the_names_of_their_variables(tmp_path: Path) -> None:
    path = exported(lambda x: L.Dense(3, name="head")(L.LSTM(4, name="memory")(x)), (5, 2), tmp_path)
    graph = netferry.convert(path, "onnx", verify=False).model.graph
    names = {tensor.name for tensor in graph.initializer}
    wanted = {f"memory/lstm_cell/{weight}" for weight in ("kernel", "recurrent_kernel", "bias")}
    assert wanted | {"head/kernel", "head/bias"} <= names


def test_a_recurrent_saved_model_becomes_a_recurrent_layer_of_pytorch(tmp_path: Path) -> None:
    import torch

    path = exported(lambda x: L.Bidirectional(L.LSTM(6, return_sequences=True))(x), (7, 5), tmp_path)
    done = netferry.convert(path, "pytorch", quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed"
    assert any(isinstance(layer, torch.nn.LSTM) for layer in done.model.modules())


BLOCKED = """
import importlib.util, sys
known = importlib.util.find_spec

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"tensorflow", "keras", "tf2onnx"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
importlib.util.find_spec = lambda name, package=None: None if name in {"tensorflow", "keras", "tf2onnx"} else known(name, package)
import netferry
for target in ("onnx", "pytorch"):
    done = netferry.convert(sys.argv[1], target, seed=0)
    print(done.route, done.report.status)
"""


def test_tensorflow_is_not_needed(tmp_path: Path) -> None:
    path = exported(lambda x: L.Dense(2)(L.GRU(3)(x)), (4, 2), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["direct not_checked"] * 2


# ---- signatures ------------------------------------------------------------------------------------


class Coder(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = tf.Variable(floats(4, 3), name="down")

    @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x"), tf.TensorSpec([None, 4], name="a")])
    def encode(self, x: Any, a: Any) -> Any:
        return {"code": (x - 2 * a) @ self.down}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="code")])
    def decode(self, code: Any) -> Any:
        return {"y": code @ tf.transpose(self.down)}


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, module = tmp_path_factory.mktemp("coder") / "net", Coder()
    with quiet():
        tf.saved_model.save(module, str(path), signatures={"encode": module.encode, "decode": module.decode})
    return path


def test_the_signature_that_is_named_is_converted(coder: Path) -> None:
    for name, feeds in (
        ("encode", {"x": floats(2, 4), "a": floats(2, 4)}),
        ("decode", {"code": floats(5, 3)}),
    ):
        done = netferry.convert(coder, "onnx", signature=name, verify=False)
        assert [value.name for value in done.model.graph.input] == list(feeds)
        agree(ran(done.model, feeds), served(coder, feeds, name))


def test_without_a_default_a_signature_must_be_named(coder: Path) -> None:
    with pytest.raises(UsageError, match=r"decode, encode.*--signature"):
        netferry.convert(coder, "onnx")
    with pytest.raises(UsageError, match="no such signature"):
        netferry.convert(coder, "onnx", signature="train")


def test_inspect_lists_all_signatures(coder: Path) -> None:
    found = netferry.inspect(coder)
    assert found.signatures == ("decode", "encode")
    assert [spec.name for spec in netferry.inspect(coder, signature="encode").signature.inputs] == ["x", "a"]


# ---- TensorFlow 1 ----------------------------------------------------------------------------------


def old_model(
    path: Path, build: Callable[[Any], Any], shape: list[int | None], *, frozen: bool = False
) -> None:
    v1 = tf.compat.v1
    with quiet(), tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x = v1.placeholder(tf.float32, shape, name="x")
        y = tf.identity(build(x), "y")
        session.run(v1.global_variables_initializer())
        if frozen:
            held = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["y"])
            tf.io.write_graph(held, str(path.parent), path.name, as_text=False)
        else:
            v1.saved_model.simple_save(session, str(path), {"x": x}, {"y": y})


def dense(x: Any) -> Any:
    weight = tf.compat.v1.get_variable("w", [6, 4], use_resource=False)
    bias = tf.compat.v1.get_variable("b", initializer=floats(4), use_resource=False)
    return tf.nn.relu(x @ weight + bias)


def in_parts(x: Any) -> Any:
    parts = tf.compat.v1.fixed_size_partitioner(3)
    return x @ tf.compat.v1.get_variable("w", [6, 4], partitioner=parts, use_resource=False)


@pytest.mark.parametrize("build", [dense, in_parts])
def test_variables_of_tensorflow_1_are_bound(build: Callable[[Any], Any], tmp_path: Path) -> None:
    old_model(tmp_path / "net", build, [None, 6])
    model = netferry.convert(tmp_path / "net", "onnx", verify=False).model
    for batch in (1, 3):
        feeds = {"x": floats(batch, 6)}
        agree(ran(model, feeds), served(tmp_path / "net", feeds))


def test_a_frozen_graph_is_converted_and_verified(tmp_path: Path) -> None:
    old_model(tmp_path / "net.pb", dense, [None, 6], frozen=True)
    done = netferry.convert(tmp_path / "net.pb", "onnx", quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed"
    assert [value.name for value in (*done.model.graph.input, *done.model.graph.output)] == ["x", "y"]
    assert {tensor.name for tensor in done.model.graph.initializer} == {"w", "b"}


def old_recurrence(x: Any) -> Any:
    """x: (batch, 7, 3); a layer as people wrote it by hand."""
    v1 = tf.compat.v1
    kernel, recurrent = v1.get_variable("kernel", [3, 4]), v1.get_variable("recurrent", [4, 4])
    inputs = tf.TensorArray(tf.float32, 7).unstack(tf.transpose(x, [1, 0, 2]))

    def step(place: Any, h: Any, outputs: Any) -> Any:
        h = tf.tanh(inputs.read(place) @ kernel + h @ recurrent)
        return place + 1, h, outputs.write(place, h)

    first = 0, tf.zeros([tf.shape(x)[0], 4]), tf.TensorArray(tf.float32, 7)
    return tf.transpose(v1.while_loop(lambda place, *_: place < 7, step, first)[2].stack(), [1, 0, 2])


def old_loop(x: Any) -> Any:
    return tf.compat.v1.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 1.5 + x), [0, x])[1]


def old_branches(x: Any) -> Any:
    return tf.compat.v1.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: tf.sigmoid(x))


@pytest.mark.parametrize(
    ("build", "kinds"),
    [(old_recurrence, {"RNN", "Squeeze", "Transpose"}), (old_loop, {"Loop"}), (old_branches, {"Where"})],
)
def test_control_flow_of_tensorflow_1_is_followed(
    build: Callable[[Any], Any], kinds: set[str], tmp_path: Path
) -> None:
    v1 = tf.compat.v1
    with quiet():
        v1.disable_control_flow_v2()
        try:
            old_model(tmp_path / "net", build, [None, 7, 3])
        finally:
            v1.enable_control_flow_v2()
    model = netferry.convert(tmp_path / "net", "onnx", verify=False).model
    assert kinds <= set(operators(model))
    for x in (np.abs(floats(2, 7, 3)), -np.abs(floats(4, 7, 3))):
        agree(ran(model, {"x": x}), served(tmp_path / "net", {"x": x}))


@pytest.mark.parametrize("strings", [False, True])
def test_a_table_of_numbers_is_looked_up_and_one_of_strings_refused(strings: bool, tmp_path: Path) -> None:
    class Table(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            keys = tf.constant(["3", "5"] if strings else [3, 5], tf.string if strings else tf.int64)
            held = tf.lookup.KeyValueTensorInitializer(keys, tf.constant([1.5, -2.0]))
            self.table = tf.lookup.StaticHashTable(held, 9.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.int64, name="x")])
        def serve(self, x: Any) -> Any:
            return {"y": self.table.lookup(tf.strings.as_string(x) if strings else x)}

    module, feeds = Table(), {"x": np.asarray([[3, 4], [5, 3]])}
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.serve)
    if strings:
        with pytest.raises(NetferryError):
            netferry.convert(tmp_path / "net", "onnx", verify=False)
        return
    model = netferry.convert(tmp_path / "net", "onnx", verify=False).model
    agree(ran(model, feeds), served(tmp_path / "net", feeds))


# ---- what is refused -------------------------------------------------------------------------------


def test_strings_are_refused_in_one_line(tmp_path: Path) -> None:
    class Words(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
        def serve(self, words: Any) -> Any:
            return tf.strings.length(words)

    module = Words()
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.serve)
    with pytest.raises(NetferryError, match=r"words.*strings"):
        netferry.convert(tmp_path / "net", "onnx")


def test_a_checkpoint_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = exported(lambda x: L.Dense(3)(x), (5,), tmp_path)
    data = next((path / "variables").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(RefusedError, match="damaged"):
        netferry.convert(path, "onnx", verify=False)


@pytest.mark.parametrize("content", [b"", b"x" * 48, bytes(40) + bytes.fromhex("57fb808b247547db")])
def test_an_index_of_something_else_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError):
        Checkpoint(Snapshot("index", content), {})


@pytest.mark.parametrize("name", ["x:t", "x:0:0", "x:-1", "x: 1", "x:²"])
def test_an_output_that_is_named_by_no_number_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match="no number"):
        ref_of(name, "file")
    assert ref_of("x:12", "file") == Ref("x", 12) and ref_of("x", "file") == Ref("x", 0)


def test_an_operator_without_a_row_is_named(tmp_path: Path) -> None:
    old_model(
        tmp_path / "net.pb", lambda x: tf.cast(tf.math.bessel_i0e(x), tf.float32), [None, 6], frozen=True
    )
    with pytest.raises(UnsupportedError, match="BesselI0e"):
        netferry.convert(tmp_path / "net.pb", "onnx")


def test_a_saved_model_is_read_by_the_path_of_its_file(coder: Path) -> None:
    assert set(files.read(Artifact("saved_model", coder)).signatures) == {"encode", "decode"}
    assert netferry.inspect(coder / "saved_model.pb").signatures == ("decode", "encode")


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("size", [(13, 5), (4, 18)])
def test_bicubic_resizing_has_tensorflows_own_table_of_weights(size: tuple[int, int], half: bool) -> None:
    image = tf.TensorSpec((None, 7, 9, 2), tf.float32, name="image")
    resized = tf.function(
        lambda image: tf.raw_ops.ResizeBicubic(images=image, size=size, half_pixel_centers=half), [image]
    )
    done = netferry.convert(resized, "onnx", verify=False)
    for batch in (1, 3):
        x = np.random.default_rng(batch).normal(size=(batch, 7, 9, 2)).astype(np.float32)
        [made] = netferry.run(done.model, [x]).values()
        np.testing.assert_allclose(made, resized(x).numpy(), rtol=0, atol=3e-6)
