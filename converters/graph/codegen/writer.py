"""The source writer for targets whose models are Python: it writes the body of a function, statement by statement.

An operator's row builds an expression tree; binding it to the node's output writes one line. Expressions
are Python's own ``ast``, printed by ``ast.unparse``: every identifier is made here and every literal
is a ``repr``, so nothing that a file says can become code.
"""

from __future__ import annotations

import ast
import math
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.namespace import Namespace
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.facts import Fact, Home, Plan
from netferry.converters.graph.ir.names import identifier
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol

_SIGNS: Mapping[str, type[ast.operator]] = {
    "+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv, "%": ast.Mod, "**": ast.Pow,
    "@": ast.MatMult, "&": ast.BitAnd, "|": ast.BitOr, "^": ast.BitXor, "<<": ast.LShift, ">>": ast.RShift,
}  # fmt: skip
_COMPARISONS: Mapping[str, type[ast.cmpop]] = {
    "==": ast.Eq, "!=": ast.NotEq, "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE,
}  # fmt: skip
_UNARY: Mapping[str, type[ast.unaryop]] = {"-": ast.USub, "~": ast.Invert, "not": ast.Not}


def dotted(path: str) -> ast.expr:
    """``torch.nn.functional`` as an expression."""
    first, *rest = path.split(".")
    node: ast.expr = ast.Name(first, ast.Load())
    for word in rest:
        node = ast.Attribute(node, word, ast.Load())
    return node


class SourceWriter(Namespace):
    """A namespace that writes Python; PyTorch and Keras say what the words are called there."""

    def __init__(self, plan: Plan, *, reserved: Sequence[str] = ()) -> None:
        self.plan = plan
        self.integers = plan.integers
        self.taken: set[str] = {*reserved}
        self.statements: list[ast.stmt] = []
        self.size_names: dict[str, str] = {}
        self._homes: dict[ir.Value, list[tuple[str, Home]]] = {}
        for name, home in plan.homes.items():
            self._homes.setdefault(home.value, []).append((name, home))

    # ---- what a target says ---------------------------------------------------------------------

    def dtype_expr(self, dtype: np.dtype[Any]) -> ast.expr:
        """``torch.float32``, ``"float32"``."""
        raise NotImplementedError

    def size_of(self, x: Symbol, axis: int) -> ast.expr:
        """The expression of one size when the model runs: ``x.shape[0]``."""
        raise NotImplementedError

    def element_of(self, x: Symbol, index: int) -> ast.expr:
        """The expression of one element of an integer tensor, as a number."""
        raise NotImplementedError

    # ---- expressions --------------------------------------------------------------------------------

    def made(self, expr: ast.expr, *like: Any, dtype: Any = None, dims: Any = None) -> Symbol:
        """A symbol of the dtype of the first symbol among ``like``, unless ``dtype`` is given."""
        if dtype is None:
            dtype = next((x.fact.dtype for x in like if isinstance(x, Symbol)), None)
        return Symbol(self, Fact(dtype, dims), expr)

    def call(self, function: str, *args: Any, dtype: Any = None, dims: Any = None, **kwargs: Any) -> Symbol:
        """``torch.add(x, y, alpha=2)``; arguments that are None are left out."""
        return self.made(
            self.call_expr(dotted(function), *args, **kwargs), *flat(args), dtype=dtype, dims=dims
        )

    def method(
        self, x: Symbol, name: str, *args: Any, dtype: Any = None, dims: Any = None, **kwargs: Any
    ) -> Symbol:
        """``x.reshape(2, 3)``"""
        function = ast.Attribute(x.expr, name, ast.Load())
        return self.made(self.call_expr(function, *args, **kwargs), x, dtype=dtype, dims=dims)

    def call_expr(self, function: ast.expr, *args: Any, **kwargs: Any) -> ast.expr:
        keywords = [
            ast.keyword(key, self.to_expr(value)) for key, value in kwargs.items() if value is not None
        ]
        return ast.Call(function, [self.to_expr(arg) for arg in args], keywords)

    def index(self, x: Symbol, *positions: Any, dtype: Any = None, dims: Any = None) -> Symbol:
        """``x[0, 1:3]``: ints, sizes, slices, None and ``...``."""
        exprs = [self.to_expr(position) for position in positions]
        inside = exprs[0] if len(exprs) == 1 else ast.Tuple(exprs, ast.Load())
        return self.made(ast.Subscript(x.expr, inside, ast.Load()), x, dtype=dtype, dims=dims)

    def binary(self, sign: str, a: Any, b: Any, *, dtype: Any = None) -> Symbol:
        """``a + b``, ``a == b``; comparisons give bool."""
        left, right = self.to_expr(a), self.to_expr(b)
        if sign in _COMPARISONS:
            return self.made(ast.Compare(left, [_COMPARISONS[sign]()], [right]), dtype=np.dtype(bool))
        return self.made(ast.BinOp(left, _SIGNS[sign](), right), a, b, dtype=dtype)

    def unary(self, sign: str, x: Any) -> Symbol:
        return self.made(ast.UnaryOp(_UNARY[sign](), self.to_expr(x)), x)

    def unpack(self, result: Symbol, count: int, dtypes: Sequence[Any] = ()) -> tuple[Symbol, ...]:
        """``values, indices = torch.topk(...)``: a statement, and a symbol for each part of the result."""
        wishes = [value.name or "" for value in self.node.outputs]
        budget.write(count)
        names = [self.fresh(wishes[i] if i < len(wishes) and wishes[i] else "part") for i in range(count)]
        target = ast.Tuple([ast.Name(name, ast.Store()) for name in names], ast.Store())
        self.write(ast.Assign([target], self._shared([result.expr])[0]))
        kinds = list(dtypes) or [result.fact.dtype] * count
        return tuple(
            Symbol(self, Fact(kind), ast.Name(name, ast.Load()))
            for name, kind in zip(names, kinds, strict=True)
        )

    def let(self, x: Symbol, wish: str = "x") -> Symbol:
        """Give an expression a name of its own, in a line of its own."""
        name = self.fresh(wish)
        self.write(ast.Assign([ast.Name(name, ast.Store())], self._shared([x.expr])[0]))
        return Symbol(self, x.fact, ast.Name(name, ast.Load()))

    def to_expr(self, value: Any) -> ast.expr:
        """Any argument as an expression: symbols, sizes, numbers, dtypes, tuples, slices."""
        if isinstance(value, ast.expr):
            return value
        if isinstance(value, Symbol):
            expr: ast.expr = value.expr
            return expr
        if isinstance(value, Size):
            return self.size_expr(value)
        if isinstance(value, np.dtype):
            return self.dtype_expr(value)
        if isinstance(value, tuple):
            return ast.Tuple([self.to_expr(item) for item in value], ast.Load())
        if isinstance(value, list):
            return ast.List([self.to_expr(item) for item in value], ast.Load())
        if isinstance(value, dict):
            return ast.Dict(
                [self.to_expr(key) for key in value], [self.to_expr(item) for item in value.values()]
            )
        if isinstance(value, slice):
            return ast.Slice(
                *(None if v is None else self.to_expr(v) for v in (value.start, value.stop, value.step))
            )
        return literal(value)

    def size_expr(self, size: Size) -> ast.expr:
        """A size that is read when the model runs."""

        def call(word: str, a: ast.expr, b: ast.expr) -> ast.expr:
            if word in _SIGNS:
                return ast.BinOp(a, _SIGNS[word](), b)
            if word == "nonzero":
                return ast.BoolOp(ast.Or(), [a, b])
            return ast.Call(ast.Name(word, ast.Load()), [a, b], [])

        written: ast.expr = size.build(self._size_name, call, literal)
        return written

    def _size_name(self, name: str) -> ast.expr:
        if name not in self.size_names:
            raise CannotConvert(f"its size '{name}' is needed before it can be read")
        return ast.Name(self.size_names[name], ast.Load())

    # ---- statements ---------------------------------------------------------------------------------

    def fresh(self, wish: str) -> str:
        """A legal name that nothing else in the program has."""
        return unique(identifier(wish), self.taken)

    def write(self, statement: ast.stmt) -> None:
        self.statements.append(statement)

    @contextmanager
    def block(self) -> Iterator[list[ast.stmt]]:
        """Statements written inside go to the list that is handed out: the body of an ``if`` or a loop."""
        outer, self.statements = self.statements, []
        names = dict(self.size_names)
        try:
            yield self.statements
        finally:
            self.statements, self.size_names = outer, names

    def symbol(self, fact: Fact) -> Symbol:
        return Symbol(self, fact, REFUSED if fact.content is None else None)

    def bind(self, values: Sequence[ir.Value], results: Sequence[Any], facts: Sequence[Fact]) -> list[Any]:
        """One line for each output that is more than a name; free sizes that live in it are read after it."""
        symbols = [result if isinstance(result, Symbol) else None for result in results]
        symbols += [None] * (len(values) - len(symbols))
        exprs = iter(self._shared([s.expr for s in symbols if s is not None and s.fact.content is None]))
        bound: list[Any] = []
        for value, symbol, fact, raw in zip(
            values, symbols, facts, [*results, *[None] * len(values)], strict=False
        ):
            if symbol is None:
                bound.append(raw)
                continue
            if symbol.fact.content is None:
                symbol = Symbol(self, self._merged(symbol.fact, fact), self._named(value, next(exprs)))
            bound.append(symbol)
            self.read_sizes(value, symbol)
        return bound

    def bind_input(self, value: ir.Value, symbol: Any) -> None:
        self.read_sizes(value, symbol)

    def _merged(self, have: Fact, known: Fact) -> Fact:
        return replace(
            known, dtype=known.dtype or have.dtype, dims=have.dims if known.dims is None else known.dims
        )

    def _named(self, value: ir.Value, expr: ast.expr) -> ast.expr:
        if isinstance(expr, ast.Name) or not value.name:
            return expr
        name = self.fresh(value.name)
        self.write(ast.Assign([ast.Name(name, ast.Store())], expr))
        return ast.Name(name, ast.Load())

    def read_sizes(self, value: ir.Value, symbol: Symbol) -> None:
        """Write a line for each free size that is read off this value; those that nothing uses are dropped."""
        for name, home in self._homes.get(value, ()):
            self.size_names[name] = self.fresh(name)
            read = self.size_of if home.kind == "dim" else self.element_of
            target = ast.Name(self.size_names[name], ast.Store())
            self.write(ast.Assign([target], read(symbol, home.index)))

    def _shared(self, exprs: Sequence[ast.expr]) -> list[ast.expr]:
        """Expressions in which every part stands once: parts that stand twice get a line of their own."""
        counts: Counter[int] = Counter()
        shared = False

        def count(node: ast.AST) -> None:
            nonlocal shared
            counts[id(node)] += 1
            if counts[id(node)] == 1:
                for child in children(node):
                    if not isinstance(child, _LEAVES):
                        count(child)
            elif isinstance(node, _WORK):
                shared = True

        for expr in exprs:
            count(expr)
        if not shared:
            return list(exprs)
        done: dict[int, ast.expr] = {}

        def rebuild(node: Any) -> Any:
            if not isinstance(node, ast.AST) or isinstance(node, _LEAVES):
                return node
            if id(node) in done:
                return done[id(node)]
            made: Any = node
            for name in node._fields:
                child = getattr(node, name, None)
                if child.__class__ is list:
                    parts = [rebuild(each) for each in child]
                    new = child if all(map(operator.is_, parts, child)) else parts
                else:
                    new = rebuild(child)
                if new is not child:
                    made = copy(node) if made is node else made  # what a line above holds stays as it is
                    setattr(made, name, new)
            if counts[id(node)] > 1 and isinstance(node, _WORK):
                name = self.fresh("shared")
                self.write(ast.Assign([ast.Name(name, ast.Store())], made))
                done[id(node)] = ast.Name(name, ast.Load())
                return done[id(node)]
            done[id(node)] = made
            return made

        return [rebuild(expr) for expr in exprs]


_WORK = (ast.Call, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Subscript, ast.BoolOp, ast.IfExp)
"""Expressions that cost something when they are run."""

_LEAVES = (ast.Name, ast.Constant, ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
"""What nothing stands below."""


REFUSED = ast.Name("refused", ast.Load())
"""Stands for an output of a node that cannot be converted, so that the interpreter can go on and find all others."""


def literal(value: Any) -> ast.expr:
    """A number, string, bool, None or ellipsis as an expression that reads back as the same value."""
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.kind != "f" or value.dtype.itemsize == 8 else shortest(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ast.Call(ast.Name("float", ast.Load()), [ast.Constant(str(value))], [])
    if isinstance(value, int | float) and not isinstance(value, bool) and (value < 0 or str(value)[0] == "-"):
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    if value is not None and value is not Ellipsis and not isinstance(value, bool | int | float | str):
        raise TypeError(f"{type(value).__name__} cannot be written as Python")
    return ast.Constant(value)


def shortest(value: Any) -> float:
    """A short float (a scalar of numpy) as a person writes it: 0.1, not 0.10000000149. The largest stays itself, for its
    few digits would be rounded up to what the format does not hold."""
    written = float(str(value))
    return written if abs(written) <= float(np.finfo(value.dtype).max) else float(value)


def prune(statements: Sequence[ast.stmt], live: set[str]) -> list[ast.stmt]:
    """The statements without the assignments that nothing reads; ``live`` are the names read afterwards.

    Of a result in parts, those that nothing reads are called ``_``.

    Blocks of ``if`` and loops keep every name that they read themselves, since a loop reads what its last turn
    wrote.
    """
    kept: list[ast.stmt] = []
    for statement in reversed(statements):
        if isinstance(statement, ast.Assign):
            targets = {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
            if not targets & live:
                continue
            statement.targets = [_used(target, live) for target in statement.targets]
        inner = loaded(statement)
        for field in ("body", "orelse"):
            block = getattr(statement, field, None)
            if isinstance(block, list) and block:
                setattr(statement, field, prune(block, live | inner) or [ast.Pass()])
        live |= inner
        kept.append(statement)
    return kept[::-1]


def _used(target: ast.expr, live: set[str]) -> ast.expr:
    """``values, _`` for ``values, indices`` where nothing reads the indices."""
    if isinstance(target, ast.Tuple):
        parts = [_used(part, live) for part in target.elts]
        if any(not isinstance(part, ast.Name) or part.id != "_" for part in parts):
            return ast.Tuple(parts, ast.Store())
    elif not isinstance(target, ast.Name) or target.id in live:
        return target
    return ast.Name("_", ast.Store())


def loaded(*nodes: ast.AST) -> set[str]:
    """The names that code reads."""
    found, waiting = set[str](), list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                found.add(node.id)
        elif not isinstance(node, ast.Constant):
            waiting += children(node)
    return found


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes right below, without those that say how a name is used: ``ast``'s own walk costs three times as much."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = None if name == "ctx" else getattr(node, name, None)
        if isinstance(value, ast.AST):
            found.append(value)
        elif value.__class__ is list:
            found += [each for each in value if isinstance(each, ast.AST)]
    return found


def source(statements: Sequence[ast.stmt]) -> str:
    """The statements as text."""
    _placed(statements)
    return ast.unparse(ast.Module(list(statements), []))


def _placed(statements: Sequence[ast.stmt]) -> None:
    """Give statements a line, for which ``ast.unparse`` asks; expressions need none, and there are many."""
    for statement in statements:
        statement.lineno = 0
        for block in ("body", "orelse"):
            _placed(getattr(statement, block, ()))


def flat(values: Any) -> Iterator[Any]:
    """What tuples and lists hold, however deep."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from flat(value)
        else:
            yield value
