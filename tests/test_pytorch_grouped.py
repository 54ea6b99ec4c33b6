"""Groups that sizes or data decide: a filter for each image of the batch, a product for each expert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from pytorch_oracle import Fn

import netferry

RNG = torch.Generator().manual_seed(0)
FILTERS = torch.randn(6, 4, 3, 3, generator=RNG)
EXPERTS = torch.randn(3, 4, 8, generator=RNG)


def _correlated(x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    kernel = x[:, :, :5, :3].reshape(b * c, 1, 5, 3)
    return F.conv2d(x.reshape(1, b * c, h, w), kernel, groups=b * c, padding=(2, 1)).view(b, c, h, w)


def _modulated(x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    kernel = (FILTERS * x.mean((2, 3))[:, None, :, None, None]).view(b * 6, c, 3, 3)
    y = F.conv2d(x.reshape(1, b * c, h, w), kernel, None, 2, 1, 1, b)
    return y.view(b, 6, *y.shape[2:])


def _dilated(x: torch.Tensor) -> torch.Tensor:
    b, c, h = x.shape[:3]
    kernel = x[:, :, :3, 0].reshape(b * c, 1, 3)
    return F.conv1d(
        x[..., 1].reshape(1, b * c, h),
        kernel,
        x[:, :, 0, 0].flatten(),
        padding="same",
        dilation=2,
        groups=b * c,
    )


def _enlarged(x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    kernel = (FILTERS.transpose(0, 1) * x.mean((2, 3))[:, :, None, None, None]).reshape(b * c, 6, 3, 3)
    y = F.conv_transpose2d(x.reshape(1, b * c, h, w), kernel, None, 2, 1, 1, b)
    return y.view(b, 6, *y.shape[2:])


@pytest.mark.parametrize("function", [_correlated, _modulated, _dilated, _enlarged])
def test_a_filter_for_each_image_of_a_free_batch(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    rng = np.random.default_rng(0)
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    given = {"x": rng.normal(size=(2, 4, 8, 10)).astype(np.float32)}
    done = netferry.convert(Fn(function), "onnx", inputs=given, dynamic=free, verify=False)
    assert done.route == "direct", done.notes
    for shape in ((2, 4, 8, 10), (3, 4, 9, 7), (1, 4, 12, 12)):
        _compare(done.model, function, rng.normal(size=shape).astype(np.float32))


def _sorted(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    expert = x[:, :3].argmax(-1)
    return torch.argsort(expert, stable=True), F.one_hot(expert, 3).sum(0).cumsum(0).to(torch.int32)


def _rows(x: torch.Tensor) -> torch.Tensor:
    order, ends = _sorted(x)
    return F.grouped_mm(x[order], EXPERTS, offs=ends)[torch.argsort(order)]


def _shared_axis(x: torch.Tensor) -> torch.Tensor:
    order, ends = _sorted(x)
    return F.grouped_mm(x[order].T, x[order], offs=ends)


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this PyTorch has no grouped_mm")
@pytest.mark.parametrize("function", [_rows, _shared_axis])
def test_a_product_for_each_expert(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(8, 4)).astype(np.float32)}
    done = netferry.convert(Fn(function), "onnx", inputs=given, dynamic={"x": {0: "tokens"}}, verify=False)
    assert done.route == "direct", done.notes
    for tokens in (8, 13, 1):
        _compare(done.model, function, rng.normal(size=(tokens, 4)).astype(np.float32))


def _compare(model: Any, function: Callable[[torch.Tensor], torch.Tensor], x: Any) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": x})
    want = function(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max(initial=0))))


def _mean(x: torch.Tensor) -> torch.Tensor:
    where = torch.arange(x.shape[0]) % 3
    return torch.zeros(3, dtype=torch.int64).scatter_reduce(0, where, x.long(), "mean", include_self=False)


def _put(x: torch.Tensor) -> torch.Tensor:
    where = torch.arange(x.shape[0]) % 3
    return torch.ops.aten.index_put(torch.ones(2, 3), [None, where], x.expand(2, -1), True)


def _counted(x: torch.Tensor) -> torch.Tensor:
    return torch.bincount(x.long().abs() % 4, minlength=x.shape[0]).float()


@pytest.mark.parametrize("function", [_mean, _put, _counted])
def test_what_comes_together_at_one_place(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """A mean of whole numbers is rounded down, as PyTorch rounds it; what programs of operators put is put along whole axes."""
    rng = np.random.default_rng(0)
    given = {"x": rng.integers(-9, 9, 7).astype(np.float32)}
    done = netferry.convert(Fn(function), "onnx", inputs=given, dynamic={"x": {0: "many"}}, verify=False)
    assert done.route == "direct", done.notes
    for many in (7, 10):
        _compare(done.model, function, rng.integers(-9, 9, many).astype(np.float32))


def _experts_that_are_hit(x: torch.Tensor) -> torch.Tensor:
    chosen = F.one_hot(x.abs().long().sum(-1) % 3, 3)
    found = torch.zeros_like(x)
    for number in chosen.sum(0).gt(0).nonzero():
        (rows,) = torch.where(chosen[:, number[0]])
        found = found.index_add(0, rows, x[rows] @ EXPERTS[number[0], :, :4])
    return found


def test_a_loop_over_what_is_found_in_data_is_refused() -> None:
    """Each exporter would keep the experts that the example has hit."""
    given = {"x": np.ones((5, 4), np.float32)}
    with pytest.raises(
        netferry.NetferryError, match=r"counts through what is found in the data .*for number in"
    ):
        netferry.convert(Fn(_experts_that_are_hit), "onnx", inputs=given, verify=False)


def _chosen(x: torch.Tensor) -> torch.Tensor:
    return F.one_hot(x.abs().long().sum(-1) % 3, 3)


def _written_in_place(x: torch.Tensor) -> torch.Tensor:
    """What is written does not vanish where nothing is found: a place that was not found must leave nothing."""
    chosen, found = _chosen(x), torch.zeros_like(x)
    for number in chosen.sum(0).gt(0).nonzero():
        rows = torch.where(chosen[:, number[0]])[0]
        found.index_add_(0, rows, x[rows] @ EXPERTS[number[0], :, :4])
        found += 2.0 * number
    return found


def _written_through_a_view(x: torch.Tensor) -> torch.Tensor:
    chosen, found = _chosen(x), torch.ones_like(x)
    first = found[:, :2]
    for number in torch.nonzero(chosen.sum(0) > 0):
        if number[0] == 1:
            continue
        first.mul_(x[:1, :2].abs() + number + 2)
    return found + first.sum()


@pytest.mark.parametrize("function", [_written_in_place, _written_through_a_view])
def test_a_loop_over_found_places_that_writes_in_place_is_right_whichever_are_found(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(5, 4)).astype(np.float32) * 3}
    done = netferry.convert(Fn(function), "onnx", inputs=given, dynamic={"x": {0: "tokens"}}, verify=False)
    assert done.route == "direct", done.notes
    for tokens in (5, 1, 1, 2, 9):
        _compare(done.model, function, rng.normal(size=(tokens, 4)).astype(np.float32) * 3)


def _counted(x: torch.Tensor) -> torch.Tensor:
    found, count = torch.zeros_like(x), 0
    for number in _chosen(x).sum(0).gt(0).nonzero():
        found += number
        count += 1
    return found * count


def _gathered(x: torch.Tensor) -> torch.Tensor:
    found = []
    for number in _chosen(x).sum(0).gt(0).nonzero():
        found.append(x[:1] * number)
    return torch.cat(found)


def _kept_by_number(x: torch.Tensor) -> torch.Tensor:
    found = {0: x, 1: x, 2: x}
    for number in _chosen(x).sum(0).gt(0).nonzero():
        found[int(number)] = x * 2
    return found[0] + found[1] * 3 + found[2] * 5


def _note(kept: list[torch.Tensor], item: torch.Tensor) -> None:
    kept.append(item)


def _gathered_elsewhere(x: torch.Tensor) -> torch.Tensor:
    found: list[torch.Tensor] = []
    for number in _chosen(x).sum(0).gt(0).nonzero():
        _note(found, x[:1] * number)
    return torch.cat(found)


def _the_first_alone(x: torch.Tensor) -> torch.Tensor:
    found = torch.zeros_like(x)
    for number in _chosen(x).sum(0).gt(0).nonzero():
        found += number + 1
        break
    return found


def _the_last_alone(x: torch.Tensor) -> torch.Tensor:
    for number in _chosen(x).sum(0).gt(0).nonzero():
        last = number + 1
    return x * last


def _a_constant_written_by_constants(x: torch.Tensor) -> torch.Tensor:
    found = torch.zeros(3, 4)
    for number in _chosen(x).sum(0).gt(0).nonzero():
        found[number[0]] += number
    return x + found.sum()


def _numbered(x: torch.Tensor) -> torch.Tensor:
    found = torch.zeros_like(x)
    for place, number in enumerate(_chosen(x).sum(0).gt(0).nonzero()):
        found += number * place
    return found


@pytest.mark.parametrize(
    "function",
    [
        _counted,
        _gathered,
        _gathered_elsewhere,
        _kept_by_number,
        _the_first_alone,
        _the_last_alone,
        _a_constant_written_by_constants,
        _numbered,
    ],
)
def test_a_loop_over_found_places_that_leaves_more_than_what_it_writes_is_refused(
    function: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    with pytest.raises(netferry.NetferryError, match=r"what is found in the data|a tensor's values"):
        netferry.convert(Fn(function), "onnx", inputs={"x": np.ones((5, 4), np.float32)}, verify=False)
