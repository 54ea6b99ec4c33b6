"""What a child that opens foreign files gives up: files, network, programs; what it needs stays; nothing fails without."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from models import dense, saved

from netferry.converters.trust import sandbox
from netferry.converters.trust.sandbox import Held, Rooms
from netferry.runtime import access, guard
from netferry.runtime.limits import Limits
from netferry.tasks import doctor

WORK = """
import json, os, sys
from netferry.runtime import child, scratch as private
from netferry.converters.trust import sandbox
arguments = {arguments}
with private.folder() as own:
    child.confine(arguments, own)
    said = {{}}
    for name, work in {work}.items():
        try:
            exec(work, {{"own": own}})
            said[name] = "done"
        except OSError as error:
            said[name] = error.strerror
    print(json.dumps([sandbox.told(), said]))
"""

CLOSED = sandbox.available()
needs_landlock = pytest.mark.skipif(not CLOSED.files, reason=CLOSED.why)
needs_seccomp = pytest.mark.skipif(not CLOSED.calls, reason=CLOSED.why)


def confined(arguments: dict[str, Any], work: dict[str, str], cwd: Path) -> tuple[str, dict[str, str]]:
    """What each piece of ``work`` came to in a process that is confined to ``arguments``."""
    script = WORK.format(arguments=arguments, work=work)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=cwd, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told, said = json.loads(done.stdout)
    return told, said


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """``model/net.onnx`` with a file beside it, an empty ``out``, and ``else/secret`` that is no business of a model's."""
    for name in ("model", "out", "else"):
        (tmp_path / name).mkdir()
    (tmp_path / "model/net.onnx").write_bytes(b"model")
    (tmp_path / "model/net.data").write_bytes(b"weights")
    (tmp_path / "else/secret").write_text("secret")
    (tmp_path / "model/link").symlink_to(tmp_path / "else/secret")
    return tmp_path


FILES = {
    "the model": ("open('model/net.onnx').read()", True),
    "what lies beside it": ("open('model/net.data').read()", True),
    "its folder": ("os.listdir('model')", True),
    "a module of Python's": ("import tabnanny", True),
    "random numbers": ("open('/dev/urandom','rb').read(1)", True),
    "its own status": ("open('/proc/self/status').read()", True),
    "its own temporary file": ("open(own + '/x', 'w').write('x')", True),
    "a library's temporary file": ("import tempfile; tempfile.TemporaryFile().write(b'x')", True),
    "a result": ("open('out/new', 'w').write('x')", True),
    "a stage": ("os.mkdir('out/s'); open('out/s/f','w').close(); os.rename('out/s/f','out/f')", True),
    "another folder's file": ("open('else/secret').read()", False),
    "another folder": ("os.listdir('else')", False),
    "through a link": ("open('model/link').read()", False),
    "a password": ("open('/etc/shadow').read()", False),
    "another process": ("open('/proc/1/environ').read()", False),
    "its parent": ("open(f'/proc/{os.getppid()}/environ').read()", False),
    "the working folder": ("open('new', 'w')", False),
    "the model's own bytes": ("open('model/net.onnx', 'r+')", False),
    "a file beside the model": ("open('model/new', 'w')", False),
    "another folder's name": ("os.rename('else/secret', 'out/secret')", False),
    "another folder's end": ("os.unlink('else/secret')", False),
    "another folder's length": ("os.truncate('else/secret', 0)", False),
    "a hard link": ("os.link('else/secret', 'out/secret')", False),
    "a new folder elsewhere": ("os.mkdir('else/new')", False),
    "a link elsewhere": ("os.symlink('/', 'else/new')", False),
    "the system's": ("open('/usr/new', 'w')", False),
    "Python's": ("import os; open(os.__file__, 'a')", False),
}  # fmt: skip


@needs_landlock
def test_files_that_no_argument_names_are_closed(places: Path) -> None:
    work = {name: f"import os; {code}" for name, (code, _) in FILES.items()}
    arguments = {"source": str(places / "model/net.onnx"), "destination": str(places / "out/new.onnx")}
    told, said = confined(arguments, work, places)
    assert told.startswith("closed: files")
    wrong = {name: said[name] for name, (_, open_) in FILES.items() if (said[name] == "done") != open_}
    assert not wrong
    assert (places / "else/secret").read_text() == "secret"


CALLS = {
    "a socket": "import socket; socket.socket()",
    "a socket of version 6": "import socket; socket.socket(socket.AF_INET6)",
    "a socket to a service here": "import socket; socket.socket(socket.AF_UNIX)",
    "a packet": "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a program": "import subprocess; subprocess.run(['true'])",
    "a shell": "import os; os.posix_spawn('/bin/sh', ['sh', '-c', ':'], {})",
    "this program again": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', ''])",
    "another group": "import os; os.setpgid(0, 0)",
    "a session": "import os; os.setsid()",
    "typing into the terminal": "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",
}


CALL = """
import ctypes, os
from netferry.converters.trust import sandbox
numbers = {{**sandbox._REFUSED, **{{name: each for name, (each, _) in sandbox._BOUNDED.items()}}}}
libc = ctypes.CDLL(None, use_errno=True)
done = libc.syscall(numbers[{name!r}][sandbox._machine()[0]], {arguments})
if done == 0 and {name!r} == "clone":
    os._exit(0)
if done < 0:
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


def called(name: str, arguments: str) -> str:
    return CALL.format(name=name, arguments=arguments)


CALLS |= {
    "a user's namespace": called("clone", "0x10000000 | 17, None, None, None, None"),
    "a network's namespace": called("clone", "0x50000000 | 17, None, None, None, None"),
    "a namespace of mounts": called("clone", "0x10020000 | 17, None, None, None, None"),
    "its parent's limits": called("prlimit64", "os.getppid(), 7, None, None"),
    "its parent's priority": called("setpriority", "0, os.getppid(), 19"),
    "the priority of all that this user runs": called("setpriority", "2, 0, 19"),
    "memory that all of this user's may attach": called("shmget", "0x6F1C9A, 4096, 0o1600"),
    "an end of another's memory": called("shmctl", "0, 0, None"),
    "a semaphore": called("semget", "0x6F1C9A, 1, 0o1600"),
    "a queue of messages": called("msgget", "0x6F1C9A, 0o1600"),
    "a queue by its name": called("mq_open", "b'/netferry', 0o102, 0o600, None"),
}


@needs_seccomp
def test_calls_that_reach_past_the_process_are_refused(places: Path) -> None:
    works = {
        "threads": "import threading; t = threading.Thread(target=str); t.start(); t.join()",
        "forks": "import os; p = os.fork(); p or os._exit(0); os.waitpid(p, 0)",
        "limits": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "priority": "import os; os.setpriority(os.PRIO_PROCESS, 0, 1)",
    }
    told, said = confined({"source": "model/net.onnx"}, CALLS | works, places)
    assert "network and programs" in told
    assert [said.pop(name) for name in works] == ["done"] * len(works)
    assert said == dict.fromkeys(CALLS, "Permission denied")


# ---- what each argument opens ----------------------------------------------------------------------


def test_the_table_knows_every_argument_that_is_a_path() -> None:
    """Of every command that works in a child: a new flag for a file has to say what it opens."""
    from netferry.cli import converting, running, verifying

    commands = [
        converting.convert,
        converting.inspect,
        verifying.verify,
        verifying.bisect,
        running.run,
        running.bench,
        running.package,
    ]
    for command in commands:
        for name, kind in command.__annotations__.items():
            is_path = "Path" in str(kind) or name in ("source", "model", "models", "a", "b")
            if is_path and name not in ("catalogue", "output_dir"):  # which start their children themselves
                assert name in access.OPENS, f"{command.__name__} {name}"


def test_results_are_written_beside_or_within_and_models_read_with_their_folder(places: Path) -> None:
    given = {
        "source": places / "model/net.onnx", "weights": None, "data": places / "else", "inputs": [f"x={places}/x.npy"],
        "destination": places / "out/new.onnx", "report": places / "new/folder", "html": places / "out/page.html",
        "device": "cpu", "unsafe": False,
    }  # fmt: skip
    found = access.rooms_of(given)
    assert set(found.reads) == {
        str(places / name) for name in ("model/net.onnx", "model", "else", "x.npy", ".netferry")
    }
    assert found.writes == (str(places / "out"), str(places))
    assert set(access.destinations_of(given)) == {
        places / "out/new.onnx", places / "out/page.html", places / "new/folder/verdict.json",
    }  # fmt: skip
    assert access.models_of(given) == [places / "model/net.onnx"]


def test_a_model_of_a_cache_is_read_with_what_its_links_mean(tmp_path: Path) -> None:
    home = tmp_path / "models--a--b"
    (home / "snapshots/1").mkdir(parents=True)
    (home / "blobs").mkdir()
    (home / "blobs/x").write_bytes(b"x")
    (home / "snapshots/1/net.onnx").symlink_to("../../blobs/x")
    assert str(home / "blobs") in access.rooms_of({"model": home / "snapshots/1/net.onnx"}).reads


def test_a_link_in_the_place_of_a_ledger_opens_nothing(places: Path) -> None:
    (places / "out/.netferry").symlink_to(places / "else/secret")
    for arguments in ({"data": places / "out/rows.npy"}, {"inputs": [f"x={places}/out/x.npy"]}):
        assert all(
            "netferry" not in place and "else" not in place for place in access.rooms_of(arguments).reads
        )


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "", "~", "no/such/../folder/x"])
def test_a_name_that_is_no_path_opens_nothing_and_does_not_fail(name: str) -> None:
    assert isinstance(access.rooms_of({"model": name, "data": name, "report": name, "html": name}), Rooms)


EXCUSED = {
    "ray": ({"engine": "ray", "model": "a.onnx"}, "Ray"),
    "a factory": ({"source": "package.module:factory"}, "factory"),
    "a factory among files": ({"a": "a.onnx", "b": "net.py:factory"}, "factory"),
    "what is timed": ({"models": ["a.onnx"]}, "fresh interpreters"),
    "weights of a factory's name": ({"a": "a.onnx", "weights": [None, "x:y"]}, ""),
    "a certificate of a factory's name": ({"check": "x:y"}, ""),
    "a file": ({"source": "a.onnx", "device": "cpu"}, ""),
    "a GPU that is not there": ({"source": "a.onnx", "device": "cuda"}, ""),
}


@pytest.mark.parametrize("case", EXCUSED)
def test_who_keeps_his_rights_is_told_why(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_GPU", "/dev/none")
    arguments, why = EXCUSED[case]
    assert (why in access.excuse(arguments)) and bool(access.excuse(arguments)) == bool(why)


def test_a_gpu_keeps_its_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_GPU", str(tmp_path))
    assert "GPU" in access.excuse({"source": "a.onnx", "device": "auto"})


# ---- the filter, on any machine --------------------------------------------------------------------


def filtered(program: bytes, architecture: int, number: int, second: int = 0, first: int = 0) -> int:
    """What the kernel's machine makes of a call: linux/filter.h, as far as the filter goes."""
    data = struct.pack(
        "<iIQQQ", number if number < 1 << 31 else number - (1 << 32), architecture, 0, first, second
    )
    lines = list(struct.iter_unpack("<HBBI", program))
    held = at = 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        if code == 0x20:
            (held,) = struct.unpack_from("<I", data, value)
        elif code in (0x15, 0x35, 0x45):
            at += yes if {0x15: held == value, 0x35: held >= value, 0x45: held & value}[code] else no
        else:
            assert code == 0x06
            return value


@pytest.mark.parametrize("machine", sandbox._MACHINES)
def test_the_filter_refuses_what_it_lists_and_nothing_else(machine: str) -> None:
    column, architecture = sandbox._MACHINES[machine]
    program = sandbox.program(column, architecture)
    refused = {row[column] for row in sandbox._REFUSED.values()}
    assert len(refused) == len(sandbox._REFUSED)
    eacces, absent = 0x00050000 | errno.EACCES, 0x00050000 | errno.ENOSYS
    for number in range(600):
        wanted = eacces if number in refused else absent if number == 435 else 0x7FFF0000
        assert filtered(program, architecture, number) == wanted, number
    ioctl, clone, limits, priority = (
        sandbox._BOUNDED[name][0][column] for name in ("ioctl", "clone", "prlimit64", "setpriority")
    )
    assert [filtered(program, architecture, ioctl, what) for what in (0x5411, 0x5412, 0x541B, 0x541C)] == [
        0x7FFF0000, eacces, 0x7FFF0000, eacces,
    ]  # fmt: skip
    for flags in (17, 0x3D0F00, 0x01200011):  # fork, a thread, and fork as libraries call it
        assert filtered(program, architecture, clone, 0, flags) == 0x7FFF0000
    for flags in (1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30):
        assert filtered(program, architecture, clone, 0, flags | 17) == eacces
    assert filtered(program, architecture, limits, 0, 77) == eacces
    assert [
        filtered(program, architecture, priority, who, kind) for who, kind in ((77, 0), (0, 1), (0, 2))
    ] == [eacces] * 3
    assert filtered(program, architecture, 0x40000000 | 2) == eacces
    assert filtered(program, 0x40000003, 2) == eacces  # a call of the 32-bit machine


# ---- kernels that have less ------------------------------------------------------------------------


class Kernel:
    """libc of a machine whose Landlock is of version ``abi`` (or the error that asking for it gives)."""

    def __init__(self, abi: int, fault: int = errno.ENOSYS, privileges: int = 0, seccomp: int = 0) -> None:
        self.calls: list[tuple[int, tuple[Any, ...]]] = []
        self._abi, self._fault, self._privileges, self._seccomp = abi, fault, privileges, seccomp

    def prctl(self, option: int, *_: int) -> int:
        return self._privileges if option == 38 else self._seccomp

    def syscall(self, number: Any, *arguments: Any) -> int:
        self.calls.append((number.value, arguments))
        if number.value != 444:
            return self._seccomp if number.value in sandbox._SECCOMP else 0
        if arguments[0] is None:
            ctypes.set_errno(self._fault)
            return self._abi or -1
        return os.open("/", os.O_RDONLY)

    def rules(self) -> list[tuple[int, int]]:
        return [struct.unpack("=Qi", args[2]) for number, args in self.calls if number == 445]


def enclosed(kernel: Kernel, monkeypatch: pytest.MonkeyPatch, given: Sequence[str] = ()) -> Held:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sandbox, "_machine", lambda: (0, 0xC000003E))
    monkeypatch.setattr(sandbox.ctypes, "CDLL", lambda *_, **__: kernel)
    monkeypatch.setattr(sandbox, "_held", Held())
    return sandbox.enclose(Rooms(("/etc",), tuple(given)))


@pytest.mark.skipif(sys.platform != "linux", reason="opens folders as Linux does")
@pytest.mark.parametrize("abi", [2, 3, 4, 5, 6, 7, 12])
def test_each_version_of_landlock_gets_the_rights_it_knows(
    abi: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel = Kernel(abi)
    assert enclosed(kernel, monkeypatch, [str(tmp_path)]) == Held(True, True)
    (attributes, size, _) = next(
        args for number, args in kernel.calls if number == 444 and args[0] is not None
    )
    files, network, scope = struct.unpack("=QQQ", attributes)
    assert size.value == (24 if abi >= 6 else 16 if abi >= 4 else 8)
    assert files >= 1 << 13 and files < 1 << (16 if abi >= 5 else 15 if abi >= 3 else 14)
    assert (network, scope) == (3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    for rights, _ in kernel.rules():
        assert rights and not rights & ~files


MISSING = {
    "no landlock": (Kernel(0, errno.ENOSYS), Held(False, True), "Linux 5.19 has it"),
    "switched off": (Kernel(0, errno.EOPNOTSUPP), Held(False, True), "switched off"),
    "forbidden": (Kernel(0, errno.EPERM), Held(False, True), "forbids it"),
    "too old to rename": (Kernel(1), Held(False, True), "Linux 5.19"),
    "no filter": (Kernel(7, seccomp=-1), Held(True, False), "no seccomp filter"),
    "privileges stay": (Kernel(7, privileges=-1), Held(False, False), "privileges"),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_a_kernel_lacks_is_told_and_never_an_error(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, held, why = MISSING[case]
    found = enclosed(kernel, monkeypatch)
    assert (found.files, found.calls) == (held.files, held.calls)
    assert why in found.why and why in sandbox.told()


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_another_system_has_none_and_works_on(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(sandbox, "_held", Held())
    assert sandbox.enclose(Rooms()) == sandbox.available()
    assert sandbox.told().startswith("none (")
    (finding,) = (one for one in doctor.examine() if one.subject == "sandbox")
    assert finding.state == doctor.MISSING and finding.remedy


def test_another_processor_gets_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    assert sandbox._machine() is None


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x")
    command = [sys.executable, "-m", "netferry", "inspect", str(saved(tmp_path, dense())), "--json"]
    said = {}
    for switch in ("on", "off"):
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, sandbox.OFF: switch}, check=True
        )
        said[switch] = json.loads(done.stdout)["sandbox"]
    assert said == {
        "on": str(CLOSED) if CLOSED.why else "closed: files, network and programs",
        "off": "none (NETFERRY_SANDBOX=off)",
    }


# ---- what is told ----------------------------------------------------------------------------------


def test_a_verdict_says_what_its_process_had_closed(tmp_path: Path) -> None:
    source = saved(tmp_path, dense())
    expected = guard.call("verify", source, source, seed=0, quick=True)["sandbox"]
    assert expected == (str(CLOSED) if CLOSED.why else "closed: files, network and programs")
    (finding,) = (one for one in doctor.examine() if one.subject == "sandbox")
    assert (finding.state == doctor.GOOD) == (CLOSED.files and CLOSED.calls)


def test_whatever_is_called_from_python_is_enclosed_but_what_opens_no_file_of_others(tmp_path: Path) -> None:
    made = guard._arguments("check", (), {"certificate": "a.json", "a": "a.onnx"})
    assert made == {"check": "a.json", "a": "a.onnx"}
    assert (
        guard._arguments("netferry.tasks.precision:lower", ("a.onnx", "b.onnx", "int8"), {})["destination"]
        == "b.onnx"
    )
    assert guard._arguments("netferry.tasks.matrix:cells_of", ("cnn", "pytorch"), {}) == {}
    plain = guard._request(
        "verify", {"a": tmp_path / "a", "weights": (tmp_path / "w", None), "inputs": [1]}, Limits()
    )
    assert plain["arguments"] == {"a": str(tmp_path / "a"), "weights": [str(tmp_path / "w")]}
    assert plain["opens"] and not guard._request("netferry.tasks.matrix:cells_of", {}, Limits())["opens"]
