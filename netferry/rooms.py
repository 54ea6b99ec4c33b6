"""What each argument of a command opens, and so what the child that works on foreign files may read and write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from netferry.converters.trust.paths import is_factory
from netferry.converters.trust.sandbox import SYSTEM, Rooms, python_home

MODEL, ROWS, ARRAYS, BESIDE, WITHIN, NOTHING = "model", "rows", "arrays", "beside", "within", ""
"""A model, or a certificate, is read with its folder; rows are a file, or a folder with what its links mean; arrays
stand in flags as NAME=FILE. A result is staged in the folder that it lies ``BESIDE`` others in; several go ``WITHIN`` one."""

OPENS: Mapping[str, str] = {
    "source": MODEL, "model": MODEL, "models": MODEL, "a": MODEL, "b": MODEL, "weights": MODEL, "check": MODEL,
    "data": ROWS, "inputs": ARRAYS,
    "destination": BESIDE, "output": BESIDE, "certificate": BESIDE, "html": BESIDE, "junit": BESIDE,
    "markdown": BESIDE, "card": BESIDE,
    "report": WITHIN, "triton": WITHIN, "kserve": WITHIN,
}  # fmt: skip
"""Every argument, on the command line and in Python, that names a file; all others open nothing."""

_GPU = "/dev/nvidiactl"
_MOST_LINKS = 10_000


def rooms_of(arguments: Mapping[str, Any]) -> Rooms:
    """What may be read and written for these arguments; Python and the system are read in any case."""
    reads: list[str] = []
    writes: list[str] = []
    for role, place in _places(arguments):
        if role in (BESIDE, WITHIN):
            writes.append(_standing(place if role == WITHIN else os.path.dirname(os.path.abspath(place))))
        else:
            reads += _read(role, place)
    return Rooms(tuple(dict.fromkeys(reads)), tuple(dict.fromkeys(writes)))


def destinations_of(arguments: Mapping[str, Any]) -> list[str]:
    """The results that these arguments name."""
    return [place for role, place in _places(arguments) if role == BESIDE]


def excuse(arguments: Mapping[str, Any]) -> str:
    """Why what runs for these arguments keeps its rights; empty where it does not."""
    if arguments.get("engine") == "ray":
        return "Ray's workers talk over the network"
    if arguments.get("device", "cpu") != "cpu" and os.path.exists(_GPU):
        return "a GPU's driver needs its devices"
    models = (place for role, place in _places(arguments) if role == MODEL)
    return "a factory is code of yours and has your rights" if any(map(is_factory, models)) else ""


def everywhere(private: str) -> Rooms:
    """What any child may read, with the folder for temporary files that is its own to write in."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return Rooms((*SYSTEM, *python_home(), os.path.join(home, "keras.json")), (private,))


def _places(arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in arguments.items():
        role = OPENS.get(name, NOTHING)
        several = value if isinstance(value, list | tuple) else [value]
        for one in several if role else ():
            if isinstance(one, str | os.PathLike):
                text = os.fspath(one)
                yield role, text.rpartition("=")[2] if role == ARRAYS else text


def _read(role: str, place: str) -> Iterator[str]:
    """A place as it is called and as it really is: rules are for what is there, not for links."""
    for path in dict.fromkeys((os.path.abspath(place), os.path.realpath(place))):
        yield path
        if role == MODEL and not os.path.isdir(path):
            yield os.path.dirname(path)
    if role == MODEL:
        yield from _cache(os.path.abspath(place))
    if role == ROWS and os.path.isdir(place):
        yield from _links(place)


def _cache(place: str) -> Iterable[str]:
    """All of a model in a Hugging Face cache, whose snapshots are links into ``blobs`` beside them."""
    home, found, _ = place.rpartition("/snapshots/")
    return (f"{home}/blobs",) if found else ()


def _links(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        links = (entry.path for entry in entries if entry.is_symlink())
        for _, link in zip(range(_MOST_LINKS), links, strict=False):
            yield os.path.realpath(link)


def _standing(folder: str) -> str:
    """The folder, or what is there already of the way to it."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder
