"""A model as the steps that it runs: what each of them reads and gives, in the order of execution.

Every framework's ``intermediate.py`` hands the tensors of a running model to a ``Take``, one step at a time; none of
them is held longer than the model itself needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from netferry.converters.signature import Array


@dataclass(frozen=True)
class Step:
    """One node or layer as it ran.

    ``reads`` and ``gives`` are names of tensors; what does not depend on the inputs is none of them. ``weights`` are
    the parameters that it used, ``line`` is its line of source code or its written form, where there is one,
    ``attributes`` what else says how it computes, as text.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    weights: tuple[str, ...] = ()
    line: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


def stated(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Those of a step's attributes that are numbers, words, or lists of them, as text; ``None`` says nothing."""
    said = ((name, _text(value)) for name, value in values.items())
    return tuple((name, text) for name, text in said if text)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str | int):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(one, str | bytes | int | float) for one in value):
        return ", ".join(map(_text, value))
    return ""


Take = Callable[[Step, Mapping[str, Array]], None]
"""Gets a step and the tensors that it gave, by name: views that are good during the call alone."""


@dataclass(frozen=True)
class Ends:
    """The names of a run's tensors at both ends: of the inputs in order, and of each output."""

    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
