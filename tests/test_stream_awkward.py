"""Data as it comes: odd columns, torn lines, empty files, fixed batches, names that collide. Nothing silently wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from netferry.converters.disk.stages import locked
from netferry.converters.errors import NetferryError, RefusedError, UsageError, WriteError
from netferry.inference import stream as room
from netferry.tasks.stream import stream

ROWS, FEATURES = 30, 4
RNG = np.random.default_rng(11)
W = RNG.standard_normal((FEATURES, 2)).astype(np.float32)
X = RNG.standard_normal((ROWS, FEATURES)).astype(np.float32)


def save(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    weights: Any = None,
    dtype: int = 1,
) -> Path:
    ends = [
        [helper.make_tensor_value_info(name, dtype, dims) for name, dims in side.items()]
        for side in (inputs, outputs)
    ]
    held = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", *ends, held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(tmp_path / "linéaire.onnx", [node], {"x": ["batch", FEATURES]}, {"y": ["batch", 2]}, {"w": W})


def identity(path: Path, dims: list[Any], output: str = "y", dtype: int = TensorProto.FLOAT) -> Path:
    node = helper.make_node("Identity", ["x"], [output])
    return save(path / "identity.onnx", [node], {"x": dims}, {output: dims}, dtype=dtype)


def parquet(path: Path, **columns: Any) -> Path:
    pa.parquet.write_table(pa.table(columns), path / "rows ü.parquet", row_group_size=7)
    return path / "rows ü.parquet"


def lists(array: np.ndarray) -> Any:
    column = pa.array(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def outputs(path: Path) -> dict[str, list[Any]]:
    return dict(pa.parquet.read_table(path).to_pydict())


WHOLE = RNG.integers(0, 2, (ROWS, FEATURES))
COLUMNS: dict[str, Callable[[np.ndarray], Any]] = {
    "truth values": lambda column: pa.array(column.astype(bool)),
    "decimals": lambda column: pa.array(column).cast(pa.decimal128(21, 2)),
    "categories": lambda column: pa.array(column.astype(float)).dictionary_encode(),
    "half floats": lambda column: pa.array(column.astype(np.float16)),
    "chunks": lambda column: pa.chunked_array([pa.array(column[:11]), pa.array(column[11:])]),
    "unsigned bytes": lambda column: pa.array(column.astype(np.uint8)),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_every_numeric_type_are_numbers(kind: str, linear: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, **{f"f{i}": COLUMNS[kind](WHOLE[:, i]) for i in range(FEATURES)})
    stream(linear, data, tmp_path / "o.parquet", batch=8)
    np.testing.assert_allclose(outputs(tmp_path / "o.parquet")["y"], WHOLE @ W, atol=1e-5)


def test_arrow_categories_and_tensors_are_numbers(linear: Path, tmp_path: Path) -> None:
    table = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(X)})
    with pa.ipc.new_file(str(tmp_path / "d.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=13)
    stream(linear, tmp_path / "d.arrow", tmp_path / "o.parquet", batch=4)
    np.testing.assert_allclose(outputs(tmp_path / "o.parquet")["y"], X @ W, atol=1e-5)


NO_NUMBERS: dict[str, Any] = {
    "structs": pa.array([{"a": 1.0}] * 3),
    "maps": pa.array([[("a", 1.0)]] * 3, pa.map_(pa.string(), pa.float32())),
    "bytes": pa.array([b"ab"] * 3),
    "times": pa.array([1, 2, 3], pa.timestamp("s")),
    "text": pa.array(["a", "b", "c"]),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_what_is_no_number_is_refused_by_name(kind: str, linear: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="column 'x' holds no numbers"):
        stream(linear, parquet(tmp_path, x=NO_NUMBERS[kind]), tmp_path / "o.parquet")


def test_nested_rows_of_other_sizes_are_bad_rows_and_never_dealt_out_anew(tmp_path: Path) -> None:
    model = identity(tmp_path, ["batch", 2, 3])
    rows = [
        [[1.0, 2, 3], [4, 5, 6]],
        [[1, 2], [3, 4], [5, 6]],
        [[1, 2, 3], [4, 5]],
        None,
        [[1, 2, 3], [4, None, 6]],
    ]
    data = parquet(tmp_path, x=pa.array(rows, pa.list_(pa.list_(pa.float32()))))
    outcome = stream(model, data, tmp_path / "o.parquet", on_error="skip")
    assert outputs(tmp_path / "o.parquet") == {"row": [0], "y": [rows[0]]}
    assert [outcome.bad[row].partition("'x' ")[2] for row in range(1, 5)] == [
        "holds 3x2 numbers where 2x3 are wanted", "holds lists of several lengths", "is null",
        "holds a null among its numbers",
    ]  # fmt: skip
    np.save(tmp_path / "x.npy", np.zeros((5, 3, 2), np.float32))
    with pytest.raises(UsageError, match="rows of 3x2"):
        stream(model, tmp_path / "x.npy", tmp_path / "o.parquet")


def test_nested_rows_feed_an_input_of_two_free_sizes(tmp_path: Path) -> None:
    array = RNG.standard_normal((5, 3, 2)).astype(np.float32)
    data = parquet(tmp_path, x=lists(array))
    stream(identity(tmp_path, ["batch", "h", "w"]), data, tmp_path / "o.npz", batch=2)
    with np.load(tmp_path / "o.npz") as written:
        np.testing.assert_array_equal(written["y"], array)


def test_rows_of_several_lengths_go_one_by_one(tmp_path: Path) -> None:
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=1)
    model = save(
        tmp_path / "m.onnx", [node], {"a": ["batch", "t"], "b": ["batch", "u"]}, {"y": ["batch", "v"]}
    )
    a = [[float(i)] * (1 + i % 3) for i in range(9)]
    b = [[-1.0] * (1 + i % 2) for i in range(9)]
    kind = pa.list_(pa.float32())
    data = parquet(tmp_path, a=pa.array(a, kind), b=pa.array(b, kind))
    with pytest.raises(UsageError, match="--batch 1"):
        stream(model, data, tmp_path / "o.parquet")
    stream(model, data, tmp_path / "o.parquet", batch=1)
    assert outputs(tmp_path / "o.parquet")["y"] == [x + y for x, y in zip(a, b, strict=True)]
    with pytest.raises(RefusedError, match=r"several sizes.*\.parquet"):
        stream(model, data, tmp_path / "o.npz", batch=1)


@pytest.mark.parametrize("fixed", [1, 4])
def test_a_model_of_a_fixed_batch_takes_any_number_of_rows(fixed: int, tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = save(tmp_path / "m.onnx", [node], {"x": [fixed, FEATURES]}, {"y": [fixed, 2]}, {"w": W})
    rows: list[Any] = [row.tolist() for row in X]
    rows[5] = None
    data = parquet(tmp_path, x=pa.array(rows, pa.list_(pa.float32())))
    outcome = stream(model, data, tmp_path / "o.parquet", on_error="skip")
    written = outputs(tmp_path / "o.parquet")
    good = np.setdiff1d(np.arange(ROWS), list(outcome.bad))
    assert written["row"] == good.tolist() == [row for row in range(ROWS) if row != 5]
    np.testing.assert_allclose(written["y"], (X @ W)[good], atol=1e-5)


def test_an_output_without_rows_is_refused_even_where_its_size_happens_to_fit(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    axes = {"axes": np.array([0])}
    model = save(tmp_path / "m.onnx", [node], {"x": ["batch", FEATURES]}, {"y": [FEATURES]}, axes)
    data = parquet(tmp_path, x=lists(X))
    with pytest.raises(RefusedError, match=r"no row for each row.*--batch 1"):
        stream(model, data, tmp_path / "o.parquet", batch=FEATURES)
    stream(model, data, tmp_path / "o.parquet", batch=1)
    np.testing.assert_allclose(outputs(tmp_path / "o.parquet")["y"], X)


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv", ".npz"])
def test_no_rows_give_the_columns_all_the_same(ending: str, linear: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, x=lists(X[:0]))
    out = tmp_path / f"o{ending}"
    outcome = stream(linear, data, out, on_error="skip")
    assert (outcome.rows, outcome.written) == (0, 0)
    if ending == ".npz":
        with np.load(out) as written:
            assert {name: written[name].shape for name in written} == {"row": (0,), "y": (0, 2)}
    elif ending == ".csv":
        assert out.read_text() == '"row","y_0","y_1"\n'
    else:
        table = pa.parquet.read_table(out) if ending == ".parquet" else pa.ipc.open_file(str(out)).read_all()
        assert table.column_names == ["row", "y"]
        assert table["y"].type.list_size == 2


@pytest.mark.parametrize("ending", [".parquet", ".npz"])
def test_an_output_called_row_is_kept_beside_the_numbers_of_rows(ending: str, tmp_path: Path) -> None:
    model = identity(tmp_path, ["batch", FEATURES], output="row")
    data = parquet(tmp_path, x=lists(X))
    stream(model, data, tmp_path / f"o{ending}", on_error="skip")
    if ending == ".npz":
        with np.load(tmp_path / "o.npz") as written:
            np.testing.assert_array_equal(written["row"], X)
            np.testing.assert_array_equal(written["row_"], np.arange(ROWS))
    else:
        written = outputs(tmp_path / "o.parquet")
        np.testing.assert_array_equal(written["row"], X)
        assert written["row_"] == list(range(ROWS))


def test_csv_lines_with_too_few_or_too_many_cells_are_bad_rows_with_their_numbers(
    linear: Path, tmp_path: Path
) -> None:
    lines = [",".join(map(repr, row.tolist())) + ',"a ""quoted"",\nnote"' for row in X]
    torn = {0: "1,2", 9: "1,2,3,4,5,6", 10: "1", ROWS - 1: "7,8,9"}
    text = "\n".join(["a,b,c,d,note", *(torn.get(row, line) for row, line in enumerate(lines))]) + "\n"
    (tmp_path / "d.csv").write_text(text)
    columns = {"x": list("abcd")}
    outcome = stream(
        linear, tmp_path / "d.csv", tmp_path / "o.parquet", columns=columns, on_error="skip", batch=4
    )
    assert sorted(outcome.bad) == sorted(torn)
    assert outcome.bad[9] == "its line has 6 cells where 5 are wanted"
    good = np.setdiff1d(np.arange(ROWS), list(torn))
    written = outputs(tmp_path / "o.parquet")
    assert written["row"] == good.tolist()
    np.testing.assert_allclose(written["y"], (X @ W)[good], atol=1e-5)


def test_csv_keeps_whole_numbers_that_float64_cannot_hold(tmp_path: Path) -> None:
    model = identity(tmp_path, ["batch"], dtype=TensorProto.INT64)
    (tmp_path / "d.csv").write_text("x\n9007199254740993\n-5\n")
    stream(model, tmp_path / "d.csv", tmp_path / "o.parquet")
    assert outputs(tmp_path / "o.parquet")["y"] == [9007199254740993, -5]


def test_csv_columns_of_one_name_are_refused(linear: Path, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,a,c,d\n1,2,3,4\n")
    with pytest.raises(RefusedError, match="several columns are called 'a'"):
        stream(linear, tmp_path / "d.csv", tmp_path / "o.parquet")


def test_photographs_stand_upright_and_deep_gray_is_no_row(tmp_path: Path) -> None:
    model = identity(tmp_path, ["batch", 3, 8, 6], dtype=TensorProto.UINT8)
    raw = RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x112] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(raw).save(tmp_path / "images" / "0.png", exif=turned)
    Image.fromarray(raw[..., 0].astype(np.uint16) * 257).save(tmp_path / "images" / "1.png")
    outcome = stream(model, tmp_path / "images", tmp_path / "o.npz", on_error="skip")
    assert "more than 8 bits" in outcome.bad[1]
    with np.load(tmp_path / "o.npz") as written:
        np.testing.assert_array_equal(written["y"], np.rot90(raw, -1).transpose(2, 0, 1)[None])


def test_images_for_a_model_that_takes_none_are_a_fault_of_the_call(linear: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "0.png")
    with pytest.raises(UsageError, match="does not take images"):
        stream(linear, tmp_path / "images", tmp_path / "o.npz", on_error="skip")


def test_the_data_is_never_overwritten(linear: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, x=lists(X))
    (tmp_path / "link.parquet").symlink_to(data)
    before = data.read_bytes()
    with pytest.raises(UsageError, match="the output is the data itself"):
        stream(linear, tmp_path / "link.parquet", data)
    assert data.read_bytes() == before


def test_results_may_go_into_the_folder_of_the_data_and_be_resumed(
    linear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for number, row in enumerate(X):
        np.save(folder / f"{number:03d}.npy", row)
    monkeypatch.setattr(room, "PART_ROWS", 10)
    add, calls = room.Worker._add, []

    def interrupted(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(*arguments)

    monkeypatch.setattr(room.Worker, "_add", interrupted)
    monkeypatch.setattr(room, "BLOCK", 10)
    with pytest.raises(room.InterruptedStreamError):
        stream(linear, folder, folder / "o.npz", batch=10)
    assert stream(linear, folder, folder / "o.npz", batch=10).resumed == 20
    with np.load(folder / "o.npz") as written:
        np.testing.assert_allclose(written["y"], X @ W, atol=1e-5)


def test_two_runs_never_write_one_output(linear: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, x=lists(X))
    with locked(tmp_path / "o.parquet.parts"):
        (tmp_path / "o.parquet.parts" / "job.json").write_text("another's")
        with pytest.raises(WriteError, match="another process is writing this"):
            stream(linear, data, tmp_path / "o.parquet")
        assert (tmp_path / "o.parquet.parts" / "job.json").read_text() == "another's"
    assert stream(linear, data, tmp_path / "o.parquet").rows == ROWS


def test_a_place_that_cannot_be_written_to_is_told_as_such(linear: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, x=lists(X))
    with pytest.raises(WriteError, match="cannot write here"):
        stream(linear, data, linear / "o.parquet")


def test_damage_half_way_names_the_file(linear: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, x=lists(np.repeat(X, 50, 0)))
    content = bytearray(data.read_bytes())
    content[40:4000] = bytes(3960)
    data.write_bytes(content)
    with pytest.raises(NetferryError, match=r"rows ü\.parquet: cannot be read on"):
        stream(linear, data, tmp_path / "o.parquet")
