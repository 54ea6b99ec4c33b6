"""The table itself, and what its rows share.

A row has the operator's own signature: inputs positional, attributes keyword-only under the schema's names, of which it
names those that it uses; their defaults are the schema's (``schema/attributes.py``). ``xp`` is the namespace; inputs are
symbols, those listed in ``constants.SIZES`` tuples of int and ``Size``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.attributes import Operators
from netferry.converters.signature import Array

Row = Callable[..., Any]
Function = TypeVar("Function", bound=Row)
Sizes = tuple[Any, ...]

OPS = Operators("operators")

INT64, INT32, FLOAT32, FLOAT64, BOOL = (np.dtype(name) for name in "int64 int32 float32 float64 bool".split())


def op(function: Function) -> Function:
    """Register a row under its own name."""
    return OPS.row(function.__name__)(function)


def dtype_of(number: int) -> np.dtype[Any]:
    """The dtype of an attribute such as Cast's ``to``."""
    return ir.DataType(number).numpy()


def along(axis: int, rank: int) -> int:
    """An axis counted from 0; one that is not there is refused."""
    if not -rank <= axis < max(rank, 1):
        raise CannotConvert(f"axis {axis} is not an axis of an input of rank {rank}")
    return axis + rank if axis < 0 else axis


def all_along(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(along(axis, rank) for axis in axes)


def others(rank: int, *axes: int) -> tuple[int, ...]:
    """Every axis but these."""
    return tuple(axis for axis in range(rank) if axis not in axes)


def ints(sizes: Sequence[Any], what: str) -> tuple[int, ...]:
    """Sizes that must be known before the model runs."""
    if not known(sizes):
        raise CannotConvert(f"its {what} are known only when the model runs")
    return tuple(int(size) for size in sizes)


def content(x: Symbol, what: str) -> Array:
    """The value of an input that must be a constant."""
    if x.content is None:
        raise CannotConvert(f"its {what} is known only when the model runs")
    return x.content


def choice(value: Any, allowed: Sequence[Any], what: str) -> Any:
    """An attribute that must be one of these."""
    if value not in allowed:
        raise CannotConvert(f"{what} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
    return value


def per_channel(xp: Any, x: Symbol, rank: int, axis: int = 1) -> Any:
    """A vector as something that broadcasts along one axis of a tensor of this rank."""
    return xp.reshape(x, tuple(-1 if position == axis else 1 for position in range(rank)))


def as_dtype(xp: Any, x: Any, dtype: np.dtype[Any]) -> Any:
    """``x`` cast, where it is not of this dtype already."""
    return x if x.dtype == dtype else xp.astype(x, dtype)


def shaped(made: Symbol, sizes: Sizes) -> Symbol:
    """What a row has made, with the sizes that it knows it to have, for a row that asks for them."""
    known_now = copy(made)
    known_now.fact = replace(made.fact, dims=tuple(sizes))
    return known_now
