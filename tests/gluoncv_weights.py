"""Weights and images drawn by names, so that GluonCV, which is not installed here, and netferry compute with the same ones."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np

from netferry.converters.signature import Array

_RANGES = {
    "gamma": (0.7, 1.1), "running_var": (0.8, 1.3), "moving_var": (0.8, 1.3), "scale": (0.5, 1.5), "anchors": (8, 40),
    "offsets": (0, 8),
}  # fmt: skip
_SUMMED = re.compile(r"(bn[23]|stages\.\d\.\d+\.body\.1\.1)\.gamma$")
"""The last normalisation before a sum: of many sums none grows out of bounds."""

_PREDICTS = re.compile(r"predict|yolo_outputs")


def drawn_weight(name: str, shape: Sequence[int]) -> Array:
    """The weight that is called so; what predicts boxes is small, so that no exponential grows out of bounds."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), *shape])
    bounds = next((bounds for ending, bounds in _RANGES.items() if name.endswith(ending)), None)
    if bounds is not None:
        return (rng.uniform(*bounds, shape) * (0.3 if _SUMMED.search(name) else 1)).astype(np.float32)
    spread = np.sqrt(1.6 / np.prod(shape[1:])) if name.endswith("weight") else 0.1
    return (rng.normal(size=shape) * spread * (0.3 if _PREDICTS.search(name) else 1)).astype(np.float32)


def drawn_images(size: int) -> Array:
    """Two images."""
    return np.random.default_rng(size).normal(size=(2, 3, size, size)).astype(np.float32)
