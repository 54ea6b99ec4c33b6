"""The table of contents of a zip archive, as the only reader has it that believes nothing that is said once only.

What two readers could take differently is refused: a table that is not where its end says, a second one, sizes that are said
twice and differ, a head that differs from the table, gaps, overlaps, a comment, names that a reader takes for one.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from netferry.converters.errors import RefusedError
from netferry.converters.trust import paths

MOST_TIMES = 256
"""A content may be at most this many times as large as the archive that holds it compressed ..."""

ALWAYS = 1 << 26
"""... or this large: 64 MiB harm nobody."""


def room(size: int) -> int:
    """Bytes that a file of ``size`` bytes may claim to hold."""
    return max(ALWAYS, MOST_TIMES * size)


MOST_AXES, _MOST_BITS = 32, 56


def are_possible(sizes: Sequence[int]) -> bool:
    """Whether an array can have these sizes: those beside a size of 0 are multiplied in 63 bits all the same."""
    likely = len(sizes) <= MOST_AXES and all(size >= 0 for size in sizes)
    return likely and not math.prod(max(size, 1) for size in sizes) >> _MOST_BITS


FAULTS = (struct.error, zlib.error, EOFError, OSError, ValueError, OverflowError)
"""What a damaged archive raises on the way."""

_MOST_ENTRIES = 200_000
_PIECE = 1 << 20
HEAD = struct.Struct("<4s5H3L2H")
"""Before an entry: signature, version, flags, method, time, date, check sum, packed size, size, lengths of name and extra field."""
ROW = struct.Struct("<4s6H3L5H2L")
"""In the table: signature, versions, flags, method, time, date, check sum, sizes, lengths of name, extra field and comment, disk, attributes, place."""
END = struct.Struct("<4s4H2LH")
END64 = struct.Struct("<4sQ2H2L4Q")
LOCATOR = struct.Struct("<4sLQL")
HEAD_MARK, ROW_MARK, _DESCRIPTOR_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x07\x08"
END_MARK, END64_MARK, LOCATOR_MARK = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF
STORED, DEFLATED = 0, 8
_ENCRYPTED, _LEVEL, _DESCRIBED, UTF8 = 0x1, 0x6, 0x8, 0x800
ZIP64, _OTHER_NAMES = 0x0001, frozenset({0x7075, 0x6375})
_FOLDER_OF_DOS = 0x10
"""PyTorch gives out whatever stands in memory for an entry that bears it."""
_NEWEST = 63


@dataclass(frozen=True)
class Entry:
    """A file in an archive: ``file_size`` bytes that begin at ``start`` where it is stored as it is (``packed`` of them else)."""

    filename: str
    file_size: int
    start: int
    packed: int = 0
    method: int = STORED
    check: int = 0


@dataclass(frozen=True)
class Reader:
    """How a library finds the entries of an archive: names with one ``key`` are one to it.

    ``below`` says that it looks below the one folder, whatever it is called, in which all of them lie; ``paths`` that a name
    may become the name of a file.
    """

    key: Callable[[str], str]
    below: bool = False
    paths: bool = True


def _folded(name: str) -> str:
    """As loosely as any file system or archive reader does: neither case nor the way of writing a letter tells names apart."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).casefold()


KERAS = Reader(_folded)
PYTORCH = Reader(_folded, below=True)
NUMPY = Reader(lambda name: name.removesuffix(".npy"), paths=False)


def table(file: IO[bytes], size: int, where: str, reader: Reader = KERAS) -> list[Entry]:
    """The entries of an archive in the order of its table, once all that says something of them says the same."""
    try:
        start, length, count = _end(file, size, where)
        rows = _read_rows(_part(file, start, length), count, where)
        _check_names(rows, reader, where)
        entries = _check_places(rows, file, start, where)
    except FAULTS as error:
        raise RefusedError(f"a damaged zip archive ({error})", where=where) from error
    total = sum(entry.file_size for entry in entries)
    if total > room(size):
        raise RefusedError(
            "a zip archive that holds far more than its size allows",
            where=where,
            expected=f"at most {room(size):,} bytes",
            received=f"{total:,} bytes",
        )
    return entries


def names(path: Path) -> list[str]:
    """What the entries of an archive are called."""
    where = str(path)
    with paths.opened(path) as file:
        try:
            start, length, count = _end(file, os.fstat(file.fileno()).st_size, where)
            return [row.name for row in _read_rows(_part(file, start, length), count, where)]
        except FAULTS as error:
            raise RefusedError(f"a damaged zip archive ({error})", where=where) from error


def _part(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    found = file.read(size)
    if len(found) < size:
        raise ValueError(f"it ends before {start + size}")
    return found


def _refuse(problem: str, where: str, received: object = None) -> RefusedError:
    return RefusedError(
        f"a zip archive {problem}", where=where, received=None if received is None else repr(received)
    )


def _end(file: IO[bytes], size: int, where: str) -> tuple[int, int, int]:
    """Where the table starts, its length and its rows: the end record is the last of the file, and the table lies right before it."""
    if size < END.size:
        raise ValueError("it is too short")
    offset = size - END.size
    mark, disk, first, here, count, length, start, comment = END.unpack(_part(file, offset, END.size))
    if mark != END_MARK or comment:
        raise ValueError("its last bytes are no end record without a comment")
    if offset >= LOCATOR.size:
        located = LOCATOR.unpack(_part(file, offset - LOCATOR.size, LOCATOR.size))
        if located[0] == LOCATOR_MARK:
            offset -= LOCATOR.size + END64.size
            said = (disk, first, here, count, length, start)
            disk, first, here, count, length, start = _end64(file, offset, located, said, where)
    if disk or first or here != count:
        raise _refuse("in several parts", where)
    if start + length != offset:
        raise _refuse("whose table is not where its end says", where, start)
    return start, length, count


def _end64(
    file: IO[bytes], offset: int, located: tuple[bytes, int, int, int], said: Sequence[int], where: str
) -> Sequence[int]:
    """The numbers of the long end record, which stands right before its locator; the short one's are theirs, or full."""
    mark, length, _, _, *numbers = END64.unpack(_part(file, max(offset, 0), END64.size))
    if mark != END64_MARK or length != END64.size - 12 or located[1:] != (0, offset, 1):
        raise _refuse("with two ends", where)
    full = (FULL16, FULL16, FULL16, FULL16, FULL32, FULL32)
    if any(short not in (long, most) for short, long, most in zip(said, numbers, full, strict=True)):
        raise _refuse("with two ends that differ", where)
    return numbers


@dataclass(frozen=True)
class _Row:
    """An entry as the table has it."""

    raw: bytes
    name: str
    flags: int
    method: int
    check: int
    packed: int
    size: int
    offset: int


def _read_rows(content: bytes, count: int, where: str) -> list[_Row]:
    if count > _MOST_ENTRIES:
        raise _refuse("with too many entries", where, count)
    rows, at = [], 0
    for _ in range(count):
        mark, _, version, flags, method, _, _, check, packed, size, *rest = ROW.unpack_from(content, at)
        named, more, comment, disk, _, attributes, offset = rest
        if mark != ROW_MARK:
            raise ValueError("its table is no table")
        at += ROW.size
        raw, extra = content[at : at + named], content[at + named : at + named + more]
        at += named + more + comment
        name = raw.decode("utf-8" if flags & UTF8 else "ascii")
        problem = (
            "that is a link" if stat.S_ISLNK(attributes >> 16)
            else "that is a folder and is not" if attributes & _FOLDER_OF_DOS and not name.endswith("/")
            else "that is encrypted" if flags & _ENCRYPTED
            else "with a comment" if comment
            else "of another part" if disk
            else "that is compressed in a way that models are not" if method not in (STORED, DEFLATED)
            else "that is written in an unusual way" if flags & ~(_LEVEL | _DESCRIBED | UTF8)
            else ""
        )  # fmt: skip
        if version & 0xFF > _NEWEST:
            raise ValueError(f"zip file version {(version & 0xFF) / 10:.1f}")
        if problem:
            raise _refuse(f"holds an entry {problem}", where, name)
        size, packed, offset = _long(_extra(extra, name, where), (size, packed, offset), name, where)
        rows.append(_Row(raw, name, flags, method, check, packed, size, offset))
    if at != len(content):
        raise _refuse("with more in its table than it has entries", where)
    return rows


def _extra(content: bytes, name: str, where: str) -> bytes | None:
    """The long sizes in an extra field, if it has them; what gives an entry a second name is refused."""
    found: bytes | None = None
    at = 0
    while at < len(content):
        if at + 4 > len(content):
            raise _refuse("with an extra field that is none", where, name)
        kind, length = struct.unpack_from("<2H", content, at)
        part = content[at + 4 : at + 4 + length]
        at += 4 + length
        if len(part) < length or kind in _OTHER_NAMES or (kind == ZIP64 and found is not None):
            raise _refuse("with an extra field that says something else", where, name)
        found = part if kind == ZIP64 else found
    return found


def _long(extra: bytes | None, short: Sequence[int], name: str, where: str) -> list[int]:
    """Numbers of 32 bits; those that are full are in the extra field, and no other is."""
    full = [offset for offset, number in enumerate(short) if number == FULL32]
    if len(extra or b"") != 8 * len(full) or (extra is not None and not full):
        raise _refuse("with an entry of two sizes", where, name)
    numbers = list(short)
    for offset, number in zip(full, struct.unpack(f"<{len(full)}Q", extra or b""), strict=True):
        numbers[offset] = number
    return numbers


_UNUSUAL = re.compile(r"[\x00-\x1f\x7f\\]|(^|/)(\.\.?)?(/|$)|[. ](/|$)")
"""What a name holds that some reader leaves out, or goes another way by: control characters, empty parts, dots and blanks at an end."""


def _check_names(rows: Sequence[_Row], reader: Reader, where: str) -> None:
    """Every reader tells the entries apart, finds them under their names, and can put them into a folder."""
    below = reader.below and have_one_folder([row.name for row in rows])
    seen: set[str] = set()
    for row in rows:
        name = (row.name.partition("/")[2] if below else row.name).removesuffix("/")
        said = row.name if reader.paths else row.name.replace(":", "")  # numpy's may look like drives
        if not paths.is_plain(said) or (reader.paths and "\\" in said):
            raise _refuse("holds an entry with a name that leads out of it", where, row.name)
        if "\0" in name or (reader.paths and _UNUSUAL.search(name) and (name or not below)):
            raise _refuse("holds an entry with a name that readers take differently", where, row.name)
        if reader.key(name) in seen:
            raise _refuse("holds an entry twice", where, row.name)
        seen.add(reader.key(name))
    files = {_folded(row.name) for row in rows if reader.paths and not row.name.endswith("/")}
    for row in rows:
        above = _folded(row.name.removesuffix("/"))
        while above := above.rpartition("/")[0]:
            if above in files:
                raise _refuse("holds an entry that is a folder too", where, row.name)


def have_one_folder(given: Sequence[str]) -> bool:
    """Whether all entries lie in one folder, however it is written."""
    return all("/" in name for name in given) and len({name.partition("/")[0].lower() for name in given}) == 1


def _check_places(rows: Sequence[_Row], file: IO[bytes], end: int, where: str) -> list[Entry]:
    """Entries lie one behind the other from the first byte to the table, and the head of each says what the table says."""
    reached, starts = 0, {}
    for row in sorted(rows, key=lambda row: row.offset):
        if row.offset != reached:
            problem = "whose entries overlap" if row.offset < reached else "with a gap between its entries"
            raise _refuse(problem, where, row.name)
        if row.method == STORED and row.size != row.packed:
            raise _refuse("with an entry of two sizes", where, row.name)
        start = _check_head(row, file, where)
        starts[row.offset] = start
        reached = start + row.packed
        if reached > end:
            raise _refuse("whose entries overlap its table", where, row.name)
        if row.flags & _DESCRIBED:
            reached += _description(row, _part(file, reached, min(24, end - reached)), where)
    if reached != end:
        raise _refuse("with a gap before its table", where)
    return [
        Entry(row.name, row.size, starts[row.offset], row.packed, row.method, row.check)
        for row in rows
        if not _is_folder(row, where)
    ]


def _is_folder(row: _Row, where: str) -> bool:
    if row.name.endswith("/") and row.size:
        raise _refuse("holds a folder with content", where, row.name)
    return row.name.endswith("/")


def _check_head(row: _Row, file: IO[bytes], where: str) -> int:
    """Where the content of an entry starts."""
    head = _part(file, row.offset, HEAD.size)
    mark, _, flags, method, _, _, check, packed, size, named, more = HEAD.unpack(head)
    rest = _part(file, row.offset + HEAD.size, named + more)
    if mark != HEAD_MARK or rest[:named] != row.raw:
        raise _refuse("whose table does not name what it holds", where, row.name)
    extra = _extra(rest[named:], row.name, where)
    if extra is not None and flags & _DESCRIBED and (packed, size) == (0, 0):
        extra = _unless_known(extra, row)
    size, packed = _long(extra, (size, packed), row.name, where)
    said, known = (
        (flags, method, check, packed, size),
        (row.flags, row.method, row.check, row.packed, row.size),
    )
    unknown = (row.flags, row.method, 0, 0, 0) if flags & _DESCRIBED else known
    if said not in (known, unknown):
        raise _refuse("whose table differs from what stands before an entry", where, row.name)
    return row.offset + len(head) + len(rest)


def _unless_known(extra: bytes, row: _Row) -> bytes | None:
    """PyTorch writes the long numbers of an entry before it, also where the short ones are left open."""
    numbers = [number for (number,) in struct.iter_unpack("<Q", extra)] if len(extra) % 8 == 0 else [-1]
    return None if set(numbers) <= {0, row.size, row.packed, row.offset} else extra


def _description(row: _Row, found: bytes, where: str) -> int:
    """The length of what stands behind an entry that was written without knowing its size."""
    said = (_DESCRIPTOR_MARK, row.check, row.packed, row.size)
    for form in ("<4sL2Q", "<4s3L"):
        length = struct.calcsize(form)
        if len(found) >= length and struct.unpack_from(form, found) == said:
            return length
    raise _refuse("whose table differs from what stands behind an entry", where, row.name)


def unpacked(file: IO[bytes], entry: Entry, where: str) -> Iterator[bytes]:
    """What an entry holds, piece by piece: it has the size and the check sum that the table says, and ends where it says."""
    check = written = 0
    try:
        for piece in _pieces(file, entry):
            check, written = zlib.crc32(piece, check), written + len(piece)
            yield piece
        if (check, written) != (entry.check, entry.file_size):
            raise ValueError("its check sum is another")
    except FAULTS as error:
        raise RefusedError(f"the entry {entry.filename!r} is damaged ({error})", where=where) from error


def _pieces(file: IO[bytes], entry: Entry) -> Iterator[bytes]:
    """No more than the size of the entry; nothing may follow its end."""
    file.seek(entry.start)
    left, room = entry.packed, entry.file_size
    opener = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == DEFLATED else None
    while left:
        piece = file.read(min(_PIECE, left))
        if not piece:
            raise EOFError("the file ends in it")
        left -= len(piece)
        if opener is None:
            yield piece
            continue
        made = b" "
        while piece or made:
            made = opener.decompress(piece, min(_PIECE, room) + 1)
            room, piece = room - len(made), opener.unconsumed_tail
            if room < 0 or opener.unused_data:
                raise ValueError("more follows its end")
            yield made
    if opener is not None and not opener.eof:
        raise EOFError("it has no end")
