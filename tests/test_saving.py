"""Real saves of every format, killed at random moments and run out of room: the old model or the new one, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("save_worker.py")
EVERYDAY = ("onnx", "onnx with data", "pt2", "pytorch folder", "mxnet")
FORMS = [*EVERYDAY, *(pytest.param(form, marks=pytest.mark.slow) for form in ("keras", "saved_model"))]


def worked(form: str, folder: Path, mode: str, count: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(WORKER), form, str(folder), mode, str(count), "7"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_a_save_that_runs_out_of_room_at_20_points_leaves_the_old_model(form: str, tmp_path: Path) -> None:
    assert worked(form, tmp_path, "limits", 20) == {"old": 20}


@pytest.mark.parametrize("form", FORMS)
def test_50_kills_at_random_moments_leave_the_old_or_the_new_model(form: str, tmp_path: Path) -> None:
    assert sum(worked(form, tmp_path, "kills", 50).values()) == 50
