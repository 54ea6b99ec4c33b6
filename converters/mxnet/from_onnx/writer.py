"""The writer for MXNet: operators become nodes of a symbol graph, weights become its parameters.

mxnet is not imported. A value is an entry of the graph: (the node's position, the output's position). MXNet
without its numpy switch has no tensor without axes: a 0-d value stands as one of sizes (1,) until it
leaves the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.namespace import Namespace
from netferry.converters.graph.ir.arrays import same
from netferry.converters.graph.ir.build import unique
from netferry.converters.graph.ir.facts import Fact, Home, Plan
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet import symbol as graphs
from netferry.converters.mxnet.files import document_of
from netferry.converters.mxnet.symbol import INPUT, OUTPUT, Entry, Node
from netferry.converters.signature import Array

Dims = tuple[Any, ...]

DTYPES = frozenset(np.dtype(kind) for kind in ("f2", "f4", "f8", "u1", "i1", "i4", "i8", "?"))
"""What MXNet 1.9.1 computes with; its files know more."""

BOOL, INT32, INT64, FLOAT32 = (np.dtype(kind) for kind in ("?", "i4", "i8", "f4"))
_MOST_AXES = 6
_SMALL = 2**31
_NOWHERE = ""
"""The name of the variable that stands for a value of a refused node."""
_EXACT = 2**53
"""Attributes are read as doubles."""


class SymbolWriter(Namespace):
    """A namespace that writes nodes; ``namespace.py`` has the functions."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.nodes: list[Node] = []
        self.params: dict[str, Array] = {}
        self.constants: set[str] = set()
        self.states: set[str] = set()
        self.names: dict[str, str] = {}
        self.taken: set[str] = set()
        self._kept: dict[str, tuple[Array, Symbol]] = {}
        self._size_sources: dict[Any, tuple[Symbol, int]] = {}
        self._homes: dict[ir.Value, list[tuple[str, Home]]] = {}
        for name, home in plan.homes.items():
            self._homes.setdefault(home.value, []).append((name, home))

    # ---- nodes --------------------------------------------------------------------------------------

    def apply(
        self, op: str, *inputs: Symbol, gives: Any = None, dims: Dims | None, output: int = 0, **attrs: Any
    ) -> Symbol:
        """The output of a new node, of sizes ``dims``, and of the dtype of its first input unless ``gives`` says
        another; attributes that are None are left out."""
        position = self.node_of(op, *inputs, **attrs)
        return self.entry(position, output, gives or inputs[0].dtype, dims)

    def node_of(self, op: str, *inputs: Symbol, bodies: Sequence[graphs.Symbol] = (), **attrs: Any) -> int:
        """The position of a new node, for operators of several outputs; ``bodies`` are graphs that it runs."""
        texts = {key: text_of(value) for key, value in attrs.items() if value is not None}
        entries = tuple(x.expr for x in inputs)
        name = self._fresh(f"{self.wish}_{op.strip('_').lower()}")
        self.nodes.append(Node(name, op, texts, {}, entries, tuple(map(document_of, bodies))))
        return len(self.nodes) - 1

    @contextmanager
    def apart(self) -> Iterator[None]:
        """For a body: what is written in it has sizes that nothing outside can be made as long as."""
        sources = dict(self._size_sources)
        try:
            yield
        finally:
            self._size_sources = sources

    def entry(self, position: int, output: int, dtype: Any, dims: Dims | None) -> Symbol:
        """One output of a node as a symbol."""
        return Symbol(self, Fact(check_dtype(np.dtype(dtype)), check_dims(dims)), (position, output))

    def variable(self, name: str, dtype: np.dtype[Any], dims: Dims) -> Symbol:
        """A variable of the graph: an input, or a parameter. It declares its sizes, where they are known, and its dtype."""
        sizes = tuple(0 if isinstance(size, Size) else size for size in dims or (1,))
        hidden = {"__shape__": text_of(sizes), "__dtype__": str(_FILE_CODES[dtype])}
        self.nodes.append(Node(name, "null", {}, hidden))
        return self.entry(len(self.nodes) - 1, 0, dtype, dims)

    def stand_in(self, word: str, dtype: np.dtype[Any], dims: Dims) -> Symbol:
        """A variable for what a body is given."""
        return self.variable(self._fresh(f"{self.wish}_{word}"), dtype, dims)

    def input(self, name: str, fact: Fact) -> Symbol:
        """An input of the model."""
        if fact.dtype is None or fact.dims is None:
            raise CannotConvert(f"the rank of the input '{name}' is not known")
        if not fact.dims:
            raise CannotConvert(
                f"the input '{name}' has no axes", "Give it an axis of size 1 in the source model"
            )
        check_dtype(fact.dtype)
        number = sum(INPUT in node.hidden for node in self.nodes)
        dims = tuple(  # a list of nothing: as a variable its size is one that is not known
            Size.named(f"{name}_none") if size == 0 and len(fact.dims) == 1 else size for size in fact.dims
        )
        made = self.variable(self._fresh(name), fact.dtype, dims)
        node = self.nodes[-1]
        self.nodes[-1] = replace(node, hidden={**node.hidden, INPUT: str(number)})
        return made

    def bind_input(self, value: ir.Value, symbol: Symbol) -> None:
        self.remember(symbol)
        self._note_homes(value, symbol)

    @property
    def wish(self) -> str:
        node = vars(self).get("node")
        if node is None:
            return "output"
        return (
            node.name
            or next((value.name for value in node.outputs if value.name), "")
            or node.op_type.lower()
        )

    def _fresh(self, wish: str) -> str:
        return unique(wish or "x", self.taken)

    # ---- weights and constants ------------------------------------------------------------------------

    def symbol(self, fact: Fact) -> Symbol:
        """A constant; or, for a value of a node that was not converted, a variable that stands for it."""
        if fact.content is not None or fact.fill is not None:
            return Symbol(self, fact)
        self.nodes.append(Node(_NOWHERE, "null"))
        return Symbol(self, fact, (len(self.nodes) - 1, 0))

    def materialize(self, fact: Fact) -> Entry:
        """A weight as a parameter; a constant as a filler, or as a parameter that gets no gradient."""
        made = self._materialized(fact)
        entry: Entry = made.expr
        return entry

    def _materialized(self, fact: Fact) -> Symbol:
        content = fact.constant
        if content is not None:
            if fact.trainable:
                return self.parameter(content, fact.name, source=fact.name)
            return self.constant(content, fact.name)
        if fact.dims is None or fact.dtype is None:
            raise CannotConvert("its value is made of sizes that are known only when the model runs")
        if fact.content is not None:
            return self.of_sizes(fact.content, fact.dtype)
        assert fact.fill is not None
        return self.full(fact.dims, fact.fill, fact.dtype)

    def of_sizes(self, content: Array, dtype: np.dtype[Any]) -> Symbol:
        """A tensor of integers of which some are free sizes."""
        raise NotImplementedError

    def full(self, sizes: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> Symbol:
        """A tensor of one number."""
        raise NotImplementedError

    def row_of(self, size: Size) -> Symbol:
        """A tensor of one axis that has this size."""
        raise NotImplementedError

    def permute_dims(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        raise NotImplementedError

    def constant(self, content: Array, name: str = "") -> Symbol:
        """An array that no gradient reaches; one that a few numbers describe needs no parameter.

        Integers and truth values are stored as floats: gluon's Trainer meets every parameter of a loaded symbol,
        and its optimizers know floats alone.
        """
        content = np.asarray(content)
        check_dtype(content.dtype)
        check_dims(content.shape)
        if uniform(content) and exact(content.reshape(-1)[0].item()):
            return self.full(content.shape, content.reshape(-1)[0].item(), content.dtype)
        if progresses(content):
            return self._progression(content)
        stored = as_floats(content)
        weight = self.parameter(stored, name or f"{self.wish}_constant")
        self.constants.add(self.nodes[weight.expr[0]].name)
        kept = self.apply("BlockGrad", weight, dims=content.shape)
        if stored.dtype == content.dtype:
            return kept
        return self.apply("Cast", kept, gives=content.dtype, dims=content.shape, dtype=content.dtype)

    def _progression(self, content: Array) -> Symbol:
        """Integers a step apart."""
        start, step = int(content[0]), int(content[1]) - int(content[0])
        stop = start + step * len(content)
        return self.apply(
            "_arange",
            gives=content.dtype,
            dims=content.shape,
            start=start,
            stop=stop,
            step=step,
            dtype=content.dtype,
        )

    def parameter(self, content: Array, name: str, *, source: str = "", fresh: bool = False) -> Symbol:
        """A parameter of the model; the same content under the same name, also transposed, is the same parameter.

        A ``fresh`` one is its layer's own, also where the file has merged equal weights.
        """
        check_dtype(content.dtype)
        dims = content.shape
        check_dims(dims)
        content = content.reshape(content.shape or (1,))
        kept = self._kept.get(name)
        if kept is not None and not fresh and same(kept[0], content):
            return kept[1]
        if kept is not None and not fresh and content.ndim == 2 and same(kept[0].T, content):
            return self.permute_dims(kept[1], (1, 0))
        legal = self._fresh(name or f"{self.wish}_weight")
        self.params[legal] = content
        if source:
            self.names.setdefault(source, legal)
        weight = self.variable(legal, content.dtype, dims)
        self._kept.setdefault(name, (content, weight))
        return weight

    # ---- binding -------------------------------------------------------------------------------------

    def bind(self, values: Sequence[ir.Value], results: Sequence[Any], facts: Sequence[Fact]) -> list[Any]:
        """Outputs get what is known of them; the node that makes the first one gets the source's name."""
        bound: list[Any] = []
        for position, (value, fact) in enumerate(zip(values, facts, strict=True)):
            result = results[position] if position < len(results) else None
            if not isinstance(result, Symbol) or result.fact.content is not None:
                bound.append(result)
                continue
            known = _merged(result.fact, fact)
            check_dims(known.dims)
            made = Symbol(self, known, result._expr)
            if result._expr is not None:
                if position == 0:
                    self._rename(result._expr, self.wish)
                self.remember(made)
            self._note_homes(value, made)
            bound.append(made)
        return bound

    def _rename(self, entry: Entry, name: str) -> None:
        """Give the last node of a row the source's own name."""
        position, _ = entry
        node = self.nodes[position]
        if (
            position == len(self.nodes) - 1
            and not node.is_variable
            and node.name.startswith(f"{name}_")
            and name not in self.taken
        ):
            self.taken.add(name)
            self.nodes[position] = replace(node, name=name)

    def remember(self, x: Symbol) -> None:
        """Free sizes of this value can be taken from it."""
        for axis, size in enumerate(x.fact.dims or ()):
            if isinstance(size, Size):
                self._size_sources.setdefault(size, (x, axis))

    def _note_homes(self, value: ir.Value, x: Symbol) -> None:
        for name, home in self._homes.get(value, ()):
            if home.kind == "dim" and x._expr is not None:
                self._size_sources.setdefault(Size.named(name), (x, home.index))

    def source_of(self, size: Size) -> tuple[Symbol, int]:
        """A value and its axis that has this size; one is made of others where none has it, or it is refused."""
        if size not in self._size_sources:
            self._size_sources[size] = self.row_of(size), 0
        return self._size_sources[size]

    # ---- the graph -----------------------------------------------------------------------------------

    def reached(self, results: Sequence[Symbol]) -> set[int]:
        """The places of the nodes that these need."""
        heads = tuple(x.expr for x in results)  # which writes the nodes of constants
        return set(graphs.Symbol(tuple(self.nodes), heads).order)

    def finish(self, results: Sequence[Symbol], names: Sequence[str]) -> graphs.Symbol:
        """The graph whose outputs are ``results``; each stands under its own name."""
        heads: list[Entry] = []
        for result, name in zip(results, names, strict=True):
            heads.append(self._head(result, name, {position for position, _ in heads}))
        graph = pruned(graphs.Symbol(tuple(self.nodes), tuple(heads)))
        if any(node.name == _NOWHERE for node in graph.nodes):
            raise CannotConvert("it needs a value that no node makes")
        return graph

    def _head(self, x: Symbol, name: str, heads: set[int]) -> Entry:
        """A node of one output that only this output of the model has, named so that MXNet calls it ``name``."""
        position, _ = x.expr
        node = self.nodes[position]
        if x.fact.dims == ():
            position = self._leaf("_np_reshape", x, name, newshape="()")
        elif node.is_variable or node.op in _SEVERAL or position in heads:
            position = self._leaf("_copy", x, name)
        node = self.nodes[position]
        if graphs.output_name(node, 0, 1) != name:
            self.nodes[position] = replace(node, hidden={**node.hidden, OUTPUT: name})
        return position, 0

    def _leaf(self, op: str, x: Symbol, name: str, **attrs: str) -> int:
        self.nodes.append(Node(self._fresh(name.removesuffix("_output")), op, attrs, {}, (x.expr,)))
        return len(self.nodes) - 1


_SEVERAL = frozenset({"RNN", "SliceChannel", "topk", "_split_v2", "_foreach", "_cond"})
_FILE_CODES: Mapping[np.dtype[Any], int] = {
    np.dtype(kind): code
    for kind, code in {"f4": 0, "f8": 1, "f2": 2, "u1": 3, "i4": 4, "i1": 5, "i8": 6, "?": 7}.items()
}


def pruned(graph: graphs.Symbol) -> graphs.Symbol:
    """The graph without the nodes that no output needs."""
    position_of = {old: new for new, old in enumerate(graph.order)}

    def moved(entries: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple((position_of[position], index) for position, index in entries)

    nodes = tuple(
        replace(graph.nodes[position], inputs=moved(graph.nodes[position].inputs)) for position in graph.order
    )
    return graphs.Symbol(nodes, moved(graph.heads))


def _merged(have: Fact, known: Fact) -> Fact:
    dtype = have.dtype or known.dtype
    if known.dtype is not None and have.dtype is not None and known.dtype != have.dtype:
        raise CannotConvert(f"it would give {have.dtype.name} where {known.dtype.name} is expected")
    return replace(known, dtype=dtype, dims=have.dims if known.dims is None else never_empty(known.dims))


def never_empty(dims: Dims) -> Dims:
    """Sizes as they are where no tensor is empty, as in MXNet."""
    return tuple(size.where_nothing_is_empty() if isinstance(size, Size) else size for size in dims)


def check_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype that MXNet computes with."""
    if dtype not in DTYPES:
        raise CannotConvert(f"MXNet 1.9.1 does not compute with {dtype.name}", "Cast it in the source model")
    return dtype


def check_dims(dims: Dims | None) -> Dims | None:
    """Sizes that MXNet can hold: an empty axis means 'unknown' there."""
    if dims is not None and any(not isinstance(size, Size) and size == 0 for size in dims):
        raise CannotConvert("MXNet has no empty tensors")
    if dims is not None and len(dims) > _MOST_AXES:
        raise CannotConvert(f"tensors of {len(dims)} axes: MXNet computes with {_MOST_AXES}")
    return dims


def uniform(content: Array) -> bool:
    """Whether every element is the same finite number."""
    flat = content.reshape(-1)
    return (
        bool(np.isfinite(flat[0]))
        and bool(np.all(flat == flat[0]))
        and not np.any(np.signbit(flat) != np.signbit(flat[0]))
    )


def exact(number: float) -> bool:
    """Whether a number survives as an attribute."""
    return isinstance(number, float) or abs(number) <= _EXACT


def progresses(content: Array) -> bool:
    """Whether these are integers a fixed step apart."""
    if content.ndim != 1 or content.dtype.kind != "i" or content.dtype.itemsize < 4 or len(content) < 2:
        return False
    steps = np.diff(content)
    return bool(steps[0]) and bool(np.all(steps == steps[0])) and bool(np.all(np.abs(content) < _SMALL))


def as_floats(content: Array) -> Array:
    """The same numbers as float32, or as float64 where that is not enough; as they are where neither is."""
    for dtype in (np.dtype("f4"), np.dtype("f8")):
        if content.dtype.kind != "f" and np.array_equal(content.astype(dtype).astype(content.dtype), content):
            return content.astype(dtype)
    return content


def text_of(value: Any) -> str:
    """An attribute as MXNet writes it."""
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, tuple | list):
        inside = ", ".join(text_of(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return repr(value)
    return str(value)
