"""Assertions on data: what a model's code looks at only to make sure of it.

``assert ids.max() < n``, ``if mask.any(): raise ...``, ``torch._check(...)``: their data are not known while a trace runs. A
number of data is ``Unknown`` until somebody asks for its truth, and a line that only states what the model needs is answered
as it wishes.
"""

from __future__ import annotations

import ast
import dis
import linecache
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import Any, NamedTuple

from torch import Tensor

_SAYS = frozenset(
    "warn warning warning_once warning_advice warn_once info debug print error exception".split()
)
"""Names of functions that only say something."""

_CHECKS = ("torch._check", "torch._assert", "_check", "_assert", "check_", "assert_")
"""How names of functions begin that state what the model needs."""


class Unknown:
    """A number, or a truth, that only the data decide; ``refuse`` gives the error for whoever needs to know it."""

    def __init__(self, truth: Callable[[], bool], refuse: Callable[[], Exception]) -> None:
        self._truth, self.refuse = truth, refuse

    def __bool__(self) -> bool:
        return self._truth()

    def __repr__(self) -> str:
        return "?"

    def __format__(self, _: str) -> str:
        return "?"

    def __hash__(self) -> int:
        raise self.refuse()

    def __getattr__(self, name: str) -> Any:
        raise self.refuse()


def _another(self: Unknown, *others: Any) -> Unknown:
    if any(isinstance(other, Tensor) for other in others):
        raise self.refuse()
    return Unknown(self._truth, self.refuse)


def _refused(self: Unknown, *_: Any) -> Any:
    raise self.refuse()


for _name in """add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs and rand or ror
        xor rxor invert eq ne lt le gt ge round""".split():
    setattr(Unknown, f"__{_name}__", _another)
for _name in "int float complex index len iter getitem contains ceil floor trunc call enter".split():
    setattr(Unknown, f"__{_name}__", _refused)


def wanted_truth(frame: FrameType | None) -> bool | None:
    """What a condition that ``frame`` is asking should be, where its statement only says what the model needs."""
    if frame is None:
        return None
    at = _position(frame)
    statement = None if at is None else _statement_at(frame.f_code.co_filename, at)
    if at is None or statement is None:
        return None
    root, wanted = _condition(statement)
    if root is None or wanted is None:
        return None
    inside = list(_path_to(root, at))
    if not inside and not _covers(_Place(*at), _span(root)):
        return None
    turned = sum(isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) for node in inside)
    if not inside:  # code that was made of the statement bears its place throughout
        turned = _operator(frame) == "UNARY_NOT"
    return wanted if turned % 2 == 0 else not wanted


def is_demanded(frame: FrameType | None) -> bool:
    """Whether the line that runs states what the model needs, not what it does."""
    return wanted_truth(frame) is not None


_Span = tuple[int, int, int, int]
"""First line, last line, first column, last column."""


def _position(frame: FrameType) -> _Span | None:
    """Of what the instruction that runs works on: a jump bears the place of its statement, its operand comes before."""
    spans, at, name = list(frame.f_code.co_positions()), frame.f_lasti // 2, _operator(frame)
    at -= "JUMP" in name or name in ("UNARY_NOT", "TO_BOOL")
    found = spans[at] if 0 <= at < len(spans) else (None,) * 4
    return None if any(part is None for part in found) else (found[0], found[1], found[2], found[3])  # type: ignore[return-value]


def _operator(frame: FrameType) -> str:
    """The instruction that runs."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


class _Place(NamedTuple):
    """A span, with the names that a node has for its ends."""

    lineno: int
    end_lineno: int
    col_offset: int
    end_col_offset: int


def _span(node: ast.expr) -> _Span:
    last, end = node.end_lineno or node.lineno, node.end_col_offset or node.col_offset
    return node.lineno, last, node.col_offset, end


@cache
def _tree(path: str, lines: int) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _statement_at(path: str, at: _Span) -> ast.stmt | None:
    """The innermost statement around a position."""
    tree = _tree(path, len(linecache.getlines(path)))
    body: list[ast.stmt] = [] if tree is None else tree.body
    found = None
    while True:
        inner = next((one for one in body if _covers(one, at)), None)
        if inner is None:
            return found
        found, body = inner, list(_nested(inner))


def statement_of(frame: FrameType) -> ast.stmt | None:
    """The innermost statement that ``frame`` runs, where its source can be read."""
    at = _position(frame)
    return None if at is None else _statement_at(frame.f_code.co_filename, at)


def definition_around(frame: FrameType) -> ast.FunctionDef | None:
    """The function whose code ``frame`` runs, where its source can be read."""
    path, line = frame.f_code.co_filename, frame.f_code.co_firstlineno
    tree = _tree(path, len(linecache.getlines(path)))
    nodes = () if tree is None else ast.walk(tree)
    named = (one for one in nodes if isinstance(one, ast.FunctionDef) and one.name == frame.f_code.co_name)
    return next(
        (one for one in named if line in (one.lineno, *(at.lineno for at in one.decorator_list[:1]))), None
    )


def _nested(statement: ast.stmt) -> Iterator[ast.stmt]:
    for part in ast.iter_child_nodes(statement):
        if isinstance(part, ast.stmt):
            yield part
        elif isinstance(part, ast.ExceptHandler | ast.match_case):
            yield from part.body


def _covers(node: Any, at: _Span) -> bool:
    first, last = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
    return first <= (at[0], at[2]) and (at[1], at[3]) <= last


def _condition(statement: ast.stmt) -> tuple[ast.expr | None, bool | None]:
    """What a statement asks for and how it must be answered for the model to go on; nothing where it asks nothing."""
    if isinstance(statement, ast.Assert):
        return statement.test, True
    if isinstance(statement, ast.If) and all(map(_only_says, statement.body)):
        return statement.test, False
    call = statement.value if isinstance(statement, ast.Expr) else None
    if isinstance(call, ast.Call) and call.args and ast.unparse(call.func).startswith(_CHECKS):
        return call, True
    return None, None


def _only_says(statement: ast.stmt) -> bool:
    """Whether a statement raises or tells something, and does nothing."""
    if isinstance(statement, ast.Raise | ast.Pass | ast.Import | ast.ImportFrom):
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(call, ast.Call):
        return False
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in _SAYS


def _path_to(root: ast.AST, at: _Span) -> Iterator[ast.AST]:
    """The nodes from ``root`` down to the smallest that holds a position."""
    node: ast.AST | None = root if _covers(root, at) else None
    while node is not None:
        yield node
        node = next(
            (
                child
                for child in ast.iter_child_nodes(node)
                if hasattr(child, "lineno") and _covers(child, at)
            ),
            None,
        )
