"""One array of a params file, of every generation, in numpy alone.

An array starts with a u32: V2 or V3 (storage type, then as below), V1 (i64 sizes), or, in V0 (MXNet 0.8
and older), the number of its axes. Then: axes, sizes, i32 device type and id, i32 dtype, content.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.arrays import release
from netferry.converters.signature import Array

if TYPE_CHECKING:
    pass


DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(kind)
    for kind in ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8", ml_dtypes.bfloat16)
)
"""MXNet's dtypes; a dtype's code is its position."""


_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA


_DENSE, _ROW_SPARSE, _CSR = 0, 1, 2


_AUXILIARY = {_DENSE: 0, _ROW_SPARSE: 1, _CSR: 2}


_CPU = (1, 0)


_MOST_AXES, _MOST_BITS = 32, 56


_SPARSEST = 256
"""A sparse array may be at most this many times as large, written out, as its file."""


class Reader:
    """A position in the mapped file. Nothing is taken before it is known to be there."""

    def __init__(self, data: Array, where: str) -> None:
        self._data = data
        self._at = 0
        self._where = where
        self.item = "header"

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    @property
    def size(self) -> int:
        return len(self._data)

    def refuse(self, problem: str, expected: object = None, received: object = None) -> None:
        raise RefusedError(f"{self.item}: {problem}", where=self._where, expected=expected, received=received)

    def take(self, size: int, what: str) -> Array:
        if size > self.left:
            self.refuse(f"the file ends inside {what}", f"{size} bytes", f"{self.left} bytes")
        self._at += size
        return self._data[self._at - size : self._at]

    def unpack(self, form: str, what: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form), what).tobytes())

    def count(self, what: str, *, at_least: int) -> int:
        """A number of things of which each takes at least so many bytes."""
        (count,) = self.unpack("<Q", what)
        if count * at_least > self.left:
            self.refuse(f"{what} cannot be", f"at most {self.left // at_least}", count)
        return count

    def text(self) -> str:
        (size,) = self.unpack("<Q", "the length of a name")
        try:
            return self.take(size, "a name").tobytes().decode()
        except UnicodeDecodeError as error:
            raise RefusedError("names: a name is not UTF-8", where=self._where) from error

    def shape(self, axes: int, letter: str = "q") -> tuple[int, ...]:
        if not 0 <= axes <= _MOST_AXES:
            self.refuse("number of axes cannot be", f"0 to {_MOST_AXES}", axes)
        sizes = self.unpack(f"<{axes}{letter}", "the sizes")
        if any(size < 0 for size in sizes):
            self.refuse("a size is negative", "sizes of 0 and more", sizes)
        if 0 in sizes and math.prod(max(size, 1) for size in sizes) >> _MOST_BITS:
            self.refuse("sizes larger than any memory", f"less than 2^{_MOST_BITS} positions", sizes)
        return sizes

    def dtype(self) -> np.dtype[Any]:
        (code,) = self.unpack("<i", "the dtype")
        if not 0 <= code < len(DTYPES):
            self.refuse("no such dtype", f"a code from 0 to {len(DTYPES) - 1}", code)
        return DTYPES[code]

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        content = self.take(math.prod(shape) * dtype.itemsize, f"the content of {dtype.name}{list(shape)}")
        return np.asarray(content).view(dtype).reshape(shape)


def read_array(reader: Reader) -> Array:
    (magic,) = reader.unpack("<I", "the magic")
    if magic in (_V2, _V3):
        return _read_stored(reader, magic)
    axes = reader.unpack("<i", "the number of axes")[0] if magic == _V1 else magic
    shape = reader.shape(axes, "q" if magic == _V1 else "I")
    if not shape:
        return _nothing()
    reader.unpack("<2i", "the device")
    return reader.array(shape, reader.dtype())


def _read_stored(reader: Reader, magic: int) -> Array:
    (storage,) = reader.unpack("<i", "the storage type")
    if storage not in _AUXILIARY:
        reader.refuse("no such storage type", "0 (dense), 1 (row_sparse) or 2 (csr)", storage)
    axes = reader.unpack("<i", "the number of axes")[0]
    kept = None
    if storage != _DENSE:
        kept = reader.shape(axes)
        axes = reader.unpack("<i", "the number of axes")[0]
    if magic == _V3 and axes == -1:
        return _nothing()
    shape = reader.shape(axes)
    if magic == _V2 and not shape:
        return _nothing()
    reader.unpack("<2i", "the device")
    dtype = reader.dtype()
    if kept is None:
        return reader.array(shape, dtype)
    forms = []
    for _ in range(_AUXILIARY[storage]):
        form = reader.dtype()
        forms.append((reader.shape(reader.unpack("<i", "the number of axes")[0]), form))
    return _dense(reader, storage, shape, reader.array(kept, dtype), [reader.array(*form) for form in forms])


def _nothing() -> Array:
    """What MXNet writes for an array that has no shape yet."""
    return np.empty(0, np.float32)


def _dense(
    reader: Reader, storage: int, shape: tuple[int, ...], content: Array, indices: Sequence[Array]
) -> Array:
    """Write out a sparse array, once its indices are known to lie inside it."""
    if math.prod(shape) * content.itemsize > _SPARSEST * reader.size:
        reader.refuse("too sparse to be written out", f"at most {_SPARSEST} times the file", list(shape))
    whole = np.zeros(shape, content.dtype)
    if storage == _ROW_SPARSE:
        (rows,) = indices
        fits = rows.ndim == 1 and len(shape) > 0 and content.shape == (len(rows), *shape[1:])
        if not fits or not _inside(rows, shape[0]):
            reader.refuse(
                "its rows do not fit its sizes", list(shape), f"{list(content.shape)} at {rows.shape}"
            )
        whole[rows] = content
        return whole
    starts, columns = indices
    ordered = starts.ndim == 1 and len(shape) == 2 and len(starts) == shape[0] + 1
    ordered = ordered and starts[0] == 0 and bool(np.all(starts[1:] >= starts[:-1]))
    fits = ordered and content.shape == columns.shape == (int(starts[-1]),) and _inside(columns, shape[1])
    if not fits:
        reader.refuse("its indices do not fit its sizes", list(shape), f"{list(content.shape)} values")
    whole[np.repeat(np.arange(shape[0]), np.diff(starts)), columns] = content
    return whole


def _inside(indices: Array, size: int) -> bool:
    if indices.dtype.kind not in "iu":
        return False
    return not indices.size or (int(indices.min()) >= 0 and int(indices.max()) < size)


def write_array(write: Callable[[Any], Any], array: Array) -> None:
    """V2, as MXNet 1 writes; what V2 cannot hold (no axes, an empty axis) as V3, MXNet's numpy form."""
    if array.dtype not in DTYPES:
        raise RefusedError("MXNet has no such dtype", received=array.dtype.name)
    magic = _V2 if array.size and array.ndim else _V3
    write(struct.pack(f"<Iii{array.ndim}q", magic, _DENSE, array.ndim, *array.shape))
    write(struct.pack("<3i", *_CPU, DTYPES.index(array.dtype)))
    write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    release(array)
