"""Parameters as MXNet 2 saves them: numpy's ``.npz`` (named arrays) and ``.npy`` (one array without a name)."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as _format

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array

npy: Any = _format
"""Its functions bear no types."""

_ARCHIVE, _ARRAY = b"PK\x03\x04", b"\x93NUMPY"
_MOST_TIMES = 256
"""Arrays may be at most this many times as large as the archive that holds them compressed."""


def read(path: Path) -> tuple[list[Array], list[str]] | None:
    """The arrays of a file and their names; None where the file is of neither form. Nothing is unpickled."""
    with path.open("rb") as file:
        start = file.read(len(_ARRAY))
    if start.startswith(_ARRAY):
        return [_mapped(path)], []
    return _unpacked(path) if start.startswith(_ARCHIVE) else None


def _mapped(path: Path) -> Array:
    with path.open("rb") as file:
        shape, turned, dtype = _header(file, path.stat().st_size, str(path))
        offset = file.tell()
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", offset, shape, "F" if turned else "C")


def _unpacked(path: Path) -> tuple[list[Array], list[str]]:
    where, limit = str(path), path.stat().st_size * _MOST_TIMES
    arrays: list[Array] = []
    names: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                limit -= member.file_size
                if limit < 0:
                    raise RefusedError(
                        "holds far more than its size allows", where=where, received=member.filename
                    )
                with archive.open(member) as file:
                    shape, turned, dtype = _header(file, member.file_size, f"{where}: {member.filename}")
                    content = np.frombuffer(file.read(), dtype)
                arrays.append(content.reshape(shape, order="F" if turned else "C"))
                names.append(member.filename.removesuffix(".npy"))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error) as error:
        raise RefusedError(f"not a whole archive ({error})", where=where) from error
    return arrays, names


def _header(file: IO[bytes], size: int, where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis runs fastest, and dtype, once the content is known to have their size."""
    try:
        version = npy.read_magic(file)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, turned, dtype = read_header(file)
    except (ValueError, EOFError) as error:
        raise RefusedError(f"not an array of numpy's ({error})", where=where) from error
    if dtype.hasobject:
        raise RefusedError("holds Python objects", where=where, expected="an array of numbers")
    expected, received = math.prod(shape) * dtype.itemsize, size - file.tell()
    if expected != received or any(length < 0 for length in shape):
        raise RefusedError(
            f"the content of {dtype.name}{list(shape)} has another size",
            where=where,
            expected=f"{expected} bytes",
            received=f"{received} bytes",
        )
    return shape, turned, dtype
