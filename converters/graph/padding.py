"""Padding of spatial layers: arithmetic only, sizes in elements."""

from __future__ import annotations

from collections.abc import Sequence


def same_upper(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME: the output has ceil(size / stride) places, the odd element goes behind."""
    span = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def onnx_pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """[(begin, end) of each axis] as ONNX writes them: all begins, then all ends."""
    return [begin for begin, _ in pairs] + [end for _, end in pairs]


def symmetric(pads: Sequence[int]) -> list[int]:
    """The same padding on both sides of each axis, as ONNX writes it."""
    return list(pads) * 2
