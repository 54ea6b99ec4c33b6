"""Weights that torchao has quantised: tensors of a class of their own, which hold integers, steps and zeros."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_PARTS = ("qdata", "scale", "zero_point", "act_quant_scale", "act_quant_zero_point", "act_pre_scale")
"""What such a weight holds, and what it wants of the input."""


def is_quantized(tensor: Any) -> bool:
    return type(tensor).__module__.startswith("torchao.") and isinstance(
        getattr(tensor, "qdata", None), Tensor
    )


def with_parts(named: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module by their names; of a quantised one its parts, too."""
    for name, tensor in named:
        yield name, tensor
        if is_quantized(tensor):
            parts = ((part, getattr(tensor, part, None)) for part in _PARTS)
            yield from ((f"{name}.{part}", held) for part, held in parts if isinstance(held, Tensor))


def has_quantized(module: torch.nn.Module) -> bool:
    return any(is_quantized(tensor) for tensor in module._parameters.values())
