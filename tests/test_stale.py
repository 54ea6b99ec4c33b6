"""No answer is of yesterday: what is kept counts as long as the contents that it stands on are the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper

from netferry.converters.disk import digests
from netferry.converters.errors import RefusedError, WriteError
from netferry.inference import stream as room
from netferry.inference.session import Session
from netferry.tasks import catalogue, fanout
from netferry.tasks.fanout import Answer, Task
from netferry.tasks.stream import stream

ROWS = 60
X = np.random.default_rng(5).standard_normal((ROWS, 5)).astype(np.float32)


def dense(path: Path, seed: int = 1, beside: str | None = None) -> Path:
    weight = np.random.default_rng(seed).standard_normal((5, 4)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("x", 5), ("y", 4))
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, path, save_as_external_data=beside is not None, location=beside, size_threshold=0)
    return path


def unseen(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file's content and give it back its size and its time."""
    before = path.stat()
    change(path)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x40
    path.write_bytes(data)


# ---- catalogues -------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue of a pair of files and a pair of factories; comparing is counted, and passes."""
    monkeypatch.chdir(tmp_path)
    dense(tmp_path / "a.onnx")
    dense(tmp_path / "b.onnx", beside="weights.bin")
    (tmp_path / "factory.py").write_text(
        "from layers import width\nfrom pack import deep\n\ndef make():\n    return open('numbers.txt')\n"
    )
    (tmp_path / "layers.py").write_text("width = 5\n")
    (tmp_path / "numbers.txt").write_text("12")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from . import deep\n")
    (tmp_path / "pack" / "deep.py").write_text("depth = 3\n")
    (tmp_path / "other.py").write_text("depth = 3\n")
    (tmp_path / "models.toml").write_text(
        '[[pair]]\na = "a.onnx"\nb = "b.onnx"\nname = "files"\n\n[[pair]]\na = "factory.py:make"\nb = "a.onnx"\nname = "code"\n'
        '\n[[pair]]\na = "factory:make"\nb = "a.onnx"\nname = "dotted"\n'
    )
    verdict = {"status": "passed", "outputs": [], "reason": ""}
    monkeypatch.setattr(fanout, "run", lambda task, stop=None: Answer(task, verdict, None, 1.0))
    return tmp_path / "models.toml"


def kept(pairs: Path) -> dict[str, bool]:
    return {pair.name: pair.kept for pair in catalogue.verify_all(pairs, factories=True).pairs}


CHANGES: dict[str, tuple[str, Callable[[Path], object], set[str]]] = {
    "a model": ("a.onnx", flip, {"files", "code", "dotted"}),
    "weights beside a model": ("weights.bin", flip, {"files"}),
    "the factory itself": ("factory.py", lambda f: f.write_text(f.read_text().replace("open", "Open")), {"code", "dotted"}),
    "what the factory imports": ("layers.py", lambda f: f.write_text("width = 6\n"), {"code", "dotted"}),
    "a module of a package": ("pack/deep.py", lambda f: f.write_text("depth = 4\n"), {"code", "dotted"}),
    "a package's beginning": ("pack/__init__.py", lambda f: f.write_text("from . import Deep\n"), {"code", "dotted"}),
    "a file that the code names": ("numbers.txt", lambda f: f.write_text("13"), {"code", "dotted"}),
    "code that nobody imports": ("other.py", lambda f: f.write_text("depth = 4\n"), set()),
    "a kept answer": ("models.toml.results/files.json", lambda f: f.write_text(f.read_text().replace("1.0", "2.0")), {"files"}),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_an_answer_counts_as_long_as_its_contents_are_the_same(change: str, pairs: Path) -> None:
    assert kept(pairs) == {"files": False, "code": False, "dotted": False}
    assert kept(pairs) == {"files": True, "code": True, "dotted": True}
    name, act, anew = CHANGES[change]
    unseen(pairs.parent / name, act)
    if change == "a kept answer":  # someone's hand was in it: it is neither used nor replaced in silence
        with pytest.raises(Exception, match="changed after netferry had written it"):
            kept(pairs)
        return
    assert {name for name, old in kept(pairs).items() if not old} == anew


def test_answers_that_come_with_a_catalogue_are_not_believed_with_force_either(pairs: Path) -> None:
    """Copied with their ledger, as an archive brings them: the digests are true, the files are others."""
    kept(pairs)
    home = pairs.parent / "models.toml.results"
    before = pairs.parent / "before"
    before.mkdir()
    for file in list(home.iterdir()):
        file.rename(before / file.name)  # it stays, so that no copy gets its inode
    for file in before.iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    with pytest.raises(WriteError, match="--force"):
        kept(pairs)
    found = catalogue.verify_all(pairs, factories=True, force=True).pairs
    assert not any(pair.kept for pair in found)


def test_files_that_are_only_touched_are_the_same(pairs: Path) -> None:
    kept(pairs)
    for file in pairs.parent.glob("*.*"):
        if file.is_file():
            os.utime(file)
    assert kept(pairs) == {"files": True, "code": True, "dotted": True}


def test_an_answer_to_files_that_change_meanwhile_is_not_kept(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fanout.run

    def changing(task: Task, stop: object = None) -> Answer:
        if task.name == "files":
            unseen(pairs.parent / "weights.bin", flip)
        return run(task)

    with monkeypatch.context() as patch:
        patch.setattr(fanout, "run", changing)
        assert kept(pairs) == {"files": False, "code": False, "dotted": False}
    assert kept(pairs) == {"files": False, "code": True, "dotted": True}
    assert kept(pairs) == {"files": True, "code": True, "dotted": True}


def test_a_file_that_many_pairs_name_is_read_once_before_they_run(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = '[[pair]]\na = "a.onnx"\nb = "b.onnx"\nseed = {0}\nname = "{0}"\n'
    pairs.write_text("".join(pair.format(seed) for seed in range(30)))
    kept(pairs)
    read: list[str] = []
    contents = fanout._contents
    monkeypatch.setattr(fanout, "_contents", lambda file: read.append(file.name) or contents(file))
    assert all(kept(pairs).values())
    assert sorted(read) == ["a.onnx", "b.onnx", "weights.bin"]


def test_code_of_a_package_that_is_not_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert digests.code_of("no.such:make") == digests.code_of("nowhere.py:make") == {}
    (tmp_path / "broken.py").write_text("def (")
    assert list(digests.code_of("broken:make")) == ["broken.py"]
    (tmp_path / "loop.py").write_text("import loop, broken")
    assert sorted(digests.code_of("loop:make")) == ["broken.py", "loop.py"]


# ---- rows of data -----------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows whose run was interrupted after 40 of 60; the working folder is theirs."""
    monkeypatch.chdir(tmp_path)
    dense(tmp_path / "m.onnx", beside="m.bin")
    rows(tmp_path)
    monkeypatch.setattr(room, "PART_ROWS", 20)
    monkeypatch.setattr(room, "BLOCK", 10)
    run, calls = Session.run, []

    def interrupted(self: Session, inputs: Any) -> Any:
        calls.extend([1] if len(inputs["x"]) > 1 else [])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return run(self, inputs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Session, "run", interrupted)
        stream("m.onnx", "rows.arrow", "out.parquet", batch=10)
    return tmp_path


def rows(folder: Path, scale: float = 1.0) -> None:
    x = pa.FixedSizeListArray.from_arrays((X * np.float32(scale)).reshape(-1), 5)
    with (
        pa.OSFile(str(folder / "rows.arrow"), "wb") as file,
        pa.ipc.new_file(file, pa.schema([("x", x.type)])) as one,
    ):
        for at in range(0, ROWS, 20):
            one.write_batch(pa.record_batch({"x": x.slice(at, 20)}))


def finished() -> tuple[int, np.ndarray]:
    outcome = stream("m.onnx", "rows.arrow", "out.parquet", batch=10)
    table = pa.parquet.read_table("out.parquet")
    return outcome.resumed, np.array(table.column("y").to_pylist(), np.float32)


def truth(scale: float = 1.0) -> np.ndarray:
    return np.asarray(Session("m.onnx").run({"x": X * np.float32(scale)})["y"])


def test_an_interrupted_run_goes_on_where_nothing_was_changed(job: Path) -> None:
    for file in job.glob("*.*"):
        os.utime(file)
    resumed, y = finished()
    assert resumed == 40
    np.testing.assert_allclose(y, truth(), rtol=1e-5, atol=1e-6)


def test_other_rows_of_the_same_size_and_time_are_run_anew(job: Path) -> None:
    unseen(job / "rows.arrow", lambda _: rows(job, 2.0))
    resumed, y = finished()
    assert resumed == 0
    np.testing.assert_allclose(y, truth(2.0), rtol=1e-5, atol=1e-6)


def test_other_weights_of_the_same_size_and_time_are_run_anew(job: Path) -> None:
    unseen(job / "m.bin", flip)
    resumed, y = finished()
    assert resumed == 0
    np.testing.assert_allclose(y, truth(), rtol=1e-5, atol=1e-6)


def edited_table(part: Path) -> None:
    table = pa.ipc.open_file(part).read_all()
    changed = table.set_column(
        table.schema.names.index("y"), "y", pa.FixedSizeListArray.from_arrays(np.zeros(80, np.float32), 4)
    )
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_file(file, changed.schema) as one:
        one.write_table(changed)


def edited_note(part: Path) -> None:
    note = part.with_suffix(".json")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"bad": {"3": "mine"}}))


def renamed(part: Path) -> None:
    for ending in (".arrow", ".json"):
        part.with_suffix(ending).rename(part.with_name(f"000000000000040-000000000000060{ending}"))


PARTS: dict[str, Callable[[Path], object]] = {
    "another table": edited_table,
    "one bit": flip,
    "an empty file": lambda part: part.write_bytes(b""),
    "its note": edited_note,
    "no note": lambda part: part.with_suffix(".json").unlink(),
    "a note that is none": lambda part: part.with_suffix(".json").write_text("[" * 10_000),
    "a note of another job": lambda part: part.with_suffix(".json").write_text(
        json.dumps(json.loads(part.with_suffix(".json").read_text()) | {"job": "0"})
    ),
}


@pytest.mark.parametrize("damage", PARTS)
def test_a_part_that_is_not_as_it_was_written_is_made_again(damage: str, job: Path) -> None:
    part = job / "out.parquet.parts" / "000000000000000-000000000000020.arrow"
    PARTS[damage](part)
    resumed, y = finished()
    assert resumed == 20
    np.testing.assert_allclose(y, truth(), rtol=1e-5, atol=1e-6)
    assert not (job / "out.parquet.parts").exists()


def test_strangers_files_among_the_parts_stay(job: Path) -> None:
    parts = job / "out.parquet.parts"
    (parts / "thesis.txt").write_text("mine")
    (parts / "papers").mkdir()
    unseen(job / "rows.arrow", lambda _: rows(job, 2.0))
    finished()
    assert sorted(file.name for file in parts.glob("[!.]*")) == ["mark", "papers", "seal", "thesis.txt"]


def test_data_that_change_while_they_are_read_give_no_result(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Session.run

    def changing(self: Session, inputs: Any) -> Any:
        os.utime("rows.arrow")
        return run(self, inputs)

    monkeypatch.setattr(Session, "run", changing)
    with pytest.raises(RefusedError, match=r"rows\.arrow: the data were changed while they were read"):
        stream("m.onnx", "rows.arrow", "out.parquet", batch=10)
    assert not (job / "out.parquet").exists()


# ---- kept graphs ------------------------------------------------------------------------------------

GRAPHS: dict[str, Callable[[Path], object]] = {
    "another graph": lambda kept: dense(kept, seed=9),
    "one bit of its weights": lambda kept: unseen(kept, flip),
    "no record of it": lambda kept: kept.with_name(".netferry").unlink(),
    "a link to another": lambda kept: (
        kept.unlink(),
        kept.symlink_to(dense(kept.parent.parent / "other.onnx", seed=9)),
    ),
}


@pytest.mark.parametrize("change", GRAPHS)
def test_a_kept_graph_that_was_changed_is_made_anew(change: str, tmp_path: Path) -> None:
    dense(tmp_path / "m.onnx")
    cache = tmp_path / "cache"
    wanted = Session(tmp_path / "m.onnx", cache=cache).run({"x": X})["y"]
    (kept,) = cache.glob("*.onnx")
    written = kept.read_bytes()
    GRAPHS[change](kept)
    np.testing.assert_array_equal(Session(tmp_path / "m.onnx", cache=cache).run({"x": X})["y"], wanted)
    assert kept.read_bytes() == written and not kept.is_symlink()
