"""The graph builder with which every exporter writes ONNX.

``g = GraphBuilder("name")``; ``x = g.input(...)``; ``y = g.Gemm(x, w, b, transB=1)``; an ONNX
operator is called by its own name, inputs positional, attributes by keyword. Every tensor knows its
dtype and sizes (ONNX's own inference runs node by node), constants know their content, and a
transposition stays pending until it must be written (``layout.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import helper

from netferry.converters.graph.ir import layout, tensor
from netferry.converters.graph.ir.arrays import same
from netferry.converters.graph.ir.tensor import Tensor, typed
from netferry.converters.signature import Array, Dim, TensorSpec
from netferry.version import VERSION

__all__ = ["BFLOAT16_OPSET", "OPSET", "Body", "GraphBuilder", "Tensor", "free", "unique"]

OPSET = 21
"""The opset that exporters write: the first that has Gelu, LayerNormalization and a GroupNormalization
with one scale per channel."""

BFLOAT16_OPSET = 22
"""The first whose convolutions and pools take bfloat16."""

Body = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
"""One step of a scan: (states, elements) -> (next states, what it yields)."""


class GraphBuilder:
    """Collects inputs, initializers and nodes, and closes them into an ``ir.Model``."""

    def __init__(self, name: str, *, opset: int = OPSET) -> None:
        self.opset = opset
        self._graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name=name)
        self._initializers = self._graph.initializers
        self._outputs: list[ir.Value] = []
        self._taken: set[str] = set()
        self._nodes: set[str] = set()
        self._scope = name
        self._settled: dict[tuple[int, layout.Perm], Tensor] = {}
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        self._weights: dict[str, list[Tensor]] = {}

    # ---- what a row calls -------------------------------------------------------------------

    def __getattr__(self, op_type: str) -> Callable[..., Tensor]:
        """``g.Relu(x)`` is ``g.op("Relu", x)``."""
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def call(*inputs: Tensor | None, **attributes: Any) -> Tensor:
            return self.op(op_type, *inputs, **attributes)

        return call

    def op(self, op_type: str, *inputs: Tensor | None, **attributes: Any) -> Tensor:
        """Add a node with one output."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(
        self, op_type: str, *inputs: Tensor | None, outputs: int, **attributes: Any
    ) -> tuple[Tensor, ...]:
        """Add a node with ``outputs`` outputs. Attributes that are None are left at ONNX's default."""
        given = {key: _plain(value) for key, value in attributes.items() if value is not None}
        perm = self._shared_perm(inputs) if op_type in layout.POINTWISE else None
        if perm is None:
            operands = [None if x is None else self._settle(x) for x in inputs]
        else:
            operands = [None if x is None else self._under(x, perm) for x in inputs]
        while operands and operands[-1] is None:
            operands.pop()
        if op_type in ("MaxPool", "AveragePool"):
            self._keep_padding(op_type, operands[0], attributes)
        results = self._node(op_type, operands, given, outputs)
        if perm is None:
            return results
        return tuple(
            replace(y, perm=perm, dims=None if y.dims is None else tuple(y.dims[a] for a in perm))
            for y in results
        )

    def scan(
        self, body: Body, states: Sequence[Tensor], sequences: Sequence[Tensor], *, reverse: bool = False
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """``body`` at each place of the first axis of ``sequences``, from the last on where ``reverse``.

        ``body(states, elements)`` writes one step with this same builder and gives the next states, of the same
        dtypes and sizes, and what the step yields. It may read tensors from outside of it. Returns the last
        states and, stacked along a first axis in the order of ``sequences``, what the steps yielded.
        """
        given, count = [self._settle(x) for x in (*states, *sequences)], len(states)
        sizes = [_sizes(x)[position >= count :] for position, x in enumerate(given)]
        inner = [self._bound(x.dtype, dims) for x, dims in zip(given, sizes, strict=True)]
        graph = ir.Graph([x.value for x in inner], [], nodes=[], name=f"{self._scope}/body")
        with self._inside(graph):
            kept, yielded = body(inner[:count], inner[count:])
            results = self._results([*kept, *yielded], graph)
        attributes: dict[str, Any] = {"body": graph, "num_scan_inputs": len(sequences)}
        if reverse:
            attributes["scan_input_directions"] = [1] * len(sequences)
            attributes["scan_output_directions"] = [1] * len(yielded)
        node = self._named("Scan", given, attributes, len(results))
        self._graph.append(node)
        sizes[count:] = [(_sizes(given[count])[0], *_sizes(x)) for x in results[count:]]
        outputs = tuple(
            typed(value, x.dtype, dims) for value, x, dims in zip(node.outputs, results, sizes, strict=True)
        )
        return outputs[:count], outputs[count:]

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """Reorder axes without writing a node: constants at once, others when they must."""
        perm = tuple(perm)
        if perm == layout.identity(len(perm)):
            return x
        if x.array is not None:
            return self.constant(x.array.transpose(perm), name=x.name)
        whole = perm if x.perm is None else layout.compose(x.perm, perm)
        dims = None if x.dims is None else tuple(x.dims[axis] for axis in perm)
        pending = None if whole == layout.identity(len(whole)) else whole
        return replace(x, perm=pending, dims=dims)

    def constant(self, array: Any, dtype: Any = None, *, name: str | None = None) -> Tensor:
        """A constant; a weight has its source's ``name``, and equal nameless ones are written once.

        A weight that two layers share, or a layer that is called twice, is written once too: a name stands
        for one weight. The array is not copied. It becomes an initializer when a node first uses it.
        """
        array = np.asarray(array, dtype)
        if name is not None:
            return self._weight(array, name)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._constant(array, "constant")
        return self._constants[key]

    def ints(self, *values: int) -> Tensor:
        """A 1-D int64 constant, as shapes, axes and pads are given."""
        return self.constant(list(values), np.int64)

    def scalar(self, value: float, like: Tensor) -> Tensor:
        """A 0-D constant of the dtype of ``like``."""
        return self.constant(value, like.dtype)

    # ---- what a walk calls ------------------------------------------------------------------

    def input(self, spec: TensorSpec) -> Tensor:
        """Declare a graph input; its name is kept as it is."""
        value = ir.Value(
            name=self._fresh(spec.name),
            type=ir.TensorType(ir.DataType.from_numpy(spec.dtype)),
            shape=None if spec.dims is None else ir.Shape(spec.dims),
        )
        self._graph.inputs.append(value)
        return Tensor(value, spec.dtype, spec.dims)

    def output(self, x: Tensor, name: str, dims: Sequence[Dim] | None = None) -> None:
        """Declare a graph output under ``name``; ``dims`` where the source knows them better."""
        x = self._settle(x)
        value = x.value
        if value.producer() is None or value in self._outputs:
            value = self._node("Identity", [x], {}, 1, aside=True)[0].value
        if value.name != name:
            self._make_way(name)
            value.name = self._fresh(name)
        known = x.dims if dims is None else tuple(dims)
        value.shape = None if known is None else ir.Shape(known)
        self._outputs.append(value)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nodes written inside have the name ``name``, the source's own name of the layer."""
        outer, self._scope = self._scope, name
        try:
            yield
        finally:
            self._scope = outer

    def finish(self, metadata: Mapping[str, str] | None = None) -> ir.Model:
        """Close the graph: nodes that nothing needs are dropped, the rest is the model."""
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        self._graph.outputs.extend(self._outputs)
        model = ir.Model(
            self._graph,
            ir_version=helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)]),
            producer_name="netferry",
            producer_version=VERSION,
            metadata_props=dict(metadata or {}),
        )
        return RemoveUnusedNodesPass()(model).model

    # ---- inside -----------------------------------------------------------------------------

    def _make_way(self, name: str) -> None:
        """A value inside the graph, or a weight, gives up a name that an output is to have."""
        weight = self._initializers.pop(name, None)
        if weight is not None:
            weight.name = self._fresh(name)
            self._initializers[weight.name] = weight
            self._taken.discard(name)
        for node in self._graph:
            for value in node.outputs:
                if value.name == name and value not in self._outputs:
                    value.name = self._fresh(name)
                    self._taken.discard(name)

    def _fresh(self, wish: str) -> str:
        return unique(wish, self._taken)

    def _weight(self, array: Array, name: str) -> Tensor:
        known = self._weights.setdefault(name, [])
        for weight in known:
            content = weight.array
            if content is not None and same(content, array):
                return weight
        known.append(self._constant(array, name))
        return known[-1]

    def _constant(self, array: Array, name: str) -> Tensor:
        value = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
        )
        return Tensor(value, array.dtype, array.shape, array=array)

    def _bound(self, dtype: np.dtype[Any], dims: tuple[Dim, ...] | None) -> Tensor:
        """A value that a body is given."""
        return typed(ir.Value(name=self._fresh(f"{self._scope}/body_input")), dtype, dims)

    @contextmanager
    def _inside(self, graph: ir.Graph) -> Iterator[None]:
        """Nodes go into the body ``graph``; what is written there cannot be read outside of it."""
        outer, settled = self._graph, self._settled
        self._graph, self._settled = graph, dict(settled)
        try:
            with self.scope(graph.name or ""):
                yield
        finally:
            self._graph, self._settled = outer, settled

    def _results(self, tensors: Sequence[Tensor], graph: ir.Graph) -> list[Tensor]:
        """Close a body: each of its outputs is a value of its own, and made inside of it."""
        results: list[Tensor] = []
        for x in map(self._settle, tensors):
            producer = x.value.producer()
            if producer is None or producer.graph is not graph or x.value in graph.outputs:
                x = self._node("Identity", [x], {}, 1)[0]
            graph.outputs.append(x.value)
            results.append(x)
        return results

    def _settle(self, x: Tensor) -> Tensor:
        """Write what is pending: the initializer of a constant, the Transpose of a permutation."""
        if x.array is not None:
            self._initialize(x)
            return x
        if x.perm is None:
            return x
        key = (id(x.value), x.perm)
        if key not in self._settled:
            base = replace(x, perm=None, dims=_unpermuted(x.dims, x.perm))
            self._settled[key] = self._node("Transpose", [base], {"perm": x.perm}, 1, aside=True)[0]
        return replace(self._settled[key], dims=x.dims)

    def _keep_padding(self, op_type: str, x: Tensor | None, attributes: Mapping[str, Any]) -> None:
        """Let the Pad before a pool name its axes.

        Else onnxruntime (1.31) folds it into the pool: zeros into a MaxPool, which pads with the least number there is, and
        into an AveragePool also what is as wide as its windows, of which it then makes no session.
        """
        pad = None if x is None else x.value.producer()
        if pad is None or pad.op_type != "Pad" or len(pad.inputs) > 3:
            return
        pads = None if pad.inputs[1] is None else pad.inputs[1].const_value
        if pads is None:
            return
        before, after = np.split(pads.numpy(), 2)
        kernel = attributes["kernel_shape"]
        if op_type == "AveragePool" and (np.maximum(before, after)[-len(kernel) :] < kernel).all():
            return
        axes = np.flatnonzero(before | after)
        pad.resize_inputs(4)
        for position, numbers in ((1, np.concatenate([before[axes], after[axes]])), (3, axes)):
            pad.replace_input_with(position, self._settle(self.constant(numbers, np.int64)).value)

    def _initialize(self, x: Tensor) -> None:
        value = x.value
        if value.const_value is not None:
            return
        assert x.array is not None
        value.name = self._fresh(x.name)
        value.const_value = ir.Tensor(np.asarray(x.array, order="C"), name=value.name)
        self._initializers[value.name] = value

    def _shared_perm(self, inputs: Sequence[Tensor | None]) -> layout.Perm | None:
        """The permutation that all operands can be read under, or None where they must be settled."""
        perms = {x.perm for x in inputs if x is not None and x.perm is not None}
        if len(perms) != 1:
            return None
        perm = perms.pop()
        assert perm is not None
        fits = all(
            x is None
            or x.perm == perm
            or (x.dims is not None and len(x.dims) == 0)
            or (x.array is not None and x.array.ndim <= len(perm))
            for x in inputs
        )
        return perm if fits else None

    def _under(self, x: Tensor, perm: layout.Perm) -> Tensor:
        """``x`` in the layout of the pending ``perm``'s base: constants are permuted back now."""
        if x.perm == perm:
            return replace(x, perm=None, dims=_unpermuted(x.dims, perm))
        if x.array is not None and x.array.ndim:
            full = x.array.reshape((1,) * (len(perm) - x.array.ndim) + x.array.shape)
            base = full.transpose(layout.inverse(perm))
            x = self.constant(base, name=x.name if x.array.size > 1 else None)
        return self._settle(x)

    def _node(
        self,
        op_type: str,
        operands: Sequence[Tensor | None],
        attributes: dict[str, Any],
        outputs: int,
        *,
        aside: bool = False,
    ) -> tuple[Tensor, ...]:
        """Write a node and infer what it gives."""
        node = self._named(op_type, operands, attributes, outputs, aside=aside)
        types = tensor.inferred(node, operands, attributes, self.opset)
        self._graph.append(node)
        return tuple(tensor.of_type(value, types.get(value.name or "")) for value in node.outputs)

    def _named(
        self,
        op_type: str,
        operands: Sequence[Tensor | None],
        attributes: Mapping[str, Any],
        outputs: int,
        *,
        aside: bool = False,
    ) -> ir.Node:
        """A node; the layer's own name goes to its first node that is not written ``aside``."""
        plain = not aside and self._scope not in self._nodes
        node = ir.node(
            op_type,
            [None if x is None else x.value for x in operands],
            attributes,
            num_outputs=outputs,
            name=unique(self._scope if plain else f"{self._scope}/{op_type}", self._nodes),
        )
        for value in node.outputs:
            value.name = self._fresh(f"{node.name}_output")
        return node


def _sizes(x: Tensor) -> tuple[Dim, ...]:
    """The sizes of a tensor whose rank must be known."""
    return x.dims if x.dims is not None else (None,) * x.rank


def unique(wish: str, taken: set[str]) -> str:
    """``wish``, or ``wish_1`` ... where it is taken; nodes and values have names of their own each."""
    name = free(wish, taken)
    taken.add(name)
    return name


def free(wish: str, taken: Container[str]) -> str:
    """What ``unique`` gives. The number is found by halving: many equal wishes would else pass all before them."""
    if wish not in taken:
        return wish
    last, found = 0, 1
    while f"{wish}_{found}" in taken:
        last, found = found, 2 * found
    while found - last > 1:
        middle = (found + last) // 2
        last, found = (middle, found) if f"{wish}_{middle}" in taken else (last, middle)
    return f"{wish}_{found}"


def _unpermuted(dims: tuple[Dim, ...] | None, perm: layout.Perm) -> tuple[Dim, ...] | None:
    return None if dims is None else tuple(dims[axis] for axis in layout.inverse(perm))


def _plain(value: Any) -> Any:
    """An attribute as ONNX takes it: plain numbers, no numpy scalars, bool as int."""
    if isinstance(value, bool | np.integer | np.bool_):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
