"""SavedModels made, served by TensorFlow and run as ONNX: what tests of TensorFlow's graphs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from netferry.converters.tensorflow.runtime import keras, quiet, tf

LIMIT = 1e-4
RNG = np.random.default_rng(0)


def floats(*sizes: int) -> np.ndarray:
    return RNG.standard_normal(sizes).astype(np.float32)


def randomised(model: Any) -> Any:
    for variable in model.variables:
        value = floats(*variable.shape) * 0.4
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    return model


def exported(build: Callable[[Any], Any], shape: tuple[int | None, ...], folder: Path) -> Path:
    x = keras.Input(shape, name="x")
    with quiet():
        randomised(keras.Model(x, build(x))).export(folder / "net", verbose=False)
    return folder / "net"


def served(
    path: Path, feeds: Mapping[str, np.ndarray], name: str = "serving_default"
) -> dict[str, np.ndarray]:
    with quiet():
        function = tf.saved_model.load(str(path)).signatures[name]
        return {
            key: y.numpy() for key, y in function(**{k: tf.constant(v) for k, v in feeds.items()}).items()
        }


def ran(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([y.name for y in session.get_outputs()], session.run(None, dict(feeds)), strict=True))


def agree(got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray]) -> None:
    assert set(got) == set(want)
    for name, value in want.items():
        assert got[name].shape == value.shape, name
        scale = np.abs(value).max() or 1.0
        assert np.abs(got[name].astype(np.float64) - value).max() <= LIMIT * scale, name


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]
