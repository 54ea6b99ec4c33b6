"""Data sets, block by block in constant memory: Parquet, Arrow, CSV, npz, npy, folders of images and of arrays.

Every kind gives the same: how many rows it has (None where only reading it shows), where it is cheap to cut, and
blocks of rows between two row numbers. A block is a pyarrow table, or arrays by name whose first axis are rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from netferry.converters.disk import archives
from netferry.converters.errors import MissingError, RefusedError, UsageError, first_line
from netferry.converters.signature import Array
from netferry.converters.trust import paths

BLOCK = 16_384
"""Rows that are read at once: large enough for pyarrow to be fast, small enough for memory."""

IMAGES = frozenset(".bmp .gif .jpeg .jpg .png .tif .tiff .webp".split())


@dataclass(frozen=True)
class Block:
    """Rows ``start`` and following: a pyarrow table, arrays by name, or the files that hold one row each.

    ``bad`` are rows that could not even be read, counted from 0 within the block; they hold nulls.
    """

    start: int
    rows: int
    content: Any
    bad: Mapping[int, str] = field(default_factory=dict)


class DataSet(Protocol):
    """Rows that can be read from any row number on; ``text`` says that its numbers are written out in letters."""

    title: str
    text: ClassVar[bool]

    @property
    def rows(self) -> int | None: ...

    @property
    def columns(self) -> Sequence[str]: ...

    def cuts(self) -> Sequence[int]:
        """Row numbers at which reading can begin without reading what comes before."""
        ...

    def blocks(self, start: int, stop: int | None, columns: Sequence[str], size: int) -> Iterator[Block]: ...


def open_data(path: Path) -> DataSet:
    """The data set that a file or folder holds, recognised by its name and content."""
    if not path.exists():
        raise RefusedError("there is no such file", where=str(path))
    if path.is_dir():
        return Folder(path)
    opener = _KINDS.get(path.suffix.lower())
    if opener is None:
        raise UsageError(
            "not a kind of data that is read here",
            where=str(path),
            expected=f"a name that ends in {', '.join(_KINDS)}, or a folder of images or .npy files",
        )
    try:
        return opener(paths.regular(path))
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise RefusedError(f"cannot be read as data ({first_line(error)})", where=str(path)) from error


def require(package: str, extra: str = "data") -> Any:
    """A package of an extra, or the one line that says how to get it."""
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError as error:
        raise MissingError(
            f"{package.partition('.')[0]} is not installed",
            remedy=f'Install it: pip install "netferry[{extra}]"',
        ) from error


@dataclass
class Parquet:
    """A Parquet file; it is cut between its row groups."""

    path: Path
    title: str = field(init=False)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.title = self.path.name
        with self._open() as file:
            self._groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            self.columns: Sequence[str] = file.schema_arrow.names

    @property
    def rows(self) -> int:
        return sum(self._groups)

    def cuts(self) -> Sequence[int]:
        return [0, *np.cumsum(self._groups[:-1]).tolist()]

    def blocks(self, start: int, stop: int | None, columns: Sequence[str], size: int) -> Iterator[Block]:
        begins = np.cumsum([0, *self._groups])
        wanted = [
            i for i in range(len(self._groups))
            if begins[i + 1] > start and (stop is None or begins[i] < stop)
        ]  # fmt: skip
        if not wanted:
            return
        with self._open() as file, _reading(self.title):
            batches = file.iter_batches(size, row_groups=wanted, columns=list(columns))
            yield from _between(batches, int(begins[wanted[0]]), start, stop)

    def _open(self) -> Any:
        return require("pyarrow.parquet").ParquetFile(self.path, buffer_size=1 << 16, pre_buffer=False)


@dataclass
class Arrow:
    """An Arrow file (Feather), mapped and not read; it is cut between its record batches."""

    path: Path
    title: str = field(init=False)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        pa = require("pyarrow")
        self.title = self.path.name
        self._reader = pa.ipc.open_file(pa.memory_map(str(self.path)))
        self.columns: Sequence[str] = self._reader.schema.names
        sizes = [self._reader.get_batch(i).num_rows for i in range(self._reader.num_record_batches)]
        self._begins = np.cumsum([0, *sizes]).tolist()

    @property
    def rows(self) -> int:
        return int(self._begins[-1])

    def cuts(self) -> Sequence[int]:
        return self._begins[:-1] or [0]

    def blocks(self, start: int, stop: int | None, columns: Sequence[str], size: int) -> Iterator[Block]:
        for i, begin in enumerate(self._begins[:-1]):
            if self._begins[i + 1] > start and (stop is None or begin < stop):
                with _reading(self.title):
                    batch = self._reader.get_batch(i).select(list(columns))
                pieces = (batch.slice(at, size) for at in range(0, batch.num_rows, size))
                yield from _between(pieces, begin, start, stop)


@dataclass
class Csv:
    """A CSV file with a header; its cells are text. A line with more or fewer of them than the header costs one row."""

    path: Path
    title: str = field(init=False)
    text: ClassVar[bool] = True
    rows: int | None = None

    def __post_init__(self) -> None:
        self.title = self.path.name
        with self._open(None, {}) as reader:
            self.columns: Sequence[str] = reader.schema.names

    def cuts(self) -> Sequence[int]:
        return [0]

    def blocks(self, start: int, stop: int | None, columns: Sequence[str], size: int) -> Iterator[Block]:
        torn: dict[int, str] = {}
        with _reading(self.title), self._open(columns, torn) as reader:
            whole = _with_torn_lines(require("pyarrow"), reader, torn)
            pieces = (batch.slice(at, size) for batch in whole for at in range(0, batch.num_rows, size))
            for block in _between(pieces, 0, start, stop):
                here = {row - block.start: why for row, why in torn.items() if row >= block.start}
                yield replace(block, bad={row: why for row, why in here.items() if row < block.rows})

    def _open(self, columns: Sequence[str] | None, torn: dict[int, str]) -> Any:
        """A reader of text; ``torn`` gets the lines that it leaves out, each just before the block it was in."""
        csv, pa = require("pyarrow.csv"), require("pyarrow")

        def leave_out(line: Any) -> str:
            torn[line.number - 2] = (
                f"its line has {line.actual_columns} cells where {line.expected_columns} are wanted"
            )
            return "skip"

        return csv.open_csv(
            self.path,
            # One thread: only then does pyarrow know the numbers of the lines that it leaves out.
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=leave_out),
            convert_options=csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns or (), pa.string()),
                strings_can_be_null=True, quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip


def _with_torn_lines(pa: Any, batches: Any, torn: Mapping[int, str]) -> Iterator[Any]:
    """The batches with a row of nulls where a line was left out, so that rows keep their numbers."""
    at, schema, filled = 0, batches.schema, 0

    def nulls(rows: int) -> Any:
        return pa.Table.from_batches(
            [pa.record_batch([pa.nulls(rows, kind) for kind in schema.types], schema=schema)]
        )

    for batch in batches:
        pieces, begin = [], 0
        for row in sorted(torn)[filled:]:
            if row > at + batch.num_rows - begin:
                break
            length = row - at
            pieces += [pa.Table.from_batches([batch.slice(begin, length)]), nulls(1)]
            at, begin, filled = row + 1, begin + length, filled + 1
        at += batch.num_rows - begin
        if not pieces:
            yield batch
            continue
        pieces.append(pa.Table.from_batches([batch.slice(begin)]))
        yield from pa.concat_tables(pieces).combine_chunks().to_batches()
    if len(torn) > filled:
        yield from nulls(len(torn) - filled).to_batches()


@dataclass
class Arrays:
    """One .npy, or an .npz whose arrays have rows in common; mapped where they are stored uncompressed."""

    path: Path
    title: str = field(init=False)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.title = self.path.name
        found = archives.read(self.path)
        if found is None:
            raise RefusedError("holds no arrays of numpy's", where=str(self.path))
        arrays, names = found
        self._arrays: Mapping[str, Array] = dict(zip(names or [self.path.stem], arrays, strict=False))
        sizes = {name: array.shape[0] for name, array in self._arrays.items() if array.ndim}
        if len(sizes) < len(self._arrays) or len(set(sizes.values())) != 1:
            raise RefusedError(
                "its arrays have no rows in common",
                where=str(self.path),
                received=", ".join(f"{name} {array.shape}" for name, array in self._arrays.items()),
            )
        self.columns: Sequence[str] = list(self._arrays)
        self.rows: int | None = next(iter(sizes.values()))

    def cuts(self) -> Sequence[int]:
        return range(0, max(self.rows or 0, 1), BLOCK)

    def blocks(self, start: int, stop: int | None, columns: Sequence[str], size: int) -> Iterator[Block]:
        end = min(stop if stop is not None else self.rows or 0, self.rows or 0)
        for at in range(start, end, size):
            rows = min(size, end - at)
            yield Block(at, rows, {name: self._arrays[name][at : at + rows] for name in columns})


@dataclass
class Folder:
    """A folder of images, or of .npy files that hold one row each, in the order of their names."""

    path: Path
    title: str = field(init=False)
    text: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.title = self.path.name
        files = sorted(file for file in self.path.iterdir() if file.is_file() and file.name[0] != ".")
        for endings in (frozenset({".npy"}), IMAGES):
            self.files = [file for file in files if file.suffix.lower() in endings]
            if self.files:
                break
        else:
            raise RefusedError("holds neither images nor .npy files", where=str(self.path))
        self.columns: Sequence[str] = ["file"]
        self.rows: int | None = len(self.files)

    def cuts(self) -> Sequence[int]:
        return range(len(self.files))

    def blocks(self, start: int, stop: int | None, columns: Sequence[str], size: int) -> Iterator[Block]:  # noqa: ARG002
        end = len(self.files) if stop is None else min(stop, len(self.files))
        for at in range(start, end, size):
            yield Block(at, min(size, end - at), self.files[at : min(at + size, end)])


@contextmanager
def _reading(title: str) -> Iterator[None]:
    """What pyarrow finds wrong half-way is the data's fault, and is reported with its name."""
    try:
        yield
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise RefusedError(f"cannot be read on ({first_line(error)})", where=title) from error


def _between(batches: Any, begin: int, start: int, stop: int | None) -> Iterator[Block]:
    """Record batches from row ``begin`` on, cut to the rows from ``start`` to ``stop``."""
    for batch in batches:
        end = begin + batch.num_rows
        low, high = max(start, begin), end if stop is None else min(stop, end)
        if low < high:
            yield Block(low, high - low, batch.slice(low - begin, high - low))
        begin = end
        if stop is not None and begin >= stop:
            return


_KINDS: Mapping[str, Callable[[Path], DataSet]] = {
    ".parquet": Parquet, ".arrow": Arrow, ".feather": Arrow, ".csv": Csv, ".npz": Arrays, ".npy": Arrays,
}  # fmt: skip
