"""A convolution in float64, by PyTorch's kernel."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from netferry.converters.graph.schema import padding
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.signature import Array


def torch_kernels() -> Any:
    """``converters/pytorch/kernels.py``, imported when it is first needed."""
    return import_module("netferry.converters.pytorch.kernels")


def wide(x: Array) -> Array:
    return np.ascontiguousarray(x, np.float64)


def convolved(x: Array, w: Array, b: Array | None, group: int | None, attributes: Mapping[str, Any]) -> Array:
    """x: (batch, channels, *space), w: (out, in / group, *kernel); ``attributes`` are those of ONNX's Conv."""
    windows = Windows.of("Conv", (x, w), attributes)
    pads = padding.onnx_pads(windows.pairs(x.shape[2:]))
    bias = None if b is None else wide(b)
    made: Array = torch_kernels().conv(
        wide(x), wide(w), bias, windows.strides, pads, windows.dilations, group or 1
    )
    return made
