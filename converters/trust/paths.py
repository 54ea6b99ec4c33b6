"""Where a file may lie: regular files, inside their model's folder."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from netferry.converters.errors import RefusedError

_MOST_FILES = 10_000
_FACTORY = re.compile(r"[^\s:]+:[A-Za-z_]\w*")


def is_factory(text: str) -> bool:
    """Whether a model is named as ``package.module:factory``, and no file bears that name."""
    return _FACTORY.fullmatch(text) is not None and not os.path.lexists(text)


def regular(path: Path) -> Path:
    """``path`` itself, once it is known to be a regular file: opening a FIFO or a device would hang, or act."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise RefusedError(f"cannot be read ({_reason(error)})", where=_shown(path)) from error
    if not stat.S_ISREG(mode):
        raise RefusedError(
            f"not a regular file but {_KINDS.get(stat.S_IFMT(mode), 'something else')}", where=_shown(path)
        )
    return path


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def inside(folder: Path, name: str, where: str) -> Path:
    """The regular file that ``name``, written in a file of ``folder``, means; it does not leave the folder.

    A Hugging Face cache keeps the files of ``snapshots/REVISION`` as links into ``blobs`` of the same model: these may be followed.

    Raises:
        RefusedError: a name that is absolute or climbs, a link out of the folder, a hard link, not a regular file.
    """
    if not is_plain(name):
        raise RefusedError("it names a file outside its folder", where=where, received=repr(name))
    path = folder / name
    try:
        home, real = folder.resolve(strict=True), path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise RefusedError(
            f"{name!r}, which belongs to it, cannot be read ({_reason(error)})", where=where
        ) from error
    if not real.is_relative_to(home) and not _is_blob(home, real):
        raise RefusedError("it names a link that leaves its folder", where=where, received=repr(name))
    try:
        found = regular(real)
    except RefusedError as error:
        raise error.at(where) from None
    if found.stat().st_nlink > 1:
        raise RefusedError(
            "it names a file that stands elsewhere too (a hard link)",
            where=where,
            received=repr(name),
            remedy="Copy the model with its files into a folder of its own",
        )
    return found


def is_plain(name: str) -> bool:
    """Whether a name is relative and climbs nowhere, on any system."""
    parts = {*PurePosixPath(name).parts, *PureWindowsPath(name).parts}
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor
    return bool(name) and not absolute and ".." not in parts and "\x00" not in name


def contained(folder: Path) -> Iterator[Path]:
    """All files below ``folder``, each a regular file that does not lead out of it."""
    for count, path in enumerate(sorted(folder.rglob("*"))):
        if count > _MOST_FILES:
            raise RefusedError(
                "the folder holds too many files", where=str(folder), expected=f"at most {_MOST_FILES}"
            )
        if path.is_dir() and not path.is_symlink():
            continue
        yield inside(folder, path.relative_to(folder).as_posix(), str(folder))


def _is_blob(snapshot: Path, real: Path) -> bool:
    """``models--OWNER--NAME/snapshots/REVISION/...`` and ``models--OWNER--NAME/blobs/DIGEST``."""
    for parent in (snapshot, *snapshot.parents):
        if parent.parent.name == "snapshots":
            home = parent.parent.parent
            return (
                home.name.startswith(("models--", "datasets--", "spaces--")) and real.parent == home / "blobs"
            )
    return False


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _shown(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
