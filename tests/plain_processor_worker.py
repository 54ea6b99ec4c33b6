"""Run what arrives in Keras on a processor without oneDNN, forwards and backwards; answer in one line of JSON.

Started with ``TF_ENABLE_ONEDNN_OPTS=0``, which takes oneDNN's kernels from TensorFlow on any machine.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
from keras_models import distance
from models import model as small
from onnx import helper

from netferry.converters import export_model
from netferry.converters.errors import first_line
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.onnx.signature import signature
from netferry.converters.tensorflow.from_onnx import from_onnx
from netferry.converters.tensorflow.runtime import keras, tf
from netferry.validation.verify import verify

RNG = np.random.default_rng(11)
SPACES = ((9,), (9, 8), (9, 8, 7))
POOL = ("MaxPool", "AveragePool", "LpPool")


def drawn(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def one_node(op: str, rank: int, weights: dict[str, np.ndarray], outputs: int, **attributes: Any) -> Any:
    free = ["batch", 4, *(f"s{axis}" for axis in range(rank))]
    made = ["batch", outputs, *(f"t{axis}" for axis in range(rank))]
    node = helper.make_node(op, ["x", *weights], ["y"], **attributes)
    return small([node], {"x": free}, {"y": made}, weights)


def convolution(op: str, rank: int, group: int, **attributes: Any) -> Any:
    shape = (4 * group, 4 // group) if op == "Conv" else (4, 4)
    kernel = {"w": drawn(*shape, *(3,) * rank), "b": drawn(4 * group)}
    return one_node(op, rank, kernel, 4 * group, group=group, **attributes)


def cases() -> dict[str, onnx.ModelProto]:
    """Everything that lies in space, over one, two and three axes."""
    found: dict[str, onnx.ModelProto] = {}
    for rank in (1, 2, 3):
        two, pads = [2] * rank, [1] * (2 * rank)
        for op in ("Conv", "ConvTranspose"):
            for group in (1, 2, 4):
                for word in ("strides", "dilations"):
                    name = f"{op}{rank}D, {word}, {group} groups"
                    found[name] = convolution(op, rank, group, pads=pads, **{word: two})
            found[f"{op}{rank}D, same"] = convolution(op, rank, 1, auto_pad="SAME_UPPER")
        found[f"Conv{rank}D, strided and dilated"] = convolution("Conv", rank, 1, strides=two, dilations=two)
        for op in POOL:
            for settings in ({}, {"strides": two, "pads": pads}):
                name = f"{op}{rank}D, {'padded' if settings else 'plain'}"
                found[name] = one_node(op, rank, {}, 4, kernel_shape=[3] * rank, **settings)
        for op in ("GlobalAveragePool", "GlobalMaxPool"):
            found[f"{op}{rank}D"] = one_node(op, rank, {}, 4)
        norm = {word: np.abs(drawn(4)) + 0.5 for word in ("scale", "bias", "mean", "var")}
        found[f"BatchNormalization{rank}D"] = one_node("BatchNormalization", rank, norm, 4)
        two_words = {word: norm[word] for word in ("scale", "bias")}
        found[f"InstanceNormalization{rank}D"] = one_node("InstanceNormalization", rank, two_words, 4)
        found[f"GroupNormalization{rank}D"] = one_node("GroupNormalization", rank, two_words, 4, num_groups=2)
    found["LRN"] = one_node("LRN", 2, {}, 4, size=3)
    return found


def tried(proto: onnx.ModelProto) -> dict[str, Any]:
    """The distance from onnxruntime, and whether each weight and the input has a gradient that is not zero."""
    x = drawn(2, 4, *SPACES[len(proto.graph.input[0].type.tensor_type.shape.dim) - 3])
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    model = from_onnx(plan(proto), signature(proto), name="model").model
    tensor = tf.constant(x)

    def run(training: bool) -> Any:
        return tf.nest.flatten(model(tensor, training=training))[0]

    received = run(training=False)

    @tf.function
    def learn() -> Any:
        weights = [variable.value for variable in model.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            loss = tf.reduce_mean(tf.square(run(training=True) - 0.3))
        return tape.gradient(loss, [tensor, *weights])

    gradients = [np.asarray(tf.convert_to_tensor(one)) for one in learn()]
    return {
        "distance": distance(session.run(None, {"x": x})[0], np.asarray(received)),
        "learns": all(bool(np.isfinite(one).all() and np.any(one != 0)) for one in gradients),
    }


def attempt(proto: onnx.ModelProto) -> dict[str, Any]:
    try:
        return tried(proto)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {first_line(error)}"}


def unrunnable() -> dict[str, dict[str, str]]:
    """What verification says of Keras models that TensorFlow itself cannot run here."""
    layers = keras.layers
    models = {
        "dilated": ((8, 9, 4), layers.Conv2DTranspose(3, 3, dilation_rate=2)),
        "channels first": ((4, 8, 9), layers.Conv2DTranspose(3, 3, data_format="channels_first")),
    }
    said = {}
    for name, (shape, layer) in models.items():
        model = keras.Sequential([keras.Input(shape), layer])
        report = verify(model, export_model(model).model, quick=True)
        said[name] = {"status": report.status, "reason": report.reason}
    return said


if __name__ == "__main__":
    found = {name: attempt(proto) for name, proto in cases().items()}
    print(json.dumps({"arrived": found, "unrunnable": unrunnable()}))
