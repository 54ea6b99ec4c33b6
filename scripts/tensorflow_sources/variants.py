"""The same models said otherwise: cells, wrappers, masks, dicts, functions of ``keras.ops``, preprocessing, dtypes, signatures, older files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tensorflow_sources import FAMILIES, Build, Feeds, Source, floats, integers, randomised

L, ops = keras.layers, keras.ops
Make = Callable[[], Any]


def rows(*sizes: int) -> list[Feeds]:
    return [{"x": floats(batch, *sizes, seed=batch)} for batch in (1, 4)]


def words(most: int, length: int) -> list[Feeds]:
    """Ids whose rows end in zeros, of two lengths."""
    found = []
    for batch, size in ((2, length), (3, length + 3)):
        x = integers(most - 1, batch, size, seed=batch) + 1
        x[0, size // 2 :] = 0
        found.append({"x": x.astype(np.int32)})
    return found


def given(make: Make, feeds: list[Feeds], ending: str | None = None) -> Build:
    """A live model, or the file or SavedModel of it that ``ending`` asks for."""

    def build(folder: Path) -> Source:
        model = randomised(make())
        path = folder / f"net{ending}"
        if ending:
            model.save(path)
        elif ending is not None:
            model.export(path, verbose=False)
        return Source(model if ending is None else path, partial(model, training=False), feeds, keras=model)

    return build


def functional(body: Callable[[Any], Any], *sizes: int | None, dtype: str = "float32") -> Make:
    def make() -> Any:
        x = keras.Input(sizes, name="x", dtype=dtype)
        return keras.Model(x, body(x))

    return make


# ---- recurrent layers ------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("sources")
class Leaky(keras.layers.Layer):  # type: ignore[misc]
    """A cell of one's own."""

    def __init__(self, units: int, **more: Any) -> None:
        super().__init__(**more)
        self.units = self.state_size = self.output_size = units

    def build(self, sizes: Any) -> None:
        self.w = self.add_weight(shape=(sizes[-1], self.units), name="w")
        self.u = self.add_weight(shape=(self.units, self.units), name="u")

    def call(self, x: Any, states: Any) -> Any:
        y = 0.5 * states[0] + ops.tanh(x @ self.w + states[0] @ self.u)
        return y, [y]

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


def merged(mode: str | None, kind: str = "LSTM") -> Callable[[Any], Any]:
    return lambda x: L.Bidirectional(getattr(L, kind)(5, return_sequences=True), merge_mode=mode)(x)


def begun(x: Any) -> Any:
    first = L.LSTM(5, return_sequences=True, return_state=True)(x)
    return L.Dense(2)(L.LSTM(5)(first[0], initial_state=list(first[1:])))


def unlike(x: Any) -> Any:
    both = L.Bidirectional(
        L.GRU(5, return_sequences=True), backward_layer=L.LSTM(5, return_sequences=True, go_backwards=True)
    )
    return both(x)


RECURRENT: dict[str, Callable[[Any], Any]] = {
    "sum of directions": merged("sum"),
    "product of directions": merged("mul", "GRU"),
    "mean of directions": merged("ave", "SimpleRNN"),
    "both directions by themselves": merged(None),
    "directions that differ": unlike,
    "with states": lambda x: L.LSTM(5, return_state=True)(x),
    "from states": begun,
    "both directions with states": lambda x: L.Bidirectional(L.GRU(4, return_state=True))(x),
    "a cell": lambda x: L.RNN(L.LSTMCell(5), return_sequences=True)(x),
    "cells on each other": lambda x: L.RNN([L.GRUCell(5), L.LSTMCell(4)], return_state=True)(x),
    "stacked cells": lambda x: L.RNN(L.StackedRNNCells([L.SimpleRNNCell(5), L.GRUCell(4)]))(x),
    "a cell of one's own": lambda x: L.RNN(Leaky(5), return_sequences=True)(x),
    "a cell of one's own in both directions": lambda x: L.Bidirectional(L.RNN(Leaky(5)))(x),
    "unrolled": lambda x: L.GRU(4, unroll=True, return_sequences=True)(x),
    "another activation": lambda x: L.LSTM(5, activation="relu", recurrent_activation="hard_sigmoid")(x),
    "without bias, reset before": lambda x: L.GRU(5, use_bias=False, reset_after=False)(x),
    "convolved": lambda x: L.ConvLSTM1D(3, 3, padding="same", return_sequences=True)(L.Reshape((7, 3, 2))(x)),
    "each step": lambda x: L.TimeDistributed(L.Dense(3, "relu"))(
        L.TimeDistributed(L.LayerNormalization())(x)
    ),
    "each image": lambda x: L.TimeDistributed(L.Conv1D(3, 2))(L.Reshape((7, 3, 2))(x)),
    "repeated": lambda x: L.LSTM(5, return_sequences=True)(L.RepeatVector(4)(L.LSTM(6)(x))),
}
for title, ending in (
    ("recurrent, live", None),
    ("recurrent, SavedModels", ""),
    ("recurrent, .keras", ".keras"),
):
    FAMILIES[title] = {
        name: given(functional(body, 7, 6), rows(7, 6), ending)
        for place, (name, body) in enumerate(RECURRENT.items())
        if ending != ".keras" or place % 2
    }


def read(body: Callable[[Any], Any], masked: bool = True) -> Make:
    return functional(lambda x: body(L.Embedding(12, 6, mask_zero=masked)(x)), None, dtype="int32")


def attended(x: Any) -> Any:
    return L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 3)(x, x))


MASKS: dict[str, Callable[[Any], Any]] = {
    "into an average": lambda x: L.GlobalAveragePooling1D()(x),
    "into attention": attended,
    "through a convolution": lambda x: L.LSTM(4)(L.Conv1D(5, 3, padding="same")(x)),
    "through a sum": lambda x: L.GRU(4)(L.Add()([x, L.Dense(6)(x)])),
    "into both directions": lambda x: L.Bidirectional(L.LSTM(4), merge_mode="sum")(x),
    "into each step": lambda x: L.LSTM(3)(L.TimeDistributed(L.Dense(4))(x)),
    "into a cell": lambda x: L.RNN([L.LSTMCell(4), L.GRUCell(3)])(x),
    "into a dot product": lambda x: L.Attention()([x, L.Dense(6)(x)]),
    "joined": lambda x: L.LSTM(4)(L.Concatenate()([x, L.Dense(2)(x)])),
    "from values": lambda x: L.SimpleRNN(4)(L.Masking(0.0)(x)),
}  # fmt: skip
FAMILIES["masks"] = {name: given(read(body), words(12, 6)) for name, body in MASKS.items()}
FAMILIES["masks, SavedModels"] = {
    name: given(read(body), words(12, 6), "") for name, body in list(MASKS.items())[::3]
}


# ---- functions of keras.ops ------------------------------------------------------------------------


class Function(keras.Model):  # type: ignore[misc]
    """A subclass whose call is a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function, self.dense = function, keras.layers.Dense(6)

    def call(self, x: Any) -> Any:
        return self.function(self.dense(x))


def followed(function: Callable[[Any], Any], *sizes: int) -> Build:
    def make() -> Any:
        model = Function(function)
        model(np.zeros((1, *sizes), np.float32))
        return model

    return given(make, rows(*sizes))


def scanned(x: Any) -> Any:
    return ops.associative_scan(lambda a, b: a + b, x, axis=1)


def searched(x: Any) -> Any:
    values, places = ops.top_k(x, 2)
    return {"values": values, "places": places}


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "cumulated": lambda x: ops.cumsum(x, 1) + ops.cumprod(x, -1),
    "sorted": lambda x: ops.concatenate([ops.sort(x, 1), ops.cast(ops.argsort(x, 1), "float32")], -1),
    "searched": searched,
    "where": lambda x: ops.where(x > 0, ops.log1p(ops.abs(x)), ops.expm1(x)),
    "einsum": lambda x: ops.einsum("bij,bkj->bik", x, ops.softmax(x)),
    "rolled": lambda x: ops.roll(x, 2, 1) - ops.flip(x, 1),
    "stacked": lambda x: ops.stack(ops.unstack(x, axis=1)[::-1], axis=2),
    "padded": lambda x: ops.pad(x, [[0, 0], [1, 2], [0, 1]], "reflect"),
    "split": lambda x: ops.concatenate(ops.split(x, [1, 3], axis=1)[::-1], 1),
    "tiled": lambda x: ops.tile(x, [1, 2, 1]) * ops.repeat(x, 2, 1),
    "masked": lambda x: ops.where(ops.tril(ops.ones((5, 5))) > 0, x @ ops.transpose(x, (0, 2, 1)), -1e9),
    "taken": lambda x: ops.take_along_axis(x, ops.argmax(x, 1, keepdims=True), 1) + ops.take(x, [2, 0], 1)[:, :1],
    "one hot": lambda x: ops.one_hot(ops.argmax(x, -1), 6) * ops.max(x, -1, keepdims=True),
    "statistics": lambda x: ops.std(x, 1, keepdims=True) + ops.var(x, -1, keepdims=True) + ops.median(x, 1, keepdims=True),
    "norms": lambda x: ops.norm(x, axis=-1, keepdims=True) + ops.logsumexp(x, -1, keepdims=True),
    "positions": lambda x: x + ops.cast(ops.arange(ops.shape(x)[1]), "float32")[:, None],
    "clipped": lambda x: ops.clip(x, -1.0, 1.0) + ops.maximum(x, 0.1) * ops.sign(x) + ops.floor(x),
    "trigonometry": lambda x: ops.arctan2(x, 1.0 + x * x) + ops.sinh(ops.clip(x, -1, 1)) + ops.erf(x),
    "of an image": lambda x: ops.image.resize(ops.reshape(x, (-1, 5, 3, 2)), (7, 9), "bilinear"),
    "diagonals": lambda x: ops.diagonal(x, axis1=1, axis2=2) + ops.trace(x, axis1=1, axis2=2)[:, None],
    "scattered": lambda x: ops.scatter_update(x, [[0, 1, 2]], [7.0]) + ops.slice_update(x, (0, 1, 1), ops.zeros((1, 2, 2))),
    "normalised": lambda x: ops.normalize(x, order=2, axis=1) + ops.layer_normalization(x),
    "histogram": lambda x: ops.sum(ops.cast(ops.digitize(x, [-1.0, 0.0, 1.0]), "float32"), 1),
    "a branch": lambda x: ops.cond(ops.sum(x) > 0, lambda: x * 2, lambda: x - 1),
    "a loop": lambda x: ops.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, ops.tanh(y)), (0, x))[1],
    "a scan": lambda x: ops.transpose(ops.scan(lambda c, z: (c + z, c * z), x[:, 0], ops.transpose(x, (1, 0, 2)))[1], (1, 0, 2)),
    "a map": lambda x: ops.map(lambda row: row * ops.max(row), x),
    "a cumulated scan": scanned,
}  # fmt: skip
FAMILIES["functions of keras.ops"] = {name: followed(body, 5, 6) for name, body in FUNCTIONS.items()}


# ---- preprocessing ---------------------------------------------------------------------------------


def normalised(x: Any) -> Any:
    layer = L.Normalization(axis=-1)
    layer.adapt(floats(20, 9, 8, 3, seed=3) * 2 + 1)
    return layer(x)


PREPARED: dict[str, Callable[[Any], Any]] = {
    "rescaled": lambda x: L.Rescaling([1 / 127.5, 1 / 255, 2.0], offset=[-1.0, 0.0, 0.5])(x),
    "normalised": normalised,
    "resized": lambda x: L.Resizing(5, 12, interpolation="bilinear")(x),
    "resized by aspect": lambda x: L.Resizing(6, 6, crop_to_aspect_ratio=True)(x),
    "resized to the nearest": lambda x: L.Resizing(4, 16, interpolation="nearest")(x),
    "its centre": lambda x: L.CenterCrop(5, 6)(x),
    "its centre, larger": lambda x: L.CenterCrop(11, 6)(x),
    "drawn in training only": lambda x: L.RandomRotation(0.2)(L.RandomFlip()(L.RandomZoom(0.1)(x))),
    "noise in training only": lambda x: L.GaussianNoise(0.2)(L.SpatialDropout2D(0.3)(x)),
}
FAMILIES["preprocessing"] = {
    name: given(functional(body, 9, 8, 3), rows(9, 8, 3)) for name, body in PREPARED.items()
}


def counted(layer: Make, most: int, length: int, dtype: str = "int64") -> Build:
    feeds = [{"x": integers(most, batch, length, seed=batch).astype(dtype)} for batch in (1, 4)]
    return given(
        functional(lambda x: L.Dense(3)(ops.cast(layer()(x), "float32")), length, dtype=dtype), feeds
    )


FAMILIES["numbers of categories"] = {
    "one hot": counted(lambda: L.CategoryEncoding(7, "multi_hot"), 7, 4),
    "counted": counted(lambda: L.CategoryEncoding(7, "count"), 7, 4),
    "looked up": counted(lambda: L.IntegerLookup(vocabulary=[3, 1, 6]), 7, 4),
    "looked up, many hot": counted(
        lambda: L.IntegerLookup(vocabulary=[3, 1, 6], output_mode="multi_hot"), 7, 4
    ),
    "in bins": given(
        functional(lambda x: L.Embedding(4, 3)(L.Discretization([-1.0, 0.0, 1.0])(x)), 6), rows(6)
    ),
}


# ---- forms -----------------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("sources")
class Block(keras.layers.Layer):  # type: ignore[misc]
    """A layer of layers, which it may be given in a list or a dict."""

    def __init__(self, units: int = 5, **more: Any) -> None:
        super().__init__(**more)
        self.units = units
        self.inner = [keras.layers.Dense(units, "relu"), keras.layers.Dense(units)]
        self.named = {"norm": keras.layers.LayerNormalization()}

    def call(self, x: Any) -> Any:
        y = x
        for layer in self.inner:
            y = layer(y)
        return self.named["norm"](y) if x.shape[-1] != self.units else x + self.named["norm"](y)

    def get_config(self) -> Any:
        return {**super().get_config(), "units": self.units}


class Paired(keras.Model):  # type: ignore[misc]
    """A subclass that takes and gives dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Block(5), Block(4)

    def call(self, given: Any) -> Any:
        y = self.one(given["a"])
        return {"z": self.two(y) + given["b"], "early": y}


def paired(_: Path) -> Source:
    model = Paired()
    feeds = [{"a": floats(batch, 5), "b": floats(batch, 4, seed=1)} for batch in (1, 4)]
    model(feeds[0])
    return Source(randomised(model), lambda a, b: model({"a": a, "b": b}), feeds)


def nested(_: Path) -> Source:
    a, b, c = (keras.Input((size,), name=name) for size, name in ((5, "a"), (3, "b"), (2, "c")))
    y = L.Concatenate()([Block(4)(a), b, L.Dense(2)(c)])
    model = randomised(keras.Model({"first": a, "rest": [b, c]}, {"y": y, "parts": (L.ReLU()(y), a * 2)}))
    feeds = [{"a": floats(n, 5), "b": floats(n, 3, seed=1), "c": floats(n, 2, seed=2)} for n in (1, 4)]
    return Source(model, lambda a, b, c: model({"first": a, "rest": [b, c]}), feeds)


def shared() -> Any:
    x, layer = keras.Input((5,), name="x"), L.Dense(5, "tanh")
    return keras.Model(x, [layer(layer(x)), L.Dense(2)(layer(x))])


def within() -> Any:
    inner = keras.Sequential([L.Dense(5, "relu"), keras.Sequential([Block(5), L.Dense(5)])])
    x = keras.Input((5,), name="x")
    return keras.Model(x, inner(x) + inner(x * 2))


def cloned() -> Any:
    return keras.models.clone_model(within())


def reloaded() -> Any:
    return keras.models.model_from_json(shared().to_json())


def mixed(policy: str) -> Make:
    def make() -> Any:
        x = keras.Input((6, 6, 3), name="x")
        y = L.Conv2D(4, 3, dtype=policy, activation="relu")(x)
        return keras.Model(x, L.Dense(2, dtype="float32")(L.GlobalAveragePooling2D(dtype=policy)(y)))

    return make


FORMS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "a layer of layers": (functional(Block(5), 5), (5,)),
    "shared layers": (shared, (5,)),
    "models within models": (within, (5,)),
    "cloned": (cloned, (5,)),
    "by way of JSON": (reloaded, (5,)),
    "a list of layers": (lambda: keras.Sequential([keras.Input((5,), name="x"), Block(4), L.Dense(3), L.Softmax()]), (5,)),
    "spectral": (functional(lambda x: L.SpectralNormalization(L.Dense(3))(x), 5), (5,)),
    "regularised": (functional(lambda x: L.ActivityRegularization(0.1)(L.Dense(3, kernel_regularizer="l2")(x)), 5), (5,)),
    "group attention": (functional(lambda x: L.GroupQueryAttention(4, 4, 2)(x, x, use_causal_mask=True), 5, 8), (5, 8)),
    "double": (functional(lambda x: L.Dense(3, dtype="float64")(x), 5), (5,)),
}  # fmt: skip
for title, ending in (
    ("other forms", None),
    ("other forms, .keras", ".keras"),
    ("other forms, SavedModels", ""),
):
    FAMILIES[title] = {
        name: given(make, rows(*sizes), ending)
        for name, (make, sizes) in FORMS.items()
        if ending is None or name != "regularised"
    }
FAMILIES["other forms"] |= {"dicts": paired, "nested": nested}


# ---- modules ---------------------------------------------------------------------------------------


class Nested(tf.Module):  # type: ignore[misc]
    """Modules within a module, in a list and a dict; two signatures, one of which calls the other."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = [tf.Variable(floats(5, 5, seed=k) * 0.4, name=f"part{k}") for k in range(2)]
        self.named = {"scale": tf.Variable(floats(5, seed=4))}

    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def features(self, x: Any) -> Any:
        for part in self.parts:
            x = tf.nn.elu(x @ part)
        return {"features": x}

    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def serve(self, x: Any) -> Any:
        y = self.features(x)["features"]
        return {"b": y * self.named["scale"], "a": tf.reduce_sum(y, 1), "c": [y, x]}


def module(folder: Path) -> Source:
    held = Nested()
    plain = tf.function(
        lambda x: {k: v for k, v in held.serve(x).items() if k != "c"},
        [tf.TensorSpec([None, 5], tf.float32, "x")],
    )
    tf.saved_model.save(
        held, str(folder / "net"), signatures={"serving_default": plain, "features": held.features}
    )
    return Source(folder / "net", plain, rows(5))


def function(body: Callable[..., Any], feeds: list[Feeds], *specs: Any) -> Build:
    def build(_: Path) -> Source:
        serve = tf.function(body, list(specs), autograph=body is arrays)
        return Source(serve, serve, feeds)

    return build


def spec(*sizes: int | None, name: str = "x", dtype: Any = tf.float32) -> Any:
    return tf.TensorSpec(sizes, dtype, name)


def beamed(x: Any) -> Any:
    """The largest sums of two steps, and where they came from."""
    best, place = tf.math.top_k(tf.reshape(x[:, :, None] + x[:, None], [tf.shape(x)[0], -1]), 3)
    return tf.gather(x, place // 6, batch_dims=1) + best


def arrays(x: Any) -> Any:
    kept = tf.TensorArray(tf.float32, 5, element_shape=[None])
    for k in tf.range(5):
        kept = kept.write(k, x[:, k] * tf.cast(k, tf.float32))
    return tf.transpose(kept.stack())


FAMILIES["other functions"] = {
    "modules within a module": module,
    "two inputs": function(lambda x, y: (x @ tf.transpose(y), y), [{"x": floats(b, 6), "y": floats(3, 6)} for b in (1, 4)], spec(None, 6), spec(None, 6, name="y")),
    "a dict": function(lambda x: {"b": x, "a": tf.nn.softmax(x)}, rows(6), spec(None, 6)),
    "an unknown rank": function(lambda x: tf.nn.relu(x) * 2.0, rows(6), tf.TensorSpec(None, tf.float32, "x")),
    "a beam": function(beamed, rows(6), spec(None, 6)),
    "an array": function(arrays, rows(6), spec(None, 6)),
    "a switch": function(lambda x: tf.switch_case(tf.cast(tf.reduce_sum(x) > 0, tf.int32), [lambda: x, lambda: x * 2]), rows(6), spec(None, 6)),
    "while, of two": function(lambda x: tf.while_loop(lambda _, a, __: tf.reduce_max(a) < 50.0, lambda i, a, b: (i + 1, a * 2 + 1, b + a), [0, tf.abs(x), x])[2], rows(6), spec(None, 6)),
    "bools": function(lambda x: tf.reduce_any(x > 1, 1) & tf.reduce_all(x < 2, 1), rows(6), spec(None, 6)),
    "numbers": function(lambda x: tf.bitwise.bitwise_xor(x, 3) % 5 + tf.maximum(x, 7), [{"x": integers(90, b, 6)} for b in (1, 4)], spec(None, 6, dtype=tf.int32)),
    "spectra": function(lambda x: tf.abs(tf.signal.stft(x, 8, 4)), rows(32), spec(None, 32)),
    "unique": function(lambda x: tf.math.unsorted_segment_max(x, [0, 1, 0], 2), [{"x": floats(3, 6)}], spec(3, 6)),
    "a pyramid": function(lambda x: [tf.nn.avg_pool2d(x, k, k, "SAME") for k in (1, 2, 3)], rows(9, 8, 3), spec(None, None, None, 3)),
    "erosion": function(lambda x: tf.nn.dilation2d(x, tf.zeros([3, 3, 3]), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1]), rows(9, 8, 3), spec(None, 9, 8, 3)),
    "fake integers": function(lambda x: tf.quantization.fake_quant_with_min_max_args(x, -2, 2, 8), rows(6), spec(None, 6)),
    "connected": function(lambda x: tf.nn.ctc_greedy_decoder(tf.transpose(x, (1, 0, 2)), tf.fill([tf.shape(x)[0]], 7))[1], rows(7, 5), spec(None, 7, 5)),
}  # fmt: skip


# ---- Keras 2 ---------------------------------------------------------------------------------------


def old(
    body: Callable[[Any, Any], Any],
    feeds: list[Feeds],
    sizes: tuple[int | None, ...],
    ending: str,
    dtype: str = "float32",
) -> Build:
    def build(folder: Path) -> Source:
        import tf_keras

        x = tf_keras.Input(sizes, name="x", dtype=dtype)
        model = randomised(tf_keras.Model(x, body(tf_keras.layers, x)))
        path = folder / f"net{ending}"
        model.save(path) if ending else model.save(path, save_format="tf")
        return Source(path, model, feeds)

    return build


def lambdas(layers: Any, x: Any) -> Any:
    """Functions of TensorFlow between layers: each is a TFOpLambda."""
    y = tf.nn.relu(layers.Dense(6)(x)) + tf.reduce_mean(x, axis=-1, keepdims=True)
    y = tf.concat([y[:, 1:], tf.cast(y > 0, tf.float32)[:, :2]], -1)
    return tf.math.l2_normalize(tf.reshape(y * 2.0 - 1.0, (-1, 7)), axis=1)


def together(layers: Any, x: Any) -> Any:
    layer = layers.Dense(5, "tanh")
    return layers.Dense(2)(layers.Add()([layer(x), layer(layers.Dense(6)(x))]))


OLD: dict[str, tuple[Callable[[Any, Any], Any], tuple[int, ...]]] = {
    "functions between layers": (lambdas, (6,)),
    "shared layers": (together, (6,)),
    "attention": (lambda layers, x: layers.MultiHeadAttention(2, 3)(x, x), (5, 6)),
    "separable": (lambda layers, x: layers.SeparableConv1D(4, 3, padding="same")(x), (5, 6)),
    "both directions": (lambda layers, x: layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode="concat")(x), (5, 6)),
    "cells": (lambda layers, x: layers.RNN([layers.LSTMCell(4), layers.LSTMCell(3)])(x), (5, 6)),
    "each step": (lambda layers, x: layers.TimeDistributed(layers.Dense(3))(x), (5, 6)),
    "a model within": (lambda layers, x: __import__("tf_keras").Sequential([layers.Dense(4), layers.ReLU(6.0)])(x), (6,)),
}  # fmt: skip
if find_spec("tf_keras") is not None:
    for ending in (".h5", ".keras", ""):
        FAMILIES[f"more of Keras 2, {ending or 'SavedModels'}"] = {
            name: old(body, rows(*sizes), sizes, ending) for name, (body, sizes) in OLD.items()
        }
