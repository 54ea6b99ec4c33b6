"""Caches of language models, made of the keys and values of their layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

Layer = Mapping[str, Any]
"""``key`` and ``value``, or ``decoder`` and ``encoder`` with a key and a value each."""


def cache_of(model: Any, annotation: Any, layers: Sequence[Layer]) -> Any:
    """The cache that a model's code expects: that of its library, the class that its parameter is annotated with, or tuples."""
    if is_transformers(model):
        from transformers import cache_utils

        made = _filled(cache_utils.DynamicCache, [layer.get("decoder", layer) for layer in layers])
        if "encoder" not in layers[0]:
            return made
        return cache_utils.EncoderDecoderCache(
            made, _filled(cache_utils.DynamicCache, [layer["encoder"] for layer in layers])
        )
    for kind in (annotation, *get_args(annotation)):
        if inspect.isclass(kind) and callable(getattr(kind, "update", None)) and not issubclass(kind, dict):
            return _filled(kind, layers)
    return tuple(tuple(_tensors(layer)) for layer in layers)


def is_transformers(model: Any) -> bool:
    """Whether a module is one of Hugging Face's transformers, or of a class made from one."""
    return any(kind.__module__.startswith("transformers.modeling_utils") for kind in type(model).__mro__)


def _filled(kind: Callable[[], Any], layers: Sequence[Layer]) -> Any:
    cache = kind()
    for place, layer in enumerate(layers):
        cache.update(layer["key"], layer["value"], place)
    return cache


def _tensors(layer: Layer) -> list[Any]:
    return [part for one in ("decoder", "encoder") if one in layer for part in _tensors(layer[one])] or [
        layer["key"],
        layer["value"],
    ]
