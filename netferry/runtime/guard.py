"""Foreign files are opened in a child process: whatever they make it do, the caller gets an answer or an error.

``enter`` is for the command line: the program goes on in a child that it forks before anything heavy is imported, so
that nothing is imported twice. ``call`` is for Python: it runs ``convert``, ``verify``, ``run`` or ``inspect`` in a
fresh interpreter, since a process that has threads must not be forked. What comes back is JSON and arrays, never a
pickle. The child has limits on memory and time, dumps no core, and dies with its parent: that keeps a crash, a hang and a
flood away from the caller. Where the system can, it also gives up its rights (``converters/trust/sandbox.py``) before
it opens anything. To keep code in a file from running is the work of ``converters/trust``.
"""

from __future__ import annotations

import contextlib
import glob
import inspect
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.trust import sandbox
from netferry.converters.trust.sandbox import Rooms
from netferry.runtime import access, scratch

GIB = 1 << 30
_AT_LEAST, _TIMES, _OF_ALL = 8 * GIB, 64, 0.9
"""Unless a caller says otherwise a file gets 8 GiB and 64 times its own size, and never more than nine tenths of the machine."""

_SECONDS = 3600.0
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP")


@dataclass(frozen=True)
class Limits:
    """``memory`` in bytes (of data, as the system counts it), ``seconds`` by the clock; None for what suits the file."""

    memory: int | None = None
    seconds: float | None = None

    def over(self, files: Sequence[str | os.PathLike[str]]) -> Limits:
        """The same with a number for both."""
        memory = self.memory
        if memory is None:
            memory = int(min(_OF_ALL * _machine(), _AT_LEAST + _TIMES * sum(map(_size, files))))
        return Limits(memory, _SECONDS if self.seconds is None else self.seconds)


def enter(
    files: Sequence[str | os.PathLike[str]], limits: Limits, arguments: Mapping[str, Any] | None = None
) -> int | None:
    """Go on in a child: it gets None and works; the parent waits and gets the child's exit code.

    ``arguments`` say what the child reads and writes (``rooms``): it gives up the right to all else, where the system
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
    _finish(access.models_of(arguments or {}))
    sys.stdout.flush()
    sys.stderr.flush()
    with scratch.folder() as own:
        ended, held = os.pipe()
        child = os.fork()
        if not child:
            os.close(ended)
            os.setpgid(0, 0)
            restrict(limits)
            confine(arguments or {}, own)
            return None
        os.close(held)
        with contextlib.suppress(OSError):  # the child does it too: whoever comes first
            os.setpgid(child, child)
        try:
            code = _watched(child, ended, limits.seconds)
        finally:
            os.close(ended)
    if code < 0:
        _sweep(access.destinations_of(arguments or {}))
    return _verdict(code, files, limits)


def _finish(models: Sequence[Path]) -> None:
    """Finish saves of these that were cut off: a child may only read a model's folder."""
    from netferry.converters.disk.staging import finish

    for model in models:
        finish(model)


def _sweep(places: Sequence[Path]) -> None:
    """Finish or remove what was being written there when its process was killed."""
    from netferry.converters.disk.staging import sweep

    for place in places:
        sweep(place)


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


def confine(arguments: Mapping[str, Any], own: str) -> None:
    """Leave this process what ``arguments`` name, Python, the system's libraries and its own temporary folder."""
    scratch.use(own)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime's has no network here, and would say so
    if why := access.excuse(arguments):
        sandbox.excused(why)
        return
    named, always = access.rooms_of(arguments), access.everywhere(own)
    sandbox.enclose(Rooms(named.reads + always.reads, named.writes + always.writes, named.programs))


_PR_SET_PDEATHSIG = 1


def _watched(child: int, ended: int, seconds: float | None) -> int:
    """Wait for a child, pass signals on to it, and end it with all that it has started when its time is over.

    Its status; ``_LATE`` when its time was over, the signal's number when it did not end within ``_GRACE`` of one: a
    loop in C never comes back to Python, which would raise KeyboardInterrupt.
    """
    until = None if seconds is None else time.monotonic() + seconds
    with _forwarding(child) as told:
        while True:
            closed, _, _ = select.select([ended], [], [], _LOOK)
            found, status = os.waitpid(child, os.WNOHANG)
            if closed and not found:  # it lets go of the pipe as it ends, or a little earlier
                time.sleep(0.01)
            if found:
                _end(child)
                return os.waitstatus_to_exitcode(status)
            late = until is not None and time.monotonic() >= until
            if late or (told and time.monotonic() >= told[0].when + _GRACE):
                _end(child)
                os.waitpid(child, 0)
                return _LAZY if late else _ENDED - told[0].number


def _end(group: int) -> None:
    """Kill a child's whole group; the child itself may be gone already."""
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


_LAZY, _ENDED = -1000, -2000
_LOOK, _GRACE = 0.25, 1.5
"""Seconds between two looks at a child, and those that it has to end by itself after a signal."""


@dataclass(frozen=True)
class _Told:
    """The first signal that was passed on, and when."""

    number: int
    when: float


@contextlib.contextmanager
def _forwarding(child: int) -> Iterator[list[_Told]]:
    """Ctrl-C and its like go to the child, which is in a group of its own: it gets each of them once."""
    told: list[_Told] = []

    def forward(number: int, _: object) -> None:
        told.append(_Told(number, time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)

    def pause(_: int, __: object) -> None:
        os.killpg(child, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.killpg(child, signal.SIGCONT)

    kept = {getattr(signal, name): signal.signal(getattr(signal, name), forward) for name in _FORWARDED}
    kept[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, pause)
    try:
        yield told
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _verdict(code: int, files: Sequence[str | os.PathLike[str]], limits: Limits) -> int:
    """The child's own exit code; how else it ended is an error that names the file and the cause."""
    if code >= 0:
        return code
    where = ", ".join(os.fspath(file) for file in files) or None
    if code == _LAZY:
        raise RefusedError(
            f"it was not done after {limits.seconds:g} seconds",
            where=where,
            remedy="Allow more with --time-limit",
        )
    if code <= _ENDED:
        code -= _ENDED
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


def _machine() -> int:
    """Bytes of memory of this machine, or of the part of it that this process may use."""
    sizes = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):
            sizes.append(int(Path(place).read_text()))
    return min(sizes, default=_AT_LEAST * 2)


def _size(file: str | os.PathLike[str]) -> int:
    """Bytes of a file, or of all files in its folder that may belong to it."""
    path = Path(file)
    stem = path.name.partition(".")[0].removesuffix("-symbol")
    try:
        found = path.rglob("*") if path.is_dir() else path.parent.glob(f"{glob.escape(stem)}*")
        return sum(each.stat().st_size for each in found if each.is_file())
    except (OSError, ValueError):
        return 0


# ---- for Python ----------------------------------------------------------------------------------


def call(
    name: str,
    *args: Any,
    limits: Limits | None = None,
    stop: threading.Event | None = None,
    **keywords: Any,
) -> Any:
    """``netferry.<name>(*args, **keywords)`` in a process of its own: its ``to_dict()``, or for ``run`` the arrays.

    ``name`` is convert, verify, run or inspect, or ``package.module:function`` of netferry's own; models are given as
    paths or factories. ``stop``, once it is set by another thread, ends the process.

    Raises:
        NetferryError: what the function raises, or that its process crashed, was killed, or took too long.
    """
    files = [each for each in (*args[:2], keywords.get("weights")) if isinstance(each, str | os.PathLike)]
    files = files if name == "verify" else files[:1]
    limits = (limits or Limits()).over(files)
    arguments = _arguments(name, args, keywords)
    _finish(access.models_of(arguments))
    with scratch.folder() as own:
        Path(own, "call").write_bytes(pickle.dumps((name, args, keywords)))
        Path(own, "request").write_text(json.dumps(_request(name, arguments, limits)), encoding="utf-8")
        process = subprocess.Popen([sys.executable, "-P", "-c", _START, _HOUSE, own], start_new_session=True)
        try:
            code = _waited(process, limits.seconds, stop)
        finally:
            _stop(process)
            if process.returncode:
                _sweep(access.destinations_of(arguments))
        _verdict(code, files, limits)
        return _answer(Path(own, "answer"))


_START = (
    "import sys; sys.path.append(sys.argv[1]); from netferry.runtime.guard import serve; serve(sys.argv[2])"
)
_HOUSE = str(Path(__file__).absolute().parent.parent)
"""The folder that this netferry stands in, for a child that finds none where Python's packages are. The folder that a
person works in is never searched (-P): it holds what he downloaded."""

_POSITIONS: Mapping[str, Sequence[str]] = {
    "convert": ("source", "to"), "verify": ("a", "b", "inputs"), "run": ("model", "inputs"),
    "inspect": ("model",), "check": ("check", "a", "b", "inputs"), "bisect": ("a", "b", "inputs"),
}  # fmt: skip
"""The arguments without a name of what is called often, by the names that ``rooms`` has for them."""

_OWN = frozenset({"netferry.tasks.matrix:cells_of"})
"""What opens no file of others: it keeps its rights."""


def _arguments(name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, by name."""
    if name in _OWN:
        return {}
    positions = _POSITIONS.get(name) or tuple(inspect.signature(_function(name)).parameters)
    found = {**dict(zip(positions, args, strict=False)), **keywords}
    if name == "check" and "certificate" in found:  # which is read there, and written elsewhere
        found["check"] = found.pop("certificate")
    return found


def _function(name: str) -> Any:
    import netferry

    module, _, function = name.rpartition(":")
    return getattr(import_module(module) if module else netferry, function)


def _request(name: str, arguments: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """What the child must know before it imports anything: its limits, and what it may read and write."""
    plain = {key: value for key in (*access.OPENS, "device") if (value := _paths(arguments.get(key)))}
    return {"limits": [limits.memory, limits.seconds], "arguments": plain, "opens": name not in _OWN}


def _paths(value: Any) -> Any:
    """The paths in an argument, without arrays and whatever else is no path."""
    if isinstance(value, list | tuple):
        return [path for each in value if (path := _paths(each))]
    return os.fspath(value) if isinstance(value, str | os.PathLike) else None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, with its whole group where the system has groups."""
    if hasattr(os, "killpg"):
        _end(process.pid)
    elif process.poll() is None:
        process.kill()
    process.wait()


def _waited(process: subprocess.Popen[bytes], seconds: float | None, stop: threading.Event | None) -> int:
    """The exit code of a process, ``_LATE`` once its time is over or it is to stop."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    while time.monotonic() < until and not (stop is not None and stop.is_set()):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(0.5, max(0.0, until - time.monotonic())))
    return _LAZY


def _answer(path: Path) -> Any:
    if path.is_symlink() or not path.is_file():
        raise RefusedError("the process that was to open it could not start")
    content = path.read_bytes()
    if not content.startswith(b"{"):
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return {str(name): arrays[str(place)] for place, name in enumerate(arrays["names"])}
    document = json.loads(content)
    if "result" in document:
        return document["result"]
    raise _error(document["fault"])


def _error(fault: dict[str, Any]) -> NetferryError:
    """The child's error as it was raised there."""
    from netferry.converters import errors

    if "problems" in fault:
        return errors.UnsupportedError(
            [errors.Unsupported(**each) for each in fault["problems"]], where=fault["where"]
        )
    kinds = {kind.__name__: kind for kind in (errors.UsageError, errors.MissingError, errors.WriteError)}
    facts = {key: fault[key] for key in ("where", "expected", "received", "remedy")}
    return kinds.get(fault["error"], RefusedError)(fault["problem"], **facts)


def serve(own: str) -> NoReturn:
    """What the fresh interpreter does; ``own`` is its own folder, with the request in it."""
    request = json.loads(Path(own, "request").read_text(encoding="utf-8"))
    if sys.platform != "win32":
        restrict(Limits(*request["limits"]))
    if request["opens"]:
        confine(request["arguments"], own)
    else:
        sandbox.excused("it opens no file of others")
    name, args, keywords = pickle.loads(Path(own, "call").read_bytes())  # our own parent wrote it
    _answered(Path(own, "answer"), name, args, keywords)
    raise SystemExit


def _answered(answer: Path, name: str, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    try:
        result = _function(name)(*args, **keywords)
    except NetferryError as error:
        _put(answer, {"fault": error.to_json() | {"problem": error.problem}})
    except Exception as error:
        known = explained(error, ()) or NetferryError(f"an unexpected {type(error).__name__}: {error}")
        _put(answer, {"fault": known.to_json() | {"problem": known.problem}})
    else:
        if isinstance(result, dict):
            import numpy as np

            arrays = {str(place): array for place, array in enumerate(result.values())}
            with answer.open("wb") as file:
                np.savez(file, names=np.array(list(result)), **arrays)
        else:
            _put(answer, {"result": result.to_dict()})


def _put(answer: Path, document: dict[str, Any]) -> None:
    from netferry.validation.reports.report import finite

    answer.write_text(json.dumps(finite(document), default=str), encoding="utf-8")
