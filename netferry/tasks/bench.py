"""Models side by side: what ``netferry bench`` does, from Python."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from netferry import converters
from netferry.arguments import Inputs, PathLike, Reading, given_examples
from netferry.converters import frameworks, source
from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.converters.graph.inference.cost import cost
from netferry.converters.graph.passes.normalize import plan
from netferry.converters.signature import Array, Example, Signature
from netferry.inference import bench as measure
from netferry.inference.bench import Bench, Machine, Roof, Start, Timing
from netferry.inference.devices import choose
from netferry.inference.run import Runnable, runnable
from netferry.inference.session import Session
from netferry.runtime import guard
from netferry.validation.reports.report import versions
from netferry.validation.samples.explore import made_for
from netferry.validation.samples.sizes import batches_of, symbol_of


def bench(
    models: Sequence[object],
    inputs: Inputs | None = None,
    *,
    batches: Sequence[int] = (1, 8, 32),
    threads: Sequence[int] = (),
    runs: int = 50,
    weights: PathLike | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Bench:
    """Time files and live models of any kinds against each other, on the same inputs.

    ``batches`` are tried where the batch is free; ``threads`` are tried for models that onnxruntime runs (left out,
    it chooses). ``weights`` go with models that a factory builds.
    """
    if not models:
        raise UsageError("no model is given")
    for what, counts in (("batches", batches), ("threads", threads), ("runs", (runs,))):
        if any(count < 1 for count in counts):
            raise UsageError(f"{what} are counted from 1", received=", ".join(map(str, counts)))
    given = given_examples(inputs, None)
    names = _names(models)
    live = {
        name: Reading(weights=_own(model, weights), unsafe=unsafe).runnable(model)
        for name, model in names.items()
    }
    given = frameworks.bound(next(iter(live.values())), given)
    first = runnable(next(iter(live.values())), given, device)
    feeds = _feeds(first, next(iter(live.values())), given, batches)
    show = list(next(iter(feeds.values())).values())
    made: dict[str, Runnable] = {}
    starts: list[Start] = []
    for name, model in names.items():
        try:
            made[name], start = measure.started(name, _maker(live[name], given, device), show)
        except NetferryError as error:
            raise error.at(name) from error
        if isinstance(model, str | os.PathLike):
            own, now = _own(model, weights), time.time()
            fresh = guard.call(f"{__name__}:first_result", model, name, show, given, own, device, unsafe, now)
            start = Start(**fresh)
        starts.append(start)
    timings = measure.latencies(made, feeds, runs, tell=tell)
    timings += _threaded(live, made, feeds, threads, runs, device, tell)
    machine = Machine(choose(device))
    roofs = _roofs(live, given, first.signature, feeds, machine)
    return Bench(
        tuple(timings), tuple(starts), tuple(roofs), machine.gflops, machine.gbytes_per_s(), versions()
    )


def first_result(
    model: PathLike,
    name: str,
    arrays: Sequence[Array],
    given: Sequence[Example] | None,
    weights: PathLike | None,
    device: str,
    unsafe: bool,
    since: float,
) -> Start:
    """What it takes to have a model of a file ready, in a process that was begun for it at ``since``."""
    _, start = measure.started(
        name,
        lambda: runnable(Reading(weights=weights, unsafe=unsafe).runnable(model), given, device),
        arrays,
        since,
    )
    return start


def _names(models: Sequence[object]) -> dict[str, object]:
    """A title for each model; two of one title get numbers."""
    named: dict[str, object] = {}
    for model in models:
        title = source.title(model)
        key, number = title, 2
        while key in named:
            key, number = f"{title} #{number}", number + 1
        named[key] = model
    return named


def _own(model: object, weights: PathLike | None) -> PathLike | None:
    return weights if isinstance(model, str) and ":" in model and not Path(model).exists() else None


def _maker(model: object, given: Sequence[Example] | None, device: str) -> Callable[[], Runnable]:
    return lambda: runnable(model, given, device)


def _feeds(
    first: Runnable, model: object, given: Sequence[Example] | None, batches: Sequence[int]
) -> dict[int, Mapping[str, Array]]:
    """Arrays for each batch size; one feed where the batch is fixed."""
    made = made_for(first, [(model, first.signature)], given, quick=True)
    sample, rows = dict(made.samples[0].arrays), batches_of(made.signature)
    free = {
        spec.name
        for spec in made.signature.inputs
        if spec.dims and not isinstance(spec.dims[0], int) and symbol_of(spec, 0) in rows
    }
    if not free:
        array = next(iter(sample.values()))
        return {array.shape[0] if array.ndim else 1: sample}
    return {
        batch: {name: _repeated(array, batch) if name in free else array for name, array in sample.items()}
        for batch in batches
    }


def _repeated(array: Array, batch: int) -> Array:
    """The rows over and over until there are ``batch`` of them."""
    rows = [row % len(array) for row in range(batch)]
    return array[rows]


def _threaded(
    live: Mapping[str, object],
    made: Mapping[str, Runnable],
    feeds: Mapping[int, Mapping[str, Array]],
    threads: Sequence[int],
    runs: int,
    device: str,
    tell: Callable[[str], None] | None,
) -> list[Timing]:
    """The models that onnxruntime runs, at each number of threads."""
    timings: list[Timing] = []
    sessions = [name for name, model in made.items() if isinstance(model, Session)]
    for count in threads if sessions else ():
        limited = {name: Session(live[name], device, threads=count) for name in sessions}
        timings += measure.latencies(limited, feeds, runs, count, tell)
    return timings


def _roofs(
    live: Mapping[str, object],
    given: Sequence[Example] | None,
    signature: Signature,
    feeds: Mapping[int, Mapping[str, Array]],
    machine: Machine,
) -> list[Roof]:
    """The first model whose graph is available stands for all: they are taken to be the same model."""
    for name, model in live.items():
        try:
            opened_model = source.open_source(model) if isinstance(model, os.PathLike) else model
            planned = plan(converters.export_model(opened_model, given=given).model)
        except RefusedError:
            continue
        found = []
        for batch, feed in feeds.items():
            sizes = _sizes(signature, feed)
            needed = cost(planned, sizes)
            speed = machine.gflops, machine.gbytes_per_s(needed.bytes)
            one = measure.roof(name, batch, needed.flops, needed.bytes, needed.unknown, *speed)
            found += [replace(one, model=other) for other in live]
        return found
    return []


def _sizes(signature: Signature, feed: Mapping[str, Array]) -> dict[str, int]:
    """What each free size is in these arrays."""
    return {
        symbol_of(spec, axis): feed[spec.name].shape[axis]
        for spec in signature.inputs
        for axis, dim in enumerate(spec.dims or ())
        if not isinstance(dim, int)
    }
