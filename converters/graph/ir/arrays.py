"""Weights as arrays: they are large, are compared where they lie, and leave memory when they have been read."""

from __future__ import annotations

import mmap

import numpy as np

from netferry.converters.signature import Array

_PIECE = 1 << 20
"""Elements that are compared at a time."""


def same(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same bits; one memory is not read, and none is copied."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides:
        return True
    if a.dtype.kind == "O":
        return bool((a == b).all())
    if a.dtype.kind in "US" or a.dtype.itemsize not in (1, 2, 4, 8):
        return a.tobytes() == b.tobytes()
    a, b = (np.atleast_1d(each).view(f"u{each.dtype.itemsize}") for each in (a, b))
    step = max(1, _PIECE // max(1, a[:1].size))
    return all(np.array_equal(a[at : at + step], b[at : at + step]) for at in range(0, len(a), step))


def release(array: Array) -> None:
    """Let go of the memory behind an array that is a part of a mapped file; it is read anew where it is asked for."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = getattr(base, "_mmap", None) or base.base
    base = base.obj if isinstance(base, memoryview) else base
    if not isinstance(base, mmap.mmap) or not array.size or not hasattr(base, "madvise"):
        return
    low, high = (
        np.lib.array_utils.byte_bounds(array) if hasattr(np.lib, "array_utils") else np.byte_bounds(array)
    )
    start = low - np.frombuffer(base, np.uint8).ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    if (size := start + high - low - first) >= mmap.PAGESIZE:
        base.madvise(mmap.MADV_DONTNEED, first, size)


class Lent(dict[str, Array]):
    """Weights that are read once each: one leaves memory when the next is asked for."""

    _last: Array | None = None

    def __getitem__(self, name: str) -> Array:
        if self._last is not None:
            release(self._last)
        self._last = super().__getitem__(name)
        return self._last
