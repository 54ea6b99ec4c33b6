"""What arrives in Keras runs and learns on every processor, also where TensorFlow is without oneDNN."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("plain_processor_worker.py")
CLOSE = 2e-6


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What the worker found in a process whose TensorFlow has its own kernels alone."""
    plain = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"}
    worker = subprocess.run([sys.executable, WORKER], env=plain, capture_output=True, text=True, timeout=600)
    assert worker.returncode == 0, worker.stderr[-2000:]
    found: dict[str, Any] = json.loads(worker.stdout.splitlines()[-1])
    return found


def test_every_spatial_operator_runs_without_onednn(answers: dict[str, Any]) -> None:
    wrong = {
        name: one.get("error") or one["distance"]
        for name, one in answers["arrived"].items()
        if one.get("error") or not one["distance"] < CLOSE
    }
    assert wrong == {}
    assert len(answers["arrived"]) > 70


def test_every_spatial_operator_learns_without_onednn(answers: dict[str, Any]) -> None:
    assert [name for name, one in answers["arrived"].items() if not one.get("learns")] == []


@pytest.mark.parametrize("name", ["dilated", "channels first"])
def test_a_source_that_tensorflow_cannot_run_is_not_checked(name: str, answers: dict[str, Any]) -> None:
    said = answers["unrunnable"][name]
    assert said["status"] == "not_checked"
    assert "no kernel on this processor for Conv2DTranspose" in said["reason"]
    assert "TF_ENABLE_ONEDNN_OPTS=1" in said["reason"]
