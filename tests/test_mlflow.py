"""MLflow's flavour: what is saved is checked, and loads as a session, as a model of another framework, and as a function."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from models import dense, saved

import netferry
from netferry import mlflow as flavour
from netferry.converters.errors import MissingError, WriteError


def test_without_mlflow_the_command_that_brings_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for name in ("models", "pyfunc", "artifacts"):
        monkeypatch.setitem(sys.modules, f"mlflow.{name}", None)
    with pytest.raises(MissingError, match="pip install mlflow"):
        flavour.save_model(dense(), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_saved_model_loads_again_in_every_way(tmp_path: Path) -> None:
    pyfunc = pytest.importorskip(
        "mlflow.pyfunc", reason="MLflow is not installed: netferry does not bring it"
    )
    source = saved(tmp_path, dense(), "a.onnx")
    flavour.save_model(source, tmp_path / "kept", seed=3)
    assert json.loads((tmp_path / "kept" / "verdict.json").read_text())["status"] == "passed"
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    wanted = netferry.run(source, {"x": x})["y"]
    session = flavour.load_model(str(tmp_path / "kept"))
    np.testing.assert_allclose(session.run({"x": x})["y"], wanted, rtol=1e-6)
    np.testing.assert_allclose(pyfunc.load_model(str(tmp_path / "kept")).predict({"x": x}), wanted, rtol=1e-6)
    torch_model = flavour.load_model(str(tmp_path / "kept"), to="pytorch")
    np.testing.assert_allclose(netferry.run(torch_model, {"x": x})["y"], wanted, rtol=1e-5)
    with pytest.raises(WriteError, match="not empty"):
        flavour.save_model(source, tmp_path / "kept")
