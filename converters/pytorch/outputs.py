"""The tensors in what a forward returned, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

from netferry.converters import structure
from netferry.converters.errors import RefusedError

_PAST, _PRESENT = "past_key_values", "present"
"""A cache that comes out is called otherwise than the one that went in, as exporters of language models have it."""


def outputs_of(module: nn.Module, result: Any) -> dict[str, torch.Tensor]:
    """The tensors in what a forward returned; an imported model knows the names that they had."""
    names = getattr(module, "output_names", None)
    tensors = result if isinstance(result, tuple) else (result,)
    named = isinstance(names, tuple) and len(names) == len(tensors) == len(set(names))
    if not named or not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        return named_outputs(result)
    return dict(zip(names, tensors, strict=True))  # type: ignore[arg-type]


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """The tensors in what a forward returned, each under its name.

    A tensor is ``output``, the elements of a tuple are ``output_0``, ``output_1`` ..., a mapping's are
    its keys and a dataclass' its fields; deeper ones are joined with ``_``. What is None is left out.
    """
    named: dict[str, torch.Tensor] = {}

    def collect(item: Any, path: tuple[str, ...]) -> None:
        if item is None:
            return
        if isinstance(item, torch.Tensor):
            name = "_".join(path) or "output"
            if name in named:
                raise RefusedError(f"the model has two outputs that would be named '{name}'")
            named[name] = item
        elif is_cache(path, item):
            collect_cache(item, path)
        elif isinstance(item, Mapping):
            for key, inner in item.items():
                collect(inner, (*path, str(key)))
        elif isinstance(item, tuple | list):
            for position, inner in enumerate(item):
                collect(inner, (*(path or ("output",)), str(position)))
        elif is_dataclass(item):
            for entry in fields(item):
                collect(getattr(item, entry.name), (*path, entry.name))
        else:
            raise RefusedError(
                f"the model's output {'_'.join(path) or 'output'} is of a type that netferry does not export",
                expected="a tensor, or tensors in tuples, lists, mappings and dataclasses",
                received=type(item).__qualname__,
            )

    def collect_cache(item: Any, path: tuple[str, ...]) -> None:
        found = structure.leaves(item)
        for place, part in structure.names(_cache_name(path), found).items():
            collect(found[place], (part,))

    collect(result, ())
    return named


def is_cache(path: tuple[str, ...], item: Any) -> bool:
    """An object that keeps keys and values of layers, also an empty one, or what a model returns as its cache."""
    own = path[-1:] == (_PAST,)
    if isinstance(item, tuple | list):
        return own and all(isinstance(layer, tuple | list) for layer in item)
    if isinstance(item, Mapping) or is_dataclass(item):
        return own and not isinstance(item, type)
    if not structure.holds_several(item):
        return False
    return "cache" in type(item).__name__.lower() or bool(structure.leaves(item))


def _cache_name(path: tuple[str, ...]) -> str:
    if path[-1:] == (_PAST,):
        return "_".join((*path[:-1], _PRESENT))
    return _PRESENT if all(step.isdigit() or step == "output" for step in path) else "_".join(path)
