"""What each argument of a command opens, and so what the child that works on foreign files may read and write."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from netferry.converters.disk import ledger
from netferry.converters.trust.paths import is_factory
from netferry.converters.trust.sandbox import SYSTEM, Rooms, python_home

MODEL, TIMED, FILE, ROWS, ARRAYS, BESIDE, WITHIN, CODE, NOTHING = (
    "model", "timed", "file", "rows", "arrays", "beside", "within", "code", "",
)  # fmt: skip
"""A model, unless it is a factory, is read with its folder; so is a file that is never a factory (weights, certificates).
One that is timed starts in fresh interpreters, too, which no closed process could start: it knows nothing of their /proc. Rows are a file, or a folder with what its links mean; arrays stand
in flags as NAME=FILE; both are read with the ledger beside them, which records what they were made from. A result is
staged in the folder that it lies ``BESIDE`` others in; several go ``WITHIN`` one."""

OPENS: Mapping[str, str] = {
    "source": MODEL, "model": MODEL, "models": TIMED, "a": MODEL, "b": MODEL, "weights": FILE, "check": FILE, "optimizer_state": FILE,
    "data": ROWS, "inputs": ARRAYS, "imports": CODE,
    "destination": BESIDE, "output": BESIDE, "certificate": BESIDE, "html": BESIDE, "junit": BESIDE,
    "markdown": BESIDE, "card": BESIDE, "hub": BESIDE,
    "report": WITHIN, "triton": WITHIN, "kserve": WITHIN,
}  # fmt: skip
"""Every argument, on the command line and in Python, that names a file; all others open nothing."""

_GPU = "/dev/nvidiactl"
_MOST_LINKS = 10_000


def rooms_of(arguments: Mapping[str, Any]) -> Rooms:
    """What may be read and written for these arguments; Python and the system are read in any case."""
    reads: list[Path] = []
    writes: list[Path] = []
    for role, path in _paths(arguments):
        if role in (BESIDE, WITHIN):
            writes.append(_existing(path if role == WITHIN else path.parent))
        else:
            reads += _read(role, path)
    return Rooms(*(tuple(dict.fromkeys(map(str, each))) for each in (reads, writes)))


def destinations_of(arguments: Mapping[str, Any]) -> list[Path]:
    """The results that these arguments name, of several in one folder any one."""
    found = [(role, path) for role, path in _paths(arguments) if role in (BESIDE, WITHIN)]
    return [path if role == BESIDE else path / "verdict.json" for role, path in found]


def models_of(arguments: Mapping[str, Any]) -> list[Path]:
    """The models that these arguments name."""
    return [path for role, path in _paths(arguments) if role in (MODEL, TIMED, FILE)]


def excuse(arguments: Mapping[str, Any]) -> str:
    """Why what runs for these arguments keeps its rights; empty where it does not."""
    if arguments.get("engine") == "ray":
        return "Ray's workers talk over the network"
    if arguments.get("device", "cpu") != "cpu" and Path(_GPU).exists():
        return "a GPU's driver needs its devices"
    if any(role == CODE for role, _ in _texts(arguments)):
        return "an imported module is code of yours and has your rights"
    if any(role == TIMED for role, _ in _texts(arguments)):
        return "it starts fresh interpreters, and each of these is closed by itself"
    models = (text for role, text in _texts(arguments) if role == MODEL)
    return "a factory is code of yours and has your rights" if any(map(is_factory, models)) else ""


def everywhere(private: str) -> Rooms:
    """What any child may read, with the folder for temporary files that is its own to write in."""
    keras = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")  # noqa: PTH111 - also where there is no home
    return Rooms((*SYSTEM, *python_home(), f"{keras}/keras.json"), (private,))


def _texts(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in arguments.items():
        role = OPENS.get(name, NOTHING)
        for one in value if isinstance(value, list | tuple) else [value]:
            if role and isinstance(one, str | os.PathLike):
                yield role, os.fspath(one)


def _paths(arguments: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    for role, text in _texts(arguments):
        yield role, Path(text.rpartition("=")[2] if role == ARRAYS else text).absolute()


def _read(role: str, path: Path) -> Iterator[Path]:
    """A path, and what it really is where it is a link: a model's other files are sought beside the link."""
    yield path
    if role in (MODEL, TIMED, FILE) and not _is_folder(path):
        yield path.parent
        home, found, _ = str(path).rpartition("/snapshots/")
        if found:  # a Hugging Face cache: snapshots are links into blobs beside them
            yield Path(home, "blobs")
    beside = path.parent / ledger.NAME
    if role in (ROWS, ARRAYS) and not os.path.islink(beside):  # noqa: PTH114 - also where the name is none
        yield beside
    if role == ROWS and _is_folder(path):
        links = (Path(entry) for entry in os.scandir(path) if entry.is_symlink())
        yield from (link.resolve() for _, link in zip(range(_MOST_LINKS), links, strict=False))


def _existing(folder: Path) -> Path:
    """The folder, or what is there already of the way to it."""
    return next(each for each in (folder, *folder.parents) if _is_folder(each) or each == each.parent)


def _is_folder(path: Path) -> bool:
    """Whatever cannot even be asked for is none."""
    try:
        return path.is_dir()
    except OSError:
        return False
