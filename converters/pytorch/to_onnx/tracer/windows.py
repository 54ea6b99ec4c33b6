"""Kernel, stride, padding and dilation as PyTorch writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.schema.padding import halves


def each(value: Any, axes: int) -> list[Any]:
    """One value per spatial axis; PyTorch takes a single one for all."""
    if not isinstance(value, tuple | list):
        return [value] * axes
    return list(value) * axes if len(value) == 1 else list(value)


def both_sides(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> list[tuple[int, int]]:
    """What stands before and behind each axis of a convolution; 'same' puts the odd element behind."""
    if padding == "same":
        spans = zip(kernel, dilations, strict=True)
        return [halves("SAME_UPPER", dilation * (size - 1)) for size, dilation in spans]
    return [(one, one) for one in each(0 if padding == "valid" else padding, len(kernel))]
