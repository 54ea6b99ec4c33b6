"""Expressions over tensors as modules, called as they are written or with every argument by its keyword."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_oracle import SIZES, Shape, arrays
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

LIST = Path(__file__).with_name("pytorch_functions.txt")
NAMES = ("x", "y", "z")


def expressions() -> Iterator[tuple[tuple[Shape, ...], str]]:
    """The shapes of the tensors, and the expression, of every line of the list."""
    shapes: tuple[Shape, ...] = ()
    for line in LIST.read_text().splitlines():
        if line.startswith("@"):
            shapes = tuple(_shape(part) for part in line[1:].split(";"))
        elif line and not line.startswith("#"):
            yield shapes, line


def _shape(text: str) -> Shape:
    return tuple(int(part) if part.isdigit() else part for part in text.split())


class ByKeyword(TorchFunctionMode):
    """Hands each function all its arguments by keyword, where PyTorch itself takes them so."""

    def __init__(self, forms: dict[Any, tuple[str, ...] | None], learns: bool) -> None:
        super().__init__()
        self.forms, self.learns = forms, learns

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        key = func, len(args), tuple(kwargs)
        if self.learns and key not in self.forms:
            self.forms[key] = _form(func, args, kwargs)
        names = self.forms.get(key)
        if names is None:
            return func(*args, **kwargs)
        first = len(args) - len(names)
        return func(*args[:first], **dict(zip(names, args[first:], strict=True)), **kwargs)


def _form(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the arguments, or of all but the first of a method; None where it does not take them so."""
    name = getattr(func, "__name__", "")
    if not args or name.startswith("__") or name.endswith("_"):
        return None
    with torch._C.DisableTorchFunction():
        for order in _orders(func, name):
            for names in (order[: len(args)], order[1 : len(args)]):
                given = dict(zip(names, args[len(args) - len(names) :], strict=False))
                if len(names) not in (len(args), len(args) - 1) or not names or given.keys() & kwargs.keys():
                    continue
                try:
                    func(*args[: len(args) - len(names)], **given, **kwargs)
                except (TypeError, RuntimeError):
                    continue
                return tuple(names)
    return None


def _orders(func: Any, name: str) -> list[list[str]]:
    """The arguments' names in their order, by each of a function's signatures."""
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
        return [["input" if a.name == "self" else a.name for a in schema.arguments] for schema in schemas]
    plain = all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in parameters)
    return [[p.name for p in parameters]] if plain else []


def called(
    expression: str, count: int, forms: dict[Any, Any] | None = None, learns: bool = False
) -> nn.Module:
    """A module of ``count`` inputs that gives what the expression gives, by the keywords that ``forms`` has learnt."""
    names = ", ".join(NAMES[:count])
    space = {"torch": torch, "F": F, "math": math}
    function: Callable[..., Any] = eval(f"lambda {names}: {expression}", space)

    def forward(self: nn.Module, *tensors: torch.Tensor) -> Any:
        if forms is None:
            return _plain(function(*tensors))
        with ByKeyword(forms, learns):
            return _plain(function(*tensors))

    methods: dict[str, Any] = {"forward": eval(f"lambda self, {names}: f(self, {names})", {"f": forward})}
    return type("Called", (nn.Module,), methods)()  # type: ignore[no-any-return]


def _plain(result: Any) -> Any:
    return tuple(result) if isinstance(result, list | tuple) else result


def known_forms(expression: str, shapes: tuple[Shape, ...]) -> dict[Any, Any]:
    """The keywords that the expression's functions take, found by calling them; empty where none takes any."""
    forms: dict[Any, Any] = {}
    module = called(expression, len(shapes), forms, learns=True)
    module(*(torch.from_numpy(array) for array in arrays(shapes, SIZES[0], 0)))
    return {key: names for key, names in forms.items() if names}
