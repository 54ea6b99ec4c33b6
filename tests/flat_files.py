"""TFLite files as they are told: tables as dicts, lists, numbers and texts. What is one object stands once, however often it is told."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from netferry.converters.tensorflow.tflite.schema import IDENTIFIER, OPERATORS, TABLES
from netferry.converters.trust import flatbuffers

Table = dict[str, Any]
_CODES = {kind: reader.format.removeprefix("<") for kind, reader in flatbuffers._READERS.items()}
_FIELDS = {name: dict(flatbuffers._fields(text)) for name, text in TABLES.items()}


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray(4) + IDENTIFIER
        self._places: dict[tuple[int, str], int] = {}
        self._kept: list[Any] = []

    def point(self, at: int, value: Any, kind: str) -> None:
        """Write the distance at ``at`` to what ``value`` is, which stands behind everything that is written so far."""
        self._kept.append(value)
        key = id(value), kind
        if self._places.get(key, 0) <= at:
            self.data += bytes(-len(self.data) % 8)
            self._places[key] = len(self.data) + (4 if isinstance(value, dict) else 0)
            self._write(value, kind)
        struct.pack_into("<I", self.data, at, self._places[key] - at)

    def _write(self, value: Any, kind: str) -> None:
        if isinstance(value, dict):
            self._table(value, kind)
        elif isinstance(value, str | bytes):
            content = value.encode() if isinstance(value, str) else value
            self.data += struct.pack("<I", len(content)) + content + b"\0"
        elif kind[1:-1] in _CODES:
            self.data += struct.pack(f"<I{len(value)}{_CODES[kind[1:-1]]}", len(value), *value)
        else:
            start = len(self.data) + 4
            self.data += struct.pack("<I", len(value)) + bytes(4 * len(value))
            for place, each in enumerate(value):
                self.point(start + 4 * place, each, kind[1:-1])

    def _table(self, value: Table, kind: str) -> None:
        """Each field has eight bytes; the vtable stands behind, which its distance may say."""
        kind = value.get("", kind)
        fields = [(name, *_FIELDS[kind][name][:2]) for name in value if name]
        count = max((number for _, number, _ in fields), default=-1) + 1
        at = len(self.data) + 4
        self.data += bytes(8 + 8 * len(fields))
        vtable = [4 + 2 * count, 4 + 8 * len(fields)] + [0] * count
        for place, (_, number, _) in enumerate(fields):
            vtable[2 + number] = 4 + 8 * place
        struct.pack_into("<i", self.data, at, at - len(self.data))
        self.data += struct.pack(f"<{len(vtable)}H", *vtable)
        for place, (name, _, own) in enumerate(fields):
            here = at + 4 + 8 * place
            if own in _CODES:
                struct.pack_into(f"<{_CODES[own]}", self.data, here, value[name])
            else:
                self.point(here, value[name], own)


def packed(model: Table) -> bytes:
    """The file of a ``Model``."""
    writer = _Writer()
    writer.point(0, model, "Model")
    return bytes(writer.data)


def tensor(name: str, shape: Sequence[int] = (2, 4), **more: Any) -> Table:
    return {"name": name, "shape": list(shape), **more}


def operator(inputs: Sequence[int], outputs: Sequence[int], code: int = 0, **more: Any) -> Table:
    return {"opcode_index": code, "inputs": list(inputs), "outputs": list(outputs), **more}


def subgraph(tensors: Sequence[Table], operators: Sequence[Table], outputs: Sequence[int] = (1,)) -> Table:
    return {"tensors": tensors, "inputs": [0], "outputs": list(outputs), "operators": operators}


def model(subgraphs: Sequence[Table], operators: Sequence[str] = ("RELU",), **more: Any) -> Table:
    codes = [
        {"builtin_code": OPERATORS.index(name), "deprecated_builtin_code": min(127, OPERATORS.index(name))}
        for name in operators
    ]
    return {"version": 3, "operator_codes": codes, "subgraphs": subgraphs, "buffers": [{"data": b""}], **more}


def relu() -> Table:
    """The smallest model: an input, an operator, an output."""
    return model([subgraph([tensor("x"), tensor("y")], [operator([0], [1])])])
