"""SavedModels, and Keras models of Python code, as one graph in float64: what a verdict holds them against."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper
from served_models import exported, floats, randomised, served
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import netferry
from netferry.converters.signature import examples
from netferry.converters.source import open_source
from netferry.converters.tensorflow.frozen.batch_norm import open_batch_norm
from netferry.converters.tensorflow.frozen.edit import Body, rename_functions
from netferry.converters.tensorflow.runtime import keras, quiet, tf
from netferry.validation.comparison.truth import Double

L = keras.layers

NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int | None, ...]]] = {
    "convolution and batch normalization": (
        lambda x: L.Dense(3, activation="softmax")(
            L.GlobalMaxPooling2D()(L.ReLU()(L.BatchNormalization(epsilon=0.02)(L.Conv2D(6, 3)(x))))
        ),
        (9, 8, 3),
    ),
    "two batch normalizations in a row": (
        lambda x: L.BatchNormalization()(L.BatchNormalization(epsilon=0.1)(x)), (5, 4, 3),
    ),
    "batch normalization of each step": (
        lambda x: L.TimeDistributed(L.BatchNormalization())(x), (3, 5, 4, 2),
    ),
    "a loop over steps": (lambda x: L.GRU(5)(L.LSTM(6, return_sequences=True)(x)), (None, 4)),
    "both directions": (lambda x: L.Bidirectional(L.LSTM(4))(x), (7, 5)),
    "attention": (lambda x: L.LayerNormalization()(L.MultiHeadAttention(2, 4)(x, x)), (6, 8)),
}  # fmt: skip


def opened(path: Path) -> Any:
    return open_source(path)


def truth_of(model: Any, x: np.ndarray) -> Double:
    return Double(model, examples([x]))


@pytest.mark.parametrize("title", NETWORKS)
def test_a_saved_model_in_float64_is_keras_in_float64(title: str, tmp_path: Path) -> None:
    build, shape = NETWORKS[title]
    source = keras.Input(shape, name="x")
    model = randomised(keras.Model(source, build(source)))
    with quiet():
        model.export(tmp_path / "net", verbose=False)
    for batch, length in ((2, 6), (5, 3)):
        x = floats(batch, *(size or length for size in shape))
        ours = truth_of(opened(tmp_path / "net"), x).run([x])
        theirs = truth_of(model, x).run([x])
        assert ours is not None and theirs is not None
        [r], [t] = ours.values(), theirs.values()
        assert r.dtype == np.float64
        assert np.abs(r - t).max() <= 1e-13 * np.abs(t).max()


@pytest.mark.parametrize("title", NETWORKS)
def test_the_truth_of_a_saved_model_rounds_as_that_of_keras(title: str, tmp_path: Path) -> None:
    build, shape = NETWORKS[title]
    path = exported(build, shape, tmp_path)
    x = floats(4, *(size or 6 for size in shape))
    plain = served(path, {"x": x})["output_0"]
    double = truth_of(opened(path), x)
    true = double.run([x])["output_0"]  # type: ignore[index]
    noise = [np.abs(double.rounded([x], seed)["output_0"] - true).max() for seed in (0, 1, 2)]
    again = np.abs(double.rounded([x], 0)["output_0"] - true).max()
    assert noise[0] == again and len(set(noise)) == 3
    rounding = np.abs(plain - true).max()
    assert rounding / 8 < max(noise) < 50 * rounding + 1e-6 * np.abs(true).max()


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("op", ["FusedBatchNorm", "FusedBatchNormV3"])
def test_a_batch_normalization_is_its_formula(layout: str, op: str) -> None:
    x, shape = RNG.standard_normal((2, 3, 4, 5)), (3 if layout == "NCHW" else 5,)
    scale, offset, mean, variance = (RNG.uniform(0.5, 2, shape) for _ in range(4))
    graph = tf.compat.v1.GraphDef()
    body = Body(graph.node)
    names = ["x", "scale", "offset", "mean", "variance"]
    for name in names:
        node = body.add("Placeholder", name, [])
        node.attr["dtype"].type = tf.float64.as_datatype_enum
    norm = body.add(op, "norm", names)
    norm.attr["epsilon"].f, norm.attr["data_format"].s = 0.01, layout.encode()
    reader = body.add("Neg", "y", ["norm"])
    reader.attr["T"].type = tf.float64.as_datatype_enum
    open_batch_norm(body, norm)
    body.finish([norm])
    run = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph, name=""), [])
    ends = run.prune([f"{name}:0" for name in names], ["y:0"])
    [y] = ends(*map(tf.constant, (x, scale, offset, mean, variance)))
    spread = [one.reshape(-1, 1, 1) if layout == "NCHW" else one for one in (scale, offset, mean, variance)]
    want = spread[0] * (x - spread[2]) / np.sqrt(spread[3] + np.float32(0.01).astype(float)) + spread[1]
    np.testing.assert_allclose(y.numpy(), -want, rtol=1e-12)


RNG = np.random.default_rng(3)


def test_a_fault_of_a_saved_model_below_float32s_noise_is_found(tmp_path: Path) -> None:
    """Without a truth, 5e-6 of scale in one weight passes: it is below the direct limit."""
    path = exported(lambda x: L.Dense(4)(L.BatchNormalization()(L.Conv1D(5, 2)(x))), (7, 3), tmp_path)
    target = netferry.convert(path, "pytorch", verify=False).model
    assert netferry.verify(path, target, seed=1).status == "passed"
    weight = next(p for p in target.parameters() if p.ndim == 3)
    weight.data[2] *= 1 + 5e-6
    assert netferry.verify(path, target, seed=1).status == "failed"


def test_a_saved_model_whose_objects_tensorflow_does_not_know_is_run_by_its_graph(tmp_path: Path) -> None:
    path = exported(lambda x: L.Dense(3)(L.BatchNormalization()(x)), (5,), tmp_path)
    x = floats(4, 5)
    want = served(path, {"x": x})["output_0"]
    saved = path / "saved_model.pb"
    content = SavedModel.FromString(saved.read_bytes())
    nodes = content.meta_graphs[0].object_graph_def.nodes
    variables = [place for place, node in enumerate(nodes) if node.HasField("variable")]
    optimizer = nodes.add()
    optimizer.user_object.identifier = "an optimizer of another time"
    optimizer.user_object.version.producer = 1
    optimizer.slot_variables.add(
        original_variable_node_id=variables[0], slot_name="m", slot_variable_node_id=variables[1]
    )
    nodes[0].children.add(node_id=len(nodes) - 1, local_name="optimizer")
    saved.write_bytes(content.SerializeToString())
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(path))
    done = netferry.convert(path, "onnx", seed=0)
    assert done.report is not None
    assert (done.report.status, done.report.truth) == ("passed", "TensorFlow in float64")
    got = netferry.run(path, {"x": x})["output_0"]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_functions_of_two_graphs_never_meet() -> None:
    """TensorFlow keeps functions by name for a whole process."""

    def graph(factor: float) -> Any:
        inner = tf.function(lambda x: x * factor)
        traced = tf.function(lambda x: inner(x) + 1).get_concrete_function(tf.TensorSpec((2,)))
        made = traced.graph.as_graph_def()
        old = made.library.function[0].signature.name
        rename_functions(made)
        assert old not in [one.signature.name for one in made.library.function]
        return made

    for factor in (2.0, 3.0):
        made = graph(factor)
        run = tf.compat.v1.wrap_function(lambda made=made: tf.graph_util.import_graph_def(made, name=""), [])
        end = next(node.name for node in reversed(made.node) if node.op == "Identity")
        [y] = run.prune(["x:0"], [f"{end}:0"])(tf.constant([1.0, 2.0]))
        np.testing.assert_array_equal(y, np.array([1.0, 2.0]) * factor + 1)


SCORES: dict[str, Callable[[Any], Any]] = {
    "a sigmoid": tf.sigmoid,
    "few steps": lambda x: tf.round(tf.sigmoid(x) * 8) / 8,
}


def detector(scores: Callable[[Any], Any], folder: Path) -> Path:
    """Twenty boxes of three classes; where scores are equal, TensorFlow's kernel keeps no order."""
    rng = np.random.default_rng(0)

    class Detector(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.places = tf.Variable(rng.standard_normal((6, 80)).astype(np.float32))
            self.kinds = tf.Variable(rng.standard_normal((6, 60)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None, 6], name="x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> dict[str, Any]:
            place = tf.reshape(tf.sigmoid(x @ self.places), [-1, 20, 2, 2])
            low = place[:, :, 0] * 0.7
            boxes = tf.concat([low, low + 0.05 + place[:, :, 1] * 0.3], -1)[:, :, None]
            kinds = tf.reshape(scores(x @ self.kinds), [-1, 20, 3])
            found = tf.image.combined_non_max_suppression(boxes, kinds, 5, 10, 0.5, 0.3)
            return dict(zip(("boxes", "scores", "classes"), found[:3], strict=True))

    model = Detector()
    with quiet():
        tf.saved_model.save(model, str(folder / "net"), signatures=model.serve)
    return folder / "net"


@pytest.mark.parametrize("title", SCORES)
def test_boxes_of_equal_scores_come_in_any_order(title: str, tmp_path: Path) -> None:
    path = detector(SCORES[title], tmp_path)
    done = netferry.convert(path, "onnx", quick=True, seed=1)
    assert done.report is not None and done.report.status == "passed", done.to_text()
    assert "float64" in done.report.truth
    made = {name: node for node in done.model.graph.node for name in node.output}
    [chooses] = [node for node in made.values() if node.op_type == "NonMaxSuppression"]
    name = made[chooses.input[3]].input[0]
    threshold = next(each for each in done.model.graph.initializer if each.name == name)
    threshold.CopyFrom(numpy_helper.from_array(np.full(threshold.dims, 0.05, np.float32), threshold.name))
    assert netferry.verify(path, done.model, quick=True, seed=1).status == "failed"


@pytest.mark.parametrize("title", ["resized", "cropped", "normalised"])
def test_what_has_no_double_kernel_has_a_truth(title: str, tmp_path: Path) -> None:
    body = {
        "resized": lambda x: tf.image.resize(tf.nn.relu(x), [7, 9]) * 0.3,
        "cropped": lambda x: tf.sigmoid(tf.image.crop_and_resize(x, [[0.1, 0.2, 0.8, 0.9]], [0], (4, 4))),
        "normalised": lambda x: tf.nn.lrn(x, 2, 1.0, 0.1, 0.5) + x,
    }[title]
    module = tf.Module()
    module.serve = tf.function(body, input_signature=[tf.TensorSpec([None, 5, 6, 4], name="x")])
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.serve)
    done = netferry.convert(tmp_path / "net", "onnx", quick=True, seed=1)
    assert done.report is not None and done.report.status == "passed", done.to_text()
    assert "float64" in done.report.truth


class _Pooled(tf.Module):
    """A mean of squares, and how it moves with its input: by a kernel that is left in the file and not run."""

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 4, 3], tf.float32, name="x")])
    def serve(self, x: Any) -> Any:
        return {"y": tf.nn.avg_pool2d(x, 2, 2, "VALID")}

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 4, 3], tf.float32, name="x")])
    def train(self, x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.square(tf.nn.avg_pool2d(x, 2, 2, "VALID"))
        return {"g": tape.gradient(y, x)}


def test_a_kernel_that_writes_outside_of_its_tensors_may_be_left_in_a_file_and_is_not_run(
    tmp_path: Path,
) -> None:
    pooled = _Pooled()
    with quiet():
        signatures = {"serving_default": pooled.serve, "train": pooled.train}
        tf.saved_model.save(pooled, str(tmp_path / "net"), signatures=signatures)
    for batch in (1, 5):
        x = floats(batch, 6, 4, 3)
        want = x.reshape(batch, 3, 2, 2, 2, 3).mean((2, 4))
        np.testing.assert_allclose(netferry.run(tmp_path / "net", {"x": x})["y"], want, rtol=1e-6, atol=1e-6)
        with pytest.raises(netferry.NetferryError, match=r"do more than compute.*AvgPoolGrad"):
            netferry.run(tmp_path / "net", {"x": x}, reading=netferry.Reading(signature="train"))
