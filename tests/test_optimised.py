"""Files of onnxruntime's optimiser and quantiser arrive with the default verification: a small part of ``sweep_optimised``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import netferry

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from sweep import networks_torch, optimised

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

NETWORKS = {network.name: network for network in networks_torch.networks()}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("torch mlp", "extended"),
        ("torch mlp", "QOperator"),
        ("torch lstm", "dynamic"),
        ("torch lstm", "few bits"),
        pytest.param("torch encoder", "extended", marks=pytest.mark.slow),
        pytest.param("torch cnn", "QDQ", marks=pytest.mark.slow),
    ],
)
def test_an_optimised_file_passes(name: str, kind: str, tmp_path: Path) -> None:
    network, source, path = NETWORKS[name], tmp_path / "source.onnx", tmp_path / "made.onnx"
    optimised.exported(network, source)
    optimised.KINDS[kind](source, path, network)
    report = netferry.convert(path, to="pytorch", seed=1).report
    assert report is not None and report.status == "passed"


def test_files_hold_onnxruntimes_own_operators(tmp_path: Path) -> None:
    """Else the test above would say nothing."""
    network, source, path = NETWORKS["torch lstm"], tmp_path / "source.onnx", tmp_path / "made.onnx"
    optimised.exported(network, source)
    optimised.dynamic(source, path, network)
    assert optimised.foreign(path) == ["DynamicQuantizeLSTM"]
