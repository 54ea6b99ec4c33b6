"""Symbolic sizes of a trace, and what the model's code does to narrow them."""

from __future__ import annotations

import itertools
import linecache
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sys import _getframe
from types import FrameType
from typing import Any, TypeAlias

import sympy
import torch
from sympy.logic.boolalg import BooleanAtom
from torch._guards import SLoc, Source
from torch.fx.experimental.symbolic_shapes import ValueRangesSLoc
from torch.utils._sympy import functions as symbolic
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.symbol import SymT, make_symbol
from torch.utils._sympy.value_ranges import ValueRanges

from netferry.converters.pytorch.to_onnx.tracer.assertions import is_demanded
from netferry.converters.pytorch.to_onnx.tracer.conditions import (
    are_alike_by_a_one,
    fixes_one,
    is_a_need,
    is_equality,
    is_one_by_chance,
    rounds,
    simplest,
    words,
)
from netferry.converters.pytorch.to_onnx.tracer.fake_tensors import PlainShapeEnv
from netferry.converters.pytorch.to_onnx.tracer.untraceable import DataDependent
from netferry.converters.pytorch.to_onnx.tracer.values import (
    At,
    always,
    equal_sizes,
    points,
    several,
    taken_apart,
    value,
)

Size: TypeAlias = int | sympy.Expr
"""A size of a tensor: known, or an expression over the free axes' names."""

_NOT_THE_USERS = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[2]}{os.sep}", "<")
_TRACE = str(Path(__file__).with_name("trace.py"))


@dataclass(frozen=True)
class Narrowing:
    """A decision that holds for some sizes only.

    ``fixes`` are the symbols that are not free any more; a mere requirement (two sizes that must be equal, one that must
    divide, an ``assert``) fixes none. Nor does a ``bound``, which leaves more than one size: it is the condition itself,
    over the names of the free axes. ``line`` is the user's source line, where known; ``condition_on`` is what was asked,
    where it is a condition and no number.
    """

    condition: str
    fixes: frozenset[str]
    line: str | None
    bound: Any = None
    condition_on: Any = None

    def __str__(self) -> str:
        return f"{self.condition} ({self.line})" if self.line else self.condition


class Sizes(PlainShapeEnv):
    """Symbols of one or more; every decision on them that the model's own code takes is kept.

    PyTorch's kernels compare sizes too, to pick strides and fast ways: inside ``kernels()`` only equalities are
    kept (broadcasting found two sizes equal), so that such a comparison never hides one of the user's.
    """

    def __init__(self) -> None:
        super().__init__(
            specialize_zero_one=False,
            duck_shape=False,
            allow_scalar_outputs=False,
            allow_dynamic_output_shape_ops=False,
        )
        self.narrowings: list[Narrowing] = []
        self._names: dict[sympy.Symbol, sympy.Symbol] = {}
        self._inner: set[sympy.Symbol] = set()
        self._answers: dict[sympy.Basic, sympy.Basic] = {}
        self._depth = 0
        self._own: dict[sympy.Expr, sympy.Symbol] = {}  # parts of sizes that have a symbol of their own
        self._defined: dict[sympy.Symbol, sympy.Expr] = {}
        self._points: dict[frozenset[sympy.Basic], list[At]] = {}
        self._truths: dict[sympy.Basic, sympy.Basic | None] = {}
        self._wholes: dict[sympy.Basic, sympy.Basic] = {}
        self._named: dict[sympy.Basic, Any] = {}
        self._alike: dict[tuple[sympy.Basic, sympy.Basic], bool] = {}
        self.defined: dict[sympy.Symbol, sympy.Expr] = {}  # the same over the names of the free axes
        self.hints: dict[str, int] = {}

    def free(self, name: str, size: int) -> torch.SymInt:
        """A new free size; ``size`` decides where the model's code branches, 1 is never taken for it."""
        hint = self.hints[name] = size if size > 1 else 3
        return self._symbol(name, hint)

    def _symbol(self, name: str, hint: int) -> torch.SymInt:
        axis = _Axis(name)
        symbol = make_symbol(SymT.SIZE, self._generate_unique_id(name), positive=True, integer=True)
        self.source_to_var[name] = symbol
        self.backed_var_to_val[symbol] = sympy.Integer(hint)
        self.var_to_sources[symbol] = [axis]
        self.var_to_range[symbol] = ValueRanges(1, int_oo)
        self.var_to_range_sloc[symbol] = ValueRangesSLoc(SLoc(None, None), SLoc(None, None))
        self._names[symbol] = sympy.Symbol(name, integer=True, positive=True)
        return self.create_symintnode(symbol, hint=hint, source=axis)  # type: ignore[return-value]

    def inner(self, name: str, hint: int) -> torch.SymInt:
        """A new size that the model's own tensors decide; a condition on it is a need, as nothing can fix it."""
        size = self.free(self._unused(name), hint)
        self._inner.add(self._names[size.node.expr])
        return size

    def _unused(self, name: str) -> str:
        taken = {str(symbol) for symbol in self._names.values()}
        return next(wish for wish in _numbered(name) if wish not in taken)

    def brief(self, size: int | torch.SymInt) -> int | torch.SymInt:
        """The size, with a symbol of its own for each factor that rounds more than once.

        What comes of it is then as short as it was at first, however deep the model is: a padded height is halved, padded
        again and halved again.
        """
        if not isinstance(size, torch.SymInt) or size.node.expr.is_Symbol:
            return size
        expression = self.replace(size.node.expr)
        factors = expression.args if expression.is_Mul else (expression,)
        own = [self._with_own_symbol(factor) if rounds(factor) > 1 else factor for factor in factors]
        if all(a is b for a, b in zip(own, factors, strict=True)):
            return size
        made = sympy.Mul(*own)
        return self.create_symintnode(made, hint=self.shown(size), source=None)  # type: ignore[return-value]

    def _with_own_symbol(self, factor: sympy.Expr) -> sympy.Expr:
        if factor not in self._own:
            hint = int(self._answer(factor))
            if hint < 1:
                return factor
            base = min(map(str, self._over_names(factor).free_symbols), key=len)
            made = self._symbol(self._unused(base), hint).node.expr
            self._own[factor], self._defined[made] = made, factor
            self.defined[self._names[made]] = factor.xreplace(self._names)
        return self._own[factor]

    def _axes(self, *expressions: sympy.Basic) -> frozenset[sympy.Basic]:
        """The symbols of which the symbols in expressions are made in the end."""
        found: set[sympy.Basic] = set().union(*(expression.free_symbols for expression in expressions))
        while own := found & self._defined.keys():
            found = (found - own).union(*(self._defined[symbol].free_symbols for symbol in own))
        return frozenset(found)

    def _at(self, *expressions: sympy.Basic) -> list[At]:
        """The points at which expressions are tried."""
        axes = self._axes(*expressions)
        if axes not in self._points:
            self._points[axes] = points(axes, self._defined)
        return self._points[axes]

    def shown(self, size: int | torch.SymInt) -> int:
        """The size at which the trace is made."""
        return (
            int(size.node.expr.xreplace(self.backed_var_to_val)) if isinstance(size, torch.SymInt) else size
        )

    def at_large(self, size: int | torch.SymInt) -> int | None:
        """The size where all free axes are long, each in its own way; None where that is nothing."""
        if not isinstance(size, torch.SymInt):
            return size
        expression, known = self.replace(size.node.expr), list(self._names)
        at = At(self._defined, {symbol: 1009 + 4 * known.index(symbol) for symbol in self._axes(expression)})
        found = value(expression, at)
        return None if found is None else int(found)

    def named(self, size: int | torch.SymInt | torch.SymFloat) -> Size:
        """``size`` over the names of the free axes."""
        if not isinstance(size, torch.SymInt | torch.SymFloat):
            return size
        expression = self._over_names(size.node.expr)
        return int(expression) if expression.is_Integer else expression

    @contextmanager
    def kernels(self) -> Iterator[None]:
        """What is compared inside is PyTorch's business, not the model's."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def evaluate_expr(
        self,
        orig_expr: sympy.Basic,
        hint: int | bool | float | None = None,
        fx_node: torch.fx.Node | None = None,  # noqa: ARG002 - ShapeEnv's own signature
        size_oblivious: bool = False,  # noqa: ARG002
        fallback_value: bool | None = None,  # noqa: ARG002
        *,
        forcing_spec: bool = False,
    ) -> sympy.Basic:
        """Answer with the example's sizes, and remember what that answer says about all sizes."""
        if self._depth and orig_expr in self._answers:
            return self._answers[orig_expr]
        expr = self.replace(orig_expr)
        if isinstance(expr, BooleanAtom) or expr.is_number:
            return expr
        if (found := self._decided(expr)) is not None:
            return found
        if self._depth and self._is_one_by_chance(expr):
            return sympy.sympify(isinstance(expr, sympy.Ne))
        known = None if self._depth else self._maybe_evaluate_static(expr)
        if known is not None:
            return known
        answer = self._answer(expr)
        if is_equality(expr, answer):
            self._narrow(expr, answer)
            super().evaluate_expr(orig_expr, hint, forcing_spec=forcing_spec)
            self._answers.clear()
            self._named.clear()
        elif not self._depth:
            self._narrow(expr, answer)
        else:
            self._answers[orig_expr] = answer
        return answer

    def _is_one_by_chance(self, expr: sympy.Basic) -> bool:
        """Whether a kernel asks if a size is 1, or if strides are equal that only a size of 1 makes so."""
        return is_one_by_chance(expr, self._defined) or are_alike_by_a_one(
            expr, {symbol: int(size) for symbol, size in self.backed_var_to_val.items()}
        )

    def _answer(self, expr: sympy.Basic) -> sympy.Basic:
        """What an expression is at the sizes of the trace."""
        found = value(expr, {symbol: int(size) for symbol, size in self.backed_var_to_val.items()})
        return expr.xreplace(self.backed_var_to_val) if found is None else sympy.sympify(found)

    def alike(self, a: Any, b: Any) -> bool:
        """Whether two sizes are one wherever they are sizes at all: by enumeration, nothing is asked of the model."""
        left, right = (
            self.replace(one.node.expr) if isinstance(one, torch.SymInt) else sympy.Integer(one)
            for one in (a, b)
        )
        if (left, right) not in self._alike:
            self._alike[left, right] = left == right or equal_sizes(
                taken_apart(left), taken_apart(right), self._at(left, right)
            )
        return self._alike[left, right]

    def surely(self, condition: bool | torch.SymBool) -> bool:
        """Whether a condition holds at all sizes; nothing is asked of the model."""
        if isinstance(condition, bool):
            return condition
        expr = self.replace(condition.node.expr)
        return bool(expr) if isinstance(expr, BooleanAtom) else bool(self._decided(expr) or False)

    def _decided(self, expr: Any) -> Any:
        if expr not in self._truths:
            self._truths[expr] = self._always(expr)
        return self._truths[expr]

    def _always(self, expr: Any) -> Any:
        """What a condition or a number of sizes is at all sizes; None where it depends on them."""
        found = always(taken_apart(expr), self._at(expr))
        if (
            expr.has(symbolic.FloorDiv, symbolic.Mod, symbolic.PythonMod)
            or expr.free_symbols & self._defined.keys()
        ):
            return None if found is None else sympy.sympify(found)
        if found is None and 1 <= len(expr.free_symbols) <= 3:
            return None
        moved = (
            sympy.expand(expr.lhs - expr.rhs) if isinstance(expr, sympy.core.relational.Relational) else None
        )
        return sympy.sympify(bool(expr.func(moved, 0))) if moved is not None and moved.is_number else None

    def _get_stack_summary(
        self,
        is_debug: bool = False,  # noqa: ARG002
        framework_loc: str | None = None,
    ) -> tuple[SLoc, str]:
        """Nothing: ``users_line`` is asked instead, without importing PyTorch's compilers."""
        return SLoc(framework_loc, None), ""

    def _narrow(self, expr: sympy.Basic, answer: sympy.Basic) -> None:
        if isinstance(answer, BooleanAtom):
            condition = expr if answer else sympy.Not(expr)
        else:
            condition = sympy.Eq(expr, answer)
        if self._depth and isinstance(answer, BooleanAtom) and self._is_of_no_account(condition):
            return
        frame = users_frame()
        line = None if frame is None else line_of(frame, frame.f_lineno)
        named = condition = self._whole(condition)
        if not self._depth:
            harmless = is_demanded(frame)
        else:
            harmless = isinstance(answer, BooleanAtom) and not fixes_one(condition)
            if harmless and not is_a_need(condition):
                return
        free = not harmless and not named.free_symbols & self._inner
        a_number = not isinstance(answer, BooleanAtom)
        if a_number and not harmless and not free:
            raise DataDependent("the code counts through what is found in the data", line)
        bounds = free and not fixes_one(named, a_number)
        asked, named = named, simplest(named) if bounds else named
        fixes = frozenset() if bounds or not free else frozenset(map(str, named.free_symbols))
        found = Narrowing(words(named), fixes, line, named if bounds else None, None if a_number else asked)
        if found not in self.narrowings:
            self.narrowings.append(found)

    def _is_of_no_account(self, equality: Any) -> bool:
        """Whether what a kernel found equal can be no need and leaves no single size, as strides: told before it is written out."""
        if is_a_need(equality):
            return False
        return len(self._axes(equality)) != 1 or several(taken_apart(equality), self._at(equality))

    def _whole(self, expression: Any) -> Any:
        """Over the names of the free axes, without symbols of sizes' own."""
        if expression not in self._wholes:
            named = self._over_names(expression)
            while named.free_symbols & self.defined.keys():
                named = named.xreplace(self.defined)
            self._wholes[expression] = named
        return self._wholes[expression]

    def _over_names(self, expression: Any) -> Any:
        if expression not in self._named:
            self._named[expression] = self.replace(expression).xreplace(self._names)
        return self._named[expression]


def users_line() -> str | None:
    """``file.py:12: source`` of the innermost frame of the model's own code."""
    frame = users_frame()
    return None if frame is None else line_of(frame, frame.f_lineno)


def users_frame() -> FrameType | None:
    """The innermost frame of the model's own code."""
    frame: FrameType | None = _getframe(1)
    while frame is not None and (frame.f_code.co_filename, frame.f_code.co_name) != (_TRACE, "trace"):
        if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            return frame
        frame = frame.f_back
    return None


def _numbered(name: str) -> Iterator[str]:
    """``name``, ``name_1``, ``name_2`` ..."""
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(1))


def line_of(frame: FrameType, number: int) -> str | None:
    """A source line as text, or None where it is PyTorch's or ours."""
    path = frame.f_code.co_filename
    if path.startswith(_NOT_THE_USERS):
        return None
    return f"{Path(path).name}:{number}: {linecache.getline(path, number).strip()}"


class _Axis(Source):
    """Where a symbol comes from, as ShapeEnv asks for it."""

    def __init__(self, axis: str) -> None:
        object.__setattr__(self, "axis", axis)

    @property
    def name(self) -> str:
        return str(self.__dict__["axis"])
