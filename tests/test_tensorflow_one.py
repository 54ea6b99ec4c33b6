"""Graphs of TensorFlow 1 in the forms in which people keep them, verified against TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import agree, floats, operators, ran

import netferry
from netferry.converters.errors import NetferryError
from netferry.converters.tensorflow.runtime import convert_to_constants, quiet, tf

v1 = tf.compat.v1
Tensors = Mapping[str, Any]


@pytest.fixture(autouse=True)
def _as_in_tensorflow_1() -> Iterator[None]:
    v1.disable_control_flow_v2()
    yield
    v1.enable_control_flow_v2()


def kept(
    path: Path,
    build: Callable[[], tuple[Tensors, Tensors]],
    feeds: Mapping[str, np.ndarray],
    signatures: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, np.ndarray]:
    """Write what ``build`` makes as a frozen ``.pb``, a ``.ckpt`` or a SavedModel; what it gives for the feeds."""
    with quiet(), tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        inputs, outputs = build()
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        rng = np.random.default_rng(3)
        for variable in v1.global_variables():
            if variable.dtype.base_dtype == tf.float32:
                session.run(variable.assign(np.abs(rng.normal(0.6, 0.3, variable.shape)).astype("f4")))
        computed = {name: y for name, y in outputs.items() if y.dtype != tf.string}
        wanted = session.run(computed, {inputs[name]: array for name, array in feeds.items()})
        if path.suffix == ".pb":
            ends = [y.op.name for y in outputs.values()]
            held = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ends)
            tf.io.write_graph(held, str(path.parent), path.name, as_text=False)
        elif path.suffix == ".ckpt":
            v1.train.Saver().save(session, str(path))
        elif signatures is None:
            v1.saved_model.simple_save(session, str(path), inputs, outputs)
        else:
            _served(path, session, signatures, inputs, outputs)
    return dict(wanted)


def _served(path: Path, session: Any, signatures: Any, inputs: Tensors, outputs: Tensors) -> None:
    def info(tensors: Tensors, names: str) -> dict[str, Any]:
        return {name: v1.saved_model.utils.build_tensor_info(tensors[name]) for name in names.split()}

    made = {
        key: v1.saved_model.signature_def_utils.build_signature_def(info(inputs, taken), info(outputs, given), "predict")
        for key, (taken, given) in signatures.items()
    }  # fmt: skip
    builder = v1.saved_model.builder.SavedModelBuilder(str(path))
    builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=made)
    builder.save()


# ---- a network that can train, kept as it is used -----------------------------------------------------


def convolved(x: Any, training: Any) -> Any:
    """A convolution and its normalization in one scope, which the flag switches to the statistics of the batch."""
    with v1.variable_scope("conv"):
        y = tf.nn.conv2d(x, v1.get_variable("weights", [3, 3, 3, 4]), 1, "SAME")
        gamma, beta, mean, variance = (
            v1.get_variable(name, [4]) for name in ("gamma", "beta", "mean", "variance")
        )
        y, now, spread = v1.cond(
            training,
            lambda: v1.nn.fused_batch_norm(y, gamma, beta)[:3],
            lambda: v1.nn.fused_batch_norm(y, gamma, beta, mean, variance, is_training=False)[:3],
        )
        for held, new in ((mean, now), (variance, spread)):
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, v1.assign(held, 0.9 * held + 0.1 * new))
    return tf.nn.relu(y)


def dropped(x: Any, keep: Any, old: bool) -> Any:
    """``tf.nn.dropout`` of today, and as TensorFlow 1.12 wrote it."""
    if not old:
        return v1.nn.dropout(x, keep_prob=keep)
    return x / keep * tf.floor(keep + v1.random_uniform(tf.shape(x)))


def classifier(old: bool) -> tuple[Tensors, Tensors]:
    x = v1.placeholder(tf.float32, [None, 6, 5, 3], "x")
    keep = v1.placeholder_with_default(1.0, [], "keep_prob")
    hidden = convolved(x, v1.placeholder_with_default(False, [], "is_training"))
    logits = tf.reduce_mean(dropped(hidden, keep, old), [1, 2]) @ v1.get_variable("w", [4, 3])
    return {"x": x}, {"prob": tf.nn.softmax(logits, name="prob")}


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", ["net.pb", "net.ckpt", "net"])
def test_a_flag_of_training_and_a_dropout_that_keeps_all_are_left_behind(
    name: str, old: bool, tmp_path: Path
) -> None:
    feeds = {"x": floats(4, 6, 5, 3)}
    want = kept(tmp_path / name, lambda: classifier(old), feeds)
    source = tmp_path / name if name != "net.ckpt" else tmp_path / "net.ckpt.meta"
    made = netferry.convert(source, "onnx", quick=True, seed=0)
    assert made.report is not None and made.report.status == "passed", made.to_text()
    assert made.route == "direct"
    assert set(operators(made.model)) <= {
        "BatchNormalization", "Conv", "MatMul", "ReduceMean", "Relu", "Softmax", "Transpose",
    }  # fmt: skip
    assert [value.name for value in made.model.graph.output] == ["prob"]
    agree(ran(made.model, feeds), want)


def test_a_normalization_in_the_scope_of_its_convolution_is_a_layer_in_pytorch(tmp_path: Path) -> None:
    kept(tmp_path / "net.pb", lambda: classifier(False), {"x": floats(2, 6, 5, 3)})
    done = netferry.convert(tmp_path / "net.pb", "pytorch", quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed", done.to_text()
    kinds = [type(layer).__name__ for layer in done.model.modules()]
    assert "BatchNorm2d" in kinds and "ModuleDict" not in kinds
    assert {name for name, _ in done.model.named_parameters()} == {
        "conv.weight", "conv_1.weight", "conv_1.bias", "matmul.weight",
    }  # fmt: skip


def test_a_rate_that_must_be_fed_is_refused_in_a_sentence(tmp_path: Path) -> None:
    def build() -> tuple[Tensors, Tensors]:
        x, keep = v1.placeholder(tf.float32, [None, 6], "x"), v1.placeholder(tf.float32, [], "keep_prob")
        return {"x": x, "keep_prob": keep}, {"y": tf.identity(dropped(x, keep, True), "y")}

    kept(tmp_path / "net.pb", build, {"x": floats(2, 6), "keep_prob": np.float32(1)})
    with pytest.raises(NetferryError, match="draws random numbers"):
        netferry.convert(tmp_path / "net.pb", "onnx", verify=False)


def test_a_loop_of_a_frozen_graph_is_verified(tmp_path: Path) -> None:
    def build() -> tuple[Tensors, Tensors]:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        y = v1.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 1.5 + x), [0, x])[1]
        return {"x": x}, {"y": tf.identity(y, "y")}

    kept(tmp_path / "net.pb", build, {"x": floats(2, 6)})
    report = netferry.convert(tmp_path / "net.pb", "onnx", quick=True, seed=0).report
    assert report is not None and report.status == "passed", report.to_text()


@pytest.mark.parametrize("begins", ["x", "zeros"])
def test_of_a_lowered_loop_that_is_read_only_what_is_read_is_an_output(begins: str, tmp_path: Path) -> None:
    """TensorFlow 2 freezes a While to TensorFlow 1's frames, whose other variables nobody reads."""

    def call(x: Any) -> Any:
        kept = tf.TensorArray(tf.float32, 3, element_shape=[None, 6])
        state = x if begins == "x" else tf.zeros_like(x)

        def body(place: Any, state: Any, kept: Any) -> Any:
            state = tf.tanh(state * 0.5 + (0.1 if begins == "x" else x))
            return place + 1, state, kept.write(place, state)

        return tf.transpose(tf.while_loop(lambda i, *_: i < 3, body, [0, state, kept])[2].stack(), (1, 0, 2))

    traced = tf.function(call, [tf.TensorSpec([None, 6], tf.float32, "x")]).get_concrete_function()
    frozen = convert_to_constants.convert_variables_to_constants_v2(traced)
    tf.io.write_graph(frozen.graph, str(tmp_path), "net.pb", as_text=False)
    made = netferry.convert(tmp_path / "net.pb", "onnx", verify=False)
    assert [len(value.type.tensor_type.shape.dim) for value in made.model.graph.output] == [3]
    for batch in (1, 4):
        x = floats(batch, 6)
        (got,) = ran(made.model, {"x": x}).values()
        np.testing.assert_allclose(got, call(tf.constant(x)), atol=1e-6)


def test_a_saved_model_with_the_nodes_of_two_savers_is_read(tmp_path: Path) -> None:
    def build() -> tuple[Tensors, Tensors]:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        y = tf.tanh(x @ v1.get_variable("w", [6, 4]))
        v1.train.Saver(max_to_keep=2)
        return {"x": x}, {"y": y}

    feeds = {"x": floats(3, 6)}
    want = kept(tmp_path / "net", build, feeds)
    made = netferry.convert(tmp_path / "net", "onnx", quick=True, seed=0)
    assert made.report is not None and made.report.status == "passed"
    agree(ran(made.model, feeds), want)


# ---- estimators: examples go in as strings, and a class comes out as one ------------------------------


def estimator() -> tuple[Tensors, Tensors]:
    examples = v1.placeholder(tf.string, [None], "input_example_tensor")
    columns = {"age": tf.io.FixedLenFeature([1], tf.float32), "size": tf.io.FixedLenFeature([2], tf.float32)}
    found = v1.io.parse_example(examples, columns)
    logits = tf.concat([found["age"], found["size"]], 1) @ v1.get_variable("kernel", [3, 4])
    classes = tf.strings.as_string(tf.argmax(logits, 1))
    inputs = {"examples": examples, **found}
    return inputs, {"probabilities": tf.nn.softmax(logits), "logits": logits, "classes": classes}


AGES = {"age": floats(5, 1), "size": floats(5, 2)}


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    signatures = {
        "predict": ("examples", "probabilities logits classes"),
        "raw": ("age size", "probabilities logits classes"),
    }
    return tmp_path / "net", kept(tmp_path / "net", estimator, AGES, signatures)


def test_examples_in_strings_are_refused_and_a_part_begins_behind_them(exported: Any) -> None:
    path, want = exported
    with pytest.raises(NetferryError, match=r"examples.*strings") as refused:
        netferry.convert(path, "onnx", signature="predict", verify=False)
    cuts = [text.strip() for text in str(refused.value).split("--input-at")[1:]]
    assert len(cuts) == 2
    made = netferry.convert(
        path, "onnx", signature="predict", outputs=["probabilities", "logits"], input_at=cuts, verify=False
    )
    assert [len(value.type.tensor_type.shape.dim) for value in made.model.graph.input] == [2, 2]
    agree(
        ran(made.model, dict(zip(cuts, AGES.values(), strict=True))),
        {k: want[k] for k in ("probabilities", "logits")},
    )


def test_outputs_that_are_strings_are_refused_with_those_that_can_be_asked_for(exported: Any) -> None:
    path, want = exported
    with pytest.raises(NetferryError, match=r"classes.*strings.*--output logits --output probabilities"):
        netferry.convert(path, "onnx", signature="raw", verify=False)
    made = netferry.convert(path, "onnx", signature="raw", outputs=["probabilities"], quick=True, seed=0)
    assert made.report is not None and made.report.status == "passed"
    agree(ran(made.model, AGES), {"probabilities": want["probabilities"]})


def test_a_graph_that_reads_its_data_itself_is_cut_behind_the_pipeline(tmp_path: Path) -> None:
    def build() -> tuple[Tensors, Tensors]:
        data = tf.data.Dataset.from_tensor_slices(floats(20, 6)).batch(4).repeat()
        x = tf.identity(v1.data.make_one_shot_iterator(data).get_next(), "x")
        y = tf.nn.softmax(x @ v1.get_variable("w", [6, 3]), name="y")
        return {"x": x}, {"y": y}

    feeds = {"x": floats(3, 6)}
    want = kept(tmp_path / "net.ckpt", build, feeds)
    with pytest.raises(NetferryError, match=r"pipeline of data.*--input-at IteratorGetNext"):
        netferry.convert(tmp_path / "net.ckpt.meta", "onnx", outputs="y", verify=False)
    made = netferry.convert(tmp_path / "net.ckpt.meta", "onnx", outputs="y", input_at="x", quick=True, seed=0)
    assert made.report is not None and made.report.status == "passed"
    agree(ran(made.model, feeds), want)


@pytest.mark.parametrize("to", ["onnx", "pytorch"])
def test_keys_of_a_table_are_among_the_numbers_that_are_tried(to: str, tmp_path: Path) -> None:
    def build() -> tuple[Tensors, Tensors]:
        x = v1.placeholder(tf.int32, [None, 3], "x")
        keys = tf.lookup.KeyValueTensorInitializer(tf.constant([105, 102, 109]), tf.constant([0.5, 1.5, 2.5]))
        return {"x": x}, {"y": tf.lookup.StaticHashTable(keys, -1.0).lookup(x)}

    feeds = {"x": np.array([[105, 102, 7], [109, 101, 105]], "i4")}
    want = kept(tmp_path / "net", build, feeds, {"serving_default": ("x", "y")})
    made = netferry.convert(tmp_path / "net", to, quick=True, seed=0)
    assert made.report is not None and made.report.status == "passed", made.to_text()
    agree(netferry.run(made.model, feeds), want)
