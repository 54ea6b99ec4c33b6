"""What writes a Keras model: its layers and weights, expressions, and transpositions that are pending."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import REFUSED, SourceWriter, dotted, flat
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.arrays import same
from netferry.converters.graph.ir.facts import Fact, Plan
from netferry.converters.graph.ir.layout import Perm
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.function_names import (
    FUNCTIONS,
    LITERAL,
    Weight,
    as_float32,
    automatic,
    layer_dtype,
)
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.names import layer_path, legal


class TensorflowWriter(SourceWriter):
    """What both forms share; ``column`` is the form's column of the table, ``root`` the module it stands for."""

    framework = "tensorflow"
    column: int
    root: str

    @property
    def functional(self) -> bool:
        """Whether a functional Keras model is written."""
        return self.column == 0

    def __init__(self, plan: Plan, *, reserved: Sequence[str] = ()) -> None:
        super().__init__(plan, reserved=reserved)
        self.preamble: list[ast.stmt] = []
        self.weights: dict[str, Array] = {}
        self.names: dict[str, str] = {}
        self.notes: dict[str, None] = {}
        self.helpers: dict[str, None] = {}
        self.depth = 0
        self.outputs = {legal(value.name or "") for value in plan.graph.outputs}
        self.layer_names: set[str] = set()
        self.run_layers: dict[tuple[Any, ...], list[tuple[str, Mapping[str, Weight]]]] = {}
        self._settled: dict[tuple[str, Perm], ast.expr] = {}
        self._parameters: dict[str | int, list[tuple[Array, ast.expr]]] = {}

    # ---- what each form writes in its own way -----------------------------------------------------------------------

    def parameter(self, fact: Fact, content: Array) -> ast.expr:
        """The expression of a weight that no layer takes, or of a constant too long for a literal."""
        raise NotImplementedError

    def array(self, content: Array) -> ast.expr:
        """A short constant, written out."""
        raise NotImplementedError

    def owned(self, kind: str, name: str, shape: Sequence[Any], *args: Any, **kwargs: Any) -> ast.expr:
        """The expression of a layer that the model owns, ready to be called."""
        raise NotImplementedError

    # ---- layers and their weights ---------------------------------------------------------------

    def layer_name(self, wish: str, kept: Collection[str] = ()) -> str:
        """A name that no other layer has, that Keras gives to nothing by itself, and that is not ``kept`` for others."""
        name, count = legal(wish), 0
        stem = name
        while name in kept or not self.free(name):
            count += 1
            name = f"{stem}.{count}"
        self.layer_names.add(name)
        return name

    def free(self, name: str) -> bool:
        """Whether a layer may be called so."""
        return name not in self.layer_names and not automatic(name)

    def hold(self, path: str, content: Array, sources: Sequence[str]) -> None:
        """Keep the content of one variable, and which weights of the source it was."""
        self.weights[path] = np.atleast_1d(content)
        for source in filter(None, sources):
            self.names.setdefault(source, path)

    def layer(
        self,
        kind: str,
        weights: Mapping[str, Weight],
        shape: Sequence[Any],
        *args: Any,
        dtype: np.dtype[Any],
        name: Sequence[str] = (),
        **kwargs: Any,
    ) -> ast.expr:
        """A layer with its weights, ready to be called; the same weights used alike are the same layer.

        ``weights``: the path of a variable below the layer -> its content and the source's names of it.
        ``shape``: the sizes of the input for which it is built, None where they are free.
        """
        sources = [source for weight in weights.values() for source in weight.sources]
        key = (kind, tuple(sources), repr(args), repr(sorted(kwargs.items(), key=str)), dtype.name)
        known = self.run_layers.setdefault(key, []) if any(sources) else []
        path = next((path for path, held in known if _alike(held, weights)), None)
        if path is None:
            path_of_source = layer_path([*name, *filter(None, sources)])
            path = self.layer_name(
                path_of_source or self.node.name or self.node.op_type,
                kept=() if path_of_source else self.outputs,
            )
            known.append((path, weights))
            for operation, weight in weights.items():
                self.hold(f"{path}/{operation}", weight.content, weight.sources)
        settings = {
            operation: as_float32(value) if isinstance(value, float) else value
            for operation, value in kwargs.items()
        }
        return self.owned(kind, path, shape, *args, **settings, dtype=layer_dtype(dtype))

    # ---- expressions ------------------------------------------------------------------------------

    def made(
        self, expr: ast.expr, *like: Any, dtype: Any = None, dims: Any = None, perm: Any = None
    ) -> Tensor:
        known = super().made(expr, *like, dtype=dtype, dims=dims)
        self.allow(known.fact.dtype)
        return Tensor(self, known.fact, expr, perm)

    def call(self, function: str, *args: Any, dtype: Any = None, dims: Any = None, **kwargs: Any) -> Tensor:
        made = super().call(function, *args, dtype=dtype, dims=dims, **kwargs)
        assert isinstance(made, Tensor)
        return made

    def index(self, x: Symbol, *positions: Any, dtype: Any = None, dims: Any = None) -> Tensor:
        made = super().index(x, *positions, dtype=dtype, dims=dims)
        assert isinstance(made, Tensor)
        return made

    def allow(self, dtype: np.dtype[Any] | None) -> None:
        """Refuse a dtype that this form does not hold."""

    def write_call(
        self, operation: str, *args: Any, dtype: Any = None, dims: Any = None, perm: Any = None, **kwargs: Any
    ) -> Tensor:
        """``tf.reduce_sum(x, axis=1)``: a function of the table in this form."""
        name = FUNCTIONS[operation][self.column]
        if not name:
            raise CannotConvert(f"{self.title} has no '{operation}'")
        expr = self.call_expr(dotted(f"{self.root}.{name}"), *args, **kwargs)
        return self.made(expr, *flat(args), dtype=dtype, dims=dims, perm=perm)

    def symbol(self, fact: Fact) -> Tensor:
        return Tensor(self, fact, REFUSED if fact.content is None else None)

    def materialize(self, fact: Fact) -> ast.expr:
        content = fact.constant
        if content is None:
            raise CannotConvert("its constant depends on a size that is known only when the model runs")
        self.allow(fact.dtype)
        if content.ndim == 0 or (content.size <= LITERAL and not fact.trainable):
            return self.array(content)
        made = self._parameters.setdefault(fact.name or id(fact.content), [])
        for array, parameter in made:
            if same(array, content):
                return parameter
        made.append((content, self.parameter(fact, content)))
        return made[-1][1]

    def dtype_expr(self, dtype: np.dtype[Any]) -> ast.expr:
        return ast.Constant(dtype.name)

    def transposed(self, base: ast.expr, perm: Perm) -> ast.expr:
        """A transposition, written once however many read it."""
        if perm == layout.identity(len(perm)):
            return base
        key = (ast.unparse(base), perm)
        if key in self._settled:
            return self._settled[key]
        expr = self.call_expr(dotted(f"{self.root}.{FUNCTIONS['permute_dims'][self.column]}"), base, perm)
        if not isinstance(base, ast.Name):
            return expr
        name: ast.expr = self.let(Symbol(self, Fact(None), expr), f"{base.id}_transposed").expr
        if not self.depth:
            self._settled[key] = name
        return name

    def arranged(self, x: Symbol, perm: Perm) -> ast.expr:
        """The tensor that ``x`` is when transposed by ``perm``: ``x`` as the base of that permutation."""
        if perm_of(x) == perm and isinstance(x, Tensor) and x.deferred is None:
            return self._base(x)
        have = perm_of(x) or layout.identity(len(perm))
        back = layout.compose(have, layout.inverse(perm))
        content = x.content
        if content is not None:
            return self.materialize(self._frozen(x.fact, content.transpose(back)))
        base = x.base if isinstance(x, Tensor) and x.deferred is None else x.expr
        return self.transposed(base, back)

    @staticmethod
    def _frozen(fact: Fact, content: Array) -> Fact:
        return Fact(fact.dtype, content.shape, content, fact.fill, fact.name, fact.trainable)

    def bind(self, values: Sequence[ir.Value], results: Sequence[Any], facts: Sequence[Fact]) -> list[Any]:
        """One line for each output; what is pending stays pending."""
        if any(isinstance(r, Symbol) and r.fact.content is None and r._expr is None for r in results):
            return [*results, *[None] * (len(values) - len(results))]  # what was refused has no expression
        bare = [self._bare(result) for result in results]
        self._pending = {
            value: result
            for value, result in zip(values, results, strict=False)
            if isinstance(result, Tensor)
        }
        bound = super().bind(values, bare, facts)
        return [self._again(value, symbol) for value, symbol in zip(values, bound, strict=True)]

    def _bare(self, result: Any) -> Any:
        if not isinstance(result, Tensor) or result.fact.content is not None:
            return result
        return Symbol(self, result.fact, result.base)

    def _again(self, value: ir.Value, symbol: Any) -> Any:
        have = self._pending.get(value)
        if not isinstance(symbol, Symbol) or isinstance(symbol, Tensor):
            return symbol
        if have is None:
            return Tensor(self, symbol.fact, symbol.expr)
        return Tensor(self, symbol.fact, symbol.expr, have.perm, have.order, have.deferred)

    def read_sizes(self, value: ir.Value, symbol: Symbol) -> None:
        """Sizes are read off the base."""
        super().read_sizes(value, self._again(value, symbol) if not isinstance(symbol, Tensor) else symbol)

    _pending: dict[ir.Value, Tensor] = {}  # noqa: RUF012 - set anew by every bind

    def _base(self, x: Symbol) -> ast.expr:
        return x.base if isinstance(x, Tensor) and x.deferred is None else x.expr  # type: ignore[no-any-return]

    def use(self, helper: str) -> None:
        """Put one of ``runtime_helpers/`` into the generated module."""
        self.helpers[helper] = None

    def note(self, sentence: str) -> None:
        """A sentence for the report, noted once."""
        self.notes[sentence] = None


def _alike(a: Mapping[str, Weight], b: Mapping[str, Weight]) -> bool:
    """Whether two layers hold the same numbers: parts of one weight have its name and are others."""
    return a.keys() == b.keys() and all(same(a[path].content, b[path].content) for path in a)
