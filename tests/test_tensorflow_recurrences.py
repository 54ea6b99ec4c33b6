"""Recurrent layers of SavedModels that leave steps out: layers again, with what they leave out, each against TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_models import agree, floats, operators, ran, randomised, served

import netferry
from netferry.converters.tensorflow.runtime import keras, quiet, tf

L = keras.layers


def words(build: Callable[[Any], Any]) -> tuple[Any, str]:
    x = keras.Input((7,), dtype="int32", name="x")
    return keras.Model(x, build(L.Embedding(12, 5, mask_zero=True, name="words")(x))), "words"


def sounds(build: Callable[[Any], Any]) -> tuple[Any, str]:
    x = keras.Input((7, 5), name="x")
    return keras.Model(x, build(L.Masking()(x))), "sounds"


def fed(kind: str, batch: int) -> np.ndarray:
    """Rows of different lengths, one of them empty, with a hole."""
    rng = np.random.default_rng(batch)
    lengths = [7, 0, *rng.integers(1, 7, batch - 2)]
    if kind == "words":
        x = rng.integers(1, 12, (batch, 7)).astype(np.int32)
    else:
        x = rng.standard_normal((batch, 7, 5)).astype(np.float32)
    for row, length in enumerate(lengths):
        x[row, length:] = 0
    x[0, 2] = 0
    return x


MODELS: dict[str, Callable[[], tuple[Any, str]]] = {
    "an lstm's last output": lambda: words(L.LSTM(6)),
    "a gru's sequence": lambda: sounds(L.GRU(6, return_sequences=True)),
    "an rnn with its states": lambda: words(L.SimpleRNN(6, return_sequences=True, return_state=True)),
    "two lstms": lambda: words(lambda x: L.LSTM(4)(L.LSTM(6, return_sequences=True)(x))),
    "a gru that reads from behind": lambda: words(L.GRU(6, reset_after=False, go_backwards=True)),
    "both directions of a sequence": lambda: words(L.Bidirectional(L.LSTM(6, return_sequences=True))),
    "both directions' last outputs": lambda: sounds(L.Bidirectional(L.GRU(6))),
}


@pytest.mark.parametrize("title", MODELS)
def test_a_layer_with_a_mask_is_the_layer_that_the_keras_file_gives(title: str, tmp_path: Path) -> None:
    model, kind = MODELS[title]()
    randomised(model)
    with quiet():
        model.export(tmp_path / "net", verbose=False)
        model.save(tmp_path / "net.keras")
    done = netferry.convert(tmp_path / "net", "onnx", verify=False)
    assert done.route == "direct"
    assert not {"Loop", "Scan", "If"} & set(operators(done.model))
    for batch in (2, 5):
        feeds = {"x": fed(kind, batch)}
        agree(ran(done.model, feeds), served(tmp_path / "net", feeds))
    found, plain = (
        netferry.convert(tmp_path / name, "pytorch", verify=False) for name in ("net", "net.keras")
    )
    lines = [len(each.imported.source.splitlines()) for each in (found, plain)]
    assert lines[0] <= 1.3 * lines[1]
    assert sorted(found.model.state_dict()) == sorted(plain.model.state_dict())


CELLS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "three cells on each other": (
        lambda: L.RNN([L.GRUCell(6), L.LSTMCell(4), L.SimpleRNNCell(4)], return_sequences=True), ["GRU", "LSTM", "RNN"],
    ),
    "zeros where steps are left out": (
        lambda: L.RNN(L.LSTMCell(6), return_sequences=True, zero_output_for_mask=True), ["LSTM"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("title", CELLS)
def test_cells_in_a_loop_are_layers(title: str, tmp_path: Path) -> None:
    build, kinds = CELLS[title]
    model, kind = sounds(build())
    randomised(model)
    with quiet():
        model.export(tmp_path / "net", verbose=False)
    made = netferry.convert(tmp_path / "net", "onnx", verify=False).model
    assert [each for each in operators(made) if each in ("LSTM", "GRU", "RNN", "Loop")] == kinds
    for batch in (2, 5):
        feeds = {"x": fed(kind, batch)}
        agree(ran(made, feeds), served(tmp_path / "net", feeds))


# ---- TensorFlow 1: lengths -------------------------------------------------------------------------


class Cell:
    """As people of TensorFlow 1 write one. x: (batch, input), state: (batch, units)."""

    def __init__(self, name: str, units: int = 4) -> None:
        self.name, self.output_size, self.state_size = name, units, units

    def zero_state(self, batch: Any, dtype: Any) -> Any:
        return tf.zeros([batch, self.state_size], dtype)

    def __call__(self, x: Any, state: Any, scope: Any = None) -> Any:
        v1, units = tf.compat.v1, self.output_size
        with v1.variable_scope(self.name, reuse=v1.AUTO_REUSE):
            kernel = v1.get_variable("kernel", [x.shape[1] + units, units])
            bias = v1.get_variable("bias", [units])
        h = tf.tanh(tf.concat([x, state], 1) @ kernel + bias)
        return h, h


def one_way(x: Any, lengths: Any) -> Any:
    from tensorflow.python.ops import rnn

    return rnn.dynamic_rnn(Cell("cell"), x, lengths, dtype=tf.float32)[0]


def both_ways(x: Any, lengths: Any) -> Any:
    from tensorflow.python.ops import rnn

    there, back = rnn.bidirectional_dynamic_rnn(Cell("a"), Cell("b"), x, lengths, dtype=tf.float32)[0]
    return tf.concat([there, back], 2)


@pytest.mark.parametrize("build", [one_way, both_ways])
def test_lengths_of_tensorflow_1_are_those_of_the_layer(build: Callable[..., Any], tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with quiet(), tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        x, lengths = (
            v1.placeholder(tf.float32, [None, 7, 3], "x"),
            v1.placeholder(tf.int64, [None], "lengths"),
        )
        y = tf.identity(build(x, lengths), "y")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(tmp_path / "net"), {"x": x, "lengths": lengths}, {"y": y})
    made = netferry.convert(tmp_path / "net", "onnx", verify=False).model
    assert set(operators(made)) <= {"Transpose", "RNN", "Squeeze", "Reshape", "Cast"}
    for counts in ([7, 0, 3], [2, 5, 4, 1]):
        feeds = {"x": floats(len(counts), 7, 3), "lengths": np.asarray(counts)}
        agree(ran(made, feeds), served(tmp_path / "net", feeds))
