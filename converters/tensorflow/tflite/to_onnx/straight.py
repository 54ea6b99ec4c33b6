"""Operators of TFLite that are one of TensorFlow's, with the same inputs in the same order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.tflite.graph import MOVING, OPERATORS, Writer
from netferry.converters.tensorflow.tflite.model import Operation

Attributes = Callable[[Writer, Operation], Mapping[str, Any]]


def straight(
    table: Mapping[str, str], attributes: Attributes | None = None, *, moving: bool = False, outputs: int = 1
) -> None:
    """Register rows: TFLite's names -> TensorFlow's."""
    for name, operator in table.items():
        OPERATORS.row(name)(_row(operator, attributes, outputs))
        if moving:
            MOVING.add(name)


def _row(operator: str, attributes: Attributes | None, outputs: int) -> Any:
    def row(w: Writer, op: Operation) -> Ref | Sequence[Ref]:
        y = w.node(operator, *w.all(op), **(attributes(w, op) if attributes is not None else {}))
        return y if outputs == 1 else w.outputs(y, outputs)

    return row


def moving(*names: str) -> Callable[[Any], Any]:
    """Register a row of operators that move numbers and compute none."""
    MOVING.update(names)
    return OPERATORS.row(*names)


def flags(**names: str) -> Attributes:
    """Options that are true or false, by the names that TensorFlow has for them."""
    return lambda _, op: {ours: bool(op.option(theirs)) for ours, theirs in names.items()}


def numbers(**names: str) -> Attributes:
    """Options that are whole numbers."""
    return lambda _, op: {ours: int(op.option(theirs)) for ours, theirs in names.items()}


def dtype_of_result(name: str, position: int = 0) -> Attributes:
    """The dtype of an output, as an attribute."""
    return lambda w, op: {name: w.out(op, position).dtype or np.dtype(np.int32)}
