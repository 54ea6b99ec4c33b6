"""Layers of Keras, live and from each kind of file; the same of Keras 2 where tf_keras is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tensorflow_sources import FAMILIES, Array, Build, Source, floats, integers, randomised

Layers = Any
Body = tuple[Callable[[Layers, Any], Any], tuple[int, ...], int]
"""Of (layers, x) the output, the sizes of x without the batch, and how many rows a table has that looks x up (0: floats)."""


def attended(layers: Layers, x: Any) -> Any:
    y = layers.LayerNormalization()(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(y, y)])
    return layers.Dense(8)(layers.Dense(16, activation="gelu")(layers.LayerNormalization()(x)))


def residual(layers: Layers, x: Any) -> Any:
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x))
    y = layers.Add()([layers.ReLU()(y), layers.Conv2D(8, 1)(x)])
    return layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(y))


def u_shaped(layers: Layers, x: Any) -> Any:
    down = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x)
    up = layers.Conv2DTranspose(4, 2, strides=2)(down)
    return layers.Concatenate()([x, up, layers.UpSampling2D(interpolation="bilinear")(down)])


def recurrent(
    name: str, wrap: str = "", masked: bool = True, **arguments: Any
) -> Callable[[Layers, Any], Any]:
    def body(layers: Layers, x: Any) -> Any:
        layer = getattr(layers, name)(6, **arguments)
        y = layers.Embedding(12, 5, mask_zero=masked)(x)
        return (getattr(layers, wrap)(layer) if wrap else layer)(y)

    return body


BODIES: dict[str, Body] = {
    "dense": (lambda layers, x: layers.Dense(3)(layers.Dense(5, activation="elu")(x)), (7,), 0),
    "residual": (residual, (12, 10, 3), 0),
    "u shaped": (u_shaped, (8, 8, 3), 0),
    "depthwise": (lambda layers, x: layers.DepthwiseConv2D(3, depth_multiplier=2)(layers.SeparableConv2D(4, 3)(x)), (9, 9, 3), 0),
    "dilated": (lambda layers, x: layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x), (9, 9, 3), 0),
    "causal": (lambda layers, x: layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(x), (11, 3), 0),
    "pooled": (lambda layers, x: layers.Flatten()(layers.AveragePooling2D(2, padding="same")(layers.MaxPooling2D(3, 2, "same")(x))), (13, 11, 2), 0),
    "attended": (attended, (6, 8), 0),
    "lstm": (recurrent("LSTM"), (7,), 12),
    "gru in both directions": (recurrent("GRU", "Bidirectional", return_sequences=True), (7,), 12),
    "rnn from behind": (recurrent("SimpleRNN", go_backwards=True, return_sequences=True), (7,), 12),
    "lstm in both directions": (recurrent("LSTM", "Bidirectional", masked=False), (7,), 12),
    "prelu and others": (lambda layers, x: layers.PReLU(shared_axes=[1])(layers.ZeroPadding1D(1)(layers.Permute((2, 1))(x))), (5, 4), 0),
}  # fmt: skip


def feeds_of(sizes: tuple[int, ...], rows: int) -> list[dict[str, Array]]:
    """Two batches; of ids each row ends in zeros."""
    made = []
    for batch in (1, 4):
        x = integers(rows, batch, *sizes, seed=batch) if rows else floats(batch, *sizes, seed=batch)
        if rows:
            for row in range(batch):
                x[row, row + 2 :] = 0
        made.append({"x": x})
    return made


def model_of(name: str, library: Any = keras) -> Any:
    build, sizes, rows = BODIES[name]
    x = library.Input(sizes, name="x", dtype="int32" if rows else "float32")
    return randomised(library.Model(x, build(library.layers, x)))


def live(name: str) -> Build:
    def build(_: Path) -> Source:
        model = model_of(name)
        return Source(model, model, feeds_of(*BODIES[name][1:]), keras=model)

    return build


def saved(name: str, ending: str, library: str = "keras") -> Build:
    def build(folder: Path) -> Source:
        owner = __import__(library)
        model = model_of(name, owner)
        path = folder / f"net{ending}"
        if ending:
            model.save(path)
        elif library == "keras":
            model.export(path, verbose=False)
        else:
            model.save(path, save_format="tf")
        return Source(path, model, feeds_of(*BODIES[name][1:]), keras=model if library == "keras" else None)

    return build


FAMILIES["live Keras models"] = {name: live(name) for name in BODIES}
FAMILIES[".keras"] = {name: saved(name, ".keras") for name in list(BODIES)[::3]}
FAMILIES[".h5"] = {name: saved(name, ".h5") for name in list(BODIES)[1::3]}
FAMILIES["SavedModels of Keras"] = {name: saved(name, "") for name in BODIES}
if find_spec("tf_keras") is not None:
    FAMILIES["SavedModels of Keras 2"] = {name: saved(name, "", "tf_keras") for name in list(BODIES)[::2]}
    FAMILIES[".h5 of Keras 2"] = {name: saved(name, ".h5", "tf_keras") for name in list(BODIES)[1::2]}
    FAMILIES[".keras of Keras 2"] = {name: saved(name, ".keras", "tf_keras") for name in list(BODIES)[::4]}


# ---- forms -----------------------------------------------------------------------------------------


def two_inputs(shape: Callable[[Any, Any], Any]) -> Build:
    def build(_: Path) -> Source:
        a, b = keras.Input((5,), name="a"), keras.Input((3,), name="b")
        y = keras.layers.Dense(4)(keras.layers.Concatenate()([a, keras.layers.Dense(2)(b)]))
        model = randomised(keras.Model(shape(a, b), [y, keras.layers.ReLU()(y)]))
        feeds = [{"a": floats(batch, 5), "b": floats(batch, 3, seed=1)} for batch in (1, 4)]
        return Source(model, lambda a, b: model(shape(a, b)), feeds, keras=model)

    return build


def made(build_model: Callable[[], Any], *sizes: int) -> Build:
    def build(_: Path) -> Source:
        model = randomised(build_model())
        return Source(model, model, [{"x": floats(batch, *sizes)} for batch in (1, 4)], keras=model)

    return build


def inner() -> Any:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(5, activation="tanh")])


def twice() -> Any:
    x, shared = keras.Input((5,), name="x"), inner()
    return keras.Model([x], shared(shared(x)))


def rebuilt() -> Any:
    return keras.Model.from_config(twice().get_config())


class Called(keras.Model):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = keras.layers.Dense(6), keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.two(keras.ops.gelu(self.one(x)))


def called() -> Any:
    model = Called()
    model(floats(2, 5))
    return model


FAMILIES["forms of Keras models"] = {
    "a list of inputs": two_inputs(lambda a, b: [a, b]),
    "a dict of inputs": two_inputs(lambda a, b: {"a": a, "b": b}),
    "a model within a model, twice": made(twice, 5),
    "rebuilt from its configuration": made(rebuilt, 5),
    "a subclass that was called": made(called, 5),
    "a sequential model": made(inner, 5),
}
tf.random.set_seed(0)
