"""CRC-32C (Castagnoli, RFC 3720), the check sum of LevelDB's tables and TensorFlow's checkpoints.

A check sum is the rest of a division of polynomials over GF(2). A message of megabytes is first replaced by a shorter one of the
same rest, by sums (XOR) of whole blocks; that one is divided in lanes side by side, and what they leave is put together in pairs.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_FIRST = 0xFFFFFFFF
"""The state in front of a message: the same as its first four bytes inverted behind a state of zero."""

_SMALL, _LEVEL = 1024, 5
_LANE = 1 << _LEVEL
"""Bytes of a lane."""

FAR, MIDDLE, NEAR = 6777, 484, 100
"""x^(64 * FAR) = x^(64 * MIDDLE) + x^(64 * NEAR) + 1 modulo the polynomial: found by search, for its large gap below FAR."""

_BLOCK = 2 * (FAR - MIDDLE)
"""Words of 32 bits that are moved at once: no word of a block is moved onto another of it."""

Words = npt.NDArray[np.uint32]


def masked(data: memoryview | bytes) -> int:
    """The check sum as LevelDB keeps it: turned by 15 bits, and moved, so that one of check sums is none."""
    found = crc32c(data)
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: memoryview | bytes) -> int:
    """The check sum of all bytes."""
    view = memoryview(data).cast("B")
    if len(view) > _SMALL:
        return _of_lanes(_folded(view)) ^ _FIRST
    table, state = _bytes(), _FIRST
    for byte in view:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ _FIRST


def _folded(view: memoryview) -> bytearray:
    """A shorter message of the same rest, the first state taken in: each block is added to the three that it is congruent to.

    In front of it stand zeros, which leave no rest, so that it is whole lanes.
    """
    words = np.frombuffer(view[: len(view) // 4 * 4], "<u4")
    ahead = np.zeros(2 * FAR, np.uint32)  # what is to be added from ``start`` on
    ahead[0], start = _FIRST, 0
    while len(words) - start >= _BLOCK + len(ahead):
        block = words[start : start + _BLOCK] ^ ahead[:_BLOCK]
        start += _BLOCK
        ahead[: 2 * MIDDLE] = ahead[_BLOCK:]
        ahead[2 * MIDDLE :] = 0
        for distance in (0, MIDDLE - NEAR, MIDDLE):
            ahead[2 * distance : 2 * distance + _BLOCK] ^= block
    left = view[4 * start :]
    zeros = -len(left) % _LANE
    rest = bytearray(zeros + len(left))
    rest[zeros:] = left
    added = min(len(words) - start, len(ahead))
    np.frombuffer(rest, "<u4", added, zeros)[:] ^= ahead[:added]
    return rest


def _of_lanes(message: bytearray) -> int:
    """The rest of whole lanes, behind a state of zero."""
    table = _words_table()
    words = np.frombuffer(message, "<u2").reshape(-1, _LANE // 2)
    states = np.zeros(len(words), np.uint32)
    for column in np.ascontiguousarray(words.T):
        states = table[(states ^ column) & 0xFFFF] ^ states >> 16
    level = _LEVEL
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate([np.zeros(1, np.uint32), states])
        states = _moved(level, states[::2]) ^ states[1::2]
        level += 1
    return int(states[0])


# ---- tables ----------------------------------------------------------------------------------------


@cache
def _bytes() -> list[int]:
    """What a byte does to a state, by its number."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return [int(each) for each in table]


@cache
def _words_table() -> Words:
    """What two bytes do to a state, by their number."""
    single, table = np.asarray(_bytes(), np.uint32), np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        table = single[table & 0xFF] ^ table >> 8
    return table


def _moved(level: int, states: Words) -> Words:
    """Each state behind 2 ** ``level`` bytes of zeros more."""
    tables = _zeros(level)
    made: Words = tables[0][states & 0xFF]
    for place in range(1, 4):
        made ^= tables[place][states >> 8 * place & 0xFF]
    return made


@cache
def _zeros(level: int) -> tuple[Words, ...]:
    """Zeros are a linear map: what 2 ** ``level`` of them make of each byte of a state, one table for each of its four places."""
    single = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if level:
        bits = _moved(level - 1, _moved(level - 1, single))
    else:
        bits = np.asarray(_bytes(), np.uint32)[single & 0xFF] ^ single >> 8
    numbers, tables = np.arange(256), np.zeros((4, 256), np.uint32)
    for position, image in enumerate(bits):
        tables[position // 8] ^= np.where(numbers >> position % 8 & 1, image, np.uint32(0))
    return tuple(tables)
