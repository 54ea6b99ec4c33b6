"""Environments outside the tree, with what is shipped in them and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(*command: object, cwd: Path, code: int = 0, more: Mapping[str, str] | None = None) -> str:
    """What a program says, which ends with ``code``; this tree is not on its path, unless ``more`` of its environment has it."""
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | (more or {})
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=own, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def built(folder: Path) -> tuple[Path, Path]:
    """The wheel, made through the sdist, and the sdist."""
    run(sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
    [wheel] = (folder / "dist").glob("*.whl")
    [sdist] = (folder / "dist").glob("*.tar.gz")
    return wheel, sdist


@contextmanager
def environment(folder: Path, *wanted: str) -> Iterator[Path]:
    """The folder of programs of a new environment with these requirements, in the versions that the tests know. Afterwards it is gone:
    the frameworks take gigabytes."""
    try:
        venv.create(folder, with_pip=True)
        install(folder / "bin", *wanted)
        yield folder / "bin"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(programs: Path, *wanted: str) -> None:
    """Requirements for an environment, in the versions that the tests know."""
    known = ROOT / "constraints.txt"
    run(programs / "python", "-m", "pip", "install", "-q", "-c", known, *wanted, cwd=programs)
