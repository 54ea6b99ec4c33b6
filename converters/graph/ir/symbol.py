"""A value of the program that a walk is writing."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.signature import Array


class Symbol:
    """An expression in the target's words, with what is known of its value.

    Inputs of an operator know their dtype and sizes; what an operator makes on its way to its result knows
    its dtype, and its sizes only where the namespace says them. A constant has ``content`` and gets its
    expression when it is first used as a tensor, so that a layer that takes its content as a weight
    leaves nothing else behind.
    """

    __slots__ = ("_expr", "fact", "xp")

    def __init__(self, xp: Any, fact: Fact, expr: Any = None) -> None:
        budget.write(1)
        self.xp = xp
        self.fact = fact
        self._expr = expr

    @property
    def expr(self) -> Any:
        if self._expr is None:
            self._expr = self.xp.materialize(self.fact)
        return self._expr

    @property
    def dtype(self) -> np.dtype[Any]:
        if self.fact.dtype is None:
            raise CannotConvert("its input is not a tensor")
        return self.fact.dtype

    @property
    def shape(self) -> tuple[int | Size, ...]:
        if self.fact.dims is None:
            raise CannotConvert("the rank of its input is not known")
        return self.fact.dims

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def content(self) -> Array | None:
        """The value of a constant; None where it is known only when the model runs."""
        return self.fact.constant

    def size(self, axis: int) -> int:
        """The size of one axis, which must be a plain number."""
        size = self.shape[axis]
        if isinstance(size, Size):
            raise CannotConvert(f"the size of axis {axis} of its input is not known before it runs")
        return size

    # Operators mean what the array API says: ``/`` divides, ``//`` floors, ``%`` has the divisor's sign.

    def __add__(self, other: Any) -> Any:
        return self.xp.add(self, other)

    def __radd__(self, other: Any) -> Any:
        return self.xp.add(other, self)

    def __sub__(self, other: Any) -> Any:
        return self.xp.subtract(self, other)

    def __rsub__(self, other: Any) -> Any:
        return self.xp.subtract(other, self)

    def __mul__(self, other: Any) -> Any:
        return self.xp.multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        return self.xp.multiply(other, self)

    def __truediv__(self, other: Any) -> Any:
        return self.xp.divide(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self.xp.divide(other, self)

    def __pow__(self, other: Any) -> Any:
        return self.xp.pow(self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.xp.pow(other, self)

    def __matmul__(self, other: Any) -> Any:
        return self.xp.matmul(self, other)

    def __neg__(self) -> Any:
        return self.xp.negative(self)

    def __lt__(self, other: Any) -> Any:
        return self.xp.less(self, other)

    def __le__(self, other: Any) -> Any:
        return self.xp.less_equal(self, other)

    def __gt__(self, other: Any) -> Any:
        return self.xp.greater(self, other)

    def __ge__(self, other: Any) -> Any:
        return self.xp.greater_equal(self, other)

    def __and__(self, other: Any) -> Any:
        return self.xp.logical_and(self, other)

    def __or__(self, other: Any) -> Any:
        return self.xp.logical_or(self, other)

    def __invert__(self) -> Any:
        return self.xp.logical_not(self)

    def __bool__(self) -> bool:
        raise TypeError("a symbol has no truth value: use xp.where")

    def __iter__(self) -> Any:
        raise TypeError("a symbol cannot be iterated: use xp.unstack or xp.split")
