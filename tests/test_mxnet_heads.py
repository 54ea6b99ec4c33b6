"""What inference keeps of a symbol that was made for training, against mxnet itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from mxnet_cases import assert_equal, onnx_outputs, read
from mxnet_oracle import Oracle

from netferry.converters.mxnet import files, part
from netferry.converters.mxnet.to_onnx import to_onnx
from netferry.converters.signature import Array, examples

if importlib.util.find_spec("mxnet") is None:
    pytest.skip("mxnet, the oracle, is not installed", allow_module_level=True)

RNG = np.random.default_rng(7)
TOKENS = RNG.integers(0, 20, (3, 4)).astype(np.float32)
ROWS = RNG.normal(size=(3, 5)).astype(np.float32)
PIXELS = RNG.normal(size=(2, 3, 6, 6)).astype(np.float32)
TIMES = RNG.normal(size=(7, 2, 4)).astype(np.float32)

_WORDS = (
    "F.FullyConnected(F.reshape(F.Embedding(data, input_dim=20, output_dim=6), shape=(-1, 6)), num_hidden=20)"
)
_SCORES = "F.FullyConnected(data, num_hidden=6, name='scores')"
_PER_TIME = "F.FullyConnected(data, num_hidden=6, flatten=False, name='scores')"
_CTC = f"F.CTCLoss({_PER_TIME}, var('a_label', shape=(2, 3)))"

LABELLED: dict[str, Array] = {
    f"F.SoftmaxOutput({_WORDS}, F.reshape(var('w_label', shape=(3, 4)), shape=(-1,)), name='softmax')": TOKENS,
    f"F.SoftmaxOutput({_WORDS}, F.reshape(F.transpose(F.Cast(var('w_label', shape=(3, 4)), dtype='float32')) - 1, shape=(-1,)))": TOKENS,
    f"F.SVMOutput({_SCORES}, F.reshape(F.slice_axis(var('x_label', shape=(3, 2)), axis=1, begin=0, end=1), shape=(-1,)))": ROWS,
    "F.LinearRegressionOutput(F.sum(data, axis=1), F.reshape(var('x_label', shape=(3, 1)), shape=(-1,)))": ROWS,
    "F.LinearRegressionOutput(F.FullyConnected(data, num_hidden=5), data)": ROWS,
    f"[F.SoftmaxOutput({_SCORES}, F.reshape(var('a_label', shape=(3, 1)), shape=(-1,)) * 2), F.LogisticRegressionOutput(data, var('b_label', shape=(3, 5)) + 1)]": ROWS,
}
"""Symbols whose labels come through operators."""

DETECTOR = (
    "(lambda feature: (lambda anchors, scores, shifts: (lambda target: (lambda prob: ["
    "prob, F.MakeLoss(F.smooth_l1(target[1] * (shifts - target[0])), name='shift_loss'), "
    "F.MakeLoss(target[2], grad_scale=0, name='class_target'), "
    "F.MakeLoss(F._contrib_MultiBoxDetection(prob, shifts, anchors), grad_scale=0, name='found')]"
    ")(F.SoftmaxOutput(scores, target[2], multi_output=True, use_ignore=True, name='prob')))"
    "(F._contrib_MultiBoxTarget(anchors, var('the_label', shape=(2, 1, 5)), scores)))"
    "(F._contrib_MultiBoxPrior(feature, sizes=(0.3, 0.5), ratios=(1, 2)), "
    "F.transpose(F.Reshape(F.transpose(F.Convolution(feature, kernel=(3, 3), pad=(1, 1), num_filter=9), axes=(0, 2, 3, 1)),"
    " shape=(0, -1, 3)), axes=(0, 2, 1)), "
    "F.Flatten(F.transpose(F.Convolution(feature, kernel=(3, 3), pad=(1, 1), num_filter=12), axes=(0, 2, 3, 1)))))"
    "(F.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=4))"
)

_SHARED = {
    f"F.BlockGrad(F.softmax(s), name='kept'), F.MakeLoss({_CTC.replace(_PER_TIME, 's')})": TIMES,
    "F.softmax(s, name='kept'), F.MakeLoss(F.sum(F.square(s), axis=1))": ROWS,
    "F.BlockGrad(F.softmax(s), name='kept'), F.MakeLoss(s * F._random_normal(shape=(3, 6)))": ROWS,
    "F.softmax(s, name='kept'), F.MakeLoss(-F.pick(F.log_softmax(s), var('a_label', shape=(3,))))": ROWS,
}
HEADED: dict[str, tuple[Array, list[str]]] = {
    f"(lambda s: [{heads}])({_PER_TIME if data is TIMES else _SCORES})": (data, ["kept_output"])
    for heads, data in _SHARED.items()
} | {
    f"[F.MakeLoss({_SCORES}, name='one'), F.MakeLoss(data, name='two')]": (ROWS, ["one_output", "two_output"])
}
"""Symbols with heads of training: an input, and the outputs that are left."""


def _assert_kept(
    case: str, data: Array, kept: list[str] | None, oracle: Oracle, folder: Path
) -> tuple[str, ...]:
    shapes = {"data": data}
    names, (truth,) = oracle.symbol(case, [shapes], str(folder / "net"))
    export = to_onnx(read(folder), examples(shapes, {}))
    outputs = onnx_outputs(export.model, [data])
    assert list(outputs) == (names if kept is None else kept)
    for name, mine in outputs.items():
        assert_equal(mine, truth[names.index(name)], 1e-5, f"{case} {name}")
    (run,) = [oracle.run_files(str(folder / "net"), [data])]
    assert list(run) == list(outputs)
    return export.notes


@pytest.mark.parametrize("case", LABELLED)
def test_a_label_falls_away_with_all_that_makes_it(case: str, oracle: Oracle, tmp_path: Path) -> None:
    assert _assert_kept(case, LABELLED[case], None, oracle, tmp_path) == ()


@pytest.mark.parametrize("case", HEADED)
def test_heads_of_training_fall_away_beside_others(case: str, oracle: Oracle, tmp_path: Path) -> None:
    data, kept = HEADED[case]
    notes = _assert_kept(case, data, kept, oracle, tmp_path)
    assert any("outputs of training" in note for note in notes) == (len(kept) == 1)


def test_a_detector_as_it_was_trained_gives_its_boxes(oracle: Oracle, tmp_path: Path) -> None:
    notes = _assert_kept(DETECTOR, PIXELS, ["prob_output", "found_output"], oracle, tmp_path)
    assert "shift_loss_output, class_target_output" in notes[0]


def test_a_ctc_loss_alone_gives_what_it_reads(oracle: Oracle, tmp_path: Path) -> None:
    oracle.symbol(f"F.MakeLoss({_CTC})", [{"data": TIMES}], str(tmp_path / "net"))
    export = to_onnx(read(tmp_path), examples({"data": TIMES}, {}))
    assert list(onnx_outputs(export.model, [TIMES])) == ["scores_output"]
    assert "before its softmax" in export.notes[0]


def test_a_ctc_of_baidus_is_a_softmax() -> None:
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "label", "inputs": []},
        {"op": "WarpCTC", "name": "ctc", "attrs": {"label_length": "4"}, "inputs": [[0, 0, 0], [1, 0, 0]]},
    ]
    graph = files.symbol_of({"nodes": nodes, "heads": [[2, 0, 0]]}, "net")
    export = to_onnx(files.model_of(graph, {}), examples({"data": ROWS}))
    (mine,) = onnx_outputs(export.model, [ROWS]).values()
    wide = np.exp(ROWS - ROWS.max(axis=1, keepdims=True))
    np.testing.assert_allclose(mine, wide / wide.sum(axis=1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("name", ["scores", "scores_output"])
def test_any_tensor_inside_can_be_the_output(name: str, oracle: Oracle, tmp_path: Path) -> None:
    case = f"F.SoftmaxOutput(F.Activation({_SCORES}, act_type='tanh'), F.reshape(var('a_label', shape=(3, 1)), shape=(-1,)), name='softmax')"
    oracle.symbol(case, [{"data": ROWS}], str(tmp_path / "net"))
    model, _ = part.cut(read(tmp_path), [name], [], None)
    (mine,) = onnx_outputs(to_onnx(model, examples({"data": ROWS})).model, [ROWS]).values()
    expected = ROWS @ model.params["scores_weight"].T + model.params["scores_bias"]
    assert_equal(mine, expected, 1e-5, name)


def test_an_output_of_training_can_be_asked_for(oracle: Oracle, tmp_path: Path) -> None:
    case = f"(lambda s: [F.softmax(s), F.MakeLoss(F.sum(F.square(s), axis=1), name='cost')])({_SCORES})"
    oracle.symbol(case, [{"data": ROWS}], str(tmp_path / "net"))
    model, _ = part.cut(read(tmp_path), ["cost"], [], None)
    scores = ROWS @ model.params["scores_weight"].T + model.params["scores_bias"]
    outputs = onnx_outputs(to_onnx(model, examples({"data": ROWS})).model, [ROWS])
    assert list(outputs) == ["cost_output"] and model.notes == ()
    assert_equal(outputs["cost_output"], np.square(scores).sum(axis=1), 1e-5, "cost")


@pytest.mark.parametrize("layer", ["LSTM(5, 2, layout='NTC')", "GRU(5, 2, bidirectional=True)", "RNN(4, 1)"])
def test_first_states_that_are_not_given_are_zeros(layer: str, oracle: Oracle, tmp_path: Path) -> None:
    feeds = [[RNG.normal(size=dims).astype(np.float32)] for dims in ((4, 3, 6), (2, 7, 6))]
    truth = oracle.gluon(f"rnn.{layer}", feeds, str(tmp_path / "net"))
    export = to_onnx(read(tmp_path), examples({"data": feeds[0][0]}, {"data": {0: "one", 1: "two"}}))
    assert "first states that are not given are zeros: data1" in export.notes[0]
    for arrays, expected in zip(feeds, truth, strict=True):
        assert_equal(next(iter(onnx_outputs(export.model, arrays).values())), expected[0], 1e-5, layer)
        assert_equal(
            next(iter(oracle.run_files(str(tmp_path / "net"), arrays).values())), expected[0], 1e-6, layer
        )
