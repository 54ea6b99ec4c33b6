"""Running models: data sets through ``netferry run`` beside a loop by hand, and a session beside onnxruntime's own.

python scripts/bench_run.py              names what there is to measure
python scripts/bench_run.py columns      measures one of it here, as JSON
(``python scripts/bench.py run`` gives each a process of its own and prints the table)
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench_measure import OURS, Figure, beside, in_turns, process_cpu, process_memory, tell

FEATURES, MANY, FEW, GROUP = 64, 1_000_000, 100_000, 50_000
LOOP = str(Path(__file__).with_name("bench_loop.py"))


def write_model(path: Path, hidden: int = 128) -> None:
    """A perceptron of one hidden layer, 64 numbers to 10."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    sizes = {"w1": (FEATURES, hidden), "b1": (hidden,), "w2": (hidden, 10), "b2": (10,)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(size, np.float32) / 8, name)
        for name, size in sizes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in {"x": FEATURES, "y": 10}.items()
    ]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def write_rows(path: Path, rows: int, form: str) -> None:
    """Rows of 64 floats in row groups of 50,000: a column for each number, or one of lists."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, writer = np.random.default_rng(1), None
    for _ in range(rows // GROUP):
        x = rng.standard_normal((GROUP, FEATURES), np.float32)
        table = (
            pa.table({f"f{i}": x[:, i] for i in range(FEATURES)})
            if form == "columns"
            else pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), FEATURES)})
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def rows(form: str) -> list[Figure]:
    """Whole processes: CPU of a million rows in turns, and memory at the most for a tenth of them and for all."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_model(place / "mlp.onnx")
        for count in (FEW, MANY):
            write_rows(place / f"{count}.parquet", count, form)

        def netferry(count: int) -> tuple[str, ...]:
            return "-m", "netferry", "run", "mlp.onnx", "--data", f"{count}.parquet", "--output", "ours.parquet"  # fmt: skip

        def by_hand(count: int) -> tuple[str, ...]:
            return LOOP, "mlp.onnx", f"{count}.parquet", "theirs.parquet"

        sides = {
            OURS: lambda: process_cpu(place, *netferry(MANY)),
            "a loop by hand": lambda: process_cpu(place, *by_hand(MANY)),
        }
        found = [
            in_turns(f"{MANY:,} rows of 64 floats ({form}), whole process", "s of CPU", sides, 7, warm=True)
        ]
        _demand_equal(place)
        for count in (FEW, MANY):
            memory = {
                OURS: process_memory(place, *netferry(count)) / 2**20,
                "a loop by hand": process_memory(place, *by_hand(count)) / 2**20,
            }
            found.append(beside(f"memory at the most, {count:,} rows ({form})", "MiB", memory))
        return found


def _demand_equal(place: Path) -> None:
    """Both sides have to have done the same work."""
    import numpy as np
    import pyarrow.parquet as pq

    ours, theirs = (
        pq.read_table(place / f"{side}.parquet")["y"].combine_chunks().flatten().to_numpy()
        for side in ("ours", "theirs")
    )
    if not np.allclose(ours, theirs, rtol=1e-5, atol=1e-5):
        raise SystemExit("the results differ")


def session() -> list[Figure]:
    """A small model at batch 1, one thread: a run of a session, of prepared buffers, of onnxruntime itself."""
    import numpy as np
    import onnxruntime

    from netferry.inference.session import Session

    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlp.onnx"
        for hidden in (8, 128):
            write_model(path, hidden)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            bare = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            ours, feed = Session(path, threads=1), {"x": np.ones((1, FEATURES), np.float32)}
            calls = {
                "checked": partial(ours.run, feed),
                "prepared": partial(ours.prepared(feed).run, feed),
                "bare": partial(bare.run, None, feed),
            }
            micro = _microseconds(calls)
            for name in ("checked", "prepared"):
                title = f"{name} run of a session, {hidden} hidden units"
                found.append(beside(title, "µs", {OURS: micro[name], "onnxruntime": micro["bare"]}))
    return found


def _microseconds(
    calls: Mapping[str, Callable[[], Any]], rounds: int = 60, times: int = 1000
) -> dict[str, float]:
    seen: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begun = time.perf_counter()
            for _ in range(times):
                call()
            seen[name].append((time.perf_counter() - begun) / times * 1e6)
    return {name: statistics.median(values) for name, values in seen.items()}


CASES: Mapping[str, Callable[[], list[Figure]]] = {
    "columns": partial(rows, "columns"),
    "lists": partial(rows, "lists"),
    "session": session,
}


if __name__ == "__main__":
    tell(CASES, sys.argv[1:])
