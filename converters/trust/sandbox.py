"""Rights that a process gives up for good before it opens a foreign file: files, network, programs, other processes.

Linux alone has them, in two parts, neither of which needs a privilege. Landlock (5.19 on) leaves the folders that
were named and closes all others, TCP (6.7) and signals to other processes (6.12). A seccomp filter refuses sockets,
programs, debugging and what else reaches past the process. Both hold for every thread and child from then on. Where
the kernel has neither, or forbids it, nothing is closed; ``told`` says what holds.

Sources: linux/landlock.h, linux/seccomp.h, linux/filter.h; the numbers of calls are in asm/unistd.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import stat
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OFF = "NETFERRY_SANDBOX"
"""The variable that, set to ``off``, leaves a process its rights."""


@dataclass(frozen=True)
class Rooms:
    """What stays open: files and folders to read, folders to write in; nothing more."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Held:
    """Which of the two parts holds; ``why`` there is less than both."""

    files: bool = False
    calls: bool = False
    why: str = ""

    def __str__(self) -> str:
        parts = [
            word for word, holds in (("files", self.files), ("network and programs", self.calls)) if holds
        ]
        said = f"closed: {', '.join(parts)}" if parts else "none"
        return f"{said} ({self.why})" if self.why else said


_held = Held(why="it was not asked for")


def told() -> str:
    """What this process has given up, in words for a report."""
    return str(_held)


def excused(why: str) -> None:
    """Note why this process keeps its rights."""
    global _held
    _held = Held(why=why)


def enclose(rooms: Rooms) -> Held:
    """Close all but ``rooms`` to this process, as far as the kernel can; never an error."""
    global _held
    why = _impossible()
    if why:
        _held = Held(why=why)
        return _held
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        _held = Held(why="the kernel does not let a process give up its privileges")
        return _held
    files = _close_files(libc, rooms)
    calls = _close_calls(libc)
    why = "; ".join(part for part in (files, calls) if part)
    _held = Held(not files, not calls, why)
    return _held


def available() -> Held:
    """What ``enclose`` could close here; this process keeps all of it."""
    why = _impossible()
    if why:
        return Held(why=why)
    libc = ctypes.CDLL(None, use_errno=True)
    files = _no_landlock(_abi(libc))
    calls = "" if _machine() and libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0 else _NO_FILTER
    return Held(not files, not calls, "; ".join(part for part in (files, calls) if part))


def _impossible() -> str:
    if sys.platform != "linux":
        return f"{platform.system() or sys.platform} has none"
    return f"{OFF}=off" if os.environ.get(OFF) == "off" else ""


_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP = 38, 21


def _call(libc: ctypes.CDLL, number: int, *arguments: Any) -> int:
    """A system call by its number; numbers are as wide as a register."""
    wide = (ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    return int(libc.syscall(ctypes.c_long(number), *wide))


# ---- files: Landlock -----------------------------------------------------------------------------

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_LEAST = 2
"""The first version whose rules let a file be renamed into another folder, as every save does."""

_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE = 1 << 4 | 1 << 5, 1 << 7 | 1 << 8 | 1 << 12
_DEVICES = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11
_REFER, _TRUNCATE, _IOCTL = 1 << 13, 1 << 14, 1 << 15
_TCP, _SIGNALS = 1 << 0 | 1 << 1, 1 << 0 | 1 << 1

_OF_A_FILE = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_TO_READ = _READ | _LIST
_TO_WRITE = _TO_READ | _WRITE | _REMOVE | _MAKE | _REFER | _TRUNCATE


def _handled(abi: int) -> tuple[int, int, int]:
    """Rights on files, on TCP and towards other processes that this version of Landlock knows."""
    files = _EXECUTE | _TO_WRITE & ~_TRUNCATE | _DEVICES
    files |= (_TRUNCATE if abi >= 3 else 0) | (_IOCTL if abi >= 5 else 0)
    return files, _TCP if abi >= 4 else 0, _SIGNALS if abi >= 6 else 0


def _abi(libc: ctypes.CDLL) -> int:
    """The version of Landlock; 0 where the kernel has none, negative where it is switched off."""
    found = _call(libc, _CREATE_RULESET, None, 0, _VERSION)
    return found if found > 0 else -1 if ctypes.get_errno() == errno.EOPNOTSUPP else 0


def _no_landlock(abi: int) -> str:
    if abi < 0:
        return "Landlock is switched off in this kernel"
    return "" if abi >= _LEAST else "this kernel has no Landlock, or forbids it (Linux 5.19 has it)"


def _close_files(libc: ctypes.CDLL, rooms: Rooms) -> str:
    """Why files stay open; nothing where they do not."""
    abi = _abi(libc)
    if why := _no_landlock(abi):
        return why
    handled = _handled(abi)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _call(libc, _CREATE_RULESET, struct.pack("=QQQ", *handled), size, 0)
    if ruleset < 0:
        return f"Landlock refuses its rules ({os.strerror(ctypes.get_errno())})"
    try:
        for positions, rights in (
            (rooms.reads, _TO_READ),
            (rooms.writes, _TO_WRITE),
            (_DEVICE_FILES, _READ | _WRITE),
        ):
            for position in dict.fromkeys(positions):
                _open_to(libc, ruleset, position, rights & handled[0])
        if _call(libc, _RESTRICT_SELF, ruleset, 0):
            return f"Landlock does not take hold ({os.strerror(ctypes.get_errno())})"
    finally:
        os.close(ruleset)
    return ""


def _open_to(libc: ctypes.CDLL, ruleset: int, position: str, rights: int) -> None:
    """One rule; what is not there needs none."""
    with contextlib.suppress(OSError, ValueError):
        handle = os.open(position, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                rights &= _OF_A_FILE
            _call(libc, _ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, handle), 0)
        finally:
            os.close(handle)


_DEVICE_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

SYSTEM: tuple[str, ...] = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store", "/sys",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.preload", "/etc/localtime",
    "/etc/timezone", "/etc/locale.alias", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/os-release",
    "/etc/mime.types", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/etc/crypto-policies", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/version",
    "/proc/filesystems", "/proc/devices", "/proc/loadavg", "/proc/uptime", "/proc/cgroups", "/proc/sys/kernel",
    "/proc/sys/vm", "/proc/driver",
)  # fmt: skip
"""What libraries read of the system; of /proc this process alone, and what is of the whole machine."""


def python_home() -> Iterable[str]:
    """Folders that hold Python, its packages and netferry, as they are and as links have them."""
    here = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    own = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, os.path.dirname(here)]  # noqa: PTH120
    house = sys.modules.get("netferry")
    rooms = [f"{folder}/{room}" for folder in getattr(house, "__path__", ()) for room in _ROOMS]
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    editable = [
        folder for name, module in list(sys.modules.items()) if name.startswith("__editable__")
        for folder in getattr(module, "MAPPING", {}).values()
    ]  # fmt: skip
    positions = (*own, *rooms, *sys.path, *libraries, *editable)
    return dict.fromkeys(os.path.realpath(position) for position in positions if position)


_ROOMS = ("", "converters", "inference", "validation", "zoo")

# ---- calls: seccomp ------------------------------------------------------------------------------

_REFUSED: Mapping[str, tuple[int, int]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kcmp": (312, 272),
    "setsid": (112, 157), "setpgid": (109, 154),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "truncate": (76, 45), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "pivot_root": (155, 41),
    "mount": (165, 40), "umount2": (166, 39), "open_tree": (428, 428), "move_mount": (429, 429),
    "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "acct": (163, 89), "syslog": (103, 116),
}  # fmt: skip
"""Calls that reach past the process, with their numbers on x86-64 and on arm64.

``io_uring`` would make sockets behind the filter's back; without ``setsid`` and ``setpgid`` no child escapes the group
that is ended as one. ``truncate`` by name is not Landlock's before its third version. Memory, semaphores and messages
of System V and POSIX belong to the user, whichever process asks.
"""

_MACHINES: Mapping[str, tuple[int, int]] = {
    "x86_64": (0, 0xC000003E),
    "aarch64": (1, 0xC00000B7),
}
"""Which column of numbers, and the kernel's name of the machine (linux/audit.h)."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_REFUSE, _ABSENT = "refuse", "absent"

_Line = tuple[int, int | str, int | str, int]
"""An instruction, how many lines a jump passes over if it holds and if not, or the end that it goes to, and a number."""

_NAMESPACES = 0x7E020000
_TYPING = (0x5412, 0x541C)
_CLONE3 = 435

_BOUNDED: Mapping[str, tuple[tuple[int, int], Sequence[_Line]]] = {
    "ioctl": (
        (16, 29),
        ((_LOAD, 0, 0, _SECOND), (_EQUAL, _REFUSE, 0, _TYPING[0]), (_EQUAL, _REFUSE, 0, _TYPING[1])),
    ),
    "clone": ((56, 220), ((_LOAD, 0, 0, _FIRST), (_ANY_BIT, _REFUSE, 0, _NAMESPACES))),
    "prlimit64": ((302, 261), ((_LOAD, 0, 0, _FIRST), (_EQUAL, 0, _REFUSE, 0))),
    "setpriority": (
        (141, 140),
        (
            (_LOAD, 0, 0, _FIRST),
            (_EQUAL, 0, _REFUSE, 0),
            (_LOAD, 0, 0, _SECOND),
            (_EQUAL, 0, _REFUSE, 0),
        ),
    ),
}
"""Calls that are refused for what they ask: numbers as above, and the lines that find out.

TIOCSTI and TIOCLINUX type into the terminal that the process shares with its caller's shell; ``clone`` makes namespaces as
``unshare`` does; limits and priorities of other processes are nobody's business. ``clone3`` hides its flags in memory: it is
said to be absent, and libraries take ``clone``.
"""

_X32 = 0x40000000
_SET_FILTER, _ALL_THREADS = 1, 1
_SECCOMP = (317, 277)
_NO_FILTER = "this kernel takes no seccomp filter"


def _machine() -> tuple[int, int] | None:
    return _MACHINES.get(os.uname().machine) if sys.maxsize > 1 << 32 else None


def program(column: int, architecture: int) -> bytes:
    """The filter: EACCES for a refused call, for one that asks for what is refused, for any call of another machine."""
    lines: list[_Line] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 0, _REFUSE, architecture),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, _REFUSE, 0, _X32),
        *((_EQUAL, _REFUSE, 0, number) for number in sorted(row[column] for row in _REFUSED.values())),
        (_EQUAL, _ABSENT, 0, _CLONE3),
    ]
    for numbers, asked in _BOUNDED.values():
        lines += [(_EQUAL, 0, len(asked) + 1, numbers[column]), *asked, (_RETURN, 0, 0, _ALLOW)]
    lines.append((_RETURN, 0, 0, _ALLOW))
    ends = {_REFUSE: len(lines), _ABSENT: len(lines) + 1}
    lines += [(_RETURN, 0, 0, _ERRNO | errno.EACCES), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]

    def jump(to: int | str, position: int) -> int:
        return ends[to] - position - 1 if isinstance(to, str) else to  # counted from the next line

    return b"".join(
        struct.pack("<HBBI", code, jump(yes, position), jump(no, position), number)
        for position, (code, yes, no, number) in enumerate(lines)
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def _close_calls(libc: ctypes.CDLL) -> str:
    """Why calls stay open; nothing where they do not."""
    machine = _machine()
    if machine is None:
        return f"no seccomp filter is known for {os.uname().machine}"
    lines = program(*machine)
    given = _Program(len(lines) // 8, lines)
    if _call(libc, _SECCOMP[machine[0]], _SET_FILTER, _ALL_THREADS, ctypes.byref(given)):
        return f"{_NO_FILTER} ({os.strerror(ctypes.get_errno())})"
    return ""
