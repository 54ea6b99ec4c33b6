"""A checkpoint of TensorFlow 2 (and 1, since 0.12): ``.index``, a sorted table of messages, and ``.data-*`` with the numbers;
before that, one such table with the numbers in it.

The table is LevelDB's: data blocks, a block of their handles, and 48 bytes of footer. A block has entries (bytes shared
with the key before, bytes of its own, bytes of the value, each a varint; then both), their restart points, and a
trailer of five bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.trust import crc32c
from netferry.converters.trust.snapshot import Snapshot
from netferry.converters.trust.tables import room
from netferry.converters.trust.wire import varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER, _TRAILER = 48, 5


class Checkpoint:
    """Tensors by name, each a view of the file that holds it."""

    def __init__(self, index: Snapshot, shards: Mapping[tuple[int, int], Snapshot]) -> None:
        """``shards`` by their numbers and their count: those of another save may lie beside these."""
        self.where = index.where
        self._entries: dict[str, Any] = {}
        count = 1
        self._checked = set[str]()
        for key, value in _entries(index.view(), self.where):
            if not key:
                header = messages.parsed("BundleHeader", value, self.where)
                if header.endianness:
                    raise RefusedError("its numbers are big-endian", where=self.where)
                count = header.shards
            else:
                name = key.decode("utf-8", "surrogateescape")
                self._entries[name] = messages.parsed("BundleEntry", value, self.where)
        self._shards = {number: shard for (number, of), shard in shards.items() if of == count}
        claimed = Counter[int]()
        for entry in self._entries.values():
            claimed[entry.shard] += max(entry.size, 0)
        if any(claimed[number] > shard.size for number, shard in self._shards.items()):
            raise RefusedError("the checkpoint is damaged: its tensors overlap", where=self.where)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def read(self, name: str) -> Array:
        """The tensor of this name, or what its slices make together."""
        if name not in self._entries:
            raise RefusedError(f"the checkpoint is damaged: it has no '{name}'", where=self.where)
        entry = self._entries[name]
        dims = [dim.size for dim in entry.shape.dims]
        if not entry.slices:
            return self._content(entry, name, name, dims)
        dtype = messages.dtype_of(entry.dtype, self.where, messages.STORED)
        if any(size < 0 for size in dims) or math.prod(dims) * dtype.itemsize > self._size():
            raise RefusedError(f"'{name}' is larger than the checkpoint", where=self.where, received=dims)
        whole = np.zeros(dims, dtype)
        for each, spans in _placed([(one, one) for one in entry.slices], dims, f"{self.where}: {name}"):
            key = _slice_key(name, each).decode("utf-8", "surrogateescape")
            part = self._entries.get(key)
            if part is None:
                raise RefusedError(
                    f"the checkpoint is damaged: a slice of '{name}' is missing", where=self.where
                )
            sizes = [stop - start for start, stop in spans]
            if [dim.size for dim in part.shape.dims] != sizes:
                raise RefusedError(
                    f"the checkpoint is damaged: a slice of '{name}' has other sizes than its place",
                    where=self.where,
                )
            whole[tuple(slice(*span) for span in spans)] = self._content(part, key, name, sizes)
        return whole

    def _size(self) -> int:
        return sum(shard.size for shard in self._shards.values())

    def _content(self, entry: Any, key: str, name: str, dims: list[int]) -> Array:
        """The numbers of an entry, which stands under ``key``."""
        where = f"{self.where}: {name}"
        dtype = messages.dtype_of(entry.dtype, where, messages.STORED)
        shard = self._shards.get(entry.shard)
        if shard is None:
            raise RefusedError(
                "the checkpoint is damaged: the file that holds it is missing",
                where=where,
                received=f"shard {entry.shard}",
            )
        size = math.prod(dims) * dtype.itemsize
        if any(dim < 0 for dim in dims) or size != entry.size:
            raise RefusedError(
                "the checkpoint is damaged: its bytes do not fit its sizes",
                where=where,
                expected=size,
                received=entry.size,
            )
        if entry.offset < 0 or entry.offset + entry.size > shard.size:
            raise RefusedError(
                "the checkpoint is damaged: it lies outside of the file",
                where=where,
                received=f"byte {entry.offset}",
            )
        content = shard.view()[entry.offset : entry.offset + size]
        if key not in self._checked and crc32c.masked(content) != entry.checksum:
            raise RefusedError("the checkpoint is damaged: a check sum does not fit", where=where)
        self._checked.add(key)
        return np.frombuffer(content, dtype).reshape(dims)


class OldCheckpoint:
    """TensorFlow's first format (``write_version=V1``): files of the table's form, each value a slice of a tensor."""

    def __init__(self, parts: Sequence[Snapshot]) -> None:
        self.where = parts[0].where
        self._declared: dict[str, Any] = {}
        self._slices: dict[str, list[tuple[Any, Any]]] = {}
        for part in parts:
            for key, value in _entries(part.view(), part.where):
                message = messages.parsed("SavedSlices", value, part.where)
                if key:
                    held = message.data
                    if key != _slice_key(held.name, held.slice):
                        raise RefusedError(
                            f"the checkpoint is damaged: a slice of '{held.name}' stands under another key",
                            where=part.where,
                        )
                    self._slices.setdefault(held.name, []).append((held.slice, held.data))
                else:
                    self._declared |= {each.name: each for each in message.meta.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._declared

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def read(self, name: str) -> Array:
        """The tensor of this name, of all its slices."""
        if name not in self._declared:
            raise RefusedError(f"the checkpoint is damaged: it has no '{name}'", where=self.where)
        declared, where = self._declared[name], f"{self.where}: {name}"
        dtype = messages.dtype_of(declared.type, where, messages.STORED)
        dims = [dim.size for dim in declared.shape.dims]
        held = self._slices.get(name, [])
        if Counter(_slice_key(name, one) for one in declared.slices) != Counter(
            _slice_key(name, one) for one, _ in held
        ):
            raise RefusedError("the checkpoint is damaged: its slices are not those it declares", where=where)
        missing = RefusedError("the checkpoint is damaged: its bytes do not fit its sizes", where=where)
        if any(size < 0 for size in dims) or math.prod(dims) > sum(
            len(_listed(data, dtype)) for _, data in held
        ):
            raise missing
        whole = np.zeros(dims, dtype)
        for data, spans in _placed([(data, each) for each, data in held], dims, where):
            sizes = [stop - start for start, stop in spans]
            numbers = _listed(data, dtype)
            if len(numbers) != math.prod(sizes):
                raise missing
            whole[tuple(slice(*span) for span in spans)] = numbers.reshape(sizes)
        return whole


def _listed(tensor: Any, dtype: np.dtype[Any]) -> Array:
    """The numbers of a slice, whose message has no sizes of its own."""
    if not tensor.content:
        return messages.numbers(tensor, dtype)
    return np.frombuffer(tensor.content[: len(tensor.content) // dtype.itemsize * dtype.itemsize], dtype)


Span = tuple[int, int]


def _placed(
    slices: Sequence[tuple[Any, Any]], dims: Sequence[int], where: str
) -> list[tuple[Any, list[Span]]]:
    """Where each slice lies in its tensor; together they have as many places as it."""
    found, left = [], math.prod(dims)
    for what, each in slices:
        if len(each.extents) != len(dims):
            raise RefusedError(
                "the checkpoint is damaged: a slice has another rank than its tensor", where=where
            )
        spans = [_span(extent, size, where) for extent, size in zip(each.extents, dims, strict=True)]
        left -= math.prod(stop - start for start, stop in spans)
        found.append((what, spans))
    if left:
        raise RefusedError("the checkpoint is damaged: its slices are not the whole tensor", where=where)
    return found


def _span(extent: Any, size: int, where: str) -> Span:
    start, length = extent.start, extent.length or size
    if not 0 <= start <= start + length <= size:
        raise RefusedError(
            "a slice lies outside of its tensor",
            where=where,
            received=f"{start} to {start + length} of {size}",
        )
    return start, start + length


# ---- the table -------------------------------------------------------------------------------------


def _entries(data: memoryview, where: str) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise RefusedError("damaged: no index of a checkpoint", where=where)
    footer = data[-_FOOTER:]
    _, at = _handle(footer, 0, where)
    index, _ = _handle(footer, at, where)
    last, ends, left = None, 0, room(len(data))
    for separator, handle in _block(data, index, where):
        block = _handle(memoryview(handle), 0, where)[0]
        if block[0] < ends:
            raise RefusedError("the index of the checkpoint is damaged: its blocks overlap", where=where)
        ends = sum(block)
        for key, value in _block(data, block, where):
            left -= len(key)
            if (last is not None and key <= last) or key > separator or left < 0:
                raise RefusedError(
                    "the index of the checkpoint is damaged: its keys are not in order", where=where
                )
            last = key
            yield key, value
        last = separator if last is None else max(last, separator)


def _handle(data: memoryview, at: int, where: str) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at, where)
    size, at = _varint(data, at, where)
    return (offset, size), at


def _block(data: memoryview, handle: tuple[int, int], where: str) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if offset + size + _TRAILER > len(data) or size < 4:
        raise _damaged(where)
    summed, expected = data[offset : offset + size + 1], data[offset + size + 1 : offset + size + _TRAILER]
    if crc32c.masked(summed) != int.from_bytes(expected, "little"):
        raise RefusedError("damaged: a check sum of the checkpoint's index does not fit", where=where)
    if data[offset + size]:
        raise RefusedError(
            "the index of the checkpoint is compressed", where=where, expected="one as TensorFlow writes it"
        )
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * restarts
    if end < 0:
        raise _damaged(where)
    begins = set(np.frombuffer(block[end:-4], "<u4").tolist())  # where a reader that seeks may begin
    at, key, met = 0, b"", {0}
    while at < end:
        here = at
        shared, at = _varint(block, at, where)
        if not shared:
            met.add(here)
        own, at = _varint(block, at, where)
        length, at = _varint(block, at, where)
        if shared > len(key) or at + own + length > end:
            raise _damaged(where)
        key = key[:shared] + bytes(block[at : at + own])
        yield key, bytes(block[at + own : at + own + length])
        at += own + length
    if at != end or not begins <= met or len(begins) != restarts:
        raise _damaged(where)


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    found = varint(data, at)
    if found is None:
        raise _damaged(where)
    return found


def _damaged(where: str) -> RefusedError:
    return RefusedError("the index of the checkpoint is damaged", where=where)


# ---- slices: the key of one is the tensor's name and the slice in an order-preserving code -----------------------------


def _slice_key(name: str, each: Any) -> bytes:
    key = _number(0) + _text(name.encode("utf-8", "surrogateescape")) + _number(len(each.extents))
    for extent in each.extents:
        key += _signed(extent.start) + _signed(extent.length or -1)
    return key


def _number(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(content)]) + content


def _text(content: bytes) -> bytes:
    escaped = {0: b"\x00\xff", 255: b"\xff\x00"}
    return b"".join(escaped.get(byte, bytes([byte])) for byte in content) + b"\x00\x01"


def _signed(value: int) -> bytes:
    """A header of as many ones as there are bytes, then the number; the whole inverted where it is negative."""
    magnitude = ~value if value < 0 else value
    length = next(n for n in range(1, 11) if magnitude.bit_length() < 7 * n)
    header = (0xFF00 >> length & 0xFF) << 8 * (length - 1) if length <= 8 else 0xFF << 64
    code = magnitude | header
    if value < 0:
        code ^= (1 << 8 * length) - 1
    return code.to_bytes(length, "big")
