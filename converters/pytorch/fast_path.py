"""PyTorch's fast path through its transformer layers, which people run without knowing it: under ``no_grad``.

It computes what the layers say, but for padded positions: an encoder leaves zeros there before its last norm. What is
traced, or widened to float64, cannot take it, and is given the same zeros.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

LAYERS = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)

NOTE = (
    "an encoder's padded positions are zeros where the padding stands at the end, as PyTorch's fast path leaves them "
    "under no_grad; with gradients PyTorch computes them"
)


def has_one(module: nn.Module) -> bool:
    """Whether a module has layers with a fast path."""
    return any(isinstance(part, LAYERS) for part in module.modules())


def off() -> Callable[[], None]:
    """Turn it off; what is returned puts it back."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    return lambda: torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def zeros_at_padding(module: nn.Module) -> Iterator[list[str]]:
    """Encoders give what their fast path gives; the list is filled with a note where one did."""
    notes: list[str] = []
    hooks = hook(module, lambda: None if notes else notes.append(NOTE))
    try:
        yield notes
    finally:
        for handle in hooks:
            handle.remove()


def hook(module: nn.Module, tell: Callable[[], None] = lambda: None) -> list[Any]:
    """Hooks on the last layer of each encoder that has a fast path; ``tell`` is called where one acts."""

    def acts(
        layer: nn.Module, args: Any, kwargs: Mapping[str, Any], output: torch.Tensor
    ) -> torch.Tensor | None:
        found = _zeroed(layer, args, kwargs, output)
        if found is not None:
            tell()
        return found

    encoders = [part for part in module.modules() if isinstance(part, nn.TransformerEncoder)]
    fast = [
        encoder
        for encoder in encoders
        if getattr(encoder, "use_nested_tensor", False) and len(encoder.layers)
    ]
    return [encoder.layers[-1].register_forward_hook(acts, with_kwargs=True) for encoder in fast]


def _zeroed(
    layer: nn.Module, args: Any, kwargs: Mapping[str, Any], output: torch.Tensor
) -> torch.Tensor | None:
    """The layer's output with zeros at padding, where the fast path would be taken; None where not."""
    given = inspect.signature(layer.forward).bind(*args, **kwargs).arguments
    padding = given.get("src_key_padding_mask")
    if padding is None or given.get("src_mask") is not None or output.dim() != 3 or layer.training:
        return None
    padded = padding if padding.dtype is torch.bool else padding != 0
    at_the_end = (padded[:, 1:] | ~padded[:, :-1]).all()
    return torch.where((padded & at_the_end).unsqueeze(-1), torch.zeros_like(output), output)
