"""Environments outside the tree, with what is shipped in them and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping
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


def environment(folder: Path, *wanted: str) -> Path:
    """A new environment with these requirements, in the versions that the tests know; the folder of its programs."""
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    run(
        programs / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", *wanted, cwd=folder
    )
    return programs
