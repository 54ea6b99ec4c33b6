"""A number that is written into a program reads back as the very number, in its own format."""

from __future__ import annotations

import ast
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

import netferry
from netferry.converters.graph.codegen.writer import literal
from netferry.converters.pytorch.from_onnx.writer import plain

FORMATS: dict[str, tuple[Any, Any]] = {
    "float32": (np.float32, np.uint32),
    "float16": (np.float16, np.uint16),
    "bfloat16": (ml_dtypes.bfloat16, np.uint16),
}


def _numbers(name: str) -> Any:
    """Extremes, denormals, powers of two, decimals, and random bits; without what is no finite number."""
    kind, bits = FORMATS[name]
    info = ml_dtypes.finfo(kind)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, np.iinfo(bits).max, 1000, dtype=bits, endpoint=True).view(kind)
    low = np.arange(1, 20, dtype=bits).view(kind)
    named = np.array(
        [0.0, -0.0, 0.1, 1e-5, 1 / 3, float(info.max), float(info.min), float(info.tiny)]
    ).astype(kind)
    found = np.concatenate([drawn, low, -low, named, np.nextafter(named.astype(np.float32), 0).astype(kind)])
    return found[np.isfinite(found.astype(np.float64))]


@pytest.mark.parametrize("name", FORMATS)
def test_a_literal_reads_back_as_the_very_number(name: str) -> None:
    kind, bits = FORMATS[name]
    for number in _numbers(name):
        for written in (number, plain(number, np.dtype(kind)), plain(np.asarray(number), None)):
            read = eval(ast.unparse(literal(written)))
            assert np.asarray(read).astype(kind).view(bits) == np.asarray(number).view(bits), number
            assert abs(read) <= float(ml_dtypes.finfo(kind).max), number


@pytest.mark.parametrize(
    "number", [3.4028234663852886e38, -3.4028234663852886e38, 1e-45, 1.1754943508222875e-38]
)
def test_an_extreme_number_is_one_in_the_module_that_arrives(number: float) -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return x.masked_fill(mask > 0, number).clamp(min=-abs(number))

    inputs = {"x": np.zeros((2, 3), np.float32), "mask": np.eye(2, 3, dtype=np.int64)}
    given = [torch.from_numpy(array) for array in inputs.values()]
    arrived = netferry.convert(Masked(), "pytorch", inputs=inputs, verify=False).model
    assert torch.equal(arrived(*given), Masked()(*given))
