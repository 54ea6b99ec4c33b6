"""A model of any kind over a data set of any size: what ``netferry run --data`` does, from Python."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from netferry.arguments import PathLike, Reading
from netferry.converters import frameworks, source
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import UsageError
from netferry.converters.signature import Example
from netferry.inference import cluster, stream as local
from netferry.inference.images import Pixels
from netferry.inference.run import Runnable, runnable
from netferry.inference.stream import FAIL, Job, Outcome, Progress
from netferry.notebook import bar
from netferry.validation.reports.certificate import Subject, identity

ENGINES: Mapping[str, Callable[..., Outcome]] = {"local": local.stream, "ray": cluster.stream}


def stream(
    model: object,
    data: PathLike,
    output: PathLike,
    *,
    batch: int = 1024,
    columns: Mapping[str, Sequence[str]] | None = None,
    pixels: Pixels | None = None,
    keep: Sequence[str] = (),
    on_error: str = FAIL,
    engine: str = "local",
    workers: int | None = None,
    inputs: Sequence[Example] | None = None,
    weights: PathLike | None = None,
    device: str = "cpu",
    unsafe: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Run ``model`` over the rows of ``data`` and write the results, in order, to ``output``.

    ``data`` is a Parquet, Arrow, CSV, .npz or .npy file, or a folder of images or .npy files; ``output`` ends in
    .parquet, .arrow, .csv or .npz. Columns of an input's name go to it; ``columns`` names others; those to ``keep``
    go along to the results (``file``, the names, for a folder). ``pixels`` is how images become numbers; ``inputs``
    are examples for a model that does not know its own inputs. Rows that cannot be given to the model end the run
    (``on_error="fail"``) or are left out and reported ("skip"). An interrupted run goes on where it stopped when it is
    called again. ``output`` is replaced where an earlier run has written it and nobody has changed it since; anything else
    only with ``force``, and the data themselves never.
    ``engine`` is "local", or "ray" with ``workers`` actors.
    """
    if engine not in ENGINES:
        raise UsageError("no such engine", expected=" or ".join(ENGINES), received=engine)
    if workers is not None and engine == "local":
        raise UsageError("only an engine with workers takes their number", remedy="Use --engine ray")
    replacing = Overwriting(
        force, tuple(one for one in (model, weights, data) if isinstance(one, str | os.PathLike))
    )
    local.demand_output(Path(output), Path(data), replacing)
    live = Reading(weights=weights, unsafe=unsafe).runnable(model)
    given = frameworks.bound(live, None if inputs is None else tuple(inputs))
    named = identity(Subject(model, live, weights), Path.cwd())
    if isinstance(model, str | os.PathLike):
        open_model: Callable[[], Runnable] = partial(_open, _absolute(model), given, weights, unsafe, device)
    else:
        open_model = partial(runnable, live, given, device, spinning=False)
    job = Job(
        open_model,
        source.title(model),
        hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest(),
        Path(data),
        Path(output),
        {name: tuple(names) for name, names in (columns or {}).items()},
        pixels or Pixels(),
        batch,
        on_error,
        device,
        tuple(keep),
        replacing,
    )
    options = {} if workers is None else {"workers": workers}
    return ENGINES[engine](job, bar(progress, f"running {source.title(model)}"), **options)


def _absolute(model: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """A path that is right in another process's folder too; a factory is left as it is."""
    return Path(model).absolute() if os.path.lexists(model) else model


def _open(
    model: str | os.PathLike[str],
    inputs: Sequence[Example] | None,
    weights: PathLike | None,
    unsafe: bool,
    device: str,
) -> Runnable:
    return runnable(Reading(weights=weights, unsafe=unsafe).runnable(model), inputs, device, spinning=False)
