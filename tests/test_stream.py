"""A model over data sets of every kind: the same numbers as one call, bad rows told, interruptions survived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from netferry.converters.errors import NetferryError, RefusedError, UsageError
from netferry.inference import data, parts as parts_module, stream as stream_module
from netferry.inference.images import Pixels, pixels_from_flag
from netferry.inference.session import Session
from netferry.inference.stream import InterruptedStreamError
from netferry.tasks.stream import stream

ROWS, FEATURES = 1000, 6
RNG = np.random.default_rng(5)
W = RNG.standard_normal((FEATURES, 3)).astype(np.float32)
X = RNG.standard_normal((ROWS, FEATURES)).astype(np.float32)
Y = np.tanh(X @ W)


def save(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: dict[str, np.ndarray], path: Path
) -> Path:
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(array, name) for name, array in weights.items()]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def value(name: str, dims: list[Any], dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, dims)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["y"])]
    return save(
        nodes, [value("x", ["batch", FEATURES])], [value("y", ["batch", 3])], {"w": W}, tmp_path / "m.onnx"
    )


def lists(array: np.ndarray, fixed: bool = True) -> Any:
    flat = pa.array(array.reshape(-1))
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    return pa.ListArray.from_arrays(pa.array(np.arange(0, array.size + 1, array.shape[1], np.int32)), flat)


def parquet_of_lists(path: Path) -> Path:
    pa.parquet.write_table(pa.table({"x": lists(X, fixed=False)}), path / "d.parquet", row_group_size=300)
    return path / "d.parquet"


def parquet_of_columns(path: Path) -> Path:
    table = pa.table({f"f{i}": X[:, i].astype(np.float64) for i in range(FEATURES)})
    pa.parquet.write_table(table, path / "d.parquet")
    return path / "d.parquet"


def arrow(path: Path) -> Path:
    table = pa.table({"name": [f"row {i}" for i in range(ROWS)], "x": lists(X)})
    with pa.ipc.new_file(str(path / "d.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=170)
    return path / "d.arrow"


def csv(path: Path) -> Path:
    table = pa.table({f"f{i}": X[:, i] for i in range(FEATURES)})
    pa.csv.write_csv(table, path / "d.csv")
    return path / "d.csv"


def npz(path: Path) -> Path:
    np.savez(path / "d.npz", x=X)
    return path / "d.npz"


def npz_compressed(path: Path) -> Path:
    np.savez_compressed(path / "d.npz", x=X)
    return path / "d.npz"


def npy_in_fortran_order(path: Path) -> Path:
    np.save(path / "x.npy", np.asfortranarray(X))
    return path / "x.npy"


def folder_of_npy(path: Path) -> Path:
    folder = path / "rows"
    folder.mkdir()
    for number, row in enumerate(X):
        np.save(folder / f"{number:05d}.npy", row)
    return folder


KINDS: tuple[Callable[[Path], Path], ...] = (
    parquet_of_lists, parquet_of_columns, arrow, csv, npz, npz_compressed, npy_in_fortran_order, folder_of_npy,
)  # fmt: skip


def read(path: Path) -> dict[str, np.ndarray]:
    """What was written, by pyarrow and numpy themselves."""
    if path.suffix == ".npz":
        with np.load(path) as loaded:
            return dict(loaded)
    if path.suffix == ".csv":
        table = pa.csv.read_csv(path)
        flat = np.stack([table[name].to_numpy() for name in table.column_names if name != "row"], 1)
        rows = {"row": table["row"].to_numpy()} if "row" in table.column_names else {}
        return {"y": flat.astype(np.float32)} | rows
    table = (
        pa.parquet.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(str(path)).read_all()
    )
    return {name: np.asarray(table[name].to_pylist()) for name in table.column_names}


@pytest.mark.parametrize("ending", parts_module.WRITERS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_data_gives_what_one_call_gives(
    kind: Callable[[Path], Path], ending: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "BLOCK", 256)
    monkeypatch.setattr(stream_module, "BLOCK", 256)
    monkeypatch.setattr(stream_module, "PART_ROWS", 400)
    outcome = stream(model, kind(tmp_path), tmp_path / f"out{ending}", batch=64)
    assert (outcome.rows, outcome.written, dict(outcome.bad)) == (ROWS, ROWS, {})
    written = read(outcome.output)
    assert list(written) == ["y"]
    np.testing.assert_allclose(written["y"], Y, rtol=0, atol=2e-6)
    assert not list(tmp_path.glob("*.parts"))


def damaged(x: np.ndarray) -> Any:
    rows = [row.tolist() for row in x]
    rows[3] = None  # type: ignore[call-overload]
    rows[70] = rows[70][:-1]
    rows[999] = [1e60] * FEATURES
    return pa.table({"x": pa.array(rows, pa.list_(pa.float64()))})


def test_bad_rows_are_left_out_and_named(model: Path, tmp_path: Path) -> None:
    pa.parquet.write_table(damaged(X), tmp_path / "d.parquet")
    outcome = stream(model, tmp_path / "d.parquet", tmp_path / "out.parquet", batch=64, on_error="skip")
    assert (outcome.rows, outcome.written) == (ROWS, ROWS - 3)
    assert "null" in outcome.bad[3]
    assert "holds 5 numbers where 6 are wanted" in outcome.bad[70]
    assert "no float32" in outcome.bad[999]
    written = read(outcome.output)
    good = np.setdiff1d(np.arange(ROWS), [3, 70, 999])
    np.testing.assert_array_equal(written["row"], good)
    np.testing.assert_allclose(written["y"], Y[good], rtol=0, atol=2e-6)


def test_a_bad_row_ends_the_run_with_its_number_and_leaves_nothing(model: Path, tmp_path: Path) -> None:
    pa.parquet.write_table(damaged(X), tmp_path / "d.parquet")
    with pytest.raises(RefusedError, match=r"d\.parquet: row 3 cannot be given to the model.*null"):
        stream(model, tmp_path / "d.parquet", tmp_path / "out.parquet", batch=64)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["d.parquet", "m.onnx"]


def test_a_cell_that_is_no_number_costs_one_row(model: Path, tmp_path: Path) -> None:
    lines = ["a,b,c,d,e,f,note", *(",".join([*map(repr, row.tolist()), "hello"]) for row in X[:50])]
    lines[8] = lines[8].replace(",", ",twelve,", 1).rpartition(",")[0]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    outcome = stream(
        model, tmp_path / "d.csv", tmp_path / "out.npz", columns={"x": tuple("abcdef")}, on_error="skip"
    )
    assert list(outcome.bad) == [7]
    good = np.setdiff1d(np.arange(50), [7])
    np.testing.assert_allclose(read(outcome.output)["y"], Y[good], rtol=0, atol=2e-6)


def test_a_row_at_which_the_model_itself_fails_is_found(tmp_path: Path) -> None:
    table = RNG.standard_normal((10, 2)).astype(np.float32)
    model = save(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [value("ids", ["batch"], TensorProto.INT64)],
        [value("y", ["batch", 2])],
        {"table": table},
        tmp_path / "m.onnx",
    )
    ids = RNG.integers(0, 10, 200)
    ids[[17, 130]] = 99
    np.save(tmp_path / "ids.npy", ids)
    outcome = stream(model, tmp_path / "ids.npy", tmp_path / "out.npz", batch=32, on_error="skip")
    assert sorted(outcome.bad) == [17, 130]
    np.testing.assert_array_equal(read(outcome.output)["y"], table[np.delete(ids, [17, 130])])
    with pytest.raises(NetferryError, match=r"ids\.npy, rows 0 to 31"):
        stream(model, tmp_path / "ids.npy", tmp_path / "out.npz", batch=32)


def test_two_inputs_and_two_outputs_of_other_types(tmp_path: Path) -> None:
    model = save(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("ArgMax", ["a"], ["top"], axis=-1, keepdims=0),
        ],
        [value("a", ["batch", 2, 3]), value("b", ["batch", 1, 1])],
        [value("sum", ["batch", 2, 3]), value("top", ["batch", 2], TensorProto.INT64)],
        {},
        tmp_path / "m.onnx",
    )
    a, b = RNG.standard_normal((40, 2, 3)).astype(np.float32), np.arange(40, dtype=np.int32)
    nested = pa.FixedSizeListArray.from_arrays(lists(a.reshape(80, 3)), 2)
    pa.parquet.write_table(pa.table({"b": b, "a": nested, "other": ["text"] * 40}), tmp_path / "d.parquet")
    outcome = stream(model, tmp_path / "d.parquet", tmp_path / "out.parquet", batch=7)
    written = read(outcome.output)
    np.testing.assert_allclose(written["sum"], a + b.reshape(40, 1, 1), atol=1e-6)
    np.testing.assert_array_equal(written["top"], a.argmax(-1))


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_images_are_read_resized_and_scaled(layout: str, tmp_path: Path) -> None:
    dims = ["batch", 3, 8, 8] if layout == "channels first" else ["batch", 8, 8, 3]
    model = save(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", dims)],
        [value("y", dims)],
        {},
        tmp_path / "m.onnx",
    )
    folder = tmp_path / "bilder ü"
    folder.mkdir()
    raw = RNG.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    for number, pixels in enumerate(raw):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    Image.fromarray(np.full((16, 16, 3), 128, np.uint8)).save(folder / "5.png")
    (folder / "6.png").write_bytes(b"no image")
    how = pixels_from_flag("mean=0.5;0.4;0.3,std=0.2")
    assert how == Pixels(mean=(0.5, 0.4, 0.3), std=(0.2,))
    outcome = stream(model, folder, tmp_path / "out.npz", pixels=how, on_error="skip", batch=3)
    assert list(outcome.bad) == [6]
    assert "6.png" in outcome.bad[6]
    wanted = (np.concatenate([raw, np.full((1, 8, 8, 3), 128)]) / 255 - [0.5, 0.4, 0.3]) / 0.2
    if layout == "channels first":
        wanted = wanted.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(read(outcome.output)["y"], wanted, atol=1e-5)


def test_an_interrupted_run_goes_on_where_it_stopped(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = parquet_of_lists(tmp_path), tmp_path / "out.parquet"
    monkeypatch.setattr(stream_module, "PART_ROWS", 200)
    monkeypatch.setattr(stream_module, "BLOCK", 100)
    run, calls = Session.run, []

    def interrupted(self: Session, inputs: Any) -> Any:
        calls.extend(
            [1] if len(inputs["x"]) > 1 else []
        )  # rows alone are those that are asked whether they mix
        if len(calls) == 7:
            raise KeyboardInterrupt
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", interrupted)
    with pytest.raises(InterruptedStreamError, match=r"600 rows are kept in out\.parquet\.parts"):
        stream(model, path, out, batch=100)
    assert not out.exists()
    outcome = stream(model, path, out, batch=100)
    assert outcome.resumed == 600
    assert len(calls) == 7 + 4
    np.testing.assert_allclose(read(out)["y"], Y, rtol=0, atol=2e-6)
    assert not list(tmp_path.glob("*.parts"))


def test_parts_of_another_job_are_not_used(model: Path, tmp_path: Path) -> None:
    path, out = parquet_of_lists(tmp_path), tmp_path / "out.parquet"
    job = {"model": "another"}
    kept = parts_module.Parts(out)
    with kept.held():
        kept.open(job)
        with kept.writing() as writer:
            writer.add(0, ROWS, {"y": np.zeros((ROWS, 3), np.float32)}, {})
    outcome = stream(model, path, out)
    assert outcome.resumed == 0
    np.testing.assert_allclose(read(out)["y"], Y, rtol=0, atol=2e-6)


def test_a_killed_run_goes_on(model: Path, tmp_path: Path) -> None:
    path, out = parquet_of_lists(tmp_path), tmp_path / "out.parquet"
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        "from netferry.inference import stream as s\n"
        "from netferry.inference.session import Session\n"
        "s.PART_ROWS, s.BLOCK, run = 100, 100, Session.run\n"
        "Session.run = lambda self, x: (time.sleep(0.1), run(self, x))[1]\n"
        "from netferry.tasks.stream import stream\n"
        "stream(*sys.argv[1:], batch=100)\n"
    )
    child = subprocess.Popen([sys.executable, str(script), str(model), str(path), str(out)])
    parts = tmp_path / "out.parquet.parts"
    until = time.monotonic() + 60
    while time.monotonic() < until and (not parts.is_dir() or len(list(parts.glob("*.arrow"))) < 3):
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    outcome = stream(model, path, out, batch=100)
    assert outcome.resumed >= 300
    np.testing.assert_allclose(read(out)["y"], Y, rtol=0, atol=2e-6)


REFUSED: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "an output of no kind": (lambda path: {"output": path / "out.txt"}, "not a kind of file"),
    "data of no kind": (lambda path: {"data": path / "m.onnx"}, "not a kind of data"),
    "data that is not there": (lambda path: {"data": path / "no.parquet"}, "no such file"),
    "a column that is not there": (lambda path: {"columns": {"x": ["g"]}}, "no column 'g'"),
    "an input that is not there": (lambda path: {"columns": {"z": ["x"]}}, "no such input"),
    "an engine that is none": (lambda path: {"engine": "spark"}, "no such engine"),
    "no rows at all in a batch": (lambda path: {"batch": 0}, "at least one row"),
    "another way with errors": (lambda path: {"on_error": "hide"}, "no such way"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_before_any_work(case: str, model: Path, tmp_path: Path) -> None:
    change, message = REFUSED[case]
    call = {"data": npz(tmp_path), "output": tmp_path / "out.npz"} | change(tmp_path)
    with pytest.raises(NetferryError, match=message):
        stream(model, **call)
    assert not list(tmp_path.glob("out*"))


def test_text_where_numbers_are_wanted_is_refused(model: Path, tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": ["a", "b"]}), tmp_path / "d.parquet")
    with pytest.raises(UsageError, match="column 'x' holds no numbers"):
        stream(model, tmp_path / "d.parquet", tmp_path / "out.npz")


def test_empty_data_gives_an_empty_result(model: Path, tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"x": lists(X[:0])}), tmp_path / "d.parquet")
    outcome = stream(model, tmp_path / "d.parquet", tmp_path / "out.parquet")
    assert (outcome.rows, outcome.written) == (0, 0)
    assert pa.parquet.read_table(outcome.output).num_rows == 0
