"""The command line's child: the program goes on in it, forked before anything heavy is imported."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netferry.converters.trust import sandbox
from netferry.runtime import access, scratch
from netferry.runtime.child import (
    INTERRUPTED,
    TIMED_OUT,
    confine,
    end_group,
    exit_code,
    finish_saves,
    sweep_results,
)
from netferry.runtime.limits import Limits, restrict

_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


def enter(
    files: Sequence[str | os.PathLike[str]], limits: Limits, arguments: Mapping[str, Any] | None = None
) -> int | None:
    """Go on in a child: it gets None and works; the parent waits and gets the child's exit code.

    ``arguments`` are what the child reads and writes (``access``): it gives up the right to all else, where the system
    can take it. To be called before any thread is started. Where the system cannot fork (Windows), the work is done
    here.

    Raises:
        RefusedError: in the parent; the child crashed, was killed, or took longer than ``limits`` allow.
        KeyboardInterrupt: in the parent; the child did not end when it was interrupted, and was killed.
    """
    if not hasattr(os, "fork"):
        sandbox.excused("this system does not fork")
        return None
    limits = limits.over(files)
    finish_saves(access.models_of(arguments or {}))
    sys.stdout.flush()
    sys.stderr.flush()
    with scratch.folder() as own:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            os.setpgid(0, 0)
            restrict(limits)
            confine(arguments or {}, own)
            return None
        os.close(writing)
        with contextlib.suppress(OSError):  # the child does it too: whoever comes first
            os.setpgid(child, child)
        try:
            code = _watched(child, reading, limits.seconds)
        finally:
            os.close(reading)
    if code < 0:
        sweep_results(access.destinations_of(arguments or {}))
    return exit_code(code, files, limits)


def _watched(child: int, reading: int, seconds: float | None) -> int:
    """Wait for a child, pass signals on to it, and end it with all that it has started when its time is over.

    Its status; ``TIMED_OUT`` when its time was over, the signal's number when it did not end within ``_GRACE`` of one: a
    loop in C never comes back to Python, which would raise KeyboardInterrupt.
    """
    until = None if seconds is None else time.monotonic() + seconds
    with _forwarding(child) as signals:
        while True:
            closed, _, _ = select.select([reading], [], [], _LOOK)
            found, status = os.waitpid(child, os.WNOHANG)
            if closed and not found:  # it lets go of the pipe as it ends, or a little earlier
                time.sleep(0.01)
            if found:
                end_group(child)
                return os.waitstatus_to_exitcode(status)
            timed_out = until is not None and time.monotonic() >= until
            if timed_out or (signals and time.monotonic() >= signals[0].when + _GRACE):
                end_group(child)
                os.waitpid(child, 0)
                return TIMED_OUT if timed_out else INTERRUPTED - signals[0].number


_LOOK, _GRACE = 0.25, 1.5
"""Seconds between two looks at a child, and those that it has to end by itself after a signal."""


@dataclass(frozen=True)
class _Signal:
    """The first signal that was passed on, and when."""

    number: int
    when: float


@contextlib.contextmanager
def _forwarding(child: int) -> Iterator[list[_Signal]]:
    """Ctrl-C and its like go to the child, which is in a group of its own: it gets each of them once."""
    signals: list[_Signal] = []

    def forward(number: int, _: object) -> None:
        signals.append(_Signal(number, time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)

    def pause(_: int, __: object) -> None:
        os.killpg(child, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.killpg(child, signal.SIGCONT)

    kept = {getattr(signal, name): signal.signal(getattr(signal, name), forward) for name in _FORWARDED}
    kept[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, pause)
    try:
        yield signals
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
