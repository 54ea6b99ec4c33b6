"""What every child process that opens foreign files needs, however it is started: its rights, its end, its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netferry.converters.errors import RefusedError
from netferry.converters.trust import sandbox
from netferry.converters.trust.sandbox import Rooms
from netferry.runtime import access, scratch
from netferry.runtime.limits import GIB, Limits


def finish_saves(models: Sequence[Path]) -> None:
    """Finish saves of these that were cut off: a child may only read a model's folder."""
    from netferry.converters.disk.staging import finish

    for model in models:
        finish(model)


def sweep_results(positions: Sequence[Path]) -> None:
    """Finish or remove what was being written there when its process was killed."""
    from netferry.converters.disk.staging import sweep

    for position in positions:
        sweep(position)


def confine(arguments: Mapping[str, Any], own: str) -> None:
    """Leave this process what ``arguments`` name, Python, the system's libraries and its own temporary folder."""
    scratch.use(own)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's has no network here, and would say so
    if why := access.excuse(arguments):
        sandbox.excused(why)
        return
    named, always = access.rooms_of(arguments), access.everywhere(own)
    sandbox.enclose(Rooms(named.reads + always.reads, named.writes + always.writes))


def end_group(group: int) -> None:
    """Kill a child's whole group; the child itself may be gone already."""
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


TIMED_OUT, INTERRUPTED = -1000, -2000


def exit_code(code: int, files: Sequence[str | os.PathLike[str]], limits: Limits) -> int:
    """The child's own exit code; how else it ended is an error that names the file and the cause."""
    if code >= 0:
        return code
    where = ", ".join(os.fspath(file) for file in files) or None
    if code == TIMED_OUT:
        raise RefusedError(
            f"it was not done after {limits.seconds:g} seconds",
            where=where,
            remedy="Allow more with --time-limit",
        )
    if code <= INTERRUPTED:
        code -= INTERRUPTED
        if -code == signal.SIGINT:
            raise KeyboardInterrupt
    if -code in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    memory = f"{(limits.memory or 0) / GIB:.1f} GiB"
    if code == -signal.SIGKILL:
        raise RefusedError(
            "the process that opened it was killed, most likely for want of memory",
            where=where,
            remedy="Close other programs, or set a limit below what the machine has with --memory",
        )
    raise RefusedError(
        f"the process that opened it crashed ({signal.Signals(-code).name})",
        where=where,
        remedy=f"The file is damaged, or needs more than the {memory} that it was given (--memory)",
    )
