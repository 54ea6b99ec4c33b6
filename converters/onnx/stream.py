"""Read and write an ONNX model weight by weight, so that none of them is copied into a message first.

A protobuf message is a row of fields (tag, length, content), in any order. The graph's weights are such
fields: what else the graph holds is serialized without them, and each weight follows as its own field.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from netferry.converters.disk.folders import Content, Folder
from netferry.converters.graph.ir.arrays import release
from netferry.converters.trust import wire
from netferry.converters.trust.snapshot import Snapshot

_CONTENT = 2
"""Protobuf's wire type of a field with its length."""

_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_WEIGHT = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_BYTES = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
_LOCATION = onnx.TensorProto.DATA_LOCATION_FIELD_NUMBER
_EXTERNAL = onnx.TensorProto.EXTERNAL_DATA_FIELD_NUMBER


_MAPPED_FROM = 32 << 20
"""Bytes of a file from which its weights stay in it until they are asked for."""

_LARGE = 4096
"""Bytes of a weight that is worth pages of its own; it starts at multiples of it (a page of memory)."""


def load(file: Snapshot, name: str) -> onnx.ModelProto:
    """The message in the file ``name``; large weights of a large file are left where they are, as external data in it.

    Raises DecodeError or RefusedError where it is no such message.
    """
    if file.size < _MAPPED_FROM:
        return onnx.ModelProto.FromString(file.read())  # type: ignore[no-any-return]
    parts = [
        _written(_GRAPH, _without_bytes(field.content, file, name))
        if field.number == _GRAPH and field.content is not None
        else field.raw
        for field in wire.fields(file.view(), file.where)
    ]
    return onnx.ModelProto.FromString(b"".join(parts))  # type: ignore[no-any-return]


def _without_bytes(graph: memoryview, file: Snapshot, name: str) -> bytes:
    """A graph's message whose large weights are references to where they lie in the file."""
    return b"".join(
        _written(_WEIGHT, _pointing(field.content, file, name))
        if field.number == _WEIGHT and field.content is not None and len(field.content) >= _LARGE
        else field.raw
        for field in wire.fields(graph, file.where)
    )


def _pointing(weight: Any, file: Snapshot, name: str) -> Any:
    fields = list(wire.fields(weight, file.where))
    contents = [field.content for field in fields if field.number == _BYTES and field.content is not None]
    if len(contents) != 1 or any(field.number in (_LOCATION, _EXTERNAL) for field in fields):
        return weight
    tensor = onnx.TensorProto.FromString(b"".join(field.raw for field in fields if field.number != _BYTES))
    _point(tensor, name, _address(contents[0]) - _address(file.view()), len(contents[0]))
    return tensor.SerializeToString()


def _address(view: memoryview) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


def _point(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))


class MappedTensor(ir.ExternalTensor):  # type: ignore[misc]
    """A weight in a file that is open already; nobody opens it by its name again."""

    __slots__ = ("_file", "_part")

    def __init__(self, file: Snapshot, head: onnx.TensorProto, offset: int, size: int) -> None:
        """``size`` bytes of ``file`` from ``offset`` on, which ``head`` gives a name, a dtype and sizes."""
        location = next(entry.value for entry in head.external_data if entry.key == "location")
        kind, shape = ir.DataType(head.data_type), ir.Shape(head.dims)
        super().__init__(location, offset, size, kind, shape=shape, name=head.name)
        self._file, self._part = file, slice(offset, offset + size)

    def _load(self) -> None:
        content = self._file.view()[self._part]
        if self.dtype.bitwidth < 8:
            packed = onnx.TensorProto(
                data_type=self.dtype.value, dims=self.shape.numpy(), raw_data=bytes(content)
            )
            self._array = numpy_helper.to_array(packed)
        else:
            kind = np.dtype(self.dtype.numpy()).newbyteorder("<")
            self._array = np.frombuffer(content, kind).reshape(self.shape.numpy())

    def tobytes(self) -> bytes:
        """A copy of the bytes."""
        return bytes(self._file.view()[self._part])

    def tofile(self, file: Any) -> None:
        """Append the bytes to a file."""
        self._file.write_to(file, self._part.start, self._part.stop - self._part.start)

    def release(self) -> None:
        """Forget the array; the map is other weights' too."""
        self._array = None


def save_apart(model: ir.Model, path: Path) -> None:
    """Write ``path`` without its large weights, which go to a file beside it, each from the start of a page.

    That file is named after the digest of what ``path`` holds. Whoever reads while a save goes on so meets the weights
    that belong to the graph, or none: never another graph's.
    """
    with _without_weights(model.graph) as weights:
        message = ir.to_proto(model)
    end, offsets = 0, []
    for name, tensor in weights.items():
        head = message.graph.initializer.add()
        if _is_whole(tensor) or tensor.nbytes < _LARGE:
            head.CopyFrom(ir.to_proto(tensor))
            head.name = name
            continue
        head.name, head.data_type = name, tensor.dtype.value
        head.dims.extend(tensor.shape.numpy())
        end += -end % _LARGE
        offsets.append((head, tensor, end))
        end += tensor.nbytes
    digest = hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()[:8]
    location = f"{path.name}.{digest}.data"
    with path.with_name(location).open("wb") as file:
        for head, tensor, offset in offsets:
            file.write(bytes(offset - file.tell()))
            _point(head, location, offset, tensor.nbytes)
            _write(tensor, file)
    path.write_bytes(message.SerializeToString(deterministic=True))


def remove_apart(path: Path, written: Mapping[str, Content]) -> None:
    """Remove those files of weights among ``written``, an earlier save of ``path``, that are as they were and that no model beside it names."""
    name = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}\.data")
    with contextlib.suppress(OSError), Folder.open(path.parent) as folder:
        for file in filter(name.fullmatch, written):
            if folder.content(file) == written[file] and not _is_named(folder, file):
                folder.unlink(file)


def _is_named(folder: Folder, data: str) -> bool:
    """Whether a model of the folder has weights in ``data``."""
    for name in folder.names():
        found = folder.stat(name)
        if name.endswith(".onnx") and found is not None and found.st_size:
            with (
                (folder.path / name).open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole,
            ):
                if whole.find(os.fsencode(data)) >= 0:
                    return True
    return False


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
                _write(tensor, file)


def _write(tensor: Any, file: BinaryIO) -> None:
    tensor.tofile(file)
    if isinstance(tensor, ir.Tensor) and isinstance(tensor.raw, np.ndarray):
        release(tensor.raw)


@contextmanager
def _without_weights(graph: ir.Graph) -> Iterator[Mapping[str, Any]]:
    """The graph without its weights while they are handed out."""
    weights = dict(graph.initializers)
    for name in weights:
        del graph.initializers[name]
    try:
        yield {name: value.const_value for name, value in weights.items() if value.const_value is not None}
    finally:
        graph.initializers.update(weights)


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


def _written(number: int, content: bytes | memoryview) -> bytes:
    """A field of bytes as it stands in a message."""
    return _field(number, len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits to a byte, the lowest first; the eighth says that more follow."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
