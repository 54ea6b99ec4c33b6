"""What expressions of sizes are at given sizes, by Python's own arithmetic: sympy takes a thousand times as long."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import sympy
from sympy.logic.boolalg import BooleanAtom
from torch.utils._sympy import functions as symbolic


def _sum(*parts: Any) -> Any:
    return sum(parts)


def _product(*parts: Any) -> Any:
    return math.prod(parts)


_RULES: Mapping[Any, Callable[..., Any]] = {
    sympy.Add: _sum, sympy.Mul: _product, sympy.Pow: operator.pow, sympy.Max: max, sympy.Min: min,
    symbolic.Max: max, symbolic.Min: min, symbolic.FloorDiv: operator.floordiv, symbolic.CleanDiv: operator.floordiv,
    symbolic.Mod: operator.mod, symbolic.PythonMod: operator.mod, symbolic.IntTrueDiv: operator.truediv,
    symbolic.FloatTrueDiv: operator.truediv, symbolic.FloatPow: operator.pow, symbolic.PowByNatural: operator.pow,
    symbolic.ToFloat: float, symbolic.TruncToInt: math.trunc, symbolic.FloorToInt: math.floor,
    symbolic.CeilToInt: math.ceil, symbolic.RoundToInt: round, symbolic.OpaqueUnaryFn_sqrt: math.sqrt,
    symbolic.OpaqueUnaryFn_log2: math.log2, sympy.Eq: operator.eq, sympy.Ne: operator.ne, sympy.Lt: operator.lt,
    sympy.Le: operator.le, sympy.Gt: operator.gt, sympy.Ge: operator.ge, sympy.And: lambda *parts: all(parts),
    sympy.Or: lambda *parts: any(parts), sympy.Not: operator.not_,
}  # fmt: skip


MANY = (*range(1, 65), 96, 97, 128, 255, 1000, 4097, 65536, 1_000_007)
"""Sizes at which a condition is asked that arithmetic does not decide."""
SOME, FEW = (1, 2, 3, 4, 5, 7, 8, 12, 13, 31, 64, 1000, 4097), (1, 2, 3, 5, 8, 13, 64)
CHOICES: Mapping[int, tuple[int, ...]] = {1: MANY, 2: SOME, 3: FEW}
"""The sizes of which all combinations are tried, by how many symbols there are."""


_NOTHING = (ZeroDivisionError, KeyError, OverflowError, ValueError)
"""What is raised where an expression is nothing."""


@dataclass(frozen=True)
class Program:
    """An expression taken apart once, to be asked at many sizes: constants, the places of its symbols, and steps over places."""

    constants: tuple[Any, ...]
    places: Mapping[Any, int]
    steps: tuple[tuple[Callable[..., Any], tuple[int, ...]], ...]
    result: int

    def __call__(self, sizes: Mapping[Any, int]) -> Any:
        """The number or the truth at ``sizes``, which are by symbol; None where that is nothing, as a remainder of zero is."""
        found = list(self.constants)
        try:
            for symbol, place in self.places.items():
                found[place] = sizes[symbol]
            for rule, parts in self.steps:
                found.append(rule(*[found[part] for part in parts]))
        except _NOTHING:
            return None
        number = found[self.result]
        return int(number) if isinstance(number, Fraction) and number.denominator == 1 else number


@lru_cache(1 << 12)
def taken_apart(expression: Any) -> Program:
    """The program of an expression."""
    constants: list[Any] = []
    places: dict[Any, int] = {}
    steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
    known: dict[Any, Any] = {}  # an item: its place among constants, or (its step,)

    def place(item: Any) -> Any:
        if item in known:
            return known[item]
        if item.is_Symbol:
            found: Any = len(constants)
            places[item] = found
            constants.append(None)
        elif (constant := _constant(item)) is not None:
            found = len(constants)
            constants.append(constant)
        else:
            parts = tuple(map(place, item.args))
            steps.append((_RULES.get(type(item)) or partial(_by_sympy, item.func), parts))
            found = (len(steps) - 1,)
        known[item] = found
        return found

    def number(found: Any) -> int:
        return len(constants) + found[0] if isinstance(found, tuple) else int(found)

    result = place(expression)
    numbered = tuple((rule, tuple(map(number, parts))) for rule, parts in steps)
    return Program(tuple(constants), places, numbered, number(result))


def _constant(item: Any) -> Any:
    if isinstance(item, BooleanAtom):
        return bool(item)
    if item.is_Integer:
        return int(item)
    if item.is_Rational:
        return Fraction(int(item.p), int(item.q))
    return float(item) if not item.args else None


def _by_sympy(kind: Any, *parts: Any) -> Any:
    made = kind(*map(sympy.sympify, parts))
    if not made.is_number and not isinstance(made, BooleanAtom):
        raise ValueError(str(made))
    return bool(made) if isinstance(made, BooleanAtom) else float(made)


def value(expression: Any, sizes: Mapping[Any, int]) -> Any:
    """The number or the truth at ``sizes``, which are by symbol; None where that is nothing, as a remainder of zero is."""
    return taken_apart(expression)(sizes)


class At(dict[Any, Any]):
    """Sizes by symbol; those that are ``defined`` by others are worked out once, where they are asked for."""

    def __init__(self, defined: Mapping[Any, Any], sizes: Mapping[Any, int] | None = None) -> None:
        super().__init__(sizes or {})
        self._defined = defined

    def __missing__(self, symbol: Any) -> Any:
        found = value(self._defined[symbol], self)
        if found is None:
            raise KeyError(symbol)
        self[symbol] = found
        return found


def points(symbols: Iterable[Any], defined: Mapping[Any, Any]) -> list[At]:
    """The combinations of sizes that are tried; none of more symbols than three."""
    ordered = sorted(symbols, key=str)
    choices = itertools.product(CHOICES.get(len(ordered), ()), repeat=len(ordered))
    return [At(defined, dict(zip(ordered, choice, strict=True))) for choice in choices]


def equal_sizes(left: Program, right: Program, at: Iterable[At]) -> bool:
    """Whether two expressions are one at all points at which they are sizes: numbers from 1."""
    checked = 0
    for point in at:
        one, other = left(point), right(point)
        if one is None or other is None or min(one, other) < 1:
            continue
        if one != other:
            return False
        checked += 1
    return checked >= len(FEW)


def always(program: Program, at: Iterable[At]) -> Any:
    """What an expression is at all points; None where it depends on them."""
    first: Any = None
    for point in at:
        found = program(point)
        if found is None:  # what is nothing there occurs nowhere
            continue
        if first is not None and found != first:
            return None
        first = found
    return first


def several(condition: Program, at: Iterable[At]) -> bool:
    """Whether a condition holds at more than one point."""
    return len(list(itertools.islice(filter(condition, at), 2))) > 1
