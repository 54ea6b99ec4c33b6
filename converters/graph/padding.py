"""Padding of spatial layers: arithmetic only, sizes in elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.sizes import ceil_div, largest


def same_upper(size: Any, kernel: int, stride: int, dilation: int = 1) -> tuple[Any, Any]:
    """TensorFlow's SAME: the output has ceil(size / stride) places, the odd element goes behind.

    Of a ``Size`` that is known only when the model runs, the padding is one, too.
    """
    span = (kernel - 1) * dilation + 1
    total = largest((ceil_div(size, stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def onnx_pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """[(begin, end) of each axis] as ONNX writes them: all begins, then all ends."""
    return [begin for begin, _ in pairs] + [end for _, end in pairs]


def symmetric(pads: Sequence[int]) -> list[int]:
    """The same padding on both sides of each axis, as ONNX writes it."""
    return list(pads) * 2
