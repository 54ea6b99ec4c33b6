"""Foreign files are opened in a child process: whatever they make it do, the caller gets an answer or an error.

The command line forks before anything heavy is imported (``fork.py``), so that nothing is imported twice. ``call`` is for
Python: it runs ``convert``, ``verify``, ``run`` or ``inspect`` in a
fresh interpreter, since a process that has threads must not be forked. What comes back is JSON and arrays, never a
pickle. The child has limits on memory and time, dumps no core, and dies with its parent: that keeps a crash, a hang and a
flood away from the caller. Where the system can, it also gives up its rights (``converters/trust/sandbox.py``) before
it opens anything. To keep code in a file from running is the work of ``converters/trust``.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from netferry.converters.errors import NetferryError, RefusedError
from netferry.converters.trust import sandbox
from netferry.runtime import access, scratch
from netferry.runtime.child import (
    TIMED_OUT,
    confine,
    end_group,
    exit_code,
    finish_saves,
    sweep_results,
)
from netferry.runtime.limits import Limits, explained, restrict


def call(
    name: str,
    *args: Any,
    limits: Limits | None = None,
    stop: threading.Event | None = None,
    imports: Sequence[str] = (),
    **keywords: Any,
) -> Any:
    """``netferry.<name>(*args, **keywords)`` in a process of its own: its ``to_dict()``, or for ``run`` the arrays.

    ``name`` is convert, verify, run or inspect, or ``package.module:function`` of netferry's own; models are given as
    paths or factories. ``stop``, once it is set by another thread, ends the process. ``imports`` are modules or files of a person's own,
    which the process reads first, after those that this one has read; it keeps its rights then.

    Raises:
        NetferryError: what the function raises, or that its process crashed, was killed, or took too long.
    """
    files = [each for each in (*args[:2], keywords.get("weights")) if isinstance(each, str | os.PathLike)]
    files = files if name == "verify" else files[:1]
    limits = (limits or Limits()).over(files)
    arguments = _arguments(name, args, keywords) | {"imports": list(dict.fromkeys([*_imported(), *imports]))}
    finish_saves(access.models_of(arguments))
    with scratch.folder() as own:
        Path(own, "call").write_bytes(pickle.dumps((name, args, keywords)))
        Path(own, "request").write_text(json.dumps(_request(name, arguments, limits)), encoding="utf-8")
        process = subprocess.Popen([sys.executable, "-P", "-c", _START, _PARENT, own], start_new_session=True)
        try:
            code = _waited(process, limits.seconds, stop)
        finally:
            _stop(process)
            if process.returncode:
                sweep_results(access.destinations_of(arguments))
        exit_code(code, files, limits)
        return _answer(Path(own, "answer"))


def _imported() -> Sequence[str]:
    """A person's own code that this process has imported, and its child needs as well."""
    from netferry.converters.source import imported_code

    return imported_code()


_START = (
    "import sys; sys.path.append(sys.argv[1]); from netferry.runtime.guard import serve; serve(sys.argv[2])"
)
_PARENT = str(Path(__file__).absolute().parents[2])
"""The folder that this netferry stands in, for a child that finds none where Python's packages are. The folder that a
person works in is never searched (-P): it holds what he downloaded."""

_POSITIONS: Mapping[str, Sequence[str]] = {
    "convert": ("source", "to"), "verify": ("a", "b", "inputs"), "run": ("model", "inputs"),
    "inspect": ("model",), "check": ("check", "a", "b", "inputs"), "bisect": ("a", "b", "inputs"),
}  # fmt: skip
"""The arguments without a name of what is called often, by the names that ``access`` has for them."""

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
    module, _, function = name.rpartition(":")
    return getattr(import_module(module or "netferry.api"), function)


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
        end_group(process.pid)
    elif process.poll() is None:
        process.kill()
    process.wait()


def _waited(process: subprocess.Popen[bytes], seconds: float | None, stop: threading.Event | None) -> int:
    """The exit code of a process, ``TIMED_OUT`` once its time is over or it is to stop."""
    until = float("inf") if seconds is None else time.monotonic() + seconds
    while time.monotonic() < until and not (stop is not None and stop.is_set()):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(0.5, max(0.0, until - time.monotonic())))
    return TIMED_OUT


def _answer(path: Path) -> Any:
    if path.is_symlink() or not path.is_file():
        raise RefusedError("the process that was to open it could not start")
    content = path.read_bytes()
    if not content.startswith(b"{"):
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return {str(name): arrays[str(position)] for position, name in enumerate(arrays["names"])}
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
    _answered(Path(own, "answer"), name, args, keywords, request["arguments"].get("imports", ()))
    raise SystemExit


def _answered(
    answer: Path, name: str, args: Sequence[Any], keywords: Mapping[str, Any], imports: Sequence[str] = ()
) -> None:
    try:
        if imports:
            from netferry.converters.source import import_code

            import_code(imports)
        result = _function(name)(*args, **keywords)
    except NetferryError as error:
        _put(answer, {"fault": error.to_json() | {"problem": error.problem}})
    except Exception as error:
        known = explained(error, ()) or NetferryError(f"an unexpected {type(error).__name__}: {error}")
        _put(answer, {"fault": known.to_json() | {"problem": known.problem}})
    else:
        if isinstance(result, dict):
            import numpy as np

            arrays = {str(position): array for position, array in enumerate(result.values())}
            with answer.open("wb") as file:
                np.savez(file, names=np.array(list(result)), **arrays)
        else:
            _put(answer, {"result": result.to_dict()})


def _put(answer: Path, document: dict[str, Any]) -> None:
    from netferry.validation.reports.report import finite

    answer.write_text(json.dumps(finite(document), default=str), encoding="utf-8")
