"""Libraries of Keras models: what they define and compute with is known where they are installed."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec

_COMPUTING = re.compile(r"(keras_hub|keras_nlp|keras_cv)\.(src\.)?(layers|models)\.[a-z0-9_.]+")
"""Modules of layers and networks; what splits texts or reads files lies beside them, and is told apart by its class."""

_READING = frozenset({"PreprocessingLayer", "Preprocessor", "Tokenizer", "ImageConverter", "AudioConverter"})
"""Classes of these libraries, and all that is made from them, which hold vocabularies and read files."""


def has(module: str, name: str) -> bool:
    """Whether an installed library defines this layer or network in this module."""
    if _COMPUTING.fullmatch(module) is None or find_spec(module.partition(".")[0]) is None:
        return False
    try:
        found = getattr(import_module(module), name, None)
    except Exception:  # whatever a library raises that cannot be imported here
        return False
    ancestors = {each.__name__ for each in found.__mro__} if isinstance(found, type) else set()
    return "Layer" in ancestors and not ancestors & _READING
