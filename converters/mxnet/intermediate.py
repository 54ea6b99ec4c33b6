"""The tensors inside an MXNet symbol while it runs: the executor shows each of them to a monitor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.build import unique
from netferry.converters.mxnet import inputs, live
from netferry.converters.mxnet.backend import cause
from netferry.converters.mxnet.files import SymbolModel
from netferry.converters.mxnet.live import symbol_model
from netferry.converters.mxnet.symbol import Entry, Node, Symbol
from netferry.converters.rounding import Rounding
from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Step, Take, stated


def stream(model: object, arrays: Sequence[Array], take: Take) -> Ends:
    """Run in inference mode and hand each node to ``take`` as soon as it has run."""
    mx = live.import_mxnet()
    source = symbol_model(model) if isinstance(model, SymbolModel) else live.traced(model, len(arrays))
    source = inputs.with_zero_states(source, len(arrays))
    named = _with_unique_names(source)
    with mx.util.np_shape(source.graph.numpy):
        symbol = live.loaded(mx, named)
        steps = _Steps(named, symbol)
        executor = live.bound(mx, named, symbol, arrays)
        failures: list[BaseException] = []

        def show(name: bytes, handle: int) -> None:
            array = mx.nd.NDArray(mx.base.NDArrayHandle(handle), writable=False)
            step = steps.by_tensor.get(name.decode() if isinstance(name, bytes) else name)
            if step is None or failures:
                return
            try:
                take(step, {step.gives[0]: array.asnumpy()})
            except BaseException as error:  # MXNet would drop it: it is raised when the run is over
                failures.append(error)

        executor.set_monitor_callback(show)
        try:
            for output in executor.forward(is_train=False):
                output.wait_to_read()
        except mx.base.MXNetError as error:
            raise RefusedError(f"MXNet cannot run it ({cause(error)})") from error
        if failures:
            raise failures[0]
        names = live.output_names(mx, source)
    heads = [steps.names[head] for head in source.graph.heads]
    fed = [source.graph.nodes[position].name for position in inputs.variables(source).inputs]
    return Ends(tuple(fed), dict(zip(names, heads, strict=True)))


def rounded(wide: SymbolModel, arrays: Sequence[Array], rounding: Rounding) -> dict[str, Array]:
    """Run a symbol of doubles and move the result of each node before a later one reads it; outputs by name."""
    mx, wide = live.import_mxnet(), inputs.with_zero_states(wide, len(arrays))
    operators = {node.name: node.op for node in wide.graph.nodes if not node.is_variable}
    with mx.util.np_shape(wide.graph.numpy):
        symbol = live.loaded(mx, wide)
        titles = {
            name: operators[wide.graph.nodes[position].name]
            for (position, _), name in _entries(wide.graph, symbol).items()
            if wide.graph.nodes[position].name in operators
        }
        executor = live.bound(
            mx,
            wide,
            symbol,
            [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays],
        )

        def move(name: bytes, handle: int) -> None:
            title = titles.get(name.decode() if isinstance(name, bytes) else name)
            array = mx.nd.NDArray(mx.base.NDArrayHandle(handle), writable=True)
            if title is not None and array.dtype == np.float64 and array.size:
                array[:] = rounding.result(title, array.asnumpy())

        executor.set_monitor_callback(move)
        outputs = [output.asnumpy() for output in executor.forward(is_train=False)]
        return dict(zip(live.output_names(mx, wide), outputs, strict=True))


def weights(model: object) -> Iterator[tuple[str, Array]]:
    """Parameters by name, auxiliary states among them."""
    source = symbol_model(model) if isinstance(model, SymbolModel) else live.traced(model)
    yield from source.params.items()


def piece(model: object, name: str, reads: Mapping[str, Array], gives: str) -> SymbolModel:
    """The nodes that compute the tensor ``gives`` from ``reads``, which become the symbol's inputs, with their weights."""
    mx = live.import_mxnet()
    source = _with_unique_names(symbol_model(model) if isinstance(model, SymbolModel) else live.traced(model))
    steps = _Steps(source, live.loaded(mx, source))
    positions = {tensor: entry for entry, tensor in steps.names.items()}
    nodes = [Node(tensor, "null") for tensor in reads]
    moved = {positions[tensor]: (position, 0) for position, tensor in enumerate(reads)}
    kept: dict[int, int] = {}

    def keep(entry: Entry) -> Entry:
        if entry in moved:
            return moved[entry]
        position, output = entry
        if position not in kept:
            node = source.graph.nodes[position]
            inside = replace(node, inputs=tuple(keep(before) for before in node.inputs))
            kept[position] = len(nodes)
            nodes.append(inside)
        return kept[position], output

    head = keep(positions[gives])
    graph = Symbol(tuple(nodes), (head,), source.graph.version, source.graph.numpy)
    own = {node.name for node in nodes if node.is_variable}
    params = {title: array for title, array in source.params.items() if title in own}
    return replace(source, graph=graph, params=params, notes=())


def _with_unique_names(source: SymbolModel) -> SymbolModel:
    """The model with names that are each had by one node: a block that runs twice gives both of its nodes the same."""
    nodes, seen = list(source.graph.nodes), set[str]()
    taken = {node.name for node in nodes}
    for position, node in enumerate(nodes):
        if node.name in seen:
            nodes[position] = replace(node, name=unique(node.name, taken))
        seen.add(node.name)
    return replace(source, graph=replace(source.graph, nodes=tuple(nodes)))


class _Steps:
    """A symbol's nodes as steps, one for each output that is read, under the names that MXNet gives them.

    An output that nobody reads (the last state of an RNN) is not computed: what stands in its position is chance.
    """

    def __init__(self, source: SymbolModel, symbol: Any) -> None:
        self._graph = source.graph
        self.names = _entries(self._graph, symbol)
        fed = {self._graph.nodes[position].name for position in inputs.variables(source).inputs}
        self._read = {entry for position in self._graph.order for entry in self._graph.nodes[position].inputs}
        self._read.update(self._graph.heads)
        self._dynamic: set[int] = set()
        self._weights: dict[int, tuple[str, ...]] = {}
        self.by_tensor: dict[str, Step] = {}
        for position in self._graph.order:
            self._look(position, fed)

    def _look(self, position: int, fed: set[str]) -> None:
        node = self._graph.nodes[position]
        if node.is_variable:
            if node.name in fed:
                self._dynamic.add(position)
            else:
                self._weights[position] = (node.name,)
            return
        sources = [source for source, _ in node.inputs]
        weights = tuple(
            dict.fromkeys(w for s in sources if s not in self._dynamic for w in self._weights.get(s, ()))
        )
        reads = tuple(dict.fromkeys(self.names[entry] for entry in node.inputs if entry[0] in self._dynamic))
        if not reads:
            self._weights[position] = weights
            return
        self._dynamic.add(position)
        written = f"{node.op}({', '.join(f'{key}={value}' for key, value in node.attrs.items())})"
        for entry, name in self.names.items():
            if entry[0] == position and entry in self._read:
                self.by_tensor[name] = Step(
                    node.name, node.op, reads, (name,), weights, written, stated(node.attrs)
                )  # fmt: skip


def _entries(graph: Symbol, symbol: Any) -> Mapping[tuple[int, int], str]:
    """The name of each output of each node; MXNet lists them node by node, in its own order."""
    inside = symbol.get_internals()
    names: dict[tuple[int, int], str] = {}
    positions = {graph.nodes[position].name: position for position in graph.order}
    counts: dict[int, int] = {}
    for index, name in enumerate(inside.list_outputs()):
        position = positions[inside[index].name]
        names[position, counts.get(position, 0)] = name
        counts[position] = counts.get(position, 0) + 1
    return names
