"""How much work the formulas of sizes in an exported program are, told from their text.

PyTorch hands them to sympy, which multiplies sums out and compares every two parts of a maximum. What a formula costs is
bounded by how many terms it has once it is multiplied out, and by how many parts its maxima have.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import reduce
from operator import mul
from typing import Any

from netferry.converters.errors import RefusedError

MOST_TERMS, MOST_PARTS, MOST_WORDS = 1_000, 12, 50_000
"""Terms of a formula that is multiplied out, parts of which the largest is taken, words of all formulas together."""

_SHOWN, _WITHOUT_BOUND = 80, 1 << 30
_SUMS, _PRODUCTS = ast.Add | ast.Sub, ast.Mult | ast.Div
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow"})
_COMPARED = frozenset({"Max", "Min", "And", "Or", "Piecewise"})


def check(texts: Iterable[str], where: str) -> None:
    """Refuse formulas that would take long to be worked out; those that cannot be read are no concern here.

    Raises:
        RefusedError: one of them, or all of them together.
    """
    words = 0
    for text in texts:
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        terms, parts, length = effort(tree)
        words += length
        if terms > MOST_TERMS or parts > MOST_PARTS or words > MOST_WORDS:
            raise RefusedError(
                "formulas of sizes that would take long to be worked out",
                where=where,
                expected=f"at most {MOST_TERMS:,} terms, {MOST_PARTS} parts of a maximum, {MOST_WORDS:,} words in all",
                received=text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...",
                remedy="Export the model with fewer free sizes",
            )


def effort(tree: ast.expr) -> tuple[int, int, int]:
    """The most terms that any part has once it is multiplied out, the most parts of a maximum, and how many words it is."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
    terms: dict[ast.AST, int] = {}
    parts: dict[ast.AST, int] = {}
    for node in reversed(nodes):  # what a node is made of comes before it
        terms[node] = min(_terms(node, terms), _WITHOUT_BOUND)
        parts[node] = _parts(node, parts)
    return max(terms.values()), max(parts.values()), len(nodes)


def _terms(node: ast.expr, terms: dict[ast.AST, int]) -> int:
    if isinstance(node, ast.BinOp):
        left, right = terms[node.left], terms[node.right]
        if isinstance(node.op, ast.Pow):
            return _power(left, node.right)
        return (
            left + right
            if isinstance(node.op, _SUMS)
            else left * right
            if isinstance(node.op, _PRODUCTS)
            else 1
        )
    if isinstance(node, ast.Call):
        given = [terms[each] for each in node.args]
        if _name(node) == "Add":
            return sum(given)
        if _name(node) == "Mul":
            return reduce(lambda a, b: min(mul(a, b), _WITHOUT_BOUND), given, 1)
        if _name(node) in _POWERS and len(node.args) == 2:
            return _power(given[0], node.args[1])
    return 1


def _power(base: int, exponent: ast.expr) -> int:
    """Terms of a power; that of a single term is one, and one that is not a whole number is not multiplied out."""
    numbers = [each.value for each in ast.walk(exponent) if isinstance(each, ast.Constant)]
    if base == 1 or len(numbers) != 1 or not isinstance(numbers[0], int):
        return base
    return int(base ** max(1, min(numbers[0], 30)))


def _parts(node: ast.expr, parts: dict[ast.AST, int]) -> int:
    """The parts of a maximum in a maximum are its own."""
    if not isinstance(node, ast.Call) or _name(node) not in _COMPARED:
        return 1
    return sum(parts.get(each, 1) for each in node.args)


def _name(node: Any) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
