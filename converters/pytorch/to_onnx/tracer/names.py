"""One name for one function: PyTorch has most of them in several namespaces."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional

_PLACES: tuple[Any, ...] = (
    torch,
    torch.Tensor,
    functional,
    torch._C._nn,
    torch.special,
    torch._C._VariableFunctions,
)


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
    """The torch function that an ATen operator (of an exported program) stands for; others are themselves."""
    if isinstance(function, torch._ops.OpOverload):
        return _of_operator(function, function._schema.name)
    if isinstance(function, torch._ops.OpOverloadPacket):
        return _of_operator(function, function._qualified_op_name)
    return function


def qualified(function: Any) -> str | None:
    """``torchvision::nms``: the name of an operator that a library has registered."""
    if isinstance(function, torch._ops.OpOverload):
        return str(function._schema.name)
    return str(function._qualified_op_name) if isinstance(function, torch._ops.OpOverloadPacket) else None


_NAMESAKES = {"index"}
"""Operators that PyTorch has another function of the same name for."""


@cache
def _of_operator(operator: Any, full: str) -> Any:
    name = full.removeprefix("aten::").removesuffix("_")
    if "::" in name or name in _NAMESAKES:
        return operator
    room, _, rest = name.partition("_")
    within = getattr(getattr(torch, room, None), rest, None) if room in ("linalg", "special", "fft") else None
    return within or next(iter(everywhere(name)), operator)


@cache
def body_of(function: Any) -> FunctionType | None:
    """What a torch function that is written in Python does, without asking whether someone sees its calls; else None."""
    if not isinstance(function, FunctionType) or not function.__module__.startswith("torch."):
        return None
    asked = [name for name in function.__code__.co_names if name.startswith("has_torch_function")]
    if not asked:
        return None
    namespace = {**function.__globals__, **dict.fromkeys(asked, _nobody)}
    body = FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    body.__kwdefaults__ = function.__kwdefaults__
    return body


def _nobody(*_: Any) -> bool:
    return False


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
