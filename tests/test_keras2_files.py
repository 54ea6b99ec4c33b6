"""Files that Keras 2 wrote: they become models of Keras 3 that compute the same, or are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras2_files import entry, functional, given, write_h5, written
from keras_models import FREE, carried, randomised, worst_error

from netferry.converters import source
from netferry.converters.errors import NetferryError, RefusedError, UnsupportedError
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import keras, tf

L = keras.layers
LIMIT = 3e-6

LAYERS: dict[str, tuple[Callable[[], Any], tuple[int | None, ...]]] = {
    "LSTM": (lambda: L.LSTM(4, return_sequences=True), (None, 6)),
    "LSTM backwards": (lambda: L.LSTM(4, go_backwards=True), (None, 6)),
    "GRU before the product": (lambda: L.GRU(4, reset_after=False), (None, 6)),
    "SimpleRNN": (lambda: L.SimpleRNN(4), (None, 6)),
    "RNN of a cell": (lambda: L.RNN(L.GRUCell(4)), (None, 6)),
    "Bidirectional": (lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)), (None, 6)),
    "TimeDistributed": (lambda: L.TimeDistributed(L.Dense(3)), (None, 6)),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), (6, 5, 3)),
    "SeparableConv2D": (lambda: L.SeparableConv2D(4, 3), (6, 5, 3)),
    "BatchNormalization": (lambda: L.BatchNormalization(), (6, 5, 3)),
    "LeakyReLU": (lambda: L.LeakyReLU(0.15), (6,)),
    "MultiHeadAttention": (lambda: L.MultiHeadAttention(2, 3), (5, 6)),
    "LayerNormalization": (lambda: L.LayerNormalization(epsilon=1e-4), (5, 6)),
}


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_keras_2_is_that_of_keras_3(name: str, suffix: str, tmp_path: Path) -> None:
    make, shape = LAYERS[name]
    x, layer = keras.Input(shape, name="x"), make()
    y = layer(x, x) if isinstance(layer, L.MultiHeadAttention) else layer(x)
    model = randomised(keras.Model(x, y))
    read = source.open_source(written(model, tmp_path / f"model{suffix}"))
    assert worst_error(model, carried(read), ((1, FREE[0]), (3, FREE[1]))) < LIMIT


def test_a_name_with_a_slash_loses_it(tmp_path: Path) -> None:
    config = functional(
        [given("x", [None, 6]), entry("Dense", "block/dense", {"units": 2}, [[["x", 0, 0, {}]]])],
        ["x"],
        [["block/dense", 0, 0]],
    )
    rng = np.random.default_rng(0)
    kernel, bias = rng.standard_normal((6, 2)).astype("f4"), rng.standard_normal(2).astype("f4")
    model = source.open_source(write_h5(tmp_path / "m.h5", config, {"block/dense": [kernel, bias]}))
    x = rng.standard_normal((3, 6)).astype("f4")
    (y,) = live.run(model, [x]).values()
    np.testing.assert_allclose(y, x @ kernel + bias, rtol=1e-5, atol=1e-6)


def calls(function: str, keywords: dict[str, Any], name: str = "f") -> dict[str, Any]:
    kind = "SlicingOpLambda" if function.endswith("getitem") else "TFOpLambda"
    return entry(kind, name, {"function": function, "dtype": "float32"}, [["x", 0, 0, keywords]])


FUNCTIONS: dict[str, tuple[list[dict[str, Any]], Callable[[Any], Any]]] = {
    "x + [1, 2, 3]": (
        [calls("__operators__.add", {"y": [1.0, 2.0, 3.0], "name": None})],
        lambda x: x + np.array([1, 2, 3]),
    ),
    "1 - x": (
        [
            entry(
                "TFOpLambda",
                "f",
                {"function": "math.subtract"},
                [["_CONSTANT_VALUE", -1, 1.0, {"y": ["x", 0, 0]}]],
            )
        ],
        lambda x: 1 - x,
    ),
    "relu": ([calls("nn.relu", {})], lambda x: np.maximum(x, 0)),
    "mean": (
        [calls("math.reduce_mean", {"axis": [1], "keepdims": True})],
        lambda x: x.mean(1, keepdims=True),
    ),
    "slice": (
        [calls("__operators__.getitem", {"slice_spec": [{"start": None, "stop": None, "step": None}, 1]})],
        lambda x: x[:, 1],
    ),
    "matmul": (
        [calls("linalg.matmul", {"b": ["x", 0, 0], "transpose_b": True})],
        lambda x: x @ np.swapaxes(x, 1, 2),
    ),
    "concat": (
        [
            entry(
                "TFOpLambda",
                "f",
                {"function": "concat"},
                [[["x", 0, 0, {"axis": 1}], ["x", 0, 0, {"axis": 1}]]],
            )
        ],
        lambda x: np.concatenate([x, x], 1),
    ),
    "leaky relu": ([calls("nn.leaky_relu", {})], lambda x: np.where(x > 0, x, 0.2 * x)),
    "transpose": ([calls("compat.v1.transpose", {"perm": [0, 2, 1]})], lambda x: np.swapaxes(x, 1, 2)),
    "hard sigmoid": (
        [entry("Activation", "f", {"activation": "hard_sigmoid"}, [[["x", 0, 0, {}]]])],
        lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    ),
    "reshape by sizes that are free": (
        [
            calls("compat.v1.shape", {"out_type": "int32"}, "s"),
            entry(
                "SlicingOpLambda",
                "b",
                {"function": "__operators__.getitem"},
                [["s", 0, 0, {"slice_spec": 0}]],
            ),
            entry(
                "SlicingOpLambda",
                "t",
                {"function": "__operators__.getitem"},
                [["s", 0, 0, {"slice_spec": 1}]],
            ),
            entry("TFOpLambda", "t3", {"function": "math.multiply"}, [["t", 0, 0, {"y": 3}]]),
            calls("reshape", {"shape": [["b", 0, 0], ["t3", 0, 0], 1]}),
        ],
        lambda x: x.reshape(len(x), -1, 1),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_between_layers_is_that_of_tensorflow(name: str, tmp_path: Path) -> None:
    layers, oracle = FUNCTIONS[name]
    config = functional([given("x", [None, None, 3]), *layers], ["x"], [["f", 0, 0]])
    if name == "slice":
        config = functional([given("x", [None, 4, 3]), *layers], ["x"], [["f", 0, 0]])
    arrived = carried(source.open_source(write_h5(tmp_path / "m.h5", config, {})))
    assert arrived.export.route == "direct"
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 4, 3)).astype("f4") * 2
        (y,) = arrived.run([x]).values()
        np.testing.assert_allclose(y, oracle(x), rtol=1e-5, atol=1e-5)


TABLE = np.random.default_rng(5).standard_normal((3, 4)).astype("f4")
CALLED: list[tuple[str, dict[str, Any], Callable[[Any], Any]]] = [
    ("tensordot", {"b": TABLE.tolist(), "axes": 1}, lambda x: tf.tensordot(x, TABLE, 1)),
    ("compat.v1.norm", {"ord": "euclidean", "axis": -1, "keepdims": None}, lambda x: tf.norm(x, axis=-1)),
    ("linalg.norm", {"ord": 1, "axis": 1, "keepdims": True}, lambda x: tf.norm(x, 1, 1, True)),
    ("nn.max_pool1d", {"ksize": 2, "strides": 2, "padding": "SAME"}, lambda x: tf.nn.max_pool1d(x, 2, 2, "SAME")),
    ("nn.avg_pool1d", {"ksize": [1, 3, 1], "strides": [1, 1, 1], "padding": "SAME"}, lambda x: tf.nn.avg_pool1d(x, 3, 1, "SAME")),
    ("roll", {"shift": [1, -2], "axis": [1, 2]}, lambda x: tf.roll(x, [1, -2], [1, 2])),
    ("sort", {"axis": 1, "direction": "DESCENDING"}, lambda x: tf.sort(x, 1, "DESCENDING")),
    ("linalg.band_part", {"num_lower": 1, "num_upper": 0}, lambda x: tf.linalg.band_part(x, 1, 0)),
    ("linalg.band_part", {"num_lower": -1, "num_upper": 1}, lambda x: tf.linalg.band_part(x, -1, 1)),
    ("linalg.diag_part", {}, tf.linalg.diag_part),
    ("linalg.trace", {}, tf.linalg.trace),
    ("math.cumprod", {"axis": 1}, lambda x: tf.math.cumprod(x, 1)),
    ("math.asinh", {}, tf.math.asinh),
    ("math.log_sigmoid", {}, tf.math.log_sigmoid),
    ("ensure_shape", {"shape": [None, 4, 3]}, lambda x: x),
]  # fmt: skip


@pytest.mark.parametrize("place", range(len(CALLED)), ids=lambda place: CALLED[place][0])
def test_a_function_of_tensorflow_gives_what_tensorflow_gives(place: int, tmp_path: Path) -> None:
    function, keywords, oracle = CALLED[place]
    agrees([calls(function, keywords)], oracle, tmp_path)


def agrees(layers: list[dict[str, Any]], oracle: Callable[[Any], Any], folder: Path, inside: int = 0) -> None:
    """At two batches; ``inside`` is which of the last layer's outputs is the model's."""
    config = functional([given("x", [None, 4, 3]), *layers], ["x"], [["f", 0, inside]])
    arrived = carried(source.open_source(write_h5(folder / "m.h5", config, {})))
    for batch in (1, 3):
        x = np.random.default_rng(batch).standard_normal((batch, 4, 3)).astype("f4") * 2
        (y,) = arrived.run([x]).values()
        np.testing.assert_allclose(y, oracle(tf.constant(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", [0, 1])
def test_the_largest_of_keras_2_are_values_and_places(output: int, tmp_path: Path) -> None:
    agrees([calls("math.top_k", {"k": 2})], lambda x: tf.math.top_k(x, 2)[output], tmp_path, output)


def test_a_gathering_by_rows_and_a_sum_of_several_are_those_of_tensorflow(tmp_path: Path) -> None:
    layers = [
        calls("math.argmax", {"axis": 2}, "places"),
        calls("compat.v1.gather", {"indices": ["places", 0, 0], "axis": 2, "batch_dims": 2}, "best"),
        entry("TFOpLambda", "f", {"function": "math.add_n"}, [[["best", 0, 0, {}], ["best", 0, 0, {}]]]),
    ]
    agrees(layers, lambda x: 2 * tf.reduce_max(x, 2), tmp_path)


def test_a_table_in_the_file_is_looked_up(tmp_path: Path) -> None:
    layers = [
        calls("math.argmax", {"axis": 2}, "places"),
        entry(
            "TFOpLambda",
            "f",
            {"function": "compat.v1.nn.embedding_lookup"},
            [["_CONSTANT_VALUE", -1, TABLE.tolist(), {"ids": ["places", 0, 0], "partition_strategy": "div"}]],
        ),
    ]
    agrees(layers, lambda x: tf.gather(TABLE, tf.argmax(x, 2)), tmp_path)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_decoder_that_begins_from_states_keeps_its_mask(kind: str, tmp_path: Path) -> None:
    """Keras 2 masked it; Keras 3 itself hands no mask on where states are given."""
    states = 2 if kind == "LSTM" else 1
    settings = {"units": 4, "return_state": True, "return_sequences": True}
    both = [[name, 0, 0, {}] for name in ("table",)] + [["first", 0, 1 + k, {}] for k in range(states)]
    layers = [
        given("x", [None, None], "int32"),
        entry(
            "Embedding", "table", {"input_dim": 9, "output_dim": 3, "mask_zero": True}, [[["x", 0, 0, {}]]]
        ),
        entry(kind, "first", settings, [[["table", 0, 0, {}]]]),
        entry(kind, "f", settings, [both]),
    ]
    table, first, second = (
        L.Embedding(9, 3, mask_zero=True),
        *(getattr(L, kind)(4, return_state=True, return_sequences=True) for _ in range(2)),
    )
    x = keras.Input((None,), dtype="int32")
    y = table(x)
    _, *begun = first(y)
    model = randomised(keras.Model(x, second(y, initial_state=begun, mask=y._keras_mask)[0]))
    weights = {
        name: layer.get_weights() for name, layer in (("table", table), ("first", first), ("f", second))
    }
    read = source.open_source(write_h5(tmp_path / "m.h5", functional(layers, ["x"], [["f", 0, 0]]), weights))
    arrived = carried(read)
    for ids in ([[3, 5, 2, 0, 0], [1, 0, 0, 0, 0]], [[3, 5, 2], [1, 4, 0], [8, 0, 0]]):
        (y,) = arrived.run([np.asarray(ids, np.int32)]).values()
        np.testing.assert_allclose(y, np.asarray(model(np.asarray(ids))), atol=2e-6)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "time first": (
        entry("LSTM", "f", {"units": 2, "time_major": True}, [[["x", 0, 0, {}]]]),
        "time_major=True",
    ),
    "a layer that is gone": (
        entry("LocallyConnected1D", "f", {"filters": 2, "kernel_size": [2]}, [[["x", 0, 0, {}]]]),
        "LocallyConnected1D",
    ),
    "a function without a row": (calls("signal.fft", {}), "tf.signal.fft"),
    "groups of a depthwise convolution": (
        entry("DepthwiseConv2D", "f", {"kernel_size": [2, 2], "groups": 3}, [[["x", 0, 0, {}]]]),
        "groups=3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_keras_3_has_no_counterpart_for_is_named(name: str, tmp_path: Path) -> None:
    layer, named = REFUSED[name]
    config = functional([given("x", [None, 4, 3]), layer], ["x"], [["f", 0, 0]])
    with pytest.raises(UnsupportedError, match=named):
        source.open_source(write_h5(tmp_path / "m.h5", config, {}))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = functional(
        [given("x", [None, 6]), entry("Dense", "d", {"units": 2}, [[["x", 0, 0, {}]]])], ["x"], [["d", 0, 0]]
    )
    with pytest.raises(RefusedError, match="weight"):
        source.open_source(write_h5(tmp_path / "m.h5", config, {"d": [np.zeros((6, 3)), np.zeros(2)]}))


@pytest.mark.parametrize("kind", ["os.system", "Lambda", "MyModel"])
def test_a_class_of_someone_elses_is_refused(kind: str, tmp_path: Path) -> None:
    config = functional(
        [given("x", [None, 6]), entry(kind, "d", {}, [[["x", 0, 0, {}]]])], ["x"], [["d", 0, 0]]
    )
    with pytest.raises(NetferryError, match="may act outside the model"):
        source.open_source(write_h5(tmp_path / "m.h5", config, {}))
