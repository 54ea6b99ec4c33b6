"""How the benchmarks measure: in turns, medians, CPU time, memory; importing it puts everything on one thread."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[variable] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ.pop(
    "PYTHONDONTWRITEBYTECODE", None
)  # whole processes start from compiled files, as installed ones do

OURS = "netferry"
MIB, GIB = 1 << 20, 1 << 30
Sides = Mapping[str, Callable[[], float]]
"""Who is measured -> one measurement."""


@dataclass(frozen=True)
class Figure:
    """One row: medians by who was measured, netferry first, and netferry's share of each of the others."""

    what: str
    unit: str
    values: Mapping[str, float]
    ratios: Mapping[str, float] = field(default_factory=dict)


def in_turns(
    what: str, unit: str, sides: Sides, rounds: int, once: Collection[str] = (), warm: bool = False
) -> Figure:
    """Measure all sides in turns, so that what else the machine does hits them alike; ``once`` are slow and measured
    in the first round only. With ``warm`` a round that is not counted goes before.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    if warm:
        for side in sides.values():
            side()
    for number in range(rounds):
        for name, side in sides.items():
            if number == 0 or name not in once:
                found[name].append(side())
    ratios = {
        name: statistics.median(ours / theirs for ours, theirs in zip(found[OURS], values, strict=False))
        if len(values) == rounds
        else statistics.median(found[OURS]) / values[0]
        for name, values in found.items()
        if name != OURS
    }
    return Figure(what, unit, {name: statistics.median(values) for name, values in found.items()}, ratios)


def beside(what: str, unit: str, values: Mapping[str, float]) -> Figure:
    """Values that were measured already, one for each side."""
    ratios = {name: values[OURS] / value for name, value in values.items() if name != OURS}
    return Figure(what, unit, values, ratios)


def cpu(work: Callable[[], object], times: int = 1) -> float:
    """CPU seconds of one of a few calls in a row."""
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times


def grown(work: Callable[[], object]) -> int:
    """Bytes by which the process's memory grows at the most while ``work`` runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def status(entry: str, table: str = "self/status") -> int:
    lines = Path("/proc", table).read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{entry}:"))


def process_cpu(folder: Path, *arguments: str) -> float:
    """CPU seconds of one whole process and its children, started in ``folder``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _process(folder, *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def process_memory(folder: Path, *arguments: str) -> int:
    """Bytes that a whole process, or the largest of its children, takes at the most (Linux)."""
    note = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    return int(_process(folder, "-c", note, sys.executable, *arguments).splitlines()[-1]) << 10


def _process(folder: Path, *arguments: str) -> str:
    """What a process of Python, started in ``folder``, says."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def tell(cases: Mapping[str, Callable[[], list[Figure]]], arguments: list[str]) -> None:
    """The figures of the case that is named, as JSON; else the names of all cases."""
    match arguments:
        case [name] if name in cases:
            print(json.dumps([asdict(figure) for figure in cases[name]()]))
        case _:
            print("\n".join(cases))
