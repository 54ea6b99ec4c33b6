"""TFLite files to ONNX, PyTorch and Keras, each against TFLite's own interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_models import both, by_hand, drawn, exported, functional, of_function, of_keras, opened, operators
from served_models import floats

import netferry
from netferry.converters.errors import UnsupportedError, UsageError
from netferry.converters.tensorflow.runtime import keras, quiet, tf
from netferry.converters.tensorflow.tflite.model import place_of
from netferry.validation.comparison.truth import Double

L = keras.layers
LIMIT = 2e-5


def agree(content: bytes, folder: Path, batches: tuple[int, ...] = (1, 3)) -> list[str]:
    """Every output alike at every batch; the operators of the export."""
    model = opened(content, folder)
    export = exported(model)
    for batch in batches:
        want, got = both(model, export, drawn(model, batch))
        assert list(got) == list(want)
        for name, value in want.items():
            assert got[name].shape == value.shape, name
            assert got[name].dtype == value.dtype, name
            scale = np.abs(value.astype(np.float64)).max(initial=0.0) or 1.0
            assert np.abs(got[name].astype(np.float64) - value).max(initial=0.0) <= LIMIT * scale, name
    return operators(export)


def spec(*sizes: int | None, dtype: Any = None) -> Any:
    return tf.TensorSpec(sizes, dtype or tf.float32)


GROUPS: dict[str, tuple[Callable[..., Any], list[Any]]] = {
    "arithmetic": (
        lambda x, y: [
            x + y, x - y, x * y, x / (tf.abs(y) + 1.0), tf.maximum(x, y), tf.minimum(x, y), tf.math.squared_difference(x, y),
            tf.math.floordiv(x, tf.abs(y) + 0.5), tf.math.floormod(x, tf.abs(y) + 0.5), tf.pow(tf.abs(x) + 0.1, y), tf.add_n([x, y, x]),
            tf.atan2(x, y),
        ],
        [spec(None, 4, 5), spec(None, 4, 5)],
    ),
    "functions of one number": (
        lambda x: [
            tf.abs(x), tf.math.ceil(x), tf.math.floor(x), tf.cos(x), tf.sin(x), tf.exp(x), tf.math.log(tf.abs(x) + 0.1), -x,
            tf.round(x), tf.math.rsqrt(tf.abs(x) + 0.1), tf.sqrt(tf.abs(x)), tf.square(x), tf.sign(x), tf.zeros_like(x),
        ],
        [spec(None, 6)],
    ),
    "activations": (
        lambda x: [
            tf.nn.relu(x), tf.nn.relu6(x * 4), tf.nn.elu(x), tf.nn.leaky_relu(x, 0.3), tf.nn.sigmoid(x), tf.tanh(x), tf.nn.softmax(x),
            tf.nn.log_softmax(x), x * tf.nn.relu6(x + 3) / 6,
            tf.minimum(tf.maximum(x, -1.0), 1.0), tf.nn.softmax(2.5 * x),
        ],
        [spec(None, 5, 6)],
    ),
    "comparisons": (
        lambda x, y: [
            x > y, x >= y, x < y, x <= y, tf.equal(x, y), tf.not_equal(x, y), tf.logical_and(x > 0, y > 0),
            tf.logical_or(x > 0, y > 0), tf.logical_not(x > 0), tf.where(x > y, x, y), tf.where(x[:, :1] > 0, x, y),
            tf.cast(x > 0, tf.int32), tf.cast(x * 3, tf.int32),
        ],
        [spec(None, 4), spec(None, 4)],
    ),
    "spectra": (
        lambda x: [
            tf.abs(tf.signal.rfft(x)), tf.math.real(tf.signal.rfft(x, [32])), tf.math.imag(tf.signal.rfft(x, [8])),
            tf.abs(tf.signal.stft(x, 6, 2, fft_length=8)), tf.abs(tf.signal.rfft2d(tf.reshape(x, [-1, 4, 4]))), tf.cast(tf.signal.rfft(x), tf.float32),
        ],
        [spec(3, 16)],
    ),
    "reductions": (
        lambda x: [
            tf.reduce_sum(x, 1), tf.reduce_mean(x, [1, 2], keepdims=True), tf.reduce_max(x, -1), tf.reduce_min(x, 0),
            tf.reduce_prod(x, 2), tf.reduce_any(x > 1, 1), tf.reduce_all(x > -3, 2), tf.argmax(x, 2), tf.argmin(x, 1, tf.int32),
            tf.cumsum(x, 1), tf.cumsum(x, 2, exclusive=True, reverse=True), *tf.math.top_k(x, 3),
        ],
        [spec(None, 4, 5)],
    ),
    "shapes": (
        lambda x: [
            tf.reshape(x, [-1, 20]), tf.reshape(x[:1, 0, 0], []), tf.transpose(x, [2, 0, 1]), tf.expand_dims(x, 1), tf.squeeze(x[:, :1], 1), tf.tile(x, [1, 2, 3]),
            tf.concat([x, x * 2], 2), tf.stack([x, x + 1], 1), *tf.unstack(x, axis=1), *tf.split(x, 2, 1), *tf.split(x, [1, 3, 1], 2),
            tf.pad(x, [[0, 0], [1, 2], [0, 1]]), tf.pad(x, [[0, 0], [1, 2], [0, 1]], constant_values=1.5),
            tf.pad(x, [[0, 0], [1, 2], [2, 1]], "REFLECT"), tf.pad(x, [[0, 0], [1, 2], [2, 1]], "SYMMETRIC"),
            tf.reverse(x, [2]), tf.shape(x), tf.broadcast_to(x[:, :1], tf.shape(x)), tf.fill(tf.shape(x), 2.0),
        ],
        [spec(None, 4, 5)],
    ),
    "slices": (
        lambda x: [
            x[:, 1:3], x[:, ::2, -1], x[..., tf.newaxis, 2:], x[:, ::-1], tf.slice(x, [0, 1, 2], [-1, 2, 3]), x[:, -2:, 1:-1],
            tf.reshape(x, [tf.shape(x)[0], -1]), tf.reshape(x, [tf.shape(x)[0] * 4, 5]),
        ],
        [spec(None, 4, 5)],
    ),
    "indices": (
        lambda x, i: [
            tf.gather(x, i, axis=1), tf.gather(x, [2, 0], axis=2), tf.gather(x, i, axis=1, batch_dims=1),
            tf.gather_nd(x, tf.stack([tf.zeros_like(i), i], -1)), tf.one_hot(i, 4, 2.0, -1.0), tf.one_hot(i, 4, axis=1),
            tf.scatter_nd(tf.expand_dims(i[0], 1), x[0, :2], [4, 5]),
            tf.reverse_sequence(x, tf.reduce_sum(i, 1) + 1 - tf.reduce_sum(i, 1), 1),
        ],
        [spec(None, 4, 5), spec(None, 2, dtype=tf.int32)],
    ),
    "whole numbers": (
        lambda i: [
            i + 3, i * i, i // 2, tf.math.floormod(i - 1, 3), tf.bitwise.bitwise_xor(i, 5), tf.bitwise.right_shift(i * 7, 1),
            tf.maximum(i, 1), tf.abs(-i), tf.cast(i, tf.float32) / 3, tf.range(5) + i[0, 0], tf.math.unsorted_segment_sum(i, [0, 1, 0, 2], 3),
        ],
        [spec(4, 6, dtype=tf.int32)],
    ),
    "products": (
        lambda x, y: [tf.matmul(x, y), tf.matmul(x, x, transpose_b=True), tf.matmul(x, x, transpose_a=True), tf.matmul(x[0], y[0])],
        [spec(None, 4, 5), spec(None, 5, 3)],
    ),
    "images": (
        lambda x: [
            tf.image.resize(x, [9, 4]), tf.compat.v1.image.resize_bilinear(x, [12, 12], align_corners=True),
            tf.compat.v1.image.resize_nearest_neighbor(x, [12, 18]), tf.image.resize(x, [7, 5], "nearest"), tf.nn.space_to_depth(x, 2),
            tf.nn.depth_to_space(x, 2), tf.space_to_batch(x, [2, 3], [[0, 0], [1, 2]]), tf.nn.max_pool2d(x, 3, 2, "SAME"),
            tf.nn.avg_pool2d(x, [2, 3], 2, "SAME"), tf.nn.avg_pool2d(x, 2, 1, "VALID"), tf.nn.local_response_normalization(x, 2),
            tf.nn.l2_normalize(x, -1),
        ],
        [spec(None, 6, 6, 4)],
    ),
    "convolutions": (
        lambda x: [
            tf.nn.conv2d(x, floats(3, 3, 4, 6), 2, "SAME") + floats(6), tf.nn.conv2d(x, floats(3, 2, 4, 6), 1, "VALID", dilations=2),
            tf.nn.conv2d(x, floats(3, 3, 2, 6), 1, "SAME"), tf.nn.depthwise_conv2d(x, floats(3, 3, 4, 2), [1, 2, 2, 1], "SAME"),
            tf.nn.conv2d_transpose(x, floats(3, 3, 6, 4), [tf.shape(x)[0], 18, 16, 6], 2, "SAME"),
            tf.nn.conv2d_transpose(x, floats(3, 3, 6, 4), [tf.shape(x)[0], 19, 17, 6], 2, "VALID"),
            tf.nn.relu(tf.nn.conv2d(x, floats(1, 1, 4, 3), 1, "SAME")),
        ],
        [spec(None, 9, 8, 4)],
    ),
    "volumes": (
        lambda x: [
            tf.nn.conv3d(x, floats(2, 3, 3, 4, 5), [1, 1, 2, 1, 1], "SAME"),
            tf.nn.conv3d_transpose(x, floats(3, 3, 3, 5, 4), [2, 10, 12, 8, 5], 2, "SAME"),
        ],
        [spec(2, 5, 6, 4, 4)],
    ),
}  # fmt: skip
"""Functions that give many operators' results, and what they take."""


@pytest.mark.parametrize("title", GROUPS)
def test_operators_give_what_the_interpreter_gives(title: str, tmp_path: Path) -> None:
    call, specs = GROUPS[title]
    agree(of_function(call, *specs), tmp_path)


NETS: dict[str, tuple[Callable[[Any], Any], tuple[int | None, ...], set[str]]] = {
    "a convolutional network": (
        lambda x: L.Dense(3, "softmax")(L.GlobalAveragePooling2D()(L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(4, 3, 2, "same")(x))))),
        (9, 8, 3),
        {"Conv", "Gemm"},
    ),
    "separable convolutions": (
        lambda x: L.UpSampling2D(2, interpolation="bilinear")(L.Conv2DTranspose(4, 3, 2, "same")(L.SeparableConv2D(6, 3, padding="same")(x))),
        (8, 6, 3),
        {"Conv", "ConvTranspose", "Resize"},
    ),
    "attention": (
        lambda x: L.Dense(4)(L.LayerNormalization()(x + L.MultiHeadAttention(2, 3)(x, x))), (6, 8), {"LayerNormalization", "MatMul"},
    ),
    "gelu": (lambda x: L.Dense(4, "gelu")(x), (6, 8), {"Gelu"}),
    "a causal convolution": (lambda x: L.Conv1D(4, 3, padding="causal", dilation_rate=2)(x), (12, 3), {"Conv"}),
    "prelu": (lambda x: L.PReLU(shared_axes=[1])(x), (7, 4), {"PRelu"}),
    "a table": (lambda x: L.Embedding(9, 4)(tf_cast(x)), (5,), {"Gather"}),
}  # fmt: skip
"""Networks of Keras, their inputs' sizes, and operators that they must become."""


def tf_cast(x: Any) -> Any:
    return keras.ops.cast(keras.ops.abs(x), "int32")


@pytest.mark.parametrize("title", NETS)
def test_a_network_gives_what_the_interpreter_gives(title: str, tmp_path: Path) -> None:
    build, sizes, kinds = NETS[title]
    precision = "float16" if list(NETS).index(title) % 2 else "float32"
    found = agree(of_keras(functional(build, *sizes), precision), tmp_path)
    assert kinds <= set(found)
    assert "Cast" not in found or title == "a table"  # halves are weights of float32, not steps


def test_recurrent_layers_that_are_loops_stay_right(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        y = L.GRU(4, return_sequences=True)(L.SimpleRNN(4, return_sequences=True)(x))
        return L.Bidirectional(L.LSTM(3))(y)

    agree(of_keras(functional(build, 7, 5, batch=1)), tmp_path, (1,))


@pytest.mark.parametrize("to", ["onnx", "tensorflow", pytest.param("pytorch", marks=pytest.mark.slow)])
def test_a_file_arrives_in_each_framework_with_a_verdict(to: str, tmp_path: Path) -> None:
    build, sizes, _ = NETS["a convolutional network"]
    path = tmp_path / "net.tflite"
    path.write_bytes(of_keras(functional(build, *sizes)))
    done = netferry.convert(path, to, quick=True)
    assert done.report is not None
    assert done.report.status == "passed"
    assert [each.name for each in done.report.signature.inputs] == ["x"]  # type: ignore[union-attr]


def test_a_constant_of_no_elements_has_no_bytes(tmp_path: Path) -> None:
    schema = import_module("tensorflow.lite.python.schema_py_generated")
    options = schema.ConcatenationOptionsT()
    options.axis = 0
    given = [(floats(2, 3), True), (np.zeros((0, 3), np.float32), False)]
    assert agree(by_hand("CONCATENATION", options, given, [(2, 3)]), tmp_path, batches=(2,)) == ["Concat"]


def test_outputs_of_bounded_functions_are_known_by_the_file(tmp_path: Path) -> None:
    def call(x: Any) -> list[Any]:
        y = x @ floats(4, 3)
        return [tf.reshape(tf.sigmoid(y), [-1, 1, 3]), tf.nn.softmax(y), tf.tanh(y), y, tf.sigmoid(y) * 2.0]

    model = opened(of_function(call, spec(None, 4)), tmp_path)
    names = [port.name for port in model.signature.outputs]
    bounded = [
        port.name
        for port in model.signature.outputs
        if model.made_by(place_of(port)) in ("LOGISTIC", "SOFTMAX", "TANH")
    ]
    assert len(bounded) == 3
    assert Double(model).reaches == dict.fromkeys(bounded, 1.0)
    assert set(names) - set(bounded)


def test_reading_needs_no_tensorflow_and_no_flatbuffers(tmp_path: Path) -> None:
    build, sizes, _ = NETS["a convolutional network"]
    path = tmp_path / "net.tflite"
    path.write_bytes(of_keras(functional(build, *sizes)))
    code = (
        "import sys, netferry\n"
        f"netferry.convert({str(path)!r}, 'onnx', destination={str(tmp_path / 'net.onnx')!r}, verify=False)\n"
        f"netferry.convert({str(path)!r}, 'pytorch', verify=False)\n"
        f"netferry.inspect({str(path)!r})\n"
        "print([name for name in ('tensorflow', 'keras', 'flatbuffers') if name in sys.modules])\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


class _Two(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = tf.constant(floats(3))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
    def more(self, x: Any) -> dict[str, Any]:
        return {"larger": x * self.scale, "sum": tf.reduce_sum(x, 1)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], name="b"), tf.TensorSpec([None, 3], name="a")])
    def less(self, b: Any, a: Any) -> dict[str, Any]:
        return {"difference": b - 2 * a}


def two(folder: Path) -> Path:
    module = _Two()
    with quiet():
        tf.saved_model.save(
            module, str(folder / "two"), signatures={"more": module.more, "less": module.less}
        )
        content = tf.lite.TFLiteConverter.from_saved_model(str(folder / "two")).convert()
    path = folder / "two.tflite"
    path.write_bytes(content)
    return path


def test_each_signature_is_served_under_its_own_names(tmp_path: Path) -> None:
    path = two(tmp_path)
    for name, outputs in {"more": ["larger", "sum"], "less": ["difference"]}.items():
        done = netferry.convert(path, "onnx", signature=name, quick=True)
        assert done.report is not None
        assert done.report.status == "passed"
        assert [each.name for each in done.model.graph.output] == outputs
    with pytest.raises(UsageError, match=r"more, less|less, more"):
        netferry.convert(path, "onnx", quick=True)


def test_operators_of_tensorflow_are_refused_by_name(tmp_path: Path) -> None:
    content = of_function(
        lambda x: tf.math.erf(x) + x,
        spec(None, 3),
        extra=[tf.lite.OpsSet.SELECT_TF_OPS],
    )
    with pytest.raises(UnsupportedError) as refused:
        exported(opened(content, tmp_path))
    assert {each.operator for each in refused.value.problems} == {"FlexErf"}
    assert "--output" in refused.value.problems[0].remedy


def test_branches_and_loops_run_their_own_subgraphs(tmp_path: Path) -> None:
    def call(x: Any) -> Any:
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1)
        _, z = tf.while_loop(
            lambda i, _: i < 4, lambda i, y: (i + 1, y * 0.5 + tf.cast(i, tf.float32)), [tf.constant(0), x]
        )
        return y, z

    found = agree(of_function(call, spec(2, 3)), tmp_path)
    assert {"If", "Loop"} <= set(found)


def test_a_result_that_is_an_input_or_a_constant_is_given(tmp_path: Path) -> None:
    agree(of_function(lambda x: [x, x + 1, tf.constant(floats(2, 2))], spec(None, 3)), tmp_path)


def test_sizes_that_are_free_stay_free(tmp_path: Path) -> None:
    export = exported(opened(of_function(lambda x: tf.nn.relu(x), spec(None, None, 3)), tmp_path))
    assert [str(dim) for dim in export.model.graph.inputs[0].shape] == ["batch", "x_dim1", "3"]
    assert np.dtype(np.float32) == export.model.graph.inputs[0].dtype.numpy()


def test_a_part_carries_what_lies_beside_an_operator_without_a_row(tmp_path: Path) -> None:
    def call(x: Any) -> Any:
        y = tf.identity(tf.nn.relu(x @ tf.constant(floats(3, 4))), "before")
        return tf.tanh(tf.math.erf(y) @ tf.constant(floats(4, 2)))

    path = tmp_path / "net.tflite"
    path.write_bytes(of_function(call, spec(2, 3), extra=[tf.lite.OpsSet.SELECT_TF_OPS]))
    names = [
        each.name for each in netferry.converters.part.layers(opened(path.read_bytes(), tmp_path), None, None)
    ]  # type: ignore[arg-type]
    front = netferry.convert(path, "onnx", outputs=[names[0]], quick=True)
    back = netferry.convert(path, "onnx", input_at=[names[1]], quick=True)
    for done in (front, back):
        assert done.report is not None
        assert done.report.status == "passed"
    assert [node.op_type for node in front.model.graph.node] == ["Gemm", "Relu"]
