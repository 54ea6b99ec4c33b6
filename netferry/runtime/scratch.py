"""A folder for temporary files that is one child's own, and gone with it however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from netferry.converters.errors import WriteError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PREFIX = "netferry-child-"
_VARIABLES = ("TMPDIR", "TMP", "TEMP", "TORCHINDUCTOR_CACHE_DIR")
"""What says where Python and its libraries put files that are not to stay."""


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """A new folder, locked while the body runs; those that a killed process of this user has left are removed.

    Raises:
        WriteError: there is no place for one.
    """
    try:
        _clear()
        made, handle = _made()
    except OSError as error:
        raise WriteError(
            f"there is no folder for temporary files ({error.strerror or error})", remedy="Name one in TMPDIR"
        ) from error
    owner = os.getpid()
    try:
        yield made
    finally:
        if os.getpid() == owner:  # a child that was forked meanwhile leaves it to its parent
            shutil.rmtree(made, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _made() -> tuple[str, int | None]:
    """A new folder and its lock; another process may clear it away before it is locked."""
    while True:
        made = tempfile.mkdtemp(prefix=_PREFIX, dir=_root())
        with contextlib.suppress(FileNotFoundError):
            return made, _lock(made)


def use(folder: str) -> None:
    """Let this process and its libraries put their temporary files there."""
    os.environ.update(dict.fromkeys(_VARIABLES, folder))
    tempfile.tempdir = folder


def _root() -> Path:
    """Where copies of large files have room: the usual folder is often one of memory."""
    roomy = Path("/var/tmp")
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return roomy if not named and os.access(roomy, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())


def _clear() -> None:
    """Remove folders of this name that nobody holds: this user's own, no links, no other's to enter."""
    if fcntl is None:
        return
    for left in _root().glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = left.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
                handle = _lock(str(left))
                if handle is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(handle)


def _lock(position: str) -> int | None:
    """The folder's lock; None where another process holds it, or where the system has none."""
    if fcntl is None:
        return None
    handle = os.open(position, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle
