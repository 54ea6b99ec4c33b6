"""Zip archives (.pt2, TorchScript, .keras): read once by ourselves, and handed on as a new archive that has one reading.

The new archive holds the same entries, as they are when unpacked, one behind the other, with one table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

from netferry.converters.errors import RefusedError
from netferry.converters.trust import paths, snapshot
from netferry.converters.trust.snapshot import Snapshot
from netferry.converters.trust.tables import (
    END,
    END64,
    END64_MARK,
    END_MARK,
    FULL16,
    FULL32,
    HEAD,
    HEAD_MARK,
    KERAS,
    LOCATOR,
    LOCATOR_MARK,
    ROW,
    ROW_MARK,
    STORED,
    UTF8,
    ZIP64,
    Entry,
    Reader,
    have_one_folder,
    table,
    unpacked,
)

_PADDING = 0x4246
_ALIGNED = 64
_DATE = 0x21  # the first of January 1980


@dataclass(frozen=True)
class Archive:
    """An archive of one reading: ``content`` holds the entries, stored, and nothing else."""

    where: str
    content: Snapshot
    entries: Mapping[str, Entry]

    def read(self, name: str) -> bytes:
        """What an entry holds."""
        if name not in self.entries:
            raise RefusedError("an entry is missing", where=self.where, expected=name)
        entry = self.entries[name]
        return self.content.read(entry.file_size, entry.start)

    def view(self, name: str) -> memoryview:
        """What an entry holds, without a copy."""
        entry = self.entries[name]
        return self.content.view()[entry.start : entry.start + entry.file_size]


FOLDER = "archive"
"""What the folder of PyTorch's archives is called in the new one; the names in it are written small."""


def look(source: Path | bytes | IO[bytes], where: str, reader: Reader = KERAS) -> Archive:
    """Read an archive, once, into a new one.

    Raises:
        RefusedError: it is damaged, could be read in two ways, or holds far more than its size allows.
    """
    with _opened(source, where) as (file, size):
        found = table(file, size, where, reader)
        total = sum(entry.file_size for entry in found)
        more, made = _laid_out(found, reader)
        content = snapshot.private(total + more, where, lambda new: _write(file, new, made, found, where))
    return Archive(where, content, {entry.filename: entry for entry in made})


@contextmanager
def _opened(source: Path | bytes | IO[bytes], where: str) -> Iterator[tuple[IO[bytes], int]]:
    """An archive, and its size; a small one is in memory."""
    if isinstance(source, bytes):
        yield BytesIO(source), len(source)
        return
    with ExitStack() as stack:
        file = stack.enter_context(paths.opened(source)) if isinstance(source, Path) else source
        with snapshot.unchanged(file, where) as size:
            if size > snapshot.SMALL:
                yield file, size
            else:
                content = file.read(snapshot.SMALL + 1)
                yield BytesIO(content), len(content)


# ---- the new archive -----------------------------------------------------------------------------


def _laid_out(found: Sequence[Entry], reader: Reader) -> tuple[int, list[Entry]]:
    """The bytes of the new archive that are no contents; its entries, each at a multiple of ``_ALIGNED``."""
    named = _below([entry.filename for entry in found]) if reader.below else [e.filename for e in found]
    made, reached, more = [], 0, END.size + END64.size + LOCATOR.size
    for entry, name in zip(found, named, strict=True):
        head = HEAD.size + len(name.encode()) + (20 if entry.file_size >= FULL32 else 0) + 4
        start = reached + head + -(reached + head) % _ALIGNED
        more += start - reached + ROW.size + len(name.encode()) + 32
        reached = start + entry.file_size
        made.append(Entry(name, entry.file_size, start, entry.file_size, STORED, entry.check))
    return more, made


def _below(given: Sequence[str]) -> list[str]:
    if have_one_folder(given):
        given = [f"{FOLDER}/{name.partition('/')[2]}" for name in given]
    return [name.lower() for name in given]


def _write(
    file: IO[bytes], new: IO[bytes], made: Sequence[Entry], found: Sequence[Entry], where: str
) -> None:
    """Write the new archive: heads with their contents, the table, the end."""
    rows, reached = [], 0
    for entry, source in zip(made, found, strict=True):
        name, long = entry.filename.encode(), entry.file_size >= FULL32
        flags, size = (0 if name.isascii() else UTF8), min(entry.file_size, FULL32)
        extra = struct.pack("<2H2Q", ZIP64, 16, entry.file_size, entry.file_size) if long else b""
        padding = entry.start - reached - HEAD.size - len(name) - len(extra) - 4
        extra += struct.pack("<2H", _PADDING, padding) + bytes(padding)
        common = (45 if long else 20, flags, STORED, 0, _DATE, entry.check, size, size, len(name))
        new.write(HEAD.pack(HEAD_MARK, *common, len(extra)) + name + extra)
        for piece in unpacked(file, source, where):
            new.write(piece)
        numbers = [number for number in (entry.file_size,) * 2 + (reached,) if number >= FULL32]
        more = struct.pack(f"<2H{len(numbers)}Q", ZIP64, 8 * len(numbers), *numbers) if numbers else b""
        rows.append(
            ROW.pack(ROW_MARK, 20, *common, len(more), 0, 0, 0, 0, min(reached, FULL32)) + name + more
        )
        reached = entry.start + entry.file_size
    content = b"".join(rows)
    new.write(content + _ends(len(made), len(content), reached))


def _ends(count: int, length: int, start: int) -> bytes:
    """The end record; the long one too where its numbers need it."""
    long = b""
    if count >= FULL16 or max(length, start) >= FULL32:
        long = END64.pack(END64_MARK, END64.size - 12, 45, 45, 0, 0, count, count, length, start)
        long += LOCATOR.pack(LOCATOR_MARK, 0, start + length, 1)
    few = min(count, FULL16)
    return long + END.pack(END_MARK, 0, 0, few, few, min(length, FULL32), min(start, FULL32), 0)
