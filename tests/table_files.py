"""Tables of TensorFlow's checkpoints as they are told: blocks of entries, as LevelDB lays them, with right check sums."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from netferry.converters.trust.crc32c import masked

Entry = tuple[bytes, bytes]


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


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
