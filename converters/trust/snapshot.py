"""Private copies: a foreign file is read once, and what was looked at is what is loaded.

Up to ``SMALL`` bytes are held in memory. What is larger is copied once into a folder that nobody else may enter (blocks
are shared where the disk can do so) and is mapped or opened there. The copy goes with the last that uses it; what a
killed process has left is removed by the next that needs such a folder.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import mmap
import os
import shutil
import stat
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from netferry.converters.errors import RefusedError, WriteError
from netferry.converters.trust import paths

try:
    import fcntl
except ImportError:  # Windows: nothing tells whether the process that made a folder still lives
    fcntl = None  # type: ignore[assignment]

SMALL = 32 << 20
"""Bytes of a file that is held in memory."""

_PIECE = 1 << 20
_FICLONE = 0x40049409
_POINTER = b"version https://git-lfs.github.com/spec/"
_PREFIX = "netferry-held-"
_LEFT_FOR = 60.0
"""Seconds after which a folder that nobody has locked was left behind, and is not just being made."""


class Snapshot:
    """What a file held when it was read; ``where`` names it in messages, ``size`` is in bytes.

    It lies in memory, in a private file that nobody else can change, or, for our own readers, in the file itself, which
    was opened once and stays open.
    """

    def __init__(self, where: str, content: bytes | Path | IO[bytes]) -> None:
        self.where = where
        self._content = content
        self._view: memoryview | None = None
        if isinstance(content, bytes):
            self.size = len(content)
        elif isinstance(content, Path):
            self.size = content.stat().st_size
            weakref.finalize(self, _forget, content.parent, os.getpid())
        else:
            self.size, self._written = _stamp(content)

    def view(self) -> memoryview:
        """The content, read-only; a file is mapped. One that is read in place is refused once it has changed."""
        self._demand_unchanged()
        if self._view is None and isinstance(self._content, bytes):
            self._view = memoryview(self._content)
        elif self._view is None:  # no view may outlive the map: it is closed with its last one
            with self._file() as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
            self._view = memoryview(content)
        return self._view

    def open(self) -> IO[bytes]:
        """A file at its beginning."""
        if isinstance(self._content, bytes):
            return BytesIO(self._content)
        return self._content.open("rb") if isinstance(self._content, Path) else window(self.view())

    def read(self, size: int = -1, start: int = 0) -> bytes:
        """A copy of a part of it."""
        with self.open() as file:
            file.seek(start)
            return file.read(size)

    def write_to(self, file: IO[bytes], start: int, size: int) -> None:
        """Append a part of it to a file, through the kernel where that can be."""
        file.flush()
        position, done = file.tell(), 0
        if not isinstance(self._content, bytes):
            with self._file() as own, contextlib.suppress(OSError, AttributeError):
                while step := os.copy_file_range(
                    own.fileno(), file.fileno(), size - done, start + done, position + done
                ):
                    done += step
        self._demand_unchanged()
        file.seek(position + done)
        for at in range(start + done, start + size, _PIECE):
            file.write(self.view()[at : min(at + _PIECE, start + size)])

    def path(self, name: str) -> Path:
        """A private file called ``name`` that holds it, for readers that want a path; it goes with this object."""
        if isinstance(self._content, Path) and self._content.name == name:
            return self._content
        home = self._content.parent if isinstance(self._content, Path) else _place(self.size)
        return self.move(home / name, home)

    def move(self, position: Path, home: Path) -> Path:
        """Lie at ``place`` below the private folder ``home`` from now on."""
        position.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self._content, Path):
            self._content.rename(position)
        else:
            with _writing(position, self.where) as file:
                self.write_to(file, 0, self.size)
        self._content = position
        weakref.finalize(self, _forget, home, os.getpid())
        return position

    def opened(self, name: str) -> IO[bytes] | Path:
        """For readers that take either: a file in memory, or the path of the private file, which is called ``name`` then."""
        return self.path(name) if isinstance(self._content, Path) else self.open()

    def _demand_unchanged(self) -> None:
        """Of a file that is read in place: nobody has written to it since it was opened."""
        if not isinstance(self._content, bytes | Path) and _stamp(self._content) != (
            self.size,
            self._written,
        ):
            raise RefusedError("it was changed while it was read", where=self.where)

    @contextmanager
    def _file(self) -> Iterator[IO[bytes]]:
        if isinstance(self._content, Path):
            with self._content.open("rb") as file:
                yield file
        elif not isinstance(self._content, bytes):
            yield self._content


def window(view: memoryview) -> IO[bytes]:
    """A file that reads a part of memory, which may be mapped, without a copy of the whole."""
    return io.BufferedReader(_Window(view))


class _Window(io.RawIOBase):
    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._view[self._at : self._at + len(buffer)]
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


class Opened:
    """A file that is for another library to open: ``os.fspath`` gives its private copy, ``str`` the name it came with."""

    def __init__(self, shown: Path, position: Path, *held: Snapshot) -> None:
        self._shown, self._place, self._held = shown, position, held

    def __fspath__(self) -> str:
        return str(self._place)

    def __str__(self) -> str:
        return str(self._shown)


def take(path: Path) -> Snapshot:
    """A private copy of the regular file at ``path``."""
    with paths.opened(path) as file:
        return copied(file, str(path))


def take_inside(folder: Path, name: str, where: str) -> Snapshot:
    """A private copy of the file that ``name`` in a file of ``folder`` means, which lies in that folder; ``where`` says who names it."""
    with paths.opened_inside(folder, name, where) as file:
        return copied(file, str(folder / name))


def mapped(path: Path) -> Snapshot:
    """The regular file at ``path``: where it is large, the file itself, opened once, for our own readers, which look at nothing twice."""
    return _in_place(paths.opened(path), str(path))


def mapped_inside(folder: Path, name: str, where: str) -> Snapshot:
    """The same of a file that ``name`` in a file of ``folder`` means."""
    return _in_place(paths.opened_inside(folder, name, where), str(folder / name))


def _in_place(file: IO[bytes], where: str) -> Snapshot:
    if _stamp(file)[0] > SMALL:
        return Snapshot(where, file)
    with file:
        return copied(file, where)


def together(files: Mapping[str, Snapshot]) -> Path:
    """A private folder in which each stands under its name; it goes with the first of them that goes."""
    home = _place(sum(each.size for each in files.values()))
    for name, each in files.items():
        each.move(home / name, home)
    return home


class Folder:
    """A private copy of a folder; it goes with this object."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        """Copy the files of these names, none of which may lead out of ``folder``."""
        where = str(folder)
        with contextlib.ExitStack() as stack:
            files = {name: stack.enter_context(paths.opened_inside(folder, name, where)) for name in names}
            self.size = sum(_stamp(file)[0] for file in files.values())
            self.path = _place(self.size)
            weakref.finalize(self, _forget, self.path, os.getpid())
            for name, file in files.items():
                position = self.path / name
                position.parent.mkdir(parents=True, exist_ok=True)
                with _writing(position, where) as copy, unchanged(file, str(folder / name)) as size:
                    _copy(file, copy, size)


def copied(file: IO[bytes], where: str) -> Snapshot:
    """A private copy of an open file.

    Raises:
        RefusedError: it changed meanwhile, or is a pointer of Git LFS.
    """
    with unchanged(file, where) as size:
        if size > SMALL:
            return private(size, where, lambda copy: _copy(file, copy, size))
        content = file.read(SMALL + 1)
        demand_content(content, where)
        return Snapshot(where, content)


@contextmanager
def unchanged(file: IO[bytes], where: str) -> Iterator[int]:
    """The size of an open file, which is refused where it changes meanwhile."""
    before = _stamp(file)
    yield before[0]
    if _stamp(file) != before:
        raise RefusedError("it was changed while it was read", where=where)


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    """The size of an open file, and when it was written to last."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def private(size: int, where: str, write: Callable[[IO[bytes]], None]) -> Snapshot:
    """What ``write`` writes, about ``size`` bytes: in memory where that is small, else in a private file."""
    if size <= SMALL:
        stream = BytesIO()
        write(stream)
        return Snapshot(where, stream.getvalue())
    position = _place(size) / "content"
    try:
        with _writing(position, where) as file:
            write(file)
    except BaseException:
        _forget(position.parent, os.getpid())
        raise
    return Snapshot(where, position)


def demand_content(head: bytes, where: str) -> None:
    """Refuse what stands in a repository in place of a large file."""
    if head.startswith(_POINTER):
        raise RefusedError(
            "a Git LFS pointer, not the file", where=where, remedy="Get the file itself: git lfs pull"
        )


@contextmanager
def _writing(position: Path, where: str) -> Iterator[IO[bytes]]:
    try:
        with position.open("xb") as file:
            yield file
    except OSError as error:
        raise WriteError(
            f"no private copy can be made of it in {_root(position)} ({error.strerror or error})",
            where=where,
            remedy="Make room there, or name another folder in TMPDIR",
        ) from error


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """``size`` bytes from the beginning of one file to the other: by sharing its blocks, in the kernel, or piece by piece."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            return
    done = 0
    with contextlib.suppress(OSError, AttributeError):
        while done < size:
            step = os.copy_file_range(source.fileno(), target.fileno(), size - done, done, done)
            if not step:
                break
            done += step
    source.seek(done)
    target.seek(done)
    while done < size and (piece := source.read(min(_PIECE, size - done))):
        target.write(piece)
        done += len(piece)


# ---- where they lie ------------------------------------------------------------------------------


def folders() -> tuple[Path, ...]:
    """Where private copies may be made: of small files, and of large ones, which must not lie in memory."""
    usual = Path(tempfile.gettempdir())
    roomy = Path("/var/tmp")
    named = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return usual, roomy if not named and os.access(roomy, os.W_OK | os.X_OK) else usual


_rooms: dict[Path, tuple[int, Path]] = {}
"""The folder of this process in each of ``folders()``, and the process that made it."""


def _place(size: int) -> Path:
    """A new folder for one copy."""
    return Path(tempfile.mkdtemp(dir=_room(folders()[size > SMALL])))


def _room(root: Path) -> Path:
    known = _rooms.get(root)
    if known is None or known[0] != os.getpid() or not known[1].is_dir():
        _sweep(root)
        room = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))  # mode 0700
        if fcntl is not None:
            handle = os.open(room, os.O_RDONLY)  # the lock ends with the process
            fcntl.flock(handle, fcntl.LOCK_EX)
        _rooms[root] = known = (os.getpid(), room)
        atexit.register(_forget, room, os.getpid())
    return known[1]


def _root(position: Path) -> Path:
    """The one of ``folders()`` that a private file lies in."""
    return next(parent.parent for parent in position.parents if parent.name.startswith(_PREFIX))


def _forget(position: Path, owner: int) -> None:
    """Remove a folder, unless this is a process that was forked from the one that made it."""
    if os.getpid() == owner:
        shutil.rmtree(position, ignore_errors=True)


def _sweep(root: Path) -> None:
    """Remove what killed processes of this user have left, where a folder can be opened and locked without following links."""
    able = fcntl is not None and hasattr(os, "O_DIRECTORY") and hasattr(os, "O_NOFOLLOW")
    for left in root.glob(f"{_PREFIX}*") if able else ():
        with contextlib.suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(handle)
                old = time.time() - found.st_mtime > _LEFT_FOR
                if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700 and old:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)
