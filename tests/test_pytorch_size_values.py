"""What models compute of free sizes by other means than Python's operators stays right at other sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from math import sqrt
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from pytorch_oracle import Fn

import netferry

STRIDE = torch.tensor(4)


@functools.lru_cache
def _positions(length: int, width: int = 4) -> torch.Tensor:
    return (torch.arange(length)[:, None] * torch.arange(width)).sin()


_KEPT: dict[Any, torch.Tensor] = {}


def _kept(x: torch.Tensor) -> torch.Tensor:
    key = x.shape[1], x.device.type
    if key not in _KEPT:
        _KEPT[key] = torch.arange(x.shape[1]).float()[:, None]
    return x * _KEPT[key]


def _codec(x: torch.Tensor) -> torch.Tensor:
    frames = torch.ceil((x.shape[1] - 6) / STRIDE + 1).to(torch.int64) - 1
    more = frames * STRIDE + 6 - x.shape[1]
    return F.pad(x, (0, 0, 0, max(int(more), 0)))


def _if_a_tensor_says(x: torch.Tensor) -> torch.Tensor:
    more = (5 - torch.tensor(x.shape[1]) % 5) % 5
    if more > 0:
        x = F.pad(x, (0, 0, 0, more))  # type: ignore[arg-type]
    return x.reshape(x.shape[0], -1, 5, 4).sum(2)


def _levels(x: torch.Tensor) -> torch.Tensor:
    shapes = torch.as_tensor([(x.shape[1], x.shape[0]), (x.shape[1] // 2, 3)])
    starts = torch.cat((shapes.new_zeros((1,)), shapes.prod(1).cumsum(0)[:-1]))
    return x.sum(1) * shapes.max().item() + starts.sum()


def _position_resized(x: torch.Tensor) -> torch.Tensor:
    table = torch.arange(32.0).view(1, 4, 8)
    if x.shape[1] != 8:
        table = F.interpolate(table, size=x.shape[1], mode="linear")
    return x + table.transpose(1, 2)


def _rounded_up(x: torch.Tensor) -> torch.Tensor:
    whole = math.ceil(x.shape[1] / 4) * 4
    if whole != x.shape[1]:
        x = torch.cat([x, x.new_zeros(x.shape[0], whole - x.shape[1], 4)], 1)
    return x.view(x.shape[0], whole // 4, 4, 4).sum(2)


def _in_one_part(x: torch.Tensor) -> torch.Tensor:
    parts = [x[:, first : first + x.shape[1]].max(dim=1).values for first in range(0, x.shape[1], x.shape[1])]
    return torch.stack([*parts, x.max(dim=1).values])


def _pairs(x: torch.Tensor) -> torch.Tensor:
    """Products of all pairs, each once, as factorisation machines have them."""
    first, second = torch.triu_indices(x.shape[1], x.shape[1], 1)
    low = torch.tril_indices(x.shape[1], x.shape[1], -1)[0]
    return (x[:, first] * x[:, second]).sum(1) + low.sum()


def _rows(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    return y.flatten(1).as_strided((x.shape[0], 3, 4), (x.shape[1] * 4, 2, 1)) + y.sum()


OF_SIZES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    "padding computed with a stride in a tensor": (_codec, 24),
    "a condition on a tensor of a size": (_if_a_tensor_says, 24),
    "arange up to a tensor": (lambda x: x[:, :1] + torch.arange(torch.tensor(x.shape[1]) // 3)[:, None], 24),  # type: ignore[call-overload]
    "a slice up to a tensor": (lambda x: x[:, : (torch.tensor(x.shape[1]) / 4).floor().long() * 4], 24),  # type: ignore[misc]
    "shapes of levels in a tensor": (_levels, 24),
    "new_tensor": (lambda x: x / x.new_tensor([x.shape[1], x.shape[0]]).sum(), 24),
    "a root in a tensor": (lambda x: x / torch.tensor(x.shape[1], dtype=torch.float32).sqrt(), 24),
    "math.sqrt": (lambda x: x[:, : int(math.sqrt(x.shape[1]))] / math.log(x.shape[1] + 1, 2), 24),
    "sqrt by its own name": (lambda x: x / sqrt(x.shape[1] * x.shape[0]), 24),
    "numpy's root": (lambda x: x * float(np.sqrt(x.shape[1])), 24),
    "divmod": (lambda x: x[:, : divmod(x.shape[1], 3)[0] + 1], 24),
    "a list of a range": (lambda x: x + torch.tensor(list(range(x.shape[1])))[:, None], 24),
    "a range": (lambda x: x + torch.tensor(range(1, x.shape[1] + 1), dtype=torch.float32)[:, None], 24),
    "a range turned round": (lambda x: x + torch.tensor(list(range(2, x.shape[1] + 2))[::-1])[:, None], 24),
    "an index by a range": (lambda x: x[:, list(range(x.shape[1] - 1, -1, -1))], 24),
    "lru_cache": (lambda x: x + _positions(x.shape[1]), 24),
    "a dict with sizes as keys": (_kept, 24),
    "a truth as an argument": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=x.shape[1] > 1), 24),
    "a table resized where it must be, at its own size": (_position_resized, 8),
    "rounded up by floats": (_rounded_up, 24),
    "frequencies": (lambda x: x * torch.fft.fftfreq(x.shape[1], 0.5)[:, None], 24),
    "frequencies of the first half": (lambda x: torch.fft.rfftfreq(x.shape[1])[None] + x[:, :1, 0], 24),
    "pairs of places": (_pairs, 24),
    "rows in memory": (_rows, 24),
    "a loop over one part, and a named result once more": (_in_one_part, 24),
}  # fmt: skip


@pytest.mark.parametrize(("function", "shown"), OF_SIZES.values(), ids=OF_SIZES)
def test_what_is_made_of_a_free_size_follows_it(
    function: Callable[[torch.Tensor], torch.Tensor], shown: int
) -> None:
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(2, shown, 4)).astype(np.float32)}
    function(torch.from_numpy(given["x"]))  # a cache that knows the example's size as a number
    free = {"x": {0: "batch", 1: "length"}}
    done = netferry.convert(Fn(function), "onnx", inputs=given, dynamic=free, verify=False)
    assert done.route == "direct", done.notes
    session = onnxruntime.InferenceSession(done.model.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch, length in ((2, shown), (3, 7), (1, 31), (2, 20)):
        x = rng.normal(size=(batch, length, 4)).astype(np.float32)
        (got,) = session.run(None, {"x": x})
        np.testing.assert_allclose(got, function(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-5)


def test_a_model_runs_as_while_it_is_exported() -> None:
    def exportable(x: torch.Tensor) -> torch.Tensor:
        if torch.compiler.is_exporting() and torch.compiler.is_compiling():
            return x * 2
        return x * 2 if bool(x.mean() < 1e9) else x

    x = np.ones((2, 3), np.float32)
    done = netferry.convert(Fn(exportable), "onnx", inputs={"x": x}, verify=False)
    assert done.route == "direct"
    assert not torch.compiler.is_exporting()


def _said(x: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(x).all() or (x.abs() > 1e6).any():
        raise ValueError("not finite")
    return x + 1


def _checked(x: torch.Tensor) -> torch.Tensor:
    torch._check(x.max().item() < 1e6, lambda: "too large")
    torch._assert(bool((x < 1e6).all()), "too large")
    return x + 1


def _warned(x: torch.Tensor) -> torch.Tensor:
    if x.max() > 1e6:
        import warnings

        warnings.warn("large", stacklevel=1)
    return x + 1


def _asserted(x: torch.Tensor) -> torch.Tensor:
    assert x.abs().max().item() <= 1e6, f"{x.max().item()} is too large"
    assert not torch.isnan(x).any()
    return x + 1


@pytest.mark.parametrize("function", [_said, _checked, _warned, _asserted])
def test_an_assertion_on_data_is_left_out_with_a_note(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    done = netferry.convert(Fn(function), "onnx", inputs={"x": x}, verify=False)
    assert done.route == "direct"
    assert any(
        note.startswith("an assertion on data is left out: test_pytorch_size_values.py")
        for note in done.notes
    )


def _doubled(x: torch.Tensor) -> torch.Tensor:
    if x.mean() > 0:
        x = x * 2
    return x


def _cut(x: torch.Tensor) -> torch.Tensor:
    return x[:, : int(x.abs().max())]


def _by_value(x: torch.Tensor) -> torch.Tensor:
    count = x.sum().item()
    return x + torch.arange(count)[:3] if count == count else x


@pytest.mark.parametrize("function", [_doubled, _cut, _by_value])
def test_what_data_decide_is_refused_by_its_line(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = np.full((2, 3), 2, np.float32)
    with pytest.raises(
        netferry.NetferryError, match=r"looks at a tensor's values \(test_pytorch_size_values.py:"
    ):
        netferry.convert(Fn(function), "onnx", inputs={"x": x}, verify=False)
