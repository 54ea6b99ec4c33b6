"""How fast models are, side by side: interleaved medians, percentiles, throughput, memory, and what the graph allows.

Models take turns, run by run, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from netferry.converters import escaping
from netferry.converters.signature import Array
from netferry.inference.devices import CPU, CUDA
from netferry.inference.run import Runnable
from netferry.inference.session import Session

PERCENTILES = (5, 50, 95, 99)
WARM_UP = 3


@dataclass(frozen=True)
class Timing:
    """One model at one batch size: milliseconds of a run at percentiles, and rows per second at the median."""

    model: str
    batch: int
    runs: int
    milliseconds: Mapping[int, float]
    rows_per_second: float
    threads: int | None = None


@dataclass(frozen=True)
class Start:
    """What it takes to have a model ready: seconds until its first result, megabytes of memory.

    A ``fresh`` process is timed from its beginning, imports and all, and its memory is what it took at the most; in a
    process that was there already, both are what the model added.
    """

    model: str
    device: str
    first_result_s: float
    memory_mb: float
    fresh: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        memory = f"{self.memory_mb:,.0f} MB {'at the most' if self.fresh else 'more'}"
        where = "of a fresh process" if self.fresh else "here"
        return f"first result {where} after {self.first_result_s:.2f} s, {memory} ({self.device})"


@dataclass(frozen=True)
class Roof:
    """What the graph and this machine allow: the least milliseconds of a run, and what bounds it.

    ``flops`` and ``bytes`` are the graph's (``converters.graph.cost``), the machine's were measured here.
    """

    model: str
    batch: int
    flops: int
    bytes: int
    milliseconds: float
    bound: str
    unknown_nodes: int = 0


@dataclass(frozen=True)
class Bench:
    """All that was measured, and on which machine."""

    timings: tuple[Timing, ...]
    starts: tuple[Start, ...]
    roofs: tuple[Roof, ...]
    gflops: float
    gbytes_per_s: float
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """One table of latencies, one of starts, one of what the graphs allow."""
        roofs = {(roof.model, roof.batch): roof for roof in self.roofs}
        width = max(len("this machine"), *(len(timing.model) for timing in self.timings)) + 2
        lines = [f"{'model':<{width}}batch  threads     p50 ms     p95 ms     p99 ms    rows/s  roof ms"]
        for one in self.timings:
            ms, roof = one.milliseconds, roofs.get((one.model, one.batch))
            lines.append(
                f"{one.model:<{width}}{one.batch:>5}{one.threads or '-':>9}{ms[50]:>11.3f}{ms[95]:>11.3f}"
                f"{ms[99]:>11.3f}{one.rows_per_second:>10,.0f}"
                + (f"{roof.milliseconds:>9.3f}" if roof else "")
            )
        lines.append("")
        for start in self.starts:
            lines.append(f"{start.model:<{width}}{start.to_text()}")
        lines.append(
            f"{'this machine':<{width}}{self.gflops:.0f} GFLOP/s, {self.gbytes_per_s:.0f} GB/s, measured"
        )
        return "\n".join(map(escaping.line, lines))


def interleaved(
    calls: Mapping[str, Callable[[], object]], runs: int, warm_up: int = WARM_UP
) -> dict[str, list[float]]:
    """Seconds of each call, run by run in turn; the order turns round with every run."""
    for call in calls.values():
        for _ in range(warm_up):
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for run in range(runs):
        for name in names if run % 2 == 0 else reversed(names):
            begun = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def latencies(
    models: Mapping[str, Runnable],
    feeds: Mapping[int, Mapping[str, Array]],
    runs: int,
    threads: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Timing]:
    """Every model at every batch size, in turns."""
    timings = []
    for batch, feed in feeds.items():
        if tell is not None:
            tell(f"batch {batch}")
        calls = {name: _call(model, feed) for name, model in models.items()}
        for name, seconds in interleaved(calls, runs).items():
            at = dict(zip(PERCENTILES, (np.percentile(seconds, PERCENTILES) * 1e3).tolist(), strict=True))
            timings.append(Timing(name, batch, runs, at, batch / at[50] * 1e3, threads))
    return timings


def _call(model: Runnable, feed: Mapping[str, Array]) -> Callable[[], object]:
    arrays = list(feed.values())
    return lambda: model.run(arrays)


def started(
    name: str, make: Callable[[], Runnable], feed: Sequence[Array], since: float | None = None
) -> tuple[Runnable, Start]:
    """Make a model and run it once: how long that takes, and what memory.

    ``since`` is when this process was begun, by ``time.time``, where it was begun for this model alone.
    """
    before, begun = _memory("VmRSS"), time.time()
    model = make()
    model.run(list(feed))
    if since is not None:
        return model, Start(name, model.where, time.time() - since, _memory("VmHWM"), True)
    return model, Start(name, model.where, time.time() - begun, max(_memory("VmRSS") - before, 0.0), False)


def _memory(entry: str) -> float:
    """Megabytes of this process: ``VmRSS`` now, ``VmHWM`` at the most; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{entry}:")), 0.0)


SIDE: Mapping[str, int] = {CPU: 512, CUDA: 4096}
"""The side of the square product that measures how fast a device computes."""

LEAST, MOST = 1 << 20, 1 << 28
"""Bytes that are moved to measure how fast a device moves so many: from what stays in a cache to what goes to memory."""


@dataclass(frozen=True)
class Machine:
    """What onnxruntime gets out of a device, each figure measured when it is first asked for."""

    device: str = CPU
    _moved: dict[int, float] = field(default_factory=dict, repr=False)

    @cached_property
    def gflops(self) -> float:
        """GFLOP/s of products in float32."""
        rng, side = np.random.default_rng(0), SIDE[self.device]
        kept = np.float32(side**-0.5)  # products keep their scale
        weight, x = (rng.standard_normal((side, side), np.float32) for _ in range(2))
        return 2 * side**3 / _fastest("MatMul", weight * kept, x, self.device) / 1e9

    def gbytes_per_s(self, moved: int = MOST) -> float:
        """GB/s, read and written together, where about ``moved`` bytes are moved in one run."""
        size = min(max(1 << max(moved - 1, 1).bit_length(), LEAST), MOST)
        if size not in self._moved:
            x = np.random.default_rng(0).standard_normal(size // 8, np.float32)
            seconds = _fastest("Mul", np.full(1, -1, np.float32), x, self.device)
            self._moved[size] = size / seconds / 1e9
        return self._moved[size]


def _fastest(operator: str, weight: Array, x: Array, device: str) -> float:
    """Seconds of the fastest run of one operator on values that lie on the device."""
    import onnx_ir as ir

    value = ir.val("x", ir.DataType.FLOAT, x.shape)
    constant = ir.val("w", const_value=ir.tensor(weight, name="w"))
    node = ir.node(operator, [value, constant])
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([value], node.outputs, nodes=[node], initializers=[constant], opset_imports={"": 20})
    session = Session(ir.Model(graph, ir_version=10), device)
    there = session.run_on_device([x])["y"]
    return min(interleaved({operator: lambda: session.run_on_device([there])}, runs=20)[operator])


def roof(name: str, batch: int, flops: int, moved: int, unknown: int, gflops: float, gbytes: float) -> Roof:
    """The roofline: a run takes at least as long as its arithmetic, and as its traffic."""
    arithmetic, traffic = flops / gflops / 1e6, moved / gbytes / 1e6
    bound = "arithmetic" if arithmetic >= traffic else "memory"
    return Roof(name, batch, flops, moved, max(arithmetic, traffic), bound, unknown)
