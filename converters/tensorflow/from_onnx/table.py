"""The table of rows that arrive as layers and kernels of Keras and TensorFlow, and the path of a weight as a layer's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netferry.converters.graph.registry import Table

NATIVE: Table[str, Callable[..., Any]] = Table("ONNX -> Keras")
