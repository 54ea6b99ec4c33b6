"""Keras' and TensorFlow's own files: read, carried, and refused with what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_models import carried, distance, drawn, randomised

import netferry
from netferry.converters.artifact import Artifact
from netferry.converters.errors import MissingError, RefusedError, UsageError
from netferry.converters.frameworks import Framework
from netferry.converters.signature import BATCH
from netferry.converters.tensorflow import files, live
from netferry.converters.tensorflow.runtime import keras, quiet, tf

L = keras.layers
LIMIT = 1e-6


def network() -> Any:
    image = keras.Input((8, 8, 3), name="image")
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="conv")(image)
    x = L.Flatten(name="flatten")(L.BatchNormalization(name="norm")(x))
    return randomised(keras.Model(image, L.Dense(3, activation="softmax", name="head")(x), name="net"))


def saved(model: Any, kind: str, folder: Path) -> Artifact:
    path = folder / {"keras": "net.keras", "h5": "net.h5", "saved_model": "net"}[kind]
    with quiet():
        if kind == "saved_model":
            model.export(path, verbose=False)
        else:
            model.save(path)
    return Artifact(kind, path)


@pytest.mark.parametrize(
    ("kind", "route", "names"),
    [
        ("keras", "direct", ["image", "head"]),
        ("h5", "direct", ["image", "head"]),
        ("saved_model", "direct", ["image", "output_0"]),
    ],
)
def test_a_file_is_read_and_carried(kind: str, route: str, names: list[str], tmp_path: Path) -> None:
    model = network()
    read = files.read(saved(model, kind, tmp_path))
    assert live.accepts(read)
    onnx_model = carried(read)
    assert onnx_model.export.route == route
    graph = onnx_model.proto.graph
    assert [value.name for value in (*graph.input, *graph.output)] == names
    assert [d.dim_param or d.dim_value for d in graph.output[0].type.tensor_type.shape.dim] == [BATCH, 3]
    for batch in (1, 3):
        arrays = drawn([(batch, 8, 8, 3)], ["float32"])
        expected = model(arrays[0], training=False).numpy()
        assert distance(expected, onnx_model.run(arrays)[names[1]]) <= LIMIT
        assert distance(expected, live.run(read, arrays)[names[1]]) <= LIMIT


def test_weights_are_loaded_into_what_was_read(tmp_path: Path) -> None:
    model, other = network(), network()
    artifact = saved(model, "keras", tmp_path)
    randomised(other, seed=5).save_weights(tmp_path / "other.weights.h5")
    read = files.read(artifact, weights=tmp_path / "other.weights.h5")
    array = drawn([(2, 8, 8, 3)], ["float32"])[0]
    assert distance(other(array).numpy(), read(array).numpy()) == 0
    assert distance(model(array).numpy(), read(array).numpy()) > 1e-3


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    small = randomised(keras.Sequential([keras.Input((3,)), L.Dense(2)]))
    small.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(RefusedError, match=r"small\.weights\.h5"):
        files.load_weights(network(), tmp_path / "small.weights.h5")


def test_weights_need_a_model_that_is_built(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Build it in the factory"):
        files.load_weights(keras.Sequential([L.Dense(2)]), tmp_path / "any.weights.h5")


def test_weights_alone_are_refused_with_the_way_to_give_their_model(tmp_path: Path) -> None:
    path = tmp_path / "net.weights.h5"
    network().save_weights(path)
    with pytest.raises(RefusedError, match=r"package\.module:factory --weights net\.weights\.h5"):
        files.read(Artifact("h5", path))


def with_lambda() -> Any:
    return keras.Sequential([keras.Input((3,)), L.Lambda(lambda x: x * 2)])


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_python_code_in_a_file_is_not_run(kind: str, tmp_path: Path) -> None:
    artifact = saved(with_lambda(), kind, tmp_path)
    with pytest.raises(RefusedError, match="Lambda layer"):
        files.read(artifact)


class Mine(L.Layer):
    def call(self, x: Any) -> Any:
        return x * 2


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_class_that_is_not_known_is_named(kind: str, tmp_path: Path) -> None:
    artifact = saved(keras.Sequential([keras.Input((3,)), Mine()]), kind, tmp_path)
    with pytest.raises(RefusedError, match="a class that Keras does not know"):
        files.read(artifact)


@pytest.mark.parametrize("kind", ["keras", "h5"])
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_damaged_file_is_refused(kind: str, kept: float, tmp_path: Path) -> None:
    artifact = saved(network(), kind, tmp_path)
    content = artifact.path.read_bytes()
    artifact.path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(RefusedError, match=artifact.path.name):
        files.read(artifact)


def test_hdf5_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.h5"
    with h5py.File(path, "w") as file:
        file["rows"] = np.zeros(3)
    with pytest.raises(RefusedError, match="weights without their model"):
        files.read(Artifact("h5", path))


class Two(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="rows")])
    def twice(self, rows: Any) -> Any:
        return {"twice": rows * 2}

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="rows")])
    def thrice(self, rows: Any) -> Any:
        return {"thrice": rows * 3}


def saved_module(folder: Path, *names: str) -> Artifact:
    module = Two()
    with quiet():
        tf.saved_model.save(module, folder, signatures={name: getattr(module, name) for name in names})
    return Artifact("saved_model", folder)


def test_what_xla_compiled_into_a_saved_model_is_inlined(tmp_path: Path) -> None:
    """Keras compiles grouped convolutions; tf2onnx alone writes a file that onnxruntime does not read."""
    model = randomised(keras.Sequential([keras.Input((8, 8, 4)), L.Conv2D(4, 3, groups=2)]))
    onnx_model = carried(files.read(saved(model, "saved_model", tmp_path)))
    for batch in (1, 3):
        arrays = drawn([(batch, 8, 8, 4)], ["float32"])
        assert distance(model(arrays[0]).numpy(), onnx_model.run(arrays)["output_0"]) <= LIMIT


def test_the_only_signature_is_taken(tmp_path: Path) -> None:
    onnx_model = carried(files.read(saved_module(tmp_path / "one", "thrice")))
    rows = drawn([(2, 3)], ["float32"])
    assert distance(rows[0] * 3, onnx_model.run(rows)["thrice"]) <= LIMIT


def test_several_signatures_without_a_default_are_listed(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="twice") as stop:
        files.read(saved_module(tmp_path / "two", "twice", "thrice"))
    assert "thrice" in str(stop.value) and "signatures['name']" in str(stop.value)


def test_a_signature_that_a_person_chose_is_carried(tmp_path: Path) -> None:
    artifact = saved_module(tmp_path / "two", "twice", "thrice")
    loaded = tf.saved_model.load(str(artifact.path))
    rows = drawn([(2, 3)], ["float32"])
    assert distance(rows[0] * 2, carried(loaded.signatures["twice"]).run(rows)["twice"]) <= LIMIT


def test_a_saved_model_without_a_signature_is_refused(tmp_path: Path) -> None:
    with quiet():
        tf.saved_model.save(tf.Module(), tmp_path / "none")
    with pytest.raises(RefusedError, match="no signature"):
        files.read(Artifact("saved_model", tmp_path / "none"))


def test_a_damaged_saved_model_is_refused(tmp_path: Path) -> None:
    artifact = saved(network(), "saved_model", tmp_path)
    (artifact.path / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(RefusedError, match="net"):
        files.read(artifact)


def test_an_absent_tensorflow_says_what_to_install() -> None:
    absent = Framework("tensorflow", "TensorFlow/Keras", "no_such_package", ("no_such_package",))
    with pytest.raises(MissingError, match=r'pip install "netferry\[tensorflow\]"'):
        absent.require()


def test_tensorflow_starts_and_converts_without_a_word_on_standard_error() -> None:
    code = (
        "from netferry.converters.tensorflow.runtime import keras, tf\n"
        "from netferry.converters.tensorflow.to_onnx import to_onnx\n"
        "f = tf.function(lambda x: tf.nn.gelu(x), input_signature=[tf.TensorSpec([None, 3], tf.float32)])\n"
        "print(keras.backend.backend(), to_onnx(f).route)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tensorflow", "direct"]
    assert done.stderr == ""


class Listed(keras.Model):  # type: ignore[misc] # Keras has no types
    """Layers in a list and in a dict, and TensorFlow's own functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [L.Conv2D(4, 3, padding="same"), L.Conv2D(4, 3, padding="same")]
        self.parts = {"norm.1": L.BatchNormalization(), "head/a": L.Dense(2)}

    def call(self, x: Any) -> Any:
        x = self.steps[0](x)
        x = x + tf.nn.relu(self.parts["norm.1"](self.steps[1](x)))
        return {"logits": self.parts["head/a"](tf.reduce_mean(x, [1, 2])), "hidden": x}


@pytest.mark.parametrize("make", [network, Listed])
def test_a_keras_model_in_a_file_of_tf_saved_model_save_has_its_weights(make: Any, tmp_path: Path) -> None:
    """There the variable that is served is not the one that is restored: the saved objects alone tell which is which."""
    model, image = make(), np.random.default_rng(0).standard_normal((3, 8, 8, 3)).astype(np.float32)
    model(image)
    randomised(model)
    with quiet():
        tf.saved_model.save(model, str(tmp_path / "net"))
    done = netferry.convert(tmp_path / "net", "pytorch", quick=True, seed=0)
    assert done.report is not None and done.report.status == "passed", done.to_text()
    assert {type(layer).__name__ for layer in done.model.modules()} >= {"Conv2d", "BatchNorm2d", "Linear"}
    want = [y.numpy() for y in tf.nest.flatten(model(image))]
    got = netferry.run(done.model, {next(iter(done.model.input_specs)): image}).values()
    assert max(distance(x, y) for x, y in zip(got, want, strict=True)) <= 1e-5


WORKER = """
import sys, numpy as np, netferry
done = netferry.convert("net", "onnx", verify=False)
graph = done.model.graph
print(*(value.name for value in (*graph.input, *graph.output)))
print(*netferry.run("net", {name: np.full((1, 2), i, "float32") for i, name in enumerate(("zeta", "b", "c"))}).values())
"""


def test_a_signature_has_one_order_in_every_process(tmp_path: Path) -> None:
    """The file keeps names without an order, and each process reads them in another."""
    spec = tf.TensorSpec([None, 2], tf.float32)

    class Model(tf.Module):
        @tf.function(input_signature=[spec, spec, spec])
        def serve(self, zeta: Any, b: Any, c: Any) -> Any:
            return {f"y{i}": zeta - i * b + c for i in range(11)}

    model = Model()
    with quiet():
        tf.saved_model.save(model, str(tmp_path / "net"), signatures={"serving_default": model.serve})
    for seed in "123":
        done = subprocess.run(
            [sys.executable, "-c", WORKER], env=os.environ | {"PYTHONHASHSEED": seed}, cwd=tmp_path,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        names, values = done.stdout.splitlines()
        assert names.split() == ["zeta", "b", "c", *(f"y{i}" for i in range(11))]
        assert values.split() == " ".join(f"[[{2 - i}. {2 - i}.]]" for i in range(11)).split()
