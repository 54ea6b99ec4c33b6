"""What a look inside two models found: their steps, the errors of their tensors, where a difference begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netferry.converters.steps import Ends, Step

BEYOND = 1e-4
"""Of a tensor's scale: what rounding in float32 does not do to a layer."""

Layers = tuple[tuple[str, float | None], ...]
"""Tensors of the source in order of execution, each with its largest error relative to its own scale; None for one that
has no counterpart."""


@dataclass(frozen=True)
class Value:
    """One element of a tensor: where it stands in the source's, and what both sides have there."""

    place: tuple[int, ...]
    source: float
    target: float


@dataclass(frozen=True)
class FirstDifference:
    """The first tensor that is further off than ``BEYOND``: what gives it on either side, and its worst values."""

    tensor: str
    other: str
    error: float
    how: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Side:
    """What one model ran: its steps, and the sizes and dtype of each tensor that was looked at."""

    steps: tuple[Step, ...]
    sizes: Mapping[str, str]
    ends: Ends


@dataclass(frozen=True)
class Inside:
    """Both models from within: ``layers`` are the errors of the source's floats, ``counterparts`` the target's tensors that are the
    source's."""

    layers: Layers = ()
    sides: tuple[Side, ...] = ()
    counterparts: Mapping[str, str] = field(default_factory=dict)
    first: FirstDifference | None = None
