"""Write an ONNX model weight by weight, so that none of them is copied into a message first.

A protobuf message is a row of fields (tag, length, content), in any order. The graph's weights are such
fields: what else the graph holds is serialized without them, and each weight follows as its own field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

_CONTENT = 2
"""Protobuf's wire type of a field that says its length."""

_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_WEIGHT = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_BYTES = onnx.TensorProto.RAW_DATA_FIELD_NUMBER


def save(model: ir.Model, path: Path) -> None:
    """Write ``model``, whose weights are in memory or mapped, as one file."""
    with _without_weights(model.graph) as weights:
        message = ir.to_proto(model)
    heads = [_head(name, tensor) for name, tensor in weights.items()]
    fields = [_field(_WEIGHT, len(head) + own) for head, own in heads]
    graph = message.graph.SerializeToString()
    message.ClearField("graph")
    size = len(graph) + sum(
        len(field) + len(head) + own for field, (head, own) in zip(fields, heads, strict=True)
    )
    with path.open("wb") as file:
        file.write(message.SerializeToString() + _field(_GRAPH, size) + graph)
        for field, (head, _), tensor in zip(fields, heads, weights.values(), strict=True):
            file.write(field + head)
            if not _is_whole(tensor):
                tensor.tofile(file)


@contextmanager
def _without_weights(graph: ir.Graph) -> Iterator[Mapping[str, Any]]:
    """The graph without its weights while they are handed out."""
    held = dict(graph.initializers)
    for name in held:
        del graph.initializers[name]
    try:
        yield {name: value.const_value for name, value in held.items() if value.const_value is not None}
    finally:
        graph.initializers.update(held)


def _is_whole(tensor: Any) -> bool:
    """Texts have no bytes of their own; they are written as the message that they are."""
    return bool(tensor.dtype == ir.DataType.STRING)


def _head(name: str, tensor: Any) -> tuple[bytes, int]:
    """A weight's message up to its bytes, and how many bytes follow."""
    if _is_whole(tensor):
        message = ir.to_proto(tensor)
        message.name = name
        return message.SerializeToString(), 0
    message = onnx.TensorProto(name=name, dims=tensor.shape.numpy(), data_type=tensor.dtype.value)
    return message.SerializeToString() + _field(_BYTES, tensor.nbytes), tensor.nbytes


def _field(number: int, size: int) -> bytes:
    return _varint(number << 3 | _CONTENT) + _varint(size)


def _varint(number: int) -> bytes:
    """Seven bits to a byte, the lowest first; the eighth says that more follow."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
