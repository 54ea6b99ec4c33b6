"""How results reach the disk: staged beside their destination, synced, then put in place as one.

While a save goes on, ``.netferry-<digest of the name>`` stands beside the destination:

    seal, mark   made first; ``mark`` tells when ``seal`` was made, which no copy of a folder and no archive can imitate
    new/         what is being written
    ready/       the same, whole and synced: renaming new/ to ready/ is the commit
    moves        what is in ready/: the inode of each entry, and the digest and inode of each file
    old/         what was there before, until all is in place
    done/        what ready/ is called then

The folder is locked by whoever writes it, and the lock ends with its process. So a folder without a lock was
left by a process that was killed: one with ``ready/`` is finished by whoever comes next, writer or reader
(``steadily``); writers remove what is left, readers remove nothing. What it was to replace stands as it stood in both
cases. This holds for this user's own folders alone, and only as they were left: any other is refused by its name, and
nothing in it is touched. Everything happens by handles of the folders, and no link in them is followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from netferry.converters.disk import ledger
from netferry.converters.disk.folders import Content, Folder, StrangeError, is_plain
from netferry.converters.disk.ledger import Overwriting, Save
from netferry.converters.errors import NetferryError, RefusedError, WriteError

try:
    import fcntl
except ImportError:  # Windows: the folder itself is the lock
    fcntl = None  # type: ignore[assignment]

_TRIES = 100
_PATIENCE = 10.0  # seconds that a reader waits for a writer that is putting files in place
_A_MOMENT = 0.2  # seconds in which somebody who only looks at a folder lets go of it
_NAME = re.compile(r"\.netferry-[0-9a-f]{16}")
_OURS = ("new", "ready", "old", "done", "void", "aside", "moves", "ledger")
"""All that a save makes in its folder, beside the seal."""

_SEAL, _MARK = "seal", "mark"

T = TypeVar("T")


class _TakenError(Exception):
    """Somebody else holds the folder."""


class _ForeignError(Exception):
    """The folder ``name`` is not one that this user's netferry has left there."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


@contextmanager
def staged(destination: Path, kind: str = "result", replacing: Overwriting | None = None) -> Iterator[Path]:
    """A path to write to instead of ``destination``; what was written there is put in place at the end.

    Everything written beside the staged path (external data) goes along, the main file last. If the body
    raises, or putting in place fails, the old files stand as they stood and nothing else is left. What stands there
    already is replaced as ``replacing`` allows; what was written is remembered as a ``kind``. Of two that write the same
    destination at once the second gets a ``WriteError``.
    """
    replacing = replacing or Overwriting()
    with _told(destination), Folder.open(destination.parent) as folder:
        _sweep_all(folder)
        with _staging(folder, _stage_name(destination.name)) as stage:
            replacing.demand(destination, kind)
            stage.make("new").close()
            yield stage.path / "new" / destination.name
            _commit(stage, folder, destination.name, kind, replacing)


@contextmanager
def _told(destination: Path) -> Iterator[None]:
    """What goes wrong, as an error of writing ``destination``."""
    try:
        yield
    except WriteError as error:
        if error.where:
            raise
        raise error.at(str(destination)) from error
    except _TakenError:
        raise WriteError(
            "another process is writing this", where=str(destination), remedy="Wait until it has ended"
        ) from None
    except _ForeignError as error:
        raise WriteError(
            f"{error.name}, where this would be staged, is not netferry's own ({error})",
            where=str(destination),
            remedy="Look into it, and move it away",
        ) from None
    except OSError as error:
        raise WriteError(
            f"cannot write here ({error.strerror or error})",
            where=str(destination),
            remedy="Choose another destination, or make room there",
        ) from error


def demand(
    destination: str | os.PathLike[str] | None, kind: str, replacing: Overwriting, also: Sequence[str] = ()
) -> None:
    """Refuse, before any work, a destination that may not be replaced, or beside which a foreign folder stands in the way.

    ``also`` names files that are written beside it. A save that was cut off is finished first.
    """
    if destination is None:
        return
    path = Path(destination)
    if is_plain(path.name):
        _demand_own_at(path, _stage_name(path.name))
    steadily(path, lambda: replacing.demand(path, kind, also))


def demand_own(path: Path) -> None:
    """Refuse, before any work, a folder that is to be ``held`` and is not one of netferry's own."""
    _demand_own_at(path, path.name)


def _demand_own_at(path: Path, name: str) -> None:
    with _told(path), contextlib.suppress(FileNotFoundError), Folder.open(path.parent) as folder:
        if folder.stat(name) is not None:
            with contextlib.suppress(_TakenError), _opened(folder, name) as stage:
                _lock(stage)
                _demand_own(stage, name)


def sweep(destination: Path) -> None:
    """Remove what a killed process has left beside ``destination``, or finish what it had committed."""
    with contextlib.suppress(OSError), Folder.open(destination.parent) as folder:
        _sweep_all(folder)


def _sweep_all(folder: Folder) -> None:
    """Clear what this user's dead processes have left in a folder; what is anybody else's is left."""
    for name in folder.names() if fcntl is not None and folder.handle is not None else ():
        if not _NAME.fullmatch(name):
            continue
        with contextlib.suppress(OSError, _TakenError, _ForeignError), _opened(folder, name) as stage:
            _lock(stage)
            _demand_own(stage, name)
            if not _is_bare(stage):
                _recover(stage, folder)
            _dissolve(stage, folder, name)


# ---- readers ----------------------------------------------------------------------------------------


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


def finish(path: Path) -> None:
    """Finish a save of ``path`` that was cut off, for a reader that may not write there; whatever hinders is his to tell."""
    with contextlib.suppress(OSError, ValueError, _TakenError, _ForeignError):  # a name may be none
        if _in_motion(path):
            _finish(path)


def _finish(path: Path) -> None:
    name = _stage_name(path.name)
    with Folder.open(path.parent) as folder, _opened(folder, name) as stage:
        _lock(stage)
        _demand_own(stage, name)
        _recover(stage, folder)


def _settle(path: Path) -> None:
    """Finish a save of ``path`` that was cut off while its files were put in place; wait for one that goes on."""
    until = time.monotonic() + _PATIENCE
    while _in_motion(path):
        try:
            _finish(path)
        except FileNotFoundError:
            continue
        except _TakenError:
            if time.monotonic() > until:
                raise RefusedError("another process is still writing this", where=str(path)) from None
            time.sleep(0.01)
        except _ForeignError as error:
            raise RefusedError(
                f"{error.name} beside it is no save of netferry's that was cut off ({error})",
                where=str(path),
                remedy="Look into it, and move it away",
            ) from None
        except OSError as error:
            raise RefusedError(
                f"a save of this was cut off, and cannot be finished here ({error.strerror})",
                where=str(path),
                remedy="Give this folder the right to be written to, or save the model anew",
            ) from error


def _in_motion(path: Path) -> bool:
    """Whether files are just being put in place: what was read meanwhile may be of two saves."""
    stage = path.parent / _stage_name(path.name)
    try:
        if stat.S_ISDIR(os.lstat(stage).st_mode):
            os.lstat(stage / "ready")
    except OSError:
        return False
    return True  # what is no folder is looked at like a save that is ready, and refused


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes with every save: the main file comes last."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


# ---- folders of one's own ---------------------------------------------------------------------------


def _stage_name(name: str) -> str:
    return f".netferry-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"


@contextmanager
def held(path: Path) -> Iterator[Path]:
    """The folder ``path``, made where it is not there, and no other process's meanwhile; what is in it stays.

    Raises ``WriteError`` where another process holds it, where it cannot be made, or where a folder stands there
    that netferry has not made.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with Folder.open(path.parent) as folder:
            stage = _take(folder, path.name, stays=True)
    with stage:
        yield path


def dissolve(path: Path, files: Sequence[str]) -> None:
    """Remove ``files`` of a folder that is ``held``, and the folder itself where nothing else is in it."""
    with (
        contextlib.suppress(OSError, _ForeignError),
        Folder.open(path.parent) as folder,
        _opened(folder, path.name) as stage,
    ):
        _demand_own(stage, path.name)
        _dissolve(stage, folder, path.name, files)


@contextmanager
def _staging(folder: Folder, name: str) -> Iterator[Folder]:
    """The empty stage of a save; it goes at the end, but for what strangers have put there."""
    with _take(folder, name) as stage:
        _recover(stage, folder)  # where it is damaged it stays as it is
        try:
            _clear(stage, _OURS)
            yield stage
        finally:
            try:
                _dissolve(stage, folder, name)
            except KeyboardInterrupt:
                _dissolve(stage, folder, name)
                raise


def _take(folder: Folder, name: str, *, stays: bool = False) -> Folder:
    """The folder ``name``, sealed and locked; made where it is not there. Where nothing can be locked one that ``stays``
    is taken as it is, and any other is somebody's."""
    until = time.monotonic() + _A_MOMENT
    while True:
        stage: Folder | None = None
        with contextlib.suppress(FileExistsError):
            stage = folder.make(name, 0o700)
        fresh = stage is not None
        try:
            stage = stage or _opened(folder, name)
            _lock(stage)
            found = folder.stat(name)
            if found is not None and found.st_ino == stage.found.st_ino:
                _adopt(stage, name, fresh, stays)
                return stage
        except FileNotFoundError:
            pass
        except _TakenError:
            if time.monotonic() > until:
                _close(stage)
                raise
            time.sleep(0.005)  # whoever only looks at it lets go
        except BaseException:
            if stage is not None and fresh:
                _dissolve(stage, folder, name)
            _close(stage)
            raise
        _close(stage)


def _adopt(stage: Folder, name: str, fresh: bool, stays: bool) -> None:
    """Make a locked folder one's own: seal a new one, look at one that was left."""
    if not fresh:
        _demand_own(stage, name)
        if not stays and not _can_lock(stage):
            raise _TakenError
    if _is_bare(stage):
        _seal(stage)


def _close(stage: Folder | None) -> None:
    if stage is not None:
        stage.close()


def _can_lock(stage: Folder) -> bool:
    return fcntl is not None and stage.handle is not None


def _lock(stage: Folder) -> None:
    if fcntl is not None and stage.handle is not None:
        try:
            fcntl.flock(stage.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _TakenError from None


def _opened(folder: Folder, name: str) -> Folder:
    """A folder that stands there, which is no link and can be entered."""
    shown = name if _NAME.fullmatch(name) or not _NAME.fullmatch(folder.path.name) else folder.path.name
    try:
        return folder.folder(name)
    except StrangeError as error:
        raise _ForeignError(
            shown, f"{name} is {error.strerror}" if shown != name else str(error.strerror)
        ) from None
    except PermissionError:
        raise _ForeignError(shown, "another user's") from None


def _demand_own(stage: Folder, name: str) -> None:
    """Refuse a folder that this user's netferry has not made here: another's, open to others, or without a true seal."""
    if hasattr(os, "geteuid") and stage.found.st_uid != os.geteuid():
        raise _ForeignError(name, "another user's")
    if hasattr(os, "geteuid") and stage.found.st_mode & 0o077:
        raise _ForeignError(name, "open to other users")
    if _is_bare(stage):
        return
    try:
        seal, mark = stage.stat(_SEAL), json.loads(stage.read(_MARK))
        sealed = seal is not None and mark == {"sealed": seal.st_ctime_ns}
    except (OSError, ValueError, RecursionError):
        sealed = False
    if not sealed:
        raise _ForeignError(name, "it lacks the seal that it was made with")


def _seal(stage: Folder) -> None:
    for name in (_MARK, _SEAL):
        stage.unlink(name)
    stage.write(_SEAL, b"", 0o600)
    seal = stage.stat(_SEAL)
    made = None if seal is None else seal.st_ctime_ns
    stage.write(_MARK, json.dumps({"sealed": made}).encode(), 0o600)


def _is_bare(stage: Folder) -> bool:
    """Whether it is between being made and being sealed: nothing in it but what the seal begins with."""
    found = [(name, stage.stat(name)) for name in stage.names()]
    return all(name in (_SEAL, _MARK) and one is not None and one.st_size == 0 for name, one in found)


def _clear(stage: Folder, names: Sequence[str]) -> None:
    for name in names:
        stage.remove(name)


def _dissolve(stage: Folder, folder: Folder, name: str, files: Sequence[str] = _OURS) -> None:
    """Remove what is ours in a folder, and the folder where nothing else is in it."""
    with contextlib.suppress(OSError):
        _clear(stage, files)
        if set(stage.names()) <= {_SEAL, _MARK}:
            _clear(stage, (_MARK, _SEAL))
            folder.rmdir(name)


# ---- putting in place -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Move:
    """An entry that goes to its place: its own inode, and what each of its files is known by."""

    inode: int
    files: Mapping[str, Content]


@dataclass(frozen=True)
class _Moves:
    """A save that is ready: its entries in the order in which they go, and what is to be remembered of it."""

    main: str
    entries: Mapping[str, _Move]
    save: Save

    def to_json(self) -> dict[str, Any]:
        entries = {name: {"inode": one.inode, "files": one.files} for name, one in self.entries.items()}
        return {"main": self.main, "entries": entries, "save": self.save.to_json()}


def _commit(stage: Folder, folder: Folder, main: str, kind: str, replacing: Overwriting) -> None:
    """From here on the save happened, and is finished even by another process."""
    entries: dict[str, _Move] = {}
    with stage.folder("new") as new:
        for name in sorted(new.names(), key=lambda name: name == main):
            found = new.stat(name)
            assert found is not None
            files = {place: inner.content(file, sync=True) for inner, file, place in new.files(name)}
            _may_replace(folder, name, found, main, kind, frozenset(files), replacing)
            entries[name] = _Move(found.st_ino, files)
    if not entries:
        return
    written = {place: content for one in entries.values() for place, content in one.files.items()}
    moves = _Moves(main, entries, Save(kind, written, replacing.made_from()))
    stage.write("moves", json.dumps(moves.to_json()).encode(), 0o600)
    stage.make("old").close()
    stage.move("new", stage, "ready")
    before = (ledger.saves(folder) or {}).get(main)
    try:
        _put_in_place(stage, folder, moves)
        folder.sync()
        ledger.put(folder, main, moves.save, stage)
    except BaseException:  # Ctrl-C too
        _take_back(stage, folder, moves)
        with contextlib.suppress(OSError):
            ledger.put(folder, main, before, stage)
        raise
    stage.move("ready", stage, "done")


def _may_replace(
    folder: Folder,
    name: str,
    new: os.stat_result,
    main: str,
    kind: str,
    files: frozenset[str],
    replacing: Overwriting,
) -> None:
    """A file takes a file's place and a folder that of its like, and only what was netferry's own goes."""
    there = folder.stat(name)
    if there is not None and stat.S_ISDIR(there.st_mode) and not stat.S_ISDIR(new.st_mode):
        raise WriteError("a folder stands in the way", where=str(folder.path / name))
    replacing.demand_entry(folder, name, main, kind, files)


def _recover(stage: Folder, folder: Folder) -> None:
    """Finish what a killed process had committed, once it is known to be whole."""
    if stage.stat("ready") is None:
        return
    moves = _left(stage)
    with _opened(stage, "ready") as ready:
        _demand_whole(ready, folder, moves, stage.path.name)
    if stage.stat("old") is None:
        stage.make("old").close()
    _put_in_place(stage, folder, moves)
    ledger.put(folder, moves.main, moves.save, stage)
    stage.move("ready", stage, "done")


def _left(stage: Folder) -> _Moves:
    """What ``moves`` says, which must be what this stage's save wrote there."""
    try:
        found = json.loads(stage.read("moves"))
        entries = {
            name: _Move(int(one["inode"]), ledger.contents(one["files"]))
            for name, one in found["entries"].items()
        }
        moves = _Moves(str(found["main"]), entries, ledger.save_of(found["save"]))
    except ledger.FAULTS:
        raise _ForeignError(stage.path.name, "its list of files is damaged") from None
    if not all(map(is_plain, (moves.main, *entries))) or _stage_name(moves.main) != stage.path.name:
        raise _ForeignError(stage.path.name, "its list names files that are not this save's")
    return moves


def _demand_whole(ready: Folder, folder: Folder, moves: _Moves, stage: str) -> None:
    """Each entry is ready as it was written, or in its place already; and there are no others."""
    strange = set(ready.names()) - set(moves.entries)
    for name, move in moves.entries.items():
        here, there = ready.stat(name), folder.stat(name)
        if here is not None and here.st_ino == move.inode:
            try:
                files = {place: inner.content(file) for inner, file, place in ready.files(name)}
            except OSError:
                files = {}
            if files != move.files:
                strange.add(name)
        elif there is None or there.st_ino != move.inode:
            strange.add(name)
    if strange:
        raise _ForeignError(stage, f"{', '.join(sorted(strange)[:3])} in it is not as it was written")


def _put_in_place(stage: Folder, folder: Folder, moves: _Moves) -> None:
    """Move each entry that is still in ``ready`` and is still the new one."""
    with stage.folder("ready") as ready, stage.folder("old") as old:
        for name, move in moves.entries.items():
            here, there = ready.stat(name), folder.stat(name)
            if here is None or here.st_ino != move.inode:
                continue
            if there is not None and stat.S_ISDIR(here.st_mode) and ready.exchange(name, folder):
                continue
            if there is not None:
                old.remove(name)
                _set_aside(folder, name, there, old)
            ready.move(name, folder)


def _set_aside(folder: Folder, name: str, there: os.stat_result, old: Folder) -> None:
    """Keep what is to be replaced: a file stays in its place meanwhile, where the file system has links."""
    if not stat.S_ISDIR(there.st_mode):
        with contextlib.suppress(OSError):
            folder.link(name, old)
            return
    folder.move(name, old)


def _take_back(stage: Folder, folder: Folder, moves: _Moves) -> None:
    """Undo what ``_put_in_place`` did: an entry that is not in ``ready`` any more, or is the old one there."""
    stage.move("ready", stage, "void")
    with stage.folder("void") as void, stage.folder("old") as old:
        for name, move in moves.entries.items():
            here, there, kept = void.stat(name), folder.stat(name), old.stat(name)
            if here is not None and here.st_ino == move.inode:  # it was not moved; the old one was, perhaps
                if there is None and kept is not None:
                    old.move(name, folder)
                continue
            if here is not None and void.exchange(name, folder):
                continue
            if there is not None and (here is not None or kept is None or stat.S_ISDIR(there.st_mode)):
                folder.move(name, stage, "aside")
                stage.remove("aside")
            if here is not None or kept is not None:
                (old if here is None else void).move(name, folder)
