"""What expressions of sizes are at given sizes, by Python's own arithmetic: sympy takes a thousand times as long."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction
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


def equal_sizes(left: Any, right: Any) -> bool:
    """Whether two expressions are one at all sizes that are tried at which they are sizes: numbers from 1."""
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    checked = 0
    for choice in itertools.product(CHOICES.get(len(symbols), ()), repeat=len(symbols)):
        at = dict(zip(symbols, choice, strict=True))
        one, other = value(left, at), value(right, at)
        if one is None or other is None or min(one, other) < 1:
            continue
        if one != other:
            return False
        checked += 1
    return checked >= len(FEW)


def value(expression: Any, sizes: Mapping[Any, int]) -> Any:
    """The number or the truth at ``sizes``, which are by symbol; None where that is nothing, as a remainder of zero is."""
    try:
        found = _value(expression, sizes, {})
    except (ZeroDivisionError, KeyError, OverflowError, ValueError):
        return None
    return int(found) if isinstance(found, Fraction) and found.denominator == 1 else found


def _value(item: Any, sizes: Mapping[Any, int], known: dict[Any, Any]) -> Any:
    if item in known:
        return known[item]
    if item.is_Symbol:
        return sizes[item]
    if isinstance(item, BooleanAtom):
        return bool(item)
    if item.is_Integer:
        return int(item)
    if item.is_Rational:
        return Fraction(int(item.p), int(item.q))
    rule = _RULES.get(type(item))
    if rule is not None:
        found = rule(*(_value(part, sizes, known) for part in item.args))
    else:
        made = item.xreplace({symbol: sympy.Integer(size) for symbol, size in sizes.items()})
        if not made.is_number and not isinstance(made, BooleanAtom):
            raise ValueError(str(item))
        found = bool(made) if isinstance(made, BooleanAtom) else float(made)
    known[item] = found
    return found
