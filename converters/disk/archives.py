"""numpy's ``.npz`` (named arrays) and ``.npy`` (one array without a name), read without unpickling and mapped where they can be.

They are written here too: ``numpy.savez`` takes names for its own arguments (``file``) and writes them as they are.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as _format

from netferry.converters import escaping
from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array
from netferry.converters.trust import snapshot, tables
from netferry.converters.trust.snapshot import Snapshot, window

npy: Any = _format
"""Its functions bear no types."""

_ARCHIVE, _ARRAY = b"PK\x03\x04", b"\x93NUMPY"


def write(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """All arrays as an ``.npz``, under names that no archive's reader can be led astray with."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in zip(escaping.members(arrays), arrays.values(), strict=True):
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


def read(source: Path | Snapshot) -> tuple[list[Array], list[str]] | None:
    """The arrays of a file and their names; None where the file is of neither form. Nothing is unpickled.

    Large arrays are parts of the mapped file, as long as they are stored as they are.
    """
    held = snapshot.mapped(source) if isinstance(source, Path) else source
    start = held.read(len(_ARRAY))
    if start.startswith(_ARRAY):
        return [_array(held.view(), held.where)], []
    return _unpacked(held) if start.startswith(_ARCHIVE) else None


def _unpacked(held: Snapshot) -> tuple[list[Array], list[str]]:
    """Members that are stored as they are stay where they are; compressed ones are read."""
    arrays: list[Array] = []
    names: list[str] = []
    with held.open() as file:
        for entry in tables.table(file, held.size, held.where, tables.NUMPY):
            where = f"{held.where}: {entry.filename}"
            if entry.method == tables.STORED:
                content = held.view()[entry.start : entry.start + entry.file_size]
            else:
                content = memoryview(b"".join(tables.unpacked(file, entry, held.where)))
            arrays.append(_array(content, where))
            names.append(entry.filename.removesuffix(".npy"))
    return arrays, names


def _array(content: memoryview, where: str) -> Array:
    """The array that a header and what follows it are."""
    file = window(content)
    shape, turned, dtype = _header(file, len(content), where)
    if not math.prod(shape) * dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, offset=file.tell()).reshape(shape, order="F" if turned else "C")


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
    if bool in map(type, shape) or not tables.are_possible(shape):
        raise RefusedError("sizes that no array can have", where=where, received=shape)
    expected, received = math.prod(shape) * dtype.itemsize, end - file.tell()
    if expected != received:
        raise RefusedError(
            f"the content of {dtype.name}{list(shape)} has another size",
            where=where,
            expected=f"{expected} bytes",
            received=f"{received} bytes",
        )
    return shape, turned, dtype
