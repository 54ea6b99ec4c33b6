"""TensorFlow's checkpoints: what two readers could take differently is refused, and a short file is little work."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import table_files
from table_files import HALVES, Entry, block, extents, field, shape, slice_key, table, varint

from netferry.converters.errors import RefusedError
from netferry.converters.tensorflow.graphdef.checkpoint import Checkpoint, OldCheckpoint
from netferry.converters.trust import snapshot
from netferry.converters.trust.crc32c import masked

NUMBERS = np.arange(12, dtype=np.float32)


entry = partial(table_files.entry, NUMBERS)
HEADER: Entry = (b"", field(1, 1))
GOOD: Sequence[Entry] = (HEADER, (b"a", entry(0, 4)), (b"ab", entry(16, 2, 3)), (b"b", entry(40, 2)))


def opened(folder: Path, index: bytes) -> Checkpoint:
    (folder / "i").write_bytes(index)
    (folder / "d").write_bytes(NUMBERS.tobytes())
    return Checkpoint(snapshot.mapped(folder / "i"), {(0, 1): snapshot.mapped(folder / "d")})


@pytest.mark.parametrize("every", [1, 2, 16])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_tables_are_read_however_they_are_cut(cut: int, every: int, tmp_path: Path) -> None:
    parts = [GOOD[at : at + cut] for at in range(0, len(GOOD), cut)]
    found = opened(
        tmp_path, table([block(part, every=every) for part in parts], [part[-1][0] + b"!" for part in parts])
    )
    assert list(found) == ["a", "ab", "b"]
    assert np.array_equal(found.read("ab"), NUMBERS[4:10].reshape(2, 3)) and np.array_equal(
        found.read("b"), NUMBERS[10:]
    )


def test_of_a_checkpoint_that_lacks_a_file_the_rest_is_read(tmp_path: Path) -> None:
    elsewhere = field(1, 1) + field(2, shape(9, 9)) + field(3, 1) + field(5, 324)
    found = opened(tmp_path, table([block([*GOOD, (b"c", elsewhere)])], [b"d"]))
    assert np.array_equal(found.read("a"), NUMBERS[:4])
    with pytest.raises(RefusedError, match="missing"):
        found.read("c")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_files_of_another_save_beside_a_checkpoint_are_not_read(count: int, tmp_path: Path) -> None:
    """TensorFlow opens those that say how many the index says that there are."""
    (tmp_path / "i").write_bytes(table([block([(b"", field(1, count)), *GOOD[1:]])], [b"d"]))
    shards = {}
    for of in (1, 2, 3):
        (tmp_path / f"d{of}").write_bytes((NUMBERS if of == count else NUMBERS[::-1]).tobytes())
        shards[0, of] = snapshot.mapped(tmp_path / f"d{of}")
    found = Checkpoint(snapshot.mapped(tmp_path / "i"), shards)
    assert np.array_equal(found.read("ab"), NUMBERS[4:10].reshape(2, 3))


def swapped(entries: Sequence[Entry]) -> list[Entry]:
    return [entries[0], entries[2], entries[1], *entries[3:]]


REFUSED = {
    "keys_out_of_order": (lambda: table([block(swapped(GOOD), every=1)], [b"c"]), "in order"),
    "a_key_twice": (lambda: table([block([*GOOD, (b"b", entry(0, 2))], every=1)], [b"c"]), "in order"),
    "a_key_beyond_what_the_index_says": (lambda: table([block(GOOD)], [b"aa"]), "in order"),
    "blocks_out_of_order": (lambda: table([block(GOOD[3:]), block(GOOD[:3])], [b"b", b"c"], [1, 0]), "overlap|in order"),
    "one_block_twice": (lambda: table([block(GOOD)], [b"c", b"d"], [0, 0]), "overlap"),
    "a_reader_that_seeks_begins_elsewhere": (lambda: table([block(GOOD, restarts=(0, 7))], [b"c"]), "damaged"),
    "a_reader_that_seeks_begins_twice": (lambda: table([block(GOOD, restarts=(0, 0))], [b"c"]), "damaged"),
    "more_restarts_than_bytes": (lambda: table([block(GOOD)[:-4] + struct.pack("<I", 1 << 30)], [b"c"]), "damaged"),
    "tensors_that_overlap": (lambda: table([block([HEADER, (b"a", entry(0, 8)), (b"b", entry(16, 8))])], [b"c"]), "overlap"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_two_readers_read_differently_is_refused(name: str, tmp_path: Path) -> None:
    made, words = REFUSED[name]
    with pytest.raises(RefusedError, match=words):
        opened(tmp_path, made())


SLICED = {
    "another_rank": ([extents((0, 4))], "another rank"),
    "part_of_it_alone": ([extents((0, 1), (0, 3))], "not the whole"),
    "one_of_them_twice": ([extents((0, 1), (0, 3))] * 3, "not the whole"),
    "outside": ([extents((1, 2), (0, 3))], "outside"),
    "missing": ([extents((0, 2), (0, 3))], "missing"),
}


@pytest.mark.parametrize("name", SLICED)
def test_slices_are_the_whole_tensor_or_it_is_refused(name: str, tmp_path: Path) -> None:
    slices, words = SLICED[name]
    found = opened(tmp_path, table([block([HEADER, (b"a", entry(0, 2, 3, slices=slices))])], [b"c"]))
    with pytest.raises(RefusedError, match=words):
        found.read("a")


def test_keys_that_grow_are_no_memory(tmp_path: Path) -> None:
    """Each key is the one before and a byte more: sixteen thousand of them would be 128 MiB."""
    body = bytearray()
    for length in range(16_000):
        body += varint(length) + varint(1) + varint(0) + b"a"
    made = bytes(body) + struct.pack("<2I", 0, 1)
    with pytest.raises(RefusedError, match="in order"):
        opened(tmp_path, table([made], [b"b"]))


def test_a_block_that_is_listed_often_is_read_once(tmp_path: Path) -> None:
    entries = [HEADER, *((b"k%05d" % place, b"") for place in range(2_000))]
    made = table([block(entries)], [b"l%05d" % place for place in range(20_000)], [0] * 20_000)
    begun = time.process_time()
    with pytest.raises(RefusedError, match="overlap"):
        opened(tmp_path, made)
    assert time.process_time() - begun < 2


WHOLE = ((0, 2), (0, 3))


@pytest.mark.parametrize(
    ("declared", "held", "key", "words"),
    [
        ([((0, 2),)], [((0, 2),)], None, "another rank"),
        ([((0, 1), (0, 3))], [((0, 1), (0, 3))], None, "not the whole"),
        ([WHOLE], [WHOLE], b"a", "stands under another key"),
        ([WHOLE], [WHOLE], slice_key(b"b", *WHOLE), "stands under another key"),
        ([], [WHOLE], None, "not those it declares"),
        ([WHOLE, *HALVES], [WHOLE], None, "not those it declares"),
        (HALVES, [WHOLE], None, "not those it declares"),
    ],
)
def test_slices_of_the_first_format_are_the_whole_tensor_too(
    declared: Sequence[Any], held: Sequence[Any], key: bytes | None, words: str, tmp_path: Path
) -> None:
    """TensorFlow finds a slice by its key and by what is declared: it would give what nothing was written to."""
    said = b"".join(field(4, extents(*each)) for each in declared)
    meta = field(1, field(1, field(1, b"a") + field(2, shape(2, 3)) + field(3, 1) + said))
    entries = [
        (key or slice_key(b"a", *each),
         field(2, field(1, b"a") + field(2, extents(*each)) + field(3, field(4, NUMBERS[:6].tobytes()))))
        for each in held
    ]  # fmt: skip
    (tmp_path / "old").write_bytes(table([block([(b"", meta), *entries])], [b"~"]))
    with pytest.raises(RefusedError, match=words):
        OldCheckpoint([snapshot.mapped(tmp_path / "old")]).read("a")


@pytest.mark.parametrize(
    ("name", "sizes", "summed", "words"),
    [
        (b"cut", (1, 3), 24, None),
        (b"\xe4", (1, 3), 24, None),
        (b"cut", (3, 1), 24, "other sizes than its place"),
        (b"cut", (3,), 24, "other sizes than its place"),
        (b"cut", (1, 3), 28, "check sum"),
    ],
)
def test_each_slice_of_a_tensor_is_checked(
    name: bytes, sizes: tuple[int, ...], summed: int, words: str | None, tmp_path: Path
) -> None:
    """The second of two has these sizes, and the check sum of the numbers that begin at this byte."""
    told = field(1, 1) + field(2, shape(*sizes)) + field(4, 24) + field(5, 12)
    second = told + varint(6 << 3 | 5) + struct.pack("<I", masked(NUMBERS.tobytes()[summed : summed + 12]))
    entries = [
        HEADER,
        (slice_key(name, *HALVES[0]), entry(12, 1, 3)),
        (slice_key(name, *HALVES[1]), second),
        (name, entry(0, 2, 3, slices=[extents(*each) for each in HALVES])),
    ]
    found = opened(tmp_path, table([block(entries)], [b"\xff\xff"]))
    if words is None:
        assert np.array_equal(found.read(name.decode("utf-8", "surrogateescape")), NUMBERS[3:9].reshape(2, 3))
        return
    with pytest.raises(RefusedError, match=words):
        found.read(name.decode())
