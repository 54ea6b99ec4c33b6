"""Zip archives (.pt2, TorchScript, .keras, .npz): their table of contents held against their bytes.

What two readers of one archive could take differently is refused: names twice, names that differ between
the table and the entry, a comment, entries that overlap (the bombs of one kernel for many names).
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from netferry.converters.errors import RefusedError
from netferry.converters.trust import paths

MOST_TIMES = 256
"""A content may be at most this many times as large as the archive that holds it compressed ..."""

ALWAYS = 1 << 26
"""... or this large: 64 MiB harm nobody."""

_MOST_ENTRIES = 200_000
_ENTRY = struct.Struct("<4s5H3L2H")
"""The head of an entry: signature, versions and flags, check sum and sizes, length of its name and of its extra field."""
_END, _END_SIGNATURE = 22, b"PK\x05\x06"
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Archive:
    """An archive that holds together: its entries by name."""

    where: str
    source: Path | bytes
    entries: Mapping[str, zipfile.ZipInfo]

    def read(self, name: str) -> bytes:
        """The content of an entry, whose check sum is right."""
        if name not in self.entries:
            raise RefusedError("an entry is missing", where=self.where, expected=name)
        try:
            with zipfile.ZipFile(_openable(self.source)) as archive:
                return archive.read(self.entries[name])
        except FAULTS as error:
            raise RefusedError(f"the entry {name!r} is damaged ({error})", where=self.where) from error


FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OverflowError,
)
"""What zipfile raises for an archive that is damaged, or that it does not know."""


def look(source: Path | bytes, where: str) -> Archive:
    """The table of contents of an archive, once it is known to be honest."""
    try:
        with zipfile.ZipFile(_openable(source)) as archive, _open(source) as file:
            entries = archive.infolist()
            size = file.seek(0, 2)
            if archive.comment or not _ends(file, size):
                raise RefusedError("a zip archive with something behind its end", where=where)
            _check_names(entries, where)
            _check_places(entries, file, archive.start_dir, where)
    except FAULTS as error:
        raise RefusedError(f"a damaged zip archive ({error})", where=where) from error
    total = sum(entry.file_size for entry in entries)
    if total > max(ALWAYS, MOST_TIMES * size):
        raise RefusedError(
            "a zip archive that holds far more than its size allows",
            where=where,
            expected=f"at most {max(ALWAYS, MOST_TIMES * size):,} bytes",
            received=f"{total:,} bytes",
        )
    return Archive(where, source, {entry.filename: entry for entry in entries})


def _ends(file: IO[bytes], size: int) -> bool:
    file.seek(max(0, size - _END))
    return file.read(4) == _END_SIGNATURE


def _check_names(entries: list[zipfile.ZipInfo], where: str) -> None:
    if len(entries) > _MOST_ENTRIES:
        raise RefusedError("a zip archive with too many entries", where=where, received=len(entries))
    seen: set[str] = set()
    for entry in entries:
        name = entry.orig_filename
        problem = (
            "with a name that leads out of it" if not paths.is_plain(name) or "\\" in name
            else "twice" if name in seen
            else "that is a link" if stat.S_ISLNK(entry.external_attr >> 16)
            else "that is encrypted" if entry.flag_bits & _ENCRYPTED
            else "that is compressed in a way that models are not"
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            else ""
        )  # fmt: skip
        if problem:
            raise RefusedError(f"a zip archive holds an entry {problem}", where=where, received=repr(name))
        seen.add(name)


def _check_places(entries: list[zipfile.ZipInfo], file: IO[bytes], end: int, where: str) -> None:
    """Entries lie behind each other before the table, and each says the name that the table says."""
    reached = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        file.seek(entry.header_offset)
        head = _ENTRY.unpack(file.read(_ENTRY.size))
        name = file.read(head[-2])
        if head[0] != b"PK\x03\x04" or name != entry.orig_filename.encode(
            "utf-8" if entry.flag_bits & 0x800 else "cp437"
        ):
            raise RefusedError(
                "a zip archive whose table does not name what it holds",
                where=where,
                received=repr(entry.filename),
            )
        if entry.header_offset < reached:
            raise RefusedError(
                "a zip archive whose entries overlap", where=where, received=repr(entry.filename)
            )
        stored = entry.compress_type == zipfile.ZIP_STORED
        if stored and entry.file_size != entry.compress_size:
            raise RefusedError(
                "a zip archive with an entry of two sizes", where=where, received=repr(entry.filename)
            )
        reached = entry.header_offset + _ENTRY.size + head[-2] + head[-1] + entry.compress_size
    if reached > end:
        raise RefusedError("a zip archive whose entries overlap its table", where=where)


def _openable(source: Path | bytes) -> Path | BytesIO:
    return BytesIO(source) if isinstance(source, bytes) else source


def _open(source: Path | bytes) -> IO[bytes]:
    return BytesIO(source) if isinstance(source, bytes) else source.open("rb")
