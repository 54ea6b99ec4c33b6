"""Conditions on sizes: what they leave open, where they hold, and how they are said."""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Any

import sympy
from sympy.logic.boolalg import BooleanAtom
from torch.utils._sympy import functions as symbolic

from netferry.converters.pytorch.to_onnx.tracer.values import MANY, points, several, taken_apart, value

_ROUNDED = (
    symbolic.FloorDiv,
    symbolic.Mod,
    symbolic.PythonMod,
    symbolic.CeilToInt,
    symbolic.FloorToInt,
    symbolic.TruncToInt,
)


_FAR = 1 << 20


@lru_cache(1 << 12)
def rounds(expression: sympy.Expr) -> int:
    """How often an expression rounds, or takes what is left of a division."""
    return sum(isinstance(part, _ROUNDED) for part in sympy.preorder_traversal(expression))


def is_equality(expr: sympy.Basic, answer: sympy.Basic) -> bool:
    """Whether the answer means that two sizes are equal; a number asked for as such is one too."""
    if not isinstance(answer, BooleanAtom):
        return True
    return bool(answer) if isinstance(expr, sympy.Eq) else isinstance(expr, sympy.Ne) and not answer


def is_one_by_chance(condition: Any, defined: Container[Any]) -> bool:
    """Whether a kernel asks if a size that rounds is 1: it may be at some sizes, and is another one at most.

    What is ``defined`` are symbols for sizes that round.
    """
    return isinstance(condition, sympy.Eq | sympy.Ne) and any(
        one == 1 and (rounds(other) > 0 or any(symbol in defined for symbol in other.free_symbols))
        for one, other in (condition.args, condition.args[::-1])
    )


def are_alike_by_a_one(condition: Any, sizes: Mapping[Any, int]) -> bool:
    """Whether two products of sizes, as strides are, are equal at some sizes for a factor alone that is 1 there."""
    if not isinstance(condition, sympy.Eq | sympy.Ne) or not any(side.is_Mul for side in condition.args):
        return False

    def without_ones(side: Any) -> Any:
        factors = side.args if side.is_Mul else (side,)
        return sympy.Mul(*(_FAR if not one.is_number and value(one, sizes) == 1 else one for one in factors))

    left, right = map(without_ones, condition.args)
    return (left, right) != condition.args and value(sympy.Eq(left, right), sizes) is False


def fixes_one(condition: Any, a_number: bool = False) -> bool:
    """Whether a condition leaves a single size: ``n == 4``, but not ``n == m`` or ``n % 2 == 0`` or ``n < 9``; with it
    ``n * m == 8``, where the code has asked for that number."""
    if not isinstance(condition, sympy.Eq):
        return False
    left, right = condition.args
    moving = left if right.is_number else right if left.is_number else left - right
    if len(condition.free_symbols) != 1:
        return a_number and not moving.has(symbolic.FloorDiv, symbolic.Mod, symbolic.PythonMod)
    symbol = next(iter(condition.free_symbols))
    return bool(moving.is_polynomial(symbol)) or not several(taken_apart(condition), points([symbol], {}))


def broken(condition: Any, sizes: Mapping[str, int]) -> bool:
    """Whether a bound does not hold at some sizes."""
    return value(condition, {symbol: sizes.get(str(symbol), 3) for symbol in condition.free_symbols}) is False


def without(condition: Any, hints: Mapping[str, int]) -> tuple[dict[str, int], ...]:
    """Sizes that do not fulfil a condition: all where they are few, else some near those that the trace has."""
    symbols = sorted(condition.free_symbols, key=str)
    usual = {symbol: hints.get(str(symbol), 3) for symbol in symbols}

    def fails(sizes: Mapping[Any, int]) -> bool:
        return value(condition, sizes) is False

    found = []
    for symbol in symbols:
        near = sorted(range(1, 4 * usual[symbol] + 1), key=lambda size: abs(size - usual[symbol]))
        failing = [size for size in near if fails({**usual, symbol: size})]
        found += [{str(symbol): size} for size in (failing if len(failing) <= 4 else failing[:3])]
    return tuple(found)


def beyond(condition: Any, hints: Mapping[str, int]) -> tuple[dict[str, int], ...]:
    """Sizes farther off that do not fulfil a condition, for models that run at multiples alone."""
    usual = {symbol: hints.get(str(symbol), 3) for symbol in sorted(condition.free_symbols, key=str)}
    found = [
        {str(symbol): size}
        for symbol, own in usual.items()
        for size in (own + 32, 2 * own, own - 32)
        if size > 0 and value(condition, {**usual, symbol: size}) is False
    ]
    return tuple(found)


def is_a_need(equality: sympy.Eq) -> bool:
    """Whether kernels need it of their inputs: two sizes are one, or one divides; the rest is about strides."""
    left, right = equality.args
    divides = isinstance(left, symbolic.Mod | symbolic.PythonMod) and left.args[1].is_number and right == 0
    return bool(divides or (left.is_Symbol and right.is_Symbol))


_RELATIONS: Mapping[type[sympy.Basic], str] = {
    sympy.Eq: "is",
    sympy.Ne: "is not",
    sympy.Lt: "is below",
    sympy.Le: "is at most",
    sympy.Gt: "is above",
    sympy.Ge: "is at least",
}


_LONGEST = 160


def words(condition: Any) -> str:
    """A relation as a sentence, the size first: ``batch is above 1``."""
    said = _said(condition)
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} ... {said[-_LONGEST // 4 :]}"


def _said(condition: Any) -> str:
    if type(condition) not in _RELATIONS:
        return str(condition)
    if condition.lhs.is_number:
        condition = condition.reversed
    return f"{condition.lhs} {_RELATIONS[type(condition)]} {condition.rhs}"


def simplest(condition: Any) -> Any:
    """A bound on one size as a plain one (``n <= 64``), where it changes at one size only."""
    symbols = condition.free_symbols
    plain = any(side.is_Symbol for side in condition.args) and any(side.is_number for side in condition.args)
    if plain or len(symbols) != 1 or isinstance(condition, sympy.Eq):
        return condition
    (symbol,) = symbols

    def holds(size: int) -> bool:
        return bool(value(condition, {symbol: size}))

    low, high, first = 1, _FAR, holds(1)
    if first == holds(_FAR):
        return condition
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) == first else (low, middle)
    plain = sympy.Le(symbol, low) if first else sympy.Ge(symbol, high)
    alike = all(holds(size) == bool(plain.xreplace({symbol: sympy.Integer(size)})) for size in MANY)
    return plain if alike else condition


_SIGNS: Mapping[Any, str] = {
    sympy.Eq: "==", sympy.Ne: "!=", sympy.Lt: "<", sympy.Le: "<=", sympy.Gt: ">", sympy.Ge: ">=", sympy.Add: "+",
    sympy.Mul: "*", symbolic.FloorDiv: "//", symbolic.CleanDiv: "//", symbolic.Mod: "%", symbolic.PythonMod: "%",
    symbolic.IntTrueDiv: "/", symbolic.FloatTrueDiv: "/",
}  # fmt: skip


def as_text(condition: Any) -> str | None:
    """A condition as an expression of Python over the names of sizes; None where it holds what has no sign there."""
    if condition.is_Symbol:
        return str(condition) if str(condition).isidentifier() else None
    if condition.is_Integer or condition.is_Float:
        return str(condition)
    if condition.is_Rational:
        return f"({condition.p} / {condition.q})"
    parts = [as_text(part) for part in condition.args]
    if any(part is None for part in parts):
        return None
    said = [str(part) for part in parts]
    if isinstance(condition, sympy.Max | sympy.Min | symbolic.Max | symbolic.Min):
        return f"{'max' if isinstance(condition, sympy.Max | symbolic.Max) else 'min'}({', '.join(said)})"
    if isinstance(condition, symbolic.ToFloat | symbolic.TruncToInt | symbolic.FloorToInt):
        return said[0] if isinstance(condition, symbolic.ToFloat) else f"({said[0]} // 1)"
    sign = next((sign for kind, sign in _SIGNS.items() if isinstance(condition, kind)), None)
    return None if sign is None else f"({f' {sign} '.join(said)})"
