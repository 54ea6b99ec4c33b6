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
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from netferry.converters.disk.commit import commit, recover
from netferry.converters.disk.folders import Folder, is_plain
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.disk.stages import (
    OURS,
    STAGE_NAME,
    ForeignError,
    TakenError,
    as_write_errors,
    can_lock,
    clear,
    demand_own_at,
    demand_own_stage,
    is_bare,
    lock,
    opened,
    remove_own,
    stage_name,
    take,
)
from netferry.converters.errors import NetferryError, RefusedError

_TRIES = 100
_PATIENCE = 10.0  # seconds that a reader waits for a writer that is putting files in place


T = TypeVar("T")


@contextmanager
def staged(destination: Path, kind: str = "result", replacing: Overwriting | None = None) -> Iterator[Path]:
    """A path to write to instead of ``destination``; what was written there is put in place at the end.

    Everything written beside the staged path (external data) goes along, the main file last. If the body
    raises, or putting in place fails, the old files stand as they stood and nothing else is left. What stands there
    already is replaced as ``replacing`` allows; what was written is remembered as a ``kind``. Of two that write the same
    destination at once the second gets a ``WriteError``.
    """
    replacing = replacing or Overwriting()
    with as_write_errors(destination), Folder.open(destination.parent) as folder:
        _sweep_all(folder)
        with _staging(folder, stage_name(destination.name)) as stage:
            replacing.demand(destination, kind)
            stage.make("new").close()
            yield stage.path / "new" / destination.name
            commit(stage, folder, destination.name, kind, replacing)


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
        demand_own_at(path, stage_name(path.name))
    steadily(path, lambda: replacing.demand(path, kind, also))


def sweep(destination: Path) -> None:
    """Remove what a killed process has left beside ``destination``, or finish what it had committed."""
    with contextlib.suppress(OSError), Folder.open(destination.parent) as folder:
        _sweep_all(folder)


def _sweep_all(folder: Folder) -> None:
    """Clear what this user's dead processes have left in a folder; what is anybody else's is left."""
    for name in folder.names() if can_lock(folder) else ():
        if not STAGE_NAME.fullmatch(name):
            continue
        with contextlib.suppress(OSError, TakenError, ForeignError), opened(folder, name) as stage:
            lock(stage)
            demand_own_stage(stage, name)
            if not is_bare(stage):
                recover(stage, folder)
            remove_own(stage, folder, name)


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
    with contextlib.suppress(OSError, ValueError, TakenError, ForeignError):  # a name may be none
        if _in_motion(path):
            _finish(path)


def _finish(path: Path) -> None:
    name = stage_name(path.name)
    with Folder.open(path.parent) as folder, opened(folder, name) as stage:
        lock(stage)
        demand_own_stage(stage, name)
        recover(stage, folder)


def _settle(path: Path) -> None:
    """Finish a save of ``path`` that was cut off while its files were put in place; wait for one that goes on."""
    until = time.monotonic() + _PATIENCE
    while _in_motion(path):
        try:
            _finish(path)
        except FileNotFoundError:
            continue
        except TakenError:
            if time.monotonic() > until:
                raise RefusedError("another process is still writing this", where=str(path)) from None
            time.sleep(0.01)
        except ForeignError as error:
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
    stage = path.parent / stage_name(path.name)
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


@contextmanager
def _staging(folder: Folder, name: str) -> Iterator[Folder]:
    """The empty stage of a save; it goes at the end, but for what strangers have put there."""
    with take(folder, name) as stage:
        recover(stage, folder)  # where it is damaged it stays as it is
        try:
            clear(stage, OURS)
            yield stage
        finally:
            try:
                remove_own(stage, folder, name)
            except KeyboardInterrupt:
                remove_own(stage, folder, name)
                raise


# ---- putting in place -------------------------------------------------------------------------------
