"""The folder that a person works in holds what he downloaded: no process of netferry's imports from it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from models import dense, saved

NAMES = (
    "numpy", "json", "typing", "pathlib", "__future__", "pickle", "onnx", "netferry/__init__", "converters/__init__",
    "ctypes/__init__", "resource", "tempfile", "typer", "rich/__init__", "tf2onnx", "sitecustomize", "usercustomize",
)  # fmt: skip
"""Modules of Python's, of libraries, of netferry, and some that are not always there."""


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A folder with a model, a catalogue that names it, a factory with a module beside it, and a trap for each name."""
    for name in NAMES:
        trap = tmp_path / f"{name}.py"
        trap.parent.mkdir(exist_ok=True)
        trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write({name!r} + ' ')\n")
    saved(tmp_path, dense())
    (tmp_path / "models.toml").write_text('[[pair]]\na = "model.onnx"\nb = "model.onnx"\nquick = true\n')
    (tmp_path / "made.py").write_text(
        "import beside\nimport onnx\n\ndef net():\n    return onnx.load(beside.PLACE)\n"
    )
    (tmp_path / "beside.py").write_text(f"PLACE = {str(tmp_path / 'model.onnx')!r}\n")
    return tmp_path


def run(command: Sequence[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def sprung(folder: Path) -> set[str]:
    place = folder / "sprung"
    return set(place.read_text().split()) if place.exists() else set()


SCRIPT = "from netferry.program import main; main()"
"""What the console script does."""

CALL = "from netferry.runtime import guard; print(guard.call('inspect', 'model.onnx')['operators'])"

COMMANDS = {
    "the console script": ["-P", "-c", SCRIPT, "inspect", "model.onnx"],
    "a catalogue": ["-P", "-c", SCRIPT, "verify", "--catalogue", "models.toml"],
    "a fresh interpreter": ["-P", "-c", CALL],
    "timings": ["-P", "-c", SCRIPT, "bench", "model.onnx", "--batch", "1", "--runs", "2"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_child_imports_from_the_working_folder(name: str, trapped: Path) -> None:
    done = run(COMMANDS[name], trapped)
    assert done.returncode == 0, done.stderr
    assert sprung(trapped) == set()


def test_as_a_module_it_drops_the_folder_that_python_puts_first(trapped: Path) -> None:
    """``-m`` finds netferry there first, were there one: that is Python's own, and not in our hands."""
    (trapped / "netferry/__init__.py").unlink()
    (trapped / "netferry").rmdir()
    for switches in ([], ["-B", "-X", "dev"], ["-s"]):
        done = run([*switches, "-W", "ignore", "-m", "netferry", "inspect", "model.onnx"], trapped)
        assert done.returncode == 0, done.stderr
    assert sprung(trapped) == set()
    done = run(["-mnetferry", "--version"], trapped)
    assert (done.returncode, sprung(trapped)) == (0, set())


def test_a_program_that_uses_netferry_keeps_its_own_path(trapped: Path) -> None:
    (trapped / "app").mkdir()
    (trapped / "app/__init__.py").write_text(
        "import netferry, sys\nassert sys.path[0] == __import__('os').getcwd()\n"
    )
    (trapped / "app/__main__.py").write_text("import beside; print(beside.PLACE)\n")
    for name in NAMES:
        (trapped / f"{name}.py").unlink()
    (trapped / "netferry").rmdir()
    assert run(["-m", "app"], trapped).stdout == f"{trapped / 'model.onnx'}\n"


@pytest.mark.parametrize("factory", ["made:net", "made.py:net", "{}/made.py:net"])
def test_a_factory_imports_what_stands_beside_it_but_no_trap(factory: str, trapped: Path) -> None:
    done = run(["-P", "-c", SCRIPT, "inspect", factory.format(trapped)], trapped)
    assert done.returncode == 0, done.stderr
    assert sprung(trapped) <= {"tf2onnx"}  # what is not installed is found there, since it comes last


def test_a_factory_stands_before_an_installed_module_of_its_name(trapped: Path) -> None:
    (trapped / "sklearn.py").write_text((trapped / "made.py").read_text())
    done = run(["-P", "-c", SCRIPT, "inspect", "sklearn:net"], trapped)
    assert done.returncode == 0, done.stderr


def test_the_path_that_a_person_sets_is_his(trapped: Path) -> None:
    path = os.pathsep.join([str(trapped), os.environ.get("PYTHONPATH", "")])
    for name in NAMES:
        (trapped / f"{name}.py").unlink()
    (trapped / "netferry").rmdir()
    done = run(["-P", "-c", SCRIPT, "inspect", "made:net"], trapped.parent, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_rays_workers_import_nothing_from_it_and_work_in_it(trapped: Path) -> None:
    pytest.importorskip("ray")
    done = run(["-P", "-c", SCRIPT, "verify", "--catalogue", "models.toml", "--engine", "ray"], trapped)
    assert done.returncode == 0, done.stderr
    script = (
        "import os, numpy as np; np.save('x.npy', np.ones((8, 3), np.float32)); from netferry.tasks.stream import stream\n"
        "print(stream('model.onnx', 'x.npy', 'y.npz', engine='ray', workers=1).written)"
    )
    done = run(["-P", "-c", script], trapped)
    assert done.stdout.splitlines()[-1:] == ["8"], done.stderr
    assert sprung(trapped) == set()


@pytest.mark.slow
def test_the_matrix_imports_nothing_from_it(trapped: Path) -> None:
    command = [
        "zoo",
        "matrix",
        "--model",
        "mlp",
        "--framework",
        "pytorch",
        "--to",
        "onnx",
        "--engine",
        "local",
    ]
    done = run(["-P", "-c", SCRIPT, *command, "--output", "out"], trapped)
    assert done.returncode == 0, done.stderr
    assert sprung(trapped) == set()
