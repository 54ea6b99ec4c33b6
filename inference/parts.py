"""Results on their way to one file: parts that survive an interruption, and the file that they become.

``out.parquet.parts/`` holds Arrow files, each with the results of the rows in its name, and ``job.json``, which says
what they are the results of. A part appears under its name when it is whole, so none is ever lost or there twice.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import Array
from netferry.converters.staging import staged
from netferry.inference.data import require

_NAME = re.compile(r"(\d+)-(\d+)\.arrow")

ROW = "row"
"""The column that says which row of the data each result belongs to, where bad rows were left out."""


@dataclass(frozen=True)
class Part:
    """The results of the rows from ``start`` to before ``stop``, without those that were bad."""

    start: int
    stop: int
    file: Path

    @property
    def bad(self) -> dict[int, str]:
        found = json.loads(self.file.with_suffix(".json").read_text(encoding="utf-8"))
        return {int(row): reason for row, reason in found.items()}


@dataclass(frozen=True)
class Parts:
    """The folder of parts beside ``output``, for one job: other jobs' parts are thrown away."""

    output: Path
    job: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return self.output.with_name(f"{self.output.name}.parts")

    def open(self) -> list[Part]:
        """What an earlier run of the same job has left, in order."""
        note = self.folder / "job.json"
        words = json.dumps(self.job, sort_keys=True)
        if not note.is_file() or note.read_text(encoding="utf-8") != words:
            self.remove()
            self.folder.mkdir(parents=True)
            note.write_text(words, encoding="utf-8")
        return self.found()

    def found(self) -> list[Part]:
        matches = [(match, file) for file in self.folder.iterdir() if (match := _NAME.fullmatch(file.name))]
        return sorted((Part(int(m[1]), int(m[2]), file) for m, file in matches), key=lambda part: part.start)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def writing(self) -> Iterator[PartWriter]:
        """A new part; it gets its name when the body ends well."""
        writer = PartWriter(self.folder)
        try:
            yield writer
            writer.close()
        finally:
            writer.drop()


class PartWriter:
    """Writes one part, batch by batch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / f"writing-{uuid.uuid4().hex}"
        self._writer: Any = None
        self.start = self.stop = -1
        self.bad: dict[int, str] = {}

    def add(self, start: int, rows: int, outputs: Mapping[str, Array], bad: Mapping[int, str]) -> None:
        """The results of ``rows`` rows from ``start`` on; the bad ones among them have none."""
        self.start, self.stop = start if self.start < 0 else self.start, start + rows
        self.bad |= bad
        if not outputs:
            return
        pa = require("pyarrow")
        numbers = np.setdiff1d(np.arange(start, start + rows), list(bad)) if bad else None
        columns = {ROW: pa.array(np.arange(start, start + rows) if numbers is None else numbers)}
        batch = pa.record_batch(columns | {name: as_column(array) for name, array in outputs.items()})
        if self._writer is None:
            self._writer = pa.ipc.new_file(pa.OSFile(str(self._file), "wb"), batch.schema)
        self._writer.write_batch(batch)

    def close(self) -> None:
        if self.start < 0:
            return
        name = self._folder / f"{self.start:015d}-{self.stop:015d}.arrow"
        name.with_suffix(".json").write_text(json.dumps(self.bad), encoding="utf-8")
        if self._writer is None:
            self._file.touch()
        else:
            self._writer.close()
        self._file.replace(name)

    def drop(self) -> None:
        self._file.unlink(missing_ok=True)


def as_column(array: Array) -> Any:
    """Rows of any rank as an Arrow column: numbers, or lists of fixed sizes."""
    pa = require("pyarrow")
    column = pa.array(np.ascontiguousarray(array).reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def assemble(parts: Iterable[Part], output: Path, *, with_rows: bool) -> None:
    """Write all parts, in order, as the one file that ``output`` names."""
    writer = WRITERS[output.suffix.lower()]
    with staged(output) as stage:
        writer(stage, list(parts), with_rows)


def check_output(output: Path) -> None:
    """Refuse a name that no writer knows, before any work."""
    if output.suffix.lower() not in WRITERS:
        raise UsageError(
            "not a kind of file that results are written to",
            where=str(output),
            expected=f"a name that ends in {', '.join(WRITERS)}",
        )


def _batches(parts: Iterable[Part], with_rows: bool) -> Iterator[Any]:
    pa = require("pyarrow")
    for part in parts:
        if part.file.stat().st_size == 0:
            continue
        with pa.memory_map(str(part.file)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                yield batch if with_rows else batch.drop_columns([ROW])


def _write_parquet(path: Path, parts: list[Part], with_rows: bool) -> None:
    """Row groups of about a million rows, as pyarrow makes them."""
    parquet, pa = require("pyarrow.parquet"), require("pyarrow")
    with _opened(lambda schema: parquet.ParquetWriter(path, schema)) as write:
        held: list[Any] = []
        for batch in _batches(parts, with_rows):
            held.append(batch)
            if sum(one.num_rows for one in held) >= 1 << 17:
                write(pa.Table.from_batches(held))
                held = []
        if held:
            write(pa.Table.from_batches(held))


def _write_arrow(path: Path, parts: list[Part], with_rows: bool) -> None:
    pa = require("pyarrow")
    with _opened(lambda schema: pa.ipc.new_file(str(path), schema)) as write:
        for batch in _batches(parts, with_rows):
            write(batch)


def _write_csv(path: Path, parts: list[Part], with_rows: bool) -> None:
    """Lists become columns ``name_0``, ``name_1``, ..."""
    csv = require("pyarrow.csv")
    with _opened(lambda schema: csv.CSVWriter(path, schema)) as write:
        for batch in _batches(parts, with_rows):
            write(_spread(batch))


def _write_npz(path: Path, parts: list[Part], with_rows: bool) -> None:
    """Stored, not compressed: one pass over the parts for each array, a batch in memory at a time."""
    first = next(_batches(parts, with_rows), None)
    rows = sum(batch.num_rows for batch in _batches(parts, with_rows))
    with zipfile.ZipFile(path, "w") as archive:
        for name in [] if first is None else first.schema.names:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                for number, batch in enumerate(_batches(parts, with_rows)):
                    array = as_array(batch.column(name))
                    if number == 0:
                        header = {
                            "descr": array.dtype.str,
                            "fortran_order": False,
                            "shape": (rows, *array.shape[1:]),
                        }
                        np.lib.format.write_array_header_1_0(member, header)  # type: ignore[no-untyped-call]
                    member.write(np.ascontiguousarray(array).data)


def as_array(column: Any) -> Array:
    """The array that ``as_column`` made a column of."""
    shape = [len(column)]
    while require("pyarrow.types").is_fixed_size_list(column.type):
        shape.append(column.type.list_size)
        column = column.flatten()
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


def _spread(batch: Any) -> Any:
    pa = require("pyarrow")
    columns: dict[str, Any] = {}
    for name in batch.schema.names:
        array = as_array(batch.column(name))
        flat = array.reshape(len(array), -1)
        single = array.ndim == 1
        columns |= {name if single else f"{name}_{i}": pa.array(flat[:, i]) for i in range(flat.shape[1])}
    return pa.record_batch(columns)


@contextmanager
def _opened(make: Callable[[Any], Any]) -> Iterator[Callable[[Any], None]]:
    """A writer that is made when the first batch shows its schema; without any batch an empty file."""
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
    if not made:
        make(require("pyarrow").schema([])).close()


WRITERS: Mapping[str, Callable[[Path, list[Part], bool], None]] = {
    ".parquet": _write_parquet, ".arrow": _write_arrow, ".feather": _write_arrow, ".csv": _write_csv, ".npz": _write_npz,
}  # fmt: skip
