"""What a page shows beside the verdict: graphs, files, latencies, the error of each tensor, the machine."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from netferry.converters.errors import MissingError
from netferry.inference.devices import require_onnxruntime
from netferry.validation.reports.inside import FirstDifference
from netferry.validation.reports.page.graphs import Graph


@dataclass(frozen=True)
class FileFact:
    """A file of a model: its name without the folder it happens to lie in, its bytes, its SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Latency:
    """The median milliseconds of one row, and the framework that it ran in."""

    label: str
    framework: str
    milliseconds: float


@dataclass(frozen=True)
class Extras:
    """All of it is optional: what is not there is left out of the page.

    ``graphs`` are the source's and the result's; ``layers`` are tensors in order of execution, each with its
    error in ``layers_unit``, for which ``layers_limit`` is the limit, or None where the target has no such tensor.
    ``counterparts`` are tensors of the second graph by those of the first, ``first`` is where a difference begins, ``commands`` what a
    person types to see it again.
    """

    graphs: tuple[Graph, ...] = ()
    files: tuple[FileFact, ...] = ()
    latencies: tuple[Latency, ...] = ()
    layers: tuple[tuple[str, float | None], ...] = ()
    layers_unit: str = "of the tensor's scale"
    layers_limit: float | None = None
    notes: tuple[str, ...] = field(default=())
    counterparts: Mapping[str, str] = field(default_factory=dict)
    first: FirstDifference | None = None
    commands: tuple[str, ...] = ()


def file_facts(paths: Iterable[Path]) -> tuple[FileFact, ...]:
    """The regular files among ``paths``, and those within the folders among them; names are relative to them."""
    facts = []
    for path in paths:
        inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        facts += [_fact(file, path.parent) for file in inside if file.is_file()]
    return tuple(facts)


def _fact(file: Path, folder: Path) -> FileFact:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FileFact(file.relative_to(folder).as_posix(), file.stat().st_size, digest)


def environment(versions: Mapping[str, str], sandbox: str = "") -> dict[str, str]:
    """The machine that a verdict was reached on: versions, system, processors, sandbox, onnxruntime's providers."""
    found = {name: version for name, version in versions.items() if name != "python"}
    machine = {
        "python": versions.get("python") or platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
    } | ({"sandbox": sandbox} if sandbox else {})
    return machine | found | _providers()


def _providers() -> dict[str, str]:
    try:
        providers = require_onnxruntime().get_available_providers()
    except MissingError:
        return {}
    return {"providers": ", ".join(name.removesuffix("ExecutionProvider") for name in providers)}
