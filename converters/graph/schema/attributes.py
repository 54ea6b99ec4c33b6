"""The attributes of ONNX's operators: their names and defaults stand in ONNX's schema, and nowhere else.

A row of an operator names those that it uses, and is given them with the schema's defaults. One that it does not name
and that is not at its default is refused, as is one that ONNX does not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, cast

import numpy as np
from onnx import defs, helper

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.registry import Function, Table
from netferry.converters.graph.schema.opset import schema_of
from netferry.converters.graph.schema.windows import Windows

OBJECTS: Mapping[str, tuple[Callable[[str, Sequence[Any], Mapping[str, Any]], Any], frozenset[str]]] = {
    "windows": (
        Windows.of,
        frozenset("auto_pad ceil_mode dilations kernel_shape pads strides".split()),
    ),
}
"""Attributes that belong together: the parameter of a row that takes them as one object, how that is made, their names."""


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

    def __call__(self, xp: Any, *inputs: Any, **given: Any) -> Any:
        if self._all or not self._known:
            return self._function(xp, *inputs, **given)
        for name, value in given.items():
            if name not in self._used:
                self._demand_default(name, value)
        taken = {
            name: given[name] if name in given else self._default(name, inputs, given) for name in self._named
        }
        return self._function(xp, *inputs, **taken)

    @cached_property
    def _known(self) -> Mapping[str, Any] | None:
        return defaults(self._operator)

    @cached_property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self._function).parameters.values())

    @cached_property
    def _all(self) -> bool:
        """Whether it takes them all, as a row that hands them on does."""
        return any(parameter.kind is parameter.VAR_KEYWORD for parameter in self._parameters)

    @cached_property
    def _named(self) -> list[str]:
        return [parameter.name for parameter in self._parameters if parameter.kind is parameter.KEYWORD_ONLY]

    @cached_property
    def _own(self) -> dict[str, Any]:
        """Parameters that are no attributes, for those who call the row themselves."""
        return {p.name: p.default for p in self._parameters if p.default is not p.empty}

    @cached_property
    def _used(self) -> frozenset[str]:
        within = (OBJECTS[name][1] for name in self._named if name in OBJECTS)
        return frozenset(self._named).union(*within)

    def _default(self, name: str, inputs: Sequence[Any], given: Mapping[str, Any]) -> Any:
        if name in OBJECTS:
            return OBJECTS[name][0](self._operator, inputs, given)
        assert self._known is not None
        if name not in self._known:
            return self._own[name]
        if self._known[name] is REQUIRED:
            raise CannotConvert(f"the attribute {name} is missing")
        return self._known[name]

    def _demand_default(self, name: str, value: Any) -> None:
        assert self._known is not None
        if name not in self._known:
            raise CannotConvert(f"ONNX's {self._operator} has no attribute {name}")
        default = self._known[name]
        if isinstance(value, float) and isinstance(default, float):
            value, default = np.float32(value), np.float32(default)
        if value != default:
            raise CannotConvert(f"{name}={value!r}: netferry knows no other than {default!r} here")


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
