"""A model over a data set of any size: batch by batch in constant memory, resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters.disk.digests import of_file
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.stages import demand_own
from netferry.converters.disk.staging import demand
from netferry.converters.errors import NetferryError, RefusedError, UsageError, WriteError
from netferry.converters.signature import Array, Signature
from netferry.inference.data import BLOCK, Block, DataSet, open_data, require
from netferry.inference.feed import Bad, Feeder, feeder
from netferry.inference.images import Pixels
from netferry.inference.parts import (
    RESULTS,
    Part,
    Parts,
    PartWriter,
    as_column,
    assemble,
    beside,
    check_kept,
    check_output,
)
from netferry.inference.rows import demand_rows, fixed_batch, has_rows, mixed, no_rows, rowless
from netferry.inference.run import Runnable

Progress = Callable[[int, int, str], None]

PART_ROWS, PART_SECONDS = 262_144, 20.0
"""A part is closed after so many rows or so many seconds: what an interruption costs at most."""

BLOCK_BYTES = 1 << 25
"""Bytes of inputs that are made ready at once, unless one batch alone is more."""

FAIL, SKIP = "fail", "skip"


class InterruptedStreamError(KeyboardInterrupt):
    """Ctrl-C; what was done so far is kept, and the same call goes on from there."""


@dataclass(frozen=True)
class Job:
    """What is to be run over what: plain data, so that it can be sent to another process.

    ``open_model`` is called once in each process that works; ``model`` names it and ``digest`` is that of its content.
    """

    open_model: Callable[[], Runnable]
    model: str
    digest: str
    data: Path
    output: Path
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pixels: Pixels = field(default_factory=Pixels)
    batch: int = 1024
    on_error: str = FAIL
    device: str = "cpu"
    keep: tuple[str, ...] = ()
    replacing: Overwriting = field(default_factory=Overwriting)

    def identity(self) -> dict[str, Any]:
        """What must be the same for earlier results to count: the content of the model and of the data."""
        contents = [(file.name, of_file(file)) for file in self._files()]
        return {
            "model": self.digest,
            "data": hashlib.sha256(repr(contents).encode()).hexdigest(),
            "columns": {name: list(columns) for name, columns in self.columns.items()},
            "pixels": asdict(self.pixels),
            "on_error": self.on_error,
            "keep": list(self.keep),
        }

    @cached_property
    def begun_with(self) -> list[tuple[int, ...]]:
        """The stamps of the data when it is first asked for them."""
        return self.stamps()

    def stamps(self) -> list[tuple[int, ...]]:
        """What changes when the data do while they are read."""
        found = [file.stat() for file in self._files()]
        return [(one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found]

    def _files(self) -> list[Path]:
        if not self.data.is_dir():
            return [self.data]
        files = sorted(file for file in self.data.iterdir() if file.is_file() and file.name[0] != ".")
        return [file for file in files if file.absolute() != self.output.absolute()]

    @property
    def parts(self) -> Parts:
        return Parts(self.output)


@dataclass(frozen=True)
class Outcome:
    """What a run over a data set gave: rows read, rows written, and each row that was left out with the reason."""

    output: Path
    rows: int
    written: int
    bad: Mapping[int, str]
    resumed: int
    seconds: float
    engine: str
    device: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "output": str(self.output),
            "bad": {str(row): reason for row, reason in self.bad.items()},
            "rows_per_second": self.rows / self.seconds if self.seconds else None,
        }


class Worker:
    """A model, a data set, and what joins them: computes the results of a range of rows."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = job.open_model()
        self.data: DataSet = open_data(job.data)
        self.feeder: Feeder = feeder(self.data, self.model.signature, job.columns, job.pixels, job.keep)
        self.fixed = fixed_batch(self.model.signature)
        self.batch = self.fixed or job.batch
        demand_rows(self.model.signature, self.batch, job.model)
        self._apart = False
        self._free = {
            spec.name
            for spec in self.model.signature.outputs
            if any(not isinstance(dim, int) for dim in (spec.dims or ())[1:])
        }

    def part(
        self,
        start: int,
        stop: int | None,
        tell: Callable[[int], None] | None = None,
        seconds: float = PART_SECONDS,
    ) -> bool:
        """Write the results of rows from ``start`` as one part, which may end before ``stop``; False at the end."""
        until = time.monotonic() + seconds
        with self.job.parts.writing(self._free) as writer:
            for block in self._blocks(start, stop):
                self._add(writer, block)
                if tell is not None:
                    tell(writer.stop)
                if writer.stop - start >= PART_ROWS or time.monotonic() > until:
                    return True
        return False

    def _blocks(self, start: int, stop: int | None) -> Iterator[Block]:
        return self.data.blocks(start, stop, self.feeder.wanted, self._block_rows())

    def _block_rows(self) -> int:
        """As many whole batches as memory is meant for; one where only a batch's rows need be of one size."""
        inputs = self.model.signature.inputs
        sizes = [dim for spec in inputs for dim in (spec.dims or (None, None))[1:]]
        if not all(isinstance(size, int) for size in sizes):
            return self.batch
        row = sum(
            spec.dtype.itemsize * math.prod(dim for dim in (spec.dims or ())[1:] if isinstance(dim, int))
            for spec in inputs
        )
        rows = min(BLOCK, BLOCK_BYTES // max(row, 1))
        return max(self.batch, rows // self.batch * self.batch)

    def _add(self, writer: PartWriter, block: Block) -> None:
        arrays, bad = self.feeder.arrays(block)
        bad = {block.start + row: reason for row, reason in bad.items()}
        self._refuse(bad)
        kept = self.feeder.kept(block)
        for name, column in kept.items():
            check_kept(name, column, self.job.output)
        for at in range(0, block.rows, self.batch):
            rows = min(self.batch, block.rows - at)
            feed = {name: array[at : at + rows] for name, array in arrays.items()}
            first = block.start + at
            here = {row: reason for row, reason in bad.items() if first <= row < first + rows} if bad else {}
            outputs = self._run(feed, first, here) if len(here) < rows else {}
            writer.add(first, rows, outputs, here, {name: one.slice(at, rows) for name, one in kept.items()})

    def _run(self, feed: Mapping[str, Array], first: int, bad: Bad) -> Mapping[str, Array]:
        """The outputs of the good rows; a row at which the model itself fails is found and joins the bad ones."""
        if bad:
            good = [row for row in range(len(next(iter(feed.values())))) if first + row not in bad]
            feed = {name: array[good] for name, array in feed.items()}
        else:
            good = []
        rows = len(next(iter(feed.values())))
        try:
            outputs = self._outputs(feed, rows)
        except NetferryError as error:
            if self.job.on_error == FAIL or isinstance(error, UsageError):
                raise error.at(f"{self.data.title}, rows {first} to {first + rows - 1}") from error
            return self._run_one_by_one(feed, [first + row for row in good or range(rows)], bad)
        name = rowless(outputs, rows)
        if name is not None:
            raise no_rows(name, outputs[name].shape, self.job.model)
        self._demand_apart(feed, outputs, rows)
        return outputs

    def _demand_apart(self, feed: Mapping[str, Array], outputs: Mapping[str, Array], rows: int) -> None:
        """Refuse a model that mixes the rows of a batch: its results would depend on where batches begin. Asked once."""
        if self._apart or rows < 2:
            return
        name = mixed(lambda inputs: self._outputs(inputs, 1), feed, outputs)
        if name is not None:
            raise RefusedError(
                f"a row's output '{name}' depends on the rows beside it, or on chance",
                where=self.job.model,
                expected="a first axis of independent rows",
                remedy="Run each by itself with --batch 1; where the first axis is time, give whole sequences with netferry run --input",
            )
        self._apart = True

    def _outputs(self, feed: Mapping[str, Array], rows: int) -> Mapping[str, Array]:
        """What the model gives; where its batch is fixed, the last row fills up what is missing."""
        if self.fixed is not None and rows < self.fixed:
            filling = np.minimum(np.arange(self.fixed), rows - 1)
            outputs = self.model.run({name: array[filling] for name, array in feed.items()})
            return {name: array[:rows] for name, array in outputs.items()}
        outputs = self.model.run(feed)
        if self.batch == 1:
            return {
                spec.name: outputs[spec.name] if has_rows(spec, 1) else outputs[spec.name][None]
                for spec in self.model.signature.outputs
            }
        return outputs

    def _run_one_by_one(
        self, feed: Mapping[str, Array], numbers: Sequence[int], bad: Bad
    ) -> Mapping[str, Array]:
        results: list[Mapping[str, Array]] = []
        for row, number in enumerate(numbers):
            try:
                results.append(self._outputs({name: array[row : row + 1] for name, array in feed.items()}, 1))
            except NetferryError as error:
                bad[number] = str(error)
        return {
            name: np.concatenate([one[name] for one in results]) for name in (results[0] if results else ())
        }

    def _refuse(self, bad: Bad) -> None:
        if bad and self.job.on_error == FAIL:
            row, reason = next(iter(sorted(bad.items())))
            more = f" (and {len(bad) - 1} more near it)" if len(bad) > 1 else ""
            raise RefusedError(
                f"row {row} cannot be given to the model: {reason}{more}",
                where=self.data.title,
                remedy="Mend it, or leave such rows out with --on-error skip",
            )


def stream(job: Job, progress: Progress | None = None) -> Outcome:
    """Run the job in this process; an interrupted job goes on where its parts end.

    Raises ``RefusedError`` at the first bad row unless ``on_error`` is "skip", and ``InterruptedStreamError`` on Ctrl-C.
    """
    begun = time.perf_counter()
    check(job)
    worker = Worker(job)
    parts = job.parts

    def tell(row: int) -> None:
        if progress is not None:
            progress(row, worker.data.rows or 0, f"{row:,} rows")

    with keeping(job) as kept:
        for start, stop in gaps(kept, worker.data.rows):
            at = start
            while (stop is None or at < stop) and worker.part(at, stop, tell):
                at = next(stop for begin, stop in ends(parts.found()) if begin <= at < stop)
        return finish(job, kept, begun, "local", worker.model.signature, worker.model.where)


@contextmanager
def keeping(job: Job) -> Iterator[list[Part]]:
    """The parts that an earlier run has left, for this process alone.

    After Ctrl-C, and where the results could not be written, what was done is kept; an error of the data or the
    model leaves nothing.
    """
    parts = job.parts
    with parts.held():
        try:
            _ = job.begun_with
            yield parts.open(job.identity())
        except KeyboardInterrupt:
            raise InterruptedStreamError(
                f"{_done(parts)} rows are kept in {parts.folder.name}: the same command goes on from there"
            ) from None
        except OSError as error:
            raise WriteError(
                f"cannot write here ({error.strerror or error})",
                where=str(job.output),
                remedy=f"Make room: {_done(parts)} rows are kept in {parts.folder.name}, the same command goes on from there",
            ) from error
        except NetferryError as error:
            if not isinstance(error, WriteError):
                parts.remove()
            raise


def _done(parts: Parts) -> str:
    return f"{sum(part.stop - part.start for part in parts.found()):,}"


def check(job: Job) -> None:
    """Refuse what cannot work, before any work."""
    demand_output(job.output, job.data, job.replacing)
    if job.on_error not in (FAIL, SKIP):
        raise UsageError("no such way to take errors", expected=f"{FAIL} or {SKIP}", received=job.on_error)
    if job.batch < 1:
        raise UsageError("a batch has at least one row", received=job.batch)


def demand_output(output: Path, data: Path, replacing: Overwriting) -> None:
    """Refuse an output of no kind, the data themselves, and what may not be replaced."""
    check_output(output)
    if output.exists() and data.exists() and output.samefile(data):
        raise UsageError("the output is the data itself", where=str(output), remedy="Choose another name")
    demand(output, RESULTS, replacing)
    demand_own(Parts(output).folder)


def finish(
    job: Job, kept: Sequence[Part], begun: float, engine: str, signature: Signature | None, device: str = ""
) -> Outcome:
    """All parts as the one output; the parts go. ``kept`` are those that an earlier run had made.

    Without ``signature`` the model is opened for it where there is no row to show what the outputs are.
    """
    parts = job.parts
    if job.stamps() != job.begun_with:
        raise RefusedError("the data were changed while they were read", where=str(job.data))
    found = parts.found()
    bad = {row: reason for part in found for row, reason in part.bad.items()}
    assemble(
        found,
        job.output,
        with_rows=job.on_error == SKIP,
        replacing=job.replacing,
        nothing=lambda: _columns_of(signature or job.open_model().signature, job.keep),
    )
    parts.remove()
    rows = found[-1].stop if found else 0
    resumed = sum(part.stop - part.start for part in kept)
    seconds = time.perf_counter() - begun
    return Outcome(job.output, rows, rows - len(bad), bad, resumed, seconds, engine, device)


def _columns_of(signature: Signature, keep: Sequence[str]) -> dict[str, Any]:
    """Columns of no rows."""
    outputs = {spec.name for spec in signature.outputs}
    made = {beside(column, outputs): require("pyarrow").nulls(0) for column in keep}
    for spec in signature.outputs:
        sizes = (spec.dims or ())[1:]
        free = any(not isinstance(size, int) for size in sizes)
        empty = np.empty((0, *(size if isinstance(size, int) else 1 for size in sizes)), spec.dtype)
        made[spec.name] = as_column(empty, free)
    return made


def ends(parts: Sequence[Part]) -> list[tuple[int, int]]:
    """The stretches of rows that parts hold without a gap, in order."""
    stretches: list[tuple[int, int]] = []
    for part in parts:
        if stretches and stretches[-1][1] == part.start:
            stretches[-1] = (stretches[-1][0], part.stop)
        else:
            stretches.append((part.start, part.stop))
    return stretches


def gaps(parts: Sequence[Part], rows: int | None) -> list[tuple[int, int | None]]:
    """The stretches of rows that no part holds; the last one is open where it is not known how many there are."""
    found: list[tuple[int, int | None]] = []
    at = 0
    for start, stop in ends(parts):
        if at < start:
            found.append((at, start))
        at = stop
    if rows is None or at < rows:
        found.append((at, rows))
    return found
