"""MXNet as a witness: how it is run, and what the report says of it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from mxnet_oracle import Oracle, OracleError

from netferry.converters import source
from netferry.converters.mxnet import backend, live

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

PIXELS = np.random.default_rng(3).normal(size=(2, 3, 8, 8)).astype(np.float32)
TIMES = np.random.default_rng(4).normal(size=(4, 2, 3)).astype(np.float32)

RESIDUAL = (
    "(lambda x: F.SoftmaxOutput(F.FullyConnected(F.Activation(F.Convolution(F.Activation(x, act_type='relu'), kernel=(3, 3),"
    " pad=(1, 1), num_filter=8) + x, act_type='tanh'), num_hidden=5), name='softmax'))"
    "(F.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=8))"
)
RECURRENT = (
    "F.SoftmaxOutput(F.FullyConnected(F.RNN(data, var('cell_parameters'), F._zeros(shape=(0, 0, 0)), mode='rnn_tanh',"
    " state_size=6, num_layers=1), num_hidden=4), name='softmax')"
)


def test_a_residual_block_passes_whatever_mxnets_own_fusion_gives(oracle: Oracle, tmp_path: Path) -> None:
    oracle.symbol(RESIDUAL, [{"data": PIXELS}], str(tmp_path / "net"))
    status, _, _ = oracle.verdict(str(tmp_path / "net"), str(tmp_path / "net.onnx"), {"data": PIXELS})
    assert status == "passed"


@pytest.mark.parametrize(("off", "told"), [(0.25, True), (1e-7, False)])
def test_what_mxnets_own_fusion_does_to_a_result_is_told(
    off: float, told: bool, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far off it is depends on the processor, and on what lies in memory: here it is made."""
    oracle.symbol(RESIDUAL, [{"data": PIXELS}], str(tmp_path / "net"))
    model = source.open_source(tmp_path / "net-symbol.json")
    plain = live.run(model, [PIXELS])
    monkeypatch.setattr(live, "_forward", lambda *_: [array + off for array in plain.values()])
    notes = live.remarks(model, [PIXELS], plain)
    assert any("default backend" in note and backend.FUSION in note for note in notes) is told


@pytest.mark.parametrize(
    "case", ["F.SoftmaxOutput(F.FullyConnected(data, num_hidden=4), name='softmax')", RECURRENT]
)
def test_a_symbol_with_labels_has_a_truth_in_float64(case: str, oracle: Oracle, tmp_path: Path) -> None:
    oracle.symbol(case, [{"data": TIMES}], str(tmp_path / "net"))
    status, notes, truth = oracle.verdict(str(tmp_path / "net"), str(tmp_path / "net.onnx"), {"data": TIMES})
    assert (status, truth) == ("passed", "MXNet in float64")
    assert not any("default backend" in note for note in notes)


def test_what_mxnet_prints_while_it_binds_stays_out_of_the_streams() -> None:
    spoken = io.StringIO()
    with contextlib.redirect_stdout(spoken), backend.quiet():
        print("infer_shape error. Arguments:")
    assert spoken.getvalue() == ""


def test_the_cause_of_an_error_is_its_line_without_mxnets_own_places() -> None:
    text = (
        'Traceback (most recent call last):\n  File "../src/a.cc", line 5\n'
        "MXNetError: Error in operator fc1: [10:11:12] ../src/b.cc:7: Check failed: a == b (1 vs. 2) : sizes differ"
    )
    assert (
        backend.cause(RuntimeError(text))
        == "Error in operator fc1: Check failed: a == b (1 vs. 2) : sizes differ"
    )


def test_a_symbol_that_mxnet_only_seems_to_run_is_not_run(oracle: Oracle, tmp_path: Path) -> None:
    """Its executor gives empty arrays where sizes follow from elements."""
    x = np.random.default_rng(2).normal(size=(3, 5, 4)).astype(np.float32)
    oracle.symbol("np_.delete(data, 2, axis=1)", [{"data": x}], str(tmp_path / "net"), numpy=True)
    with pytest.raises(OracleError, match="follow from the elements"):
        oracle.run_files(str(tmp_path / "net"), [x])
