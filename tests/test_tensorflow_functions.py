"""Functions of TensorFlow and of ``keras.ops`` that no single operator of ONNX stands for, each against TensorFlow itself at two batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from served_models import floats, ran

import netferry
from netferry.converters.errors import UnsupportedError
from netferry.converters.tensorflow.runtime import keras, tf

L, ops = keras.layers, keras.ops


def close(want: Any, got: Any) -> bool:
    want, got = np.asarray(want).astype("f8"), got.astype("f8")
    return want.shape == got.shape and bool(np.abs(want - got).max() <= 1e-5 * max(np.abs(want).max(), 1e-6))


def spectrum(x: Any) -> Any:
    y = tf.signal.rfft(x)
    return tf.complex(tf.math.real(y), -tf.math.imag(y))


COMPLEX: dict[str, Callable[[Any], Any]] = {
    "the magnitude of frames": lambda x: tf.abs(tf.signal.stft(x, 8, 3, fft_length=16)),
    "frames that are cut": lambda x: tf.abs(tf.signal.rfft(x, [9])),
    "the power of a spectrum": lambda x: tf.math.real(spectrum(x) * tf.math.conj(spectrum(x))),
    "a quotient": lambda x: tf.math.imag(spectrum(x) / (spectrum(x) + tf.complex(20.0, 1.0))),
    "there and back": lambda x: tf.signal.irfft(tf.signal.rfft(x)[:, :9] * 2.0, [17]),
    "an even inverse": lambda x: tf.signal.irfft(tf.signal.rfft(x) * spectrum(x), [20]),
    "all of it": lambda x: tf.abs(tf.signal.ifft(tf.signal.fft(tf.complex(x, x * x)) * 2.0)),
    "a number that becomes real": lambda x: tf.cast(tf.signal.rfft(x), tf.float32) * 2.0,
    "a real number that becomes complex": lambda x: tf.math.imag(
        tf.cast(x[:, :10], tf.complex64) * spectrum(x)[:, :10]
    ),
    "two real axes, one cut and one padded": lambda x: tf.abs(
        tf.signal.rfft2d(tf.reshape(x, (-1, 6, 3)), [5, 4])
    ),
    "three real axes": lambda x: tf.abs(tf.signal.rfft3d(tf.reshape(x, (-1, 2, 3, 3)))),
    "two axes there and back": lambda x: tf.signal.irfft2d(
        tf.signal.rfft2d(tf.reshape(x, (-1, 3, 6))) * tf.complex(2.0, 1.0), [4, 7]
    ),
    "three axes there and back": lambda x: tf.signal.irfft3d(
        tf.signal.rfft3d(tf.reshape(x, (-1, 2, 3, 3))) * 2.0, [2, 3, 3]
    ),
    "two axes": lambda x: ops.fft2((ops.reshape(x, (-1, 6, 3)), ops.reshape(x * x, (-1, 6, 3))))[1],
    "in another order": lambda x: tf.math.real(tf.transpose(tf.reshape(spectrum(x), (-1, 5, 2)), (0, 2, 1))),
}
MATRICES: dict[str, Callable[[Any], Any]] = {
    "a diagonal of a broad matrix": lambda x: tf.linalg.set_diag(tf.reshape(x, (-1, 3, 6)), tf.reshape(x, (-1, 3, 6))[:, 0, :3]),
    "a diagonal above the main one": lambda x: tf.linalg.set_diag(tf.reshape(x, (-1, 6, 3)), tf.reshape(x, (-1, 6, 3))[:, :2, 0], k=1),
    "a diagonal below the main one": lambda x: tf.linalg.set_diag(tf.reshape(x, (-1, 6, 3)), tf.reshape(x, (-1, 6, 3))[:, :3, 0], k=-2),
    "a band as wide as a size": lambda x: tf.linalg.band_part(x[:, :, None] * x[:, None], tf.shape(x)[0], -1),
    "a band of truths": lambda x: tf.linalg.band_part(tf.ones((tf.shape(x)[0] + 4,) * 2, tf.bool), tf.minimum(tf.shape(x)[0], 2), 1),
    "a choice between truths": lambda x: tf.where(x > 0, x < 1, x > -1),
    "a trace": lambda x: ops.trace(ops.reshape(x, (-1, 3, 6)), axis1=1, axis2=2),
}  # fmt: skip
SUMS: dict[str, Callable[[Any], Any]] = {
    "three": lambda x: tf.add_n([x, x * 2, tf.tanh(x)]),
    "forty": lambda x: tf.add_n([x * number for number in range(40)]),
    "forty whole numbers": lambda x: tf.cast(tf.add_n([tf.cast(x * 9, tf.int32) * number for number in range(40)]), tf.float32),
    "forty complex": lambda x: tf.abs(tf.add_n([spectrum(x) * number for number in range(40)])),
}  # fmt: skip
UPDATES: dict[str, Callable[[Any], Any]] = {
    "a slice": lambda x: ops.slice_update(x, (0, 4), x[:1, :3] * 7),
    "a slice that would reach beyond": lambda x: ops.slice_update(x, (0, 16), x[:, :5] * 7),
    "scattered": lambda x: ops.scatter_update(x, [[0, 1], [0, 17]], [7.0, 8.0]),
    "added": lambda x: ops.scatter_update(x, [[0, 1], [0, 1]], [7.0, 8.0], reduction="add"),
    "the largest": lambda x: ops.scatter_update(x, [[0]], x[:1] * 2, reduction="max"),
    "a scan": lambda x: ops.scan(lambda c, z: (c + z, c * z), x[:, :3], ops.stack([x[:, 3:6], x[:, 5:8]]))[1],
}  # fmt: skip


def test_an_array_that_a_range_writes_is_what_its_loop_yields() -> None:
    def serve(x: Any) -> Any:
        kept = tf.TensorArray(tf.float32, 5, element_shape=[None])
        for k in tf.range(5):
            kept = kept.write(k, x[:, k] * tf.cast(k, tf.float32))
        return tf.transpose(kept.stack())

    given = tf.function(serve, [tf.TensorSpec([None, 18], name="x")])
    done = netferry.convert(given, "onnx", verify=False)
    assert done.route == "direct"
    for batch in (1, 4):
        x = floats(batch, 18)
        assert close(given(tf.constant(x)), next(iter(ran(done.model, {"x": x}).values())))


@pytest.mark.parametrize("title", [*COMPLEX, *MATRICES, *SUMS, *UPDATES])
def test_a_function_gives_what_tensorflow_gives(title: str) -> None:
    serve = tf.function(
        (COMPLEX | MATRICES | SUMS | UPDATES)[title], [tf.TensorSpec([None, 18], name="x")], autograph=False
    )
    done = netferry.convert(serve, "onnx", verify=False)
    assert done.route == "direct"
    for batch in (1, 4):
        x = floats(batch, 18)
        assert close(serve(tf.constant(x)), next(iter(ran(done.model, {"x": x}).values())))


def test_an_output_that_is_complex_is_refused_by_name() -> None:
    serve = tf.function(lambda x: {"y": spectrum(x)}, [tf.TensorSpec([None, 18], name="x")])
    with pytest.raises(UnsupportedError, match="complex"):
        netferry.convert(serve, "onnx", verify=False)


@pytest.mark.parametrize("title", UPDATES)
def test_an_update_in_a_keras_model_is_written_with_its_layers(title: str) -> None:
    if title == "a scan":
        pytest.skip("a scan is opened into TensorFlow's operators")
    x = keras.Input((18,), name="x")
    model = keras.Model(x, L.Dense(3)(L.Lambda(UPDATES[title])(L.Dense(18)(x))))
    done = netferry.convert(model, "onnx", verify=False)
    assert done.route == "direct"
    for batch in (1, 4):
        given = floats(batch, 18)
        assert close(model(given), next(iter(ran(done.model, {"x": given}).values())))


def test_cells_of_several_sizes_leave_out_what_a_mask_leaves_out() -> None:
    x = keras.Input((None,), dtype="int32", name="x")
    cells = [L.LSTMCell(4), L.GRUCell(3)]
    layer = L.RNN(cells, return_sequences=True, zero_output_for_mask=False)
    model = keras.Model(x, layer(L.Embedding(9, 5, mask_zero=True)(x)))
    done = netferry.convert(model, "onnx", verify=False)
    for ids in ([[3, 1, 0, 5], [0, 0, 2, 2]], [[1, 4, 0]]):
        given = np.asarray(ids, np.int32)
        assert close(model(given), next(iter(ran(done.model, {"x": given}).values())))
