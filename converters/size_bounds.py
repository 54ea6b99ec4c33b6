"""Bounds on free sizes within which a model is what it was made of: kept in the model's file, asked when sizes are chosen."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

KEY = "netferry.bounds"
"""The entry of an ONNX model's metadata: a JSON list of conditions, each an expression over the names of free axes."""

_OPERATORS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv, ast.Mod: operator.mod, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip

_LONGEST = 2_000


def to_metadata(conditions: Iterable[str]) -> dict[str, str]:
    """What a model's metadata say of its bounds; nothing where there are none."""
    said = list(dict.fromkeys(conditions))
    return {KEY: json.dumps(said)} if said else {}


def of_metadata(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The conditions that a model's metadata hold; none where they are not written as netferry writes them."""
    try:
        said = json.loads(metadata.get(KEY, "[]"))
    except ValueError:
        return ()
    return (
        tuple(one for one in said if isinstance(one, str) and len(one) < _LONGEST)
        if isinstance(said, list)
        else ()
    )


def hold(conditions: Iterable[str], sizes: Mapping[str, int]) -> bool:
    """Whether sizes are within all bounds; a condition over other names, or that is none, says nothing of them."""
    return all(value(condition, sizes) is not False for condition in conditions)


def value(expression: str, sizes: Mapping[str, int]) -> Any:
    """The number or the truth of an expression over sizes; None where it is no such expression.

    >>> value("past + length", {"past": 5, "length": 3})
    8
    """
    try:
        return _value(ast.parse(expression, mode="eval").body, sizes)
    except (SyntaxError, KeyError, TypeError, ZeroDivisionError, RecursionError, ValueError, MemoryError):
        return None


def size_of(symbol: str, sizes: Mapping[str, Any]) -> Any:
    """The size that a free axis has: that of its name, or what its name says as an expression over others (``past + length``);
    None where it is neither."""
    return sizes[symbol] if symbol in sizes else value(symbol, sizes)


def is_composed(symbol: str, symbols: Iterable[str]) -> bool:
    """Whether a free axis is named by an expression over the other names."""
    others = dict.fromkeys(set(symbols) - {symbol}, 1)
    return not symbol.isidentifier() and value(symbol, others) is not None


def _value(node: ast.AST, sizes: Mapping[str, int]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, sizes)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, sizes), _value(node.right, sizes))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _OPERATORS[type(node.ops[0])](_value(node.left, sizes), _value(node.comparators[0], sizes))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
        return (min if node.func.id == "min" else max)(_value(arg, sizes) for arg in node.args)
    raise ValueError(type(node).__name__)
