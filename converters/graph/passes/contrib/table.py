"""The table of operators that are no part of the standard, and how the attributes of a node reach its row.

A row has the operator's own signature: inputs positional (``Value``, or ``Maybe`` where one may be missing), attributes
keyword-only with the defaults of its schema, which stands in onnxruntime's documents and nowhere else. ``only`` names further attributes and the one value at which each is
understood. A row that hands kernel, strides and the like on to an operator of ONNX takes them as one object: ``windows``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.inference.evaluate import plain_attributes
from netferry.converters.graph.passes.contrib.writer import Value, Writer
from netferry.converters.graph.registry import Table

WINDOWS: Mapping[str, Any] = {
    "auto_pad": "NOTSET", "dilations": None, "kernel_shape": None, "pads": None, "strides": None,
}  # fmt: skip
"""The attributes that ``windows`` stands for, but for those that the row names itself."""

Results = Value | tuple[Value | None, ...]
Function = TypeVar("Function", bound=Callable[..., Results])


@dataclass(frozen=True)
class Row:
    """What an operator is made of: ``function(writer, *inputs, **attributes)``."""

    function: Callable[..., Results]
    only: Mapping[str, Any]

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """Every attribute that the operator may have, and its default; ``Parameter.empty`` where it must be there."""
        named = {p.name: p.default for p in self._signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
        if "windows" in named:
            del named["windows"]
            named = {**WINDOWS, **named}
            for place in self._signature.parameters.keys() & named.keys() - self._keywords:
                del named[place]  # an input, where ONNX's own operator has an attribute
        return {**named, **self.only}

    @cached_property
    def _signature(self) -> inspect.Signature:
        return inspect.signature(self.function)

    @cached_property
    def _keywords(self) -> frozenset[str]:
        parameters = self._signature.parameters.values()
        return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def __call__(self, g: Writer, node: ir.Node) -> Results:
        attributes = self._attributes(plain_attributes(node))
        if "windows" in self._keywords:
            attributes["windows"] = self._windows(attributes)
        try:
            bound = self._signature.bind(g, *node.inputs, **attributes)
        except TypeError as error:
            raise CannotConvert(f"its inputs do not fit: {error}") from error
        for parameter in list(self._signature.parameters.values())[1:]:
            if parameter.annotation == "Value" and bound.arguments.get(parameter.name) is None:
                raise CannotConvert(f"its input {parameter.name} is missing")
        return self.function(*bound.args, **bound.kwargs)

    def _windows(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """The attributes for the operator of ONNX, taken out of the row's own; those at their defaults stay away."""
        own = [name for name in WINDOWS if name not in self._keywords and name in attributes]
        given = {name: attributes.pop(name) for name in own}
        return {name: value for name, value in given.items() if value != WINDOWS[name]}

    def _attributes(self, given: Mapping[str, Any]) -> dict[str, Any]:
        defaults = self.defaults
        for name, value in given.items():
            if name not in defaults:
                raise CannotConvert(f"it has an attribute {name}, which netferry does not know")
            if name in self.only and not _same(value, self.only[name]):
                raise CannotConvert(f"{name}={value!r}: netferry supports only {self.only[name]!r} here")
        attributes = {name: value for name, value in given.items() if name not in self.only}
        for name, default in defaults.items():
            if default is inspect.Parameter.empty and name not in attributes:
                raise CannotConvert(f"its attribute {name} is missing")
        return attributes


def _same(value: Any, expected: Any) -> bool:
    """Floats are compared as ONNX stores them, in float32."""
    return (
        bool(np.float32(value) == np.float32(expected))
        if isinstance(value, float)
        else bool(value == expected)
    )


class Contrib(Table[str, Row]):
    """Rows by the operator's name."""

    def opens(self, *operators: str, **only: Any) -> Callable[[Function], Function]:
        """Register the decorated function under each name."""

        def register(function: Function) -> Function:
            for operator in operators:
                self.row(operator)(Row(function, only))
            return function

        return register


CONTRIB = Contrib("com.microsoft")
opens = CONTRIB.opens
