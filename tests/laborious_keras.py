"""Keras' configurations of little length and much work: weights that are made before anybody reads them, layers in layers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
from hostile import Kit
from hostile_keras import configured, named
from laborious import laborious

Config = dict[str, Any]
LARGE = "far larger than|far more numbers"
ANEW = "builds anew"


def model(layers: list[Config], shape: list[int | None]) -> Config:
    first = {
        "module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
        "config": {"batch_shape": shape, "dtype": "float32", "sparse": False, "name": "picture"},
    }  # fmt: skip
    return {
        "module": "keras", "class_name": "Sequential", "registered_name": "Sequential",
        "config": {"name": "net", "trainable": True, "dtype": "float32", "layers": [first, *layers]},
        "build_config": {"input_shape": shape},
    }  # fmt: skip


def written(kit: Kit, layers: list[Config], shape: list[int | None]) -> Path:
    """A ``.keras`` whose weights are those of another, smaller model."""

    def change(config: Config) -> None:
        config.clear()
        config |= model(layers, shape)

    return configured(kit, change)


def layer(kind: str, build: list[int | None] | None = None, **config: Any) -> Config:
    made = named("keras.layers", kind, **config)
    return made if build is None else {**made, "build_config": {"input_shape": build}}


ROW: list[int | None] = [None, 3]
PICTURE: list[int | None] = [None, 64, 64, 3]
TEXT: list[int | None] = [None, 9]
LAYERS: Mapping[str, tuple[list[Config], list[int | None], str | None]] = {
    "build_config_2_27": ([layer("Dense", [None, 1 << 27], units=4)], [None, 1 << 27], LARGE),
    "build_config_alone": ([layer("Dense", [None, 1 << 27], units=4)], ROW, LARGE),
    "an_input_of_2_27": ([layer("Dense", units=4)], [None, 1 << 27], LARGE),
    "units_squared": ([layer("Dense", units=15_000, name="a"), layer("Dense", units=15_000, name="b"), layer("Dense", units=15_000, name="c")], ROW, LARGE),
    "kernel_8192_squared": ([layer("Conv2D", filters=4, kernel_size=[8192, 8192], padding="same")], PICTURE, LARGE),
    "kernel_of_a_cube": ([layer("Conv3D", filters=4, kernel_size=[900, 900, 900], padding="same")], [None, 8, 8, 8, 3], LARGE),
    "depthwise_kernel": ([layer("DepthwiseConv2D", kernel_size=[8192, 8192], padding="same", depth_multiplier=9)], PICTURE, LARGE),
    "depth_multiplier": ([layer("DepthwiseConv2D", kernel_size=[3, 3], depth_multiplier=1 << 26)], PICTURE, LARGE),
    "separable_depth": ([layer("SeparableConv2D", filters=4, kernel_size=[3, 3], depth_multiplier=1 << 26)], PICTURE, LARGE),
    "transposed_kernel": ([layer("Conv2DTranspose", filters=4, kernel_size=[8192, 8192], padding="same")], PICTURE, LARGE),
    "locally_connected_like": ([layer("Conv2D", filters=15_000, kernel_size=[99, 99], padding="same")], PICTURE, LARGE),
    "an_embedding_of_many": ([layer("Embedding", input_dim=15_000, output_dim=15_000)], TEXT, LARGE),
    "heads_of_attention": ([layer("Embedding", input_dim=9, output_dim=9), layer("Bidirectional", layer=layer("LSTM", units=15_000))], TEXT, LARGE),
    "recurrent_units": ([layer("LSTM", units=15_000)], [None, 5, 3], LARGE),
    "gru_units": ([layer("GRU", units=15_000)], [None, 5, 3], LARGE),
    "a_cell_in_a_layer": ([layer("RNN", cell=layer("LSTMCell", units=15_000))], [None, 5, 3], LARGE),
    "a_convolutional_lstm": ([layer("ConvLSTM2D", filters=4, kernel_size=[4096, 4096], padding="same")], [None, 3, 64, 64, 3], LARGE),
    "einsum_dense": ([layer("EinsumDense", equation="ab,bcd->acd", output_shape=[30_000, 30_000])], ROW, LARGE),
    "normalisation_of_many": ([layer("BatchNormalization", [None, 1 << 28])], [None, 1 << 28], LARGE),
    "group_normalisation": ([layer("GroupNormalization", groups=1)], [None, 1 << 28], LARGE),
    "prelu_of_a_picture": ([layer("PReLU")], [None, 60_000, 60_000], LARGE),
    "categories_2_30": ([layer("CategoryEncoding", num_tokens=1 << 30, output_mode="multi_hot")], TEXT, None),
    "repeated_2_30": ([layer("RepeatVector", n=1 << 30)], ROW, None),
    "padded_2_30": ([layer("ZeroPadding2D", padding=[1 << 30, 1 << 30])], PICTURE, None),
    "upsampled_2_20": ([layer("UpSampling2D", size=[1 << 20, 1 << 20])], PICTURE, None),
    "pooled_8192": ([layer("AveragePooling2D", pool_size=[8192, 8192], strides=[1, 1], padding="same")], PICTURE, None),
    "resized_2_17": ([layer("Resizing", height=1 << 17, width=1 << 17)], PICTURE, None),
    "rescaled_dense_chain": ([layer("Activation", activation="tanh", name=f"a{i}") for i in range(1500)], ROW, ANEW),
    "dropouts_in_a_row": ([layer("Dropout", rate=0.5, name=f"a{i}") for i in range(1500)], ROW, ANEW),
    "permuted_often": ([layer("Permute", dims=[2, 1], name=f"a{i}") for i in range(1200)], [None, 4, 4], ANEW),
}  # fmt: skip


def _enter(name: str, layers: list[Config], shape: list[int | None], words: str | None) -> None:
    make: Callable[[Kit], Path] = lambda kit: written(kit, layers, shape)  # noqa: E731
    make.__module__ = __name__
    laborious(words, f"keras_{name}")(make)


for _name, _row in LAYERS.items():
    _enter(_name, *_row)


def _nested(depth: int) -> Config:
    made = layer("Activation", activation="relu", name="innermost")
    for level in range(depth):
        made = layer("TimeDistributed", layer=made, name=f"t{level}")
    return made


laborious("nested", "keras_layers_nested_40_deep")(
    lambda kit: written(kit, [_nested(40)], [None, *[2] * 40, 3])
)
laborious(None, "keras_layers_nested_10_deep")(lambda kit: written(kit, [_nested(10)], [None, *[2] * 10, 3]))


def _models(depth: int) -> Config:
    made = model([layer("Dense", units=3, name="d")], ROW)
    for level in range(depth):
        made["config"]["name"] = f"m{level}"
        made = model([made], ROW)
    return made


@laborious("nested|far")
def keras_models_nested_20_deep(kit: Kit) -> Path:
    def change(config: Config) -> None:
        config.clear()
        config |= _models(20)

    return configured(kit, change)


@laborious(LARGE)
def h5_kernel_8192_squared(kit: Kit) -> Path:
    path = kit.copy("whole.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"] = model(
            [layer("Conv2D", filters=4, kernel_size=[8192, 8192], padding="same")], PICTURE
        )["config"]
        file.attrs["model_config"] = json.dumps(config)
    return path


@laborious(LARGE)
def h5_input_of_2_27(kit: Kit) -> Path:
    path = kit.copy("whole.h5")
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"] = model([layer("Dense", units=4)], [None, 1 << 27])["config"]
        file.attrs["model_config"] = json.dumps(config)
    return path
