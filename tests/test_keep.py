"""Columns of the data that go along to the results: as they are, in their rows, under a name of their own."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper
from PIL import Image

from netferry.converters.errors import UsageError
from netferry.inference import stream as room
from netferry.tasks.stream import stream

ROWS = 50
X = np.random.default_rng(31).standard_normal((ROWS, 3)).astype(np.float32)
DAY = datetime.datetime(2026, 1, 1)

COLUMNS: dict[str, Any] = {
    "numbers with nulls": pa.array([None if i % 7 == 0 else 2**60 + i for i in range(ROWS)]),
    "text": pa.array([f"ключ {i}" for i in range(ROWS)]),
    "days": pa.array([DAY + datetime.timedelta(i) for i in range(ROWS)]),
    "categories": pa.array([f"c{i % 3}" for i in range(ROWS)]).dictionary_encode(),
    "decimals": pa.array(range(ROWS)).cast(pa.decimal128(21, 2)),
    "truth values": pa.array([i % 3 == 0 for i in range(ROWS)]),
    "lists": pa.array([list(range(i % 4)) for i in range(ROWS)]),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Takes three numbers, or a small image, and gives them back as ``y``."""
    return identity(tmp_path / "m.onnx", ["batch", 3])


def identity(path: Path, dims: Sequence[int | str]) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def parquet(path: Path, bad: Sequence[int] = (), **columns: Any) -> Path:
    features = {f"f{i}": X[:, i].astype(object) for i in range(3)}
    for row in bad:
        features["f1"][row] = None
    table = pa.table({name: pa.array(list(one), pa.float32()) for name, one in features.items()} | columns)
    pa.parquet.write_table(table, path / "rows.parquet", row_group_size=16)
    return path / "rows.parquet"


READERS = {".parquet": pa.parquet.read_table, ".arrow": pa.feather.read_table}


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_a_kept_column_stands_beside_the_results_of_its_rows(
    kind: str, ending: str, on_error: str, model: Path, tmp_path: Path
) -> None:
    bad = [3, 17, 40] if on_error == "skip" else []
    data = parquet(tmp_path, bad, key=COLUMNS[kind])
    output = tmp_path / f"o{ending}"
    stream(model, data, output, keep=["key"], batch=7, on_error=on_error)
    table, good = READERS[ending](output), np.setdiff1d(np.arange(ROWS), bad)
    wanted = [COLUMNS[kind][int(row)].as_py() for row in good]
    assert table.column("key").to_pylist() == wanted
    np.testing.assert_array_equal(np.array(table.column("y").to_pylist(), np.float32), X[good])
    assert table.schema.names == (["row"] if bad else []) + ["key", "y"]


def test_csv_keeps_letters_as_they_are_written(model: Path, tmp_path: Path) -> None:
    lines = [f'{i:03},"a, ""b""",{a},{b},{c}' for i, (a, b, c) in enumerate(X.tolist())]
    (tmp_path / "rows.csv").write_text("\n".join(["code,note,f0,f1,f2", *lines]))
    stream(model, tmp_path / "rows.csv", tmp_path / "o.csv", keep=["code", "note"])
    words = (tmp_path / "o.csv").read_text().splitlines()
    assert words[0] == '"code","note","y_0","y_1","y_2"'
    assert words[8].startswith('"007","a, ""b""",')
    stream(
        model,
        tmp_path / "rows.csv",
        tmp_path / "o.parquet",
        keep=["f2", "code"],
        columns={"x": ["f0", "f1", "f2"]},
    )
    table = pa.parquet.read_table(tmp_path / "o.parquet")
    assert table.column("code").to_pylist() == [f"{i:03}" for i in range(ROWS)]
    assert table.column("f2").to_pylist() == [str(row[2]) for row in X.tolist()]
    np.testing.assert_array_equal(np.array(table.column("y").to_pylist(), np.float32), X)


@pytest.mark.parametrize(
    "kind", ["numbers with nulls", "text", "days", "truth values", "categories", "decimals"]
)
def test_plain_columns_are_kept_in_csv(kind: str, model: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, key=COLUMNS[kind])
    stream(model, data, tmp_path / "o.csv", keep=["key"], batch=7)
    expected = pa.table({"key": COLUMNS[kind]})
    if kind == "categories":
        expected = pa.table({"key": COLUMNS[kind].dictionary_decode()})
    pa.csv.write_csv(expected, tmp_path / "expected.csv")
    wanted = (tmp_path / "expected.csv").read_text().splitlines()
    written = (tmp_path / "o.csv").read_text().splitlines()
    assert [line.rsplit(",", 3)[0] for line in written] == wanted


def test_arrays_are_kept_and_may_be_the_input_too(model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=X, key=np.arange(ROWS), word=np.array([f"w{i}" for i in range(ROWS)]))
    stream(model, tmp_path / "rows.npz", tmp_path / "o.npz", keep=["key", "x"], batch=8)
    with np.load(tmp_path / "o.npz") as written:
        assert sorted(written) == ["key", "x", "y"]
        np.testing.assert_array_equal(written["key"], np.arange(ROWS))
        np.testing.assert_array_equal(written["x"], X)
    stream(model, tmp_path / "rows.npz", tmp_path / "o.parquet", keep=["word"])
    assert pa.parquet.read_table(tmp_path / "o.parquet").column("word")[7].as_py() == "w7"
    np.save(tmp_path / "alone.npy", X)
    stream(model, tmp_path / "alone.npy", tmp_path / "o.npz", keep=["alone"])
    with np.load(tmp_path / "o.npz") as written:
        np.testing.assert_array_equal(written["alone"], written["y"])


def test_results_of_images_carry_the_names_of_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "bilder"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(folder / f"{i} ü.png")
    (folder / "3 ü.png").write_bytes(b"torn")
    model = identity(tmp_path / "m.onnx", ["batch", 3, 4, 4])
    stream(model, folder, tmp_path / "o.parquet", keep=["file"], on_error="skip")
    table = pa.parquet.read_table(tmp_path / "o.parquet")
    assert table.column("file").to_pylist() == [f"{i} ü.png" for i in (0, 1, 2, 4)]
    assert [round(row[0][0][0] * 255) for row in table.column("y").to_pylist()] == [0, 1, 2, 4]


def test_a_column_called_like_an_output_stands_beside_it(model: Path, tmp_path: Path) -> None:
    data = parquet(tmp_path, y=pa.array(range(ROWS)), row=pa.array(range(ROWS)))
    stream(model, data, tmp_path / "o.parquet", keep=["y", "row"], on_error="skip")
    table = pa.parquet.read_table(tmp_path / "o.parquet")
    assert table.schema.names == ["row_", "y_", "row", "y"]
    assert table.column("y_").to_pylist() == list(range(ROWS))
    np.testing.assert_array_equal(np.array(table.column("y").to_pylist(), np.float32), X)


@pytest.mark.parametrize(
    ("ending", "kind", "message"),
    [
        (".npz", "text", "'key' cannot be kept in a .npz"),
        (".npz", "numbers with nulls", "nulls"),
        (".csv", "lists", "cannot be kept in a .csv"),
    ],
)
def test_what_a_file_cannot_hold_is_refused(
    ending: str, kind: str, message: str, model: Path, tmp_path: Path
) -> None:
    data = parquet(tmp_path, key=COLUMNS[kind])
    with pytest.raises(UsageError, match=message):
        stream(model, data, tmp_path / f"o{ending}", keep=["key"])
    with pytest.raises(UsageError, match="no column 'kez'"):
        stream(model, data, tmp_path / f"o{ending}", keep=["kez"])
    assert not (tmp_path / f"o{ending}").exists()


def test_what_is_kept_belongs_to_what_an_interrupted_run_left(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = parquet(tmp_path, key=COLUMNS["text"])
    monkeypatch.setattr(room, "PART_ROWS", 10)
    monkeypatch.setattr(room, "BLOCK", 10)
    write, calls = room.PartWriter.add, []

    def interrupted(self: Any, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(room.PartWriter, "add", interrupted)
        stream(model, data, tmp_path / "o.parquet", keep=["key"], batch=10)
    assert stream(model, data, tmp_path / "o.parquet", keep=["key"], batch=10).resumed > 0
    assert (
        pa.parquet.read_table(tmp_path / "o.parquet").column("key").to_pylist() == COLUMNS["text"].to_pylist()
    )


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".npz"])
def test_no_rows_have_the_column_all_the_same(ending: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("f0,f1,f2,key\n")
    stream(model, tmp_path / "rows.csv", tmp_path / f"o{ending}", keep=["key"])
    assert (tmp_path / f"o{ending}").exists()
    if ending == ".parquet":
        assert pa.parquet.read_table(tmp_path / "o.parquet").schema.names == ["key", "y"]
