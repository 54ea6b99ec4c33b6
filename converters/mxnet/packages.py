"""Archives that hold a symbol with its params: MMS's ``.mar`` and ``.model``, SageMaker's ``model.tar.gz``.

What else they hold, code above all, is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from netferry.converters import checkpoints
from netferry.converters.errors import RefusedError
from netferry.converters.trust import paths, snapshot, tars, zips
from netferry.converters.trust.snapshot import Snapshot

_DECLARING = ("signature.json", "model-shapes.json")
"""Files that declare the sizes of inputs: MMS's, and that of SageMaker's own classifiers."""


@dataclass(frozen=True)
class Package:
    """What an archive has for us: ``params`` are read together; ``sizes`` are those that it declares for inputs."""

    symbol: Snapshot
    params: tuple[Snapshot, ...]
    sizes: Mapping[str, tuple[int, ...]]


def look(path: Path) -> Package | None:
    """The symbol in an archive; None where ``path`` is none."""
    with paths.opened(path) as file:
        head = file.read(4)
    if head.startswith(tars.GZIP):
        archive = tars.look(path)
        return _package(path, archive.entries, archive.take)
    if head.startswith(b"PK"):
        packed = zips.look(path, str(path))
        return _package(path, packed.entries, lambda name: _taken(packed, name))
    return None


def _taken(archive: zips.Archive, name: str) -> Snapshot:
    view = archive.view(name)
    return snapshot.private(len(view), f"{archive.where}/{name}", lambda file: tars.copy(view, file))


def _package(path: Path, names: Mapping[str, Any], take: Callable[[str], Snapshot]) -> Package:
    symbols = [name for name in names if checkpoints.SYMBOL.search(name)]
    if len(symbols) != 1:
        raise RefusedError(
            "the archive holds no single MXNet symbol",
            where=str(path),
            expected="one NAME-symbol.json with its params",
            received=", ".join(sorted(symbols or names)[:6]) or "nothing",
        )
    folder = PurePosixPath(symbols[0]).parent
    beside = {PurePosixPath(name).name: name for name in names if PurePosixPath(name).parent == folder}
    own, also = checkpoints.chosen(symbols[0], beside)
    declared = [name for name in names if PurePosixPath(name).name in _DECLARING]
    sizes = _sizes(take(declared[0])) if declared else {}
    return Package(take(symbols[0]), tuple(take(beside[name]) for name in (*own[-1:], *also)), sizes)


def _sizes(signature: Snapshot) -> dict[str, tuple[int, ...]]:
    """Sizes of inputs, by name: {"inputs": [{"data_name": ..., "data_shape": [...]}]}, or [{"name": ..., "shape": [...]}]; the batch is free."""
    try:
        document = json.loads(signature.read())
        entries, kind = (document["inputs"], "data_") if isinstance(document, dict) else (document, "")
        declared = {each[f"{kind}name"]: tuple(map(int, each[f"{kind}shape"])) for each in entries}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {str(name): (0, *sizes[1:]) for name, sizes in declared.items() if sizes}
