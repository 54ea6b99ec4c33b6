"""The tensors inside an ONNX graph while it runs: it is cut into pieces, each with all of its tensors as outputs.

The pieces run one after the other and hand on what later ones read, so that every node runs once. A piece holds no more
tensors than ``budget`` bytes, as far as their sizes can be known beforehand, and the weights of its own nodes alone;
external data stays in its files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, shape_inference

from netferry.converters.onnx import live
from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Step, Take, stated

Model = str | os.PathLike[str] | onnx.ModelProto | ir.Model
Run = Callable[[onnx.ModelProto, Path | None, Mapping[str, Any]], Mapping[str, Any]]
"""Runs a model whose external data lies in a folder, on named arrays."""

BUDGET = 32 * 2**20
"""Bytes of tensors that one piece may give."""

_MOST_NODES = 64
_INLINE_LIMIT = 1_500_000_000
"""Weights in bytes up to which ONNX' inference of sizes is asked: it works on one protobuf."""


def stream(model: Model, arrays: Sequence[Array], take: Take, run: Run, budget: int = BUDGET) -> Ends:
    """Run piece by piece and hand each node to ``take``; ``arrays`` are bound to the inputs by position."""
    whole = Graph.of(model)
    names = [value.name for value in whole.inputs]
    live_now: dict[str, Any] = dict(zip(names, arrays, strict=True))
    done = 0
    for nodes in whole.pieces(live_now, budget):
        reads = list(dict.fromkeys(name for node in nodes for name in whole.reads(node) if name in live_now))
        gives = [name for node in nodes for name in node.output if name]
        part = whole.cut(nodes, {name: _type(live_now[name]) for name in reads}, gives)
        values = run(part, whole.folder, {name: live_now[name] for name in reads})
        for node in nodes:
            given = {name: values[name] for name in node.output if name and _is_tensor(values[name])}
            take(whole.step(node), given)
        done += len(nodes)
        live_now |= values
        live_now = {name: value for name, value in live_now.items() if whole.last_read.get(name, -1) >= done}
    return Ends(tuple(names), {value.name: value.name for value in whole.proto.graph.output})


def weights(model: onnx.ModelProto | ir.Model) -> Iterator[tuple[str, Array]]:
    """Initializers by name."""
    for tensor in live.proto(model).graph.initializer:
        yield tensor.name, onnx.numpy_helper.to_array(tensor)


def piece(model: Model, name: str, reads: Mapping[str, Array], gives: str) -> onnx.ModelProto:
    """The sub-model that computes ``gives`` from ``reads``: its nodes as they stand in the graph, with their weights.

    It holds its weights itself; where they lie in a file of their own they are read from there.
    """
    whole = Graph.of(model)
    nodes, wanted = [], {gives}
    for node in reversed(whole.nodes):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted |= set(whole.reads(node)) - set(reads)
    types = {name: _type(array) for name, array in reads.items()}
    part = whole.cut(nodes[::-1], types, [gives])
    if whole.folder is not None:
        onnx.load_external_data_for_model(part, str(whole.folder))
    return part


class Graph:
    """A graph and who reads what in it; ``folder`` holds its external data, which is not loaded."""

    def __init__(self, proto: onnx.ModelProto, folder: Path | None) -> None:
        self.proto, self.folder = proto, folder
        self.weights = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._sparse = {tensor.values.name: tensor for tensor in proto.graph.sparse_initializer}
        self.inputs = [value for value in proto.graph.input if value.name not in self.weights]
        dynamic = {value.name for value in self.inputs}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.NodeProto] = {}
        for node in proto.graph.node:
            if any(name in dynamic for name in _reads(node)) or _is_random(node):
                self.nodes.append(node)
                dynamic.update(name for name in node.output if name)
            else:
                self.constants.update((name, node) for name in node.output if name)
        self._dynamic = dynamic
        self.last_read = {name: index for index, node in enumerate(self.nodes) for name in self.reads(node)}

    @classmethod
    def of(cls, model: Model) -> Graph:
        """A path's external data is left where it is."""
        if isinstance(model, str | os.PathLike):
            return cls(onnx.load(model, load_external_data=False), Path(model).parent)
        return cls(live.proto(model), None)

    def reads(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """What a node reads, in its subgraphs too, of all that depends on the inputs."""
        return tuple(name for name in _reads(node) if name in self._dynamic)

    def step(self, node: onnx.NodeProto) -> Step:
        weights = dict.fromkeys(w for name in _reads(node) for w in self._weights_of(name))
        given = tuple(name for name in node.output if name)
        name = node.name or given[0].removesuffix("_output")
        attributes = stated({one.name: helper.get_attribute_value(one) for one in node.attribute})
        return Step(name, node.op_type, self.reads(node), given, tuple(weights), attributes=attributes)

    def _weights_of(self, name: str) -> Iterator[str]:
        if name in self.weights:
            yield name
        elif name in self.constants:
            for source in _reads(self.constants[name]):
                yield from self._weights_of(source)

    def pieces(self, given: Mapping[str, Array], budget: int) -> Iterator[list[onnx.NodeProto]]:
        """The nodes that depend on the inputs, in order and in groups whose tensors fit into ``budget`` bytes."""
        sizes = self._sizes(given)
        unknown = max((array.nbytes for array in given.values()), default=0)
        group: list[onnx.NodeProto] = []
        total = 0
        for node in self.nodes:
            size = sum(sizes.get(name, unknown) for name in node.output if name)
            if group and (total + size > budget or len(group) == _MOST_NODES):
                yield group
                group, total = [], 0
            group.append(node)
            total += size
        if group:
            yield group

    def _sizes(self, given: Mapping[str, Array]) -> dict[str, int]:
        """Bytes of each tensor whose size ONNX can infer from the inputs'."""
        bare = onnx.ModelProto()
        bare.CopyFrom(self._head())
        stored = sum(len(tensor.raw_data) for tensor in self.weights.values())
        if stored > _INLINE_LIMIT:
            return {}
        small = [t for t in self.weights.values() if np.prod(t.dims) <= 64]
        large = [t for t in self.weights.values() if np.prod(t.dims) > 64]
        bare.graph.initializer.extend(small)
        bare.graph.input.extend(helper.make_value_info(name, _type(array)) for name, array in given.items())
        bare.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in large)
        bare.graph.node.extend(self.proto.graph.node)
        try:
            inferred = shape_inference.infer_shapes(bare, data_prop=True)
        except Exception:  # whatever it does not understand: sizes stay unknown
            return {}
        known = {value.name: _bytes(value.type.tensor_type) for value in inferred.graph.value_info}
        return {name: size for name, size in known.items() if size is not None}

    def cut(
        self, nodes: Sequence[onnx.NodeProto], reads: Mapping[str, onnx.TypeProto], gives: Sequence[str]
    ) -> onnx.ModelProto:
        """A model of these nodes, with the weights and constant nodes that they need."""
        constants: dict[int, onnx.NodeProto] = {}
        weights: dict[str, None] = {}

        def need(name: str) -> None:
            if name in self.weights or name in self._sparse:
                weights[name] = None
            elif name in self.constants and id(self.constants[name]) not in constants:
                source = self.constants[name]
                for before in _reads(source):
                    need(before)
                constants[id(source)] = source

        for node in nodes:
            for name in _reads(node):
                need(name)
        part = self._head()
        part.graph.node.extend([*constants.values(), *nodes])
        part.graph.initializer.extend(self.weights[name] for name in weights if name in self.weights)
        part.graph.sparse_initializer.extend(self._sparse[name] for name in weights if name in self._sparse)
        part.graph.input.extend(helper.make_value_info(name, kind) for name, kind in reads.items())
        part.graph.output.extend(self._outputs(gives))
        return part

    def _outputs(self, gives: Sequence[str]) -> Iterator[onnx.ValueInfoProto]:
        """Outputs as the graph declares them; onnxruntime infers the type of any other."""
        declared = {value.name: value for value in self.proto.graph.output}
        for name in gives:
            yield declared.get(name) or onnx.ValueInfoProto(name=name)

    def _head(self) -> onnx.ModelProto:
        head = onnx.ModelProto(ir_version=self.proto.ir_version, producer_name="netferry")
        head.opset_import.extend(self.proto.opset_import)
        head.functions.extend(self.proto.functions)
        head.graph.name = self.proto.graph.name or "piece"
        return head


def _reads(node: onnx.NodeProto) -> tuple[str, ...]:
    """The names that a node reads, and those that its subgraphs read from around it."""
    found = dict.fromkeys(name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            if not graph.node and not graph.output:
                continue
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            inside = [name for inner in graph.node for name in _reads(inner)]
            inside += [value.name for value in graph.output]
            found |= dict.fromkeys(name for name in inside if name not in own)
    return tuple(found)


_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)


def _is_random(node: onnx.NodeProto) -> bool:
    return node.op_type in _RANDOM


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _type(value: Any) -> onnx.TypeProto:
    """The type of a value that is there: a tensor of its sizes, or a sequence of tensors."""
    if isinstance(value, list):
        inner = _type(value[0]) if value else helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None)
        inner.tensor_type.ClearField("shape")
        made: onnx.TypeProto = helper.make_sequence_type_proto(inner)
        return made
    dtype = (
        onnx.TensorProto.STRING if value.dtype.kind in "OUS" else helper.np_dtype_to_tensor_dtype(value.dtype)
    )
    return helper.make_tensor_type_proto(dtype, value.shape)


def _bytes(tensor: onnx.TypeProto.Tensor) -> int | None:
    if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in tensor.shape.dim):
        return None
    try:
        width = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    except KeyError:
        return None
    return int(np.prod([dim.dim_value for dim in tensor.shape.dim], dtype=np.int64)) * width
