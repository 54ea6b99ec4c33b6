"""Models that torchao has quantised, where it is installed: their integers stay integers, their inputs are rounded alike."""

from __future__ import annotations

from typing import Any

import pytest
from pytorch_oracle import check, operators, randomized
from torch import nn

quantization = pytest.importorskip("torchao.quantization")


def quantised(name: str) -> nn.Module:
    model = randomized(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))).eval()
    config: Any = getattr(quantization, name)
    quantization.quantize_(model, config())
    return model


def test_weights_of_eight_bits_stay_integers() -> None:
    found = check(quantised("Int8WeightOnlyConfig"), ("b", 64), tolerance=1e-5)
    assert operators(found).count("DequantizeLinear") == 2
    kinds = {name: value.dtype.name for name, value in found.model.graph.initializers.items() if value.dtype}
    assert kinds["0.weight.qdata"] == "INT8"


def test_inputs_are_rounded_row_by_row_as_torchao_rounds_them() -> None:
    """A value on the edge between two steps may fall on either side: a step is a part in 127."""
    found = check(quantised("Int8DynamicActivationInt8WeightConfig"), ("b", 64), tolerance=1e-2)
    assert "Round" in operators(found)
