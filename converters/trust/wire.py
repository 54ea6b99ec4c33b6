"""Protobuf as it stands in a file: read field by field, or as messages of which the few fields that count are declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from netferry.converters.errors import RefusedError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED32: 4, _FIXED64: 8}
_LONGEST_TAG = 5


class Field(NamedTuple):
    """A field with its whole text in the file; ``content`` only where it is one of bytes, a text or a message."""

    number: int
    content: memoryview | None
    raw: memoryview


def fields(data: memoryview, where: str) -> Iterator[Field]:
    """The fields of a message in the order of the file, as views of it: nothing is copied.

    Raises:
        RefusedError: it is damaged, or written as readers may read in two ways (numbers longer than they need to be, groups).
    """
    at = 0
    while at < len(data):
        start = at
        tag, at = _varint(data, at, where)
        if not 0 < tag >> 3 < 1 << 29 or at - start > _LONGEST_TAG or (at - start > 1 and not data[at - 1]):
            raise _damaged("a field without a number of its own", where)
        kind, content = tag & 7, None
        if kind == _VARINT:
            _, at = _varint(data, at, where)
        elif kind == _BYTES:
            size, at = _varint(data, at, where)
            content = data[at : at + size]
            at += size
        elif kind in _WIDTHS:
            at += _WIDTHS[kind]
        else:
            raise _damaged("a field of no known kind", where)
        if at > len(data):
            raise _damaged("a field that is longer than the file", where)
        yield Field(tag >> 3, content, data[start:at])


def varint(data: memoryview, at: int) -> tuple[int, int] | None:
    """The number that stands at a place, seven bits a byte, and the place behind it; None where it has no end."""
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
    return None


def length(number: int) -> bytes:
    """A number as it stands before so many bytes."""
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    found = varint(data, at)
    if found is None:
        raise _damaged("a number without an end", where)
    return found


def _damaged(what: str, where: str) -> RefusedError:
    return RefusedError(f"not a whole protobuf message: {what}", where=where)


# ---- messages ------------------------------------------------------------------------------------

Declared = Mapping[str, Mapping[str, str]]
"""Fields by message: a name, and ``NUMBER TYPE``, with ``*`` behind a number whose field is repeated."""


def messages(declared: Declared) -> Mapping[str, Any]:
    """Classes that read as the framework's own do: the same protobuf, of which the fields declared here are looked at.

    A map is declared as the repeated entries that it is on disk, so that a key that stands there twice is seen twice.
    """
    file = descriptor_pb2.FileDescriptorProto(name="look.proto", package="look", syntax="proto3")
    for name, members in declared.items():
        message = file.message_type.add(name=name)
        for member, text in members.items():
            number, kind = text.split()
            field = message.field.add(name=member, number=int(number.rstrip("*")))
            field.label = field.LABEL_REPEATED if number.endswith("*") else field.LABEL_OPTIONAL
            if kind in declared:
                field.type, field.type_name = field.TYPE_MESSAGE, f".look.{kind}"
            else:
                field.type = getattr(field, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"look.{name}")) for name in declared
    }
