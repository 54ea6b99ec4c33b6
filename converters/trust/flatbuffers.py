"""Flatbuffers as they stand in a file: tables of which the fields that count are declared, read when they are asked for.

A table begins with the distance back to its vtable, which has the place of each field by its number, 0 where the field has
its default; texts, vectors and other tables stand where a field's own distance points. No distance, size or count is
believed: each is held against the file, and all that is read together against a multiple of its length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from netferry.converters.errors import RefusedError

Declared = Mapping[str, str]
"""Fields by table, in the order of their numbers, each as ``name:kind`` or ``name:kind=default``; ``N@name:kind`` has another number.

A kind is a number (``i8``, ``f32``, ``bool`` ...), ``str``, the name of another table, ``any`` for one whose kind another field says,
or one of these in brackets for a vector.
"""

_NUMBERS: Mapping[str, str] = {
    "bool": "?", "i8": "b", "u8": "B", "i16": "h", "u16": "H", "i32": "i", "u32": "I", "i64": "q", "u64": "Q",
    "f32": "f", "f64": "d",
}  # fmt: skip
_DTYPES = {kind: np.dtype(f"<{code}" if code != "?" else "u1") for kind, code in _NUMBERS.items()}
_READERS = {kind: struct.Struct(f"<{code}") for kind, code in _NUMBERS.items()}
_OFFSET, _BACK, _SHORT = _READERS["u32"], _READERS["i32"], _READERS["u16"]
_SHARED = 8
"""How often what stands in a file may be read, on average, because several tables point to it."""


class _Field(NamedTuple):
    number: int
    kind: str
    default: Any


@dataclass
class _File:
    """What all tables of a file share: its bytes, what may still be read, and the declared fields."""

    data: memoryview
    where: str
    declared: Mapping[str, Mapping[str, _Field]]
    left: int = 0
    known: dict[tuple[str, int], Message] = field(default_factory=dict)

    def number(self, reader: struct.Struct, at: int) -> Any:
        if not 0 <= at <= len(self.data) - reader.size:
            raise self.damaged(f"it points to byte {at} of {len(self.data)}")
        return reader.unpack_from(self.data, at)[0]

    def follow(self, at: int) -> int:
        return at + int(self.number(_OFFSET, at))

    def vector(self, at: int, width: int) -> tuple[int, int]:
        """Where the elements of a vector begin, and how many there are."""
        start = self.follow(at)
        count = int(self.number(_OFFSET, start))
        if count * width > len(self.data) - start - 4:
            raise self.damaged(f"a list of {count} that is longer than the file")
        self.left -= count * width + 16
        if self.left < 0:
            raise self.damaged("its tables point to the same places over and over")
        return start + 4, count

    def damaged(self, why: str) -> RefusedError:
        return RefusedError(f"not a whole flatbuffer: {why}", where=self.where)


class Message:
    """One table; its declared fields are attributes, absent ones have their defaults: 0, an empty text or list, None for a table."""

    def __init__(self, file: _File, table: str, at: int) -> None:
        self._file, self._table, self._at = file, table, at
        self._fields = file.declared[table]
        self._vtable = at - int(file.number(_BACK, at))
        self._size = int(file.number(_SHORT, self._vtable))
        self._room = int(file.number(_SHORT, self._vtable + 2))
        whole = self._vtable + self._size <= len(file.data) and at + self._room <= len(file.data)
        if self._size < 4 or self._room < 4 or not whole:
            raise file.damaged("a table that is longer than the file")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._fields:
            raise AttributeError(name)
        found = self._read(self._fields[name])
        self.__dict__[name] = found
        return found

    def as_(self, name: str, table: str) -> Message | None:
        """The table of a field of kind ``any``, read as one of this kind."""
        at = self._place(self._fields[name], 4)
        return None if at is None else self._sub(table, self._file.follow(at))

    def _place(self, declared: _Field, width: int) -> int | None:
        slot = 4 + 2 * declared.number
        if slot + 2 > self._size:
            return None
        inside = int(self._file.number(_SHORT, self._vtable + slot))
        if inside + width > self._room:
            raise self._file.damaged("a field outside of its table")
        return self._at + inside if inside else None

    def _sub(self, table: str, at: int) -> Message:
        key = table, at
        if key not in self._file.known:
            self._file.known[key] = Message(self._file, table, at)
        return self._file.known[key]

    def _read(self, declared: _Field) -> Any:
        kind, reader = declared.kind, _READERS.get(declared.kind)
        at = self._place(declared, reader.size if reader is not None else 4)
        if kind.startswith("["):
            return self._elements(kind[1:-1], at)
        if at is None:
            return declared.default
        if reader is not None:
            return self._file.number(reader, at)
        return self._text(at) if kind == "str" else self._sub(kind, self._file.follow(at))

    def _elements(self, kind: str, at: int | None) -> Any:
        """Numbers as an array, a view of the file; tables and texts as a list."""
        dtype = _DTYPES.get(kind)
        if at is None:
            return [] if dtype is None else np.empty(0, dtype)
        start, count = self._file.vector(at, 4 if dtype is None else dtype.itemsize)
        if dtype is not None:
            return np.frombuffer(self._file.data, dtype, count, start)
        places = range(start, start + 4 * count, 4)
        if kind == "str":
            return [self._text(place) for place in places]
        return [self._sub(kind, self._file.follow(place)) for place in places]

    def _text(self, at: int) -> str:
        """As C and Python read it alike: UTF-8 without a zero."""
        start, count = self._file.vector(at, 1)
        content = bytes(self._file.data[start : start + count])
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise self._file.damaged(f"the text {content[:40]!r} is no UTF-8") from error
        if "\0" in text:
            raise self._file.damaged(f"a zero in the text {text[:40]!r}")
        return text


def root(declared: Declared, table: str, data: memoryview, where: str) -> Message:
    """The table that a file begins with.

    Raises:
        RefusedError: here or where a field is read: it points outside of the file, or is larger than it.
    """
    fields = {name: dict(_fields(text)) for name, text in declared.items()}
    file = _File(data, where, fields, left=_SHARED * len(data) + (1 << 16))
    return Message(file, table, file.follow(0))


def _fields(text: str) -> Any:
    number = 0
    for part in text.split():
        place, _, rest = part.rpartition("@")
        name, _, kind = rest.partition(":")
        kind, _, default = kind.partition("=")
        number = int(place) if place else number
        yield name, _Field(number, kind, _default(kind, default))
        number += 1


def _default(kind: str, text: str) -> Any:
    if kind == "str":
        return ""
    if kind not in _NUMBERS:
        return None
    return type(_READERS[kind].unpack(bytes(_READERS[kind].size))[0])(float(text or 0))
