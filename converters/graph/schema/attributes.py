"""The attributes of ONNX's operators: their names and defaults stand in ONNX's schema, and nowhere else.

A row of an operator names those that it uses, and is given them with the schema's defaults. Where one that it does not
name is not at its default, the row declines (``UnusedAttribute``), and the node is refused if no other row takes it. One
that ONNX does not know is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, update_wrapper
from typing import Any, cast

import numpy as np
from onnx import defs, helper

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.registry import Function, Table
from netferry.converters.graph.schema.opset import schema_of
from netferry.converters.graph.schema.recurrent import RECURRENCE, Recurrence
from netferry.converters.graph.schema.windows import WINDOWS, Windows

OBJECTS: Mapping[str, tuple[Callable[[str, Sequence[Any], Mapping[str, Any]], Any], frozenset[str]]] = {
    "windows": (Windows.of, WINDOWS),
    "recurrence": (Recurrence.of, RECURRENCE),
}
"""Attributes that belong together: the parameter of a row that takes them as one object, how that is made, their names."""


class UnusedAttribute(CannotConvert):
    """A row does not look at an attribute that is not at its default."""


class Operators(Table[str, Callable[..., Any]]):
    """Rows of ONNX's operators, and of those of our own, which have no schema: their rows' signatures are theirs."""

    def row(self, *operators: str) -> Callable[[Function], Function]:
        """Register the decorated function under each operator; what is called by the table is its bound form."""

        def register(function: Function) -> Function:
            for operator in operators:
                super(Operators, self).row(operator)(_Bound(operator, function))
            return function

        return register


class _Bound:
    """A row, called with whatever attributes a node has. The schema is asked when it is called first."""

    def __init__(self, operator: str, function: Callable[..., Any]) -> None:
        self._operator = operator
        self._function = function
        update_wrapper(self, function)

    def __call__(self, xp: Any, *inputs: Any, **given: Any) -> Any:
        return self._function(xp, *inputs, **self._arguments(inputs, given))

    def _arguments(self, inputs: Sequence[Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the row gets: all attributes if it takes them all, else the ones it names, complete."""
        named = self._named
        if named is None:
            return given
        passed = {name: value for name, value in given.items() if name in named and value is not None}
        for name in given.keys() - passed.keys():
            self._demand_default(name, given[name])
        taken = {**named, **passed}
        for name in self._objects - passed.keys():
            taken[name] = OBJECTS[name][0](self._operator, inputs, given)
        missing = [name for name, value in taken.items() if value is REQUIRED]
        if missing:
            raise CannotConvert(f"its attribute {missing[0]} is missing")
        return taken

    @cached_property
    def _known(self) -> Mapping[str, Any]:
        """The attributes that a node may have; of an operator of our own, those that its row names."""
        known = defaults(self._operator)
        return {**dict.fromkeys(self._within), **self._own} if known is None else known

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self._function).parameters.values())

    @cached_property
    def _own(self) -> Mapping[str, Any]:
        """The row's keyword-only parameters, with defaults of its own where it has any."""
        return {
            p.name: REQUIRED if p.default is p.empty else p.default
            for p in self._parameters
            if p.kind is p.KEYWORD_ONLY
        }

    @cached_property
    def _named(self) -> Mapping[str, Any] | None:
        """The row's keyword-only parameters and their defaults, the schema's first; None if it takes all attributes."""
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in self._parameters):
            return None
        return {name: self._known.get(name, default) for name, default in self._own.items()}

    @cached_property
    def _objects(self) -> frozenset[str]:
        return frozenset(OBJECTS.keys() & self._own.keys())

    @cached_property
    def _within(self) -> frozenset[str]:
        """The attributes that are part of an object."""
        return frozenset[str]().union(*(OBJECTS[name][1] for name in self._objects))

    def _demand_default(self, name: str, value: Any) -> None:
        if name not in self._known:
            raise CannotConvert(f"{self._operator} has no attribute {name}")
        default = self._known[name]
        if name not in self._within and value is not None and not _equal(value, default):
            raise UnusedAttribute(f"{name}={value!r}: netferry supports only {default!r} here")


def _equal(value: Any, default: Any) -> bool:
    """Whether an attribute is at its default; floats are compared as ONNX stores them, in float32."""
    if isinstance(default, float):
        return bool(np.float32(value) == np.float32(default))
    return list(value) == default if isinstance(default, list) else bool(value == default)


REQUIRED = object()
"""Stands for the default of an attribute that has none."""


@cache
def defaults(operator: str) -> Mapping[str, Any] | None:
    """Each attribute of an operator and its default: None for one that may be absent; no mapping without a schema."""
    schema = schema_of("", operator)
    if schema is None:
        return None
    return {name: _default_of(attribute) for name, attribute in schema.attributes.items()}


def _default_of(attribute: defs.OpSchema.Attribute) -> Any:
    if attribute.required:
        return REQUIRED
    if not attribute.default_value.name:
        return None
    value = helper.get_attribute_value(attribute.default_value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float):  # as ONNX's documents write it: 0.2, where float32 has 0.20000000298
        brief = float(f"{value:.6g}")
        return brief if np.float32(brief) == np.float32(value) else value
    return cast(Any, value)
