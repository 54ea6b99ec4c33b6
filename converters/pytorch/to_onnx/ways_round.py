"""Ways round what cannot be converted that a library has itself: another implementation of a part, which its configuration names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from netferry.converters.pytorch.caches import is_transformers

_SETTINGS: Mapping[str, tuple[str, Collection[str], str]] = {
    "_experts_implementation": (
        "Expert",
        ("grouped_mm", "batched_mm"),
        'Set model.config._experts_implementation = "batched_mm", which computes all experts as one product',
    ),
    "_attn_implementation": (
        "Attention",
        ("eager", "sdpa"),
        'Call model.set_attn_implementation("eager"), which writes the attention out',
    ),
}
"""What transformers' configurations name, the classes that it concerns, the values that can be converted, and what to do else."""


def way_round(model: Any) -> str:
    """What a person may set so that the model can be converted; "" where nothing is known."""
    if not is_transformers(model):
        return ""
    parts = " ".join({type(part).__name__ for part in model.modules()})
    found = [
        remedy
        for name, (concerned, fitting, remedy) in _SETTINGS.items()
        if concerned in parts and getattr(model.config, name, None) not in (*fitting, None)
    ]
    return ". ".join(found)
