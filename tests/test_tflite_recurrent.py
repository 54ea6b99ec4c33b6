"""TFLite's recurrent operators, each a layer of ONNX: against the interpreter, whose states are set back before each run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lite_models import both, by_hand, drawn, exported, opened, operators
from served_models import floats

from netferry.converters.errors import UnsupportedError

schema = pytest.importorskip("tensorflow.lite.python.schema_py_generated")

BATCH, TIME, CHANNELS, UNITS = 2, 6, 3, 4
Given = list[tuple[Any, bool]]
ABSENT: tuple[Any, bool] = (None, False)


def held(*sizes: int) -> tuple[Any, bool]:
    return floats(*sizes) * 0.6, False


def gates(count: int, *sizes: int, without_input: bool = False) -> Given:
    return [ABSENT if without_input and gate == 0 else held(*sizes) for gate in range(count)]


def weights(*, peepholes: bool = False, coupled: bool = False) -> Given:
    """Input weights, recurrent weights, peepholes, biases, no projection."""
    found = gates(4, UNITS, CHANNELS, without_input=coupled) + gates(4, UNITS, UNITS, without_input=coupled)
    found += gates(3, UNITS, without_input=coupled) if peepholes else [ABSENT] * 3
    return [*found, *gates(4, UNITS, without_input=coupled), ABSENT, ABSENT]


def states(count: int) -> Given:
    return [(np.zeros((BATCH, UNITS), np.float32), False)] * count


def agree(content: bytes, folder: Path, kinds: set[str]) -> None:
    model = opened(content, folder)
    export = exported(model)
    for seed in (1, 2):  # a second run begins as the first did
        want, got = both(model, export, drawn(model, seed=seed))
        for name, value in want.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(got[name], value, rtol=0, atol=2e-6 * max(1.0, scale))
            assert scale > 0.05
    assert kinds <= set(operators(export))
    assert any("zero" in note for note in export.notes)


def lstm_options(**changed: Any) -> Any:
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    for name, value in changed.items():
        setattr(options, name, value)
    return options


@pytest.mark.parametrize("time_major", [False, True])
@pytest.mark.parametrize(
    "how", [{}, {"peepholes": True}, {"coupled": True}, {"coupled": True, "peepholes": True}]
)
def test_a_fused_lstm_is_an_lstm(how: dict[str, bool], time_major: bool, tmp_path: Path) -> None:
    sizes = (TIME, BATCH) if time_major else (BATCH, TIME)
    given: Given = [(floats(*sizes, CHANNELS), True), *weights(**how), *states(2), *[ABSENT] * 4]
    content = by_hand(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        lstm_options(timeMajor=time_major),
        given,
        [(*sizes, UNITS)],
        state=(18, 19),
    )
    agree(content, tmp_path, {"LSTM"})


@pytest.mark.parametrize(("merged", "time_major"), [(False, False), (False, True), (True, True)])
def test_a_fused_lstm_of_both_directions_is_one(merged: bool, time_major: bool, tmp_path: Path) -> None:
    options = schema.BidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    options.mergeOutputs, options.timeMajor = merged, time_major
    sizes = (TIME, BATCH) if time_major else (BATCH, TIME)
    given: Given = [(floats(*sizes, CHANNELS), True), *weights(), *weights(), *states(4), *[ABSENT] * 9]
    outputs = [(*sizes, 2 * UNITS)] if merged else [(*sizes, UNITS)] * 2
    content = by_hand("BIDIRECTIONAL_SEQUENCE_LSTM", options, given, outputs, state=range(35, 39))
    agree(content, tmp_path, {"LSTM"})


@pytest.mark.parametrize("activation", ["TANH", "RELU"])
def test_a_fused_rnn_is_an_rnn(activation: str, tmp_path: Path) -> None:
    options = schema.SequenceRNNOptionsT()
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
    given: Given = [
        (floats(BATCH, TIME, CHANNELS), True), held(UNITS, CHANNELS), held(UNITS, UNITS), held(UNITS), *states(1),
    ]  # fmt: skip
    content = by_hand("UNIDIRECTIONAL_SEQUENCE_RNN", options, given, [(BATCH, TIME, UNITS)], state=(4,))
    agree(content, tmp_path, {"RNN"})


def test_what_a_layer_cannot_say_is_refused_by_name(tmp_path: Path) -> None:
    given: Given = [(floats(BATCH, TIME, CHANNELS), True), *weights(), *states(2), *gates(4, UNITS)]
    content = by_hand(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", lstm_options(), given, [(BATCH, TIME, UNITS)], state=(18, 19)
    )
    with pytest.raises(UnsupportedError, match="normalises its gates"):
        exported(opened(content, tmp_path))
