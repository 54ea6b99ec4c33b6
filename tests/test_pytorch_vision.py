"""What models of images do with their sizes: windows of padded planes, halves, slices, regions and boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_oracle import Fn, check, export, randomized, session
from torch import Tensor, nn


class Windows(nn.Module):
    """One stage of a Swin: pad to whole windows, mix within each, cut off what was padded, halve."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.mix = nn.Linear(window * window, window * window)
        self.merge = nn.Linear(4 * channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        w = self.window
        y = nn.functional.pad(x, (0, 0, 0, (w - width % w) % w, 0, (w - height % w) % w))
        _, high, wide, _ = y.shape
        y = y.view(batch, high // w, w, wide // w, w, channels).permute(0, 1, 3, 2, 4, 5)
        y = y.reshape(batch * (high // w) * (wide // w), w * w, channels)
        y = self.mix(y.transpose(1, 2)).transpose(1, 2)
        y = y.view(batch, high // w, wide // w, w, w, channels).permute(0, 1, 3, 2, 4, 5)
        y = x + y.reshape(batch, high, wide, channels)[:, :height, :width]
        y = nn.functional.pad(y, (0, 0, 0, width % 2, 0, height % 2))
        parts = [y[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.merge(torch.cat(parts, -1))


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 4, 4)
        self.stages = nn.Sequential(Windows(4, 3), Windows(8, 3), Windows(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2))


def assert_sees_alike(model: nn.Module, found: Any, sizes: Sequence[tuple[int, int, int]]) -> None:
    """The export gives what the model gives for images of each (batch, height, width)."""
    running = session(found)
    for batch, height, width in sizes:
        x = np.random.default_rng(height).standard_normal((batch, 3, height, width)).astype(np.float32)
        with torch.no_grad():
            want = model(torch.from_numpy(x)).numpy()
        (got,) = running.run(None, {"x0": x})
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_padded_windows_of_halved_planes_are_right_at_other_heights_and_widths() -> None:
    model = randomized(Stages()).eval()
    found = export(model, (2, 3, "h", "w"), sizes={"h": 48, "w": 52})
    assert_sees_alike(model, found, ((2, 48, 52), (2, 36, 100), (2, 61, 27), (2, 117, 90)))


class PaddedWhereNeeded(nn.Module):
    """Windows of a plane that is padded only where it is no whole number of them: what follows fits no other size without."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = nn.Conv2d(3, 4, 3, 4, 1), nn.Linear(9, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).permute(0, 2, 3, 1)
        batch, height, width, channels = y.shape
        below, beside = (3 - height % 3) % 3, (3 - width % 3) % 3
        padded = below > 0 or beside > 0
        if padded:
            y = nn.functional.pad(y, (0, 0, 0, beside, 0, below))
        high, wide = (height + below) // 3, (width + beside) // 3
        y = y.view(batch, high, 3, wide, 3, channels).transpose(2, 3).reshape(-1, 9, channels)
        y = self.mix(y.transpose(1, 2)).transpose(1, 2)
        y = (
            y.reshape(batch, high, wide, 3, 3, channels)
            .transpose(2, 3)
            .reshape(batch, high * 3, wide * 3, channels)
        )
        return y[:, :height, :width].contiguous() if padded else y


def test_windows_padded_only_where_needed_are_right_where_the_example_needs_no_padding() -> None:
    model = randomized(PaddedWhereNeeded()).eval()
    found = export(model, ("b", 3, "h", "w"), sizes={"b": 2, "h": 24, "w": 36})
    assert_sees_alike(model, found, ((2, 24, 36), (1, 25, 36), (3, 24, 44), (2, 41, 29)))


def test_parts_of_a_free_axis_are_as_long_as_its_size_makes_them() -> None:
    def split(x: Tensor) -> tuple[Tensor, ...]:
        thirds, marked = x.tensor_split(3, 1), torch.tensor_split(x, (2, 9), dim=1)
        return *(part * part.shape[1] for part in thirds), *(part.sum(1) for part in marked)

    running = session(export(Fn(split), (2, "w", 2)))
    for length in (12, 7, 11, 16):
        x = np.random.default_rng(length).standard_normal((2, length, 2)).astype(np.float32)
        for a, b in zip(running.run(None, {"x0": x}), split(torch.from_numpy(x)), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


def _rows_and_ones(x: Tensor) -> Tensor:
    rows = torch.nonzero(x > 0)[:, 0][:5]
    return torch.cat([rows.float()[:, None], torch.ones(rows.shape[0], 1)], 1)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x[:, :10], torch.zeros(x[:, :10].shape[1]) + 1),
        lambda x: (x[:, -10:] * x[:, -10:].shape[1]).reshape(x.shape[0], -1, 2),
        lambda x: x[..., :10, :].transpose(1, 2).reshape(-1),
        lambda x: x[:, :10].sum(1, keepdim=True) + x[:, 2:10],
        lambda x: x[torch.arange(2), :10],
    ],
)
def test_a_slice_is_as_long_as_the_axis_where_that_is_shorter(function: Callable[..., Any]) -> None:
    running = session(export(Fn(function), (2, "w", 2)))
    for length in (12, 5, 10, 31):
        x = np.random.default_rng(length).standard_normal((2, length, 2)).astype(np.float32)
        want = function(torch.from_numpy(x))
        got = running.run(None, {"x0": x})
        for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
            np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-5)


def test_a_slice_of_what_the_data_count_is_as_long_as_they_are() -> None:
    running = session(export(Fn(_rows_and_ones), (2, "w")))
    for seed, length in enumerate((12, 2, 30)):
        x = np.random.default_rng(seed).standard_normal((2, length)).astype(np.float32)
        (got,) = running.run(None, {"x0": x})
        np.testing.assert_array_equal(got, _rows_and_ones(torch.from_numpy(x)).numpy())


def test_a_copy_that_reshaping_makes_is_written_without_its_original() -> None:
    def write(x: Tensor) -> Tensor:
        y = x.permute(0, 2, 1).reshape(x.shape[0], -1)
        y.mul_(3)
        return x.flatten(1) + y

    check(Fn(write), ("b", "t", 4))


def test_results_with_names_keep_them_however_often_they_are_asked() -> None:
    def largest(x: Tensor) -> Tensor:
        first, second = x.max(-1), (x * 2).max(-1)
        return first.values + second.values + (first.indices + second.indices)

    check(Fn(largest), ("b", "t"))


REGIONS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "roi_align": lambda ops, x, b: ops.roi_align(x, b, (3, 2), 0.25),
    "roi_align of a scale made of sizes": lambda ops, x, b: ops.roi_align(
        x, b, (3, 2), x.shape[2] / (4 * x.shape[2] + 1)
    ),
    "roi_pool": lambda ops, x, b: ops.roi_pool(x, b, (3, 2), 0.25),
    "ps_roi_align": lambda ops, x, b: ops.ps_roi_align(x, b, (3, 2), 0.25),
    "ps_roi_align of two samples": lambda ops, x, b: ops.ps_roi_align(x, b, (3, 2), 0.25, 2),
    "ps_roi_pool": lambda ops, x, b: ops.ps_roi_pool(x, b, (3, 2), 0.25),
    "nms": lambda ops, x, b: b[ops.nms(b[:, 1:], b.sum(1), 0.3)[:2]] + x.mean(),
    "batched_nms": lambda ops, x, b: b[ops.batched_nms(b[:, 1:], b.sum(1), b[:, 0].long(), 0.3)] + x.mean(),
}


@pytest.mark.parametrize("name", REGIONS)
def test_operators_of_torchvision_on_regions_and_boxes(name: str) -> None:
    reason = "torchvision is not installed: it wants another build of PyTorch than the tests have"
    ops = pytest.importorskip("torchvision.ops", reason=reason)
    model = Fn(lambda x, boxes: REGIONS[name](ops, x, boxes))
    running = session(export(model, ("b", 18, "h", "w"), ("t", 5)))
    for batch, height, width, count in ((3, 8, 12, 6), (1, 9, 7, 11), (2, 5, 6, 2)):
        rng = np.random.default_rng(count)
        x = rng.standard_normal((batch, 18, height, width)).astype(np.float32)
        corner = rng.uniform(-6, 4 * height + 6, (count, 2))
        boxes = np.concatenate(
            [rng.integers(0, batch, (count, 1)), corner, corner + rng.uniform(0, 3 * height, (count, 2))], 1
        ).astype(np.float32)
        want = model(torch.from_numpy(x), torch.from_numpy(boxes)).numpy()
        given = {"x0": x, "x1": boxes}
        (got,) = running.run(None, {one.name: given[one.name] for one in running.get_inputs()})
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(np.abs(want).max(initial=0), 1))


def test_masks_that_the_data_find_are_pasted_all_at_once() -> None:
    reason = "torchvision is not installed: it wants another build of PyTorch than the tests have"
    transform = pytest.importorskip("torchvision.models.detection.transform", reason=reason)

    def paste(scores: Tensor, masks: Tensor, boxes: Tensor) -> Tensor:
        kept = torch.nonzero(scores > 0)[:, 0]
        pasted: Tensor = transform.paste_masks_in_image(masks[kept], boxes[kept], (50, 70))
        return pasted

    running = session(export(Fn(paste), ("t",), ("t", 1, 28, 28), ("t", 4)))
    for count in (3, 8):
        rng = np.random.default_rng(count)
        corner = rng.uniform(-5, 40, (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.5, 30, (count, 2))], 1).astype(np.float32)
        given = (
            rng.standard_normal(count).astype(np.float32),
            rng.random((count, 1, 28, 28), np.float32),
            boxes,
        )
        want = paste(*map(torch.from_numpy, given)).numpy()
        (got,) = running.run(None, {f"x{place}": array for place, array in enumerate(given)})
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


class Anchors(nn.Module):
    """Of planes of whole blocks alone; the places of its elements are kept from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[list[int]] = []
        self.places = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        blocks = x.reshape(x.shape[0], 3, x.shape[2] // 32, 32, x.shape[3] // 32, 32).sum((3, 5))
        sizes = [list(blocks.shape[-2:])]
        if self.sizes != sizes:
            rows, columns = (torch.arange(size).float() for size in sizes[0])
            self.places, self.sizes = (rows[:, None] * 10 + columns).view(1, 1, -1), sizes
        return blocks.flatten(2) + self.places


def test_what_a_model_has_kept_of_another_size_is_not_taken_for_all_sizes() -> None:
    model = Anchors().eval()
    model(torch.zeros(1, 3, 64, 64))
    running = session(export(model, ("b", 3, "h", "w"), sizes={"b": 2, "h": 64, "w": 96}))
    for height, width in ((64, 96), (64, 64), (32, 128), (160, 96)):
        x = np.random.default_rng(width).standard_normal((2, 3, height, width)).astype(np.float32)
        want = model(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(running.run(None, {"x0": x})[0], want, rtol=1e-4, atol=1e-3)
