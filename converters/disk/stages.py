"""Folders that one process at a time owns: sealed when they are made, locked while they are used.

``staging`` says what seal and mark are for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from netferry.converters.disk.folders import Folder, StrangeError
from netferry.converters.errors import WriteError

try:
    import fcntl
except ImportError:  # Windows: the folder itself is the lock
    fcntl = None  # type: ignore[assignment]

_A_MOMENT = 0.2  # seconds in which somebody who only looks at a folder lets go of it
STAGE_NAME = re.compile(r"\.netferry-[0-9a-f]{16}")
OURS = ("new", "ready", "old", "done", "void", "aside", "moves", "ledger")
"""All that a save makes in its folder, beside the seal."""

_SEAL, _MARK = "seal", "mark"


class TakenError(Exception):
    """Somebody else holds the folder."""


class ForeignError(Exception):
    """The folder ``name`` is not one that this user's netferry has left there."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


@contextmanager
def as_write_errors(destination: Path) -> Iterator[None]:
    """What goes wrong, as an error of writing ``destination``."""
    try:
        yield
    except WriteError as error:
        if error.where:
            raise
        raise error.at(str(destination)) from error
    except TakenError:
        raise WriteError(
            "another process is writing this", where=str(destination), remedy="Wait until it has ended"
        ) from None
    except ForeignError as error:
        raise WriteError(
            f"{error.name}, where this would be staged, is not netferry's own ({error})",
            where=str(destination),
            remedy="Look into it, and move it away",
        ) from None
    except OSError as error:
        raise WriteError(
            f"cannot write here ({error.strerror or error})",
            where=str(destination),
            remedy=_way_out(error, destination),
        ) from error


def _way_out(error: OSError, destination: Path) -> str:
    """What a person can do about a destination that does not take a file."""
    folder = destination.parent
    if isinstance(error, FileNotFoundError) and not folder.is_dir():
        return f"There is no folder {folder}: make it first, or choose another destination"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room there, or choose another destination"
    return "Choose another destination, or ask for the right to write there"


def demand_own(path: Path) -> None:
    """Refuse, before any work, a folder that is to be ``locked`` and is not one of netferry's own."""
    demand_own_at(path, path.name)


def demand_own_at(path: Path, name: str) -> None:
    with as_write_errors(path), contextlib.suppress(FileNotFoundError), Folder.open(path.parent) as folder:
        if folder.stat(name) is not None:
            with contextlib.suppress(TakenError), opened(folder, name) as stage:
                lock(stage)
                demand_own_stage(stage, name)


def stage_name(name: str) -> str:
    return f".netferry-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


@contextmanager
def locked(path: Path) -> Iterator[Path]:
    """The folder ``path``, made where it is not there, and no other process's meanwhile; what is in it stays.

    Raises ``WriteError`` where another process holds it, where it cannot be made, or where a folder stands there
    that netferry has not made.
    """
    with as_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Folder.open(path.parent) as folder:
            stage = take(folder, path.name, stays=True)
    with stage:
        yield path


def dissolve(path: Path, files: Sequence[str]) -> None:
    """Remove ``files`` of a folder that is ``locked``, and the folder itself where nothing else is in it."""
    with (
        contextlib.suppress(OSError, ForeignError),
        Folder.open(path.parent) as folder,
        opened(folder, path.name) as stage,
    ):
        demand_own_stage(stage, path.name)
        remove_own(stage, folder, path.name, files)


def take(folder: Folder, name: str, *, stays: bool = False) -> Folder:
    """The folder ``name``, sealed and locked; made where it is not there. Where nothing can be locked one that ``stays``
    is taken as it is, and any other is somebody's."""
    until = time.monotonic() + _A_MOMENT
    while True:
        stage: Folder | None = None
        fresh = False
        with contextlib.suppress(FileExistsError):
            folder.mkdir(name, 0o700)
            fresh = True
        try:
            stage = opened(folder, name)
            lock(stage)
            found = folder.stat(name)
            if found is not None and found.st_ino == stage.found.st_ino:
                _adopt(stage, name, fresh, stays)
                return stage
        except FileNotFoundError:
            pass  # another process took the folder away, which is nobody's until it is locked
        except TakenError:
            if time.monotonic() > until:
                _close(stage)
                raise
            time.sleep(0.005)  # whoever only looks at it lets go
        except BaseException:
            if stage is not None and fresh:
                remove_own(stage, folder, name)
            _close(stage)
            raise
        _close(stage)


def _adopt(stage: Folder, name: str, fresh: bool, stays: bool) -> None:
    """Make a locked folder one's own: seal a new one, look at one that was left."""
    if not fresh:
        demand_own_stage(stage, name)
        if not stays and not can_lock(stage):
            raise TakenError
    if is_bare(stage):
        _seal(stage)


def _close(stage: Folder | None) -> None:
    if stage is not None:
        stage.close()


def can_lock(stage: Folder) -> bool:
    return fcntl is not None and stage.handle is not None


def lock(stage: Folder) -> None:
    if fcntl is not None and stage.handle is not None:
        try:
            fcntl.flock(stage.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TakenError from None


def opened(folder: Folder, name: str) -> Folder:
    """A folder that stands there, which is no link and can be entered."""
    shown = (
        name if STAGE_NAME.fullmatch(name) or not STAGE_NAME.fullmatch(folder.path.name) else folder.path.name
    )
    try:
        return folder.folder(name)
    except StrangeError as error:
        raise ForeignError(
            shown, f"{name} is {error.strerror}" if shown != name else str(error.strerror)
        ) from None
    except PermissionError:
        raise ForeignError(shown, "another user's") from None


def demand_own_stage(stage: Folder, name: str) -> None:
    """Refuse a folder that this user's netferry has not made here: another's, open to others, or without a true seal."""
    if hasattr(os, "geteuid") and stage.found.st_uid != os.geteuid():
        raise ForeignError(name, "another user's")
    if hasattr(os, "geteuid") and stage.found.st_mode & 0o077:
        raise ForeignError(name, "open to other users")
    if is_bare(stage):
        return
    try:
        seal, mark = stage.stat(_SEAL), json.loads(stage.read(_MARK))
        sealed = seal is not None and mark == {"sealed": seal.st_ctime_ns}
    except (OSError, ValueError, RecursionError):
        sealed = False
    if not sealed:
        raise ForeignError(name, "it lacks the seal that it was made with")


def _seal(stage: Folder) -> None:
    for name in (_MARK, _SEAL):
        stage.unlink(name)
    stage.write(_SEAL, b"", 0o600)
    seal = stage.stat(_SEAL)
    made = None if seal is None else seal.st_ctime_ns
    stage.write(_MARK, json.dumps({"sealed": made}).encode(), 0o600)


def is_bare(stage: Folder) -> bool:
    """Whether it is between being made and being sealed: nothing in it but what the seal begins with."""
    found = [(name, stage.stat(name)) for name in stage.names()]
    return all(name in (_SEAL, _MARK) and one is not None and one.st_size == 0 for name, one in found)


def clear(stage: Folder, names: Sequence[str]) -> None:
    for name in names:
        stage.remove(name)


def remove_own(stage: Folder, folder: Folder, name: str, files: Sequence[str] = OURS) -> None:
    """Remove what is ours in a folder, and the folder where nothing else is in it."""
    with contextlib.suppress(OSError):
        clear(stage, files)
        if set(stage.names()) <= {_SEAL, _MARK}:
            clear(stage, (_MARK, _SEAL))
            folder.rmdir(name)
