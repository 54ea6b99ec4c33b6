"""Mutants that change how a file is put together, not what is in it: the tables, heads, sizes and names of zip archives, HDF5 and safetensors.

Each is made from a good file and a seeded draw. Contents stay whole, so that readers get far enough to differ.
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any
from zipfile import ZipFile

NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
OTHER = b"something else"


@dataclass
class Head:
    """What is said of an entry, before it or in the table; ``None`` is what is so."""

    name: bytes
    flags: int = 0
    method: int = 0
    check: int | None = None
    packed: int | None = None
    size: int | None = None
    extra: bytes = b""
    place: int | None = None
    comment: bytes = b""
    attributes: int = 0
    disk: int = 0
    version: int = 20


@dataclass
class Entry:
    """An entry: its content, what stands before it (``near``), behind it, and in the table (``far``; none: not in it)."""

    data: bytes
    near: Head
    far: Head | None
    packed: bytes | None = None
    before: bytes = b""
    behind: bytes = b""

    @property
    def stored(self) -> bytes:
        if self.packed is not None:
            return self.packed
        if self.near.method == 8:
            opener = zlib.compressobj(6, zlib.DEFLATED, -15)
            return opener.compress(self.data) + opener.flush()
        return self.data


@dataclass
class End:
    """The end record, and the long one; ``None`` is what is so, or that there is none."""

    count: int | None = None
    here: int | None = None
    length: int | None = None
    start: int | None = None
    disk: int = 0
    comment: bytes = b""
    said: int | None = None
    long: dict[str, int] | None = None
    """Numbers of a long end record in place of the true ones (count, length, start, place, disks)."""


@dataclass
class Zip:
    """An archive to be written; ``tables`` is what stands between the entries and the last table."""

    entries: list[Entry]
    end: End = field(default_factory=End)
    first: bytes = b""
    between: Callable[[bytes, int], bytes] = lambda _table, _start: b""
    before_end: bytes = b""
    last: bytes = b""
    shift: int = 0

    def bytes(self) -> bytes:
        out, places = bytearray(self.first), {}
        for entry in self.entries:
            out += entry.before
            places[id(entry)] = len(out)
            stored, head = entry.stored, entry.near
            out += struct.pack("<4s5H3L2H", b"PK\x03\x04", head.version, head.flags, head.method, 0, 33,
                               *_numbers(head, entry, stored), len(head.name), len(head.extra))  # fmt: skip
            out += head.name + head.extra + stored + entry.behind
        table = b"".join(_row(entry, places[id(entry)] + self.shift) for entry in self.entries if entry.far)
        out += self.between(table, len(out))
        start = len(out)
        out += table + self.before_end
        return (
            bytes(out)
            + self._end(len(table), start, sum(entry.far is not None for entry in self.entries))
            + self.last
        )

    def _end(self, length: int, start: int, count: int) -> bytes:
        end, long = self.end, b""
        if end.long is not None:
            said = {
                "count": count,
                "length": length,
                "start": start + self.shift,
                "place": start + length,
                "disks": 1,
            }
            said |= end.long
            long = struct.pack(
                "<4sQ2H2L4Q",
                b"PK\x06\x06",
                44,
                45,
                45,
                0,
                0,
                *[said[key] for key in ("count", "count", "length", "start")],
            )
            long += struct.pack("<4sLQL", b"PK\x06\x07", 0, said["place"], said["disks"] & 0xFFFFFFFF)
        numbers = (
            end.disk, 0, _or(end.here, count) & 0xFFFF, _or(end.count, count) & 0xFFFF,
            _or(end.length, length) & 0xFFFFFFFF, _or(end.start, start + self.shift) & 0xFFFFFFFF,
            _or(end.said, len(end.comment)),
        )  # fmt: skip
        return long + struct.pack("<4s4H2LH", b"PK\x05\x06", *numbers) + end.comment


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _numbers(head: Head, entry: Entry, stored: bytes) -> tuple[int, ...]:
    true = (zlib.crc32(entry.data), len(stored), len(entry.data))
    said = (head.check, head.packed, head.size)
    return tuple(_or(one, other) & 0xFFFFFFFF for one, other in zip(said, true, strict=True))


def _row(entry: Entry, place: int) -> bytes:
    head = entry.far
    assert head is not None
    return (
        struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, head.version, head.flags, head.method, 0, 33,
                    *_numbers(head, entry, entry.stored), len(head.name), len(head.extra), len(head.comment), head.disk, 0,
                    head.attributes, _or(head.place, place) & 0xFFFFFFFF)
        + head.name + head.extra + head.comment
    )  # fmt: skip


def parsed(content: bytes) -> Zip:
    """A good archive, ready to be spoilt."""
    with ZipFile(BytesIO(content)) as archive:
        rows = [(each.filename.encode(), archive.read(each)) for each in archive.infolist()]
    return Zip([entry(name, data) for name, data in rows])


def entry(name: bytes, data: bytes, method: int = 0) -> Entry:
    flags = 0 if name.isascii() else 0x800
    return Entry(data, Head(name, flags, method), Head(name, flags, method))


# ---- zip: names ----------------------------------------------------------------------------------

LIKE: tuple[Callable[[bytes], bytes], ...] = (
    bytes.upper, bytes.title, bytes.swapcase, lambda n: n[:-1] + n[-1:].upper(), lambda n: n + b".", lambda n: n + b" ",
    lambda n: n + b"/", lambda n: b"./" + n, lambda n: n.replace(b"/", b"//", 1), lambda n: n.replace(b"/", b"/./", 1),
    lambda n: n.replace(b"/", b"\\"), lambda n: n + b"\0x", lambda n: b"x/../" + n, lambda n: b"/" + n, lambda n: n.lower(),
    lambda n: n.replace(b"k", "\u212a".encode()), lambda n: n.replace(b"s", "\u017f".encode()), lambda n: n.replace(b"i", "\u0131".encode()),
    lambda n: n.replace(b"a", "\uff41".encode(), 1), lambda n: n.replace(b"e", b"e\xcc\x81", 1), lambda n: b"other" + n[n.find(b"/") :],
    lambda n: n.partition(b"/")[2] or n, lambda n: b"top/" + n, lambda n: n.replace(b".", b"\xe2\x80\xa4"), lambda n: n + b".npy",
    lambda n: n.removesuffix(b".npy"), lambda n: n.replace(b".json", b".jsom"), lambda n: n.replace(b".py", b".txt"),
    lambda n: n.replace(b".pt", b".pth"), lambda n: n.rpartition(b"/")[0] or n, lambda n: n + b"\xff", lambda n: b"C:" + n,
)  # fmt: skip
"""Names that some reader takes for this one, or finds in its place."""


def _named(head: Head, name: bytes) -> Head:
    return replace(head, name=name, flags=head.flags | (0 if name.isascii() else 0x800))


def _rename(it: Zip, one: Entry, draw: random.Random) -> None:
    name = draw.choice(LIKE)(one.near.name)
    one.near = _named(one.near, name)
    one.far = _named(one.far, name) if one.far else None


def _rename_far(it: Zip, one: Entry, draw: random.Random) -> None:
    one.far = _named(one.far, draw.choice(LIKE)(one.far.name)) if one.far else None


def _add(it: Zip, one: Entry, draw: random.Random) -> None:
    """Another entry that some reader takes for this one, before or behind it."""
    data = draw.choice((OTHER, one.data, b"", one.data[: len(one.data) // 2]))
    it.entries.insert(
        draw.choice((0, len(it.entries))), entry(draw.choice((lambda n: n, *LIKE))(one.near.name), data)
    )


def _bytes_of_a_name(it: Zip, one: Entry, draw: random.Random) -> None:
    """Letters outside ASCII with or without the flag that says how they are written."""
    name = one.near.name + draw.choice(("ä".encode(), "ä".encode("cp437"), b"\xc3\xa4", b"\x80"))
    flags = draw.choice((0, 0x800))
    one.near = replace(one.near, name=name, flags=flags)
    one.far = replace(one.far, name=name, flags=draw.choice((flags, 0, 0x800))) if one.far else None


# ---- zip: what is said of an entry ----------------------------------------------------------------

FIELDS = ("flags", "method", "check", "packed", "size", "place", "attributes", "disk", "version")


def _lie(it: Zip, one: Entry, draw: random.Random) -> None:
    """One number of one head."""
    near = draw.random() < 0.5
    head = one.near if near else one.far
    if head is None:
        return
    key, other = draw.choice(FIELDS), draw.choice(it.entries)
    value = {
        "flags": draw.choice((0x1, 0x8, 0x20, 0x40, 0x800, 0x2000, 0x6)), "method": draw.choice((0, 8, 9, 12, 14, 93, 99)),
        "check": draw.choice((0, 1, zlib.crc32(OTHER))), "attributes": draw.choice((0xA1FF0000, 0x10, 0x41FF0000)),
        "disk": draw.choice((1, 0xFFFF)), "version": draw.choice((10, 45, 63, 0xFFFF, 0x033F)),
        "packed": draw.choice((len(other.data), len(one.data) + 1, *NUMBERS)), "size": draw.choice((len(other.data), len(one.data) - 1, *NUMBERS)),
        "place": draw.choice((0, 1, 30, *NUMBERS)),
    }[key]  # fmt: skip
    changed = replace(
        head,
        **{key: max(0, value) & (0xFFFF if key in ("flags", "method", "disk", "version") else 0xFFFFFFFF)},
    )
    if near:
        one.near = changed
    else:
        one.far = changed
    if draw.random() < 0.4 and key in ("flags", "method", "size", "packed", "check"):
        one.near = replace(one.near, **{key: getattr(changed, key)})
        one.far = replace(one.far, **{key: getattr(changed, key)}) if one.far else None


def _swap_places(it: Zip, one: Entry, draw: random.Random) -> None:
    """The table gives an entry the place of another."""
    other = draw.choice(it.entries)
    if one.far and other.far:
        place = len(it.first) + sum(30 + len(e.near.name) + len(e.near.extra) + len(e.stored) + len(e.before) + len(e.behind)
                                    for e in it.entries[: it.entries.index(other)])  # fmt: skip
        one.far = replace(one.far, place=place + len(other.before))


def _extra(it: Zip, one: Entry, draw: random.Random) -> None:
    """Extra fields: long sizes that agree or not, other names, padding, what is no field."""
    size, packed = len(one.data), len(one.stored)
    name = draw.choice(LIKE)(one.near.name)
    fields = (
        struct.pack("<2H2Q", 1, 16, size, packed), struct.pack("<2H2Q", 1, 16, size + 1, packed), struct.pack("<2HQ", 1, 8, 0),
        struct.pack("<2H3Q", 1, 24, size, packed, 0), struct.pack("<2H", 1, 0), struct.pack("<2H3QL", 1, 28, size, packed, 0, 0),
        struct.pack("<2HBL", 0x7075, 5 + len(name), 1, zlib.crc32(one.near.name)) + name,
        struct.pack("<2HBL", 0x6375, 5 + len(name), 1, 0) + name,
        struct.pack("<2H", 0x4246, 7) + bytes(7), struct.pack("<2HBL", 0x5455, 5, 1, 0), b"\x01", b"\x01\x00\xff\xff", bytes(3), bytes(8),
        struct.pack("<2H2Q", 1, 16, size, packed) * 2, struct.pack("<2H2Q", 1, 16, len(OTHER), len(OTHER)),
    )  # fmt: skip
    full = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF} if draw.random() < 0.5 else {}
    where, chosen = draw.random(), draw.choice(fields)
    if where < 0.7:
        one.near = replace(one.near, extra=one.near.extra + chosen, **full)  # type: ignore[arg-type]
    if where > 0.3 and one.far:
        one.far = replace(one.far, extra=one.far.extra + chosen, **full)  # type: ignore[arg-type]


def _described(it: Zip, one: Entry, draw: random.Random) -> None:
    """Written without knowing the size: what stands behind the entry says it, rightly or not."""
    size, packed, check = len(one.data), len(one.stored), zlib.crc32(one.data)
    said = draw.choice(
        (
            (check, packed, size),
            (check, packed, size),
            (0, packed, size),
            (check, packed + 1, size),
            (check, 0, 0),
        )
    )
    mark, form = draw.choice((b"PK\x07\x08", b"PK\x07\x08", b"")), draw.choice(("<3L", "<3L", "<L2Q"))
    one.behind = mark + struct.pack(form, *said)
    zero = {"check": 0, "packed": 0, "size": 0} if draw.random() < 0.8 else {}
    one.near = replace(one.near, flags=one.near.flags | 8, **zero)
    if one.far and draw.random() < 0.9:
        one.far = replace(one.far, flags=one.far.flags | 8)


def _deflate(it: Zip, one: Entry, draw: random.Random) -> None:
    """Compressed: as it is, with more behind its end, cut, in two streams, or of another length than is said."""
    one.near.method = 8
    if one.far:
        one.far = replace(one.far, method=8)
    whole = one.stored
    other = zlib.compress(OTHER)[2:-4]
    one.packed = draw.choice(
        (
            whole,
            whole + b"x",
            whole + other,
            whole[:-1],
            b"",
            other,
            whole + bytes(20),
            b"\x00\x00\x00\xff\xff" + whole,
        )
    )


def _gap(it: Zip, one: Entry, draw: random.Random) -> None:
    hidden = Zip([entry(one.near.name, OTHER)])
    one.before += draw.choice(
        (b"x", bytes(64), b"PK\x03\x04", hidden.bytes()[: 30 + len(one.near.name) + len(OTHER)])
    )


def _unlist(it: Zip, one: Entry, draw: random.Random) -> None:
    one.far = None


def _comment(it: Zip, one: Entry, draw: random.Random) -> None:
    if one.far:
        one.far = replace(
            one.far, comment=draw.choice((b"x", struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1), OTHER))
        )


# ---- zip: tables and ends ------------------------------------------------------------------------


def _other_table(it: Zip, one: Entry) -> Zip:
    """The same archive with another content in one entry."""
    entries = [entry(each.near.name, OTHER if each is one else each.data) for each in it.entries]
    return Zip(entries)


def _second_archive(it: Zip, one: Entry, draw: random.Random) -> None:
    """Another whole archive before this one, behind it, or between its entries and its table."""
    other = _other_table(it, one).bytes()
    place = draw.randrange(4)
    if place == 0:
        it.first, it.shift = other, draw.choice((0, 0, -len(other)))
    elif place == 1:
        it.last = other
    elif place == 2:
        it.between = lambda _table, _start: other
    else:
        it.end.comment, it.end.said = other[-200:], draw.choice((None, 0))


def _second_table(it: Zip, one: Entry, draw: random.Random) -> None:
    """Two tables: the end record names one, its place the other."""
    hidden = bytes(draw.choice((0, 4))) + OTHER

    def between(table: bytes, start: int) -> bytes:
        return hidden + table

    it.between = between
    listed = [each for each in it.entries if each.far]
    length = sum(len(_row(each, 0)) for each in listed)
    start = len(Zip(it.entries).bytes()) - length - 22
    it.end.start = draw.choice((start + len(hidden), start, None))
    if draw.random() < 0.5:
        it.end.length = draw.choice((2 * length, length + len(hidden), 0))


def _long_end(it: Zip, one: Entry, draw: random.Random) -> None:
    """A long end record, true or not; the short one full, or not."""
    key = draw.choice(("count", "length", "start", "place", "disks", ""))
    it.end.long = {key: draw.choice(NUMBERS)} if key else {}
    for name in ("count", "here", "start", "length"):
        if draw.random() < 0.4:
            setattr(it.end, name, 0xFFFF if name in ("count", "here") else 0xFFFFFFFF)


def _two_long_ends(it: Zip, one: Entry, draw: random.Random) -> None:
    """Two long end records: the locator names the first, the last stands before it."""
    count, length = len(it.entries), sum(len(_row(each, 0)) for each in it.entries if each.far)
    start = len(Zip(it.entries).bytes()) - length - 22
    first = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        draw.choice((44, 100)),
        45,
        45,
        0,
        0,
        count,
        count,
        length,
        draw.choice((start, 0)),
    )
    it.before_end = first
    it.end.long = {"place": start + length} if draw.random() < 0.7 else {}
    it.end.start = draw.choice((None, 0xFFFFFFFF))


def _end_lies(it: Zip, one: Entry, draw: random.Random) -> None:
    key = draw.choice(("count", "here", "length", "start", "disk", "said"))
    true = {"count": len(it.entries), "here": len(it.entries)}.get(key, 100)
    setattr(
        it.end,
        key,
        max(0, draw.choice((true - 1, true + 1, *NUMBERS)))
        & (0xFFFF if key in ("disk", "said") else 0xFFFFFFFF),
    )


def _around(it: Zip, one: Entry, draw: random.Random) -> None:
    more = draw.choice((b"x", bytes(22), b"PK\x05\x06" + bytes(18), b"#!/bin/sh\n"))
    it.first, it.last, it.before_end = draw.choice(((more, b"", b""), (b"", more, b""), (b"", b"", more)))
    it.shift = draw.choice((0, 0, -len(it.first), len(it.first)))


def _order(it: Zip, one: Entry, draw: random.Random) -> None:
    draw.shuffle(it.entries)


Change = Callable[[Zip, Entry, random.Random], None]
CHANGES: Sequence[Change] = (
    _rename, _rename, _rename_far, _add, _add, _bytes_of_a_name, _lie, _lie, _lie, _swap_places, _extra, _extra, _described, _described,
    _deflate, _deflate, _gap, _unlist, _comment, _second_archive, _second_table, _long_end, _two_long_ends, _end_lies, _around, _order,
)  # fmt: skip


def mutant_of_zip(content: bytes, draw: random.Random) -> bytes:
    """One or two changes."""
    it = parsed(content)
    for _ in range(draw.choice((1, 1, 2))):
        draw.choice(CHANGES)(it, draw.choice(it.entries), draw)
    return it.bytes()


# ---- HDF5 ----------------------------------------------------------------------------------------

Node = Callable[[Any, str, random.Random], None]


def _arrays(file: Any) -> list[str]:
    import h5py

    found: list[str] = []
    file.visititems(lambda name, each: found.append(name) if isinstance(each, h5py.Dataset) else None)
    return found


def _link(file: Any, name: str, draw: random.Random) -> None:
    """Another link to an array or a group, or one by path, into another file, or round to the root."""
    import h5py

    place = draw.choice(
        (f"{name}_2", name.upper(), name.title(), "vars", f"layers/{draw.randrange(9)}", f"{name}.", "\u212a")
    )
    target = draw.choice(
        (
            file[name],
            file[name].parent,
            file["/"],
            h5py.SoftLink(f"/{name}"),
            h5py.SoftLink("/nowhere"),
            h5py.ExternalLink("x.h5", "/"),
        )
    )
    if place not in file:
        file[place] = target


def _move(file: Any, name: str, draw: random.Random) -> None:
    file.move(name, draw.choice((f"{name}x", name.swapcase(), f"moved/{name}", "0")))


def _other(file: Any, name: str, draw: random.Random) -> None:
    """An array of another kind in the place of this one."""
    import h5py
    import numpy as np

    shape = file[name].shape or (1,)
    del file[name]
    kind = draw.randrange(10)
    if kind == 0:
        file.create_dataset(name, shape, "f4", external=[("/etc/hostname", 0, 4096)])
    elif kind == 1:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(".", "x", shape, "f4")
        file.create_virtual_dataset(name, layout)
    elif kind == 2:
        file.create_dataset(
            name,
            shape,
            "f4",
            chunks=tuple(min(64, 1 + each) for each in shape),
            maxshape=(None,) * len(shape),
        )
    elif kind == 3:
        file.create_dataset(
            name, data=np.zeros(shape, "f4"), compression="gzip", shuffle=True, fletcher32=True
        )
    elif kind == 4:
        file.create_dataset(name, data=["a"] * 3, dtype=h5py.string_dtype())
    elif kind == 5:
        file.create_dataset(name, (3,), h5py.ref_dtype)
    elif kind == 6:
        file.create_dataset(name, (3,), h5py.vlen_dtype(np.int32))
    elif kind == 7:
        file.create_dataset(name, data=np.zeros(2, [("a", "f4"), ("b", "i8")]))
    elif kind == 8:
        file[name] = np.dtype("f8")
    else:
        file.create_dataset(name, (), "f8")


def _attribute(file: Any, name: str, draw: random.Random) -> None:
    import h5py
    import numpy as np

    where = draw.choice((file, file[name], file[name].parent))
    value = draw.choice((b"x" * 300, np.arange(9), h5py.Empty("f4"), "text", ["a", "b"]))
    where.attrs[draw.choice(("model_config", "layer_names", "x", "weight_names"))] = value


def _drop(file: Any, name: str, draw: random.Random) -> None:
    del file[draw.choice((name, name.rpartition("/")[0] or name))]


NODES: Sequence[Node] = (_link, _link, _move, _other, _other, _attribute, _drop)
MARKS = (b"TREE", b"SNOD", b"HEAP", b"OHDR", b"GCOL", b"FRHP", b"\x89HDF")


def _record(content: bytearray, draw: random.Random) -> bytes:
    """A number in a record of the file's own structure: its head, an index, a heap, or the head of an object."""
    mark = draw.choice([mark for mark in MARKS if mark in content])
    places = [at for at in range(len(content)) if content.startswith(mark, at)]
    at, size = draw.choice(places) + 4 + draw.choice(range(0, 96)), draw.choice((1, 2, 4, 8))
    number = draw.choice((*NUMBERS, len(content), *places[:3])) & ((1 << 8 * size) - 1)
    content[at : at + size] = number.to_bytes(size, "little")
    return bytes(content)


def _elsewhere(content: bytearray, draw: random.Random) -> bytes:
    """More before or behind the file; a block before it that HDF5 passes over."""
    more = draw.choice((bytes(512), bytes(100), b"\x89HDF\r\n\x1a\n" + bytes(504), bytes(1024)))
    return draw.choice((more + content, content + more, content + content))


def mutant_of_hdf5(content: bytes, draw: random.Random) -> bytes:
    """One or two changes to what the file holds, or to the records that hold it together."""
    import h5py

    if draw.random() < 0.35:
        return draw.choice((_record, _record, _record, _elsewhere))(bytearray(content), draw)
    stream = BytesIO(content)
    with h5py.File(stream, "a") as file:
        for _ in range(draw.choice((1, 1, 2))):
            if names := _arrays(file):
                with contextlib.suppress(ValueError, OSError):  # a name that is taken
                    draw.choice(NODES)(file, draw.choice(names), draw)
    return stream.getvalue()


# ---- safetensors ---------------------------------------------------------------------------------


def mutant_of_safetensors(content: bytes, draw: random.Random) -> bytes:
    """Another header: keys twice, in another case or with escapes, places that overlap or leave gaps, a length that lies."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    rows = [(name, dict(value)) for name, value in header.items()]
    name, row = rows[place := draw.randrange(len(rows))]
    change = draw.randrange(7)
    if change == 0:
        rows.insert(draw.randrange(len(rows) + 1), (name, dict(draw.choice(rows)[1])))
    elif change == 1:
        rows[place] = draw.choice((name.upper(), f"{name} ", f"{name}\0", "__metadata__")), row
    elif change == 2 and "data_offsets" in row:
        row["data_offsets"] = [
            max(0, each + draw.choice((-4, 4, 1, *NUMBERS))) for each in row["data_offsets"]
        ]
    elif change == 3 and "shape" in row:
        row["shape"] = draw.choice(([], [0], [*row["shape"], 1], row["shape"][::-1], [1 << 62, 4], [-1]))
    elif change == 4 and "dtype" in row:
        row["dtype"] = draw.choice(("F16", "F64", "I8", "BOOL", "f32", "F8_E4M3", ""))
    elif change == 5:
        data = draw.choice((data[:-4], data + b"more", data * 2))
    written = "{" + ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in rows) + "}"
    if draw.random() < 0.3:
        written = draw.choice(
            (written + " " * 7, written.replace('"', ' "', 1), written[:-1], written + "}", "\n" + written)
        )
    text = written.encode()
    size = len(text) + (draw.choice((-1, 1, 8, *NUMBERS)) if change == 6 else 0)
    return (max(0, size) & ((1 << 64) - 1)).to_bytes(8, "little") + text + data
