"""Eleven files of TensorFlow where TensorFlow is not installed: to ONNX and PyTorch, held against what TensorFlow itself gave before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import floats, randomised

from netferry.converters.tensorflow.runtime import keras, quiet, tf

L, ops, v1 = keras.layers, keras.ops, tf.compat.v1

HIDDEN = """
import importlib.util, json, sys
from pathlib import Path
known, hidden = importlib.util.find_spec, {"tensorflow", "tf2onnx", "tf_keras"}

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in hidden else known(name, package)
import netferry, numpy as np, onnxruntime, torch
folder = Path(sys.argv[1])
told, arrays = {}, {}
for name, (path, outputs) in json.loads((folder / "files.json").read_text()).items():
    x = np.load(folder / f"{name}.npy")
    done = netferry.convert(folder / path, "onnx", outputs=outputs, verify=False)
    session = onnxruntime.InferenceSession(done.model.SerializeToString(), providers=["CPUExecutionProvider"])
    arrays[f"{name} onnx"] = session.run(None, {session.get_inputs()[0].name: x})[0]
    module = netferry.convert(folder / path, "pytorch", outputs=outputs, verify=False).model
    with torch.no_grad():
        y = module(torch.tensor(x))
    y = next(iter(y.values())) if isinstance(y, dict) else y[0] if isinstance(y, tuple) else y
    arrays[f"{name} pytorch"] = y.numpy()
    told[name] = done.route
done = netferry.convert(folder / "layers.h5", "onnx", seed=0)
told["verdict"] = done.report.status
np.savez(folder / "found.npz", **arrays)
(folder / "told.json").write_text(json.dumps(told))
"""


def convolved() -> Any:
    x = keras.Input((9, 8, 3), name="x")
    y = L.BatchNormalization()(L.Conv2D(4, 3, strides=2, padding="same")(x))
    return randomised(keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(L.ReLU()(y)))))


def remembering() -> Any:
    x = keras.Input((7,), dtype="int32", name="x")
    y = L.Bidirectional(L.LSTM(4, return_sequences=True))(L.Embedding(9, 5, mask_zero=True)(x))
    return randomised(keras.Model(x, L.Dense(2)(L.GRU(3)(y))))


def attending() -> Any:
    x = keras.Input((6, 8), name="x")
    y = L.LayerNormalization()(x)
    y = L.Add()([x, L.MultiHeadAttention(2, 4)(y, y)])
    return randomised(keras.Model(x, ops.softmax(L.Dense(4, activation="gelu")(y)[:, 1:])))


class Served(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable(floats(6, 6) * 0.4, name="w")

    @tf.function(input_signature=[tf.TensorSpec([None, 6], name="x")])
    def serve(self, x: Any) -> Any:
        return {"y": tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.tanh(y @ self.w)), [0, x])[1]}


def lite(model: Any, folder: Path, name: str) -> str:
    with quiet():
        (folder / name).write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    return name


def old(folder: Path, x: np.ndarray) -> np.ndarray:
    """A graph of TensorFlow 1, frozen and as a checkpoint, and what it gives."""
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        place = v1.placeholder(tf.float32, [None, 6], "x")
        w = v1.get_variable("w", [6, 4], use_resource=False)
        y = tf.nn.relu(place @ w + v1.get_variable("b", [4], use_resource=False), "y")
        session.run(v1.global_variables_initializer())
        for variable in v1.global_variables():
            session.run(variable.assign(floats(*variable.shape)))
        held = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["y"])
        tf.io.write_graph(held, str(folder), "frozen.pb", as_text=False)
        v1.train.Saver().save(session, str(folder / "trained"))
        want: np.ndarray = session.run(y, {place: x})
    return want


Held = dict[str, tuple[np.ndarray, np.ndarray]]
"""Of each file what was found, and what TensorFlow gave."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Held, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("files")
    feeds: dict[str, np.ndarray] = {}
    wants: dict[str, np.ndarray] = {}
    files: dict[str, tuple[str, list[str] | None]] = {}

    def add(name: str, path: str, x: np.ndarray, want: Any, outputs: list[str] | None = None) -> None:
        feeds[name], wants[name], files[name] = x, np.asarray(want), (path, outputs)

    ids = np.asarray([[1, 3, 4, 0, 0, 0, 0], [2, 2, 5, 7, 8, 1, 0], [4, 0, 0, 0, 0, 0, 0]], np.int32)
    makers: list[tuple[str, Callable[[], Any], np.ndarray]] = [
        ("layers", convolved, floats(3, 9, 8, 3)), ("recurrent", remembering, ids), ("attention", attending, floats(3, 6, 8)),
    ]  # fmt: skip
    for name, make, x in makers:
        model = make()
        for ending in (".h5", ".keras"):
            with quiet():
                model.save(folder / f"{name}{ending}")
            add(f"{name}{ending}", f"{name}{ending}", x, model(x, training=False))
        if name == "layers":
            with quiet():
                model.export(folder / "saved", verbose=False)
            add("saved", "saved", x, model(x, training=False))
            add("lite", lite(model, folder, "net.tflite"), x[:1], model(x[:1], training=False))
    module = Served()
    tf.saved_model.save(module, str(folder / "module"), signatures=module.serve)
    rows = floats(3, 6)
    add("module", "module", rows, module.serve(tf.constant(rows))["y"])
    want = old(folder, rows)
    add("frozen", "frozen.pb", rows, want)
    add("checkpoint", "trained.meta", rows, want, ["y"])

    for name, x in feeds.items():
        np.save(folder / f"{name}.npy", x)
    (folder / "files.json").write_text(json.dumps(files))
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, str(folder)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "found.npz") as arrays:
        held = {key: (arrays[key], wants[key.rpartition(" ")[0]]) for key in arrays.files}
    yield held, json.loads((folder / "told.json").read_text())


def test_every_file_gives_what_tensorflow_gave(found: tuple[Held, dict[str, str]]) -> None:
    held, told = found
    assert len(held) == 22
    for name, (got, want) in held.items():
        assert got.shape == want.shape, name
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max(), name
    assert {told[name] for name in told if name != "verdict"} == {"direct"}


def test_without_tensorflow_nothing_can_be_compared(found: tuple[Held, dict[str, str]]) -> None:
    assert found[1]["verdict"] == "not_checked"
