"""The source that a person reads, kept word for word: a change of it is seen, and judged, in a diff.

NETFERRY_REGENERATE=1 ./scripts/test -k snapshots     writes tests/snapshots/ anew
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx_ir as ir
import pytest
from test_onnx_to_pytorch import NETS, exported, randomized

from netferry import converters

SNAPSHOTS = Path(__file__).parent / "snapshots"


@pytest.mark.parametrize("target", ["pytorch", "tensorflow", "mxnet"])
@pytest.mark.parametrize("name", sorted(NETS))
def test_the_source_reads_as_it_did(name: str, target: str) -> None:
    make, first, _ = NETS[name]
    model = ir.from_proto(exported(randomized(make()), first))
    source = converters.import_model(model, target, name=name.title()).source
    place = SNAPSHOTS / f"{target}_{name}.py"
    if os.environ.get("NETFERRY_REGENERATE"):
        place.write_text(source, encoding="utf-8")
    assert source == place.read_text(encoding="utf-8")
