"""Many conversions in one call: of sources that are named together, or of a catalogue's pairs, each from its a to its b.

Each is done in a process of its own, so that a crash, a refusal or a difference is that conversion's alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from netferry.arguments import PathLike
from netferry.conversion import MODEL, companions, target_of
from netferry.converters import frameworks, source
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.staging import demand
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import examples_from_flags
from netferry.inference.devices import CPU
from netferry.runtime.limits import Limits
from netferry.tasks import catalogue
from netferry.tasks.fanout import Progress, Task, fan_out
from netferry.tasks.verdicts import Verdicts, converted

ENDINGS: Mapping[str, str] = {
    "onnx": ".onnx",
    "pytorch": ".pt2",
    "tensorflow": ".keras",
    "mxnet": "-symbol.json",
}
"""What the name of a result ends in, where a folder is given for many."""

_NOUN = "conversions"


def convert_each(
    sources: Sequence[str],
    to: str,
    folder: PathLike,
    *,
    engine: str = "local",
    workers: int | None = None,
    limits: Limits | None = None,
    imports: Sequence[str] = (),
    force: bool = False,
    precision: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Verdicts:
    """Convert every one of ``sources`` to the framework ``to``, into ``folder``, under its own name.

    ``options`` are those of ``netferry.convert`` and hold for each; with a ``precision`` those of ``netferry.precision``. Nothing is begun where two results would have one name, or
    where something stands that may not be replaced.
    """
    ending = ENDINGS[frameworks.named(to).name]
    results = [Path(folder) / f"{_stem(one)}{ending}" for one in sources]
    _demand_apart(sources, results)
    tasks = [
        Task(
            f"{one} -> {path}",
            *_call(one, to, precision, {**options, "destination": path, "force": force}),
            limits=limits or Limits(),
            imports=imports,
        )
        for one, path in zip(sources, results, strict=True)
    ]
    return _done(f"{len(tasks)} models", tasks, None, engine, workers, force, progress)


LOWER = "netferry.tasks.precision:lower"


def _call(
    model: str, to: str | None, precision: str | None, options: Mapping[str, Any]
) -> tuple[str, list[Any], Mapping[str, Any]]:
    """The function, its arguments and its options: a conversion, or one that goes on to another precision."""
    if precision is None:
        return "convert", [model, to], options
    return LOWER, [model], {**options, "precision": precision}


def convert_all(
    path: PathLike,
    *,
    engine: str = "local",
    workers: int | None = None,
    unsafe: bool = False,
    factories: bool = False,
    device: str = CPU,
    imports: Sequence[str] = (),
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Verdicts:
    """Convert every pair's ``a`` of a catalogue to its ``b``; what it would run needs a word of the caller's, as for ``verify_all``.

    What passed is kept beside the catalogue, and not converted again until a source, an option, a version or the result changes.
    """
    file = Path(path)
    pairs = catalogue.pairs_of(file)
    catalogue.demand_allowed(file, pairs, unsafe, factories, device)
    files = cache(catalogue.model_files)  # many pairs may name one model
    tasks = [
        _task(file.parent, pair, f"{file}, pair {number}", force, imports, files)
        for number, pair in enumerate(pairs, 1)
    ]
    _demand_apart([task.arguments[0] for task in tasks], [task.options["destination"] for task in tasks])
    if dry_run:
        tasks = [_rehearsed(task) for task in tasks]
    kept = None if dry_run else catalogue.results_of(file) / "converted"
    return _done(str(file), tasks, kept, engine, workers, force, progress)


def _task(
    folder: Path,
    pair: Mapping[str, Any],
    where: str,
    force: bool,
    imports: Sequence[str],
    files: catalogue.Files,
) -> Task:
    """A pair's conversion; what says only how it is compared (gradients, say) is left out."""
    strange = [key for key in ("rtol", "atol", "weights_b", "grad", "train_steps") if key in pair]
    if strange:
        raise UsageError(
            f"'{strange[0]}' says how a pair is compared, and a conversion is judged by netferry's own limit",
            where=where,
            remedy="Leave it out, or give the pair a second catalogue for verify",
        )
    model, destination = catalogue.located(folder, pair["a"]), _inside(folder, pair["b"], where)
    weights = catalogue.located(folder, pair["weights"]) if "weights" in pair else None
    precision = pair.get("precision")
    if precision is None and "even_if_slower" in pair:
        raise UsageError("'even_if_slower' is for a pair with a precision", where=where)
    lost = [key for key in ("source", "keep") if precision is not None and key in pair]
    if lost:
        raise UsageError(f"'{lost[0]}' is for a pair that keeps its precision", where=where)
    wanted = catalogue.CONVERTING if precision is None else (*catalogue.CONVERTING, "even_if_slower")
    options = {
        **catalogue.options_of(pair, wanted, folder),
        "inputs": examples_from_flags(pair["inputs"], pair.get("seed", 0)) if pair.get("inputs") else None,
        "weights": weights,
        "destination": destination,
        "force": force,
    }
    return Task(
        catalogue.name_of(pair),
        *_call(model, pair.get("to"), precision, options),
        {"convert": dict(pair)},
        (
            *files(model, weights),
            *catalogue.rows_of(pair, folder),
            *catalogue.code_of(imports),
        ),
        catalogue.limits_of(pair),
        writes=destination,
        imports=imports,
        models=[model],
    )


def _inside(folder: Path, named: str, where: str) -> Path:
    """Where a result goes: a catalogue may be a file of others, and writes nothing outside of its own folder."""
    destination = folder.absolute() / named
    home = os.path.realpath(folder)
    if ".." in Path(named).parts or not Path(os.path.realpath(destination)).is_relative_to(home):
        raise RefusedError(
            "a catalogue writes nothing outside of its own folder",
            where=where,
            expected=f"b below {folder.absolute()}",
            received=named,
            remedy="Put the catalogue above its results, or convert this one by itself",
        )
    return destination


def _rehearsed(task: Task) -> Task:
    if task.function == LOWER:
        raise UsageError(
            "nothing is known of another precision before it is written",
            where=task.name,
            remedy="Leave --dry-run out",
        )
    return Task(
        task.name, task.function, task.arguments, {**task.options, "dry_run": True}, limits=task.limits
    )


def _demand_apart(sources: Sequence[str], results: Sequence[Path]) -> None:
    """Refuse two sources that would become one file."""
    owners: dict[Path, str] = {}
    for one, path in zip(sources, results, strict=True):
        if path in owners:
            raise UsageError(
                "two sources would become one file",
                where=str(path),
                received=f"{owners[path]} and {one}",
                remedy="Convert them in two calls, or name each result in a catalogue",
            )
        owners[path] = one


def _stem(model: str) -> str:
    """The name of a source without what says its format; of a factory, the function's."""
    name = source.title(model).rpartition(":")[2]
    return Path(name.removesuffix("-symbol.json")).stem


def _done(
    title: str, tasks: Sequence[Task], folder: Path | None, engine: str, workers: int | None, force: bool,
    progress: Progress | None,
) -> Verdicts:  # fmt: skip
    for task in tasks:
        options = task.options
        path, model = options["destination"], task.arguments[0]
        target = target_of(
            (*task.arguments, None)[1], path, options.get("opset"), bool(options.get("write_source")),
            bool(options.get("fuse") or options.get("simplify")), options.get("device") or CPU,
        )  # fmt: skip
        replacing = Overwriting(force, (model, options.get("weights")))
        demand(path, MODEL, replacing, companions(path, target, bool(options.get("write_source")), model))
        if not options.get("dry_run"):
            os.makedirs(path.parent, exist_ok=True)  # noqa: PTH103 - a child may write only where a folder is
    answers = fan_out(tasks, folder, engine=engine, workers=workers, progress=progress, force=force)
    return Verdicts(title, tuple(map(converted, answers)), _NOUN)
