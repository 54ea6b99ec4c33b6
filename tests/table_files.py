"""Tables of TensorFlow's checkpoints as they are told: blocks of entries, as LevelDB lays them, with right check sums."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from netferry.converters.trust.crc32c import masked

Entry = tuple[bytes, bytes]


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def field(number: int, value: int | bytes) -> bytes:
    """A field of a message: a whole number, or bytes of some length."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(value)


def shape(*sizes: int) -> bytes:
    return b"".join(field(2, field(1, size)) for size in sizes)


def extents(*spans: tuple[int, int]) -> bytes:
    return b"".join(field(1, field(1, start) + field(2, length)) for start, length in spans)


HALVES = (((0, 1), (0, 3)), ((1, 1), (0, 3)))
"""Two slices of a tensor of two rows and three columns."""


def slice_key(name: bytes, *spans: tuple[int, int]) -> bytes:
    """As TensorFlow orders them: 0, the name and its end, the rank, then where each begins and how long it is."""
    return (
        b"\0" + name + b"\0\1\1" + bytes([len(spans)]) + bytes(0x80 | each for span in spans for each in span)
    )


def entry(numbers: np.ndarray, offset: int, *sizes: int, slices: Sequence[bytes] = ()) -> bytes:
    """What is said of a float32 tensor that lies at a byte of ``numbers``, or of one that is cut into slices."""
    size = 0 if slices else 4 * int(np.prod(sizes))
    told = field(1, 1) + field(2, shape(*sizes)) + (field(4, offset) if offset else b"") + field(5, size)
    summed = masked(numbers.tobytes()[offset : offset + size])
    return told + varint(6 << 3 | 5) + struct.pack("<I", summed) + b"".join(field(7, each) for each in slices)


def block(entries: Sequence[Entry], restarts: Sequence[int] = (0,), every: int = 16) -> bytes:
    """Keys share their beginning with the one before, but for each one of ``every``."""
    body, last, begins = bytearray(), b"", list(restarts)
    for place, (key, value) in enumerate(entries):
        shared = 0
        if place % every:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        elif place and restarts == (0,):
            begins.append(len(body))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return bytes(body) + struct.pack(f"<{len(begins)}I", *begins) + struct.pack("<I", len(begins))


def table(blocks: Sequence[bytes], separators: Sequence[bytes], order: Sequence[int] | None = None) -> bytes:
    """``order`` says which blocks the index has, and how often."""
    data, handles = bytearray(), []
    for each in blocks:
        handles.append(varint(len(data)) + varint(len(each)))
        data += each + b"\0" + struct.pack("<I", masked(each + b"\0"))
    chosen = range(len(blocks)) if order is None else order
    index = block([(name, handles[place]) for name, place in zip(separators, chosen, strict=True)], every=1)
    at = len(data)
    data += index + b"\0" + struct.pack("<I", masked(index + b"\0"))
    footer = varint(0) + varint(0) + varint(at) + varint(len(index))
    return bytes(data) + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
