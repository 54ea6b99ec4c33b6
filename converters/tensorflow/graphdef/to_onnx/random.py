"""Random numbers, which no model that is compared may draw: where only their bounds count, they are none.

A dropout of TensorFlow 1 whose ``keep_prob`` is 1 draws, and keeps all: ``floor(uniform + 1)`` is 1, and ``uniform >= 0`` is true.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.tensorflow.graphdef.graph import Node
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import Attrs
from netferry.converters.tensorflow.graphdef.to_onnx.walk import DRAWS, STRUCTURES, Drawn, Walk


@dataclass(frozen=True)
class Bounds(Drawn):
    """Numbers of a dtype that are drawn from ``low`` on and below ``high``."""

    low: float
    high: float
    dtype: np.dtype[Any]


@STRUCTURES.row("RandomUniform", "StatelessRandomUniform", "StatelessRandomUniformV2")
def uniform(walk: Walk, node: Node, _: Sequence[Any]) -> list[Any]:
    return [Bounds(0.0, 1.0, Attrs(node.attributes, walk.model.label).dtype("dtype", np.float32))]


@STRUCTURES.row("drawn")
def computed(walk: Walk, node: Node, read: Sequence[Any]) -> Sequence[Any]:
    """An operator of which one input is drawn."""
    row = _ROWS.get(node.operator)
    operands = [x if isinstance(x, Bounds) else _number(walk, x) for x in read]
    found = None if row is None or None in operands else row(*operands)
    if found is None:
        raise CannotConvert(*DRAWS)
    return [found if isinstance(found, Bounds) else walk.g.constant(found)]


def _number(walk: Walk, value: Any) -> float | None:
    """A known number that is the same for all places."""
    x = walk.tensor(value)
    content = None if x is None else walk.g.content(x)
    if content is None or content.dtype == object or content.size != 1:
        return None
    return float(content.reshape(-1)[0])


Operand = Bounds | float
Known = Bounds | np.ndarray[Any, Any] | None


def _moved(x: Operand, y: Operand) -> Known:
    drawn, by = (x, y) if isinstance(x, Bounds) else (y, x)
    if not isinstance(drawn, Bounds) or isinstance(by, Bounds):
        return None
    return Bounds(drawn.low + by, drawn.high + by, drawn.dtype)


def _scaled(x: Operand, y: Operand) -> Known:
    drawn, by = (x, y) if isinstance(x, Bounds) else (y, x)
    if not isinstance(drawn, Bounds) or isinstance(by, Bounds) or by <= 0:
        return None
    return Bounds(drawn.low * by, drawn.high * by, drawn.dtype)


def _floored(x: Operand) -> Known:
    """The whole number below, where that is one for all that can be drawn."""
    assert isinstance(x, Bounds)
    below = math.floor(x.low)
    return np.asarray(below, x.dtype) if x.high <= below + 1 else None


def _at_least(x: Operand, y: Operand) -> Known:
    """``x >= y``, where the bounds alone decide it."""
    if isinstance(x, Bounds) and not isinstance(y, Bounds):
        return np.asarray(True) if y <= x.low else np.asarray(False) if y >= x.high else None
    if isinstance(y, Bounds) and not isinstance(x, Bounds):
        return np.asarray(True) if x >= y.high else np.asarray(False) if x < y.low else None
    return None


def _not(found: Known) -> Known:
    return None if found is None or isinstance(found, Bounds) else np.logical_not(found)


_ROWS: Mapping[str, Callable[..., Known]] = {
    "Add": _moved,
    "AddV2": _moved,
    "Sub": lambda x, y: _moved(x, -y) if isinstance(x, Bounds) and not isinstance(y, Bounds) else None,
    "Mul": _scaled,
    "Floor": _floored,
    "GreaterEqual": _at_least,
    "LessEqual": lambda x, y: _at_least(y, x),
    "Less": lambda x, y: _not(_at_least(x, y)),
    "Greater": lambda x, y: _not(_at_least(y, x)),
}
