"""TensorFlow 1's checkpoints with their graphs, parts of graphs, and check sums: each against TensorFlow itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import agree, exported, floats, operators, ran

import netferry
from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.tensorflow.runtime import keras, quiet, tf
from netferry.converters.trust.crc32c import crc32c

L = keras.layers
X = floats(3, 6)


def trained(folder: Path, version: int, resource: bool) -> dict[str, np.ndarray]:
    """A classifier with all that its training adds, saved as ``model.ckpt-7``; what its layers give for X."""
    v1 = tf.compat.v1
    with quiet(), tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x, label = v1.placeholder(tf.float32, [None, 6], "x"), v1.placeholder(tf.int64, [None], "label")
        first, bias, second = (
            v1.get_variable(name, sizes, use_resource=resource)
            for name, sizes in (("first", [6, 4]), ("bias", [4]), ("second", [4, 3]))
        )
        hidden = tf.nn.relu(x @ first + bias, name="hidden")
        logits = tf.identity(hidden @ second, "logits")
        probabilities = tf.nn.softmax(logits, name="probabilities")
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits), name="loss"
        )
        v1.summary.scalar("loss", loss)
        v1.train.AdamOptimizer(0.1).minimize(loss)
        session.run(v1.global_variables_initializer())
        v1.train.Saver(write_version=version).save(session, str(folder / "model.ckpt"), global_step=7)
        values = session.run([hidden, probabilities], {x: X})
    return dict(zip(("hidden", "probabilities"), values, strict=True))


@pytest.mark.parametrize(("version", "resource"), [(1, False), (2, False), (2, True)])
def test_a_checkpoint_with_its_graph_is_a_model(version: int, resource: bool, tmp_path: Path) -> None:
    want = trained(tmp_path, version, resource)
    for path in (tmp_path, tmp_path / "model.ckpt-7", tmp_path / "model.ckpt-7.meta"):
        made = netferry.convert(path, "onnx", outputs="probabilities", verify=False).model
        assert {tensor.name for tensor in made.graph.initializer} == {"first", "bias", "second"}
        agree(ran(made, {"x": X}), {"probabilities": want["probabilities"]})
    done = netferry.convert(
        tmp_path, "onnx", outputs="probabilities", input_at="hidden", inputs={"hidden": want["hidden"]}, quick=True, seed=0
    )  # fmt: skip
    assert done.report is not None and done.report.status == "passed"
    agree(ran(done.model, {"hidden": want["hidden"]}), {"probabilities": want["probabilities"]})


def test_of_a_graph_that_trains_the_outputs_are_not_those_of_training(tmp_path: Path) -> None:
    trained(tmp_path, 2, False)
    outputs = [spec.name for spec in netferry.inspect(tmp_path).signature.outputs]
    assert outputs == ["probabilities", "loss"]


def test_weights_without_a_graph_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, 2, False)
    (tmp_path / "model.ckpt-7.meta").unlink()
    with pytest.raises(RefusedError, match=r"weights only.*\.meta"):
        netferry.convert(tmp_path / "model.ckpt-7.index", "onnx")


@pytest.mark.parametrize("kind", [".data-00000-of-00001", ".index"])
def test_a_checkpoint_in_which_a_bit_has_changed_is_refused(kind: str, tmp_path: Path) -> None:
    trained(tmp_path, 2, False)
    file = next(tmp_path.glob(f"*{kind}"))
    content = bytearray(file.read_bytes())
    content[9] ^= 4
    file.write_bytes(content)
    with pytest.raises(RefusedError, match=r"check sum|damaged"):
        netferry.convert(tmp_path, "onnx", verify=False)


def test_check_sums_are_those_of_rfc_3720() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    for size in (0, 1, 1024, 1025, 1151, 5000, 104_567, 104_571, 170_003):
        content = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
        state = 0xFFFFFFFF
        for bit in np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little").tolist():
            state = (state >> 1) ^ (0x82F63B78 if (state ^ bit) & 1 else 0)
        assert crc32c(content) == state ^ 0xFFFFFFFF


# ---- parts -----------------------------------------------------------------------------------------


def test_a_saved_model_is_cut_at_a_node_of_its_functions(tmp_path: Path) -> None:
    path = exported(lambda x: L.Dense(2)(L.Dense(4, activation="relu", name="body")(x)), (6,), tmp_path)
    names = [spec.name for spec in netferry.inspect(path, layers=True).layers]
    node = next(name for name in names if name.endswith("/Relu"))
    before = netferry.convert(path, "onnx", outputs=node, verify=False).model
    [hidden] = ran(before, {"x": X}).values()
    behind = netferry.convert(path, "onnx", input_at=node, inputs={node: hidden}, verify=False).model
    whole = netferry.convert(path, "onnx", verify=False).model
    [got], [want] = ran(behind, {node: hidden}).values(), ran(whole, {"x": X}).values()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


class Words(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        held = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1, 2], tf.int64))
        self.table, self.rows = tf.lookup.StaticHashTable(held, 0), tf.Variable(floats(3, 4), name="rows")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def serve(self, words: Any) -> Any:
        return {"y": tf.gather(self.rows, self.table.lookup(words))}


def test_strings_are_refused_and_the_node_behind_them_is_where_a_part_begins(tmp_path: Path) -> None:
    module = Words()
    with quiet():
        tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.serve)
    with pytest.raises(NetferryError, match=r"words.*strings.*--input-at (\S+)") as caught:
        netferry.convert(tmp_path / "net", "onnx")
    node = str(caught.value).rpartition("--input-at ")[2].strip()
    made = netferry.convert(
        tmp_path / "net", "onnx", input_at=node, inputs={node: np.asarray([1, 0, 2])}, verify=False
    ).model
    assert "Gather" in operators(made)
    want = module.serve(tf.constant(["a", "?", "b"]))["y"].numpy()
    agree(ran(made, {node: np.asarray([1, 0, 2])}), {"y": want})
