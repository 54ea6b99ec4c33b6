"""Images as a model's input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import Array, TensorSpec
from netferry.inference.data import require


@dataclass(frozen=True)
class Pixels:
    """How an image becomes numbers: ``(value * scale - mean) / std``, on ``size`` (height, width) where the model is free.

    ``mean`` and ``std`` are one number or one for each channel.
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None

    def __str__(self) -> str:
        return f"(value * {self.scale:.6g} - {list(self.mean)}) / {list(self.std)}"


_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
"""What ``data.IMAGES`` stand for. Pillow tells a format by content, and for some of the others it starts a program."""


def read_image(file: Path, spec: TensorSpec, pixels: Pixels) -> Array:
    image_module, operations = require("PIL.Image"), require("PIL.ImageOps")
    channels_first, channels, height, width = image_layout(spec)
    with image_module.open(file, formats=_FORMATS) as opened:
        if opened.mode.startswith(("I", "F")):
            raise UsageError("has more than 8 bits for a pixel", received=f"mode {opened.mode}")
        upright = operations.exif_transpose(opened)
        image = upright.convert("RGB" if channels == 3 else "L")
    size = (height or (pixels.size or image.size[::-1])[0], width or (pixels.size or image.size[::-1])[1])
    if image.size[::-1] != size:
        image = image.resize(size[::-1], image_module.Resampling.BILINEAR)
    raw = np.asarray(image).reshape(*size, channels)
    made = raw if spec.dtype.kind in "iu" else _normalised(raw, pixels)
    return np.ascontiguousarray(made.transpose(2, 0, 1) if channels_first else made)


def _normalised(raw: Array, pixels: Pixels) -> Array:
    values = raw.astype(np.float32) * np.float32(pixels.scale)
    return np.asarray((values - np.asarray(pixels.mean, np.float32)) / np.asarray(pixels.std, np.float32))


def image_layout(spec: TensorSpec) -> tuple[bool, int, int | None, int | None]:
    """Whether channels come first, how many there are, and height and width where they are fixed."""
    dims = [dim if isinstance(dim, int) else None for dim in (spec.dims or ())]
    if len(dims) == 4 and dims[1] in (1, 3):
        return True, int(dims[1] or 0), dims[2], dims[3]
    if len(dims) == 4 and dims[3] in (1, 3):
        return False, int(dims[3] or 0), dims[1], dims[2]
    raise UsageError(
        f"input '{spec.name}' does not take images",
        expected="(batch, 1 or 3, height, width)",
        received=str(spec),
    )


def pixels_from_flag(flag: str) -> Pixels:
    """``size=224x224,scale=1/255,mean=0.485;0.456;0.406,std=0.229;0.224;0.225``, as the command line takes it."""
    made: dict[str, Any] = {}
    for setting in flag.split(","):
        name, _, text = setting.partition("=")
        try:
            made[name.strip()] = _PIXELS[name.strip()](text)
        except (KeyError, ValueError, ZeroDivisionError):
            raise UsageError(
                "not a way to read images",
                expected="size=224x224,scale=1/255,mean=0.485;0.456;0.406,std=0.229;0.224;0.225, any of them",
                received=setting,
            ) from None
    return Pixels(**made)


def _fraction(text: str) -> float:
    top, _, bottom = text.partition("/")
    return _finite(float(top) / float(bottom or 1))


def _several(text: str) -> tuple[float, ...]:
    return tuple(_finite(float(part)) for part in text.split(";"))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(number)
    return number


def _two(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return _side(height), _side(width)


def _side(text: str) -> int:
    pixels = int(text)
    if not 0 < pixels <= _MOST_PIXELS:
        raise ValueError(text)
    return pixels


_MOST_PIXELS = 1 << 14
"""Of a side."""


_PIXELS: Mapping[str, Callable[[str], Any]] = {
    "size": _two,
    "scale": _fraction,
    "mean": _several,
    "std": _several,
}
