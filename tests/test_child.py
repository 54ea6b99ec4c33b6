"""A foreign file is opened in a child: whatever it makes the child do, the caller gets an answer or an error."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from hostile import Kit
from hostile_onnx import onnx_loops_for_ever
from models import dense, saved, two_inputs
from onnx import TensorProto, helper

from netferry.converters.disk import ledger, staging
from netferry.converters.errors import RefusedError, UnsupportedError, UsageError, WriteError
from netferry.converters.trust import sandbox
from netferry.runtime import fork, guard, scratch
from netferry.runtime.limits import Limits

WORK = """
import os, signal, sys, time
from netferry.runtime import fork, limits
from netferry.converters.errors import NetferryError
try:
    code = fork.enter(["model.onnx"], limits.Limits({memory}, {seconds}))
except NetferryError as error:
    print(error)
    sys.exit(error.exit_code)
if code is not None:
    sys.exit(code)
{work}
"""


def child(work: str, memory: int = 1 << 30, seconds: float = 20) -> subprocess.CompletedProcess[str]:
    """A program that enters a child and does ``work`` there."""
    script = WORK.format(work=work, memory=memory, seconds=seconds)
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_child_works_and_its_exit_code_is_the_callers() -> None:
    done = child("print('done'); sys.exit(3)")
    assert (done.returncode, done.stdout) == (3, "done\n")


FATES = {
    "a crash": ("os.abort()", "crashed (SIGABRT)"),
    "a bad access": ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed (SIGSEGV)"),
    "the system, for memory": (
        "os.kill(os.getpid(), signal.SIGKILL)",
        "killed, most likely for want of memory",
    ),
    "its time": ("time.sleep(60)", "not done after 2 seconds"),
}


@pytest.mark.parametrize("fate", FATES)
def test_a_child_that_ends_by_force_is_an_error_that_names_the_file(fate: str) -> None:
    work, words = FATES[fate]
    done = child(work, seconds=2)
    assert done.returncode == 5
    assert done.stdout.startswith("model.onnx: ") and words in done.stdout


def test_memory_is_limited() -> None:
    done = child("try: bytearray(1 << 31)\nexcept MemoryError: print('no more')")
    assert (done.returncode, done.stdout) == (0, "no more\n")


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = WORK.format(work=f"time.sleep(1.5); open({str(mark)!r}, 'w')", memory=1 << 30, seconds=60)
    parent = subprocess.Popen([sys.executable, "-c", script])
    time.sleep(0.7)
    parent.kill()
    parent.wait()
    time.sleep(1.5)
    assert not mark.exists()


def test_an_interruption_reaches_the_child_once() -> None:
    work = (
        "count = 0\ndef stop(*_):\n    global count; count += 1\nsignal.signal(signal.SIGINT, stop)\n"
        "print('ready', flush=True)\ntime.sleep(1); sys.exit(100 + count)"
    )
    script = WORK.format(work=work, memory=1 << 30, seconds=60)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.send_signal(signal.SIGINT)
    assert parent.wait() == 101


STUBBORN = """
from pathlib import Path
from netferry.converters.disk.staging import staged
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
Path("{folder}/child").write_text(str(os.getpid()))
if not os.fork():
    Path("{folder}/grandchild").write_text(str(os.getpid()))
    time.sleep(600)
with staged(Path("{folder}/out.onnx")) as stage:
    stage.write_text("half")
    print("ready", flush=True)
    while True:
        time.sleep(1)
"""
"""A loop in C does not hear of a signal, as if it were ignored."""


@pytest.mark.parametrize(
    ("number", "code"), [("SIGINT", 130), ("SIGTERM", -signal.SIGTERM), ("SIGHUP", -signal.SIGHUP)]
)
def test_a_child_that_does_not_end_is_killed_with_all_that_it_started(
    number: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    with staging.staged(tmp_path / "out.onnx") as stage:
        stage.write_text("old")
    work = STUBBORN.format(folder=tmp_path)
    script = WORK.format(work=work, memory=1 << 30, seconds=60)
    arguments = f'{{"destination": "{tmp_path}/out.onnx"}}'
    script = script.replace("60))", f"60), {arguments})").replace(
        "except NetferryError", "except KeyboardInterrupt:\n    sys.exit(130)\nexcept NetferryError"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    parent.send_signal(getattr(signal, number))
    assert parent.wait(timeout=30) == code
    assert {path.name for path in tmp_path.iterdir()} == {
        "tmp", "out.onnx", "child", "grandchild", ledger.NAME,
    }  # fmt: skip
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "out.onnx").read_text() == "old"
    for name in ("child", "grandchild"):
        assert is_gone(int((tmp_path / name).read_text()))


def is_gone(pid: int) -> bool:
    """A process that has ended may stay listed until somebody asks for how."""
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_what_a_killed_parent_has_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    stale, open_, busy = (tmp_path / f"{scratch._PREFIX}{name}" for name in ("stale", "open", "busy"))
    for folder in (stale, open_, busy):
        folder.mkdir(mode=0o700)
        (folder / "x").write_text("x")
    open_.chmod(0o755)
    (tmp_path / "others").mkdir()
    (tmp_path / f"{scratch._PREFIX}link").symlink_to(tmp_path / "others")
    handle = scratch._lock(str(busy))
    with scratch.folder() as own:
        assert Path(own).stat().st_mode & 0o777 == 0o700
        assert {path.name for path in tmp_path.iterdir()} == {
            open_.name, busy.name, f"{scratch._PREFIX}link", "others", Path(own).name,
        }  # fmt: skip
    assert not Path(own).exists()
    assert handle is not None
    os.close(handle)


CUT_OFF = """
import os, sys
from pathlib import Path
from netferry.converters.disk import commit, staging
from netferry.converters.disk.ledger import Overwriting
commit.put_in_place = lambda *_: os._exit(9)
with staging.staged(Path(sys.argv[1]), replacing=Overwriting(force=True)) as stage:
    stage.write_bytes(Path(sys.argv[2]).read_bytes())
"""


@pytest.mark.parametrize("way", ["command", "call"])
def test_a_save_that_was_cut_off_is_finished_before_the_model_is_read(way: str, tmp_path: Path) -> None:
    """The child may only read there."""
    (tmp_path / "new").mkdir()
    path, new = saved(tmp_path, dense()), saved(tmp_path / "new", two_inputs())
    done = subprocess.run([sys.executable, "-c", CUT_OFF, path, new], check=False)
    assert done.returncode == 9 and len(list(tmp_path.glob(".netferry-*"))) == 1
    if way == "call":
        inputs = guard.call("inspect", path)["inputs"]
    else:
        command = [sys.executable, "-m", "netferry", "inspect", path, "--json"]
        inputs = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["inputs"]
    assert len(inputs) == 2
    assert not list(tmp_path.glob(".netferry-*/ready"))
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name[0] != ".") == ["model.onnx", "new"]


def test_without_forks_groups_and_locks_it_works_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: the command line works in its own process, Python's calls in a child that is ended alone."""
    source = saved(tmp_path, dense())
    for name in ("fork", "killpg"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(scratch, "fcntl", None)
    (
        tmp_path / "temporary"
    ).mkdir()  # in the common place another netferry, which has locks, clears away what is not locked
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert fork.enter([source], Limits()) is None
    assert sandbox.told() == "none (this system does not fork)"
    assert guard.call("inspect", source)["inputs"][0]["dims"] == ["batch", 3]
    with pytest.raises(RefusedError, match="it was not done after"):
        guard.call("inspect", source, limits=Limits(seconds=0.01))


def test_without_a_place_for_temporary_files_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(WriteError, match=r"no folder for temporary files.*TMPDIR"):
        guard.call("inspect", saved(tmp_path, dense()))


def test_an_answer_that_is_a_link_is_none(tmp_path: Path) -> None:
    (tmp_path / "else").write_text('{"result": 1}')
    (tmp_path / "answer").symlink_to(tmp_path / "else")
    with pytest.raises(RefusedError, match="could not start"):
        guard._answer(tmp_path / "answer")


# ---- from Python ---------------------------------------------------------------------------------


def test_python_gets_the_same_answers_from_a_child(tmp_path: Path) -> None:
    source = saved(tmp_path, dense())
    assert guard.call("inspect", source)["inputs"][0]["dims"] == ["batch", 3]
    x = np.ones((2, 3), np.float32)
    weight = onnx.numpy_helper.to_array(dense().graph.initializer[0])
    assert np.allclose(guard.call("run", source, [x])["y"], x @ weight)


def test_errors_of_the_child_are_raised_as_their_own_kinds(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such file"):
        guard.call("inspect", tmp_path / "absent.onnx")
    source = saved(tmp_path, dense())
    with pytest.raises(UsageError, match="neither a framework nor a destination"):
        guard.call("convert", source)
    with pytest.raises(WriteError):
        guard.call("convert", source, destination=tmp_path / "no" / "where" / "out.onnx", verify=False)
    node = helper.make_node("Mystery", ["x"], ["y"], domain="com.microsoft")
    graph = dense().graph
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3]) for name in ("x", "y")]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    )
    with pytest.raises(UnsupportedError, match="Mystery"):
        guard.call("convert", saved(tmp_path, model, "mine.onnx"), to="pytorch", destination=tmp_path / "out")


def test_time_is_limited_from_python(tmp_path: Path) -> None:
    kit = Kit(tmp_path / "case", tmp_path)
    kit.folder.mkdir()
    source, *_ = onnx_loops_for_ever(kit)
    with pytest.raises(RefusedError, match=r"net\.onnx: it was not done after 4 seconds"):
        guard.call("run", source, [np.ones((1, 3), np.float32)], limits=Limits(seconds=4))


# ---- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("mebibytes", [100, 300, 600])
def test_under_a_limit_on_addresses_there_is_an_error_and_no_abort(mebibytes: int, tmp_path: Path) -> None:
    source = saved(tmp_path, dense())

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    command = [sys.executable, "-m", "netferry", "convert", str(source), str(tmp_path / "out.onnx"), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=limit, timeout=120, check=False, env=environment
    )
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert done.returncode == document.get("exit_code", 0), done
    assert done.returncode in (0, 4, 5)
    assert done.returncode == 0 or not (tmp_path / "out.onnx").exists()


def test_what_unsafe_lets_through_is_named(tmp_path: Path) -> None:
    import zipfile

    import torch

    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.ones(1, 3),)), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("net/data/constants/opaque_obj_9", b"never loaded")
    command = [sys.executable, "-m", "netferry", "inspect", str(path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 5 and "--unsafe" in refused.stderr
    let = subprocess.run([*command, "--unsafe"], capture_output=True, text=True, check=False)
    assert let.returncode == 0, let.stderr
    assert "netferry: unsafe: " in let.stderr and "opaque_obj_9" in let.stderr


def test_the_former_name_of_the_guard_still_works_and_warns() -> None:
    sys.modules.pop("netferry.guard", None)
    with pytest.warns(DeprecationWarning, match="netferry.runtime.guard"):
        former = import_module("netferry.guard")
    from netferry import guard as also

    assert former is also
    assert former.call is guard.call


def test_a_child_finds_netferry_where_python_has_no_package_of_it() -> None:
    assert Path(guard._PARENT, "netferry", "api.py").is_file()


INTERRUPTED = """
import sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == {name!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
sys.argv = ["netferry", "--version"]
from netferry.program import main
main()
"""


@pytest.mark.parametrize(
    "name", ["netferry.cli", "typer", "netferry.cli.voice", "netferry.converters.errors"]
)
def test_an_interrupt_while_the_program_is_loaded_is_told_as_later_ones_are(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(name=name)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == "netferry: interrupted; nothing half-done was left behind\n"
