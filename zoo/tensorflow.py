"""The reference models as a Keras user writes them, trained with ``compile`` and ``fit``.

Classifiers return probabilities, here as in the other frameworks, so that outputs can be compared;
images are (batch, height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from netferry.converters.signature import Array
from netferry.converters.tensorflow.runtime import keras
from netferry.zoo.catalog import CATALOG, ModelSpec, Progress
from netferry.zoo.data import Dataset

layers = keras.layers


def linear(spec: ModelSpec = CATALOG["linear"]) -> keras.Model:
    features, outputs = spec.sizes
    return keras.Sequential(
        [
            keras.Input((features,), name="features"),
            layers.Dense(outputs, name="linear"),
        ],
        name="linear",
    )


def linear_diabetes(spec: ModelSpec = CATALOG["linear-diabetes"]) -> keras.Model:
    features, outputs = spec.sizes
    return keras.Sequential(
        [
            keras.Input((features,), name="features"),
            layers.Dense(outputs, name="linear"),
        ],
        name="linear_diabetes",
    )


def logistic(spec: ModelSpec = CATALOG["logistic"]) -> keras.Model:
    features, outputs = spec.sizes
    return keras.Sequential(
        [
            keras.Input((features,), name="features"),
            layers.Dense(outputs, activation="sigmoid", name="linear"),
        ],
        name="logistic",
    )


def cnn_binary(spec: ModelSpec = CATALOG["cnn-binary"]) -> keras.Model:
    channels, filters, units, outputs = spec.sizes
    return keras.Sequential(
        [
            keras.Input((32, 32, channels), name="image"),
            layers.Conv2D(filters, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(outputs, activation="sigmoid", name="head"),
        ],
        name="cnn_binary",
    )


def cnn(spec: ModelSpec = CATALOG["cnn"]) -> keras.Model:
    channels, first, second, units, classes = spec.sizes
    return keras.Sequential(
        [
            keras.Input((28, 28, channels), name="image"),
            layers.Conv2D(first, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2, name="pool1"),
            layers.Conv2D(second, 3, activation="relu", name="conv2"),
            layers.MaxPooling2D(2, name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(classes, activation="softmax", name="head"),
        ],
        name="cnn",
    )


def rnn(spec: ModelSpec = CATALOG["rnn"]) -> keras.Model:
    features, hidden, classes = spec.sizes
    return keras.Sequential(
        [
            keras.Input((None, features), name="rows"),
            layers.SimpleRNN(hidden, name="rnn"),
            layers.Dense(classes, activation="softmax", name="head"),
        ],
        name="rnn",
    )


def lstm(spec: ModelSpec = CATALOG["lstm"]) -> keras.Model:
    features, hidden, classes = spec.sizes
    return keras.Sequential(
        [
            keras.Input((None, features), name="rows"),
            layers.LSTM(hidden, name="lstm"),
            layers.Dense(classes, activation="softmax", name="head"),
        ],
        name="lstm",
    )


def gru(spec: ModelSpec = CATALOG["gru"]) -> keras.Model:
    features, hidden, classes = spec.sizes
    return keras.Sequential(
        [
            keras.Input((None, features), name="rows"),
            layers.GRU(hidden, name="gru"),
            layers.Dense(classes, activation="softmax", name="head"),
        ],
        name="gru",
    )


def bilstm(spec: ModelSpec = CATALOG["bilstm"]) -> keras.Model:
    features, hidden, classes = spec.sizes
    return keras.Sequential(
        [
            keras.Input((None, features), name="rows"),
            layers.Bidirectional(layers.LSTM(hidden, name="lstm"), name="both"),
            layers.Dense(classes, activation="softmax", name="head"),
        ],
        name="bilstm",
    )


def mlp(spec: ModelSpec = CATALOG["mlp"]) -> keras.Model:
    pixels, first, second, classes = spec.sizes
    return keras.Sequential(
        [
            keras.Input((pixels,), name="pixels"),
            layers.Dense(first, name="hidden1"),
            layers.LayerNormalization(name="norm1"),
            layers.ReLU(name="relu1"),
            layers.Dense(second, name="hidden2"),
            layers.LayerNormalization(name="norm2"),
            layers.ReLU(name="relu2"),
            layers.Dense(classes, activation="softmax", name="head"),
        ],
        name="mlp",
    )


def cnn_bn(spec: ModelSpec = CATALOG["cnn-bn"]) -> keras.Model:
    channels, filters, classes = spec.sizes
    image = keras.Input((28, 28, channels), name="image")

    def conv(x: Any, name: str) -> Any:
        return layers.Conv2D(filters, 3, padding="same", use_bias=False, name=name)(x)

    x = layers.BatchNormalization(momentum=0.9, name="norm")(conv(image, "stem"))
    x = layers.MaxPooling2D(2, name="pool1")(layers.ReLU(name="relu")(x))
    y = layers.BatchNormalization(momentum=0.9, name="norm1")(conv(x, "conv1"))
    y = conv(layers.ReLU(name="relu1")(y), "conv2")
    y = layers.BatchNormalization(momentum=0.9, name="norm2")(y)
    x = layers.ReLU(name="relu2")(layers.Add(name="sum")([x, y]))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(2, name="pool2")(x))
    x = layers.Dropout(0.3, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, activation="softmax", name="head")(x), name="cnn_bn")


LOSSES: Mapping[str, Callable[[], keras.Loss]] = {
    "regression": keras.losses.MeanSquaredError,
    "binary": keras.losses.BinaryCrossentropy,
    "classes": keras.losses.SparseCategoricalCrossentropy,
}

OPTIMIZERS: Mapping[str, Callable[..., keras.Optimizer]] = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
}


def seed(value: int) -> None:
    """Fix what Keras draws from: initial weights, dropout, the order of batches."""
    keras.utils.set_random_seed(value)


def build(spec: ModelSpec) -> keras.Model:
    """The untrained model."""
    return globals()[spec.factory](spec)


def to_native(x: Array) -> Array:
    """Images are (batch, height, width, channels) here too."""
    return x


def train(model: keras.Model, spec: ModelSpec, dataset: Dataset, progress: Progress) -> list[float]:
    """``compile`` and ``fit``; returns the mean loss of each pass over the data."""

    def tell(epoch: int, logs: Mapping[str, float]) -> None:
        progress(epoch + 1, spec.epochs, f"loss {logs['loss']:.4f}")

    steps = spec.epochs * math.ceil(len(dataset.x_train) / spec.batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(spec.learning_rate, steps)
    model.compile(optimizer=OPTIMIZERS[spec.optimizer](schedule), loss=LOSSES[spec.task]())
    fitted = model.fit(
        dataset.x_train,
        dataset.y_train,
        batch_size=spec.batch_size,
        epochs=spec.epochs,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=tell)],
    )
    return [float(loss) for loss in fitted.history["loss"]]


def predict(model: keras.Model, x: Array) -> Array:
    """The outputs for ``x`` as the zoo's data has it, in inference mode."""
    outputs: Array = keras.ops.convert_to_numpy(model(to_native(x), training=False))
    return outputs


def save(model: keras.Model, directory: Path, name: str) -> list[Path]:
    """Keras' own single file."""
    path = directory / f"{name}.keras"
    model.save(path)
    return [path]


def load(spec: ModelSpec, directory: Path) -> Any:
    """The model that ``save`` left in ``directory``."""
    return keras.saving.load_model(directory / f"{spec.name}.keras")
