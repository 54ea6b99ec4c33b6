"""One name for one function: PyTorch has most of them in several namespaces."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
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
    for position in _PLACES:
        for spelling in spellings:
            candidate = getattr(position, spelling, None)
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


def by_position(
    function: Any, row: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as ``row`` takes them: what PyTorch knows under a name that the row has not is given by position."""
    taken = _names_of(row)
    strange = [] if taken is None else [name for name in kwargs if name not in taken]
    if not strange:
        return args, dict(kwargs)
    for names in _orders(getattr(function, "__name__", "").rstrip("_")):
        last = max((names.index(name) for name in strange if name in names), default=-1)
        if last < 0 or not set(strange) <= set(names):
            continue
        between = names[len(args) : last + 1]
        if all(name in kwargs for name in between):
            rest = {name: value for name, value in kwargs.items() if name not in between}
            return (*args, *(kwargs[name] for name in between)), rest
    return args, dict(kwargs)


@cache
def _names_of(row: Any) -> frozenset[str] | None:
    """The names by which a row takes arguments; None where it takes any."""
    try:
        parameters = inspect.signature(row).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return None
    return frozenset(one.name for one in parameters if one.kind is not inspect.Parameter.VAR_POSITIONAL)


@cache
def _orders(name: str) -> tuple[tuple[str, ...], ...]:
    """The arguments of PyTorch's operators of a name, in their order."""
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    return tuple(
        tuple("input" if one.name == "self" else one.name for one in schema.arguments) for schema in schemas
    )
