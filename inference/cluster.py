"""The same over Ray Data: a pool of actors, each with the model loaded once, on one machine or on a cluster.

Each task computes a range of rows and writes it as one part, which appears whole under the name of its range: a
task that is run again after its worker died replaces its part by an equal one, so nothing is lost or there twice.
The data, the output and the model must be where every worker sees them (a shared file system).
"""

from __future__ import annotations

import logging
import os
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.source import import_code, imported_code
from netferry.inference.data import DataSet, open_data, require
from netferry.inference.parts import Parts
from netferry.inference.stream import PART_ROWS, Job, Outcome, Progress, Worker, check, finish, gaps, keeping

TASKS_PER_WORKER = 4
"""Ranges for each worker: enough for a slow one not to be waited for."""


class _Actor:
    """One worker: the model and the data are opened once, in its own process."""

    def __init__(self, job: Job, folder: str, imports: Sequence[str]) -> None:
        go_to(folder)
        import_code(imports)
        self._job = job
        self._worker: Worker | None = None

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Ray Data's call: a batch of one range; a refusal comes back as text, since retrying does not mend it."""
        (start,), (stop,) = batch["start"].tolist(), batch["stop"].tolist()
        try:
            worker = self._worker = self._worker or Worker(self._job)
            worker.part(start, stop, seconds=float("inf"))
        except NetferryError as error:
            return {"start": [start], "stop": [stop], "error": [str(error)], "device": [""]}
        return {"start": [start], "stop": [stop], "error": [""], "device": [worker.model.where]}


def stream(job: Job, progress: Progress | None = None, workers: int | None = None) -> Outcome:
    """Run the job on ``workers`` actors of the Ray that RAY_ADDRESS names, or of one that is started here."""
    begun = time.perf_counter()
    check(job)
    data = require("ray.data", "ray")
    named = job.output
    job = replace(job, data=job.data.resolve(), output=job.output.resolve())
    with connected() as ray:
        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        pool = workers or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        with keeping(job) as kept:
            ranges = _ranges(open_data(job.data), job.parts, pool)
            device = _run_all(data, job, ranges, pool, progress)
            done = finish(job, kept, begun, f"ray, {pool} workers", None, device)
    return replace(done, output=named)


@contextmanager
def connected() -> Iterator[Any]:
    """Ray: the one that this process has, that RAY_ADDRESS names, or one that is started here and ends with the body.

    Its workers never import from the folder that a person works in: it holds what he downloaded.
    """
    ray = require("ray", "ray")
    started = not ray.is_initialized()
    if started:
        with _elsewhere():
            ray.init(
                address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False,
                logging_level="ERROR", runtime_env={"env_vars": {"PYTHONSAFEPATH": "1"}},
            )  # fmt: skip
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Work in the folder of Python's own modules meanwhile: Ray puts the working folder first on its workers' path."""
    here = Path.cwd()
    os.chdir(sysconfig.get_path("stdlib"))
    try:
        yield
    finally:
        os.chdir(here)


def go_to(folder: str) -> None:
    """Let a worker work where its caller does, so that relative names mean the same; not every machine has that folder."""
    with suppress(OSError):
        os.chdir(folder)


def _ranges(data: DataSet, parts: Parts, workers: int) -> list[tuple[int, int]]:
    """The rows that no part holds yet, in ranges of at most ``PART_ROWS`` that share the work out evenly."""
    if data.rows is None:
        raise RefusedError(
            f"{data.title} does not say how many rows it has",
            remedy="Write it as Parquet or Arrow first, or run it with --engine local",
        )
    open_gaps = [(start, stop) for start, stop in gaps(parts.found(), data.rows) if stop is not None]
    rows = sum(stop - start for start, stop in open_gaps)
    size = max(1, min(PART_ROWS, -(-rows // (workers * TASKS_PER_WORKER))))
    return [(at, min(at + size, stop)) for start, stop in open_gaps for at in range(start, stop, size)]


def _run_all(
    data: Any, job: Job, ranges: Sequence[tuple[int, int]], workers: int, progress: Progress | None
) -> str:
    """Wait for every range; the device that the workers ran on."""
    if not ranges:
        return ""
    items = data.from_items(
        [{"start": start, "stop": stop} for start, stop in ranges], override_num_blocks=len(ranges)
    )
    results = items.map_batches(
        _Actor,
        fn_constructor_args=(job, str(Path.cwd()), imported_code()),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=workers),
        num_gpus=1 if job.device == "cuda" else None,
    )
    done, device = 0, ""
    for result in results.iter_rows():
        if result["error"]:
            raise RefusedError(result["error"])
        done += result["stop"] - result["start"]
        device = result["device"]
        if progress is not None:
            progress(done, sum(stop - start for start, stop in ranges), f"{done:,} rows")
    return device
