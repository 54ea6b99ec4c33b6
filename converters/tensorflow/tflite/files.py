"""Read TFLite files without TensorFlow."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.artifact import Artifact
from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.files import meant_of, numbered
from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.graphdef.messages import STORED, STRING
from netferry.converters.tensorflow.graphdef.model import CalledBy, Port, Source
from netferry.converters.tensorflow.tflite import safety, schema, sparse
from netferry.converters.tensorflow.tflite.model import (
    LiteModel,
    Operation,
    Quantisation,
    Subgraph,
    TensorOf,
    called,
    node_of,
)
from netferry.converters.trust import calls
from netferry.converters.trust.permit import Looked
from netferry.converters.trust.tables import are_possible, room

_MAIN = "main"
_TF_CODES = {dtype: code for code, dtype in reversed(list(STORED.items()))}


def read(artifact: Artifact, *, weights: Path | None = None, looked: Looked | None = None) -> LiteModel:
    """The model of a file that was looked at."""
    looked = looked or safety.look(artifact, weights)
    where = str(artifact.path)
    reader = _Reader(looked.message, looked.content.view(), where)
    _demand_apart(looked.message, len(looked.content.view()), where)
    subgraphs = [reader.subgraph(index, each) for index, each in enumerate(looked.message.subgraphs)]
    for graph in subgraphs:
        _demand_subgraphs(graph, len(subgraphs), where)
        _demand_written_once(graph, where)
    runs = {
        graph.index: (len(graph.operations), [index for each in graph.operations for index in called(each)])
        for graph in subgraphs
    }
    calls.check(runs, list(runs), where)
    found = [_signature(each, subgraphs, where) for each in looked.message.signature_defs]
    if not found:
        found = [(_unnamed(subgraphs[0]), 0)]
    signatures = {called_by.name: called_by for called_by, _ in found}
    serves = {called_by.name: index for called_by, index in found}
    return LiteModel(
        where,
        subgraphs,
        signatures,
        serves,
        meant_of(signatures),
        Source(artifact.path, artifact.kind, looked),
    )


def _demand_apart(model: Any, size: int, where: str) -> None:
    """Refuse tensors and operators that stand once and are listed often: each of them is work."""
    listed = sum(len(each.tensors) + len(each.operators) for each in model.subgraphs)
    if listed * _LEAST > size:
        raise RefusedError(
            "its tables point to the same places over and over",
            where=where,
            expected=f"at most {size // _LEAST:,} tensors and operators in a file of this size",
            received=f"{listed:,}",
        )


_LEAST = 24
"""Bytes of the smallest tensor or operator: its place in the list, its table, and what its name or its tensors take."""


def _demand_subgraphs(graph: Subgraph, count: int, where: str) -> None:
    for operation in graph.operations:
        outside = [index for index in called(operation) if index >= count]
        if outside:
            raise RefusedError(
                f"damaged: {operation.name} runs subgraph {outside[0]} of {count}",
                where=f"{where}: {graph.name}",
            )


def _demand_written_once(graph: Subgraph, where: str) -> None:
    """Refuse a tensor that is given, constant, read by the operator itself or another's result, and written all the same."""
    held = {*graph.inputs, *(at for at, tensor in enumerate(graph.tensors) if tensor.content is not None)}
    for operation in graph.operations:
        twice = [index for index in operation.outputs if index in held or index in operation.inputs]
        if twice:
            raise RefusedError(
                f"damaged: {operation.name} writes '{graph.tensors[twice[0]].name}', which has its numbers already",
                where=f"{where}: {graph.name}",
            )
        held.update(operation.outputs)


def _with_nothing(tensor: TensorOf, where: str) -> TensorOf:
    """A tensor of no elements that nothing writes is a constant, whose buffer has no bytes."""
    dims = [size or 0 for size in tensor.dims or ()]
    if tensor.content is not None or tensor.variable or tensor.dtype is None or 0 not in dims:
        return tensor
    if not are_possible(dims):
        raise RefusedError(f"damaged: '{tensor.name}' has sizes that cannot be", where=where, received=dims)
    return replace(tensor, content=np.zeros(dims, tensor.dtype))


class _Reader:
    """Turns tables into what the rest works with; every index is held against what it points into."""

    def __init__(self, model: Any, data: memoryview, where: str) -> None:
        self._model, self._data, self._where = model, data, where
        self._codes = [_code(each) for each in model.operator_codes]
        self._room = room(len(data))

    def subgraph(self, index: int, table: Any) -> Subgraph:
        tensors = [self._tensor(each) for each in table.tensors]
        name = table.name or (_MAIN if index == 0 else f"subgraph {index}")
        where = f"{self._where}: {name}"
        operations = [self._operation(each, len(tensors), where) for each in table.operators]
        inputs, outputs = (_indices(each, len(tensors), where) for each in (table.inputs, table.outputs))
        written = {*inputs, *(number for operation in operations for number in operation.outputs)}
        tensors = [
            each if number in written else _with_nothing(each, where) for number, each in enumerate(tensors)
        ]
        return Subgraph(index, name, tensors, inputs, outputs, operations)

    def _operation(self, table: Any, count: int, where: str) -> Operation:
        if table.opcode_index >= len(self._codes):
            raise RefusedError(
                f"damaged: operator code {table.opcode_index} of {len(self._codes)}", where=where
            )
        name, custom = self._codes[table.opcode_index]
        kind = schema.options_of(table.builtin_options_type)
        options = None if kind is None else table.as_("builtin_options", kind)
        return Operation(
            name,
            custom,
            _indices(table.inputs, count, where, missing=True),
            _indices(table.outputs, count, where),
            options,
        )

    def _tensor(self, table: Any) -> TensorOf:
        where = f"{self._where}: {table.name}"
        sizes = tuple(int(size) for size in table.shape)
        free = tuple(int(size) for size in table.shape_signature)
        dims = tuple(None if size < 0 else size for size in (free if len(free) == len(sizes) else sizes))
        content = self._content(table, sizes, where)
        return TensorOf(
            table.name, table.type, dims, _quantised(table, sizes, where), bool(table.is_variable), content
        )

    def _bytes(self, number: int, where: str) -> memoryview | None:
        """The bytes of a buffer; number 0 is empty by rule."""
        buffers = self._model.buffers
        if number >= len(buffers):
            raise RefusedError(f"damaged: buffer {number} of {len(buffers)}", where=where)
        buffer = buffers[number]
        if buffer.offset > 1:
            if buffer.offset + buffer.size > len(self._data):
                raise RefusedError("damaged: a buffer outside of the file", where=where)
            if len(buffer.data):
                raise RefusedError("damaged: a buffer that lies in two places", where=where)
            return self._data[buffer.offset : buffer.offset + buffer.size]
        return memoryview(buffer.data) if len(buffer.data) else None

    def _content(self, table: Any, sizes: Sequence[int], where: str) -> Array | None:
        data = self._bytes(table.buffer, where)
        if table.external_buffer:
            raise RefusedError("its weights lie in another file", where=where)
        if data is None or table.is_variable:
            return None
        count = math.prod(sizes)
        if any(size < 0 for size in sizes):
            raise RefusedError("damaged: a constant of a free size", where=where)
        if table.type in schema.PACKED:
            return _unpacked(data, *schema.PACKED[table.type], count, where).reshape(sizes)
        dtype = schema.DTYPES.get(table.type)
        if dtype is None:
            return None
        if table.sparsity is not None:
            self._room -= sparse.bytes_of(table.sparsity, sizes, dtype)
            if self._room < 0:
                raise RefusedError("its sparse weights are far larger than its size allows", where=where)
            if len(data) % dtype.itemsize:
                raise RefusedError("a constant has not as many bytes as its sizes say", where=where)
            return sparse.dense(table.sparsity, np.frombuffer(data, dtype), sizes, where)
        if len(data) != count * dtype.itemsize:
            raise RefusedError(
                "a constant has not as many bytes as its sizes say", where=where,
                expected=count * dtype.itemsize, received=len(data),
            )  # fmt: skip
        return np.frombuffer(data, dtype).reshape(sizes)


def _code(table: Any) -> tuple[str, str]:
    """Name of a builtin operator; the old field has the numbers below 127."""
    number = max(table.builtin_code, table.deprecated_builtin_code)
    name = schema.OPERATORS[number] if 0 <= number < len(schema.OPERATORS) else f"number {number}"
    return name, table.custom_code


def _indices(numbers: Any, count: int, where: str, missing: bool = False) -> tuple[int, ...]:
    found = tuple(int(each) for each in numbers)
    wrong = [each for each in found if not (0 <= each < count or (missing and each == -1))]
    if wrong:
        raise RefusedError(f"damaged: tensor {wrong[0]} of {count}", where=where)
    return found


def _unpacked(data: memoryview, bits: int, dtype: str, count: int, where: str) -> Array:
    """Numbers of less than a byte, the first in the lowest bits."""
    each = 8 // bits
    if len(data) != -(-count // each):
        raise RefusedError("a constant has not as many bytes as its sizes say", where=where)
    packed = np.frombuffer(data, np.uint8)
    parts = np.stack([(packed >> (bits * place)) & ((1 << bits) - 1) for place in range(each)], -1).reshape(
        -1
    )[:count]
    if dtype == "i1":
        parts = (parts.astype(np.int16) ^ (1 << bits - 1)) - (1 << bits - 1)
    return np.asarray(parts, dtype)


def _quantised(table: Any, sizes: Sequence[int], where: str) -> Quantisation | None:
    found = table.quantization
    if found is None or not len(found.scale):
        return None
    if found.details_type:
        raise RefusedError("its weights are quantised by blocks, or in a way of somebody's own", where=where)
    scale = np.asarray(found.scale, np.float32)
    zero = np.asarray(found.zero_point, np.int64)
    zero = np.zeros(scale.shape, np.int64) if not len(zero) else zero
    axis = int(found.quantized_dimension)
    per_axis = scale.size > 1 or zero.size > 1
    if per_axis and (
        not 0 <= axis < len(sizes) or sizes[axis] != scale.size or zero.size not in (1, scale.size)
    ):
        raise RefusedError(
            "its scales do not fit its sizes", where=where, received=f"{scale.size} for {list(sizes)}"
        )
    return Quantisation(
        scale,
        np.broadcast_to(zero, scale.shape) if zero.size != scale.size else zero,
        axis if per_axis else 0,
    )


# ---- signatures ------------------------------------------------------------------------------------


def _signature(table: Any, subgraphs: Sequence[Subgraph], where: str) -> tuple[CalledBy, int]:
    """Inputs in the order in which the subgraph has them, outputs in that of their names' numbers."""
    if table.subgraph_index >= len(subgraphs):
        raise RefusedError(f"damaged: a signature of subgraph {table.subgraph_index}", where=where)
    graph = subgraphs[table.subgraph_index]
    named = {int(each.tensor_index): each.name for each in table.inputs}
    inputs = tuple(_ports(graph, graph.inputs, named))
    given = [(each.name, int(each.tensor_index)) for each in table.outputs]
    _indices([index for _, index in given], len(graph.tensors), where)
    outputs = tuple(
        port_of(graph, index, name) for name, index in sorted(given, key=lambda one: numbered(one[0]))
    )
    return CalledBy(table.signature_key or _MAIN, inputs, outputs), int(table.subgraph_index)


def _unnamed(graph: Subgraph) -> CalledBy:
    """Without a signature the tensors' own names are all there is."""
    inputs = tuple(_ports(graph, graph.inputs, {}))
    return CalledBy(_MAIN, inputs, tuple(_ports(graph, graph.outputs, {}, {port.name for port in inputs})))


def _ports(
    graph: Subgraph, indices: Sequence[int], named: Mapping[int, str], others: Collection[str] = ()
) -> Iterator[Port]:
    """Each of them under a name of its own."""
    taken = set(others)
    for index in indices:
        name = named.get(index) or _plain(graph.tensors[index].name) or f"tensor_{index}"
        yield port_of(graph, index, unique(name, taken))


def port_of(graph: Subgraph, index: int, name: str) -> Port:
    """A tensor as an input or output of a signature, under this name."""
    tensor = graph.tensors[index]
    code = STRING if tensor.code == 5 or tensor.dtype is None else _TF_CODES[tensor.dtype]
    return Port(name, Ref(node_of(index), 0), code, tensor.dims)


def _plain(name: str) -> str:
    """``serving_default_x:0`` is x."""
    return re.sub(r":0$", "", name).removeprefix("serving_default_")
