"""Keras to ONNX: every row against Keras' own outputs, and what the graph looks like."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from keras_models import (
    FREE,
    carried,
    distance,
    drawn,
    plainly,
    randomised,
    runs_here,
    sequential,
    worst_error,
)

from netferry.converters.errors import MissingError, UnsupportedError, UsageError
from netferry.converters.signature import BATCH, Example, examples
from netferry.converters.tensorflow import live
from netferry.converters.tensorflow.runtime import convnext, keras, tf
from netferry.converters.tensorflow.signature import signature as signature_of
from netferry.converters.tensorflow.to_onnx import to_onnx
from netferry.converters.tensorflow.to_onnx.emitter import ACTIVATIONS

L, ops = keras.layers, keras.ops
SIZES = ((1, FREE[0]), (3, FREE[1]))
LIMIT = 3e-6

Make = Callable[[], Any]
IMAGE, VOLUME, STEPS = (8, 7, 6), (6, 5, 4, 4), (None, 6)


def first(layer: Callable[..., Any], **fixed: Any) -> Any:
    return layer(4, 3, data_format="channels_first", **fixed)


LAYERS: dict[str, tuple[Make, tuple[int | None, ...]]] = {
    # dense and embedding
    "Dense": (lambda: L.Dense(5, activation="relu"), (6,)),
    "Dense without bias": (lambda: L.Dense(5, use_bias=False), (6,)),
    "Dense of four axes, softmax": (lambda: L.Dense(5, activation="softmax"), (2, 3, 6)),
    "Dense over a free axis": (lambda: L.Dense(5), STEPS),
    "Dense with a layer as activation": (lambda: L.Dense(5, activation=L.LeakyReLU(0.15)), (6,)),
    "EinsumDense": (lambda: L.EinsumDense("abc,cd->abd", output_shape=(None, 5), bias_axes="d"), STEPS),
    # convolutions
    "Conv1D same": (lambda: L.Conv1D(4, 4, padding="same", activation="gelu"), STEPS),
    "Conv1D same, strides": (lambda: L.Conv1D(4, 4, padding="same", strides=3), (11, 6)),
    "Conv1D same, strides, free length": (lambda: L.Conv1D(4, 4, padding="same", strides=3), STEPS),
    "Conv1D causal, dilation": (lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2), STEPS),
    "Conv1D causal, strides": (lambda: L.Conv1D(4, 3, padding="causal", strides=2), (11, 6)),
    "Conv1D groups": (lambda: L.Conv1D(4, 3, groups=2), STEPS),
    "Conv2D valid": (lambda: L.Conv2D(4, (3, 2), activation="relu"), IMAGE),
    "Conv2D softmax over channels": (lambda: L.Conv2D(4, 3, activation="softmax"), IMAGE),
    "Conv2D same, strides, even kernel": (lambda: L.Conv2D(4, (4, 2), strides=(2, 3), padding="same"), IMAGE),
    "Conv2D same, dilation": (lambda: L.Conv2D(4, (3, 4), dilation_rate=(2, 3), padding="same"), IMAGE),
    "Conv2D same, strides, free sizes": (lambda: L.Conv2D(4, 3, strides=2, padding="same"), (None, None, 3)),
    "Conv2D groups": (lambda: L.Conv2D(6, 3, groups=3, padding="same"), IMAGE),
    "Conv2D channels_first, groups": (lambda: first(L.Conv2D, groups=2, strides=2), IMAGE),
    "Conv2D without bias": (lambda: L.Conv2D(4, 3, use_bias=False), IMAGE),
    "Conv3D same, strides": (lambda: L.Conv3D(3, (3, 2, 4), strides=(2, 1, 2), padding="same"), VOLUME),
    "Conv3D channels_first": (lambda: first(L.Conv3D), (3, 5, 4, 4)),
    "DepthwiseConv1D": (lambda: L.DepthwiseConv1D(3, depth_multiplier=2, padding="same"), STEPS),
    "DepthwiseConv1D strides": (lambda: L.DepthwiseConv1D(3, strides=2, padding="same"), (9, 6)),
    "DepthwiseConv2D": (lambda: L.DepthwiseConv2D((3, 4), depth_multiplier=3, activation="relu6"), IMAGE),
    "DepthwiseConv2D same, strides": (lambda: L.DepthwiseConv2D(3, strides=2, padding="same"), IMAGE),
    "DepthwiseConv2D strides and dilation": (
        lambda: L.DepthwiseConv2D(3, strides=2, dilation_rate=2, padding="same"),
        (9, 10, 4),
    ),
    "DepthwiseConv2D channels_first": (
        lambda: L.DepthwiseConv2D(3, depth_multiplier=2, data_format="channels_first"),
        IMAGE,
    ),
    "SeparableConv1D": (lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, padding="same"), STEPS),
    "SeparableConv2D": (
        lambda: L.SeparableConv2D(5, 3, depth_multiplier=2, strides=2, padding="same", activation="selu"),
        IMAGE,
    ),
    # convolutions, transposed
    "Conv1DTranspose valid": (lambda: L.Conv1DTranspose(4, 3, strides=2), STEPS),
    "Conv1DTranspose same": (lambda: L.Conv1DTranspose(4, 4, strides=3, padding="same"), STEPS),
    "Conv1DTranspose kernel below stride": (lambda: L.Conv1DTranspose(4, 2, strides=3), STEPS),
    "Conv1DTranspose same, kernel below stride": (
        lambda: L.Conv1DTranspose(4, 2, strides=3, padding="same"),
        STEPS,
    ),
    "Conv2DTranspose same, odd and even": (
        lambda: L.Conv2DTranspose(4, (3, 4), strides=2, padding="same", activation="relu"),
        IMAGE,
    ),
    "Conv2DTranspose same, odd excess": (
        lambda: L.Conv2DTranspose(4, (5, 4), strides=(2, 1), padding="same"),
        IMAGE,
    ),
    "Conv2DTranspose valid, output_padding": (
        lambda: L.Conv2DTranspose(4, 3, strides=3, output_padding=(1, 2)),
        IMAGE,
    ),
    "Conv2DTranspose same, output_padding": (
        lambda: L.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=(1, 0)),
        IMAGE,
    ),
    "Conv2DTranspose dilation": (lambda: L.Conv2DTranspose(4, 3, dilation_rate=2, padding="same"), IMAGE),
    "Conv3DTranspose": (lambda: L.Conv3DTranspose(3, 3, strides=2, padding="same"), (3, 4, 2, 4)),
    # pools
    "MaxPooling1D same": (lambda: L.MaxPooling1D(3, strides=2, padding="same"), STEPS),
    "MaxPooling2D": (lambda: L.MaxPooling2D((2, 3)), IMAGE),
    "MaxPooling2D same": (lambda: L.MaxPooling2D(3, strides=2, padding="same"), IMAGE),
    "MaxPooling2D channels_first": (lambda: L.MaxPooling2D(2, data_format="channels_first"), IMAGE),
    "MaxPooling3D": (lambda: L.MaxPooling3D(2), VOLUME),
    "AveragePooling1D same": (lambda: L.AveragePooling1D(3, strides=2, padding="same"), (11, 6)),
    "AveragePooling1D same, free length": (lambda: L.AveragePooling1D(3, strides=2, padding="same"), STEPS),
    "AveragePooling2D same": (lambda: L.AveragePooling2D(3, strides=1, padding="same"), IMAGE),
    "AveragePooling3D": (lambda: L.AveragePooling3D(2, padding="same"), VOLUME),
    "GlobalMaxPooling1D": (lambda: L.GlobalMaxPooling1D(), STEPS),
    "GlobalMaxPooling2D keepdims": (lambda: L.GlobalMaxPooling2D(keepdims=True), IMAGE),
    "GlobalMaxPooling3D": (lambda: L.GlobalMaxPooling3D(data_format="channels_first"), VOLUME),
    "GlobalAveragePooling1D": (lambda: L.GlobalAveragePooling1D(keepdims=True), STEPS),
    "GlobalAveragePooling2D": (lambda: L.GlobalAveragePooling2D(), (None, None, 3)),
    "GlobalAveragePooling3D": (lambda: L.GlobalAveragePooling3D(), VOLUME),
    # normalisations
    "BatchNormalization": (lambda: L.BatchNormalization(epsilon=0.1), IMAGE),
    "BatchNormalization of two axes": (lambda: L.BatchNormalization(), (6,)),
    "BatchNormalization axis 1": (lambda: L.BatchNormalization(axis=1), IMAGE),
    "BatchNormalization axis 2": (lambda: L.BatchNormalization(axis=2), IMAGE),
    "BatchNormalization without scale": (lambda: L.BatchNormalization(scale=False), IMAGE),
    "BatchNormalization without center": (lambda: L.BatchNormalization(center=False), STEPS),
    "LayerNormalization": (lambda: L.LayerNormalization(epsilon=0.1), STEPS),
    "LayerNormalization of three axes": (lambda: L.LayerNormalization(axis=[1, 2, 3]), IMAGE),
    "LayerNormalization axis 1": (lambda: L.LayerNormalization(axis=1), IMAGE),
    "LayerNormalization axes 1 and 3": (lambda: L.LayerNormalization(axis=[3, 1]), IMAGE),
    "LayerNormalization bare": (lambda: L.LayerNormalization(center=False, scale=False), (6,)),
    "LayerNormalization rms_scaling": (lambda: L.LayerNormalization(rms_scaling=True), STEPS),
    "GroupNormalization": (lambda: L.GroupNormalization(groups=3, epsilon=0.1), IMAGE),
    "GroupNormalization axis 1": (lambda: L.GroupNormalization(groups=2, axis=1), IMAGE),
    "GroupNormalization of instances": (lambda: L.GroupNormalization(groups=-1, scale=False), IMAGE),
    "RMSNormalization": (lambda: L.RMSNormalization(epsilon=0.1), STEPS),
    "UnitNormalization": (lambda: L.UnitNormalization(axis=(1, 2)), IMAGE),
    "Rescaling": (lambda: L.Rescaling(1 / 127.5, offset=-1), IMAGE),
    "Rescaling each channel": (lambda: L.Rescaling([0.1, 0.2, 0.3], offset=[1, 2, 3]), (4, 4, 3)),
    "Normalization given": (lambda: L.Normalization(mean=[1.0, 2, 3], variance=[2.0, 3, 4]), (4, 4, 3)),
    "Normalization back": (lambda: L.Normalization(mean=0.5, variance=2.0, invert=True), (4, 3)),
    # shapes
    "Flatten": (lambda: L.Flatten(), IMAGE),
    "Flatten of one axis": (lambda: L.Flatten(), ()),
    "Flatten channels_first": (lambda: L.Flatten(data_format="channels_first"), IMAGE),
    "Reshape": (lambda: L.Reshape((4, -1, 6)), IMAGE),
    "Reshape of a free axis": (lambda: L.Reshape((-1, 2)), STEPS),
    "Permute": (lambda: L.Permute((3, 1, 2)), IMAGE),
    "RepeatVector": (lambda: L.RepeatVector(4), (6,)),
    "Cropping1D": (lambda: L.Cropping1D((1, 2)), STEPS),
    "Cropping2D": (lambda: L.Cropping2D(((1, 0), (2, 3))), IMAGE),
    "Cropping3D": (lambda: L.Cropping3D(1, data_format="channels_first"), (2, 5, 4, 4)),
    "ZeroPadding1D": (lambda: L.ZeroPadding1D((1, 2)), STEPS),
    "ZeroPadding2D": (lambda: L.ZeroPadding2D(((1, 0), (2, 3))), IMAGE),
    "ZeroPadding3D": (lambda: L.ZeroPadding3D((1, 2, 0), data_format="channels_first"), VOLUME),
    "UpSampling1D": (lambda: L.UpSampling1D(3), STEPS),
    "UpSampling2D": (lambda: L.UpSampling2D((2, 3)), IMAGE),
    "UpSampling2D bilinear": (lambda: L.UpSampling2D((2, 3), interpolation="bilinear"), IMAGE),
    "UpSampling2D bilinear, free sizes": (lambda: L.UpSampling2D(3, interpolation="bilinear"), (None, None, 3)),
    "UpSampling2D channels_first": (lambda: L.UpSampling2D(2, data_format="channels_first"), IMAGE),
    "UpSampling3D": (lambda: L.UpSampling3D((2, 1, 3)), VOLUME),
    # activations as layers
    "ReLU": (lambda: L.ReLU(max_value=1.5, negative_slope=0.1, threshold=0.3), IMAGE),
    "ReLU max_value": (lambda: L.ReLU(max_value=1.5), IMAGE),
    "ReLU threshold": (lambda: L.ReLU(threshold=0.7), IMAGE),
    "ReLU slope and max_value": (lambda: L.ReLU(max_value=1.0, negative_slope=0.3), IMAGE),
    "LeakyReLU default is 0.3": (lambda: L.LeakyReLU(), IMAGE),
    "PReLU": (lambda: L.PReLU(), IMAGE),
    "PReLU shared": (lambda: L.PReLU(shared_axes=[1, 2]), (None, None, 3)),
    "ELU": (lambda: L.ELU(alpha=0.7), IMAGE),
    "Softmax": (lambda: L.Softmax(), IMAGE),
    "Softmax axis 1": (lambda: L.Softmax(axis=1), IMAGE),
    "Softmax of two axes": (lambda: L.Softmax(axis=(1, 2)), IMAGE),
    # recurrent
    "SimpleRNN": (lambda: L.SimpleRNN(4), STEPS),
    "SimpleRNN relu, sequences": (lambda: L.SimpleRNN(4, activation="relu", return_sequences=True), STEPS),
    "SimpleRNN without bias": (lambda: L.SimpleRNN(4, use_bias=False), STEPS),
    "SimpleRNN of fixed length, unrolled": (lambda: L.SimpleRNN(4, unroll=True), (5, 6)),
    "LSTM": (lambda: L.LSTM(4), STEPS),
    "LSTM sequences and state": (lambda: L.LSTM(4, return_sequences=True, return_state=True), STEPS),
    "LSTM backwards": (lambda: L.LSTM(4, go_backwards=True), STEPS),
    "LSTM backwards, sequences": (lambda: L.LSTM(4, go_backwards=True, return_sequences=True), STEPS),
    "LSTM hard_sigmoid, relu": (lambda: L.LSTM(4, activation="relu", recurrent_activation="hard_sigmoid"), STEPS),
    "LSTM without bias, linear": (lambda: L.LSTM(4, use_bias=False, activation=None), STEPS),
    "LSTM dropout": (lambda: L.LSTM(4, dropout=0.5, recurrent_dropout=0.5), STEPS),
    "GRU": (lambda: L.GRU(4), STEPS),
    "GRU reset before": (lambda: L.GRU(4, reset_after=False, return_sequences=True), STEPS),
    "GRU state, elu, softsign": (
        lambda: L.GRU(4, return_state=True, activation="elu", recurrent_activation="softsign"),
        STEPS,
    ),
    "GRU without bias": (lambda: L.GRU(4, use_bias=False, go_backwards=True), STEPS),
    "RNN of a cell": (lambda: L.RNN(L.LSTMCell(4), return_sequences=True), STEPS),
    "Bidirectional LSTM": (lambda: L.Bidirectional(L.LSTM(4)), STEPS),
    "Bidirectional GRU, sequences": (lambda: L.Bidirectional(L.GRU(4, return_sequences=True)), STEPS),
    "Bidirectional RNN, sum": (lambda: L.Bidirectional(L.SimpleRNN(4), merge_mode="sum"), STEPS),
    "Bidirectional LSTM, mul, sequences": (
        lambda: L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode="mul"),
        STEPS,
    ),
    "Bidirectional GRU, ave": (lambda: L.Bidirectional(L.GRU(4), merge_mode="ave"), STEPS),
    "Bidirectional GRU apart": (
        lambda: L.Bidirectional(L.GRU(4, return_sequences=True, reset_after=False), merge_mode=None),
        STEPS,
    ),
    "Bidirectional LSTM with states": (
        lambda: L.Bidirectional(L.LSTM(4, return_sequences=True, return_state=True)),
        STEPS,
    ),
    "Bidirectional LSTM, hard_sigmoid": (
        lambda: L.Bidirectional(L.LSTM(4, recurrent_activation="hard_sigmoid")),
        STEPS,
    ),
    "TimeDistributed Dense": (lambda: L.TimeDistributed(L.Dense(5, activation="tanh")), STEPS),
    "TimeDistributed Conv2D, free steps": (lambda: L.TimeDistributed(L.Conv2D(3, 2)), (None, 5, 4, 3)),
    "TimeDistributed Flatten": (lambda: L.TimeDistributed(L.Flatten()), (3, 4, 5)),
    # nothing in inference
    "Dropout": (lambda: L.Dropout(0.5), STEPS),
    "SpatialDropout2D": (lambda: L.SpatialDropout2D(0.5), IMAGE),
    "GaussianNoise": (lambda: L.GaussianNoise(0.5), STEPS),
    "ActivityRegularization": (lambda: L.ActivityRegularization(0.1), STEPS),
    "LayerScale": (lambda: convnext.LayerScale(0.5, 6), IMAGE),
    "StochasticDepth": (lambda: convnext.StochasticDepth(0.5), IMAGE),
    "Reshape of a vector to a pixel": (lambda: L.Reshape((1, 1, 6)), (6,)),
    "Masking that nothing reads": (lambda: L.Masking(0.5), STEPS),
}  # fmt: skip


ONEDNN = ("Conv2DTranspose dilation",)
"""Layers for which TensorFlow itself has no kernel on a processor where it runs without oneDNN."""


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_in_onnxruntime_what_it_gives_in_keras(name: str) -> None:
    make, shape = LAYERS[name]
    x = keras.Input(shape, name="x")
    model = randomised(keras.Model(x, make()(x)))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(plainly(model) if name in ONEDNN else model, onnx_model, SIZES) <= LIMIT


@pytest.mark.parametrize("name", ONEDNN)
def test_a_layer_in_plain_layers_is_what_keras_computes(name: str) -> None:
    make, shape = LAYERS[name]
    x = keras.Input(shape, name="x")
    model = randomised(keras.Model(x, make()(x)))
    arrays = drawn([(3, *(size or FREE[1] for size in shape))], ["float32"])
    if not runs_here(model, arrays):
        pytest.skip("TensorFlow has no kernel for this layer on this processor without oneDNN")
    (expected,), (received,) = (live.run(one, arrays).values() for one in (model, plainly(model)))
    assert distance(expected, received) <= LIMIT


ACTIVATION_PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "relu": [{"negative_slope": 0.1}, {"max_value": 2.0}, {"threshold": 0.5, "max_value": 1.0}],
    "leaky_relu": [{"negative_slope": 0.4}],
    "elu": [{"alpha": 0.6}],
    "celu": [{"alpha": 0.6}],
    "gelu": [{"approximate": True}, {"approximate": False}],
    "softmax": [{"axis": 1}],
    "log_softmax": [{"axis": 1}],
    "soft_shrink": [{"threshold": 1.1}],
    "hard_shrink": [{"threshold": 1.1}],
    "squareplus": [{"b": 2.5}],
    "glu": [{"axis": 1}],
}


@pytest.mark.parametrize("name", sorted({f.__name__ for f in ACTIVATIONS} - {"threshold"}))
def test_an_activation_function_is_keras_own(name: str) -> None:
    function = getattr(keras.activations, name)
    model = sequential(L.Activation(function), shape=(6, 8))
    assert worst_error(model, carried(model), SIZES) <= LIMIT


@pytest.mark.parametrize(
    ("name", "parameters"), [(name, p) for name, many in ACTIVATION_PARAMETERS.items() for p in many]
)
def test_an_activation_as_an_operation_keeps_its_parameters(name: str, parameters: dict[str, Any]) -> None:
    x = keras.Input((6, 8))
    model = keras.Model(x, getattr(keras.activations, name)(x, **parameters))
    assert worst_error(model, carried(model), SIZES) <= LIMIT


def test_every_activation_of_keras_has_a_row_but_those_named_here() -> None:
    without = {"sparsemax"}
    public = {name for name in dir(keras.activations) if not name.startswith("_")}
    helpers = {"get", "serialize", "deserialize", "swish", "hard_swish"}
    assert public - helpers - {f.__name__ for f in ACTIVATIONS} == without


OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "arithmetic": lambda x: (x * 2 + 1 - x / 3) ** 2,
    "arrays": lambda x: x * np.arange(6, dtype="float32") + np.ones((4, 1), "float32"),
    "of an integer": lambda x: ops.cast(x, "int32") / 3,
    "integer arithmetic": lambda x: ops.cast(ops.cast(x, "int32") * 3 - 1, "float32") + 0.5,
    "int and float": lambda x: ops.cast(x * 3, "int32") * 0.5,
    "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 2, 1))),
    "exp log sqrt": lambda x: ops.log(ops.exp(x) + ops.sqrt(ops.abs(x)) + 1),
    "rsqrt square": lambda x: ops.rsqrt(ops.square(x) + 1),
    "sin cos tanh": lambda x: ops.sin(x) + ops.cos(x) * ops.tanh(x),
    "floor ceil sign": lambda x: ops.floor(x) + ops.ceil(x) * ops.sign(x),
    "erf": lambda x: ops.erf(x),
    "mean": lambda x: ops.mean(x, axis=1),
    "mean of all": lambda x: ops.mean(x, axis=(1, 2), keepdims=True) + x,
    "sum": lambda x: ops.sum(x, axis=-1, keepdims=True),
    "max min prod": lambda x: ops.max(x, axis=1) + ops.min(x, axis=1) + ops.prod(x, axis=1),
    "var std": lambda x: ops.var(x, axis=2) + ops.std(x, axis=2, keepdims=False),
    "argmax": lambda x: ops.argmax(x, axis=-1),
    "clip maximum": lambda x: ops.maximum(ops.clip(x, -1, 2), ops.minimum(x, 0.5)),
    "reshape": lambda x: ops.reshape(x, (-1, 12)),
    "transpose swapaxes moveaxis": lambda x: ops.moveaxis(
        ops.swapaxes(ops.transpose(x[:, None], (0, 2, 3, 1)), 1, 2), 3, 1
    ),
    "expand squeeze": lambda x: ops.squeeze(ops.expand_dims(x, (1, -1)), 1),
    "concatenate stack": lambda x: ops.stack([ops.concatenate([x, x * 2], axis=1)] * 2, axis=-1),
    "split": lambda x: ops.split(x, 3, axis=2)[1] * ops.split(x, [1, 3], axis=2)[1],
    "getitem": lambda x: x[:, 1:-1, ::2] + x[:, :2, -1:],
    "getitem integers": lambda x: x[:, -1] + x[..., 1:2, :][:, 0, :],
    "getitem backwards": lambda x: x[:, ::-1, 3:0:-1],
    "flip tile": lambda x: ops.tile(ops.flip(x, axis=1), (1, 2, 1)),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (3, 0)), constant_values=1.5),
    "pad reflect": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 3)), mode="reflect"),
    "take": lambda x: ops.take(x, [2, 0, -1], axis=1),
    "where": lambda x: ops.where(ops.logical_and(x > 0.5, ops.logical_not(x >= 2)), x, -1.0),
    "comparisons": lambda x: (
        ops.cast(ops.not_equal(ops.floor(x), 1), "float32") + ops.cast(x <= 0, "float32")
    ),
    "einsum": lambda x: ops.einsum("bij,bkj->bik", x, x),
    "softmax": lambda x: ops.softmax(x, axis=1) + ops.relu(x) + ops.gelu(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_of_keras_ops_stands_between_layers(name: str) -> None:
    x = keras.Input((4, 6))
    model = keras.Model(x, OPERATIONS[name](x))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


@pytest.mark.parametrize("name", ["pad", "mean of all", "getitem", "concatenate stack"])
def test_an_operation_after_a_convolution_sees_the_layout_of_keras(name: str) -> None:
    """The transposition of the convolution is still pending when the operation is written."""
    image = keras.Input((6, 8, 3))
    y = L.Conv2D(6, 3)(image)
    if name == "pad":
        y = ops.pad(y, ((0, 0), (1, 2), (3, 0), (0, 1)), constant_values=1.5)
    elif name == "mean of all":
        y = y - ops.mean(y, axis=(1, 3), keepdims=True)
    elif name == "getitem":
        y = y[:, 1:, ::2, :4]
    else:
        y = ops.stack([ops.concatenate([y, y * 2], axis=-1)] * 2, axis=1)
    model = randomised(keras.Model(image, y))
    assert worst_error(model, carried(model), SIZES) <= LIMIT


MERGES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "Add": lambda a, b, c: L.Add()([a, b, c]),
    "Subtract": lambda a, b, c: L.Subtract()([a, b]),
    "Multiply": lambda a, b, c: L.Multiply()([a, b, c]),
    "Average": lambda a, b, c: L.Average()([a, b, c]),
    "Maximum": lambda a, b, c: L.Maximum()([a, b, c]),
    "Minimum": lambda a, b, c: L.Minimum()([a, b, c]),
    "Concatenate": lambda a, b, c: L.Concatenate()([a, b, c]),
    "Concatenate axis 1": lambda a, b, c: L.Concatenate(axis=1)([a, b, c]),
    "Dot of matrices": lambda a, b, c: L.Dot(axes=2)([a, b]),
    "Dot axes": lambda a, b, c: L.Dot(axes=(1, 1))([a, c]),
    "Dot of vectors, cosine": lambda a, b, c: L.Dot(axes=1, normalize=True)([a[:, 0], b[:, 1]]),
    "Dot of matrix and vector": lambda a, b, c: L.Dot(axes=(2, 1))([a, b[:, 1]]),
    "ranks that differ": lambda a, b, c: L.Add()([a, b[:, 0]]),
    "Attention": lambda a, b, c: L.Attention()([a, b, c]),
    "Attention causal, scaled": lambda a, b, c: L.Attention(use_scale=True)([a, b], use_causal_mask=True),
    "MultiHeadAttention": lambda a, b, c: L.MultiHeadAttention(2, 5, value_dim=3)(a, b, c),
    "MultiHeadAttention causal": lambda a, b, c: L.MultiHeadAttention(2, 5)(a, b, use_causal_mask=True),
    "MultiHeadAttention with a mask": lambda a, b, c: L.MultiHeadAttention(2, 5, output_shape=7)(
        a, b, attention_mask=ops.matmul(a, ops.transpose(b, (0, 2, 1))) > -1
    ),
    "MultiHeadAttention scores": lambda a, b, c: L.MultiHeadAttention(2, 5, use_bias=False)(
        a, b, return_attention_scores=True
    ),
}


@pytest.mark.parametrize("name", MERGES)
def test_layers_of_several_inputs(name: str) -> None:
    inputs = [keras.Input((4, 6), name=letter) for letter in "abc"]
    model = randomised(keras.Model(inputs, MERGES[name](*inputs)))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert [value.name for value in onnx_model.proto.graph.input] == ["a", "b", "c"]
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


@pytest.mark.parametrize(
    "make",
    [
        lambda x, h, c: L.LSTM(4, return_state=True)(x, initial_state=[h, c]),
        lambda x, h, c: L.GRU(4, return_sequences=True)(x, initial_state=h),
        lambda x, h, c: L.SimpleRNN(4)(x, initial_state=c),
        lambda x, h, c: L.Bidirectional(L.LSTM(4))(x, initial_state=[h, c, c, h]),
        lambda x, h, c: L.Bidirectional(L.GRU(4))(x, initial_state=[h, c]),
    ],
    ids=["LSTM", "GRU", "SimpleRNN", "Bidirectional LSTM", "Bidirectional GRU"],
)
def test_a_recurrent_layer_starts_from_the_state_it_is_given(make: Callable[..., Any]) -> None:
    inputs = [keras.Input((None, 3)), keras.Input((4,)), keras.Input((4,))]
    model = randomised(keras.Model(inputs, make(*inputs)))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_an_embedding_takes_integers_and_floats(dtype: str) -> None:
    model = sequential(L.Embedding(9, 4), L.LSTM(3), shape=(None,), dtype=dtype)
    onnx_model = carried(model)
    arrays = [np.array([[0, 3, 8], [1, 1, 7]], dtype)]
    expected = model(arrays[0], training=False).numpy()
    assert distance(expected, onnx_model.run(arrays)[model.layers[-1].name]) <= LIMIT


def test_an_adapted_normalization_keeps_what_it_learnt() -> None:
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3, 4, (50, 3)).astype("float32"))
    x = keras.Input((3,))
    model = keras.Model(x, layer(x))
    assert worst_error(model, carried(model), SIZES) <= LIMIT


# ---- what the graph looks like --------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "operator"),
    [(L.SimpleRNN, "RNN"), (L.LSTM, "LSTM"), (L.GRU, "GRU")],
)
def test_recurrent_layers_arrive_as_onnx_own_operators(layer: Any, operator: str) -> None:
    model = sequential(
        layer(4, return_sequences=True), L.Bidirectional(layer(4)), L.Dense(2), shape=(None, 3)
    )
    operators = carried(model).operators
    assert operators[operator] == 2
    assert not {"Loop", "Scan", "If"} & set(operators)
    assert operators["Transpose"] <= 2  # into time, and the two last states side by side


def test_stacked_recurrent_layers_meet_without_a_transposition() -> None:
    layers = [L.LSTM(4, return_sequences=True) for _ in range(3)]
    assert carried(sequential(*layers, shape=(None, 3))).operators["Transpose"] == 2


def residual_cnn() -> Any:
    image = keras.Input((16, 16, 3), name="image")
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding="same", use_bias=False)(image)))
    y = L.PReLU(shared_axes=[1, 2])(L.Conv2D(8, 3, padding="same")(L.ZeroPadding2D(1)(x)))
    y = L.Cropping2D(1)(L.Activation("silu")(y))
    x = L.Dropout(0.3)(L.Add()([x, y]))
    gate = L.Conv2D(8, 1, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Concatenate()([L.Multiply()([x, gate]), L.UpSampling2D()(L.MaxPooling2D()(x))])
    return randomised(keras.Model(image, L.GlobalAveragePooling2D()(x)))


def test_a_pure_cnn_has_one_transposition_at_its_input() -> None:
    model = residual_cnn()
    onnx_model = carried(model)
    transposes = [node for node in onnx_model.proto.graph.node if node.op_type == "Transpose"]
    assert [list(node.input) for node in transposes] == [["image"]]
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_flatten_after_a_cnn_costs_one_transposition_more() -> None:
    model = sequential(L.Conv2D(4, 3), L.ReLU(), L.MaxPooling2D(), L.Flatten(), L.Dense(3), shape=(8, 8, 3))
    assert carried(model).operators["Transpose"] == 2


def test_a_gate_of_vectors_costs_no_transposition() -> None:
    """Squeeze and excite, as EfficientNet writes it: the vector is reshaped to an image of one pixel."""
    image = keras.Input((8, 8, 6), name="image")
    x = L.Conv2D(6, 3)(image)
    gate = L.Reshape((1, 1, 6))(L.GlobalAveragePooling2D()(x))
    gate = L.Conv2D(6, 1, activation="sigmoid")(L.Conv2D(2, 1, activation="silu")(gate))
    model = randomised(keras.Model(image, L.GlobalMaxPooling2D()(L.Multiply()([x, gate]))))
    onnx_model = carried(model)
    assert onnx_model.operators["Transpose"] == 1
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_names_of_inputs_outputs_nodes_and_weights_are_those_of_keras() -> None:
    x = keras.Input((6,), name="features")
    hidden = L.Dense(4, activation="relu", name="hidden")(x)
    model = keras.Model(x, [L.Dense(3, name="head")(hidden), L.Dense(1, name="value")(hidden)])
    graph = carried(randomised(model)).proto.graph
    assert [value.name for value in graph.input] == ["features"]
    assert [value.name for value in graph.output] == ["head", "value"]
    assert {node.name for node in graph.node} == {"hidden", "hidden/Relu", "head", "value"}
    assert {tensor.name for tensor in graph.initializer} == {
        f"{layer}/{weight}" for layer in ("hidden", "head", "value") for weight in ("kernel", "bias")
    }


def test_a_mapping_of_outputs_gives_its_keys_as_names() -> None:
    x = keras.Input((6,))
    model = randomised(keras.Model(x, {"score": L.Dense(3)(x), "mean": L.Dense(1)(x)}))
    onnx_model = carried(model)
    array = drawn([(2, 6)], ["float32"])
    expected = model(array[0], training=False)
    received = onnx_model.run(array)
    assert set(received) == {"score", "mean"}
    assert all(distance(expected[key].numpy(), received[key]) <= LIMIT for key in received)


def test_the_batch_and_the_length_stay_free() -> None:
    model = sequential(L.LSTM(4, return_sequences=True), L.Dense(2, name="head"), shape=(None, 3))
    graph = carried(model).proto.graph

    def dims(value: Any) -> list[Any]:
        return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]

    assert dims(graph.input[0]) == [BATCH, "x_dim1", 3]
    assert dims(graph.output[0]) == [BATCH, "x_dim1", 2]


def test_a_shared_layer_keeps_one_set_of_weights() -> None:
    a, b = keras.Input((None, 3)), keras.Input((None, 3))
    encoder = keras.Sequential([keras.Input((None, 3)), L.LSTM(4, name="lstm"), L.Dense(2, name="code")])
    model = randomised(keras.Model([a, b], L.Subtract()([encoder(a), encoder(b)])))
    onnx_model = carried(model)
    assert onnx_model.operators["LSTM"] == 2
    assert len([name for name in onnx_model.initializers if "kernel" in name or "bias" in name]) == 5
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_layers_of_one_path_in_two_models_keep_their_own_weights() -> None:
    """Equal names and, at first, equal values: still two weights."""

    def branch(name: str) -> Any:
        return keras.Sequential([keras.Input((3,)), L.Dense(2, name="dense")], name=name)

    x = keras.Input((3,))
    left, right = branch("twin"), branch("twin")
    right.name = "other"
    model = keras.Model(x, [left(x), right(x)])
    assert [variable.path for variable in left.variables] == [variable.path for variable in right.variables]
    assert len(carried(model).initializers) == 4
    assert worst_error(model, carried(randomised(model)), SIZES) <= LIMIT


def test_the_weights_of_both_directions_say_what_they_are_made_of() -> None:
    model = sequential(L.Bidirectional(L.GRU(4), name="both"), shape=(None, 3))
    onnx_model = carried(model)
    packed = {name: sources for name, sources in onnx_model.export.weights.items() if "both/kernel" in name}
    ((name, sources),) = packed.items()
    assert onnx_model.initializers[name].shape == (2, 12, 3)
    assert ["forward" in source for source in sources] == [True, False]


def test_models_within_models_are_walked() -> None:
    inner = keras.Sequential([keras.Input((6, 6, 3)), L.Conv2D(4, 3), L.ReLU()], name="inner")
    image = keras.Input((6, 6, 3))
    model = randomised(keras.Model(image, L.GlobalMaxPooling2D()(L.BatchNormalization()(inner(image)))))
    onnx_model = carried(model)
    assert onnx_model.operators["Transpose"] == 1
    assert any(node.name == f"inner/{inner.layers[0].name}" for node in onnx_model.proto.graph.node)
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_batchnorm_keeps_keras_epsilon_and_momentum() -> None:
    model = sequential(L.BatchNormalization(momentum=0.9), shape=(4, 4, 3))
    (node,) = (n for n in carried(model).proto.graph.node if n.op_type == "BatchNormalization")
    attributes = {a.name: round(a.f, 6) for a in node.attribute}
    assert attributes == {"epsilon": 0.001, "momentum": 0.9}


@pytest.mark.parametrize("policy", ["float64", "float16"])
def test_another_float_than_float32_is_kept(policy: str) -> None:
    layer = L.Dense(5, activation="tanh", dtype=policy)
    model = sequential(layer, shape=(6,), dtype=policy)
    onnx_model = carried(model)
    assert {array.dtype for array in onnx_model.initializers.values()} == {np.dtype(policy)}
    assert worst_error(model, onnx_model, SIZES) <= {"float64": 1e-14, "float16": 2e-3}[policy]


# ---- examples, sizes, signatures ------------------------------------------------------------


def test_examples_name_the_inputs_and_free_what_was_asked() -> None:
    model = sequential(L.LSTM(4), shape=(None, 3))
    given = examples({"rows": np.zeros((2, 7, 3), "float32")}, {"rows": {1: "steps"}})
    spec = signature_of(model, given).inputs[0]
    assert (spec.name, spec.dims) == ("rows", (2, "steps", 3))
    assert [value.name for value in carried(model, given).proto.graph.input] == ["rows"]


def test_examples_under_the_models_own_names_are_bound_by_name() -> None:
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    model = keras.Model([a, b], L.Concatenate()([a, b]))
    given = examples({"b": np.zeros((2, 3), "float32"), "a": np.zeros((2, 2), "float32")})
    assert [spec.name for spec in signature_of(model, given).inputs] == ["a", "b"]


def test_freedom_that_the_model_does_not_have_is_refused_when_asked_and_told_otherwise() -> None:
    x = keras.Input(batch_shape=(2, 3), name="x")
    model = keras.Model(x, L.Dense(2)(x))
    array = np.zeros((2, 3), "float32")
    with pytest.raises(UsageError, match="axis 0 of input 'x' cannot be free"):
        to_onnx(model, examples({"x": array}, {"x": {0: "batch"}}))
    assert to_onnx(model, examples({"x": array})).notes == ("input 'x': the model fixes axis 0 at 2",)


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 1)])
def test_an_example_that_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    model = sequential(L.Dense(2), shape=(3,))
    with pytest.raises(UsageError, match="does not fit the model"):
        to_onnx(model, examples({"x": np.zeros(shape, "float32")}))


def test_a_sequential_without_sizes_asks_for_examples_and_is_built_from_them() -> None:
    model = keras.Sequential([L.Dense(16, activation="tanh"), L.Dense(2, name="head")])
    with pytest.raises(UsageError, match="Give example inputs"):
        to_onnx(model)
    given = examples({"x": np.ones((2, 3), "float32")})
    onnx_model = carried(model, given)
    assert onnx_model.export.route == "direct"
    assert list(live.run(model, [np.ones((5, 3), "float32")])) == ["head"]
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_a_sequential_of_tokens_keeps_the_integers_of_its_example() -> None:
    """Keras notes a float input for it, since an Embedding computes in floats."""
    model = keras.Sequential([L.Embedding(9, 4), L.GRU(3)])
    tokens = np.array([[1, 0, 8], [3, 3, 2]])
    onnx_model = carried(model, examples({"tokens": tokens}))
    assert onnx_model.session.get_inputs()[0].type == "tensor(int64)"
    expected = live.run(model, [tokens])
    assert all(distance(expected[name], y) <= LIMIT for name, y in onnx_model.run([tokens]).items())


def test_the_batch_of_the_first_call_is_not_the_batch_of_the_model() -> None:
    model = keras.Sequential([L.Dense(2)])
    model(np.ones((7, 3), "float32"))
    assert signature_of(model).inputs[0].dims == (BATCH, 3)
    assert worst_error(randomised(model), carried(model), SIZES) <= LIMIT


def test_the_signature_has_the_outputs_of_the_graph() -> None:
    model = residual_cnn()
    signature = signature_of(model)
    assert [spec.name for spec in signature.outputs] == [o.name for o in carried(model).proto.graph.output]
    assert signature.outputs[0].dims == (BATCH, 16)


# ---- the other road -------------------------------------------------------------------------


class Subclassed(keras.Model):
    """TensorFlow's own functions (tf2onnx writes Erfc), and a grouped convolution, which Keras compiles with XLA."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = L.Conv1D(4, 3, groups=2)
        self.head = L.Dense(3, activation="gelu")

    def call(self, x: Any) -> Any:
        y = self.head(self.conv(tf.tile(x, [1, 1, 2])))
        return {"z": y, "mean": tf.reduce_mean(y, axis=1)}


def test_a_subclassed_model_of_tensorflows_functions_goes_by_its_graph_and_says_so() -> None:
    model = Subclassed()
    array = drawn([(2, 6, 4)], ["float32"])[0]
    model(array)
    randomised(model)
    onnx_model = carried(model, examples({"signal": array}))
    assert onnx_model.export.route == "graph"
    assert "its Python code cannot be followed" in onnx_model.export.notes[0]
    assert onnx_model.operators["Gelu"] == 1
    assert onnx_model.operators["Conv"] >= 1
    assert [value.name for value in onnx_model.proto.graph.input] == ["signal"]
    assert onnx_model.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == BATCH
    for batch in (1, 3):
        arrays = drawn([(batch, 6, 4)], ["float32"])
        expected, received = model(arrays[0]), onnx_model.run(arrays)
        assert list(received) == list(live.run(model, arrays)) == ["z", "mean"]
        assert all(distance(expected[key].numpy(), received[key]) <= LIMIT for key in received)


def test_a_subclassed_model_asks_for_examples() -> None:
    with pytest.raises(UsageError, match="Give example inputs"):
        to_onnx(Subclassed())


def test_a_tf_function_is_carried_under_the_names_of_its_outputs() -> None:
    weight = tf.Variable(np.random.default_rng(0).normal(size=(3, 2)).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="rows")])
    def function(rows: Any) -> Any:
        return {"product": rows @ weight, "norm": tf.norm(rows, axis=1)}

    onnx_model = carried(function)
    assert [value.name for value in onnx_model.proto.graph.input] == ["rows"]
    arrays = drawn([(4, 3)], ["float32"])
    expected, received = live.run(function, arrays), onnx_model.run(arrays)
    assert list(received) == list(expected) == ["product", "norm"]
    assert all(distance(expected[key], received[key]) <= LIMIT for key in expected)


def test_a_captured_constant_becomes_a_weight_not_an_input() -> None:
    captured = tf.constant([1.0, 2.0, 3.0])

    @tf.function
    def function(rows: Any) -> Any:
        return rows * captured

    onnx_model = carried(function, examples({"rows": np.ones((2, 3), "float32")}))
    assert [value.name for value in onnx_model.proto.graph.input] == ["rows"]
    arrays = drawn([(4, 3)], ["float32"])
    assert distance(arrays[0] * captured.numpy(), onnx_model.run(arrays)["output_0"]) <= LIMIT


def test_a_layer_of_tensorflows_functions_sends_the_whole_model_by_its_graph_and_is_named() -> None:
    class Doubled(L.Layer):
        def call(self, x: Any) -> Any:
            return tf.multiply(x, 2)

    model = sequential(L.Dense(3), Doubled(name="mine"), shape=(4,))
    onnx_model = carried(model)
    assert onnx_model.export.route == "graph"
    assert "node 'mine' (Doubled)" in onnx_model.export.notes[0]
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_a_layer_without_a_row_is_opened() -> None:
    class Doubled(L.Layer):
        def call(self, x: Any) -> Any:
            return x * 2

    model = sequential(L.Dense(3), Doubled(name="mine"), shape=(4,))
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert any(node.name.startswith("mine/") for node in onnx_model.proto.graph.node)
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_of_many_layers_without_a_row_the_first_are_named() -> None:
    class Halved(L.Layer):
        def call(self, x: Any) -> Any:
            return tf.divide(x, 2)

    model = sequential(*(Halved() for _ in range(5)), shape=(4,))
    assert to_onnx(model).notes[0].endswith("and 2 more")


def test_a_lambda_of_tensorflows_functions_is_named_and_takes_the_other_road() -> None:
    model = sequential(L.Dense(3), L.Lambda(lambda x: tf.pow(x, 3.0), name="mine"), shape=(4,))
    onnx_model = carried(model)
    assert "node 'mine' (Lambda): its Python code cannot be followed" in onnx_model.export.notes[0]
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


def test_a_saved_model_is_carried_under_the_names_of_its_signature(tmp_path: Any) -> None:
    model = sequential(L.Conv1D(4, 3, activation="gelu"), L.GRU(3), shape=(None, 6), name="signal")
    model.export(tmp_path / "saved", verbose=False)
    onnx_model = carried(tf.saved_model.load(str(tmp_path / "saved")))
    assert onnx_model.export.route == "direct"
    assert "Erfc" not in onnx_model.operators
    assert [value.name for value in onnx_model.proto.graph.input] == ["signal"]
    assert [value.name for value in onnx_model.proto.graph.output] == ["output_0"]
    for batch, length in ((1, 5), (3, 8)):
        arrays = drawn([(batch, length, 6)], ["float32"])
        assert distance(model(arrays[0]).numpy(), onnx_model.run(arrays)["output_0"]) <= LIMIT


def test_what_no_road_carries_is_listed_all_at_once() -> None:
    class Unique(L.Layer):
        def call(self, x: Any) -> Any:
            return tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.float32)

    model = sequential(Unique(name="one"), L.Dense(3), Unique(name="two"), shape=(4,))
    with pytest.raises(UnsupportedError) as stop:
        to_onnx(model)
    named = [problem.node for problem in stop.value.problems]
    assert named[:2] == ["one", "two"] and len(named) > 2


def test_a_mask_that_nothing_reads_is_no_hindrance() -> None:
    model = sequential(
        L.Embedding(9, 4, mask_zero=True), L.Dense(3), L.Flatten(), L.Dense(2), shape=(6,), dtype="int32"
    )
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert worst_error(model, onnx_model, SIZES) <= LIMIT


# ---- refusals -------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "stateful": (
        lambda: keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), L.LSTM(4, stateful=True)]),
        "keeps its state",
    ),
    "mixed bfloat16": (
        lambda: keras.Sequential([keras.Input((3,)), L.Dense(4, dtype="mixed_bfloat16")]),
        r"bfloat16 \(mixed_bfloat16\)",
    ),
    "bfloat16": (lambda: keras.Sequential([keras.Input((3,)), L.Dense(4, dtype="bfloat16")]), "bfloat16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_onnx_would_change_is_refused_by_name(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(UnsupportedError, match=words):
        to_onnx(make())


def test_a_layer_called_in_training_mode_is_not_carried_as_inference() -> None:
    x = keras.Input((3,))
    model = keras.Model(x, L.Dropout(0.5, name="always")(x, training=True))
    with pytest.raises(UnsupportedError, match=r"node 'always' \(Dropout\): it is called with training=True"):
        to_onnx(model)


def test_a_model_of_another_backend_is_taken_and_says_that_tensorflow_compares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = sequential(L.Dense(2), shape=(3,))
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert live.accepts(model)
    with pytest.raises(MissingError, match="runs on jax here"):
        live.run(model, [np.zeros((1, 3), "float32")])


def said_on(backend: str, code: str) -> list[str]:
    """The words that a process of its own prints, in which Keras has another backend."""
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


ON_JAX = """
import keras, numpy as np, netferry, onnxruntime
x = keras.Input((6, 5, 3), name="x")
y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="gelu")(x))
y = keras.layers.LSTM(4)(keras.layers.Reshape((4, 12))(y))
model = keras.Model(x, keras.ops.softmax(keras.layers.Dense(3)(y)))
rng = np.random.default_rng(0)
for weight in model.weights:
    weight.assign(np.abs(rng.normal(size=weight.shape)) * 0.4 + 0.1)
done = netferry.convert(model, "onnx", seed=0)
session = onnxruntime.InferenceSession(done.model.SerializeToString(), providers=["CPUExecutionProvider"])
for batch in (1, 3):
    given = rng.normal(size=(batch, 6, 5, 3)).astype("float32")
    assert np.abs(session.run(None, {"x": given})[0] - np.asarray(model(given))).max() < 1e-6
print(keras.backend.backend(), done.route, done.report.status)
"""


def test_a_live_model_of_the_jax_backend_is_converted_layer_by_layer() -> None:
    pytest.importorskip("jax", reason="jax is not installed")
    assert said_on("jax", ON_JAX) == ["jax", "direct", "not_checked"]


ON_TORCH = """
import keras, numpy as np, netferry
x = keras.Input((6, 5, 3), name="x")
y = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, activation="gelu")(x))
model = keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(y)))
given = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype("float32")
done = netferry.convert(model, "onnx", inputs={"x": given}, quick=True, seed=0)
print(keras.backend.backend(), done.route, done.report.status)
"""


def test_a_model_of_the_torch_backend_is_converted_as_the_module_that_it_is() -> None:
    assert said_on("torch", ON_TORCH) == ["torch", "direct", "passed"]


def test_the_wrong_number_of_inputs_is_refused() -> None:
    model = sequential(L.Dense(2), shape=(3,))
    one = np.zeros((1, 3), "float32")
    with pytest.raises(UsageError, match="wrong number of inputs"):
        to_onnx(model, [Example("a", one), Example("b", one)])
    with pytest.raises(UsageError, match="wrong number of inputs"):
        live.run(model, [one, one])


# ---- whole networks -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "transposes"),
    [
        (lambda: keras.applications.MobileNetV3Small((64, 64, 3), weights=None, include_top=False), 2),
        (lambda: keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10), 1),
    ],
    ids=["MobileNetV3Small", "ResNet50"],
)
def test_networks_of_keras_applications(make: Make, transposes: int) -> None:
    model = randomised(make())
    onnx_model = carried(model)
    assert onnx_model.export.route == "direct"
    assert onnx_model.operators["Transpose"] == transposes
    assert worst_error(model, onnx_model, [(1, 0), (2, 0)]) <= 1e-5
