"""Keras networks with random weights: vision, text, recurrent, integer outputs, half and mixed precision."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from sweep.case import Input, Network


def randomised(model: Any, seed: int = 0) -> Any:
    """Every weight drawn anew, variances positive."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed_generator" in variable.path or not variable.shape:
            continue
        fan = max(int(np.prod(variable.shape[:-1])), 1) if len(variable.shape) > 1 else 4
        values = rng.normal(0, 1 / np.sqrt(fan), variable.shape)
        variable.assign(np.abs(values) + 0.5 if "variance" in variable.path else values)
    return model


def calibrated(model: Any, seed: int = 0) -> Any:
    """Keras' own random kernels, scales and biases moved, statistics as of random inputs: else nothing reaches the output of a deep stack."""
    import keras

    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if len(variable.shape) == 1 and variable.name in ("gamma", "beta", "bias"):
            variable.assign(np.asarray(variable) + 0.2 * rng.standard_normal(variable.shape))
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    usual = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(rng.standard_normal((16, *model.input_shape[1:])).astype(np.float32), training=True)
    for layer, momentum in zip(norms, usual, strict=True):
        layer.momentum = momentum
    return model


def _built(make: Callable[[Any, Any], Any], dims: tuple[int | None, ...], dtype: str = "float32") -> Any:
    """A functional model of one input; ``make`` gets the layers and the input."""
    import keras

    keras.utils.set_random_seed(zlib.crc32(make.__name__.encode()) % 2**31)
    x = keras.Input(dims, dtype=dtype, name="ids" if dtype.startswith("int") else "x")
    return randomised(keras.Model(x, make(keras.layers, x)))


def cnn(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization(epsilon=1e-3)(x))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.Conv2D(8, (4, 2), strides=2, padding="same", activation="elu")(x)
    x = layers.AveragePooling2D(2, padding="same")(x)
    return layers.Dense(5, activation="softmax")(layers.Flatten()(x))


def mobile(layers: Any, x: Any) -> Any:
    y = layers.Conv2D(8, 3, strides=2, padding="same", activation="hard_swish")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu6")(
        layers.ZeroPadding2D(((0, 1), (0, 1)))(y)
    )
    y = layers.BatchNormalization()(y)
    gate = layers.Dense(8, activation="hard_sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.Multiply()([y, gate])
    return layers.Dense(4)(layers.GlobalMaxPooling2D()(y))


def resizer(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(4, 3, padding="same", activation="gelu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    x = layers.LeakyReLU(negative_slope=0.2)(layers.Cropping2D(((1, 2), (0, 3)))(x))
    return layers.UpSampling2D(2, interpolation="nearest")(x)


def mlp(layers: Any, x: Any) -> Any:
    x = layers.Dense(16, activation="swish")(x)
    x = layers.LayerNormalization(epsilon=1e-5)(layers.Dense(16, activation="gelu")(x))
    x = layers.Dense(16, activation="selu")(x)
    return layers.Dense(4, activation="sigmoid", name="head")(layers.Concatenate()([x, layers.Softmax()(x)]))


def lstm(layers: Any, x: Any) -> Any:
    return layers.Dense(3)(layers.LSTM(8, return_sequences=True)(x))


def bigru(layers: Any, x: Any) -> Any:
    return layers.Dense(3)(layers.Bidirectional(layers.GRU(6))(x))


def text(layers: Any, x: Any) -> Any:
    y = layers.Embedding(30, 8, mask_zero=True)(x)
    return layers.Dense(3)(layers.LSTM(6)(y))


def transformer(layers: Any, x: Any) -> Any:
    y = layers.Embedding(30, 8)(x)
    y = layers.LayerNormalization()(y + layers.MultiHeadAttention(2, 4)(y, y))
    y = layers.LayerNormalization()(y + layers.Dense(8)(layers.Dense(12, activation="gelu")(y)))
    return layers.Dense(3)(layers.GlobalAveragePooling1D()(y))


def conv1d(layers: Any, x: Any) -> Any:
    x = layers.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="tanh")(x)
    x = layers.SeparableConv1D(6, 3, padding="same", activation="softsign")(x)
    return layers.Dense(3, activation="softplus")(layers.AveragePooling1D(2)(x))


def classifier(layers: Any, x: Any) -> Any:
    import keras

    y = layers.Dense(5)(layers.Dense(12, activation="relu")(x))
    return [y, keras.ops.argmax(y, axis=-1), keras.ops.top_k(y, 2)[1]]


_IMAGE = Input("x", ("batch", 12, 12, 3))
_TABLE: tuple[tuple[str, str, Callable[[Any, Any], Any], Input], ...] = (
    ("cnn", "vision", cnn, _IMAGE),
    ("mobile", "vision", mobile, _IMAGE),
    ("resizer", "vision", resizer, Input("x", ("batch", 5, 6, 3))),
    ("mlp", "rows", mlp, Input("x", ("batch", 6))),
    ("lstm", "recurrent", lstm, Input("x", ("batch", "time", 5))),
    ("bigru", "recurrent", bigru, Input("x", ("batch", "time", 5))),
    ("masked text", "text", text, Input("ids", ("batch", "time"), "int32", 29)),
    ("transformer", "text", transformer, Input("ids", ("batch", "time"), "int32", 29)),
    ("conv1d", "vision", conv1d, Input("x", ("batch", 20, 4))),
    ("classifier", "integer", classifier, Input("x", ("batch", 6))),
)


def _dims(one: Input) -> tuple[int | None, ...]:
    return tuple(dim if isinstance(dim, int) else None for dim in one.dims[1:])


def _in_policy(policy: str, make: Callable[[], Any]) -> Any:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return make()
    finally:
        keras.config.set_dtype_policy(before)


def networks() -> list[Network]:
    found = [
        Network(f"keras {name}", "tensorflow", field, lambda make=make, one=one: _built(make, _dims(one), one.dtype), (one,))
        for name, field, make, one in _TABLE
    ]  # fmt: skip
    halves = (
        ("mixed_float16", "float32", "float16"), ("float16", "float16", "float16"),
        ("mixed_bfloat16", "float32", "bfloat16"),
    )  # fmt: skip
    for policy, given, precision in halves:
        for name, make, one in (
            ("mlp", mlp, Input("x", ("batch", 6), given)),
            ("cnn", cnn, Input("x", _IMAGE.dims, given)),
        ):
            found.append(
                Network(
                    f"keras {name} in {policy}", "tensorflow", "half",
                    lambda make=make, one=one, policy=policy: _in_policy(policy, lambda: _built(make, _dims(one), one.dtype)),
                    (one,), precision,
                )
            )  # fmt: skip
    return found
