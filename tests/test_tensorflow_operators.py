"""Operators of TensorFlow's graphs that ONNX has none for, in ONNX and in PyTorch, each against TensorFlow itself at two sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from served_models import agree, floats, ran, served

import netferry
from netferry.converters import frameworks
from netferry.converters.errors import UnsupportedError
from netferry.converters.tensorflow.runtime import quiet, tf

L = keras.layers
Body = Callable[[Any], Any]

IMAGES: dict[str, Body] = {
    "by area, smaller": lambda x: tf.image.resize(x, (5, 4), "area"),
    "by area, larger": lambda x: tf.image.resize(x, (17, 30), "area"),
    "by area, corners on corners": lambda x: tf.raw_ops.ResizeArea(images=x, size=(5, 4), align_corners=True),
    "cubic": lambda x: tf.image.resize(x, (7, 19), "bicubic"),
    "cubic, corners on corners": lambda x: tf.raw_ops.ResizeBicubic(images=x, size=(7, 4), align_corners=True),
    "cubic, to a size that is computed": lambda x: tf.image.resize(x, tf.shape(x)[1:3] * 3 // 2, "bicubic"),
    "smoothly": lambda x: tf.image.resize(x, (5, 4), antialias=True),
    "smoothly, larger": lambda x: tf.image.resize(x, (15, 4), antialias=True),
    "lanczos3": lambda x: tf.image.resize(x, (6, 15), "lanczos3"),
    "lanczos5, smoothly": lambda x: tf.image.resize(x, (5, 6), "lanczos5", antialias=True),
    "gaussian": lambda x: tf.image.resize(x, (6, 4), "gaussian", antialias=True),
    "mitchell": lambda x: tf.image.resize(x, (6, 4), "mitchellcubic"),
    "keys, smoothly": lambda x: tf.image.resize(x, (6, 4), "bicubic", antialias=True),
    "moved": lambda x: tf.raw_ops.ScaleAndTranslate(
        images=x, size=(8, 9), scale=[1.5, 0.6], translation=[0.7, -1.2], kernel_type="box", antialias=False
    ),
    "the middle": lambda x: tf.image.central_crop(x, 0.5),
    "another hue": lambda x: tf.image.adjust_hue(tf.sigmoid(x), 0.3),
    "the nearest of a crop": lambda x: tf.image.crop_and_resize(
        x, [[0.1, 0.2, 0.83, 0.91], [0, 0.5, 1.3, 1]], [0, 0], (5, 4), "nearest", -3.0
    ),
    "dilated": lambda x: tf.nn.dilation2d(
        x, tf.constant(KERNEL), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]
    ),
    "dilated, in steps": lambda x: tf.nn.dilation2d(
        x, tf.constant(KERNEL), [1, 2, 1, 1], "VALID", "NHWC", [1, 2, 1, 1]
    ),
    "eroded": lambda x: tf.nn.erosion2d(x, tf.constant(KERNEL), [1, 1, 1, 1], "VALID", "NHWC", [1, 1, 2, 1]),
    "places of a pool": lambda x: tf.nn.max_pool_with_argmax(x, 2, 2, "SAME")[1],
    "places of a pool, and of the batch": lambda x: tf.nn.max_pool_with_argmax(
        x, (3, 2), (2, 1), "VALID", include_batch_in_index=True
    )[1],
}  # fmt: skip
KERNEL = floats(3, 2, 3)

ROWS: dict[str, Body] = {
    "the third smallest": lambda x: tf.raw_ops.NthElement(input=x, n=2, reverse=False),
    "the second largest": lambda x: tf.raw_ops.NthElement(input=x, n=1, reverse=True),
    "the best, roughly": lambda x: tf.math.approx_max_k(x, 3)[1],
    "a histogram": lambda x: tf.histogram_fixed_width(x, [-1.5, 1.0], 5),
    "counts of each row": lambda x: tf.math.bincount(
        tf.cast(tf.abs(x * 3), tf.int32), minlength=4, maxlength=4, axis=-1
    ),
    "what each row has": lambda x: tf.math.bincount(
        tf.cast(tf.abs(x * 3), tf.int32), minlength=4, maxlength=4, axis=-1, binary_output=True
    ),
    "a diagonal above": lambda x: tf.linalg.diag(x, k=2),
    "a diagonal below": lambda x: tf.linalg.diag(x, k=-1, padding_value=0.5),
    "angles": lambda x: tf.math.angle(tf.complex(x, x[:, ::-1])),
    "complex matrices": lambda x: tf.abs(tf.linalg.matmul(
        tf.complex(x, x * x)[:, :, None], tf.complex(x * 2, x)[:, :, None], adjoint_a=True
    )),
    "a complex logarithm": lambda x: tf.math.imag(tf.math.log(tf.complex(x, x * x))),
    "slopes of tanh and sigmoid": lambda x: tf.gradients(tf.tanh(x) * tf.sigmoid(x), x)[0],
    "slopes of roots": lambda x: tf.gradients(tf.sqrt(tf.abs(x) + 1) + tf.math.rsqrt(x * x + 1) + 1 / (x * x + 2), x)[0],
    "slopes of softplus and softsign": lambda x: tf.gradients(tf.nn.softplus(x) * tf.nn.softsign(x), x)[0],
    "slopes of what cuts off": lambda x: tf.gradients(tf.nn.relu(x) * 2 + tf.nn.relu6(x * 8) + tf.nn.leaky_relu(x, 0.3), x)[0],
    "slopes of elu and selu": lambda x: tf.gradients(tf.nn.elu(x) + tf.nn.selu(x * 2), x)[0],
    "from behind": lambda x: tf.scan(lambda a, e: a * 0.5 + e, tf.transpose(x), tf.zeros_like(x[:, 0]), reverse=True),
    "from behind, until it is large": lambda x: stopped(x),
    "half a size": lambda x: x * tf.floor(tf.cast(tf.shape(x)[0], tf.float32) * 0.5),
}  # fmt: skip


def stopped(x: Any) -> Any:
    """Places that the loop does not reach stay zeros, in front."""
    columns = tf.transpose(x)
    kept = tf.TensorArray(tf.float32, 6, element_shape=[None])

    def body(place: Any, total: Any, kept: Any) -> Any:
        return place - 1, total + 1.0, kept.write(place, columns[place] * total)

    found = tf.while_loop(lambda place, total, _: (place >= 0) & (total < 4.0), body, [5, 1.0, kept])
    return tf.pad(found[2].stack()[2:], [[2, 0], [0, 0]])


LOOKED_UP: dict[str, Body] = {
    combiner: lambda x, combiner=combiner: tf.nn.embedding_lookup_sparse(  # type: ignore[misc]
        tf.constant(TABLE), tf.sparse.from_dense(x), None, combiner=combiner
    )
    for combiner in ("sum", "mean", "sqrtn")
}
TABLE = floats(9, 4)


def compared(body: Body, spec: Any, inputs: list[np.ndarray]) -> None:
    function = tf.function(body, [spec], autograph=False)
    onnx = netferry.convert(function, "onnx", verify=False)
    assert onnx.route == "direct", onnx.notes
    torch = netferry.convert(function, "pytorch", verify=False)
    for x in inputs:
        want = function(x).numpy()
        (made,) = ran(onnx.model, {"x": x}).values()
        (arrived,) = frameworks.of(torch.model).live.run(torch.model, [x]).values()
        for got in (made, arrived):
            assert got.shape == want.shape
            assert got.dtype == want.dtype
            scale = max(np.abs(want).max(), 1e-6)
            assert np.abs(got.astype("f8") - want).max() <= 2e-5 * scale


@pytest.mark.parametrize("title", IMAGES)
def test_an_operator_on_images_of_any_size_gives_what_tensorflow_gives(title: str) -> None:
    spec = tf.TensorSpec([None, None, None, 3], tf.float32, "x")
    compared(IMAGES[title], spec, [floats(1, 9, 8, 3), floats(2, 12, 11, 3)])


@pytest.mark.parametrize("title", ["by area, smaller", "smoothly", "lanczos3", "cubic"])
def test_of_images_of_one_size_the_weights_are_constants(title: str) -> None:
    spec = tf.TensorSpec([None, 9, 8, 3], tf.float32, "x")
    compared(IMAGES[title], spec, [floats(1, 9, 8, 3), floats(3, 9, 8, 3)])
    made = netferry.convert(tf.function(IMAGES[title], [spec]), "onnx", verify=False).model
    assert {node.op_type for node in made.graph.node} <= {"MatMul", "Transpose"}


@pytest.mark.parametrize("title", ROWS)
def test_an_operator_on_rows_gives_what_tensorflow_gives(title: str) -> None:
    compared(ROWS[title], tf.TensorSpec([None, 6], tf.float32, "x"), [floats(2, 6), floats(5, 6)])


@pytest.mark.parametrize("combiner", LOOKED_UP)
def test_rows_of_a_table_are_joined_by_their_places(combiner: str) -> None:
    ids = [[[1, 2, 0], [3, 0, 0]], [[1, 2, 0, 4], [3, 1, 0, 5], [8, 8, 0, 0]]]
    spec = tf.TensorSpec([None, None], tf.int32, "x")
    compared(LOOKED_UP[combiner], spec, [np.asarray(each, np.int32) for each in ids])


# ---- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_a_saved_model_that_keeps_its_state_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    """tf2onnx writes its first call without a word, and no second one."""
    x = keras.Input(batch_shape=(2, 5, 4), name="x")
    with quiet():
        keras.Model(x, getattr(L, kind)(3, stateful=True)(x)).export(tmp_path / "net", verbose=False)
    with pytest.raises(UnsupportedError, match="keeps a state from one call to the next"):
        netferry.convert(tmp_path / "net", "onnx", verify=False)


def test_a_function_that_counts_its_calls_is_refused_by_name() -> None:
    count = tf.Variable(0.0, name="count")

    def call(x: Any) -> Any:
        count.assign_add(1.0)
        return x * count

    with pytest.raises(UnsupportedError, match=r"count.*keeps a state"):
        netferry.convert(tf.function(call, [tf.TensorSpec([None, 3], name="x")]), "onnx", verify=False)


def test_statistics_that_a_call_moves_and_does_not_read_refuse_nothing(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    with quiet():
        layer = L.BatchNormalization()
        keras.Model(x, layer(x, training=True)).export(tmp_path / "net", verbose=False)
    feeds = {"x": floats(6, 4)}
    agree(
        ran(netferry.convert(tmp_path / "net", "onnx", verify=False).model, feeds),
        served(tmp_path / "net", feeds),
    )


def test_a_loop_may_begin_with_a_variable(tmp_path: Path) -> None:
    class Held(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = tf.Variable(floats(1, 3), name="first")

        @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.float32, "x")])  # type: ignore[untyped-decorator]
        def serve(self, x: Any) -> Any:
            return {
                "y": tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 0.5 + x), [0, self.first])[1]
            }

    held = Held()
    tf.saved_model.save(held, str(tmp_path / "net"), signatures=held.serve)
    made = netferry.convert(tmp_path / "net", "onnx", verify=False)
    assert made.route == "direct"
    feeds = {"x": floats(1, 3)}
    agree(ran(made.model, feeds), served(tmp_path / "net", feeds))


def test_a_pad_as_wide_as_the_window_of_an_average_behind_it_runs_in_onnxruntime() -> None:
    x = keras.Input((3, 7, 6), name="x")
    y = L.ZeroPadding2D(((1, 0), (0, 2)), data_format="channels_first")(x)
    model = keras.Model(x, L.AveragePooling2D(2, data_format="channels_first")(y))
    made = netferry.convert(model, "onnx", verify=False).model
    for batch in (1, 3):
        given = floats(batch, 3, 7, 6)
        padded = np.pad(given, [(0, 0), (0, 0), (1, 0), (0, 2)])
        want = padded.reshape(batch, 3, 4, 2, 4, 2).mean((3, 5))
        (got,) = ran(made, {"x": given}).values()
        np.testing.assert_allclose(got, want, atol=1e-6)
