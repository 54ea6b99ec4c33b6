"""Results on their way to one file: parts that survive an interruption, and the file that they become.

``out.parquet.parts/`` holds Arrow files, each with the results of the rows in its name, and ``job.json``, which says
what they are the results of. A part appears under its name when it is whole, so none is ever lost or there twice; the
note beside it holds its digest and its job's, and a part that is not as it was written is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import uuid
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters import escaping
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.stages import dissolve, locked
from netferry.converters.disk.staging import staged
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import Array
from netferry.inference.data import require

_NAME = re.compile(r"(\d+)-(\d+)\.arrow")
_OWN = re.compile(r"\d+-\d+\.(arrow|json)|writing-[0-9a-f]{32}|job\.json")

RESULTS = "results"
"""What is written here, as the ledger has it."""

ROW = ""
"""Within a part, the column that says which row of the data each result belongs to: no output can have this name."""

ROW_WRITTEN = "row"
"""What it is called where it is written, which is where bad rows were left out."""


@dataclass(frozen=True)
class Part:
    """The results of the rows from ``start`` to before ``stop``, without those that were bad."""

    start: int
    stop: int
    file: Path

    @property
    def bad(self) -> dict[int, str]:
        found = json.loads(self.note.read_text(encoding="utf-8"))
        return {int(row): reason for row, reason in found["bad"].items()}

    @property
    def note(self) -> Path:
        return self.file.with_suffix(".json")

    def is_whole(self, job: str) -> bool:
        """Whether it and its note are as they were written for the job of this digest."""
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
            return bool(found == _note(self.file, found["bad"], job))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False


def _note(file: Path, bad: Mapping[Any, str], job: str) -> dict[str, Any]:
    """What stands beside a part: its bad rows, its job, and digests of these and of its file."""
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    note = {"bad": {str(row): reason for row, reason in bad.items()}, "job": job, "sha256": content}
    return note | {"digest": _digest(json.dumps(note, sort_keys=True))}


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Parts:
    """The folder of parts beside ``output``, for one job: other jobs' parts are thrown away."""

    output: Path

    @property
    def folder(self) -> Path:
        return self.output.with_name(f"{self.output.name}.parts")

    def held(self) -> AbstractContextManager[Path]:
        """The folder, for this process alone: two runs never write one output."""
        return locked(self.folder)

    def open(self, job: Mapping[str, Any]) -> list[Part]:
        """What an earlier run of the same job has left as it was, in order."""
        words = json.dumps(job, sort_keys=True)
        note = self.folder / "job.json"
        if not note.is_file() or note.read_text(encoding="utf-8") != words:
            self._throw_away(self._own())
            note.write_text(words, encoding="utf-8")
        whole = [part for part in self.found() if part.is_whole(_digest(words))]
        kept = {one for part in whole for one in (part.file.name, part.note.name)}
        self._throw_away([name for name in self._own() if name not in kept and name != note.name])
        return whole

    def _own(self) -> list[str]:
        return [
            file.name for file in self.folder.iterdir() if _OWN.fullmatch(file.name) and not file.is_dir()
        ]

    def _throw_away(self, names: Iterable[str]) -> None:
        for name in names:
            (self.folder / name).unlink()

    def found(self) -> list[Part]:
        matches = [(match, file) for file in self.folder.iterdir() if (match := _NAME.fullmatch(file.name))]
        return sorted((Part(int(m[1]), int(m[2]), file) for m, file in matches), key=lambda part: part.start)

    def remove(self) -> None:
        """The folder goes, but for what strangers have put there."""
        with contextlib.suppress(OSError):
            dissolve(self.folder, self._own())

    @contextmanager
    def writing(self, free: Collection[str] = ()) -> Iterator[PartWriter]:
        """A new part; it gets its name when the body ends well. ``free`` are outputs whose rows may differ in size."""
        job = (self.folder / "job.json").read_text(encoding="utf-8")
        writer = PartWriter(self.folder, free, _digest(job))
        try:
            yield writer
            writer.close()
        finally:
            writer.drop()


class PartWriter:
    """Writes one part, batch by batch."""

    def __init__(self, folder: Path, free: Collection[str] = (), job: str = "") -> None:
        self._folder, self._free, self._job = folder, free, job
        self._file = folder / f"writing-{uuid.uuid4().hex}"
        self._writer: Any = None
        self.start = self.stop = -1
        self.bad: dict[int, str] = {}

    def add(
        self,
        start: int,
        rows: int,
        outputs: Mapping[str, Array],
        bad: Mapping[int, str],
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        """The results of ``rows`` rows from ``start`` on, and what is ``kept`` of them; the bad ones have no results."""
        self.start, self.stop = start if self.start < 0 else self.start, start + rows
        self.bad |= bad
        if not outputs:
            return
        pa = require("pyarrow")
        numbers = np.setdiff1d(np.arange(start, start + rows), list(bad)) if bad else None
        columns = {ROW: pa.array(np.arange(start, start + rows) if numbers is None else numbers)}
        for name, column in (kept or {}).items():
            columns[name] = column if numbers is None else column.take(pa.array(numbers - start))
        columns |= {name: as_column(array, name in self._free) for name, array in outputs.items()}
        batch = pa.record_batch(columns)
        if self._writer is None:
            self._writer = pa.ipc.new_file(pa.OSFile(str(self._file), "wb"), batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        if self.start < 0:
            return
        name = self._folder / f"{self.start:015d}-{self.stop:015d}.arrow"
        if self._writer is None:
            self._file.touch()
        else:
            self._writer.close()
            require("pyarrow").default_memory_pool().release_unused()
        note = json.dumps(_note(self._file, self.bad, self._job))
        name.with_suffix(".json").write_text(note, encoding="utf-8")
        self._file.replace(name)

    def drop(self) -> None:
        self._file.unlink(missing_ok=True)


def as_column(array: Array, free: bool = False) -> Any:
    """Rows of any rank as an Arrow column: numbers, or lists, of fixed sizes unless they are ``free``."""
    pa = require("pyarrow")
    column = pa.array(np.ascontiguousarray(array).reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        size = array.shape[axis]
        if free or not size:
            lists = math.prod(array.shape[:axis])
            column = pa.ListArray.from_arrays(pa.array(np.arange(lists + 1, dtype=np.int32) * size), column)
        else:
            column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def assemble(
    parts: Iterable[Part],
    output: Path,
    *,
    with_rows: bool,
    nothing: Callable[[], Mapping[str, Any]],
    replacing: Overwriting | None = None,
) -> None:
    """Write all parts, in order, as the one file that ``output`` names.

    ``nothing`` gives the columns to write where there is not one row.
    """
    batches = _Batches(list(parts), with_rows, nothing)
    with staged(output, RESULTS, replacing) as stage:
        WRITERS[output.suffix.lower()](stage, batches)


@dataclass(frozen=True)
class _Batches:
    """The record batches of all parts, as often as they are asked for; at least one, if of no rows."""

    parts: Sequence[Part]
    with_rows: bool
    nothing: Callable[[], Mapping[str, Any]]

    def __iter__(self) -> Iterator[Any]:
        pa, empty = require("pyarrow"), True
        for part in self.parts:
            if part.file.stat().st_size == 0:
                continue
            with pa.memory_map(str(part.file)) as mapped:
                reader = pa.ipc.open_file(mapped)
                for i in range(reader.num_record_batches):
                    empty = False
                    yield self._renamed(reader.get_batch(i))
        if empty:
            numbers = pa.array(np.empty(0, np.int64))
            yield self._renamed(pa.record_batch({ROW: numbers, **self.nothing()}))

    def _renamed(self, batch: Any) -> Any:
        """With the numbers of its rows under a name that no output has, or without."""
        if not self.with_rows:
            return batch.drop_columns([ROW])
        name = beside(ROW_WRITTEN, batch.schema.names)
        return batch.rename_columns([name if one == ROW else one for one in batch.schema.names])


def beside(name: str, taken: Collection[str]) -> str:
    """A column's name where others have theirs: ``row``, or ``row_`` where that is taken."""
    while name in taken:
        name += "_"
    return name


def check_kept(name: str, column: Any, output: Path) -> None:
    """Refuse a column of the data that the kind of ``output`` cannot hold as it is."""
    kind, arrays = output.suffix.lower(), _is_array(column)
    if not arrays and (
        kind == ".npz" or (kind == ".csv" and require("pyarrow.types").is_nested(column.type))
    ):
        raise UsageError(
            f"column '{name}' cannot be kept in a {kind} file",
            expected="numbers, or lists of them of one size, without nulls",
            received=f"{column.type}, with nulls" if column.null_count else column.type,
            remedy="Write .parquet or .arrow",
        )


def _is_array(column: Any) -> bool:
    """Whether a column is an array of numpy's: numbers in lists of fixed sizes, nowhere a null."""
    types = require("pyarrow.types")
    while types.is_fixed_size_list(column.type) and not column.null_count:
        column = column.flatten()
    kind = column.type
    return not column.null_count and (
        types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    )


def check_output(output: Path) -> None:
    """Refuse a name that no writer knows, before any work."""
    if output.suffix.lower() not in WRITERS:
        raise UsageError(
            "not a kind of file that results are written to",
            where=str(output),
            expected=f"a name that ends in {', '.join(WRITERS)}",
        )


def _write_parquet(path: Path, batches: _Batches) -> None:
    """Row groups of about a hundred thousand rows."""
    parquet, pa = require("pyarrow.parquet"), require("pyarrow")
    with _opened(lambda schema: parquet.ParquetWriter(path, schema)) as write:
        held: list[Any] = []
        for batch in batches:
            held.append(batch)
            if sum(one.num_rows for one in held) >= 1 << 17:
                write(pa.Table.from_batches(held))
                held = []
        if held:
            write(pa.Table.from_batches(held))


def _write_arrow(path: Path, batches: _Batches) -> None:
    pa = require("pyarrow")
    with _opened(lambda schema: pa.ipc.new_file(str(path), schema)) as write:
        for batch in batches:
            write(batch)


def _write_csv(path: Path, batches: _Batches) -> None:
    """Lists become columns ``name_0``, ``name_1``, ..., under names that mean nothing to who opens the file."""
    csv = require("pyarrow.csv")
    with _opened(lambda schema: csv.CSVWriter(path, schema)) as write:
        widths: dict[str, tuple[int, ...]] = {}
        for batch in batches:
            write(_spread(batch, widths))


def _write_npz(path: Path, batches: _Batches) -> None:
    """Stored, not compressed: one pass over the parts for each array, a batch in memory at a time."""
    names = next(iter(batches)).schema.names
    rows = sum(batch.num_rows for batch in batches)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member_name in zip(names, escaping.members(names), strict=True):
            with archive.open(zipfile.ZipInfo(f"{member_name}.npy"), "w", force_zip64=True) as member:
                shapes: dict[str, tuple[int, ...]] = {}
                for number, batch in enumerate(batches):
                    array = _of_one_size(name, batch.column(name), shapes)
                    if number == 0:
                        header = {
                            "descr": array.dtype.str,
                            "fortran_order": False,
                            "shape": (rows, *array.shape[1:]),
                        }
                        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
                    member.write(np.ascontiguousarray(array).data)


def _of_one_size(name: str, column: Any, seen: dict[str, tuple[int, ...]]) -> Array:
    """A column as an array whose rows are of the size of those before."""
    array = as_array(column)
    if seen.setdefault(name, array.shape[1:]) != array.shape[1:]:
        raise RefusedError(
            f"the rows of output '{name}' have several sizes",
            received=f"{seen[name]} and {array.shape[1:]}",
            remedy="Write them as .parquet or .arrow, which hold lists",
        )
    return array


def as_array(column: Any) -> Array:
    """The array that ``as_column`` made a column of."""
    types, shape = require("pyarrow.types"), [len(column)]
    while types.is_fixed_size_list(column.type) or types.is_list(column.type):
        fixed, inner = types.is_fixed_size_list(column.type), column.flatten()
        shape.append(column.type.list_size if fixed else len(inner) // max(len(column), 1))
        column = inner
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _spread(batch: Any, seen: dict[str, tuple[int, ...]]) -> Any:
    pa = require("pyarrow")
    columns: list[tuple[str, Any]] = []
    for name in batch.schema.names:
        if not require("pyarrow.types").is_nested(batch.column(name).type):
            columns.append((name, batch.column(name)))
            continue
        array = _of_one_size(name, batch.column(name), seen)
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        columns += [(f"{name}_{i}", pa.array(flat[:, i])) for i in range(flat.shape[1])]
    names = list(escaping.headings(name for name, _ in columns))
    return pa.RecordBatch.from_arrays([column for _, column in columns], names=names)


@contextmanager
def _opened(make: Callable[[Any], Any]) -> Iterator[Callable[[Any], None]]:
    """A writer that is made when the first batch shows its schema."""
    made: list[Any] = []

    def write(batch: Any) -> None:
        if not made:
            made.append(make(batch.schema))
        made[0].write(batch)

    try:
        yield write
    finally:
        for writer in made:
            writer.close()


WRITERS: Mapping[str, Callable[[Path, _Batches], None]] = {
    ".parquet": _write_parquet, ".arrow": _write_arrow, ".feather": _write_arrow, ".csv": _write_csv, ".npz": _write_npz,
}  # fmt: skip
