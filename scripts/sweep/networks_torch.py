"""PyTorch networks with random weights: vision, text, recurrent, detectors, integer outputs, half precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sweep.case import Input, Network


class Call(nn.Module):
    """``function(self.parts, *inputs)``."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.parts, self._function = nn.ModuleList(parts), function

    def forward(self, *inputs: Tensor) -> Any:
        return self._function(self.parts, *inputs)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every weight drawn anew, variances positive, in inference mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point():
                continue
            fan = math.prod(tensor.shape[1:]) if tensor.ndim > 1 else 4
            drawn = torch.randn(tensor.shape, generator=generator) / math.sqrt(max(fan, 1))
            tensor.copy_(drawn.abs() + 0.5 if name.endswith("var") else drawn)
    return module.eval()


def _conv(inner: int, outer: int, act: nn.Module, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, 3, stride, 1, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outer), act)


class Residual(nn.Module):
    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__()
        self.one, self.two = _conv(width, width, act), _conv(width, width, nn.Identity())
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.two(self.one(x)))


def cnn() -> nn.Module:
    return nn.Sequential(
        _conv(3, 8, nn.ReLU()), nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        _conv(8, 8, nn.LeakyReLU(0.1), groups=2), nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def resnet() -> nn.Module:
    return nn.Sequential(
        _conv(3, 8, nn.ReLU(), 2), Residual(8, nn.ReLU()), Residual(8, nn.SiLU()), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 6), nn.LogSoftmax(-1),
    )  # fmt: skip


def mobile() -> nn.Module:
    def squeezed(parts: nn.ModuleList, x: Tensor) -> Tensor:
        y = parts[1](parts[0](x))
        gate = parts[3](F.relu(parts[2](y.mean((2, 3), keepdim=True))))
        return parts[4](y * F.hardsigmoid(gate)).mean((2, 3))

    return Call(
        squeezed, _conv(3, 8, nn.Hardswish(), 2), _conv(8, 8, nn.ReLU6(), groups=8),
        nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 5, 1),
    )  # fmt: skip


def unet() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        top = parts[0](x)
        low = parts[1](F.max_pool2d(top, 2))
        up = F.interpolate(parts[2](low), size=top.shape[2:], mode="bilinear", align_corners=False)
        return torch.sigmoid(parts[3](torch.cat([top, up], 1)))

    return Call(
        forward, _conv(3, 4, nn.ReLU()), _conv(4, 8, nn.ELU()),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.Conv2d(8, 2, 1),
    )  # fmt: skip


def upsampler() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.GroupNorm(2, 4), nn.PReLU(4),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True), nn.Conv2d(4, 8, 3, padding=1),
        nn.PixelShuffle(2), nn.InstanceNorm2d(2, affine=True), nn.Upsample(scale_factor=2, mode="nearest"),
    )  # fmt: skip


def mlp(act: Callable[[], nn.Module] = nn.GELU) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), act(), nn.Linear(16, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 16), nn.SiLU(),
        nn.Linear(16, 4), nn.Softmax(-1),
    )  # fmt: skip


def encoder() -> nn.Module:
    def forward(parts: nn.ModuleList, ids: Tensor) -> Tensor:
        return parts[2](parts[1](parts[0](ids) * 4))

    layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True)
    return Call(forward, nn.Embedding(40, 16), layer, nn.Linear(16, 3))


def masked() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = parts[0](x).unflatten(-1, (3, 2, 4)).unbind(-3)
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 2
        weights = scores.masked_fill(~mask[:, None, None, :], -1e9).softmax(-1)
        return parts[1](torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))

    return Call(forward, nn.Linear(8, 24), nn.Linear(8, 8))


def lstm() -> nn.Module:
    return Call(
        lambda parts, x: parts[1](parts[0](x)[0]), nn.LSTM(5, 8, 2, batch_first=True), nn.Linear(8, 3)
    )


def bigru() -> nn.Module:
    gru = nn.GRU(5, 6, batch_first=True, bidirectional=True)
    return Call(lambda parts, x: parts[1](parts[0](x)[0][:, -1]), gru, nn.Linear(12, 3))


def bag() -> nn.Module:
    def forward(parts: nn.ModuleList, ids: Tensor) -> Tensor:
        y = parts[0](ids)
        return parts[1](torch.cat([y.mean(1), y.amax(1), y[:, -1]], -1))

    return Call(forward, nn.Embedding(50, 8), nn.Linear(24, 3))


def convnet1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(4, 8, 3, padding=2, dilation=2), nn.BatchNorm1d(8), nn.Softplus(), nn.MaxPool1d(2),
        nn.ConvTranspose1d(8, 4, 4, 2, 1), nn.Mish(), nn.Conv1d(4, 3, 3),
    )  # fmt: skip


def detector() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> tuple[Tensor, ...]:
        features = parts[0](x)
        scores = torch.sigmoid(parts[1](features)).flatten(1)
        best, which = scores.topk(4, 1)
        boxes = parts[2](features).flatten(2).transpose(1, 2)
        return best, which, boxes

    return Call(forward, _conv(3, 8, nn.ReLU(), 2), nn.Conv2d(8, 2, 1), nn.Conv2d(8, 4, 1))


def segmenter() -> nn.Module:
    def forward(parts: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor]:
        y = parts[0](x)
        return y.argmax(1), (y > 0.25).sum((2, 3))

    return Call(forward, nn.Sequential(_conv(3, 6, nn.ReLU()), nn.Conv2d(6, 4, 3, padding=1)))


def buckets() -> nn.Module:
    """T5's relative position buckets, as integers and as a bias of attention."""

    def forward(parts: nn.ModuleList, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        gap = (place[:, None] - place[None]).abs()
        far = 4 + (torch.log(gap.clamp(min=1).float() / 4) / math.log(16 / 4) * 4).long()
        bias = parts[0](torch.where(gap < 4, gap, far.clamp(max=7))).permute(2, 0, 1)
        weights = (x[:, None] @ x[:, None].transpose(-1, -2) / 3 + bias).softmax(-1)
        return (weights @ x[:, None]).mean(1)

    return Call(forward, nn.Embedding(8, 2))


def integers() -> nn.Module:
    def forward(_parts: nn.ModuleList, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n = (x * 7).round().to(torch.int32)
        return n // 3, n % 5, torch.clamp(n, -128, 127).to(torch.int8)

    return Call(forward)


IMAGE = (Input("x", ("batch", 3, 12, 12)),)
FREE = (Input("x", ("batch", 3, "height", "width")),)
ROWS, SERIES = (Input("x", ("batch", 6)),), (Input("x", ("batch", "time", 5)),)
MASK = (Input("x", ("batch", "time", 8)), Input("mask", ("batch", "time"), "bool"))

_TABLE: tuple[tuple[str, str, Callable[[], nn.Module], tuple[Input, ...]], ...] = (
    ("cnn", "vision", cnn, IMAGE),
    ("resnet", "vision", resnet, FREE),
    ("mobile", "vision", mobile, FREE),
    ("unet", "vision", unet, IMAGE),
    ("upsampler", "vision", upsampler, (Input("x", ("batch", 3, 6, 5)),)),
    ("mlp", "rows", mlp, ROWS),
    ("encoder", "text", encoder, (Input("ids", ("batch", "time"), "int64", 39),)),
    ("masked attention", "text", masked, MASK),
    ("lstm", "recurrent", lstm, SERIES),
    ("bigru", "recurrent", bigru, SERIES),
    ("bag", "text", bag, (Input("ids", ("batch", "time"), "int64", 49),)),
    ("conv1d", "vision", convnet1d, (Input("x", ("batch", 4, 20)),)),
    ("detector", "detector", detector, IMAGE),
    ("segmenter", "integer", segmenter, IMAGE),
    ("buckets", "integer", buckets, (Input("x", ("batch", "time", 6)),)),
    ("integers", "integer", integers, ROWS),
)


HALVES: tuple[tuple[str, Callable[[], nn.Module], tuple[int | str, ...], str], ...] = (
    ("mlp", lambda: mlp(nn.ReLU), ("batch", 6), "float16"),
    ("cnn", cnn, ("batch", 3, 12, 12), "float16"),
    ("conv1d", convnet1d, ("batch", 4, 20), "float16"),
    ("unet", unet, ("batch", 3, 12, 12), "float16"),
    ("lstm", lstm, ("batch", "time", 5), "float16"),
    ("mlp", lambda: mlp(nn.ReLU), ("batch", 6), "bfloat16"),
    ("cnn", cnn, ("batch", 3, 12, 12), "bfloat16"),
)


def networks() -> list[Network]:
    found = [
        Network(f"torch {name}", "pytorch", field, lambda make=make: randomised(make()), inputs)
        for name, field, make, inputs in _TABLE
    ]
    for name, make, dims, word in HALVES:
        dtype = getattr(torch, word)
        given = (Input("x", dims, word),)
        found.append(
            Network(
                f"torch {name} in {word}",
                "pytorch",
                "half",
                lambda make=make, dtype=dtype: randomised(make()).to(dtype),
                given,
                word,
            )
        )
    return found
