"""A folder that is opened once and acted in by its handle: a name in it is never followed, and never leads out of it.

Where the system has no such handles (Windows) every step looks first whether the folder still is the one that was
opened: a plain fallback, with a moment between the look and the step.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_MOST_READ = 64 << 20

Content = tuple[str, int]
"""What a file is known by: the SHA-256 of its bytes, and its inode."""


class StrangeError(OSError):
    """What stands there is not what it should be: a link, a device, another folder."""


def relative() -> bool:
    """Whether this system acts by a folder's handle and can refuse links."""
    return hasattr(os, "O_NOFOLLOW") and {os.open, os.stat} <= os.supports_dir_fd


def is_plain(name: str) -> bool:
    """Whether a name is that of an entry, and leads nowhere else."""
    separators = {"/", "\0", os.sep} | ({os.altsep, ":"} if os.altsep else set())
    return bool(name) and name not in (".", "..") and not set(name) & separators


class Folder:
    """An open folder. Names are those of its entries, links among them are never followed."""

    def __init__(self, path: Path, handle: int | None, found: os.stat_result) -> None:
        self.path, self.handle, self.found = path, handle, found

    @classmethod
    def open(cls, path: Path) -> Folder:
        """The folder that a person's ``path`` means, whatever links it goes by."""
        return cls._opened(path, os.fspath(path) or ".", follow=True)

    @classmethod
    def passed(cls, path: Path) -> Folder:
        """The same for a folder that may not be listed: entries are found in it by their names alone."""
        return cls._opened(path, os.fspath(path) or ".", follow=True, how=getattr(os, "O_PATH", os.O_RDONLY))

    def folder(self, name: str) -> Folder:
        """A folder in this one.

        Raises:
            StrangeError: it is a link, or no folder.
        """
        at, keywords = self._at(name)
        try:
            return self._opened(self.path / name, at, follow=False, **keywords)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise StrangeError(errno.ENOTDIR, "a link, or no folder", str(self.path / name)) from error
            raise

    @classmethod
    def _opened(cls, path: Path, at: str, *, follow: bool, how: int = os.O_RDONLY, **keywords: Any) -> Folder:
        if relative():
            flags = how | os.O_DIRECTORY | _CLOEXEC | (0 if follow else os.O_NOFOLLOW)
            handle = os.open(at, flags, **keywords)
            return cls(path, handle, os.fstat(handle))
        found = os.stat(at) if follow else os.lstat(at)
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        return cls(path, None, found)

    def close(self) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _at(self, name: str) -> tuple[str, dict[str, Any]]:
        """How the system is told of an entry."""
        if not is_plain(name):
            raise StrangeError(errno.EINVAL, "no plain name", name)
        if self.handle is not None:
            return name, {"dir_fd": self.handle}
        self._still()
        return str(self.path / name), {}

    def _still(self) -> None:
        now = os.stat(self.path)
        if (now.st_dev, now.st_ino) != (self.found.st_dev, self.found.st_ino):
            raise StrangeError(errno.ESTALE, "another folder stands there now", str(self.path))

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path if self.handle is None else self.handle))

    def stat(self, name: str) -> os.stat_result | None:
        """What the entry itself is, be it a link; None where there is none."""
        at, keywords = self._at(name)
        try:
            return os.stat(at, follow_symlinks=False, **keywords)
        except FileNotFoundError:
            return None

    def mkdir(self, name: str, mode: int = 0o777) -> None:
        at, keywords = self._at(name)
        os.mkdir(at, mode, **keywords)

    def make(self, name: str) -> Folder:
        self.mkdir(name)
        return self.folder(name)

    def open_file(self, name: str, *, sync: bool = False) -> int:
        """A descriptor of the regular file ``name``, to be read, and with ``sync`` to be synced.

        Raises:
            StrangeError: it is a link, a FIFO, or anything else but a regular file.
        """
        at, keywords = self._at(name)
        flags = os.O_RDWR if sync and os.name == "nt" else os.O_RDONLY  # Windows syncs what can be written to
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _CLOEXEC | _BINARY
        found = self.stat(name)
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise StrangeError(errno.EINVAL, "no regular file", str(self.path / name))
        handle = os.open(at, flags, **keywords)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise StrangeError(errno.EINVAL, "no regular file", str(self.path / name))
        return handle

    def read(self, name: str) -> bytes:
        handle = self.open_file(name)
        with os.fdopen(handle, "rb") as file:
            content = file.read(_MOST_READ + 1)
        if len(content) > _MOST_READ:
            raise StrangeError(errno.EFBIG, "larger than it can be", str(self.path / name))
        return content

    def write(self, name: str, content: bytes, mode: int = 0o666) -> None:
        """A new file, synced."""
        at, keywords = self._at(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | _CLOEXEC | _BINARY
        with os.fdopen(os.open(at, flags, mode, **keywords), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    def move(self, name: str, to: Folder, called: str | None = None) -> None:
        """Give an entry to another folder, in the place of a file of that name."""
        (source, here), (target, there) = self._at(name), to._at(called or name)
        ends = {"src_dir_fd": here["dir_fd"], "dst_dir_fd": there["dir_fd"]} if here else {}
        os.replace(source, target, **ends)

    def link(self, name: str, to: Folder) -> None:
        (source, here), (target, there) = self._at(name), to._at(name)
        ends = {"src_dir_fd": here["dir_fd"], "dst_dir_fd": there["dir_fd"]} if here else {}
        os.link(source, target, follow_symlinks=False, **ends)

    def exchange(self, name: str, to: Folder) -> bool:
        """Two entries change places in one step; False where the system cannot."""
        if sys.platform != "linux" or self.handle is None or to.handle is None:
            return False
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        here, there = os.fsencode(name), os.fsencode(name)
        return rename is not None and rename(self.handle, here, to.handle, there, _EXCHANGE) == 0

    def unlink(self, name: str) -> None:
        at, keywords = self._at(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(at, **keywords)

    def rmdir(self, name: str) -> bool:
        """Remove a folder, where it is empty."""
        at, keywords = self._at(name)
        try:
            os.rmdir(at, **keywords)
        except OSError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove an entry, a folder with all that is in it; of a link the link alone."""
        found = self.stat(name)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            self.unlink(name)
            return
        at, keywords = self._at(name)
        shutil.rmtree(at, **keywords)

    def sync(self) -> None:
        if self.handle is not None:
            os.fsync(self.handle)

    def files(self, name: str, *, passing: frozenset[str] = frozenset()) -> Iterator[tuple[Folder, str, str]]:
        """Every file of an entry: the folder that holds it, its name there, and its place as seen from here.

        Folders of a name in ``passing`` are passed over. Raises ``StrangeError`` at a link or a device.
        """
        found = self.stat(name)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            yield self, name, name
            return
        with self.folder(name) as inner:
            for entry in inner.names():
                if entry not in passing:
                    for folder, file, position in inner.files(entry, passing=passing):
                        yield folder, file, f"{name}/{position}"

    def content(self, name: str, *, sync: bool = False) -> Content:
        """What the regular file ``name`` is known by; with ``sync`` it also has reached the disk."""
        handle = self.open_file(name, sync=sync)
        with os.fdopen(handle, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if sync:
                os.fsync(file.fileno())
            return digest, os.fstat(file.fileno()).st_ino
