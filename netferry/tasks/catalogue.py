"""Pairs of models named in a TOML file, each compared by itself (``netferry verify --catalogue models.toml``), or each b
made from its a (``netferry convert --catalogue models.toml``).

    [defaults]                        # for every pair that names no other
    seed = 3

    [[pair]]
    a = "cnn.keras"                   # files are sought beside the catalogue; package.module:factory is one, too
    b = "cnn.onnx"
    name = "cnn"                      # left out: a -> b
    inputs = ["x:1,28,28,1:f32"]

The rest are options of ``verify`` and of ``convert``: ``OPTIONS``. A catalogue is a file of others: that it says ``unsafe = true`` or
names a factory, whose code would run, or a device but the processor, holds only where whoever calls says so too.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from netferry.converters.errors import NetferryError, RefusedError, UsageError, nearest
from netferry.converters.part import sizes_from_flags
from netferry.converters.signature import examples_from_flags, numbers_of_flag
from netferry.converters.trust.paths import is_factory, opened
from netferry.inference.devices import CPU
from netferry.inference.feed import columns_from_flags
from netferry.inference.images import pixels_from_flag
from netferry.runtime.limits import Limits
from netferry.tasks.fanout import Progress, Task, fan_out
from netferry.tasks.verdicts import Verdicts, compared
from netferry.validation.reports.certificate import code_files, files_of

NUMBER = (int, float)
OPTIONS: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "a": str, "b": str, "inputs": list, "weights": str, "weights_b": str, "seed": int,
    "rtol": NUMBER, "atol": NUMBER, "device": str, "samples": int, "quick": bool, "grad": bool,
    "train_steps": int, "unsafe": bool, "memory": NUMBER, "time_limit": NUMBER, "task": str, "signature": str,
    "output": list, "input_at": list, "fix": list, "rename": list, "to": str, "opset": int, "fuse": bool, "simplify": bool, "dequantize": bool,
    "source": bool, "keep": bool, "random_weights": bool, "precision": str, "even_if_slower": bool, "data": str, "columns": list, "pixels": str,
}  # fmt: skip
"""What a pair may name, as flags have it: ``memory`` in GiB, ``time_limit`` in seconds, ``weights`` for a and ``weights_b`` for b;
``data`` is sought beside the catalogue."""

_RENAMED: Mapping[str, str] = {
    "grad": "gradients", "train_steps": "training_steps", "output": "outputs", "source": "write_source",
}  # fmt: skip
_READ: Mapping[str, Callable[[Any], Any]] = {
    "fix": sizes_from_flags,
    "rename": lambda flags: dict(flag.split("=", 1) for flag in flags),
    "columns": columns_from_flags,
    "pixels": pixels_from_flag,
}
"""Options that are written as flags are, and what they become."""

_BOTH = (
    "seed", "device", "samples", "quick", "unsafe", "task", "signature", "output", "input_at", "fix", "data", "columns", "pixels",
)  # fmt: skip
COMPARING = (*_BOTH, "rtol", "atol", "grad", "train_steps")
CONVERTING = (*_BOTH, "rename", "opset", "fuse", "simplify", "dequantize", "source", "keep", "random_weights")
"""What is handed on to ``verify`` and to ``convert``."""


def options_of(pair: Mapping[str, Any], wanted: Sequence[str], folder: Path) -> dict[str, Any]:
    """The options of a pair under the names that they have in Python; what is made is drawn with seed 0 where none is named."""
    own = {key: _READ[key](pair[key]) if key in _READ else pair[key] for key in wanted if key in pair}
    if "data" in own:
        own["data"] = located(folder, own["data"])
    return {"seed": 0} | {_RENAMED.get(key, key): value for key, value in own.items()}


def name_of(pair: Mapping[str, Any]) -> str:
    return str(pair.get("name") or f"{pair['a']} -> {pair['b']}")


def limits_of(pair: Mapping[str, Any]) -> Limits:
    """``memory`` and ``time_limit`` of a pair."""
    return Limits.of(pair.get("memory"), pair.get("time_limit"))


def results_of(path: Path) -> Path:
    """The folder in which the answers to a catalogue are kept."""
    return path.with_name(f"{path.name}.results")


def verify_all(
    catalogue: str | os.PathLike[str],
    *,
    engine: str = "local",
    workers: int | None = None,
    unsafe: bool = False,
    factories: bool = False,
    device: str = CPU,
    imports: Sequence[str] = (),
    progress: Progress | None = None,
    force: bool = False,
) -> Verdicts:
    """Compare every pair of ``catalogue``, each in a process of its own; a crash is that pair's alone.

    ``unsafe`` lets those pairs be unsafe that say so, ``factories`` lets models be ``package.module:factory``: both run
    code that the catalogue chose. With a ``device`` that is not "cpu" pairs run on the device that they say: a GPU's driver
    needs rights that they lose else. ``imports`` is code of the caller's, which each pair's process reads first. What came to a verdict is kept in the folder ``<catalogue>.results`` and not compared again until a file of the
    pair, an option or a version changes.
    """
    path = Path(catalogue)
    pairs = pairs_of(path)
    demand_allowed(path, pairs, unsafe, factories, device)
    files = cache(model_files)  # many pairs may name one model
    tasks = [_task(path.parent, pair, number, imports, files) for number, pair in enumerate(pairs, 1)]
    answers = fan_out(tasks, results_of(path), engine=engine, workers=workers, progress=progress, force=force)
    return Verdicts(str(path), tuple(map(compared, answers)))


def pairs_of(path: Path) -> list[dict[str, Any]]:
    """The pairs as the file has them, over its defaults."""
    try:
        with opened(path) as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise RefusedError(
                "larger than a catalogue is", where=str(path), expected=f"at most {_LARGEST >> 20} MiB"
            )
        if _DEEP.search(text):
            raise RefusedError("names tables within tables without end", where=str(path))
        document = tomllib.loads(text.decode())
    except RecursionError as error:
        raise RefusedError("nested too deep", where=str(path)) from error
    except OSError as error:
        raise RefusedError(f"cannot be read ({error.strerror})", where=str(path)) from error
    except ValueError as error:
        raise RefusedError(f"is no TOML ({error})", where=str(path)) from error
    strange = set(document) - {"pair", "defaults"}
    if strange:
        raise UsageError(
            "unknown in a catalogue", where=str(path), expected="[[pair]], [defaults]", received=strange
        )
    pairs, defaults = document.get("pair", []), document.get("defaults", {})
    if (
        not isinstance(pairs, list)
        or not pairs
        or not all(isinstance(one, dict) for one in [defaults, *pairs])
    ):
        raise UsageError("names no pairs", where=str(path), expected="[[pair]] with a and b")
    if len(pairs) > MOST_PAIRS:
        raise UsageError(
            "names more pairs than are taken at once",
            where=str(path),
            expected=f"at most {MOST_PAIRS:,}",
            received=f"{len(pairs):,}",
            remedy="Make several catalogues of it",
        )
    found = [_checked(defaults | pair, f"{path}, pair {number}") for number, pair in enumerate(pairs, 1)]
    _demand_small(path, found)
    return found


def _demand_small(path: Path, pairs: Sequence[Mapping[str, Any]]) -> None:
    """Refuse inputs that are too large to be drawn here for all pairs, where nothing bounds them."""
    asked = sum(numbers_of_flag(flag) for pair in pairs for flag in pair.get("inputs", ()))
    if asked > _MOST_NUMBERS:
        raise UsageError(
            "its pairs ask for inputs that are too large",
            where=str(path),
            expected=f"at most {_MOST_NUMBERS:,} numbers in all",
            received=f"{asked:,}",
            remedy="Give real rows (data), or compare these pairs by themselves",
        )


_MOST_NUMBERS = 1 << 27
_MOST: Mapping[str, float] = {"samples": 1_000, "train_steps": 1_000, "seed": (1 << 63) - 1, "opset": 1_000}
"""What a pair may ask for of each number, so that no line of a catalogue asks for work without end."""
_DEEP = re.compile(
    rb"""(?:^|[{,])[ \t]*(?:\[{1,2}[ \t]*)?(?:(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*){32}""",
    re.MULTILINE,
)
"""A key of so many parts, for each of which Python's reader goes through all that stand before it."""
_LARGEST = 4 << 20
_LONGEST = 1_000
"""Characters of a text; a name of a file has 255 at most, on any system."""
MOST_PAIRS = 1_000
"""Each is a process of its own, which starts in a quarter of a second at least."""


def demand_allowed(
    path: Path, pairs: Sequence[Mapping[str, Any]], unsafe: bool, factories: bool, device: str
) -> None:
    """Refuse pairs whose code would run, or that would keep their rights, though nobody but the catalogue asks for it; all
    of them are named."""
    wild = [f"pair {number} ({name_of(pair)})" for number, pair in enumerate(pairs, 1) if pair.get("unsafe")]
    away = [
        f"pair {number} ({pair['device']})"
        for number, pair in enumerate(pairs, 1)
        if pair.get("device", CPU) != CPU
    ]
    made = [
        f"pair {number} ({pair[side]})"
        for number, pair in enumerate(pairs, 1)
        for side in ("a", "b")
        if is_factory(located(path.parent, pair[side]))
    ]
    for allowed, found, what, flag in (
        (unsafe, wild, f"'unsafe = true' {_RUNS}", "--unsafe"),
        (factories, made, f"factories {_RUNS}", "--factories"),
        (
            device != CPU,
            away,
            "'device' in a catalogue would leave files the rights of a GPU's driver",
            "--device auto",
        ),
    ):
        if found and not allowed:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise RefusedError(
                what,
                where=str(path),
                received=", ".join(found[:_SHOWN]) + more,
                remedy=f"Only if you trust who made the catalogue: {flag} lets exactly these",
            )


_RUNS = "in a catalogue would let code run that the catalogue chose"
_SHOWN = 5


def _checked(pair: dict[str, Any], where: str) -> dict[str, Any]:
    for key, value in pair.items():
        if key not in OPTIONS:
            raise UsageError(
                "no option of a pair",
                where=where,
                expected=", ".join(OPTIONS),
                received=key,
                remedy=nearest(key, OPTIONS),
            )
        kinds = OPTIONS[key]
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        texts = isinstance(value, list) and not all(isinstance(one, str) for one in value)
        if type(value) not in wanted or texts:
            names = " or ".join(kind.__name__ for kind in wanted)
            raise UsageError(f"'{key}' has another type", where=where, expected=names, received=repr(value))
        most = _MOST.get(key, sys.float_info.max)
        if type(value) in NUMBER and not 0 <= value <= most:
            raise UsageError(
                f"'{key}' is no such number", where=where, expected=f"0 to {most:.6g}", received=repr(value)
            )
        if any(len(text) > _LONGEST or "\0" in text for text in _texts(value)):
            raise UsageError(
                f"'{key}' is no such text",
                where=where,
                expected=f"at most {_LONGEST:,} characters, and no NUL",
            )
    if any("=" not in flag for flag in pair.get("rename", ())):
        raise UsageError("names are given as OLD=NEW", where=where, received=str(pair["rename"]))
    missing = [key for key in ("a", "b") if key not in pair]
    if missing:
        raise UsageError(f"has no '{missing[0]}'", where=where)
    return pair


Files = Callable[[str, str | None], list[Path]]


def _texts(value: object) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _task(folder: Path, pair: Mapping[str, Any], number: int, imports: Sequence[str], files: Files) -> Task:
    changed = next((key for key in ("rename", "precision") if key in pair), None)
    if changed:
        raise UsageError(
            f"a pair with '{changed}' is compared where it is converted",
            where=name_of(pair),
            remedy="Use netferry convert --catalogue",
        )
    models = [located(folder, pair[key]) for key in ("a", "b")]
    weights = [located(folder, pair[key]) if key in pair else None for key in ("weights", "weights_b")]
    given = examples_from_flags(pair["inputs"], pair.get("seed", 0)) if pair.get("inputs") else None
    return Task(
        name_of(pair),
        "verify",
        models,
        {"inputs": given, "weights": tuple(weights), **options_of(pair, COMPARING, folder)},
        {"pair": dict(pair), "number": number if "name" not in pair else None},
        (
            *(file for one, own in zip(models, weights, strict=True) for file in files(one, own)),
            *rows_of(pair, folder),
            *code_of(imports),
        ),
        limits_of(pair),
        imports=imports,
        models=models,
    )


def rows_of(pair: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files of a pair's data."""
    data = Path(located(folder, pair["data"])) if "data" in pair else None
    if data is None or not data.is_dir():
        return [] if data is None else [data]
    return sorted(file for file in data.rglob("*") if file.is_file())


def code_of(imports: Sequence[str]) -> list[Path]:
    """The files of a person's own code, whose change changes an answer."""
    return [Path(one) for one in imports if one.endswith(".py")]


def model_files(model: str, weights: str | None) -> list[Path]:
    """The files of a model, be they code or weights; where they are not known, all that lie beside it."""
    own = [] if weights is None else [Path(weights)]
    if not os.path.lexists(model):
        return [*own, *code_files(model).values()]
    try:
        return [*own, *files_of(Path(model), weights).values()]
    except (NetferryError, OSError, MemoryError):
        return [*own, *(file for file in sorted(Path(model).parent.iterdir()) if file.is_file())]


def located(folder: Path, named: str) -> str:
    """A file's whole path, sought beside the catalogue; whatever else (a factory) as it stands."""
    path = folder / named
    return named if ":" in named and not os.path.lexists(path) else str(path.absolute())
