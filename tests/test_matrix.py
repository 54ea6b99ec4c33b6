"""The main job: every reference model, trained in every framework, carried everywhere and held against its source.

All tests that need the trained zoo stand here: it takes minutes, and the tests run in one process for each file.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import netferry
from netferry.tasks.cells import Matrix
from netferry.tasks.matrix import TARGETS, convert_trained, example
from netferry.validation.training.results import LIMIT
from netferry.zoo import data
from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import TRAINERS, Trained, reload, trainer

CELLS = [(name, framework) for name in CATALOG for framework in TRAINERS]

Zoo = dict[tuple[str, str], Trained]

every_framework = pytest.mark.parametrize("framework", TRAINERS)
every_cell = pytest.mark.parametrize(("name", "framework"), CELLS)

RECURRENT = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "bilstm": "LSTM"}


@every_cell
def test_every_cell_passes(name: str, framework: str, trained_zoo: Zoo, tmp_path: Path) -> None:
    trained = trained_zoo[name, framework]
    given = example(trained)
    cell = convert_trained(trained, "onnx", tmp_path / "model.onnx", given)
    assert cell.status == "passed", cell.reason
    assert cell.route == "direct"
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert not {"Loop", "Scan", "Identity"} & set(operators)
    if name in RECURRENT:
        assert operators.count(RECURRENT[name]) == 1
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert CATALOG[name].dims[0] is not None or dims[1].dim_param == "time"


NATIVE = [target for target in TARGETS if target != "onnx"]

EVERYDAY = 4
"""One cell in so many runs every day, chosen so that every pair of frameworks and every model is among them."""

ARRIVALS = [
    pytest.param(
        name,
        framework,
        target,
        marks=()
        if (m + 2 * NATIVE.index(framework) + NATIVE.index(target)) % EVERYDAY == 0
        else pytest.mark.slow,
    )
    for m, name in enumerate(CATALOG)
    for framework in TRAINERS
    for target in NATIVE
]


def test_the_everyday_cells_hold_every_pair_and_every_model() -> None:
    everyday = [cell.values for cell in ARRIVALS if not cell.marks]
    assert {cell[0] for cell in everyday} == set(CATALOG)
    assert {cell[1:] for cell in everyday} == {(a, b) for a in TRAINERS for b in NATIVE}


@pytest.mark.parametrize(("name", "framework", "target"), ARRIVALS)
def test_every_model_arrives_everywhere_and_goes_on_learning(
    name: str, framework: str, target: str, trained_zoo: Zoo, tmp_path: Path
) -> None:
    trained, path = trained_zoo[name, framework], tmp_path / TARGETS[target].format(name)
    cell = convert_trained(trained, target, path, example(trained))
    assert cell.status == "passed", cell.reason
    assert _apart_on_held_out_rows(trained, path) < 2e-5
    assert len(cell.further) == 20
    assert np.mean(cell.further[-4:]) < np.mean(cell.further[:4])  # the same four batches
    assert cell.report is not None and cell.report.training is not None
    assert cell.report.training.steps == 20
    assert {curve.optimizer for curve in cell.report.training.curves} == {"sgd", "adam"}
    assert cell.gradient_ratio is not None and cell.gradient_ratio <= LIMIT
    assert cell.training_ratio is not None and cell.training_ratio <= LIMIT
    assert cell.files


def _apart_on_held_out_rows(trained: Trained, path: Path) -> float:
    """Both as they are run, in shares of the output's scale."""
    rows, arrived = [example(trained).array], f"{path}/model.py:load" if path.is_dir() else path
    [ours], [theirs] = (netferry.run(model, rows).values() for model in (trained.model, arrived))
    return float(np.abs(theirs - ours).max() / np.abs(ours).max())


@every_framework
def test_onnxruntime_gives_the_held_out_metric_of_the_framework(framework: str, trained_zoo: Zoo) -> None:
    """An oracle that knows nothing of tolerances: as many digits are read right as before."""
    trained = trained_zoo["cnn", framework]
    dataset = data.load(trained.spec)
    rows = trainer(framework).to_native(dataset.x_test)
    carried = netferry.convert(trained.model, "onnx", inputs={"image": rows[:2]}, verify=False)
    [outputs] = netferry.run(carried.model, [rows]).values()
    accuracy = float((outputs.argmax(-1) == dataset.y_test).mean())
    assert accuracy == pytest.approx(trained.metric, abs=1e-9)
    assert accuracy >= trained.spec.floor


def test_the_command_line_trains_carries_and_writes_the_matrix(tmp_path: Path) -> None:
    from test_cli import netferry as command

    done = command("zoo", "matrix", "--model", "linear", "--output", tmp_path / "zoo", "--json")
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert [(cell["model"], cell["source"], cell["target"], cell["status"]) for cell in cells] == [
        ("linear", framework, target, "passed") for framework in TRAINERS for target in TARGETS
    ]
    assert all(cell["max_abs"] is not None and cell["max_rel"] is not None for cell in cells)
    assert json.loads((tmp_path / "zoo" / "matrix.json").read_text())["cells"] == cells
    assert "linear" in (tmp_path / "zoo" / "matrix.txt").read_text()


def test_the_command_line_takes_sources_and_targets_that_are_named(tmp_path: Path) -> None:
    from test_cli import netferry as command

    chosen = ("--model", "linear", "--framework", "pytorch", "--to", "onnx", "--to", "mxnet")
    done = command("zoo", "matrix", *chosen, "--output", tmp_path / "zoo", "--json")
    assert done.returncode == 0, done.stderr
    cells = [(cell["source"], cell["target"], cell["status"]) for cell in json.loads(done.stdout)["cells"]]
    assert cells == [("pytorch", "onnx", "passed"), ("pytorch", "mxnet", "passed")]
    wrong = command("zoo", "matrix", "--to", "caffe", "--output", tmp_path / "zoo")
    assert wrong.returncode == 2
    assert "caffe" in wrong.stderr


def test_a_fault_in_one_weight_is_found(trained_zoo: Zoo) -> None:
    """One of the LSTM's weights moved by a hundredth: the matrix would not pass it."""
    trained = trained_zoo["lstm", "pytorch"]
    given = example(trained)
    carried = netferry.convert(trained.model, "onnx", inputs=[given], verify=False).model
    tensor = next(t for t in carried.graph.initializer if "weight_hh" in t.name)
    weights = onnx.numpy_helper.to_array(tensor).copy()
    weights.flat[np.abs(weights).argmax()] *= 1.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
    assert netferry.verify(trained.model, carried, [given]).status == "failed"


def test_an_empty_matrix_has_not_passed() -> None:
    assert not Matrix(()).passed


# ---- what was trained ------------------------------------------------------------------------------------


@every_cell
def test_every_model_reaches_its_floor(trained_zoo: Zoo, name: str, framework: str) -> None:
    assert trained_zoo[name, framework].metric >= CATALOG[name].floor


@pytest.mark.parametrize("name", CATALOG)
def test_the_frameworks_agree_on_held_out_rows(trained_zoo: Zoo, name: str) -> None:
    metrics = {framework: trained_zoo[name, framework].metric for framework in TRAINERS}
    assert max(metrics.values()) - min(metrics.values()) <= 0.02, metrics


@every_framework
def test_the_line_is_found_again(trained_zoo: Zoo, framework: str) -> None:
    found = trained_zoo["linear", framework].metrics
    assert found["slope"] == pytest.approx(data.SLOPE, abs=0.1)
    assert found["intercept"] == pytest.approx(data.INTERCEPT, abs=0.1)


@every_cell
def test_the_loss_falls(trained_zoo: Zoo, name: str, framework: str) -> None:
    history = trained_zoo[name, framework].history
    assert len(history) == CATALOG[name].epochs
    assert history[-1] < 0.7 * history[0]


@every_cell
def test_files_and_their_checksums_stay_behind(trained_zoo: Zoo, name: str, framework: str) -> None:
    trained = trained_zoo[name, framework]
    expected = {
        "pytorch": [f"{name}.safetensors"],
        "tensorflow": [f"{name}.keras"],
        "mxnet": [f"{name}-symbol.json", f"{name}-0000.params"],
    }[framework]
    assert [path.name for path in trained.files] == expected
    whole = b"".join(path.read_bytes() for path in trained.files)
    assert trained.checksum == hashlib.sha256(whole).hexdigest()
    note = json.loads((trained.files[0].parent / f"{name}.json").read_text())
    assert note["sha256"] == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in trained.files}
    assert note["metrics"] == dict(trained.metrics)
    assert note["history"] == list(trained.history)
    assert note["versions"].keys() > {"numpy"}


@every_cell
def test_a_model_that_was_saved_predicts_the_same(
    trained_zoo: Zoo, tmp_path: Path, name: str, framework: str
) -> None:
    """Read from a copy: nothing points back to where it was saved."""
    trained, spec, native = trained_zoo[name, framework], CATALOG[name], trainer(framework)
    shutil.copytree(trained.files[0].parent, tmp_path / framework)
    x = data.load(spec).x_test[:50]
    expected = native.predict(trained.model, x)
    received = native.predict(reload(spec, framework, tmp_path), x)
    np.testing.assert_array_equal(received, expected)
