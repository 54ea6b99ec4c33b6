"""Ways round what cannot be converted that a library has itself: another implementation of a part, which its configuration names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from netferry.converters.pytorch.caches import is_transformers

_SETTINGS: Mapping[str, tuple[Collection[str], str]] = {
    "_experts_implementation": (
        ("grouped_mm", "batched_mm"),
        'Set model.config._experts_implementation = "batched_mm", which computes all experts as one product',
    ),
    "_attn_implementation": (
        ("eager", "sdpa"),
        'Call model.set_attn_implementation("eager"), which writes the attention out',
    ),
}
"""What transformers' configurations name, which of its values can be converted, and what to do where it is another."""


def way_round(model: Any) -> str:
    """What a person may set so that the model can be converted; "" where nothing is known."""
    if not is_transformers(model):
        return ""
    config = model.config
    found = [
        remedy
        for name, (fitting, remedy) in _SETTINGS.items()
        if (value := getattr(config, name, None)) is not None and value not in fitting
    ]
    return ". ".join(found)
