"""A seeded few of the sources of ``scripts/sweep_tensorflow.py``, each compared with TensorFlow itself."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

import sweep_tensorflow as sweep

FEW = 12
SOURCES = sweep.sources()
DRAWN = sorted(random.Random(7).sample(sorted(SOURCES), FEW))


@pytest.mark.parametrize("name", DRAWN)
def test_a_source_becomes_what_tensorflow_computes(name: str, tmp_path: Path) -> None:
    source = SOURCES[name](tmp_path)
    want = [sweep.results(source, feeds) for feeds in source.feeds]
    model, told = sweep.by_netferry(source, tmp_path)
    assert told["route"] == "direct"
    assert sweep.compared(model, source.feeds, want) == "right"


def test_the_table_counts_each_way_and_lists_what_is_not_right() -> None:
    told = {
        "graphs/one": {"netferry": {"status": "right"}, "tf2onnx": {"status": "wrong: 1e-1"}},
        "graphs/two": {"netferry": {"status": "refused", "why": "strings"}, "tf2onnx": {"status": "right"}},
    }
    table = sweep.table(told)
    assert "| graphs | 2 | 1 of 2 | 1 of 2 |" in table
    assert "- graphs/two" in table
    assert "- graphs/one" not in table
