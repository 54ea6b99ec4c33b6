"""netferry replaces what it wrote itself and nobody has changed; people's files, and sources, only when told to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper

import netferry
from netferry.converters.disk import ledger, staging
from netferry.converters.disk.ledger import Overwriting
from netferry.converters.errors import UsageError, WriteError
from netferry.converters.onnx import files as onnx_files
from netferry.tasks.package import package
from netferry.tasks.stream import stream

X = np.random.default_rng(3).standard_normal((8, 5)).astype(np.float32)
MINE = b"a person's own words"


def dense(path: Path, seed: int = 2) -> Path:
    weight = np.random.default_rng(seed).standard_normal((5, 4)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", s]) for n, s in (("x", 5), ("y", 4))
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and rows."""
    monkeypatch.chdir(tmp_path)
    dense(Path("a.onnx"))
    np.savez("x.npz", x=X)
    pa.parquet.write_table(
        pa.table({"x": pa.FixedSizeListArray.from_arrays(X.reshape(-1), 5)}), "rows.parquet"
    )
    return tmp_path


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "netferry", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


Act = Callable[[bool], object]

OUTPUTS: dict[str, tuple[str, Act]] = {
    "convert": ("out.onnx", lambda force: netferry.convert("a.onnx", destination="out.onnx", verify=False, force=force)),
    "convert to a folder": (
        "net/model.py",
        lambda force: netferry.convert("a.onnx", "pytorch", destination="net", verify=False, force=force),
    ),
    "the module of --source": (
        "arrived.py",
        lambda force: netferry.convert("a.onnx", "mxnet", destination="arrived-symbol.json", verify=False, write_source=True, force=force),
    ),
    "the weights of --source": (
        "arrived.safetensors",
        lambda force: netferry.convert("a.onnx", "mxnet", destination="arrived-symbol.json", verify=False, write_source=True, force=force),
    ),
    "the parameters of a symbol": (
        "arrived-0000.params",
        lambda force: netferry.convert("a.onnx", "mxnet", destination="arrived-symbol.json", verify=False, force=force),
    ),
    "a certificate": (
        "proof.json",
        lambda force: netferry.verify("a.onnx", "a.onnx", quick=True, seed=0, certificate="proof.json", force=force),
    ),
    "rows": ("out.parquet", lambda force: stream("a.onnx", "rows.parquet", "out.parquet", force=force)),
    "rows in CSV": ("out.csv", lambda force: stream("a.onnx", "rows.parquet", "out.csv", force=force)),
    "a model card": ("README.md", lambda force: package("a.onnx", name="a", card="README.md", verify=False, force=force)),
    "a model repository": (
        "models/a/config.pbtxt",
        lambda force: package("a.onnx", name="a", triton="models", verify=False, force=force),
    ),
    "a sample request": (
        "samples/request.json",
        lambda force: package("a.onnx", name="a", kserve="samples", verify=False, force=force),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_persons_file_stays_until_force_and_ones_own_is_made_again(kind: str, here: Path) -> None:
    name, act = OUTPUTS[kind]
    mine = here / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(MINE)
    before = {path for path in here.rglob("*") if path.is_file()}
    with pytest.raises(WriteError, match=r"not written here by netferry|other files"):
        act(False)
    assert mine.read_bytes() == MINE
    assert {path for path in here.rglob("*") if path.is_file()} == before
    act(True)
    written = mine.read_bytes()
    assert written != MINE
    act(False)
    assert mine.read_bytes() == written
    mine.write_bytes(written + b"\n")
    with pytest.raises(WriteError, match="changed after netferry had written"):
        act(False)
    assert mine.read_bytes() == written + b"\n"


@pytest.mark.parametrize("kind", ["convert", "a certificate", "rows", "a model card"])
def test_a_link_at_the_destination_is_never_written_through(kind: str, here: Path) -> None:
    name, act = OUTPUTS[kind]
    (here / "mine").write_bytes(MINE)
    (here / name).symlink_to("mine")
    with pytest.raises(WriteError, match="not written here"):
        act(False)
    act(True)
    assert (here / "mine").read_bytes() == MINE
    assert not (here / name).is_symlink()


def test_a_folder_with_a_persons_other_files_is_left_with_force_too(here: Path) -> None:
    (here / "net").mkdir()
    (here / "net" / "thesis.txt").write_bytes(MINE)
    for force in (False, True):
        with pytest.raises(WriteError, match=r"other files.*thesis\.txt"):
            netferry.convert("a.onnx", "pytorch", destination="net", verify=False, force=force)
    assert [path.name for path in (here / "net").iterdir()] == ["thesis.txt"]


# ---- sources ----------------------------------------------------------------------------------------


def link(here: Path) -> str:
    (here / "link.onnx").symlink_to("a.onnx")
    return "link.onnx"


def hard_link(here: Path) -> str:
    os.link(here / "a.onnx", here / "hard.onnx")
    return "hard.onnx"


def through_a_folder(here: Path) -> str:
    (here / "folder").symlink_to(".")
    return "folder/a.onnx"


@pytest.mark.parametrize(
    "name", [lambda _: "a.onnx", link, hard_link, through_a_folder, lambda _: "./a.onnx"]
)
def test_a_source_is_not_replaced_by_its_own_result(name: Callable[[Path], str], here: Path) -> None:
    place, before = name(here), (here / "a.onnx").read_bytes()
    with pytest.raises(WriteError, match="the source itself"):
        netferry.convert("a.onnx", destination=place)
    with pytest.raises(WriteError, match="the source itself"):
        netferry.verify("a.onnx", "a.onnx", certificate=place)
    assert (here / "a.onnx").read_bytes() == before
    assert netferry.convert("a.onnx", destination=place, opset=21, force=True).files


def test_a_source_that_netferry_wrote_is_not_replaced_either(here: Path) -> None:
    netferry.convert("a.onnx", destination="b.onnx", verify=False)
    for act in (
        lambda: netferry.convert("b.onnx", destination="b.onnx"),
        lambda: netferry.verify("a.onnx", "b.onnx", certificate="b.onnx"),
        lambda: stream("b.onnx", "rows.parquet", "rows.parquet"),
    ):
        with pytest.raises((WriteError, UsageError)):
            act()
    netferry.run("b.onnx", {"x": X})


def test_what_a_source_was_made_from_is_not_replaced_by_its_result(here: Path) -> None:
    """There and back: the model that one made from stays, however many steps lie between."""
    netferry.convert("a.onnx", destination="b.onnx", verify=False)
    netferry.convert("b.onnx", destination="c-symbol.json", verify=False)
    netferry.convert("c-symbol.json", destination="d.onnx", verify=False)
    before = (here / "b.onnx").read_bytes()
    with pytest.raises(WriteError, match="the source was made from this"):
        netferry.convert("d.onnx", destination="b.onnx", verify=False)
    assert (here / "b.onnx").read_bytes() == before
    for source, place in (("a.onnx", "b.onnx"), ("b.onnx", "c-symbol.json"), ("c-symbol.json", "d.onnx")):
        netferry.convert(source, destination=place, verify=False)  # the same commands once more
    netferry.convert("d.onnx", destination="b.onnx", verify=False, force=True)


def test_equal_models_in_a_row_may_be_made_again(here: Path) -> None:
    """Each has the bytes of the one before: that it is equal to its source's source makes nothing of it a source."""
    for _ in range(2):
        for source, place in (("a.onnx", "b.onnx"), ("b.onnx", "c.onnx"), ("c.onnx", "d.onnx")):
            netferry.convert(source, destination=place, verify=False)
    assert (here / "b.onnx").read_bytes() == (here / "d.onnx").read_bytes()


# ---- the ledger -------------------------------------------------------------------------------------


def planted(here: Path, **changes: Any) -> None:
    """A ledger as an archive brings it, which claims a person's ``out.onnx``."""
    digest, inode = ledger.Folder.open(here).content("out.onnx")
    files = {"out.onnx": [digest, changes.pop("inode", inode + 1)]}
    document = {
        "format": 1,
        "saves": {"out.onnx": {"kind": "model", "files": files, "made from": []}},
    } | changes
    (here / ledger.NAME).write_text(json.dumps(document))


LEDGERS: dict[str, Callable[[Path], object]] = {
    "one that came with an archive": planted,
    "one of no format": lambda here: planted(here, format=7),
    "no JSON": lambda here: (here / ledger.NAME).write_text("{"),
    "lists in lists": lambda here: (here / ledger.NAME).write_text("[" * 100_000),
    "another document": lambda here: (here / ledger.NAME).write_text('{"saves": 3}'),
    "a link": lambda here: (
        planted(here),
        (here / ledger.NAME).rename("l"),
        (here / ledger.NAME).symlink_to("l"),
    ),
    "a hard link": lambda here: (planted(here), os.link(here / ledger.NAME, here / "l")),
    "a folder": lambda here: (here / ledger.NAME).mkdir(),
    "a FIFO": lambda here: os.mkfifo(here / ledger.NAME),
}


@pytest.mark.parametrize("kind", LEDGERS)
def test_a_ledger_that_is_not_true_allows_nothing(kind: str, here: Path) -> None:
    (here / "out.onnx").write_bytes(MINE)
    LEDGERS[kind](here)
    with pytest.raises(WriteError, match=r"not written here by netferry|it was changed after"):
        netferry.convert("a.onnx", destination="out.onnx", verify=False)
    assert (here / "out.onnx").read_bytes() == MINE


@pytest.mark.parametrize("kind", ["a link", "a folder", "a FIFO", "no JSON", "a hard link"])
def test_what_is_called_like_the_ledger_and_is_none_stays_and_is_in_nobodys_way(
    kind: str, here: Path
) -> None:
    (here / "out.onnx").write_bytes(MINE)
    LEDGERS[kind](here)
    before = os.lstat(here / ledger.NAME)
    assert netferry.convert("a.onnx", destination="new.onnx", verify=False).files
    now = os.lstat(here / ledger.NAME)
    assert (now.st_ino, now.st_mode, now.st_size) == (before.st_ino, before.st_mode, before.st_size)


def test_a_copied_result_is_not_netferrys_at_its_new_place(here: Path) -> None:
    netferry.convert("a.onnx", destination="out.onnx", verify=False)
    shutil.copytree(here, here.with_name(f"{here.name}-copy"))
    with pytest.raises(WriteError, match="it was changed after"):
        netferry.convert("a.onnx", destination=here.with_name(f"{here.name}-copy") / "out.onnx", verify=False)


def test_a_result_is_replaced_by_its_like_alone(here: Path) -> None:
    netferry.convert("a.onnx", destination="out.onnx", verify=False)
    with pytest.raises(WriteError, match="is something else: expected certificate, received model"):
        netferry.verify("a.onnx", "a.onnx", quick=True, certificate="out.onnx")
    with pytest.raises(UsageError, match="names no file"):
        netferry.convert("a.onnx", "mxnet", destination=".netferry", verify=False)
    replacing = Overwriting()
    staging.demand("one", "html", replacing)
    with pytest.raises(UsageError, match="both the html and the junit"):
        staging.demand("./one", "junit", replacing)


def test_two_saves_at_once_in_one_folder_are_both_remembered(here: Path) -> None:
    with staging.staged(here / "one") as first:
        first.write_text("1")
        with staging.staged(here / "two") as second:
            second.write_text("2")
    for name in ("one", "two", "one"):
        with staging.staged(here / name) as stage:
            stage.write_text("3")


# ---- files of weights beside a model ----------------------------------------------------------------


def test_only_ones_own_weights_go_and_only_where_no_model_needs_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_files, "EXTERNAL_FROM", 0)
    Path("out.onnx.0badcafe.data").write_bytes(MINE)
    Path("out.onnx.data").write_bytes(MINE)

    def made(seed: int, width: int) -> str:
        weight = np.random.default_rng(seed).standard_normal((64, width)).astype(np.float32)
        ends = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", s])
            for n, s in (("x", 64), ("y", width))
        ]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        files = netferry.convert(model, destination="out.onnx", verify=False).files
        return next(file.name for file in files if file.suffix == ".data")

    first, second = made(1, 32), made(2, 48)
    assert not Path(first).exists()
    shutil.copy("out.onnx", "copy.onnx")  # it still reads its weights from beside out.onnx
    third = made(3, 56)
    assert Path(second).exists() and Path(third).exists()
    assert netferry.run("copy.onnx", {"x": np.ones((1, 64), np.float32)})["y"].shape == (1, 48)
    Path(third).write_bytes(MINE)
    with pytest.raises(WriteError, match="changed after"):
        made(3, 56)
    made(4, 64)
    assert Path(third).read_bytes() == MINE  # someone has changed it: it is no longer netferry's
    assert Path("out.onnx.0badcafe.data").read_bytes() == Path("out.onnx.data").read_bytes() == MINE


# ---- parts of results -------------------------------------------------------------------------------


def a_folder(here: Path, mode: int = 0o755) -> Path:
    (here / "out.parquet.parts").mkdir()
    (here / "out.parquet.parts").chmod(mode)
    (here / "out.parquet.parts" / "thesis.txt").write_bytes(MINE)
    (here / "out.parquet.parts" / "job.json").write_text("{}")
    (here / "out.parquet.parts" / "000-100.arrow").write_bytes(MINE)
    return here / "out.parquet.parts"


def a_private_folder(here: Path) -> Path:
    return a_folder(here, 0o700)


def a_link_to_a_folder(here: Path) -> Path:
    (here / "mine").mkdir()
    place = a_folder(here / "mine")
    (here / "out.parquet.parts").symlink_to(place)
    return place


@pytest.mark.parametrize("make", [a_folder, a_private_folder, a_link_to_a_folder])
def test_a_persons_folder_of_the_name_of_the_parts_stays(make: Callable[[Path], Path], here: Path) -> None:
    place = make(here)
    for force in (False, True):
        with pytest.raises(WriteError, match=r"out\.parquet\.parts"):
            stream("a.onnx", "rows.parquet", "out.parquet", force=force)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == {
        "thesis.txt": MINE, "job.json": b"{}", "000-100.arrow": MINE,
    }  # fmt: skip


# ---- the command line -------------------------------------------------------------------------------

SEQUENCES: dict[str, list[tuple[str, int]]] = {
    "convert": [
        ("convert a.onnx b.onnx --no-verify --report r", 0), ("convert a.onnx b.onnx --no-verify", 0),
        ("convert b.onnx b.onnx", 6), ("convert a.onnx x.npz --to onnx", 2), ("convert a.onnx x.npz --to onnx --no-verify --force", 2),
    ],
    "verify": [
        ("verify a.onnx a.onnx --quick --html p.html --certificate c.json", 0),
        ("verify a.onnx a.onnx --quick --html p.html --certificate c.json", 0),
        ("verify a.onnx a.onnx --markdown a.onnx", 6), ("verify a.onnx a.onnx --certificate p.html", 6),
        ("verify a.onnx a.onnx --junit p.xml --markdown p.xml", 2), ("verify a.onnx a.onnx --report p.html", 6),
    ],
    "run": [
        ("run a.onnx --input x.npz --output y.npz", 0), ("run a.onnx --input x.npz --output y.npz", 0),
        ("run a.onnx --input x.npz --output x.npz", 6), ("run a.onnx --data rows.parquet --output rows.parquet", 2),
        ("run a.onnx --input x.npz --output x.npz --force", 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENCES)
def test_commands_in_a_row_end_with_these_codes(name: str, here: Path) -> None:
    for words, code in SEQUENCES[name]:
        done = command(*words.split())
        assert done.returncode == code, (words, done.stderr)
        assert "Traceback" not in done.stderr
        if code == 6:
            assert done.stderr.count("netferry:") == 1
    assert onnx.load(here / "a.onnx").graph.node[0].op_type == "MatMul"


@pytest.mark.parametrize("flag", ["--input", "--data"])
def test_what_rows_were_made_from_is_known_in_another_folder_too(flag: str, here: Path) -> None:
    """A child that may not look around in the folder of its rows still knows what these were made from."""
    for folder in "mpq":
        Path(folder).mkdir()
    for name, ends in (("there.onnx", "xy"), ("back.onnx", "yx")):
        values = [helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", 5]) for end in ends]
        graph = helper.make_graph(
            [helper.make_node("Neg", [ends[0]], [ends[1]])], "g", values[:1], values[1:]
        )
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), f"m/{name}"
        )
    steps = ("there x.npz p/y.npz", "back p/y.npz q/x.npz", "there q/x.npz p/y.npz")
    for (model, rows, output), code in zip(map(str.split, steps), (0, 0, 6), strict=True):
        done = command("run", f"m/{model}.onnx", flag, rows, "--output", output)
        assert done.returncode == code, done.stderr
    assert "the source was made from this" in done.stderr


def test_the_model_in_a_folder_that_stands_for_it_is_a_source(here: Path) -> None:
    (here / "m").mkdir()
    netferry.convert("a.onnx", destination="m/x-symbol.json", verify=False)
    with pytest.raises(WriteError, match=r"the source (itself|was made from this)"):
        netferry.convert("m", destination="m/x-symbol.json", verify=False)
