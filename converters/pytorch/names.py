"""One name for one function: PyTorch has most of them in several places."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn import functional

_PLACES: tuple[Any, ...] = (torch, torch.Tensor, functional, torch._C._nn, torch.special)


@cache
def everywhere(name: str) -> tuple[Any, ...]:
    """Every callable of that name: ``torch.add``, ``Tensor.add``, ``add_``, ``__add__``, ``__iadd__`` ..."""
    spellings = (name, f"{name}_", f"__{name}__", f"__i{name}__")
    found: dict[Any, None] = {}
    for place in _PLACES:
        for spelling in spellings:
            candidate = getattr(place, spelling, None)
            if callable(candidate) and not isinstance(candidate, type):
                found[candidate] = None
    return tuple(found)


def getter(name: str) -> Any:
    """What reads an attribute of a tensor, as the trace sees it: ``getter("T")`` is called for ``x.T``."""
    return getattr(torch.Tensor, name).__get__


_IN_PLACE_OPERATORS = frozenset(
    f"__i{name}__"
    for name in [
        "add",
        "sub",
        "mul",
        "truediv",
        "div",
        "floordiv",
        "mod",
        "pow",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
    ]
) | {"__setitem__"}


def writes(function: Any) -> bool:
    """Whether a torch function writes into its first argument, by its name."""
    name = getattr(function, "__name__", "")
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


def torch_function(function: Any) -> Any:
    """The torch function that an ATen overload (of an exported program) stands for; others are themselves."""
    if isinstance(function, torch._ops.OpOverload):
        return _of_overload(function)
    return function


@cache
def _of_overload(overload: torch._ops.OpOverload[Any, Any]) -> Any:
    name = overload._schema.name.removeprefix("aten::").removesuffix("_")
    return next(iter(everywhere(name)), overload) if "::" not in name else overload
