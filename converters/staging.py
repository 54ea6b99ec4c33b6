"""How results reach the disk: staged beside their destination, synced, then put in place as one.

While a save goes on, ``.netferry-<digest of the name>`` stands beside the destination:

    new/      what is being written
    ready/    the same, whole and synced: renaming new/ to ready/ is the commit
    moves     which entry is the new one of the two that have changed places (their inodes)
    old/      what was there before, until all is in place
    done/     what ready/ is called then

The folder is locked by whoever writes it, and the lock ends with its process. So a folder without a lock was
left by a process that was killed: one with ``ready/`` is finished by whoever comes next, writer or reader
(``steadily``), any other one is removed. What it was to replace stands as it stood in both cases.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from netferry.converters.errors import NetferryError, RefusedError, WriteError

try:
    import fcntl
except ImportError:  # Windows: the folder itself is the lock
    fcntl = None  # type: ignore[assignment]

_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_AT_FDCWD = -100
_TRIES = 100
_PATIENCE = 10.0  # seconds that a reader waits for a writer that is putting files in place


T = TypeVar("T")


class _TakenError(Exception):
    """Somebody else holds the folder."""


@contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """A path to write to instead of ``destination``; what was written there is put in place at the end.

    Everything written beside the staged path (external data) goes along, the main file last. If the body
    raises, or putting in place fails, the old files stand as they stood and nothing else is left. A folder is
    replaced only where the new model has a file for each of the old one's. Of two that write the same
    destination at once the second gets a ``WriteError``.
    """
    try:
        with _locked(_stage_of(destination)) as stage:
            _recover(stage, destination.parent)
            new = stage / "new"
            new.mkdir()
            yield new / destination.name
            entries = sorted(new.iterdir(), key=lambda entry: entry.name == destination.name)
            for entry in entries:
                _may_replace(destination.with_name(entry.name), entry)
            _commit(stage, entries, destination.parent)
    except WriteError as error:
        if error.where:
            raise
        raise error.at(str(destination)) from error
    except _TakenError:
        raise WriteError(
            "another process is writing this", where=str(destination), remedy="Wait until it has ended"
        ) from None
    except OSError as error:
        raise WriteError(
            f"cannot write here ({error.strerror or error})",
            where=str(destination),
            remedy="Choose another destination, or make room there",
        ) from error


def sweep(destination: Path) -> None:
    """Remove what a killed process has left beside ``destination``, or finish what it had committed."""
    stage = _stage_of(destination)
    with contextlib.suppress(OSError, _TakenError):
        if stage.is_dir():
            with _locked(stage):
                _recover(stage, destination.parent)


def steadily(path: Path, read: Callable[[], T]) -> T:
    """What ``read`` gives of ``path`` and the files beside it, all of one save: read again if another came between."""
    for _ in range(_TRIES):
        _settle(path)
        before = _stamp(path)
        try:
            result = read()
        except (NetferryError, OSError):
            if before == _stamp(path) and not _in_motion(path):
                raise
            continue
        if before == _stamp(path) and not _in_motion(path):
            return result
    raise RefusedError("it was replaced again and again while it was read", where=str(path))


def _settle(path: Path) -> None:
    """Finish a save of ``path`` that was cut off while its files were put in place; wait for one that goes on."""
    stage = _stage_of(path)
    until = time.monotonic() + _PATIENCE
    while _in_motion(path):
        try:
            with _locked(stage):
                _recover(stage, path.parent)
        except _TakenError:
            if time.monotonic() > until:
                raise RefusedError("another process is still writing this", where=str(path)) from None
            time.sleep(0.01)
        except OSError as error:
            raise RefusedError(
                f"a save of this was cut off, and cannot be finished here ({error.strerror})",
                where=str(path),
                remedy="Give this folder the right to be written to, or save the model anew",
            ) from error


def _in_motion(path: Path) -> bool:
    """Whether files are just being put in place: what was read meanwhile may be of two saves."""
    return (_stage_of(path) / "ready").is_dir()


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes with every save: the main file comes last."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _stage_of(destination: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(destination.name)).hexdigest()[:16]
    return destination.with_name(f".netferry-{digest}")


@contextmanager
def held(folder: Path) -> Iterator[Path]:
    """``folder``, made where it is not there, and no other process's meanwhile; what is in it stays.

    Raises ``WriteError`` where another process holds it, or where it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        handle = None if fcntl is None else _take(folder)
    except _TakenError:
        raise WriteError(
            "another process is writing this", where=str(folder), remedy="Wait until it has ended"
        ) from None
    except OSError as error:
        raise WriteError(
            f"cannot write here ({error.strerror or error})",
            where=str(folder),
            remedy="Choose another destination, or make room there",
        ) from error
    try:
        yield folder
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def _locked(stage: Path) -> Iterator[Path]:
    """The folder ``stage``, made where it is not there, and nobody else's until it is removed at the end."""
    handle = _take(stage)
    try:
        yield stage
    finally:
        try:
            shutil.rmtree(stage, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        if handle is not None:
            os.close(handle)


def _take(stage: Path) -> int | None:
    """Lock the folder; a folder that its owner removed between our opening and our locking is none."""
    while True:
        try:
            stage.mkdir()
        except FileExistsError:
            if fcntl is None:
                raise _TakenError from None
        if fcntl is None:
            return None
        handle = -1
        try:
            handle = os.open(stage, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_ino == stage.stat().st_ino:
                return handle
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(handle)
            raise _TakenError from None
        if handle >= 0:
            os.close(handle)


_MADE_BY_PYTHON = {"__pycache__"}
"""What appears in a folder of a written module when it is imported, and may go."""


def _may_replace(destination: Path, new: Path) -> None:
    """A file takes a file's place and a folder that of its like, never that of a person's other files."""
    if destination.is_dir() and not new.is_dir():
        raise WriteError("a folder stands in the way", where=str(destination))
    if not destination.is_dir():
        return
    others = (
        {entry.name for entry in destination.iterdir()}
        - {entry.name for entry in new.iterdir()}
        - _MADE_BY_PYTHON
    )
    if others:
        raise WriteError(
            "the folder holds other files, which would be lost",
            where=str(destination),
            received=", ".join(sorted(others)[:3]),
            remedy="Choose an empty or a new folder",
        )


def _commit(stage: Path, entries: Sequence[Path], folder: Path) -> None:
    """From here on the save happened, and is finished even by another process."""
    for entry in entries:
        for file in [entry] if entry.is_file() else [f for f in entry.rglob("*") if f.is_file()]:
            _sync(file)
    moves = {entry.name: entry.stat().st_ino for entry in entries}
    (stage / "moves").write_text(json.dumps(moves), encoding="utf-8")
    _sync(stage / "moves")
    (stage / "old").mkdir()
    (stage / "new").rename(stage / "ready")
    try:
        _put_in_place(stage, folder)
    except BaseException:  # Ctrl-C too
        _take_back(stage, folder)
        raise
    _sync(folder)
    (stage / "ready").rename(stage / "done")


def _recover(stage: Path, folder: Path) -> None:
    """Finish what a killed process had committed; forget what it had not."""
    if (stage / "ready").is_dir():
        (stage / "old").mkdir(exist_ok=True)
        _put_in_place(stage, folder)
        (stage / "ready").rename(stage / "done")
    for left in stage.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _put_in_place(stage: Path, folder: Path) -> None:
    """Move each entry that is still in ``ready`` and is still the new one, in the order of ``moves``."""
    moves = json.loads((stage / "moves").read_text(encoding="utf-8"))
    for name, inode in moves.items():
        entry, place = stage / "ready" / name, folder / name
        if not entry.exists() or entry.stat().st_ino != inode:
            continue
        if entry.is_dir() and place.exists():
            _exchange(entry, place, stage / "old" / name)
            continue
        if place.exists():
            (stage / "old" / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a file system without links has no way back, only forward
                os.link(place, stage / "old" / name)
        entry.replace(place)


def _take_back(stage: Path, folder: Path) -> None:
    """Undo what ``_put_in_place`` did: an entry that is not in ``ready`` any more, or is the old one there."""
    void = (stage / "ready").rename(stage / "void")
    moves = json.loads((stage / "moves").read_text(encoding="utf-8"))
    for name, inode in moves.items():
        entry, place, old = void / name, folder / name, stage / "old" / name
        if entry.exists() and entry.stat().st_ino == inode:
            continue
        if entry.is_dir():
            _exchange(entry, place, stage / "done")
        elif old.exists():
            old.replace(place)
        else:
            place.unlink(missing_ok=True)


def _exchange(entry: Path, place: Path, aside: Path) -> None:
    """``entry`` and ``place`` change places in one step where the system can; else the old one goes aside first."""
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        paths = (os.fsencode(entry), os.fsencode(place))
        if rename is not None and rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _EXCHANGE) == 0:
            return
    place.rename(aside)
    entry.rename(place)


def _sync(path: Path) -> None:
    if fcntl is None and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if fcntl is not None else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
