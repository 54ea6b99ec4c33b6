"""A model in another precision, with what that costs and what it gains: ``netferry convert --precision``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from netferry.api import convert
from netferry.arguments import Inputs, PathLike, drawn
from netferry.conversion import MODEL
from netferry.converters import escaping
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand, staged
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.part import Sizes
from netferry.converters.signature import Array
from netferry.converters.source import open_source
from netferry.inference.bench import interleaved
from netferry.inference.data import open_data
from netferry.inference.feed import feeder
from netferry.inference.images import Pixels
from netferry.inference.precision import (
    PRECISIONS,
    TFLITE_PRECISIONS,
    Feeds,
    named,
    reduce,
    reduce_tflite,
)
from netferry.inference.run import Runnable, runnable
from netferry.inference.session import Session
from netferry.results import Conversion
from netferry.validation.comparison.metrics import FAILED, PASSED
from netferry.validation.samples.explore import made_for

ROWS, BATCH, RUNS = 256, 32, 30
"""Rows that a lowered model is judged on, how many of them at once, and how often each side is timed."""

LARGEST: Mapping[str, float] = {"float16": 0.01, "bfloat16": 0.05, "int8-dynamic": 0.2, "int8-static": 0.2}
"""The largest error, relative to an output's RMS, that a precision may make before it counts as failed."""

SLOWER = 0.95
"""Below this speed a model counts as slower: what is nearer to 1 is the clock's noise."""


@dataclass(frozen=True)
class Lowered:
    """What another precision gave: ``error`` is the RMS of the difference relative to the output's own RMS.

    ``agreement`` is the share of rows whose largest output has the same index, None where an output has no choice.
    """

    precision: str
    status: str
    files: tuple[Path, ...]
    rows: int
    real: bool
    error: Mapping[str, float]
    agreement: Mapping[str, float | None]
    bytes: tuple[int, int]
    milliseconds: tuple[float, float]
    conversion: Conversion = field(repr=False)

    @property
    def speed(self) -> float:
        """How many times as fast it is."""
        return self.milliseconds[0] / self.milliseconds[1]

    def to_dict(self) -> dict[str, Any]:
        plain = {key: value for key, value in asdict(self).items() if key != "conversion"}
        return (
            plain
            | {"files": [str(file) for file in self.files], "speed": self.speed}
            | {"conversion": self.conversion.to_dict()}
        )

    def to_text(self) -> str:
        """The verdict first, then what was won and lost."""
        rows = f"{self.rows} {'rows of the data' if self.real else 'made rows'}"
        lines = [
            f"{self.status}: {self.precision}, on {rows}",
            f"  size   {self.bytes[0]:,} -> {self.bytes[1]:,} bytes",
            f"  speed  {self.milliseconds[0]:.3f} -> {self.milliseconds[1]:.3f} ms ({self.speed:.2f} times as fast)",
        ]
        for name, error in self.error.items():
            agrees = self.agreement[name]
            top = "" if agrees is None else f", the same largest entry in {agrees:.2%} of rows"
            lines.append(f"  {name}: error {error:.2e} of its RMS{top}")
        return "\n".join(map(escaping.line, lines))


@dataclass(frozen=True)
class _Form:
    """A kind of file: how it is opened, how it is written in another precision, and whether this is the machine that it is for."""

    precisions: Collection[str]
    opened: Callable[[Path, str], Runnable]
    reduce: Callable[[Conversion, tuple[Path, Path], str, Feeds], None]
    runs_here: bool = True


def _reduce_onnx(_: Conversion, files: tuple[Path, Path], precision: str, feeds: Feeds) -> None:
    reduce(*files, precision, feeds)


def _reduce_tflite(done: Conversion, files: tuple[Path, Path], precision: str, feeds: Feeds) -> None:
    assert done.imported is not None
    reduce_tflite(done.imported, files[1], precision, feeds)


def _opened_tflite(path: Path, device: str) -> Runnable:
    return runnable(open_source(path), device=device)


_FORMS: Mapping[str, _Form] = {
    ".onnx": _Form(PRECISIONS, Session, _reduce_onnx),
    ".tflite": _Form(TFLITE_PRECISIONS, _opened_tflite, _reduce_tflite, runs_here=False),
}


def _form_of(path: Path, precision: str) -> _Form:
    form = _FORMS.get(path.suffix)
    if form is None:
        raise UsageError(
            "another precision is for ONNX and TFLite",
            where=str(path),
            expected=f"a name that ends in {' or '.join(_FORMS)}",
        )
    if precision not in form.precisions:
        raise UsageError(
            f"{path.suffix} files are not written so", expected=", ".join(form.precisions), received=precision
        )
    return form


def lower(
    model: object,
    destination: PathLike,
    precision: str,
    *,
    data: PathLike | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    pixels: Pixels | None = None,
    even_if_slower: bool = False,
    inputs: Inputs | None = None,
    weights: PathLike | None = None,
    signature: str | None = None,
    opset: int | None = None,
    verify: bool = True,
    seed: int | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    force: bool = False,
    task: str | None = None,
    fix: Sizes | None = None,
    **options: Any,
) -> Lowered:
    """Convert ``model`` to ONNX or TFLite (checked as always), then to ``precision``; judge that on rows of ``data``.

    ``device`` is where it is judged and timed. Without data it is judged on made inputs, which says little of accuracy. An ONNX model that would be slower than before
    is refused unless ``even_if_slower``; ``force`` and all further ``options`` are as for ``convert``. One whose error is above ``LARGEST`` fails, and nothing is written.
    """
    path, seed, precision = Path(destination), drawn(seed), named(precision)
    form = _form_of(path, precision)
    replacing = Overwriting(force, (model, weights, data))
    demand(path, MODEL, replacing)
    with TemporaryDirectory() as scratch:
        full, small = (Path(scratch) / f"{name}{path.suffix}" for name in ("full", "small"))
        done = convert(
            model, destination=full, inputs=inputs, weights=weights, signature=signature, opset=opset, verify=verify, seed=seed,
            device=device, unsafe=unsafe, task=task, fix=fix, **options,
        )  # fmt: skip
        if not done.files:
            raise RefusedError("the conversion itself does not pass", where=done.source)
        before = form.opened(full, device)
        feeds = rows_of(before, data, columns, pixels, seed)
        form.reduce(done, (full, small), precision, feeds)
        lowered = _judged(
            precision, done, (before, form.opened(small, device)), (full, small), feeds, data is not None
        )
        if form.runs_here and lowered.speed < SLOWER and not even_if_slower:
            raise RefusedError(
                f"{precision} makes it slower here",
                where=done.source,
                received=f"{lowered.milliseconds[0]:.3f} ms became {lowered.milliseconds[1]:.3f} ms",
                remedy="Use --even-if-slower to write it all the same",
            )
        if lowered.status == FAILED:
            return lowered
        with staged(path, MODEL, replacing) as stage:
            stage.write_bytes(small.read_bytes())
    return replace(lowered, files=(path,))


def rows_of(
    session: Runnable,
    data: PathLike | None,
    columns: Mapping[str, Sequence[str]] | None,
    pixels: Pixels | None,
    seed: int,
) -> Feeds:
    """Batches of real rows, or of made ones where no data is given."""
    if data is None:
        made = [dict(sample.arrays) for sample in made_for(session, [], None, seed).samples]
        return [feed for feed in made if all(np.isfinite(array).all() for array in feed.values())][:8]
    opened = open_data(Path(data))
    feed = feeder(opened, session.signature, columns, pixels)
    feeds = []
    fixed = _fixed_batch(session)
    for block in opened.blocks(0, ROWS, feed.wanted, fixed or BATCH):
        arrays, bad = feed.arrays(block)
        good = [row for row in range(block.rows) if row not in bad]
        if good and len(good) >= (fixed or 1):
            feeds.append({name: array[good] for name, array in arrays.items()})
    if not feeds:
        raise RefusedError("no row of the data can be given to the model", where=str(data))
    return feeds


def _fixed_batch(session: Runnable) -> int | None:
    """The rows of a run, where the model fixes them alike for all of its inputs."""
    first = {spec.dims[0] for spec in session.signature.inputs if spec.dims}
    only = first.pop() if len(first) == 1 else None
    return only if isinstance(only, int) and only > 0 else None


def _judged(
    precision: str,
    done: Conversion,
    sessions: tuple[Runnable, Runnable],
    files: tuple[Path, Path],
    feeds: Feeds,
    real: bool,
) -> Lowered:
    before, after = sessions
    outputs = [_outputs(session, feeds) for session in (before, after)]
    error = {name: _relative(outputs[0][name], outputs[1][name]) for name in outputs[0]}
    agreement = {name: _agreement(outputs[0][name], outputs[1][name]) for name in outputs[0]}
    seconds = interleaved(
        {"before": lambda: before.run(feeds[0]), "after": lambda: after.run(feeds[0])}, RUNS
    )
    return Lowered(
        precision,
        PASSED if all(one <= LARGEST[precision] for one in error.values()) else FAILED,
        (),
        sum(len(next(iter(feed.values()))) for feed in feeds),
        real,
        error,
        agreement,
        (files[0].stat().st_size, files[1].stat().st_size),
        (statistics.median(seconds["before"]) * 1e3, statistics.median(seconds["after"]) * 1e3),
        done,
    )


Outputs = list[Array]
"""What one output was for each of the feeds, which may differ in length."""


def _outputs(session: Runnable, feeds: Feeds) -> dict[str, Outputs]:
    results = [session.run(feed) for feed in feeds]
    return {name: [result[name] for result in results] for name in results[0]}


def _relative(a: Outputs, b: Outputs) -> float:
    """RMS of the difference over the RMS of ``a``, where not both are the same infinity or both no number."""
    wide, other = (np.concatenate([one.reshape(-1) for one in side]).astype(np.float64) for side in (a, b))
    same = (np.isnan(wide) & np.isnan(other)) | (np.isinf(wide) & (wide == other))
    wide, other = wide[~same], other[~same]
    if not wide.size:
        return 0.0
    if not (np.isfinite(wide).all() and np.isfinite(other).all()):
        return float("inf")
    scale = float(np.sqrt(np.mean(wide**2)))
    difference = float(np.sqrt(np.mean((wide - other) ** 2)))
    return difference / scale if scale else difference


def _agreement(a: Outputs, b: Outputs) -> float | None:
    if any(one.ndim < 2 or one.shape[-1] < 2 for one in a):
        return None
    agree = [(x.argmax(-1) == y.argmax(-1)).reshape(-1) for x, y in zip(a, b, strict=True)]
    return float(np.concatenate(agree).mean())
