"""The array namespace in TensorFlow's words, in two forms that share one table.

*Functional*: operations of ``keras.ops`` between the layers of a ``keras.Model`` (``functional.py``).
*Function*: operations of ``tf`` in the ``call`` of a model with its own source (``function.py``).
Neither Keras nor TensorFlow is imported to write a program.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.namespace import BINARY, ELEMENTWISE, REDUCTIONS
from netferry.converters.graph.codegen.writer import REFUSED, SourceWriter, dotted, flat
from netferry.converters.graph.ir import budget, layout
from netferry.converters.graph.ir.arrays import same
from netferry.converters.graph.ir.facts import Fact, Plan
from netferry.converters.graph.ir.layout import Perm
from netferry.converters.graph.ir.sizes import Size, known, product, total
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.signature import Array
from netferry.converters.tensorflow.from_onnx.layout import (
    Tensor,
    base_axes,
    broadcast,
    flattened_order,
    keeps_order,
    numbers,
    perm_of,
    with_axis,
    without,
)
from netferry.converters.tensorflow.from_onnx.names import (
    BOOL,
    GIVES_BOOL,
    INT64,
    LITERAL,
    SIGNS,
    UNSIGNED_KEEPS,
    WORDS,
    Weight,
    automatic,
    named,
    short,
)
from netferry.converters.tensorflow.names import layer_path, legal


class TensorflowNamespace(SourceWriter):
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
        self.snippets: dict[str, None] = {}
        self.depth = 0
        self.outputs = {legal(value.name or "") for value in plan.graph.outputs}
        self.layer_names: set[str] = set()
        self._layers: dict[tuple[Any, ...], str] = {}
        self._settled: dict[tuple[str, Perm], ast.expr] = {}
        self._parameters: dict[str | int, list[tuple[Array, ast.expr]]] = {}

    def __getattr__(self, word: str) -> Any:
        for words, say in (
            (ELEMENTWISE, self._unary),
            (BINARY, self._binary),
            (REDUCTIONS, self._reduce),
        ):
            if word in words:
                return partial(say, word)
        return super().__getattr__(word)

    # ---- what a form says -----------------------------------------------------------------------

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
        path = self._layers.get(key) if any(sources) else None
        if path is None:
            told = layer_path([*name, *filter(None, sources)])
            path = self.layer_name(
                told or self.node.name or self.node.op_type, kept=() if told else self.outputs
            )
            self._layers[key] = path
            for word, weight in weights.items():
                self.hold(f"{path}/{word}", weight.content, weight.sources)
        settings = {
            word: short(value) if isinstance(value, float) else value for word, value in kwargs.items()
        }
        return self.owned(kind, path, shape, *args, **settings, dtype=named(dtype))

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

    def index(self, x: Symbol, *places: Any, dtype: Any = None, dims: Any = None) -> Tensor:
        made = super().index(x, *places, dtype=dtype, dims=dims)
        assert isinstance(made, Tensor)
        return made

    def allow(self, dtype: np.dtype[Any] | None) -> None:
        """Refuse a dtype that this form does not hold."""

    def say(
        self, word: str, *args: Any, dtype: Any = None, dims: Any = None, perm: Any = None, **kwargs: Any
    ) -> Any:
        """``tf.reduce_sum(x, axis=1)``: a word of the table in this form."""
        name = WORDS[word][self.column]
        if not name:
            raise CannotConvert(f"{self.title} has no '{word}'")
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
        for held, parameter in made:
            if same(held, content):
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
        expr = self.call_expr(dotted(f"{self.root}.{WORDS['permute_dims'][self.column]}"), base, perm)
        if not isinstance(base, ast.Name):
            return expr
        name: ast.expr = self.let(Symbol(self, Fact(None), expr), f"{base.id}_transposed").expr
        if not self.depth:
            self._settled[key] = name
        return name

    def arranged(self, x: Symbol, perm: Perm) -> ast.expr:
        """The tensor that ``x`` is when transposed by ``perm``: ``x`` as the base of that permutation."""
        if perm_of(x) == perm and isinstance(x, Tensor) and x.late is None:
            return self._base(x)
        have = perm_of(x) or layout.identity(len(perm))
        back = layout.compose(have, layout.inverse(perm))
        content = x.content
        if content is not None:
            return self.materialize(self._turned(x.fact, content.transpose(back)))
        base = x.base if isinstance(x, Tensor) and x.late is None else x.expr
        return self.transposed(base, back)

    @staticmethod
    def _turned(fact: Fact, content: Array) -> Fact:
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
        return Tensor(self, symbol.fact, symbol.expr, have.perm, have.order, have.late)

    def read_sizes(self, value: ir.Value, symbol: Symbol) -> None:
        """Sizes are read off the base."""
        super().read_sizes(value, self._again(value, symbol) if not isinstance(symbol, Tensor) else symbol)

    _pending: dict[ir.Value, Tensor] = {}  # noqa: RUF012 - set anew by every bind

    # ---- elementwise --------------------------------------------------------------------------------

    def together(self, *operands: Any) -> tuple[list[Any], Perm | None, Any]:
        """Operands as expressions of one arrangement: the first that is pending decides."""
        perm = next((perm_of(x) for x in operands if perm_of(x) is not None), None)
        dims = broadcast([x.fact.dims if isinstance(x, Symbol) else () for x in operands])
        if perm is not None and (dims is None or len(dims) != len(perm)):
            perm = None
        return [self._operand(x, perm) for x in operands], perm, dims

    def _operand(self, x: Any, perm: Perm | None) -> Any:
        if not isinstance(x, Symbol):
            return x
        content = x.content
        if (
            content is not None
            and content.ndim == 0
            and content.dtype.kind in "fiub"
            and content.dtype.itemsize <= 8
        ):
            return self.number(content)
        if perm is None or x.ndim == 0:
            return x.expr
        rank = len(perm)
        if content is not None:
            whole = content.reshape((1,) * (rank - content.ndim) + content.shape)
            return self.materialize(self._turned(x.fact, whole.transpose(layout.inverse(perm))))
        if x.ndim < rank:
            x = self.expand_dims(x, tuple(range(rank - x.ndim)))
        return self.arranged(x, perm)

    def number(self, content: Array) -> Any:
        """A 0-d constant beside a tensor: a number where that reads back exactly."""
        return content.item() if content.dtype.name in _PLAIN else self.array(content)

    def elementwise(self, word: str, *operands: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        """A word of the table on operands that are broadcast together."""
        exprs, perm, dims = self.together(*operands)
        dtype = dtype or next(x.fact.dtype for x in operands if isinstance(x, Symbol))
        made: Tensor = self.say(word, *exprs, dtype=dtype, dims=dims, perm=perm, **kwargs)
        return made

    def _unary(self, word: str, x: Symbol, **kwargs: Any) -> Tensor:
        if word in UNSIGNED_KEEPS and x.dtype.kind == "u":
            return Tensor(self, x.fact, x.expr)
        return self.elementwise(word, x, dtype=BOOL if word in GIVES_BOOL else x.fact.dtype, **kwargs)

    def _binary(self, word: str, a: Any, b: Any) -> Tensor:
        dtype = next(x.fact.dtype for x in (a, b) if isinstance(x, Symbol))
        a, b = (self.sized(x, dtype) if isinstance(x, Size) else x for x in (a, b))
        exprs, perm, dims = self.together(a, b)
        gives = BOOL if word in GIVES_BOOL else dtype
        tensors = any(isinstance(x, Symbol) and x.content is None for x in (a, b))
        array_first = isinstance(a, Symbol) and a.content is not None and isinstance(exprs[0], ast.Call)
        if word in SIGNS and tensors and not array_first:  # NumPy would take the operator for its own
            plain = self.binary(SIGNS[word], *exprs, dtype=gives)
            return Tensor(self, Fact(gives, dims), plain.expr, perm)
        typed = [self._typed(x, dtype) for x in exprs]
        made: Tensor = self.say(word, *typed, dtype=gives, dims=dims, perm=perm)
        return made

    def sized(self, size: Size, dtype: Any) -> Tensor:
        """A size beside a tensor, in its dtype."""
        made: Tensor = self.call(f"{self.root}.cast", size, dtype, dtype=dtype, dims=())
        return made

    def _typed(self, x: Any, dtype: Any) -> Any:
        """A number as it stands beside a tensor in a call."""
        if isinstance(x, ast.expr) or dtype is None:
            return x
        return self.array(np.asarray(x).astype(dtype))

    def where(self, condition: Any, x: Any, y: Any) -> Tensor:
        dtype = next(v.fact.dtype for v in (x, y) if isinstance(v, Symbol))
        exprs, perm, dims = self.together(condition, x, y)
        typed = [self._typed(exprs[0], BOOL), *(self._typed(e, dtype) for e in exprs[1:])]
        made: Tensor = self.say("where", *typed, dtype=dtype, dims=dims, perm=perm)
        return made

    def astype(self, x: Any, dtype: np.dtype[Any]) -> Tensor:
        made: Tensor = self.say(
            "astype", self._base(x), dtype, dtype=dtype, dims=x.fact.dims, perm=perm_of(x)
        )
        return made

    def _base(self, x: Symbol) -> ast.expr:
        base: ast.expr = x.base if isinstance(x, Tensor) and x.late is None else x.expr
        return base

    # ---- along axes -----------------------------------------------------------------------------------

    def _reduce(self, word: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        perm = perm_of(x)
        dims = _reduced(x.fact.dims, axes, keepdims)
        left = perm if keepdims else without(perm, axes)
        inner = base_axes(perm, axes)
        axis = inner[0] if len(inner) == 1 else inner
        made: Tensor = self.say(
            word,
            self._base(x),
            axis=axis,
            keepdims=True if keepdims else None,
            dtype=x.fact.dtype,
            dims=dims,
            perm=left,
        )
        return made

    def logsumexp(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        return self._reduce("logsumexp", x, axes, keepdims)

    def along(self, word: str, x: Symbol, axis: int, **kwargs: Any) -> Tensor:
        """A word that works along one axis and keeps every size."""
        perm = perm_of(x)
        inner = base_axes(perm, (axis,))[0]
        made: Tensor = self.say(
            word, self._base(x), axis=inner, dtype=x.fact.dtype, dims=x.fact.dims, perm=perm, **kwargs
        )
        return made

    def softmax(self, x: Symbol, axis: int) -> Tensor:
        return self.along("softmax", x, axis)

    def log_softmax(self, x: Symbol, axis: int) -> Tensor:
        return self.along("log_softmax", x, axis)

    def cumulative_sum(self, x: Symbol, axis: int) -> Tensor:
        return self.along("cumulative_sum", x, axis)

    def cumulative_prod(self, x: Symbol, axis: int) -> Tensor:
        return self.along("cumulative_prod", x, axis)

    # ---- sizes and places -------------------------------------------------------------------------------

    def permute_dims(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        axes = tuple(axes)
        content = x.content
        if content is not None:
            return Tensor(self, self._turned(x.fact, content.transpose(axes)))
        have = perm_of(x) or layout.identity(len(axes))
        dims = None if x.fact.dims is None else tuple(x.fact.dims[axis] for axis in axes)
        fact = Fact(x.fact.dtype, dims)
        return Tensor(self, fact, self._base(x), layout.compose(have, axes))

    def expand_dims(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        """The axes are counted in the result."""
        content = x.content
        if content is not None:
            return Tensor(self, self._turned(x.fact, np.expand_dims(content, tuple(axes))))
        base, perm, dims = self._base(x), perm_of(x), x.fact.dims
        for axis in sorted(axes):
            place = axis
            if perm is not None:
                perm, place = with_axis(perm, axis)
            base = self.say("expand_dims", base, place, dtype=x.fact.dtype).base
            dims = None if dims is None else (*dims[:axis], 1, *dims[axis:])
        return Tensor(self, Fact(x.fact.dtype, dims), base, perm)

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        perm = perm_of(x)
        inner = base_axes(perm, axes)
        if not inner:
            return Tensor(self, Fact(x.fact.dtype, x.fact.dims), self._base(x), perm)
        dims = _reduced(x.fact.dims, axes, False)
        made: Tensor = self.say(
            "squeeze",
            self._base(x),
            axis=inner[0] if len(inner) == 1 else inner,
            dtype=x.fact.dtype,
            dims=dims,
            perm=without(perm, axes),
        )
        return made

    def reshape(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        perm, dims, sizes = perm_of(x), x.fact.dims, tuple(sizes)
        if dims is not None and sizes == tuple(dims):
            return Tensor(self, x.fact, self._base(x), perm)
        content = x.content
        if content is not None and known(sizes):
            return Tensor(self, self._turned(x.fact, content.reshape(sizes)))
        if perm is None or dims is None:
            return self._resized(x, sizes)
        if keeps_order(perm, dims):
            based = Fact(x.fact.dtype, tuple(dims[axis] for axis in layout.inverse(perm)))
            made = self.reshaped(self._base(x), based, sizes)
            return Tensor(self, Fact(x.fact.dtype, filled(dims, sizes)), made.base)
        if len(sizes) == 2 and perm[0] == 0 and numbers(dims[1:]) and sizes[1] in (-1, product(dims[1:])):
            return self._flattened(x, perm, dims, sizes)
        return self._resized(x, sizes)

    def _resized(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        """``x`` as its reader sees it in other sizes; what is left over is computed where it can be."""
        made = self.reshaped(x.expr, x.fact, sizes)
        return Tensor(self, Fact(x.fact.dtype, filled(x.fact.dims, sizes)), made.base)

    def _flattened(self, x: Symbol, perm: Perm, dims: Sequence[Any], sizes: Sequence[Any]) -> Tensor:
        """All axes but the first merged, as they lie: who reads it as a matrix turns his weights instead."""
        features = int(np.prod(dims[1:]))
        fact = Fact(x.fact.dtype, (dims[0], features))
        lying = self.reshaped(self._base(x), fact, (sizes[0], features))
        return Tensor(
            self,
            fact,
            lying.base,
            order=flattened_order(perm, dims[1:]),
            late=lambda: self.reshaped(x.expr, fact, sizes),
        )

    def reshaped(self, base: ast.expr, fact: Fact, sizes: Sequence[Any]) -> Tensor:
        """``base``, whose sizes ``fact`` knows, in other sizes."""
        raise NotImplementedError

    def concat(self, xs: Sequence[Symbol], axis: int) -> Tensor:
        perm, exprs = self._alike(xs)
        inner = base_axes(perm, (axis,))[0]
        dims = None
        if all(x.fact.dims is not None for x in xs):
            first = xs[0].shape
            dims = (*first[:axis], total(x.shape[axis] for x in xs), *first[axis + 1 :])
        made: Tensor = self.say("concat", exprs, inner, dtype=xs[0].fact.dtype, dims=dims, perm=perm)
        return made

    def stack(self, xs: Sequence[Symbol], axis: int) -> Tensor:
        one = xs[0].fact.dims
        dims = None if one is None else (*one[:axis], len(xs), *one[axis:])
        made: Tensor = self.say("stack", [x.expr for x in xs], axis, dtype=xs[0].fact.dtype, dims=dims)
        return made

    def _alike(self, xs: Sequence[Symbol]) -> tuple[Perm | None, list[Any]]:
        """Tensors of one rank in the arrangement of the first that is pending."""
        perm = next((perm_of(x) for x in xs if perm_of(x) is not None), None)
        if perm is None:
            return None, [x.expr for x in xs]
        return perm, [self.arranged(x, perm) for x in xs]

    def unstack(self, x: Symbol, axis: int) -> tuple[Symbol, ...]:
        count = x.size(axis)
        perm = perm_of(x)
        whole = self.say(
            "unstack", self._base(x), num=count, axis=base_axes(perm, (axis,))[0], dtype=x.fact.dtype
        )
        left = without(perm, (axis,))
        fact = Fact(x.fact.dtype, _reduced(x.fact.dims, (axis,), False))
        return tuple(Tensor(self, fact, part.expr, left) for part in self.unpack(whole, count))

    def flip(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        perm = perm_of(x)
        inner = list(base_axes(perm, axes))
        made: Tensor = self.say("flip", self._base(x), inner, dtype=x.fact.dtype, dims=x.fact.dims, perm=perm)
        return made

    def roll(self, x: Symbol, shift: Any, axis: int) -> Tensor:
        return self.along("roll", x, axis, shift=shift)

    def tile(self, x: Symbol, repeats: Sequence[Any]) -> Tensor:
        dims = x.fact.dims and tuple(size * times for size, times in zip(x.fact.dims, repeats, strict=True))
        made: Tensor = self.say("tile", x, list(repeats), dims=dims)
        return made

    def slice(self, x: Symbol, places: Mapping[int, tuple[Any, Any, Any]]) -> Tensor:
        perm = perm_of(x)
        cuts = {base_axes(perm, (axis,))[0]: cut for axis, cut in places.items()}
        if not cuts:
            return Tensor(self, Fact(x.fact.dtype, x.fact.dims), self._base(x), perm)
        inside = [_cut(cuts.get(axis)) for axis in range(max(cuts) + 1)]
        base = Symbol(self, Fact(x.fact.dtype), self._base(x))
        dims = x.fact.dims and tuple(
            cut_size(size, *places[axis]) if axis in places else size for axis, size in enumerate(x.fact.dims)
        )
        return Tensor(self, Fact(x.fact.dtype, dims), self.index(base, *inside).expr, perm)

    def pad(
        self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str = "constant", value: Any = 0
    ) -> Tensor:
        perm = perm_of(x)
        if any(not isinstance(n, Size) and n < 0 for pair in pairs for n in pair):
            x, pairs = self._cropped(x, pairs)
        order = layout.inverse(perm) if perm is not None else layout.identity(len(pairs))
        based = [tuple(pairs[axis]) for axis in order]
        if mode == "constant":
            fill: Any = value
            if isinstance(value, Symbol):
                fill = (
                    self.squeeze(value, tuple(range(value.ndim))).expr
                    if value.content is None
                    else value.content.item()
                )
            expr = self.padded(self._base(x), tuple(based), fill, x.dtype)
            dims = x.fact.dims and tuple(
                b + size + a for size, (b, a) in zip(x.fact.dims, pairs, strict=True)
            )
            return Tensor(self, Fact(x.fact.dtype, dims), expr, perm)
        return self._mirrored(x, pairs, mode)

    def padded(self, base: ast.expr, pairs: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> ast.expr:
        """Constant padding of the base."""
        raise NotImplementedError

    def _cropped(self, x: Symbol, pairs: Sequence[tuple[Any, Any]]) -> tuple[Symbol, list[Any]]:
        """A negative pad cuts; what is left of the pads."""
        cuts = {
            axis: (max(-before, 0), -max(-after, 0) or None, 1)
            for axis, (before, after) in enumerate(pairs)
            if not isinstance(before, Size) and not isinstance(after, Size) and (before < 0 or after < 0)
        }
        if len(cuts) != sum(1 for pair in pairs if any(not isinstance(n, Size) and n < 0 for n in pair)):
            raise CannotConvert(
                "it cuts one side of an axis by a size that is known only when the model runs"
            )
        left = [(0 if b is not b or (not isinstance(b, Size) and b < 0) else b,
                 0 if not isinstance(a, Size) and a < 0 else a) for b, a in pairs]  # fmt: skip
        cropped = self.slice(x, cuts)
        dims = x.fact.dims
        if dims is not None:
            sizes = tuple(
                size - cuts[axis][0] + (cuts[axis][1] or 0) if axis in cuts else size
                for axis, size in enumerate(dims)
            )
            cropped.fact = Fact(x.fact.dtype, sizes)
        return cropped, left

    def _mirrored(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str) -> Tensor:
        """Reflect, edge and wrap: each axis is read by a table of places."""
        result: Any = x
        for axis, (before, after) in enumerate(pairs):
            if before == 0 and after == 0:
                continue
            size = x.size(axis)
            if isinstance(before, Size) or isinstance(after, Size):
                raise CannotConvert(
                    f"it pads axis {axis} in mode {mode} by a size that is known only when it runs"
                )
            budget.make(size + before + after)
            places = np.pad(np.arange(size), (before, after), mode=_NUMPY_MODES[mode])
            dims = result.fact.dims
            result = self.take(result, self.asarray(places, INT64), axis)
            result.fact = Fact(x.fact.dtype, dims and (*dims[:axis], len(places), *dims[axis + 1 :]))
        return result if isinstance(result, Tensor) else Tensor(self, x.fact, x.expr)

    def split(self, x: Symbol, lengths: Sequence[Any], axis: int) -> tuple[Symbol, ...]:
        perm = perm_of(x)
        if len(lengths) == 1:
            return (Tensor(self, Fact(x.fact.dtype, x.fact.dims), self._base(x), perm),)
        whole = self.parted(self._base(x), lengths, base_axes(perm, (axis,))[0], x.dtype)
        dims = x.fact.dims
        facts = [Fact(x.fact.dtype, dims and (*dims[:axis], length, *dims[axis + 1 :])) for length in lengths]
        parts = self.unpack(whole, len(lengths))
        return tuple(Tensor(self, fact, part.expr, perm) for fact, part in zip(facts, parts, strict=True))

    def parted(self, base: ast.expr, lengths: Sequence[Any], axis: int, dtype: np.dtype[Any]) -> Tensor:
        raise NotImplementedError

    def read_at(self, x: Symbol, indices: Symbol, axis: int) -> Tensor:
        """``take`` with places that the form reads rightly."""
        perm, dims = perm_of(x), indices.fact.dims
        if perm is not None and (dims is None or len(dims) > 1):
            perm, base = None, x.expr
        else:
            base = self._base(x)
        inner = base_axes(perm, (axis,))[0]
        left = perm if dims is not None and len(dims) == 1 else without(perm, (axis,))
        have = x.fact.dims
        known = None if have is None or dims is None else (*have[:axis], *dims, *have[axis + 1 :])
        made: Tensor = self.say("take", base, indices, axis=inner, dtype=x.fact.dtype, dims=known, perm=left)
        return made

    # ---- making ---------------------------------------------------------------------------------------------

    def asarray(self, content: Any, dtype: np.dtype[Any]) -> Tensor:
        array = np.asarray(content).astype(dtype)
        return Tensor(self, Fact(array.dtype, array.shape, array))

    def eye(self, rows: int, columns: int, k: int, dtype: np.dtype[Any]) -> Tensor:
        if not known((rows, columns)):
            raise CannotConvert("its sizes are known only when the model runs")
        budget.make(rows * columns)
        return self.asarray(np.eye(rows, columns, k), dtype)

    # ---- algebra -----------------------------------------------------------------------------------------------

    def matmul(self, a: Symbol, b: Symbol) -> Tensor:
        dims = None
        if a.fact.dims is not None and b.fact.dims is not None and min(a.ndim, b.ndim) >= 2:
            dims = (*(broadcast([a.shape[:-2], b.shape[:-2]]) or ()), a.shape[-2], b.shape[-1])
        made: Tensor = self.say("matmul", a, b, dims=dims)
        return made

    def einsum(self, equation: str, *xs: Symbol) -> Tensor:
        made: Tensor = self.say("einsum", equation, *xs)
        return made

    def det(self, x: Symbol) -> Tensor:
        made: Tensor = self.say("det", x)
        return made

    def use(self, snippet: str) -> None:
        """Let the generated module carry one of ``snippets/`` along."""
        self.snippets[snippet] = None

    def note(self, sentence: str) -> None:
        """A sentence for the report, told once."""
        self.notes[sentence] = None


_PLAIN = frozenset(
    {"float16", "float32", "float64", "int32", "int64", "int8", "int16", "uint8", "uint16", "bool"}
)
_NUMPY_MODES: Mapping[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _cut(cut: tuple[Any, Any, Any] | None) -> slice:
    if cut is None:
        return slice(None)
    start, stop, step = cut
    return slice(None if start == 0 and step == 1 else start, stop, None if step == 1 else step)


def filled(dims: Any, sizes: Sequence[Any]) -> Any:
    """The sizes that a reshape asks for, -1 computed; None where that cannot be."""
    if -1 not in sizes:
        return tuple(sizes)
    if dims is None:
        return None
    rest = product(size for size in sizes if not (isinstance(size, int) and size == -1))
    left = product(dims) // rest if isinstance(rest, Size) or rest else 0
    return tuple(left if isinstance(size, int) and size == -1 else size for size in sizes)


def cut_size(size: Any, start: Any, stop: Any, step: int) -> Any:
    """The size that Python's slice leaves of an axis; -1, a size of no axis, where that is not known."""
    if known((size, start, stop)):
        return len(range(*slice(start, stop, step).indices(size)))
    if start in (0, None) and stop is None and abs(step) == 1:
        return size
    return Size.named(f"slice {start} {stop} {step} of {size}")


def _reduced(dims: Any, axes: Sequence[int], keepdims: bool) -> Any:
    if dims is None:
        return None
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(dims))
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)
