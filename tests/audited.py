"""One command under ``sys.addaudithook``: what Python code does that a foreign file has no business with.

Only Python's own events are seen: what C code opens by itself is the sandbox's part. Used by ``preloaded.py``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from netferry.converters.trust import sandbox
from netferry.runtime import access, fork, scratch
from netferry.runtime.limits import Limits, restrict

NEVER = (
    "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "pty.", "socket.",
    "urllib.", "http.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "nntplib.", "telnetlib.", "webbrowser.",
    "sqlite3.", "winreg.", "msvcrt.", "builtins.input", "os.chown", "os.startfile", "syslog.", "resource.setrlimit",
    "cpython.run_", "code.__new__",
)  # fmt: skip
"""Events, by how they begin, of programs, networks and other processes."""

READ: Mapping[str, tuple[int, ...]] = {
    "os.listdir": (0,),
    "os.scandir": (0,),
    "os.walk": (0,),
    "glob.glob": (),
}
WRITTEN: Mapping[str, tuple[int, ...]] = {
    "os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.rename": (0, 1), "os.link": (0, 1),
    "os.symlink": (1,), "os.truncate": (0,), "os.chmod": (0,), "os.utime": (0,), "os.setxattr": (0,),
    "os.removexattr": (0,), "shutil.move": (0, 1), "shutil.rmtree": (0,), "shutil.unpack_archive": (1,),
    "tempfile.mkdtemp": (0,), "tempfile.mkstemp": (0,),
}  # fmt: skip
"""Which arguments of an event are places that are read or changed."""

GENERATED: Mapping[str, tuple[str, ...]] = {
    "<string>": (
        "/collections/__init__.py", "/dataclasses.py", "/typing.py", "/mxnet/ndarray/register.py",
        "/mxnet/symbol/register.py", "/torch/_inductor/ops_handler.py", "/torch/_inductor/utils.py",
        "/torch/fx/experimental/proxy_tensor.py", "/torch/fx/operator_schemas.py",
    ),
    "<unknown>": ("/ast.py",),
    "<_remote_module_non_scriptable>": ("/torch/distributed/nn/jit/instantiator.py",),
    "<eval_with_key>": ("/torch/fx/graph_module.py", "/torch/fx/_lazy_graph_module.py"),
    "<model>": ("/converters/graph/codegen/execution.py",),
    "<netferry_": ("/converters/graph/codegen/execution.py",),
}  # fmt: skip
"""Code that is in no file, by how its name begins, and the modules of the environment that may make and run it."""


SIZES = {"sympy", "Symbol", "Integer", "Float", "Rational", "Function"}
"""What sympy's parser makes of the words of a size: numbers, sizes, functions of them; first it imports all of sympy's."""

BY_DESCRIPTOR = ("/shutil.py", "/staging.py", "/folders.py", "/trust/paths.py")
"""Modules that open names within a folder that they hold open: the event does not tell which."""


class Watch:
    """``reads`` and ``writes`` are the only folders; what goes past them is noted, once each."""

    def __init__(self, reads: Sequence[str], writes: Sequence[str]) -> None:
        self.found: dict[str, None] = {}
        self.tell: Callable[[str], object] = str
        places = access.everywhere(os.devnull).reads
        self._environment = (*places, *map(os.path.realpath, places))
        self._reads = (*self._environment, *map(os.path.realpath, (*reads, *writes)), *sandbox._DEVICE_FILES)
        self._writes = (*map(os.path.realpath, writes), *sandbox._DEVICE_FILES)
        self._inside = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._inside:
            return
        self._inside = True
        try:
            self._look(event, arguments, sys._getframe(1))
        finally:
            self._inside = False

    def _look(self, event: str, arguments: tuple[Any, ...], frame: Any) -> None:
        if event.startswith(NEVER):
            self._note(event, arguments)
        elif event == "open":
            if arguments[1] is not None or not frame.f_code.co_filename.endswith(BY_DESCRIPTOR):
                self._opened(*arguments)
        elif event in READ or event in WRITTEN:
            allowed = self._reads if event in READ else self._writes
            for place in READ.get(event) or WRITTEN.get(event, ()):
                self._place(event, arguments[place], allowed, arguments[-1])
        elif event in ("exec", "compile"):
            self._code(event, arguments, frame)
        elif event in ("marshal.loads", "marshal.load") and "importlib" not in frame.f_code.co_filename:
            self._note(event, (frame.f_code.co_filename,))
        elif event == "ctypes.dlopen" and isinstance(arguments[0], str) and "/" in arguments[0]:
            self._place(event, arguments[0], self._environment)

    def _opened(self, path: Any, mode: Any, flags: int) -> None:
        changes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        writes = bool(isinstance(flags, int) and flags & changes) or any(c in "wax+" for c in mode or "")
        self._place("write" if writes else "read", path, self._writes if writes else self._reads)

    def _place(self, event: str, path: Any, allowed: Sequence[str], descriptor: Any = None) -> None:
        if path is None or isinstance(path, int):
            return  # a descriptor was opened before
        if event == "read" and path == "<unknown>":
            return  # Python looks for the line of a syntax error in the file of what ast.parse was given
        place = Path(os.fsdecode(path))
        if isinstance(descriptor, int) and descriptor > 2:
            place = Path(f"/proc/self/fd/{descriptor}", place)
        called = place.absolute().parent.resolve() / place.name
        for each in {str(called), str(called.resolve())} if event in ("read", "write") else {str(called)}:
            if not any(each == root or each.startswith(root.rstrip("/") + "/") for root in allowed):
                self._note(event, (each,))

    def _code(self, event: str, arguments: tuple[Any, ...], frame: Any) -> None:
        """Of a file of the environment, or generated by a module of it that is known to."""
        code = arguments[0] if event == "exec" else arguments[1]
        name = code.co_filename if isinstance(code, CodeType) else os.fsdecode(code or "<none>")
        caller = frame.f_code.co_filename
        if caller.startswith("<frozen importlib") or (event == "compile" and not name.startswith("<")):
            self._place(event, name, self._environment) if not name.startswith("<frozen") else None
            return
        if caller.endswith("/sympy/parsing/sympy_parser.py"):
            if isinstance(code, CodeType):  # what is only compiled does nothing
                self._arithmetic(code)
            return
        made = next((makers for begin, makers in GENERATED.items() if name.startswith(begin)), ())
        if not caller.endswith(tuple(made) or ("\0",)):
            self._note(event, (name, caller))

    def _arithmetic(self, code: CodeType) -> None:
        """Sizes of an exported program, written out: sympy runs them as Python, so they may name sizes and sums alone."""
        strange = set(code.co_names) - SIZES
        if strange or any(isinstance(each, CodeType) for each in code.co_consts):
            self._note("exec", ("sizes", sorted(strange)))

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        said = f"{event} {' '.join(str(each)[:160] for each in arguments)}"
        if said not in self.found:
            self.found[said] = None
            self.tell(said)


def watch(arguments: Sequence[str]) -> None:
    """``netferry <arguments>`` in this process under the hook, with its limits; each line on stdout, JSON, is what went past.

    The last line is the exit code, unless the process ran into a limit and was ended.
    """
    from netferry import cli

    answer = os.dup(1)
    os.dup2(2, 1)

    def tell(said: object) -> None:
        os.write(answer, (json.dumps(said) + "\n").encode())

    def here(files: Sequence[str], limits: Limits, opens: Mapping[str, Any]) -> None:
        limits = limits.over(files)
        restrict(limits)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(min(20, int(limits.seconds or 20)))
        named = access.rooms_of(opens)
        watch = Watch(named.reads, (*named.writes, own))
        watch.tell = tell
        before = set(sys.modules)
        sys.addaudithook(watch)
        closing.append(lambda: strangers(before, watch))

    closing: list[Callable[[], None]] = []
    fork.enter = here  # type: ignore[assignment]
    code: object = 0
    with scratch.folder() as own:
        scratch.use(own)
        try:
            cli.app(list(arguments))
        except SystemExit as stop:
            code = stop.code
        for close in closing:
            close()
    tell(code if closing else "nothing was opened")


def strangers(before: set[str], watcher: Watch) -> None:
    """Note modules that came from outside the environment."""
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if isinstance(file, str) and not file.startswith("<"):  # what is generated is seen as it is run
            watcher._place(f"import {name}", str(Path(file)), watcher._environment)
