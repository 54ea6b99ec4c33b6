"""The main job: every reference model, from every framework, to ONNX, held against its source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import netferry
from netferry.matrix import TARGETS, Matrix, carry_trained, example
from netferry.zoo.catalog import CATALOG
from netferry.zoo.train import TRAINERS, Trained

CELLS = [(name, framework) for name in CATALOG for framework in TRAINERS]

Zoo = dict[tuple[str, str], Trained]

RECURRENT = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU", "bilstm": "LSTM"}


@pytest.mark.parametrize(("name", "framework"), CELLS)
def test_every_cell_passes(name: str, framework: str, trained_zoo: Zoo, tmp_path: Path) -> None:
    trained = trained_zoo[name, framework]
    given = example(trained)
    cell = carry_trained(trained, "onnx", tmp_path / "model.onnx", given)
    assert cell.status == "passed", cell.reason
    assert cell.road == "direct"
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    operators = [node.op_type for node in model.graph.node]
    assert not {"Loop", "Scan", "Identity"} & set(operators)
    if name in RECURRENT:
        assert operators.count(RECURRENT[name]) == 1
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert CATALOG[name].dims[0] is not None or dims[1].dim_param == "time"


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "onnx"])
@pytest.mark.parametrize(("name", "framework"), CELLS)
def test_every_model_arrives_everywhere_and_goes_on_learning(
    name: str, framework: str, target: str, trained_zoo: Zoo, tmp_path: Path
) -> None:
    trained = trained_zoo[name, framework]
    cell = carry_trained(trained, target, tmp_path / TARGETS[target].format(name), example(trained))
    assert cell.status == "passed", cell.reason
    assert cell.max_rel is not None and cell.max_rel < 2e-5
    assert len(cell.further) == 20
    assert cell.further[-1] < cell.further[0]
    assert cell.files


@pytest.mark.parametrize("framework", TRAINERS)
def test_onnxruntime_gives_the_held_out_metric_of_the_framework(framework: str, trained_zoo: Zoo) -> None:
    """An oracle that knows nothing of tolerances: as many digits are read right as before."""
    from netferry.zoo.data import load
    from netferry.zoo.train import trainer

    trained = trained_zoo["cnn", framework]
    dataset = load(trained.spec)
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
