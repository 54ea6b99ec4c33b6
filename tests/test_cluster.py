"""The same rows over Ray: two workers, one killed on purpose, nothing lost and nothing twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.errors import RefusedError
from netferry.inference import cluster
from netferry.inference.data import open_data
from netferry.inference.parts import Parts
from netferry.tasks.stream import stream

pytest.importorskip("ray")

ROWS, FEATURES = 4000, 512


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model that takes a while (some hundred products of 512 by 512), and rows for it."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array((rng.standard_normal((512, 512)) / 20).astype(np.float32), "w")
    nodes, last = [], "x"
    for layer in range(200):
        nodes += [
            helper.make_node("MatMul", [last, "w"], [f"m{layer}"]),
            helper.make_node("Tanh", [f"m{layer}"], [f"t{layer}" if layer < 199 else "y"]),
        ]
        last = f"t{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", FEATURES]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        tmp_path / "m.onnx",
    )
    x = rng.standard_normal((ROWS, FEATURES)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), FEATURES)
    pa.parquet.write_table(
        pa.table({"x": column, "key": range(ROWS)}), tmp_path / "d.parquet", row_group_size=700
    )
    return tmp_path / "m.onnx", tmp_path / "d.parquet"


def kill_one_worker(parts: Path, killed: list[int]) -> None:
    """Kill the first worker that can be seen, once a part is there."""
    until = time.monotonic() + 300
    while time.monotonic() < until and not list(parts.glob("*.arrow")):
        time.sleep(0.02)
    for process in psutil.process_iter(["pid", "cmdline"]):
        if any("MapWorker" in word for word in process.info["cmdline"] or ()):
            os.kill(process.info["pid"], signal.SIGKILL)
            killed.append(process.info["pid"])
            return


@pytest.mark.slow
def test_two_workers_one_of_them_killed_give_what_one_process_gives(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = files
    local = stream(model, data, tmp_path / "local.parquet", batch=100, keep=["key"])
    killed: list[int] = []
    killer = threading.Thread(target=kill_one_worker, args=(tmp_path / "ray.parquet.parts", killed))
    killer.start()
    outcome = stream(model, data, tmp_path / "ray.parquet", batch=100, keep=["key"], engine="ray", workers=2)
    killer.join()
    assert killed
    assert (outcome.rows, outcome.written) == (local.rows, local.written) == (ROWS, ROWS)
    here, there = (pa.parquet.read_table(tmp_path / name) for name in ("local.parquet", "ray.parquet"))
    assert here.equals(there)
    assert there.column("key").to_pylist() == list(range(ROWS))
    assert not list(tmp_path.glob("*.parts"))


def test_ranges_cover_exactly_the_rows_that_no_part_holds(files: tuple[Path, Path], tmp_path: Path) -> None:
    parts = Parts(tmp_path / "out.parquet")
    parts.folder.mkdir()
    parts.open({"job": 1})
    for start, stop in ((0, 500), (1200, 1300)):
        with parts.writing() as writer:
            writer.add(start, stop - start, {"y": np.zeros((stop - start, 2), np.float32)}, {})
    ranges = cluster._ranges(open_data(files[1]), parts, workers=3)
    rows = [row for start, stop in ranges for row in range(start, stop)]
    assert rows == [*range(500, 1200), *range(1300, ROWS)]
    assert len(ranges) >= 12


def test_data_without_a_known_number_of_rows_is_refused_with_the_way_out(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_text("x\n1\n")
    parts = Parts(tmp_path / "out.parquet")
    parts.folder.mkdir()
    parts.open({})
    with pytest.raises(RefusedError, match="Parquet or Arrow"):
        cluster._ranges(open_data(tmp_path / "d.csv"), parts, workers=2)
