"""Twelve small networks of PyTorch and Keras, with weights drawn by chance, to TFLite and back from it, in float and in int8.

    python scripts/sweep_tflite.py [--float] [NAME ...]

Of each: whether the file's verdict passes, which operators are none of TFLite's own, its size, the milliseconds of a run in the
interpreter on one thread, and whether ONNX passes as what the file becomes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from torch import nn

import netferry
from netferry.converters import frameworks, source
from netferry.converters.errors import NetferryError
from netferry.tasks.precision import lower

L, F = keras.layers, nn.functional
RNG = np.random.default_rng(0)

# ---- PyTorch ---------------------------------------------------------------------------------------


def conv(a: int, b: int, stride: int = 1, size: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, size, stride, size // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(channels, channels), nn.Conv2d(channels, channels, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def resnet() -> nn.Module:
    stem = nn.Sequential(
        conv(3, 16, 2, 7), nn.MaxPool2d(3, 2, 1), Residual(16), conv(16, 32, 2), Residual(32)
    )
    return nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class Yolo(nn.Module):
    """A pyramid of two levels behind pools of one stride."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.low = conv(3, 8, 2), conv(8, 16, 2), conv(16, 16, 2)
        self.mixed, self.join = conv(48, 16, 1, 1), conv(32, 16)
        self.heads = nn.ModuleList([nn.Conv2d(16, 18, 1), nn.Conv2d(16, 18, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = self.two(self.one(x))
        low = self.low(high)
        low = self.mixed(torch.cat([low, F.max_pool2d(low, 3, 1, 1), F.max_pool2d(low, 5, 1, 2)], 1))
        high = self.join(torch.cat([high, F.interpolate(low, scale_factor=2.0)], 1))
        found = [head(y).flatten(2).transpose(1, 2) for head, y in zip(self.heads, (high, low), strict=True)]
        return torch.sigmoid(torch.cat(found, 1))


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep, self.up = conv(3, 8), conv(8, 16), nn.ConvTranspose2d(16, 8, 2, 2)
        self.out = nn.Sequential(conv(16, 8), nn.Conv2d(8, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = self.down(x)
        return self.out(torch.cat([high, self.up(self.deep(F.max_pool2d(high, 2)))], 1))


class Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, 32, 8, 8), nn.Parameter(torch.randn(1, 16, 32))
        self.body = nn.TransformerEncoderLayer(
            32, 4, 64, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.patch(x).flatten(2).transpose(1, 2) + self.place).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: Any, both: bool) -> None:
        super().__init__()
        self.body = kind(8, 16, batch_first=True, bidirectional=both)
        self.head = nn.Linear(32 if both else 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x)[0][:, -1])


class Style(nn.Module):
    """Reflected edges, statistics of each picture, a nearest neighbour."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 5, 2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 3, 5)
        self.n, self.m = nn.InstanceNorm2d(8, affine=True), nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.n(self.a(F.pad(x, (2, 2, 2, 2), "reflect"))))
        x = x + self.m(self.b(F.pad(x, (1, 1, 1, 1), "reflect")))
        return torch.tanh(self.c(F.pad(F.interpolate(x, scale_factor=2.0), (2, 2, 2, 2), "reflect")))


# ---- Keras -----------------------------------------------------------------------------------------


def squeezed(x: Any) -> Any:
    y = L.GlobalAveragePooling2D(keepdims=True)(x)
    y = L.Conv2D(x.shape[-1], 1, activation="sigmoid")(L.Conv2D(4, 1, activation="relu")(y))
    return L.Multiply()([x, y])


def inverted(x: Any, channels: int, stride: int, act: Any, squeeze: bool = False) -> Any:
    y = act(L.BatchNormalization()(L.Conv2D(3 * x.shape[-1], 1, use_bias=False)(x)))
    y = act(L.BatchNormalization()(L.DepthwiseConv2D(3, stride, "same", use_bias=False)(y)))
    y = L.BatchNormalization()(L.Conv2D(channels, 1, use_bias=False)(squeezed(y) if squeeze else y))
    return L.Add()([x, y]) if x.shape == y.shape else y


def mobile(act: Callable[[], Any], squeeze: bool) -> Any:
    x = i = keras.Input((32, 32, 3), name="x")
    x = act()(L.BatchNormalization()(L.Conv2D(8, 3, 2, "same", use_bias=False)(x)))
    for channels, stride in ((8, 1), (16, 2), (16, 1)):
        x = inverted(x, channels, stride, lambda y: act()(y), squeeze)
    return keras.Model(i, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


def encoder() -> Any:
    i = keras.Input((12,), dtype="int32", name="x")
    x = L.Embedding(50, 32)(i)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(4, 8)(x, x))
    x = L.LayerNormalization()(x + L.Dense(32)(L.Dense(64, "gelu")(x)))
    return keras.Model(i, L.Dense(3)(x[:, 0]))


def keywords() -> Any:
    x = i = keras.Input((49, 10, 1), name="x")
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, (10, 4), 2, "same")(x)))
    for _ in range(2):
        x = L.ReLU()(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)))
        x = L.ReLU()(L.BatchNormalization()(L.Conv2D(16, 1)(x)))
    return keras.Model(i, L.Dense(12, "softmax")(L.GlobalAveragePooling2D()(x)))


def tcn() -> Any:
    x = i = keras.Input((40, 6), name="x")
    x = L.Conv1D(16, 1)(x)
    for rate in (1, 2, 4):
        x = x + L.Conv1D(16, 3, padding="causal", dilation_rate=rate, activation="relu")(x)
    return keras.Model(i, L.Dense(4)(x[:, -1]))


Net = tuple[Callable[[], Any], tuple[int, ...]]
NETS: dict[str, Net] = {
    "resnet": (resnet, (3, 32, 32)), "mobilenet v2": (lambda: mobile(lambda: L.ReLU(6.0), False), (32, 32, 3)),
    "mobilenet v3": (lambda: mobile(lambda: L.Activation("hard_swish"), True), (32, 32, 3)),
    "efficientnet": (lambda: mobile(lambda: L.Activation("swish"), True), (32, 32, 3)), "yolo": (Yolo, (3, 32, 32)),
    "unet": (Unet, (3, 32, 32)), "vit": (Vit, (3, 32, 32)), "encoder": (encoder, (12,)),
    "bilstm": (lambda: Recurrent(nn.LSTM, True), (10, 8)), "gru": (lambda: Recurrent(nn.GRU, False), (10, 8)),
    "keywords": (keywords, (49, 10, 1)), "tcn": (tcn, (40, 6)), "style": (Style, (3, 32, 32)),
}  # fmt: skip


def randomised(model: Any) -> Any:
    if isinstance(model, nn.Module):
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 1.5) if "var" in name else buffer.normal_(0, 0.3)
        return model.eval()
    for variable in model.variables:
        if "moving" in variable.path:
            low = 0.5 if "variance" in variable.path else -0.3
            variable.assign(RNG.uniform(low, low + 1, variable.shape))
    return model


def rows(sizes: tuple[int, ...], count: int) -> np.ndarray:
    whole = len(sizes) == 1
    return (
        RNG.integers(0, 50, (count, *sizes), np.int32)
        if whole
        else RNG.standard_normal((count, *sizes)).astype(np.float32)
    )


def examined(path: Path, onnx: Path) -> str:
    model: Any = source.open_source(path)
    foreign = sorted(
        {each.custom for graph in model.executed for each in graph.operations if each.name == "CUSTOM"}
    )
    feed = [np.ones([size or 1 for size in port.dims], spec.dtype)
            for port, spec in zip(model.signature.inputs, frameworks.of(model).signature(model).inputs, strict=True)]  # fmt: skip
    times = []
    for _ in range(5):
        start = time.perf_counter()
        frameworks.of(model).live.run(model, feed)
        times.append(time.perf_counter() - start)
    back = netferry.convert(path, destination=onnx, quick=True, force=True, seed=1)
    status = "" if back.report is None else back.report.status
    return f"{path.stat().st_size / 1024:.0f} kB, {min(times) * 1e3:.2f} ms, foreign {foreign or 'none'}, back to onnx {status}"


def outcome(name: str, precision: str, folder: Path) -> str:
    build, sizes = NETS[name]
    torch.manual_seed(0)
    keras.utils.set_random_seed(0)
    model, path = randomised(build()), folder / "net.tflite"
    fixed = {"x": [1, *sizes]} if name in ("bilstm", "gru") else None
    inputs = {"x": rows(sizes, 1)} if isinstance(model, nn.Module) else None
    try:
        if precision == "float32":
            done = netferry.convert(
                model, destination=path, inputs=inputs, fix=fixed, quick=True, force=True, seed=1
            )
            status = "" if done.report is None else done.report.status
        else:
            np.savez(folder / "rows.npz", x=rows(sizes, 64))
            lowered = lower(
                model, path, precision, data=folder / "rows.npz", inputs=inputs, fix=fixed, force=True, seed=1
            )
            status = f"{lowered.status} (error {max(lowered.error.values()):.3f})"
        return f"{status}, {examined(path, folder / 'back.onnx')}" if path.exists() else status
    except NetferryError as error:
        return f"refused: {' '.join(str(error).split())[:300]}"


def main() -> None:
    asked = [each for each in sys.argv[1:] if each in NETS]
    precisions = ("float32",) if "--float" in sys.argv else ("float32", "int8-static")
    for name in asked or NETS:
        for precision in precisions:
            with tempfile.TemporaryDirectory() as folder:
                start = time.monotonic()
                found = outcome(name, precision, Path(folder))
            print(f"{name:14} {precision:12} {found}  ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
