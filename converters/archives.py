"""numpy's ``.npz`` (named arrays) and ``.npy`` (one array without a name), read without unpickling and mapped where they can be.

They are written here too: ``numpy.savez`` takes names for its own arguments (``file``) and writes them as they are.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as _format

from netferry.converters import shown
from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array
from netferry.converters.trust import zips

npy: Any = _format
"""Its functions bear no types."""

_ARCHIVE, _ARRAY = b"PK\x03\x04", b"\x93NUMPY"
_MOST_BITS = 56
_MOST_TIMES = 256
"""Arrays may be at most this many times as large as the archive that holds them compressed."""


def write(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """All arrays as an ``.npz``, under names that no archive's reader can be led astray with."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in zip(shown.members(arrays), arrays.values(), strict=True):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


def read(path: Path) -> tuple[list[Array], list[str]] | None:
    """The arrays of a file and their names; None where the file is of neither form. Nothing is unpickled."""
    with path.open("rb") as file:
        start = file.read(len(_ARRAY))
    if start.startswith(_ARRAY):
        return [_mapped(path)], []
    return _unpacked(path) if start.startswith(_ARCHIVE) else None


def _mapped(path: Path, start: int = 0, size: int | None = None, where: str | None = None) -> Array:
    """The array that begins at byte ``start`` of the file and takes ``size`` bytes, header included."""
    with path.open("rb") as file:
        file.seek(start)
        end = path.stat().st_size if size is None else start + size
        shape, turned, dtype = _header(file, end, where or str(path))
        offset = file.tell()
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if turned else "C")


def _unpacked(path: Path) -> tuple[list[Array], list[str]]:
    """Members that are stored as they are stay in the file; compressed ones are read."""
    limit = path.stat().st_size * _MOST_TIMES
    arrays: list[Array] = []
    names: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                where = f"{path}: {member.filename}"
                limit -= member.file_size
                if limit < 0:
                    raise RefusedError("holds far more than its size allows", where=where)
                if member.compress_type == zipfile.ZIP_STORED and member.file_size == member.compress_size:
                    arrays.append(_mapped(path, _content(path, member), member.file_size, where))
                else:
                    with archive.open(member) as file:
                        shape, turned, dtype = _header(file, member.file_size, where)
                        content = np.frombuffer(file.read(), dtype)
                    arrays.append(content.reshape(shape, order="F" if turned else "C"))
                names.append(member.filename.removesuffix(".npy"))
    except zips.FAULTS as error:
        raise RefusedError(f"not a whole archive ({error})", where=str(path)) from error
    return arrays, names


def _content(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: behind its local header of 30 bytes, its name and its extra field."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
    if len(header) < 30 or not header.startswith(_ARCHIVE):
        raise zipfile.BadZipFile(f"no header where {member.filename} begins")
    name, extra = struct.unpack_from("<HH", header, 26)
    return int(member.header_offset + 30 + name + extra)


def _header(file: IO[bytes], end: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis runs fastest, and dtype, once what is left up to ``end`` is known to be them."""
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, turned, dtype = read_header(file)
    except (
        ValueError,
        EOFError,
        SyntaxError,
        TokenError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
        raise RefusedError(f"not an array of numpy's ({error})", where=where) from error
    if dtype.hasobject:
        raise RefusedError("holds Python objects", where=where, expected="an array of numbers")
    if math.prod(max(length, 1) for length in shape) >> _MOST_BITS:
        raise RefusedError("sizes larger than any memory", where=where, received=shape)
    expected, received = math.prod(shape) * dtype.itemsize, end - file.tell()
    if expected != received or any(length < 0 for length in shape):
        raise RefusedError(
            f"the content of {dtype.name}{list(shape)} has another size",
            where=where,
            expected=f"{expected} bytes",
            received=f"{received} bytes",
        )
    return shape, turned, dtype
