"""Protobuf as it stands in a file, read field by field, where its schema belongs to a framework."""

from __future__ import annotations

from collections.abc import Iterator

from netferry.converters.errors import RefusedError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Message:
    """The fields of a message by number. Parts are views of the file: nothing is copied."""

    def __init__(self, data: memoryview, where: str) -> None:
        self._data, self._where = data, where

    def fields(self) -> Iterator[tuple[int, int | memoryview]]:
        """Number and content of each field, in the order of the file."""
        at, data = 0, self._data
        while at < len(data):
            tag, at = self._varint(at)
            kind = tag & 7
            if kind == _VARINT:
                number, at = self._varint(at)
                yield tag >> 3, number
                continue
            if kind == _BYTES:
                size, at = self._varint(at)
            elif kind in (_FIXED32, _FIXED64):
                size = 4 if kind == _FIXED32 else 8
            else:
                raise self._damaged("a field of no known kind")
            if size > len(data) - at:
                raise self._damaged("a field that is longer than the file")
            yield tag >> 3, data[at : at + size]
            at += size

    def parts(self, *numbers: int) -> Iterator[Message]:
        """The messages that a path of field numbers leads to."""
        for number, content in self.fields():
            if number != numbers[0] or not isinstance(content, memoryview):
                continue
            inner = Message(content, self._where)
            if len(numbers) == 1:
                yield inner
            else:
                yield from inner.parts(*numbers[1:])

    def text(self, number: int) -> str:
        """A field of text; the last one counts, as in protobuf."""
        found = ""
        for each, content in self.fields():
            if each == number and isinstance(content, memoryview):
                found = bytes(content).decode("utf-8", "replace")
        return found

    def texts(self, number: int) -> list[str]:
        return [bytes(part._data).decode("utf-8", "replace") for part in self.parts(number)]

    def numbers(self, number: int) -> list[int]:
        """A field of integers; a negative one is one of 64 bits."""
        found = [content for each, content in self.fields() if each == number and isinstance(content, int)]
        return [value - (1 << 64) if value >= 1 << 63 else value for value in found]

    def __len__(self) -> int:
        return len(self._data)

    def _varint(self, at: int) -> tuple[int, int]:
        number = shift = 0
        while at < len(self._data) and shift < 70:
            byte = self._data[at]
            number |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return number, at
        raise self._damaged("a number without an end")

    def _damaged(self, what: str) -> RefusedError:
        return RefusedError(f"not a whole protobuf message: {what}", where=self._where)
