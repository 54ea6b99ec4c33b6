"""Pairs of models named in a TOML file, each compared by itself: ``netferry verify --catalogue models.toml``.

    [defaults]                        # for every pair that names no other
    seed = 3

    [[pair]]
    a = "cnn.keras"                   # files are sought beside the catalogue; package.module:factory is one, too
    b = "cnn.onnx"
    name = "cnn"                      # left out: a -> b
    inputs = ["x:1,28,28,1:f32"]

The rest are the options of ``verify``: ``OPTIONS``. A catalogue is a file of others: that it says ``unsafe = true`` or
names a factory, whose code would run, or a device but the processor, holds only where whoever calls says so too.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netferry.converters import escaping, source
from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.converters.signature import examples_from_flags
from netferry.converters.trust.paths import is_factory
from netferry.inference.devices import CPU
from netferry.runtime.limits import GIB, Limits
from netferry.tasks.fanout import Answer, Document, Progress, Task, fan_out
from netferry.validation.comparison.metrics import NOT_CHECKED, PASSED
from netferry.validation.reports import junit, markdown, wording
from netferry.validation.reports.certificate import code_files, files_of
from netferry.validation.reports.report import versions

OPTIONS: Mapping[str, type | tuple[type, ...]] = {
    "name": str, "a": str, "b": str, "inputs": list, "weights": str, "weights_b": str, "seed": int,
    "rtol": (int, float), "atol": (int, float), "device": str, "samples": int, "quick": bool, "grad": bool,
    "train_steps": int, "unsafe": bool, "memory": (int, float), "time_limit": (int, float),
}  # fmt: skip
"""What a pair may name: ``memory`` in GiB, ``time_limit`` in seconds, ``weights`` for a and ``weights_b`` for b."""

_RENAMED: Mapping[str, str] = {"grad": "gradients", "train_steps": "training_steps"}
_PASSED_ON = ("seed", "rtol", "atol", "device", "samples", "quick", "unsafe", *_RENAMED)


@dataclass(frozen=True)
class Compared:
    """One pair: its verdict (``not_checked`` where there is none, with the reason), and whether an earlier run gave it."""

    name: str
    a: str
    b: str
    status: str
    reason: str
    seconds: float
    kept: bool
    report: Document | None = field(repr=False, default=None)
    error: Document | None = field(repr=False, default=None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "a": self.a, "b": self.b, "status": self.status, "reason": self.reason,
            "seconds": self.seconds, "kept": self.kept, "report": self.report, "error": self.error,
        }  # fmt: skip


@dataclass(frozen=True)
class Verdicts:
    """All pairs of a catalogue."""

    title: str
    pairs: tuple[Compared, ...]

    @property
    def passed(self) -> bool:
        return bool(self.pairs) and all(pair.status == PASSED for pair in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "catalogue": self.title,
            "status": wording.worst_status([pair.to_dict() for pair in self.pairs]),
            "pairs": [pair.to_dict() for pair in self.pairs],
            "versions": versions(),
        }

    def to_text(self) -> str:
        """One line for each pair, then the count."""
        width = max((len(pair.name) for pair in self.pairs), default=0) + 2
        lines = []
        for pair in self.pairs:
            ratio = wording.worst_ratio(pair.report or {})
            error = "" if ratio is None else f"{ratio:8.2g} yardsticks"
            line = f"{pair.name:<{width}}{wording.STATED[pair.status]:<13}{error:<20}{pair.seconds:7.1f} s"
            lines.append(f"{line}{', kept' if pair.kept else ''}")
            if pair.status != PASSED:
                lines.append(f"  {pair.reason}")
        passed = sum(pair.status == PASSED for pair in self.pairs)
        return "\n".join(map(escaping.line, [*lines, f"{passed} of {len(self.pairs)} pairs passed"]))

    def to_junit(self) -> str:
        return junit.of_matrix({"versions": versions(), "cells": [_cell(pair) for pair in self.pairs]})

    def to_markdown(self) -> str:
        return markdown.of_catalogue(self.to_dict())


def _cell(pair: Compared) -> dict[str, Any]:
    """A pair as JUnit's form takes a cell of the matrix."""
    return {
        "model": pair.name, "source": pair.a, "target": pair.b, "status": pair.status, "reason": pair.reason,
        "seconds": pair.seconds, "report": pair.report,
    }  # fmt: skip


def verify_all(
    catalogue: str | os.PathLike[str],
    *,
    engine: str = "local",
    workers: int | None = None,
    unsafe: bool = False,
    factories: bool = False,
    device: str = CPU,
    progress: Progress | None = None,
    force: bool = False,
) -> Verdicts:
    """Compare every pair of ``catalogue``, each in a process of its own; a crash is that pair's alone.

    ``unsafe`` lets those pairs be unsafe that say so, ``factories`` lets models be ``package.module:factory``: both run
    code that the catalogue chose. With a ``device`` that is not "cpu" pairs run on the device that they say: a GPU's driver
    needs rights that they lose else. What came to a verdict is kept in the folder ``<catalogue>.results`` and not compared again until a file of the
    pair, an option or a version changes.
    """
    path = Path(catalogue)
    pairs = _pairs(path)
    _may_run(path, pairs, unsafe, factories, device)
    tasks = [_task(path.parent, pair, number) for number, pair in enumerate(pairs, 1)]
    folder = path.with_name(f"{path.name}.results")
    answers = fan_out(tasks, folder, engine=engine, workers=workers, progress=progress, force=force)
    return Verdicts(str(path), tuple(map(_compared, answers)))


def _pairs(path: Path) -> list[dict[str, Any]]:
    """The pairs as the file has them, over its defaults."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
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
    return [_checked(defaults | pair, f"{path}, pair {number}") for number, pair in enumerate(pairs, 1)]


def _may_run(
    path: Path, pairs: Sequence[Mapping[str, Any]], unsafe: bool, factories: bool, device: str
) -> None:
    """Refuse pairs whose code would run, or that would keep their rights, though nobody but the catalogue asks for it; all
    of them are named."""
    named = {
        number: str(pair.get("name") or f"{pair['a']} -> {pair['b']}") for number, pair in enumerate(pairs, 1)
    }
    wild = [f"pair {number} ({named[number]})" for number, pair in enumerate(pairs, 1) if pair.get("unsafe")]
    away = [
        f"pair {number} ({pair['device']})"
        for number, pair in enumerate(pairs, 1)
        if pair.get("device", CPU) != CPU
    ]
    made = [
        f"pair {number} ({pair[side]})"
        for number, pair in enumerate(pairs, 1)
        for side in ("a", "b")
        if is_factory(_found(path.parent, pair[side]))
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
            raise UsageError("no option of a pair", where=where, expected=", ".join(OPTIONS), received=key)
        kinds = OPTIONS[key]
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        if type(value) not in wanted:
            names = " or ".join(kind.__name__ for kind in wanted)
            raise UsageError(f"'{key}' has another type", where=where, expected=names, received=repr(value))
    missing = [key for key in ("a", "b") if key not in pair]
    if missing:
        raise UsageError(f"has no '{missing[0]}'", where=where)
    return pair


def _task(folder: Path, pair: Mapping[str, Any], number: int) -> Task:
    models = [_found(folder, pair[key]) for key in ("a", "b")]
    weights = [_found(folder, pair[key]) if key in pair else None for key in ("weights", "weights_b")]
    options = {"seed": 0} | {_RENAMED.get(key, key): pair[key] for key in _PASSED_ON if key in pair}
    given = examples_from_flags(pair["inputs"], pair.get("seed", 0)) if pair.get("inputs") else None
    memory = pair.get("memory")
    return Task(
        pair.get("name") or f"{pair['a']} -> {pair['b']}",
        "verify",
        models,
        {"inputs": given, "weights": tuple(weights), **options},
        {"pair": dict(pair), "number": number if "name" not in pair else None},
        tuple(file for one, own in zip(models, weights, strict=True) for file in _files(one, own)),
        Limits(None if memory is None else int(memory * GIB), pair.get("time_limit")),
    )


def _files(model: str, weights: str | None) -> list[Path]:
    """The files of a model, be they code or weights; where they are not known, all that lie beside it."""
    own = [] if weights is None else [Path(weights)]
    if not os.path.lexists(model):
        return [*own, *code_files(model).values()]
    try:
        return [*own, *files_of(Path(model), weights).values()]
    except (NetferryError, OSError, MemoryError):
        return [*own, *(file for file in sorted(Path(model).parent.iterdir()) if file.is_file())]


def _found(folder: Path, named: str) -> str:
    """A file's whole path, sought beside the catalogue; whatever else (a factory) as it stands."""
    path = folder / named
    return named if ":" in named and not os.path.lexists(path) else str(path.absolute())


def _compared(answer: Answer) -> Compared:
    a, b = map(source.title, answer.task.arguments)
    report, error = answer.document, answer.error
    if report is not None:
        faults = [one for one in report["outputs"] if one["status"] != PASSED]
        reason = report["reason"] or (faults[0]["reason"] if faults else "")
        return Compared(answer.task.name, a, b, report["status"], reason, answer.seconds, answer.kept, report)
    assert error is not None
    return Compared(answer.task.name, a, b, NOT_CHECKED, error["message"], answer.seconds, False, None, error)


__all__: Sequence[str] = ["OPTIONS", "Compared", "Verdicts", "verify_all"]
