"""BatchNormalization folded into convolutions: only where it is asked for, and the numbers stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import netferry
from netferry.converters.errors import UsageError

X = np.random.default_rng(0).standard_normal((3, 4, 9, 8)).astype(np.float32)


def randomised(module: nn.Module) -> nn.Module:
    """Statistics and weights that tell every axis from every other."""
    torch.manual_seed(4)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.1, 3)
            layer.eps = 1e-2
    return module.eval()


NETS = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
    "without a bias": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
    "grouped": lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6)),
    "transposed, grouped": lambda: nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6)
    ),
    "two in a row": lambda: nn.Sequential(
        nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.BatchNorm2d(6)
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_a_folded_model_computes_the_same(name: str, tmp_path: Path) -> None:
    module = randomised(NETS[name]())
    done = netferry.convert(module, destination=tmp_path / "m.onnx", inputs={"x": X}, fuse=True)
    assert done.report is not None and done.report.status == "passed", done.report and done.report.to_text()
    operators = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert "BatchNormalization" not in operators
    assert any("folded" in note for note in done.notes)
    with torch.no_grad():
        wanted = module(torch.from_numpy(X)).numpy()
    (found,) = netferry.run(tmp_path / "m.onnx", {"x": X}).values()
    assert np.abs(found - wanted).max() < 2e-6 * np.abs(wanted).max()
    names = [tensor.name for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer]
    assert len(names) == len(set(names))
    assert not any("running" in one for one in names)


def test_it_stays_whole_unless_asked(tmp_path: Path) -> None:
    module = randomised(NETS["convolution"]())
    netferry.convert(module, destination=tmp_path / "m.onnx", inputs={"x": X}, verify=False)
    assert "BatchNormalization" in [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]


class Branching(nn.Module):
    """What is between is read twice, so nothing may be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def test_what_somebody_else_reads_is_not_folded_away(tmp_path: Path) -> None:
    done = netferry.convert(
        randomised(Branching()), destination=tmp_path / "m.onnx", inputs={"x": X}, fuse=True
    )
    assert done.report is not None and done.report.status == "passed"
    assert "BatchNormalization" in [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]


def test_a_weight_that_two_layers_share_is_scaled_for_one_of_them(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))
    module[2].weight = module[0].weight
    done = netferry.convert(randomised(module), destination=tmp_path / "m.onnx", inputs={"x": X}, fuse=True)
    assert done.report is not None and done.report.status == "passed"


def test_only_onnx_is_fused() -> None:
    with pytest.raises(UsageError, match="only an ONNX model is fused"):
        netferry.convert(randomised(NETS["grouped"]()), "pytorch", inputs={"x": X}, fuse=True)
