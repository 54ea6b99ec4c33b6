"""torch's triton, which crashes behind TensorFlow's LLVM, is done without there, and found everywhere else."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netferry.runtime.triton_guard import GLOBAL_LLVM

OPTIMISER = """
import torch
torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
print(torch.utils._triton.has_triton_package())
"""


def said(code: str, **environment: str) -> str:
    """What a fresh process prints last; it must not crash."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("behind", [True, False], ids=["behind TensorFlow", "alone"])
def test_triton_is_found_unless_tensorflow_is_there(behind: bool, tmp_path: Path) -> None:
    """On a triton and a TensorFlow that are made of nothing but their names: torch itself asks for the one."""
    (tmp_path / "triton.py").write_text("__version__ = '3.7.1'\n")
    there = f"import sys, types; sys.modules[{GLOBAL_LLVM!r}] = types.ModuleType('flags')\n" if behind else ""
    code = f"{there}import netferry\nimport torch.utils._triton as asked\nprint(asked.has_triton_package())"
    assert said(code, PYTHONPATH=str(tmp_path)) == str(not behind)


def test_whoever_asks_for_it_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "triton.py").touch()
    code = f"""
import sys, types
import netferry
sys.modules[{GLOBAL_LLVM!r}] = types.ModuleType("flags")
try:
    import triton
except ImportError as error:
    print(error.name, error)
"""
    assert said(code, PYTHONPATH=str(tmp_path)).startswith(
        "triton triton crashes when it is loaded after Tensor"
    )


def test_tensorflow_says_how_it_was_loaded() -> None:
    """The name by which it is known here is still one of TensorFlow's; otherwise nothing would be kept apart."""
    pytest.importorskip("tensorflow")
    assert GLOBAL_LLVM in sys.modules


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch's build for CPUs has no triton")
@pytest.mark.parametrize(
    "order",
    ["import netferry, tensorflow", pytest.param("import keras\nimport netferry", marks=pytest.mark.slow)],
)
def test_torch_learns_and_exports_behind_tensorflow(order: str) -> None:
    export = "torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))\nprint('done')"
    assert said(f"{order}\n{OPTIMISER}") == "False"
    assert said(f"{order}\nimport torch\n{export}") == "done"
    assert said(f"import netferry\n{OPTIMISER}\nimport tensorflow\nprint('done')") == "done"
