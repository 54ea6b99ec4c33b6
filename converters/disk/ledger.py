"""What netferry has written in a folder, and so may replace: the file ``.netferry`` in it.

    {"format": 1, "about": "...", "saves": {"out.onnx": {
        "kind": "model", "files": {"out.onnx": [SHA-256, inode], ...}, "made from": [[SHA-256, inode], ...]}}}

A save is known by its main name, and holds what was written with it. A file counts as ours only as it was written:
by its content, and by its inode, so that a ledger that came with someone's archive shows nothing. One that is a
link, damaged, or another user's is left as it is, and nothing is known then.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netferry.converters.disk.folders import Content, Folder, StrangeError, is_plain
from netferry.converters.errors import UsageError, WriteError

try:
    import fcntl
except ImportError:  # Windows: of two that write at once one may lose its record, and is asked for --force
    fcntl = None  # type: ignore[assignment]

NAME = ".netferry"
_FORMAT = 1
_ABOUT = (
    "What netferry has written in this folder and may replace unasked. Without this file it asks for --force."
)
_PATIENCE = 10.0
_MOST_ORIGINS = 1000
FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged ledger may raise."""

MADE_BY_PYTHON = frozenset({"__pycache__"})
"""What appears in a folder of a written module when it is imported, and may go."""


@dataclass(frozen=True)
class Save:
    """What was written at once: its files by their place in the folder, and those of ours that it was made from."""

    kind: str
    files: Mapping[str, Content]
    made_from: tuple[Content, ...] = ()

    def to_json(self) -> dict[str, Any]:
        files = {name: list(content) for name, content in sorted(self.files.items())}
        return {"kind": self.kind, "files": files, "made from": [list(content) for content in self.made_from]}


def saves(folder: Folder) -> dict[str, Save] | None:
    """All that is known of a folder; None where its ledger is none of ours."""
    try:
        found = folder.stat(NAME)
        if found is None:
            return {}
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not _is_mine(found):
            return None
        document = json.loads(folder.read(NAME))
        known = {str(name): save_of(one) for name, one in document["saves"].items() if is_plain(name)}
        return known if document["format"] == _FORMAT else None
    except FAULTS:
        return None


def save_of(one: Any) -> Save:
    """A save as it stands in JSON; raises one of ``FAULTS`` where it is none."""
    return Save(str(one["kind"]), contents(one["files"]), tuple(map(_pair, one["made from"]))[:_MOST_ORIGINS])


def contents(files: Any) -> dict[str, Content]:
    return {str(name): _pair(content) for name, content in files.items()}


def _pair(pair: Any) -> Content:
    digest, inode = pair
    return str(digest), int(inode)


def _is_mine(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def put(folder: Folder, main: str, save: Save | None, by: Folder) -> Save | None:
    """Record ``save`` under its main name, by way of the folder ``by``; gives what stood there. None takes it out."""
    with _alone(folder):
        known = saves(folder)
        if known is None:
            return None
        before = known.pop(main, None)
        if save is not None:
            kept = before.files if before is not None and before.kind == save.kind else {}
            still = {name: one for name, one in kept.items() if os.path.lexists(folder.path / name)}
            known[main] = Save(save.kind, {**still, **save.files}, save.made_from)
        known = {name: one for name, one in known.items() if folder.stat(name) is not None}
        if not known:
            folder.unlink(NAME)
            return before
        words = {
            "format": _FORMAT,
            "about": _ABOUT,
            "saves": {n: s.to_json() for n, s in sorted(known.items())},
        }
        by.unlink("ledger")
        by.write("ledger", (json.dumps(words, indent=1) + "\n").encode())
        by.move("ledger", folder, NAME)
        return before


@contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """No other process changes the ledger meanwhile; after some seconds, or where a folder cannot be locked, it goes on."""
    handle, until = folder.handle, time.monotonic() + _PATIENCE
    while handle is not None and fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                break
            time.sleep(0.002)
        except OSError:
            break
    try:
        yield
    finally:
        if handle is not None and fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_UN)


def digest_of(path: Path, kind: str) -> str | None:
    """The digest with which the file at ``path`` was written as a ``kind``; None where nothing of this user's says so, or
    another file has come into its place (out of an archive, say, with a ledger of its own)."""
    digest, inode = written(path, kind).get(path.name, ("", 0))
    try:
        return digest if digest and path.lstat().st_ino == inode else None
    except OSError:
        return None


def written(path: Path, kind: str) -> Mapping[str, Content]:
    """The files that the last save of ``path`` as a ``kind`` has left, by their names beside it."""
    with contextlib.suppress(OSError), Folder.open(path.parent) as folder:
        save = (saves(folder) or {}).get(path.name)
        if save is not None and save.kind == kind:
            return save.files
    return {}


# ---- what may be replaced ---------------------------------------------------------------------------

_FORCE = "Choose another name, or replace it with --force (force=True)"


@dataclass(frozen=True)
class Overwriting:
    """What a command may replace: what netferry itself has written there and nobody has changed since; with ``force``
    any file. ``sources`` are what it reads (paths, factories; live models are none): they are not replaced either.

    With ``force`` too a folder that holds other files is left.
    """

    force: bool = False
    sources: tuple[object, ...] = ()
    _asked: dict[Path, str] = field(default_factory=dict, repr=False, compare=False)
    _known: dict[tuple[int, ...], Content] = field(default_factory=dict, repr=False, compare=False)

    def demand(self, destination: str | os.PathLike[str] | None, kind: str, also: Iterable[str] = ()) -> None:
        """Refuse, before any work, a destination that may not be replaced; ``also`` names files that come beside it.

        Raises:
            UsageError: two things are to be written to one place.
            WriteError: something stands there that netferry cannot show to be its own.
        """
        if destination is None:
            return
        path = Path(destination)
        if not is_plain(path.name) or path.name == NAME:
            raise UsageError("names no file or folder to write", where=str(path))
        position = path.absolute()
        if self._asked.setdefault(position, kind) != kind:
            raise UsageError(
                f"both the {self._asked[position]} and the {kind} are to be written here", where=str(path)
            )
        try:
            folder = Folder.open(path.parent)
        except OSError:
            return  # nothing stands there; that it cannot be made is told when it is
        with folder:
            for name in (*also, path.name):
                self.demand_entry(folder, name, path.name, kind)

    def demand_entry(
        self, folder: Folder, name: str, main: str, kind: str, new: frozenset[str] = frozenset()
    ) -> None:
        """The same for one entry of an open folder; ``new`` are the files that take the place of a folder's."""
        where = str(folder.path / name)
        found = folder.stat(name)
        if found is None:
            return
        if not self.force:
            self._spare_sources(folder, name, where)
        known = saves(folder)
        save = (known or {}).get(main)
        if stat.S_ISDIR(found.st_mode):
            self._demand_folder(folder, name, save, kind, new, where)
            return
        if self.force:
            return
        recorded = None if save is None else save.files.get(name)
        if save is None or recorded is None:
            hint = f" (the record {NAME} beside it is damaged or another's)" if known is None else ""
            raise WriteError(
                f"it stands there already, and was not written here by netferry{hint}",
                where=where,
                remedy=_FORCE,
            )
        if save.kind != kind:
            raise WriteError(
                "it stands there already, and is something else",
                where=where, expected=kind, received=save.kind, remedy=_FORCE,
            )  # fmt: skip
        if self._content(folder, name) != recorded:
            raise WriteError("it was changed after netferry had written it", where=where, remedy=_FORCE)
        self._spare_origin([recorded], where)

    def _spare_origin(self, contents: Iterable[Content], where: str) -> None:
        if set(contents) & set(self.made_from()):
            raise WriteError("the source was made from this", where=where, remedy=_FORCE)

    def _demand_folder(
        self, folder: Folder, name: str, save: Save | None, kind: str, new: frozenset[str], where: str
    ) -> None:
        """A folder of ours goes as it was written; an empty one may be filled."""
        recorded = {} if save is None or save.kind != kind else save.files
        others, changed = [], []
        try:
            for inner, file, position in folder.files(name, passing=MADE_BY_PYTHON):
                if position not in recorded and not (self.force and (not new or position in new)):
                    others.append(position)
                elif not self.force and self._content(inner, file) != recorded[position]:
                    changed.append(position)
        except StrangeError as error:
            others.append(str(error.filename))
        if others:
            raise WriteError(
                "the folder holds other files, which would be lost",
                where=where,
                received=", ".join(sorted(others)[:3]),
                remedy="Choose an empty or a new folder; with --force files of the same names are replaced",
            )
        if changed:
            raise WriteError(
                "files in it were changed after netferry had written them",
                where=where, received=", ".join(changed[:3]), remedy=_FORCE,
            )  # fmt: skip
        if not self.force:
            self._spare_origin(recorded.values(), where)

    def _content(self, folder: Folder, name: str) -> Content | None:
        """What a file is known by, digested once as long as it stands still; None of what is no regular file."""
        found = folder.stat(name)
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if key not in self._known:
            try:
                self._known[key] = folder.content(name)
            except OSError:
                return None
        return self._known[key]

    def _spare_sources(self, folder: Folder, name: str, where: str) -> None:
        position = folder.path / name
        for source in self._paths():
            with contextlib.suppress(OSError):
                inside = source.resolve().is_relative_to(position.resolve())
                if inside or position.samefile(source):
                    raise WriteError(
                        "this is the source itself, which its result would replace",
                        where=where,
                        remedy=_FORCE,
                    )

    def _paths(self) -> Iterator[Path]:
        """The sources that are files or folders; of a factory the file that holds it."""
        for source in self.sources:
            if isinstance(source, str | os.PathLike):
                text = os.fspath(source)
                name, found, _ = text.rpartition(":")
                path = Path(name if found and name.endswith(".py") and not os.path.lexists(text) else text)
                yield path
                if path.is_dir():
                    yield from path.glob("*-symbol.json")  # the folder of an MXNet model stands for it

    def made_from(self) -> tuple[Content, ...]:
        """The files of those sources that netferry has written, and of what these were made from."""
        found: dict[Content, None] = {}
        for path in self._paths():
            with contextlib.suppress(OSError), Folder.passed(path.parent) as folder:
                save = (saves(folder) or {}).get(path.name)
                if save is not None:
                    found |= dict.fromkeys(save.files.values())
                    found |= dict.fromkeys(save.made_from)
        return tuple(found)[:_MOST_ORIGINS]
