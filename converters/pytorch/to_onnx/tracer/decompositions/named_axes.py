"""einx's elementwise functions, whose axes have names, as plain broadcasting: einx itself makes a number of every size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": torch.add,
    "divide": torch.true_divide,
    "equal": torch.eq,
    "floor_divide": torch.floor_divide,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logaddexp": torch.logaddexp,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "multiply": torch.mul,
    "not_equal": torch.ne,
    "subtract": torch.sub,
    "true_divide": torch.true_divide,
    "where": torch.where,
}
"""What einx calls each of them."""


def _named(function: Callable[..., Any], expression: Any, *operands: Any, **sizes: Any) -> Any:
    """``function("a, b -> a b", x, y)``; NotImplemented where an axis is more than a name, a 1 or an ellipsis."""
    sides = str(expression).split("->")
    inputs = [side.split() for side in sides[0].split(",")]
    count = 3 if function is torch.where else 2
    if sizes or len(sides) > 2 or {len(inputs), len(operands)} != {count}:
        return NotImplemented
    output = sides[1].split() if len(sides) == 2 else _widest(inputs)
    if output is None or not all(map(_plain, [*inputs, output])):
        return NotImplemented
    ranks = {
        operand.ndim - len(axes) + 1
        for axes, operand in zip(inputs, operands, strict=True)
        if "..." in axes and isinstance(operand, Tensor)
    }
    if len(ranks) > 1:
        return NotImplemented
    inner = tuple(f"...{place}" for place in range(ranks.pop())) if ranks else ()
    wanted = _opened(output, inner)
    laid = [
        _laid(operand, _opened(axes, inner), wanted) for axes, operand in zip(inputs, operands, strict=True)
    ]
    return NotImplemented if any(one is NotImplemented for one in laid) else function(*laid)


def _widest(inputs: Sequence[list[str]]) -> list[str] | None:
    """The axes of the result where none are told: those of the one operand that has them all."""
    every = {axis for axes in inputs for axis in axes} - {"1"}
    whole = [axes for axes in inputs if set(axes) == every]
    return whole[0] if len(whole) == 1 else None


def _plain(axes: Sequence[str]) -> bool:
    named = [axis for axis in axes if axis != "1"]
    return len(set(named)) == len(named) and all(axis == "..." or axis.isidentifier() for axis in named)


def _opened(axes: Sequence[str], inner: Sequence[str]) -> list[str]:
    """The ellipsis as the axes that it stands for."""
    return [one for axis in axes for one in (inner if axis == "..." else (axis,))]


def _laid(operand: Any, axes: Sequence[str], wanted: Sequence[str]) -> Any:
    """The operand with its axes where the result has them, and 1 for those that it lacks."""
    if not axes:
        return operand
    if not isinstance(operand, Tensor) or operand.ndim != len(axes) or not {*axes} <= {*wanted, "1"}:
        return NotImplemented
    kept = [place for place, axis in enumerate(axes) if axis != "1"]
    for place in reversed(range(len(axes))):
        if axes[place] == "1":
            operand = operand.squeeze(place)
    named = [axes[place] for place in kept]
    operand = operand.permute([named.index(axis) for axis in wanted if axis in named])
    for place, axis in enumerate(wanted):
        if axis not in named:
            operand = operand.unsqueeze(place)
    return operand


PYTHON: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("einx", name): partial(_named, function) for name, function in _FUNCTIONS.items()
}
"""Where they stand; a trace calls these, and einx itself where they decline."""
