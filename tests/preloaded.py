"""netferry's command line in children of a process that has loaded every framework already: a call costs no import.

Used by tests through ``Preloaded``; run as a program it is that process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn


@dataclass(frozen=True)
class Done:
    """``grown`` are the bytes by which the child at its largest was larger than one that does nothing."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    grown: int


class Preloaded:
    """``Preloaded()(["convert", "a.onnx", "b.onnx"], cwd)``."""

    def __init__(self, *frameworks: str) -> None:
        command = [sys.executable, __file__, *frameworks]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __call__(self, arguments: Sequence[str], cwd: Path) -> Done:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([list(arguments), str(cwd)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the preloaded process is gone"
        return Done(**json.loads(answer))

    def batch(self, sources: Sequence[Sequence[str]], cwd: Path) -> Iterator[tuple[Sequence[str], str]]:
        """Carry each source to ONNX and compare: its verdict, ``refused``, or what went wrong.

        One child works through many; one that dies is named with the source that killed it, and the next goes on.
        """
        waiting = list(sources)
        while waiting:
            place = cwd / "batch.json"
            place.write_text(json.dumps([list(each) for each in waiting]))
            done = self(["--batch", str(place)], cwd)
            fates = [line for line in done.stdout.splitlines() if line]
            yield from zip(waiting, fates, strict=False)
            if len(fates) < len(waiting):
                yield waiting[len(fates)], f"the process ended with {done.code}: {done.stderr[-300:]}"
            del waiting[: len(fates) + 1]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(frameworks: Sequence[str]) -> None:
    """Load, then answer each line of stdin with one of stdout."""
    from netferry import api, cli  # noqa: F401
    from netferry.converters import frameworks as table

    for name in frameworks:
        for room in ("files", "safety", "live", "to_onnx"):
            getattr(table.named(name), room)
    if "pytorch" in frameworks:
        with contextlib.suppress(ImportError):
            from transformers import AutoModel  # noqa: F401 - what folders are told by, as lazily as a framework
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    usual = call(["--version"], str(Path.cwd()))["grown"]
    for line in sys.stdin:
        arguments, cwd = json.loads(line)
        done = call(arguments, cwd)
        answers.write(json.dumps({**done, "grown": done["grown"] - usual}) + "\n")
        answers.flush()


def call(arguments: Sequence[str], cwd: str) -> dict[str, Any]:
    names = [Path(cwd) / f".{os.getpid()}.{stream}" for stream in ("out", "err")]
    started = time.monotonic()
    child = os.fork()
    if not child:
        _work(arguments, cwd, names)
    _, status, usage = os.wait4(child, 0)
    texts = [name.read_text(errors="replace") for name in names]
    for name in names:
        name.unlink()
    code = os.waitstatus_to_exitcode(status)
    return {
        "code": code, "stdout": texts[0], "stderr": texts[1], "seconds": time.monotonic() - started, "grown": usage.ru_maxrss * 1024,
    }  # fmt: skip


def _work(arguments: Sequence[str], cwd: str, names: Sequence[Path]) -> NoReturn:
    from netferry import cli

    os.chdir(cwd)
    for number, name in enumerate(names, start=1):
        place = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.dup2(place, number)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    code = 70
    try:
        if arguments[0] == "--batch":
            _work_through(json.loads(Path(arguments[1]).read_text()))
        elif arguments[0] == "--audit":
            import audited

            audited.watch(arguments[1:])
        else:
            cli.app(list(arguments))
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _work_through(sources: Sequence[Sequence[str]]) -> None:
    """A line for each source, as soon as it is known."""
    import signal

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a hang, in C too, ends the process
    for each in sources:
        signal.alarm(30)
        answers.write(_fate(*each) + "\n")
        answers.flush()
        signal.alarm(0)


def _fate(model: str, weights: str | None = None) -> str:
    import numpy as np

    from netferry import NetferryError, convert

    inputs = None
    if model.endswith((".pt", ":net")):
        inputs = {"x": np.ones((1, 3), np.float32)}
    try:
        done = convert(model, "onnx", weights=weights, inputs=inputs)
    except NetferryError:
        return "refused"
    except Exception as error:
        return f"unexpected {type(error).__name__}: {str(error)[:200]!r}"
    assert done.report is not None
    return done.report.status


if __name__ == "__main__":
    serve(sys.argv[1:])
