"""CRC-32C (Castagnoli, RFC 3720), the check sum of LevelDB's tables and TensorFlow's checkpoints, many lanes at a time."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_SMALL, _LANE, _MOST_LANES = 2048, 128, 8192

Words = npt.NDArray[np.uint32]


def masked(data: memoryview | bytes) -> int:
    """The check sum as LevelDB keeps it: turned by 15 bits, and moved, so that one of check sums is none."""
    found = crc32c(data)
    return ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: memoryview | bytes) -> int:
    """The check sum of all bytes."""
    view = memoryview(data).cast("B")
    lanes = min(_MOST_LANES, 1 << max(0, (len(view) // _LANE).bit_length() - 1))
    state, done = 0xFFFFFFFF, 0
    if len(view) > _SMALL:
        width = len(view) // lanes & ~1
        done = lanes * width
        state = _of_lanes(np.frombuffer(view[:done], "<u2").reshape(lanes, width // 2), width)
    table = _bytes_table().tolist() if len(view) - done else []
    for byte in view[done:]:
        state = table[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


def _of_lanes(words: npt.NDArray[np.uint16], width: int) -> int:
    """The state behind all lanes of ``width`` bytes, in their order; words: (lanes, width / 2)."""
    table = _words_table()
    states = np.zeros(len(words), np.uint32)
    states[0] = 0xFFFFFFFF
    for start in range(0, words.shape[1], 64):
        for column in np.ascontiguousarray(words[:, start : start + 64].T):
            states = table[(states ^ column) & 0xFFFF] ^ states >> 16
    behind = _power(width)
    while len(states) > 1:
        states = _applied(behind, states[::2]) ^ states[1::2]
        behind = _applied(behind, behind)
    return int(states[0])


@cache
def _bytes_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


@cache
def _words_table() -> Words:
    """What two bytes do to a state, by their number."""
    table = np.arange(65536, dtype=np.uint32)
    for _ in range(2):
        table = _bytes_table()[table & 0xFF] ^ table >> 8
    return table


# ---- zeros behind a state: a linear map, as what it makes of each bit --------------------------------------------------


def _applied(bits: Words, states: Words) -> Words:
    """Each state under the map."""
    made = np.zeros_like(states)
    for position, image in enumerate(bits):
        made ^= np.where(states >> position & 1, image, np.uint32(0))
    return made


def _power(count: int) -> Words:
    """The map of ``count`` bytes of zeros."""
    single = np.uint32(1) << np.arange(32, dtype=np.uint32)
    made, square = single, _bytes_table()[single & 0xFF] ^ single >> 8
    while count:
        if count & 1:
            made = _applied(square, made)
        square, count = _applied(square, square), count >> 1
    return made
