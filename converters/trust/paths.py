"""Where a file may lie: regular files, inside their model's folder; and how they are opened, so that it stays so."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from netferry.converters.errors import RefusedError

_MOST_FILES = 10_000
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
"""A FIFO that has come into the place of a file since it was looked at does not hang."""
_FACTORY = re.compile(r"((?:[A-Za-z]:)?[^:\n]+\.py|[^\s:]+):[A-Za-z_]\w*")
"""The path of a ``.py`` file, which may hold spaces, or the name of a module; then what builds the model."""


def is_factory(text: str) -> bool:
    """Whether a model is named as ``package.module:factory``, and no file bears that name."""
    return _FACTORY.fullmatch(text) is not None and not os.path.lexists(text)


def regular(path: Path) -> Path:
    """``path`` itself, once it is known to be a regular file: opening a FIFO or a device would hang, or act."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise RefusedError(f"cannot be read ({_reason(error)})", where=_shown(path)) from error
    _demand_regular(mode, _shown(path))
    return path


def _demand_regular(mode: int, where: str) -> None:
    if not stat.S_ISREG(mode):
        raise RefusedError(
            f"not a regular file but {_KINDS.get(stat.S_IFMT(mode), 'something else')}", where=where
        )


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def opened(path: Path) -> IO[bytes]:
    """A regular file, open for reading; what is opened is what was asked about."""
    regular(path)
    try:
        return _regular_file(os.open(path, _READ | _AT_ONCE), _shown(path))
    except OSError as error:
        raise RefusedError(f"cannot be read ({_reason(error)})", where=_shown(path)) from error


def opened_inside(folder: Path, name: str, where: str) -> IO[bytes]:
    """The regular file that ``name``, written in a file of ``folder``, means, open for reading; it does not leave the folder.

    A Hugging Face cache keeps the files of ``snapshots/REVISION`` as links into ``blobs`` of the same model: these may be followed.
    Links are followed first, and the place that they lead to is then walked to without following any.

    Raises:
        RefusedError: a name that is absolute or climbs, a link out of the folder, a hard link, not a regular file.
    """
    if not is_plain(name):
        raise RefusedError("it names a file outside its folder", where=where, received=repr(name))
    try:
        home, real = folder.resolve(strict=True), (folder / name).resolve(strict=True)
        if not real.is_relative_to(home):
            if real.parent != _blobs(home):
                raise RefusedError("it names a link that leaves its folder", where=where, received=repr(name))
            home = real.parent
        _demand_regular(real.stat().st_mode, where)
        file = _regular_file(_walked(home, real.relative_to(home).parts), where)
    except (OSError, RuntimeError, ValueError) as error:
        raise RefusedError(
            f"{name!r}, which belongs to it, cannot be read ({_reason(error)})", where=where
        ) from error
    if os.fstat(file.fileno()).st_nlink > 1:
        file.close()
        raise RefusedError(
            "it names a file that stands elsewhere too (a hard link)",
            where=where,
            received=repr(name),
            remedy="Copy the model with its files into a folder of its own",
        )
    return file


def _regular_file(handle: int, where: str) -> IO[bytes]:
    try:
        _demand_regular(os.fstat(handle).st_mode, where)
    except RefusedError:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def _walked(home: Path, parts: tuple[str, ...]) -> int:
    """Open ``home/parts``, no part of which may be a link; where the system cannot say so, as the path leads there now."""
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        return os.open(home.joinpath(*parts), _READ | _AT_ONCE)
    here = os.open(home, _READ | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _READ | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(parts[-1], _READ | _AT_ONCE | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def is_plain(name: str) -> bool:
    """Whether a name is relative and climbs nowhere, on any system."""
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    return bool(name) and not absolute and ".." not in parts and "\x00" not in name


def contained(folder: Path) -> Iterator[str]:
    """The names of all files below ``folder``, as seen from there; links among them."""
    for count, path in enumerate(sorted(folder.rglob("*"))):
        if count > _MOST_FILES:
            raise RefusedError(
                "the folder holds too many files", where=str(folder), expected=f"at most {_MOST_FILES}"
            )
        if not path.is_dir() or path.is_symlink():
            yield path.relative_to(folder).as_posix()


def _blobs(snapshot: Path) -> Path | None:
    """Of ``models--OWNER--NAME/snapshots/REVISION/...`` the folder ``models--OWNER--NAME/blobs``."""
    for parent in (snapshot, *snapshot.parents):
        if parent.parent.name == "snapshots":
            home = parent.parent.parent
            return home / "blobs" if home.name.startswith(("models--", "datasets--", "spaces--")) else None
    return None


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
