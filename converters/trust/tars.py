"""A gzipped tar archive (SageMaker's ``model.tar.gz``): unpacked once into a private copy, never onto the disk by its own names."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from netferry.converters.errors import RefusedError
from netferry.converters.trust import paths, snapshot
from netferry.converters.trust.snapshot import Snapshot
from netferry.converters.trust.tables import room

GZIP = b"\x1f\x8b"

_PIECE = 1 << 20
_MOST_ENTRIES = 10_000
_FAULTS = (tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError)
"""What a damaged archive raises on the way."""


@dataclass(frozen=True)
class Archive:
    """The regular files of an archive by name; ``content`` is the archive without its compression."""

    where: str
    content: Snapshot
    entries: Mapping[str, tuple[int, int]]

    def take(self, name: str) -> Snapshot:
        """What a file holds."""
        start, size = self.entries[name]
        view = self.content.view()[start : start + size]
        return snapshot.private(size, f"{self.where}/{name}", lambda file: copy(view, file))


def look(path: Path) -> Archive:
    """Read an archive, once.

    Raises:
        RefusedError: it is damaged, holds far more than its size allows, or anything but files in folders of its own.
    """
    where = str(path)
    try:
        with paths.opened(path) as file, snapshot.unchanged(file, where) as size:
            total = sum(len(piece) for piece in _unpacked(file, room(size), where))
            file.seek(0)
            content = snapshot.private(
                total, where, lambda new: new.writelines(_unpacked(file, room(size), where))
            )
        return Archive(where, content, _entries(content, where))
    except _FAULTS as error:
        raise RefusedError(f"a damaged archive ({error})", where=where) from error


def _unpacked(file: IO[bytes], most: int, where: str) -> Iterator[bytes]:
    reached = 0
    with gzip.GzipFile(fileobj=file) as plain:
        while piece := plain.read(_PIECE):
            reached += len(piece)
            if reached > most:
                raise RefusedError(
                    "the archive holds far more than its size allows",
                    where=where,
                    expected=f"at most {most:,} bytes",
                )
            yield piece


def _entries(content: Snapshot, where: str) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    with content.open() as file, tarfile.open(fileobj=file, mode="r:") as archive:
        for count, member in enumerate(archive):
            name = member.name.removeprefix("./")
            if count >= _MOST_ENTRIES:
                raise RefusedError(
                    "the archive holds too many files", where=where, expected=f"{_MOST_ENTRIES:,}"
                )
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise RefusedError(
                    "the archive holds something other than files and folders",
                    where=where,
                    received=repr(name),
                )
            if not paths.is_plain(name) or name.casefold() in seen:
                raise RefusedError(
                    "the archive names a file outside of itself, or one twice",
                    where=where,
                    received=repr(name),
                )
            seen.add(name.casefold())
            found[name] = member.offset_data, member.size
    return found


def copy(view: memoryview, file: IO[bytes]) -> None:
    for at in range(0, len(view), _PIECE):
        file.write(view[at : at + _PIECE])
