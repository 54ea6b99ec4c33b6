"""Ways round what cannot be converted that a library has itself: another implementation of a part, which its configuration names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from netferry.converters.pytorch.caches import is_transformers

_SETTINGS: Mapping[str, tuple[str, Collection[str], str]] = {
    "_experts_implementation": (
        "_can_set_experts_implementation",
        ("grouped_mm", "batched_mm"),
        'Set model.config._experts_implementation = "batched_mm", which computes all experts as one product',
    ),
    "_attn_implementation": (
        "_can_set_attn_implementation",
        ("eager", "sdpa"),
        'Call model.set_attn_implementation("eager"), which writes the attention out',
    ),
}
"""What transformers' configurations name, what a model is asked whether it heeds that, the values that can be converted, and what
to do else."""


def way_round(model: Any) -> str:
    """What a person may set so that the model can be converted; "" where nothing is known."""
    if not is_transformers(model):
        return ""
    found = [
        remedy
        for name, (heeds, fitting, remedy) in _SETTINGS.items()
        if getattr(model.config, name, None) not in (*fitting, None) and getattr(model, heeds, bool)()
    ]
    return ". ".join(found)
