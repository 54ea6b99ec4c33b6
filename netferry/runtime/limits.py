"""How much memory and time a child process may take, and the errors of one that runs into these limits."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.converters.frameworks import missing

GIB = 1 << 30


_LEAST, _PER_BYTE, _SHARE = 8 * GIB, 64, 0.9
"""Unless a caller says otherwise a file gets 8 GiB and 64 times its own size, and never more than nine tenths of the machine."""


_USUAL_SECONDS = 3600.0
_MOST_GIB, _MOST_SECONDS = 1 << 20, 10**9


@dataclass(frozen=True)
class Limits:
    """``memory`` in bytes (of data, as the system counts it), ``seconds`` by the clock; None for what suits the file."""

    memory: int | None = None
    seconds: float | None = None

    @staticmethod
    def of(gib: float | None, seconds: float | None) -> Limits:
        """GiB and seconds, as a person gives them."""
        for name, given, most in (("memory", gib, _MOST_GIB), ("seconds", seconds, _MOST_SECONDS)):
            if given is not None and not 0 <= given <= most:
                raise UsageError(f"no limit of {name}", expected=f"0 to {most:,}", received=repr(given))
        return Limits(None if gib is None else int(gib * GIB), seconds)

    def over(self, files: Sequence[str | os.PathLike[str]]) -> Limits:
        """The same with a number for both."""
        memory = self.memory
        if memory is None:
            memory = int(min(_SHARE * _memory_of_machine(), _LEAST + _PER_BYTE * sum(map(_bytes_of, files))))
        return Limits(memory, _USUAL_SECONDS if self.seconds is None else self.seconds)


def restrict(limits: Limits) -> None:
    """Take the limits upon this process, and die with the one that started it."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.memory is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        memory = limits.memory if hard == resource.RLIM_INFINITY else min(limits.memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1


def explained(error: Exception, files: Sequence[str | os.PathLike[str]]) -> NetferryError | None:
    """What ran into a limit, as an ordinary error; None for any other fault."""
    where = ", ".join(os.fspath(file) for file in files) or None
    if isinstance(error, MemoryError):
        return RefusedError(
            "it needs more memory than there is, or than it was given",
            where=where,
            remedy="Allow more with --memory, or ulimit -v unlimited",
        )
    if isinstance(error, RecursionError):
        return RefusedError("it is nested too deep", where=where)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return RefusedError("the name is longer than any file's", where=where or str(error.filename))
    if not_here := missing(error):
        return not_here
    if isinstance(error, ImportError | OSError | SystemError) and _is_bounded():
        return RefusedError(
            f"what reads it cannot be loaded into the memory that this process may have ({error})",
            where=where,
            remedy="Allow more: ulimit -v unlimited",
        )
    return None


def _is_bounded() -> bool:
    try:
        import resource
    except ImportError:
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _memory_of_machine() -> int:
    """Bytes of memory of this machine, or of the part of it that this process may use."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            sizes.append(int(Path(file).read_text()))
    return min(sizes, default=_LEAST * 2)


def _bytes_of(file: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of all files in its folder that may belong to it."""
    path = Path(file)
    stem = path.name.partition(".")[0].removesuffix("-symbol")
    try:
        found = path.rglob("*") if path.is_dir() else path.parent.glob(f"{glob.escape(stem)}*")
        return sum(each.stat().st_size for each in found if each.is_file())
    except (OSError, ValueError):
        return 0
