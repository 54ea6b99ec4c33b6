"""Products taken apart: what rules for activations and normalisations look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from netferry.converters.graph.passes.edit import Editor

_MOST_OPENED = 16
"""How many products are opened to find the factors of one: no pattern needs more."""


def factors(edit: Editor, value: ir.Value) -> tuple[float, list[ir.Value]]:
    """A product as its number and its other factors, through Mul, Div by a number, and small powers.

    Inner products are opened where nothing else reads them, and not deeper than patterns go.
    """
    number, found, rest, opened = 1.0, list[ir.Value](), [value], 0
    while rest:
        one = rest.pop()
        known = None if edit.facts[one].trainable else edit.number(one)
        if known is not None:
            number *= known
            continue
        opens = one is value or (opened < _MOST_OPENED and edit.inner(one))
        node = edit.maker(one, "Mul", "Div", "Pow") if opens else None
        a, b = (None, None) if node is None else node.inputs
        by = None if b is None or edit.facts[b].trainable else edit.number(b)
        if node is None or a is None or b is None:
            found.append(one)
            continue
        opened += 1
        if node.op_type == "Mul":
            rest += [b, a]
        elif node.op_type == "Div" and by:
            number /= by
            rest.append(a)
        elif node.op_type == "Pow" and by in (2.0, 3.0):
            found += [a] * int(by)
        else:
            found.append(one)
    return number, found


def other_addend(edit: Editor, value: ir.Value, number: float) -> ir.Value | None:
    """The other side of ``number + other``."""
    node = edit.maker(value, "Add")
    for one, other in (node.inputs, node.inputs[::-1]) if node is not None else ():
        if nearly(edit.number(one), number, edit, value):
            return other
    return None


def nearly(number: float | None, wanted: float, edit: Editor, value: ir.Value) -> bool:
    """Equal, as far as constants of this dtype can say: 0.1666667 is not the float32 of a sixth."""
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2}.get(edit.dtype(value).name, 1.2e-7)
    return number is not None and math.isclose(number, wanted, rel_tol=tolerance)


def first_match(values: list[ir.Value], matches: Callable[[ir.Value], Any]) -> tuple[Any, list[ir.Value]]:
    """What the first factor that matches gives, and the other factors."""
    for position, value in enumerate(values):
        found = matches(value)
        if found is not None:
            return found, values[:position] + values[position + 1 :]
    return None, values
