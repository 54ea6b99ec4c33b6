"""Which file a model in memory was read from: an error names that, not the class that a framework has made of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

_FILES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def remember(model: object, name: str) -> None:
    """Keep the file's name with the model, as long as that lives; some objects take no such note."""
    with suppress(TypeError):
        _FILES[model] = name


def named(model: object) -> str:
    """The file that a model came from, or else its class."""
    with suppress(TypeError):
        if known := _FILES.get(model):
            return known
    label = getattr(model, "label", None)  # of models that our own readers make
    return label if isinstance(label, str) else type(model).__name__
