"""Mutants of a message's structure: protobuf whose fields stand twice, apart, or as another type; JSON whose keys do."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

# ---- protobuf ------------------------------------------------------------------------------------

Field = tuple[int, int, Any]
"""Number, wire type, and what it holds: a number, bytes, or the fields of a message."""

_VARINT, _FIXED64, _BYTES, _START, _END, _FIXED32 = range(6)
EVIL = (b"ReadFile", b"PyFunc", b"SaveV2", b"evil", b"", b"\xff\xfe", b"Relu")


def decoded(content: bytes, depth: int = 7) -> list[Field] | None:
    """The fields of a message; None where it is none."""
    found: list[Field] = []
    at = 0
    try:
        while at < len(content):
            tag, at = _read(content, at)
            kind, size = tag & 7, 0
            value: Any = None
            if kind == _VARINT:
                value, at = _read(content, at)
            elif kind in (_BYTES, _FIXED32, _FIXED64):
                size = {_FIXED32: 4, _FIXED64: 8}.get(kind, 0)
                if kind == _BYTES:
                    size, at = _read(content, at)
                value = content[at : at + size]
                at += size
            if value is None or at > len(content) or not tag >> 3:
                return None
            if kind == _BYTES and depth and size > 1:
                value = decoded(value, depth - 1) or value
            found.append((tag >> 3, kind, value))
    except IndexError:
        return None
    return found


def _read(content: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at


def varint(number: int, longer: int = 0) -> bytes:
    """A number; with ``longer`` bytes that it does not need."""
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    for _ in range(longer):
        parts[-1] |= 128
        parts.append(0)
    return bytes(parts)


def encoded(fields: Sequence[Field], draw: random.Random, odd: float = 0.0) -> bytes:
    parts = []
    for number, kind, value in fields:
        parts.append(varint(number << 3 | kind, draw.random() < odd))
        if kind == _VARINT:
            parts.append(varint(value, draw.randint(1, 3) if draw.random() < odd else 0))
        elif kind != _END:
            content = encoded(value, draw, odd) if isinstance(value, list) else value
            parts.append(varint(len(content), draw.random() < odd) + content if kind == _BYTES else content)
    return b"".join(parts)


def _lists(fields: list[Field]) -> list[list[Field]]:
    """Every message in a message, itself first."""
    found = [fields]
    for each in found:
        found.extend(value for _, _, value in each if isinstance(value, list))
    return found


def proto_mutant(content: bytes, draw: random.Random) -> bytes:
    """One to three changes of structure; now and then numbers are longer than they need to be."""
    fields = decoded(content)
    assert fields is not None
    for _ in range(draw.randint(1, 3)):
        inside = [each for each in _lists(fields) if each]
        if inside:
            chosen = draw.choice(inside)
            draw.choice(PROTO_CHANGES)(chosen, draw.randrange(len(chosen)), draw)
    return encoded(fields, draw, draw.choice((0.0, 0.0, 0.0, 0.001)))


def _twice(fields: list[Field], at: int, draw: random.Random) -> None:
    fields.insert(draw.randint(0, len(fields)), fields[at])


def _evil_twice(fields: list[Field], at: int, draw: random.Random) -> None:
    number, kind, value = fields[at]
    evil = (
        draw.choice(EVIL)
        if kind == _BYTES
        else draw.choice((0, 1, 1 << 40, (1 << 64) - 1))
        if kind == 0
        else value
    )
    fields.insert(draw.choice((at, at + 1)), (number, kind, evil))


def _evil(fields: list[Field], at: int, draw: random.Random) -> None:
    number, kind, _ = fields[at]
    if kind == _BYTES:
        fields[at] = (number, kind, draw.choice(EVIL))


def _apart(fields: list[Field], at: int, draw: random.Random) -> None:
    """A message in two parts, which protobuf puts together."""
    number, kind, value = fields[at]
    if isinstance(value, list):
        cut = draw.randint(0, len(value))
        fields[at : at + 1] = [(number, kind, value[:cut]), (number, kind, value[cut:])]


def _other_type(fields: list[Field], at: int, draw: random.Random) -> None:
    number = fields[at][0]
    made = draw.choice(((_VARINT, 7), (_FIXED32, b"Relu"), (_FIXED64, b"ReadFile"), (_BYTES, b"Relu")))
    fields.insert(draw.choice((at, at + 1)), (number, *made))


def _group(fields: list[Field], at: int, draw: random.Random) -> None:
    number = draw.choice((fields[at][0], 99))
    fields[at:at] = [(number, _START, b""), (fields[at][0], _BYTES, b"x"), (number, _END, b"")]


def _unknown(fields: list[Field], at: int, draw: random.Random) -> None:
    number = draw.choice((19, 99, 1 << 20, (1 << 29) - 1, 1 << 29, (1 << 32) | fields[at][0]))
    fields.insert(at, (number, *draw.choice(((_VARINT, 1), (_BYTES, b"ReadFile"), (_FIXED32, b"abcd")))))


def _packed(fields: list[Field], at: int, draw: random.Random) -> None:
    number, kind, value = fields[at]
    if kind == _VARINT:
        fields[at] = (number, _BYTES, varint(value) * draw.randint(1, 2))
    elif kind == _BYTES and isinstance(value, bytes) and value:
        fields[at : at + 1] = [(number, _VARINT, byte) for byte in value[:4]]


def _moved(fields: list[Field], at: int, draw: random.Random) -> None:
    fields.insert(draw.randint(0, len(fields) - 1), fields.pop(at))


def _lost(fields: list[Field], at: int, draw: random.Random) -> None:
    fields.pop(at)


def _renumbered(fields: list[Field], at: int, draw: random.Random) -> None:
    fields[at] = (draw.randint(1, 12), *fields[at][1:])


PROTO_CHANGES: tuple[Callable[[list[Field], int, random.Random], None], ...] = (
    _twice, _evil_twice, _evil_twice, _evil, _apart, _apart, _other_type, _other_type, _group, _unknown, _packed, _moved, _lost,
    _renumbered,
)  # fmt: skip

# ---- JSON ----------------------------------------------------------------------------------------


class Pairs(list[tuple[str, Any]]):
    """A mapping in which a key may stand twice."""


class Raw(str):
    """Stands in the document as it is."""


WORDS = (
    "torch.ops.aten.from_file.default", "torch.load", "Lambda", "__import__('os')", '{"__enum__": true, "fqn": "evilmod:E"}',
    "Dense", "", "\ud800", "a\u2028b", "1",
)  # fmt: skip
LITERALS = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-0",
    "1E5",
    "9" * 40,
    "null",
    "true",
    '"\\u0041"',
    "[]",
    "{}",
    "01",
    "'x'",
)


def json_mutant(content: bytes, draw: random.Random) -> bytes:
    """One to three changes of a document, written in one of the ways in which JSON may be written."""
    document = json.loads(content, object_pairs_hook=Pairs)
    for _ in range(draw.randint(1, 3)):
        inside = _parts(document)
        chosen = draw.choice(inside)
        draw.choice(JSON_CHANGES)(chosen, draw.randrange(len(chosen)), draw)
    text = _text(document, draw, draw.choice((0.0, 0.0, 0.0, 0.05)))
    if draw.random() < 0.06:
        return draw.choice((
            b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass"), text.encode("utf-16", "surrogatepass"),
            text.encode("utf-8", "surrogatepass") + b"{}", b"/* */" + text.encode("utf-8", "surrogatepass"),
            text.encode("utf-8", "surrogatepass") + b"\0", text.encode("utf-8", "surrogatepass")[:-1] + b",}",
        ))  # fmt: skip
    return text.encode("utf-8", "surrogatepass")


def _parts(document: Any) -> list[Any]:
    found = [document]
    for each in found:
        values = [value for _, value in each] if isinstance(each, Pairs) else each
        found.extend(value for value in values if isinstance(value, list) and value)
    return found


def _text(value: Any, draw: random.Random, odd: float) -> str:
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{_text(k, draw, odd)}: {_text(v, draw, odd)}" for k, v in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_text(each, draw, odd) for each in value) + "]"
    if isinstance(value, str) and draw.random() < odd:
        return '"' + "".join(f"\\u{ord(sign) & 0xFFFF:04x}" for sign in value) + '"'
    return json.dumps(value)


def _set(part: Any, at: int, value: Any) -> None:
    part[at] = (part[at][0], value) if isinstance(part, Pairs) else value


def _value(part: Any, at: int) -> Any:
    return part[at][1] if isinstance(part, Pairs) else part[at]


def _key_twice(part: Any, at: int, draw: random.Random) -> None:
    if isinstance(part, Pairs):
        other = draw.choice((_value(part, draw.randrange(len(part))), draw.choice(WORDS)))
        part.insert(draw.choice((at, at + 1)), (part[at][0], other))
    else:
        part.insert(at, part[at])


def _other_case(part: Any, at: int, draw: random.Random) -> None:
    if isinstance(part, Pairs):
        part.insert(draw.choice((at, at + 1)), (part[at][0].swapcase(), draw.choice(WORDS)))


def _word(part: Any, at: int, draw: random.Random) -> None:
    _set(part, at, draw.choice(WORDS))


def _literal(part: Any, at: int, draw: random.Random) -> None:
    _set(part, at, Raw(draw.choice(LITERALS)))


def _as_text(part: Any, at: int, draw: random.Random) -> None:
    value = _value(part, at)
    if not isinstance(value, str | Raw):
        _set(part, at, _text(value, draw, 0))


def _as_document(part: Any, at: int, draw: random.Random) -> None:
    """A text of JSON becomes the document, or one of its words another."""
    value = _value(part, at)
    if isinstance(value, str) and value.startswith(("[", "{")):
        changed = draw.choice(
            (
                value.replace("null", json.dumps(draw.choice(WORDS)), 1),
                value.replace("builtins.", "evilmod.", 1),
            )
        )
        _set(part, at, draw.choice((changed, Raw(value))))


def _known_twice(part: Any, at: int, draw: random.Random) -> None:
    """A field that counts, where none stands."""
    if isinstance(part, Pairs):
        key = draw.choice(
            (
                "target",
                "guards_code",
                "expr_str",
                "class_name",
                "module",
                "out_spec",
                "op",
                "config",
                "name",
                "x",
            )
        )
        part.insert(at, (key, draw.choice((draw.choice(WORDS), [draw.choice(WORDS)]))))


def _swapped(part: Any, at: int, draw: random.Random) -> None:
    other = draw.randrange(len(part))
    first, second = _value(part, at), _value(part, other)
    _set(part, at, second)
    _set(part, other, first)


def _gone(part: Any, at: int, draw: random.Random) -> None:
    if len(part) > 1:
        part.pop(at)


JSON_CHANGES: tuple[Callable[[Any, int, random.Random], None], ...] = (
    _key_twice, _key_twice, _other_case, _word, _word, _literal, _as_text, _as_document, _as_document, _known_twice, _swapped, _gone,
)  # fmt: skip
