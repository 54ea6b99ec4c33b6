"""Keras to ONNX on the direct road: what a model is made of beside the plain layers, against Keras' own outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import FREE, carried, distance, drawn, plainly, randomised, runs_here, worst_error

from netferry.converters.errors import UnsupportedError
from netferry.converters.signature import examples
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.to_onnx import to_onnx

L, ops = keras.layers, keras.ops
SIZES = ((1, FREE[0]), (3, FREE[1]))
LIMIT = 3e-6
IMAGE, STEPS = (8, 7, 6), (None, 6)

Make = Callable[[Any], Any]
Shape = tuple[int | None, ...]


def functional(make: Make, shape: Shape, dtype: str = "float32") -> Any:
    x = keras.Input(shape, name="x", dtype=dtype)
    return randomised(keras.Model(x, make(x)))


# ---- layers ---------------------------------------------------------------------------------

LAYERS: dict[str, tuple[Callable[[], Any], Shape]] = {
    "SpectralNormalization of a Dense": (lambda: L.SpectralNormalization(L.Dense(4)), (6,)),
    "SpectralNormalization of a Conv2D": (lambda: L.SpectralNormalization(L.Conv2D(4, 3)), IMAGE),
    "AdaptiveAveragePooling2D": (lambda: L.AdaptiveAveragePooling2D((4, 1)), (8, 7, 6)),
    "AdaptiveMaxPooling1D": (lambda: L.AdaptiveMaxPooling1D(3), (9, 4)),
    "AdaptiveAveragePooling2D to one": (lambda: L.AdaptiveAveragePooling2D(1), (None, None, 6)),
    "GlobalAveragePooling1D channels_first": (
        lambda: L.GlobalAveragePooling1D(data_format="channels_first"),
        (6, None),
    ),
    "Conv1DTranspose dilation": (lambda: L.Conv1DTranspose(4, 3, dilation_rate=2), STEPS),
    "Conv2DTranspose channels_first": (
        lambda: L.Conv2DTranspose(4, 3, strides=2, padding="same", data_format="channels_first"),
        (3, 6, 5),
    ),
    "Conv3DTranspose valid": (lambda: L.Conv3DTranspose(2, (2, 3, 2), strides=(1, 2, 3)), (3, 4, 2, 4)),
    "SeparableConv2D channels_first": (
        lambda: L.SeparableConv2D(5, 3, padding="same", data_format="channels_first"),
        (3, 6, 4),
    ),
    "Conv3D groups": (lambda: L.Conv3D(4, 2, groups=2), (4, 5, 4, 6)),
    "GroupNormalization of rows": (lambda: L.GroupNormalization(groups=3), (6,)),
    "GroupNormalization of a free length": (lambda: L.GroupNormalization(groups=3), STEPS),
    "UnitNormalization": (lambda: L.UnitNormalization(), STEPS),
    "RMSNormalization of two axes": (lambda: L.RMSNormalization(axis=(1, 2)), (4, 6)),
    "EinsumDense of heads": (lambda: L.EinsumDense("abc,cde->abde", output_shape=(None, 2, 3), bias_axes="de"), STEPS),
    "Dense relu6": (lambda: L.Dense(5, activation="relu6"), (6,)),
    "Dense of a function of keras.ops": (lambda: L.Dense(5, activation=lambda x: x * ops.sigmoid(2 * x)), (6,)),
    "Resizing": (lambda: L.Resizing(5, 9), IMAGE),
    "Resizing of free sizes": (lambda: L.Resizing(5, 9), (None, None, 3)),
    "Resizing nearest": (lambda: L.Resizing(5, 9, interpolation="nearest"), IMAGE),
    "Resizing channels_first": (lambda: L.Resizing(5, 9, data_format="channels_first"), (3, 8, 6)),
    "Resizing cut to wide proportions": (lambda: L.Resizing(3, 8, crop_to_aspect_ratio=True), IMAGE),
    "Resizing cut to high proportions": (lambda: L.Resizing(9, 4, crop_to_aspect_ratio=True), IMAGE),
    "Resizing padded to wide proportions": (
        lambda: L.Resizing(3, 8, pad_to_aspect_ratio=True, fill_value=0.3),
        IMAGE,
    ),
    "Resizing padded to high proportions": (lambda: L.Resizing(9, 4, pad_to_aspect_ratio=True), (3, 9, 6)),
    "CenterCrop": (lambda: L.CenterCrop(5, 4), IMAGE),
    "CenterCrop of free sizes": (lambda: L.CenterCrop(4, 3), (None, None, 3)),
    "UpSampling2D channels_first, bilinear": (
        lambda: L.UpSampling2D(2, data_format="channels_first", interpolation="bilinear"),
        (3, 5, 4),
    ),
    "RandomFlip": (lambda: L.RandomFlip(), IMAGE),
    "RandomRotation": (lambda: L.RandomRotation(0.2), (8, 8, 3)),
    "RandomZoom": (lambda: L.RandomZoom(0.2), (8, 8, 3)),
    "RandomTranslation": (lambda: L.RandomTranslation(0.2, 0.2), (8, 8, 3)),
    "RandomContrast": (lambda: L.RandomContrast(0.2), (8, 8, 3)),
    "RandomBrightness": (lambda: L.RandomBrightness(0.2), (8, 8, 3)),
    "RandomCrop": (lambda: L.RandomCrop(8, 8), (8, 8, 3)),
    "RandomShear": (lambda: L.RandomShear(0.2, 0.2), (8, 8, 3)),
    "RandomGrayscale": (lambda: L.RandomGrayscale(0.5), (8, 8, 3)),
    "AugMix": (lambda: L.AugMix(), (8, 8, 3)),
    "RandomGaussianBlur": (lambda: L.RandomGaussianBlur(), (8, 8, 3)),
    "RandomErasing": (lambda: L.RandomErasing(0.5), (8, 8, 3)),
    "Pipeline": (lambda: L.Pipeline([L.Rescaling(0.1), L.RandomFlip()]), (8, 8, 3)),
    "Discretization": (lambda: L.Discretization([-1.0, 0.0, 0.7, 2.0]), (6,)),
    "Discretization one_hot": (lambda: L.Discretization([-1.0, 0.0, 0.7], output_mode="one_hot"), (1,)),
    "AlphaDropout": (lambda: L.AlphaDropout(0.5), STEPS),
    "TimeDistributed LSTM": (lambda: L.TimeDistributed(L.LSTM(3)), (None, 5, 4)),
    "TimeDistributed model": (
        lambda: L.TimeDistributed(keras.Sequential([keras.Input((6,)), L.Dense(3, activation="gelu"), L.Dense(2)])),
        STEPS,
    ),
    "TimeDistributed LayerNormalization": (lambda: L.TimeDistributed(L.LayerNormalization()), STEPS),
    "TimeDistributed MaxPooling2D": (lambda: L.TimeDistributed(L.MaxPooling2D()), (3, 6, 5, 4)),
    "Lambda of keras.ops": (lambda: L.Lambda(lambda x: ops.tanh(x) * 2), (6,)),
    # recurrent
    "stacked cells": (lambda: L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_sequences=True, return_state=True), STEPS),
    "LSTM gelu": (lambda: L.LSTM(4, activation="gelu", return_sequences=True), STEPS),
    "GRU mish, backwards": (lambda: L.GRU(4, activation="mish", go_backwards=True, return_state=True), STEPS),
    "SimpleRNN of a lambda": (lambda: L.SimpleRNN(4, activation=lambda x: ops.sin(x)), STEPS),
    "Bidirectional of unequal layers": (
        lambda: L.Bidirectional(
            L.LSTM(4, return_sequences=True), backward_layer=L.LSTM(3, return_sequences=True, go_backwards=True)
        ),
        STEPS,
    ),
    "Bidirectional gelu, sum": (lambda: L.Bidirectional(L.GRU(4, activation="gelu"), merge_mode="sum"), STEPS),
    "ConvLSTM1D": (lambda: L.ConvLSTM1D(3, 3, padding="same", return_sequences=True), (None, 6, 2)),
    "ConvLSTM2D strides, state": (
        lambda: L.ConvLSTM2D(3, (3, 2), strides=2, padding="same", return_state=True),
        (None, 6, 5, 2),
    ),
    "ConvLSTM2D dilation, backwards": (
        lambda: L.ConvLSTM2D(
            3, 2, dilation_rate=2, go_backwards=True, return_sequences=True, recurrent_activation="hard_sigmoid"
        ),
        (None, 7, 6, 2),
    ),
    "ConvLSTM2D channels_first, no bias": (
        lambda: L.ConvLSTM2D(3, 3, padding="same", data_format="channels_first", use_bias=False),
        (None, 2, 5, 4),
    ),
    "ConvLSTM3D": (lambda: L.ConvLSTM3D(2, 2, padding="same"), (None, 3, 4, 3, 2)),
    "Bidirectional ConvLSTM2D": (
        lambda: L.Bidirectional(L.ConvLSTM2D(3, 3, padding="same", return_sequences=True)),
        (None, 5, 4, 2),
    ),
}  # fmt: skip


ONEDNN = (
    "Conv1DTranspose dilation",
    "Conv2DTranspose channels_first",
    "ConvLSTM2D channels_first, no bias",
)
"""Layers for which TensorFlow itself has no kernel on a processor where it runs without oneDNN."""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_in_onnxruntime_what_it_gives_in_keras(name: str) -> None:
    make, shape = LAYERS[name]
    model = functional(make(), shape)
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(plainly(model) if name in ONEDNN else model, onnx_model, SIZES) <= LIMIT


@pytest.mark.parametrize("name", ONEDNN)
def test_a_layer_in_plain_layers_is_what_keras_computes(name: str) -> None:
    make, shape = LAYERS[name]
    model = functional(make(), shape)
    arrays = drawn([(3, *(size or FREE[1] for size in shape))], ["float32"])
    if not runs_here(model, arrays):
        pytest.skip("TensorFlow has no kernel for this layer on this processor without oneDNN")
    (expected,), (received,) = (live.run(one, arrays).values() for one in (model, plainly(model)))
    assert distance(expected, received) <= LIMIT


INTEGERS: dict[str, tuple[Callable[[], Any], Shape, str]] = {
    "CategoryEncoding one_hot": (lambda: L.CategoryEncoding(7, output_mode="one_hot"), (1,), "int32"),
    "CategoryEncoding multi_hot": (lambda: L.CategoryEncoding(7, output_mode="multi_hot"), (5,), "int32"),
    "CategoryEncoding count": (lambda: L.CategoryEncoding(7, output_mode="count"), (5,), "int64"),
    "IntegerLookup": (lambda: L.IntegerLookup(vocabulary=[3, 5, 2]), (5,), "int64"),
    "IntegerLookup multi_hot": (lambda: L.IntegerLookup(vocabulary=[3, 5, 2], output_mode="multi_hot"), (5,), "int64"),
    "Discretization of integers": (lambda: L.Discretization([1.5, 3.0]), (5,), "int32"),
    "Embedding, ReversibleEmbedding": (lambda: L.ReversibleEmbedding(7, 4), (None,), "int32"),
    "Rescaling of bytes": (lambda: L.Rescaling(1 / 255, offset=0.5), (4, 4, 3), "uint8"),
    "Resizing of bytes": (lambda: L.Resizing(8, 8), (4, 4, 3), "uint8"),
    "RandomFlip of bytes": (lambda: L.RandomFlip(), (4, 4, 3), "uint8"),
}  # fmt: skip


@pytest.mark.parametrize("name", INTEGERS)
def test_a_layer_of_integers(name: str) -> None:
    make, shape, dtype = INTEGERS[name]
    model = functional(make(), shape, dtype)
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


# ---- attention ------------------------------------------------------------------------------

ATTENTION: dict[str, Callable[[Any, Any, Any], Any]] = {
    "AdditiveAttention": lambda a, b, m: L.AdditiveAttention()([a, b]),
    "AdditiveAttention causal, masked": lambda a, b, m: L.AdditiveAttention(use_scale=False)(
        [a, b], mask=[m, m], use_causal_mask=True
    ),
    "Attention concat, scaled": lambda a, b, m: L.Attention(score_mode="concat", use_scale=True)([a, b]),
    "Attention masked": lambda a, b, m: L.Attention()([a, b], mask=[m, m]),
    "Attention masked, causal, scores": lambda a, b, m: L.Attention()(
        [a, b, a], mask=[None, m], use_causal_mask=True, return_attention_scores=True
    ),
    "GroupQueryAttention": lambda a, b, m: L.GroupQueryAttention(5, 4, 2)(a, b),
    "GroupQueryAttention causal": lambda a, b, m: L.GroupQueryAttention(5, 4, 2)(a, b, use_causal_mask=True),
    "GroupQueryAttention scores": lambda a, b, m: L.GroupQueryAttention(5, 4, 2)(
        a, b, return_attention_scores=True
    ),
    "MultiHeadAttention with the masks of its inputs": lambda a, b, m: L.MultiHeadAttention(2, 5)(
        L.Masking(0.0)(a * ops.cast(m[:, :, None], "float32")), b
    ),
    "MultiHeadAttention with value_mask": lambda a, b, m: L.MultiHeadAttention(2, 5)(a, b, value_mask=m),
    "MultiHeadAttention with key and causal": lambda a, b, m: L.MultiHeadAttention(2, 5)(
        a, b, a, key_mask=m, use_causal_mask=True
    ),
    "MultiHeadAttention with heads in its mask": lambda a, b, m: L.MultiHeadAttention(2, 5)(
        a, b, attention_mask=ops.ones((1, 2, 6, 6)) * ops.cast(m[:, None, None, :], "float32") > 0
    ),
    "MultiHeadAttention over images": lambda a, b, m: L.MultiHeadAttention(2, 5, attention_axes=(1, 2))(
        ops.reshape(a, (-1, 2, 3, 6)), ops.reshape(b, (-1, 3, 2, 6))
    ),
    "MultiHeadAttention along the second of two": lambda a, b, m: L.MultiHeadAttention(2, 5, attention_axes=(2,))(
        ops.reshape(a, (-1, 2, 3, 6)), ops.reshape(b, (-1, 2, 3, 6))
    ),
    "MultiHeadAttention of two output axes": lambda a, b, m: L.MultiHeadAttention(2, 5, output_shape=(3, 2))(a, b),
    "Softmax with a mask": lambda a, b, m: L.Softmax()(ops.matmul(a, ops.transpose(b, (0, 2, 1))), mask=m[:, None]),
    "dot_product_attention": lambda a, b, m: ops.dot_product_attention(
        *(ops.reshape(x, (-1, 6, 2, 3)) for x in (a, b, a)), mask=m[:, None, None, :], is_causal=True
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str) -> None:
    a, b = keras.Input((6, 6), name="a"), keras.Input((6, 6), name="b")
    mask = keras.Input((6,), name="m", dtype="bool")
    model = randomised(keras.Model([a, b, mask], ATTENTION[name](a, b, mask)))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    for batch in (1, 3):
        arrays = drawn([(batch, 6, 6)] * 2, ["float32"] * 2)
        kept = np.arange(6) < np.array([[4], [6], [2]])[:batch]
        _agree(model, onnx_model, [*arrays, kept])


@pytest.mark.parametrize("causal", [False, True])
def test_attention_over_a_free_length(causal: bool) -> None:
    model = functional(lambda x: L.MultiHeadAttention(2, 5)(x, x, use_causal_mask=causal), STEPS)
    assert worst_error(model, carried(model), SIZES) <= LIMIT


def _agree(model: Any, onnx_model: Any, arrays: Sequence[Any], limit: float = LIMIT) -> None:
    expected = [np.asarray(y) for y in keras.tree.flatten(model(list(arrays), training=False))]
    received = list(onnx_model.run(arrays).values())
    assert [y.shape for y in received] == [y.shape for y in expected]
    assert all(distance(y, z) <= limit for y, z in zip(expected, received, strict=True))


# ---- masks ----------------------------------------------------------------------------------

MASKS = {
    "padding at the right": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]],
    "padding at the left": [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
    "holes": [[0, 1, 0, 1, 0], [1, 0, 0, 1, 1], [1, 1, 1, 0, 1]],
    "nothing left of one": [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
}

MASKED: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: L.LSTM(4, return_state=True),
    "LSTM sequences": lambda: L.LSTM(4, return_sequences=True),
    "LSTM backwards, sequences": lambda: L.LSTM(
        4, return_sequences=True, go_backwards=True, return_state=True
    ),
    "LSTM zero output": lambda: L.LSTM(4, return_sequences=True, zero_output_for_mask=True),
    "LSTM zero last output": lambda: L.LSTM(4, zero_output_for_mask=True),
    "GRU": lambda: L.GRU(4, return_sequences=True, return_state=True),
    "GRU reset before, backwards": lambda: L.GRU(4, go_backwards=True, reset_after=False),
    "GRU gelu": lambda: L.GRU(4, activation="gelu", return_sequences=True, return_state=True),
    "SimpleRNN": lambda: L.SimpleRNN(4, return_sequences=True),
    "stacked cells": lambda: L.RNN([L.LSTMCell(4), L.GRUCell(4)], return_sequences=True),
    "Bidirectional LSTM": lambda: L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True)),
    "Bidirectional GRU, last": lambda: L.Bidirectional(L.GRU(4), merge_mode="sum"),
    "Bidirectional RNN, apart": lambda: L.Bidirectional(
        L.SimpleRNN(4, return_sequences=True), merge_mode=None
    ),
}


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_of_any_form_gives_keras_own_numbers(name: str) -> None:
    """One graph for all masks: the form of a mask is known only when the model runs."""
    x, mask = keras.Input((None, 6), name="x"), keras.Input((None,), dtype="bool", name="m")
    model = randomised(keras.Model([x, mask], MASKED[name]()(x, mask=mask)))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct" and "Loop" not in onnx_model.operators
    for kept in MASKS.values():
        _agree(model, onnx_model, [*drawn([(3, 5, 6)], ["float32"]), np.array(kept, bool)])


def test_a_masked_layer_of_onnx_stays_one() -> None:
    masked = [L.Embedding(9, 4, mask_zero=True), L.LSTM(3, return_sequences=True), L.Bidirectional(L.GRU(3))]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *masked, L.Dense(2)])
    operators = carried(model).operators
    assert (operators["LSTM"], operators["GRU"]) == (1, 1)
    assert not {"Loop", "Scan", "If"} & set(operators)


def test_a_state_that_is_given_stays_where_a_mask_leaves_nothing() -> None:
    x, mask = keras.Input((None, 6)), keras.Input((None,), dtype="bool")
    h, c = keras.Input((4,)), keras.Input((4,))
    y = L.LSTM(4, return_state=True)(x, initial_state=[h, c], mask=mask)
    model = randomised(keras.Model([x, mask, h, c], y))
    arrays = [*drawn([(3, 5, 6)], ["float32"]), np.array(MASKS["nothing left of one"], bool)]
    _agree(model, carried(model), [*arrays, *drawn([(3, 4)] * 2, ["float32"] * 2)])


def embedded(*layers: Any) -> Make:
    def make(x: Any) -> Any:
        for layer in (L.Embedding(7, 4, mask_zero=True), *layers):
            x = layer(x)
        return x

    return make


HANDED_ON: dict[str, Make] = {
    "through Dense to a pool": embedded(L.Dense(3), L.GlobalAveragePooling1D()),
    "through Dropout, LayerNormalization": embedded(L.Dropout(0.5), L.LayerNormalization(), L.LSTM(3)),
    "through LSTM to LSTM": embedded(L.LSTM(3, return_sequences=True), L.LSTM(2)),
    "through Bidirectional": embedded(L.Bidirectional(L.GRU(3, return_sequences=True)), L.GRU(2)),
    "through TimeDistributed": embedded(L.TimeDistributed(L.Dense(3)), L.GRU(2)),
    "through a model": embedded(keras.Sequential([keras.Input((None, 4)), L.Dense(3), L.Dense(3)]), L.GRU(2)),
    "through Add": lambda x: L.LSTM(3)(L.Add()([L.Embedding(7, 4, mask_zero=True)(x), L.Embedding(7, 4)(x)])),
    "through Concatenate": lambda x: L.LSTM(3)(
        L.Concatenate()([L.Embedding(7, 4, mask_zero=True)(x), L.Embedding(7, 2, mask_zero=True)(x)])
    ),
    "to attention": lambda x: (lambda y: L.MultiHeadAttention(2, 3)(y, y))(L.Embedding(7, 4, mask_zero=True)(x)),
    "stopped by Conv1D": embedded(L.Conv1D(3, 2, padding="same"), L.LSTM(2)),
    "made by Masking": lambda x: L.LSTM(3)(L.Masking(0.0)(ops.cast(x, "float32")[..., None])),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("name", HANDED_ON)
def test_a_mask_goes_where_keras_takes_it(name: str) -> None:
    model = functional(HANDED_ON[name], (None,), "int32")
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    for tokens in ([[3, 0, 5, 1, 0, 0], [1, 2, 3, 0, 4, 0]], [[1, 0, 0]], [[0, 4, 5], [1, 2, 3], [6, 0, 0]]):
        _agree(model, onnx_model, [np.array(tokens, "int32")])


# ---- models whose call is Python code -------------------------------------------------------


class Block(L.Layer):
    """A transformer's block, written as one writes it."""

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = L.MultiHeadAttention(2, width // 2, name="attention")
        self.first, self.second = L.LayerNormalization(name="first"), L.LayerNormalization(name="second")
        self.wide, self.narrow = (
            L.Dense(width * 2, activation="gelu", name="wide"),
            L.Dense(width, name="narrow"),
        )

    def call(self, x: Any, training: bool = False) -> Any:
        y = self.first(x)
        x = x + self.attention(y, y, use_causal_mask=True, training=training)
        return x + self.narrow(self.wide(self.second(x)))


class Encoder(keras.Model):
    """Positions, a class token and lengths that are known only when it runs."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(name="encoder")
        self.project = L.Dense(width, name="project")
        self.positions = L.Embedding(32, width, name="positions")
        self.blocks = [Block(width, name=f"block{i}") for i in range(2)]
        self.head = L.Dense(3, name="head")
        self.token = self.add_weight(shape=(1, 1, width), name="token")
        self.gain = self.add_weight(shape=(width,), name="gain")

    def call(self, x: Any) -> Any:
        batch, length, _ = ops.shape(x)
        x = self.project(x) + self.positions(ops.arange(length))
        x = ops.concatenate([ops.broadcast_to(self.token, (batch, 1, 8)), x], axis=1)
        for block in self.blocks:
            x = block(x)
        x = self.gain * x + ops.zeros((batch, length + 1, 1))
        pairs = ops.reshape(x, (batch, length + 1, 2, 4))
        return {"logits": self.head(x[:, 0]), "pairs": ops.mean(pairs, axis=-1)}


def test_a_subclassed_model_is_followed_and_its_sizes_stay_free() -> None:
    model = Encoder()
    given = drawn([(2, 5, 6)], ["float32"])
    model(given[0])
    randomised(model)
    onnx_model = carried(model, examples({"signal": given[0]}, {"signal": {0: "batch", 1: "length"}}))
    assert onnx_model.export.route == "direct"
    names = {node.name for node in onnx_model.proto.graph.node}
    assert {"project", "block1/wide", "block0/attention"} <= {
        name.rsplit("/", 1)[0] for name in names
    } | names
    assert {"encoder/token", "encoder/gain"} <= set(onnx_model.initializers)
    for batch, length in ((1, 3), (3, 9)):
        arrays = drawn([(batch, length, 6)], ["float32"])
        expected, received = model(arrays[0]), onnx_model.run(arrays)
        assert list(received) == ["logits", "pairs"]
        assert all(distance(expected[key].numpy(), received[key]) <= LIMIT for key in received)


class Patches(keras.Model):
    """As a vision transformer begins: patches from an image, folded by sizes that are known."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = L.Conv2D(6, 4, strides=4)

    def call(self, image: Any) -> Any:
        patches = ops.image.extract_patches(image, 4)
        embedded = self.embed(image)
        batch, height, width, channels = ops.shape(embedded)
        flat = ops.reshape(embedded, (batch, height * width, channels))
        return ops.sum(patches, axis=(1, 2)), ops.softmax(flat, axis=1)


def test_a_subclassed_model_computes_with_its_own_sizes() -> None:
    model = Patches()
    image = drawn([(1, 8, 8, 3)], ["float32"])[0]
    model(image)
    randomised(model)
    free = {0: "batch", 1: "height", 2: "width"}
    onnx_model = carried(model, examples({"image": image}, {"image": free}))
    assert onnx_model.export.route == "direct"
    for shape in ((2, 8, 12, 3), (1, 16, 4, 3)):
        arrays = drawn([shape], ["float32"])
        received = list(onnx_model.run(arrays).values())
        assert all(distance(y.numpy(), z) <= LIMIT for y, z in zip(model(arrays[0]), received, strict=True))


class Recurrent(keras.layers.Layer):
    """A cell of a user's own."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = self.state_size = units
        self.inner = L.Dense(units)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)
        self.mix = self.add_weight(shape=(self.units,), name="mix")

    def call(self, x: Any, states: Any) -> Any:
        h = ops.tanh(self.inner(x) + self.mix * states[0])
        return h * 2, [h]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_cell_of_a_users_own_runs_step_by_step(backwards: bool) -> None:
    layer = L.RNN(Recurrent(4), return_sequences=True, return_state=True, go_backwards=backwards)
    model = functional(layer, STEPS)
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct" and onnx_model.operators["Scan"] == 1
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


class Counting(keras.Model):
    """It counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False, name="calls")

    def call(self, x: Any) -> Any:
        self.calls.assign(self.calls + 1)
        return x * self.calls


def test_a_state_is_neither_changed_nor_frozen_into_the_file() -> None:
    model = Counting()
    array = np.ones((2, 3), "float32")
    model(array)
    with pytest.raises(UnsupportedError, match="keeps a state"):
        carried(model, examples({"x": array}))
    assert float(model.calls.value) == 1


class Branching(keras.Model):
    def call(self, x: Any) -> Any:
        return x * 2 if ops.sum(x) > 0 else x * 3


def test_a_branch_on_what_is_in_a_tensor_is_refused() -> None:
    array = np.ones((2, 3), "float32")
    with pytest.raises(UnsupportedError, match="cannot be used as a boolean"):
        carried(Branching(), examples({"x": array}))


class Always(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.drop = L.Dropout(0.5, name="drop")

    def call(self, x: Any) -> Any:
        return self.drop(x, training=True)


def test_a_layer_that_is_called_in_training_mode_inside_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"node 'drop' \(Dropout\): it is called with training=True"):
        carried(Always(), examples({"x": np.ones((2, 3), "float32")}))


def test_keras_is_whole_again_after_a_walk_and_after_one_that_fails() -> None:
    layer = L.Dense(2)
    x = keras.Input((3,))
    model = keras.Model(x, layer(x))
    before = (keras.Layer.symbolic_call, keras.Variable.__mul__, len(layer._inbound_nodes), keras.ops.shape)
    carried(model)
    with pytest.raises(UnsupportedError):
        carried(Branching(), examples({"x": np.ones((2, 3), "float32")}))
    after = (keras.Layer.symbolic_call, keras.Variable.__mul__, len(layer._inbound_nodes), keras.ops.shape)
    assert before == after


def test_inputs_in_a_mapping_keep_their_names() -> None:
    inputs = {
        "words": keras.Input((None,), dtype="int32", name="words"),
        "gain": keras.Input((1,), name="gain"),
    }
    y = L.GRU(3)(L.Embedding(7, 4)(inputs["words"])) * inputs["gain"]
    model = randomised(keras.Model(inputs, {"plain": L.Dense(2)(y), "scaled": y}))
    onnx_model = carried(model)
    assert {value.name for value in onnx_model.proto.graph.input} == {"words", "gain"}
    assert [value.name for value in onnx_model.proto.graph.output] == ["plain", "scaled"]
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


# ---- mixed precision ------------------------------------------------------------------------

MIXED: dict[str, tuple[Callable[[], Sequence[Any]], Shape]] = {
    "Dense": (lambda: [L.Dense(5, activation="relu"), L.Dense(3, activation="softmax", dtype="float32")], (6,)),
    "a CNN": (
        lambda: [
            L.Conv2D(4, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.DepthwiseConv2D(3),
            L.GroupNormalization(2), L.GlobalAveragePooling2D(), L.Dense(3, dtype="float32"),
        ],
        (12, 11, 3),
    ),
    "LayerNormalization": (lambda: [L.Dense(6), L.LayerNormalization(), L.RMSNormalization()], STEPS),
    "LSTM": (lambda: [L.LSTM(4, return_sequences=True), L.GRU(3)], STEPS),
    "attention": (lambda: [L.Lambda(lambda x: x), SelfAttention()], STEPS),
}  # fmt: skip


class SelfAttention(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.attention = L.MultiHeadAttention(2, 4)

    def call(self, x: Any) -> Any:
        return self.attention(x, x)


@pytest.mark.parametrize("name", MIXED)
def test_mixed_precision_computes_in_half_floats_where_keras_does(name: str) -> None:
    make, shape = MIXED[name]
    keras.config.set_dtype_policy("mixed_float16")
    try:
        x = y = keras.Input(shape, name="x", dtype="float32")
        for layer in make():
            y = layer(y)
        model = randomised(keras.Model(x, y))
    finally:
        keras.config.set_dtype_policy("float32")
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert onnx_model.operators["Cast"] > 0
    assert worst_error(model, onnx_model, SIZES) <= 4e-3  # a few roundings to half floats


# ---- operations of keras.ops ----------------------------------------------------------------

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "floor_divide mod": lambda x: x // 0.7 + x % 0.7,
    "floor_divide mod of integers": lambda x: (lambda i: (i // 3) * 10 + i % -3)(ops.cast(x * 3, "int32")),
    "divide_no_nan": lambda x: ops.divide_no_nan(x, ops.relu(x)),
    "log1p expm1": lambda x: ops.log1p(ops.abs(x) * 1e-4) + ops.expm1(x * 1e-4) + ops.expm1(x),
    "log2 log10 logaddexp": lambda x: ops.log2(ops.abs(x)) + ops.log10(ops.abs(x)) + ops.logaddexp(x, -x),
    "arctan2": lambda x: ops.arctan2(x, x[:, ::-1]),
    "hyperbolic": lambda x: ops.arcsinh(x) + ops.arctanh(ops.tanh(x) * 0.5) + ops.arccosh(ops.abs(x) + 1),
    "round trunc": lambda x: ops.round(x) + ops.trunc(x) + ops.round(x, 1),
    "isfinite": lambda x: ops.cast(ops.isfinite(x / ops.relu(x)), "float32") + 1,
    "isnan isinf nan_to_num": lambda x: ops.nan_to_num(ops.sqrt(x), nan=3.0) + ops.cast(ops.isnan(ops.log(x)), "float32"),
    "any all count": lambda x: ops.cast(ops.any(x > 2, axis=1), "int32") + ops.count_nonzero(x > 0, axis=1),
    "average": lambda x: ops.average(x, axis=1) + ops.average(x, axis=1, weights=ops.abs(x)),
    "cumsum": lambda x: ops.cumsum(x, axis=1) - ops.cumsum(x, axis=-1),
    "norm": lambda x: ops.norm(x, axis=-1) + ops.norm(x, ord=1, axis=1)[:, :4],
    "moments": lambda x: ops.moments(x, axes=[1]),
    "logsumexp": lambda x: ops.logsumexp(x, axis=-1),
    "erfc": lambda x: ops.subtract(1.0, ops.erf(x)),
    "dot outer tensordot": lambda x: ops.tensordot(x, np.ones((6, 4, 2), "float32"), axes=[[2, 1], [0, 1]]),
    "sort argsort top_k": lambda x: ops.sort(x, axis=1) + ops.cast(ops.argsort(x, axis=1), "float32"),
    "top_k": lambda x: ops.top_k(x, 3)[0],
    "take_along_axis": lambda x: ops.take_along_axis(x, ops.argsort(x, axis=-1), axis=-1),
    "unstack": lambda x: ops.unstack(x, axis=1)[2] * ops.unstack(x, axis=1)[0],
    "repeat": lambda x: ops.repeat(x, 2, axis=1) + ops.repeat(x, 8, axis=-1)[:, :1, :6],
    "roll": lambda x: ops.roll(x, 2, axis=1) - ops.roll(x, -1, axis=2),
    "tril triu": lambda x: ops.tril(x) - ops.triu(x, k=1),
    "diff": lambda x: ops.diff(x, axis=1),
    "append hstack vstack": lambda x: ops.hstack([x, ops.append(x, x, axis=1)]),
    "zeros_like ones_like full_like": lambda x: ops.zeros_like(x) + ops.ones_like(x) * 2 + ops.full_like(x, 0.5) * x,
    "one_hot multi_hot": lambda x: ops.one_hot(ops.cast(x, "int32"), 4),
    "one_hot along another axis": lambda x: ops.one_hot(ops.cast(x, "int32"), 4, axis=1),
    "normalize": lambda x: ops.normalize(x, axis=1) + ops.normalize(x, axis=-1, order=1),
    "layer_normalization rms": lambda x: ops.layer_normalization(x) + ops.rms_normalization(x),
    "batch_normalization": lambda x: ops.batch_normalization(x, np.ones(6, "f"), np.full(6, 2.0, "f"), axis=-1),
    "slice": lambda x: ops.slice(x, (0, 1, 2), (1, 2, 3)),
    "sparsemax": lambda x: L.Activation("sparsemax")(x) + ops.sparsemax(x, axis=1),
    "conv": lambda x: ops.conv(x, np.ones((3, 6, 4), "f") * 0.1, padding="same", strides=2),
    "depthwise separable": lambda x: ops.depthwise_conv(x, np.ones((3, 6, 2), "f") * 0.1, padding="same"),
    "pools": lambda x: ops.max_pool(x, 2) + ops.average_pool(x, 2),
    "meshgrid": lambda x: ops.meshgrid(x[0, :, 0], x[0, 0])[0],
    "tile adds an axis": lambda x: ops.tile(x, (2, 1, 1, 1)),
    "stop_gradient copy": lambda x: ops.stop_gradient(ops.copy(x)) + 1,
    "saturate_cast": lambda x: ops.saturate_cast(x * 200, "uint8"),
    "digitize": lambda x: ops.digitize(x, np.array([-1.0, 0.5, 1.0])),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_keras_ops(name: str) -> None:
    x = keras.Input((4, 6))
    model = keras.Model(x, OPERATIONS[name](x))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


IMAGES: dict[str, Callable[[Any], Any]] = {
    "depth_to_space": lambda x: ops.depth_to_space(x, 2),
    "space_to_depth": lambda x: ops.space_to_depth(x, 2),
    "resize": lambda x: ops.image.resize(x, (5, 7)),
    "rgb_to_grayscale": lambda x: ops.image.rgb_to_grayscale(x[..., :3]),
    "extract_patches": lambda x: ops.image.extract_patches(x, (3, 2), strides=2, padding="same"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_operation_on_images(name: str) -> None:
    model = functional(IMAGES[name], (6, 8, 4))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_a_transposed_convolution_of_keras_ops_inside_a_layer() -> None:
    """(As an operation of a functional model Keras' own call of it fails.)"""

    class Up(L.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(shape=(3, 2, shape[-1]), name="kernel")

        def call(self, x: Any) -> Any:
            return ops.conv_transpose(x, self.kernel, strides=2, padding="same", data_format="channels_last")

    model = functional(Up(), STEPS)
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_zeros_around_an_image_count_in_the_pool_behind_them() -> None:
    """onnxruntime folds a plain Pad into a MaxPool, where the padding never counts."""
    model = functional(lambda x: L.MaxPooling2D(3, strides=2)(L.ZeroPadding2D(1)(-ops.abs(x) - 1)), (7, 7, 2))
    onnx_model = carried(model)
    assert onnx_model.operators["Pad"] == 1
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_two_exports_of_one_saved_model_agree_to_the_byte(tmp_path: Path) -> None:
    """Keras numbers what it names by what was built before; none of it reaches the file."""
    x = keras.Input((None,), dtype="int32")
    y = L.Embedding(7, 8, mask_zero=True)(x)
    y = L.Bidirectional(L.GRU(4, return_sequences=True))(y)
    model = randomised(keras.Model(x, L.MultiHeadAttention(2, 4)(y, y) + y * ops.sigmoid(y)))
    model.save(tmp_path / "model.keras")
    written = []
    for _ in range(2):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        written.append(carried(loaded).proto.SerializeToString())
        ops.add(L.Dense(2)(keras.Input((3,))), 1)
    assert written[0] == written[1]


CARRY = """
import sys
from netferry.converters import export_model, write
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import keras
write(export_model(keras.saving.load_model(sys.argv[1])), "model.onnx")
"""


@pytest.mark.slow
def test_two_processes_two_folders_and_two_hash_seeds_give_the_same_bytes(tmp_path: Path) -> None:
    x = keras.Input((None, 6))
    y = L.RNN([L.LSTMCell(4), L.GRUCell(3)], return_sequences=True)(L.Masking()(x))
    randomised(keras.Model(x, L.Bidirectional(L.LSTM(3))(y))).save(tmp_path / "model.keras")
    written = []
    for seed in ("0", "7"):
        folder = tmp_path / seed
        folder.mkdir()
        command = [sys.executable, "-c", CARRY, str(tmp_path / "model.keras")]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
        written.append((folder / "model.onnx").read_bytes())
    assert written[0] == written[1]


def test_what_was_carried_does_not_change_when_training_goes_on() -> None:
    """The weights are not copied while the model is carried."""
    model = functional(L.Dense(4), (6,))
    export = to_onnx(model)
    before = {
        name: value.const_value.numpy().copy() for name, value in export.model.graph.initializers.items()
    }
    model.layers[-1].kernel.assign_add(np.ones((6, 4), "float32"))
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((2, 6), "float32"), np.ones((2, 4), "float32"))
    after = {name: value.const_value.numpy() for name, value in export.model.graph.initializers.items()}
    assert all(np.array_equal(before[name], after[name]) for name in before)
