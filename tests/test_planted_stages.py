"""Folders called like the stage of a save: a stranger's is never finished and never emptied, whatever it holds."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import netferry
from netferry.converters.disk import commit, folders, ledger, stages, staging
from netferry.converters.errors import NetferryError, RefusedError, WriteError

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model in a folder of its own; beside the folder lies what nobody may touch."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "thesis.txt").write_text("mine")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "notes.txt").write_text("mine, too")
    return identity(tmp_path / "home" / "m.onnx")


def identity(path: Path) -> Path:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def everything(folder: Path) -> dict[str, object]:
    """Every file, link and folder below ``folder``, with what it holds."""
    return {
        str(path.relative_to(folder)): path.readlink()
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


# ---- what an attacker may put there -----------------------------------------------------------------


def ready(stage: Path, entries: Any, mode: int = 0o700, **files: str) -> None:
    """A stage as an archive brings it: ``ready`` with files, and a list of them."""
    (stage / "ready").mkdir(parents=True)
    stage.chmod(mode)
    for name, text in {"m.onnx": "evil", **files}.items():
        (stage / "ready" / name).write_text(text)
    inodes = {name: (stage / "ready" / name).stat().st_ino for name in os.listdir(stage / "ready")}
    words = entries(inodes) if callable(entries) else entries
    (stage / "moves").write_text(words if isinstance(words, str) else json.dumps(words))


def in_the_old_form(stage: Path) -> None:
    ready(stage, lambda inodes: inodes)


def out_of_the_folder(stage: Path) -> None:
    ready(stage, lambda inodes: {"../outside/thesis.txt": inodes["m.onnx"], **inodes})


def over_other_files(stage: Path) -> None:
    ready(stage, lambda inodes: inodes, **{"notes.txt": "evil"})


def with_an_absolute_name(stage: Path) -> None:
    ready(stage, {str(stage.parent.parent / "outside" / "thesis.txt"): 1})


def in_the_new_form(stage: Path, sealed: object = 0) -> None:
    """All that netferry itself writes, as well as it can be imitated."""

    def moves(inodes: dict[str, int]) -> object:
        files = {"m.onnx": [folders.Folder.open(stage / "ready").content("m.onnx")[0], inodes["m.onnx"]]}
        save = {"kind": "model", "files": files, "made from": []}
        return {
            "main": "m.onnx",
            "entries": {"m.onnx": {"inode": inodes["m.onnx"], "files": files}},
            "save": save,
        }

    ready(stage, moves)
    (stage / "seal").touch()
    (stage / "mark").write_text(json.dumps({"sealed": sealed}))


def with_the_time_of_another_seal(stage: Path) -> None:
    in_the_new_form(stage, (stage.parent / "m.onnx").stat().st_ctime_ns)


def a_link(stage: Path) -> None:
    stage.symlink_to(stage.parent.parent / "outside")


def a_link_to_a_stage(stage: Path) -> None:
    in_the_old_form(stage.parent.parent / "outside" / "stage")
    stage.symlink_to(stage.parent.parent / "outside" / "stage")


def a_dangling_link(stage: Path) -> None:
    stage.symlink_to(stage.parent / "nowhere")


def with_links_in_it(stage: Path) -> None:
    stage.mkdir(0o700)
    for name in ("new", "ready", "old", "done", "void", "aside"):
        (stage / name).symlink_to(stage.parent.parent / "outside")
    for name in ("moves", "mark", "seal", "ledger"):
        (stage / name).symlink_to(stage.parent.parent / "outside" / "thesis.txt")


def open_to_others(stage: Path) -> None:
    ready(stage, lambda inodes: inodes, mode=0o777)


def of_strangers_files(stage: Path) -> None:
    stage.mkdir(0o700)
    (stage / "new").mkdir()
    (stage / "new" / "dissertation.txt").write_text("mine")


def a_file(stage: Path) -> None:
    stage.write_text("mine")


def a_fifo(stage: Path) -> None:
    os.mkfifo(stage)


def nested_lists(stage: Path) -> None:
    ready(stage, "[" * 100_000)


PLANTED: dict[str, Callable[[Path], None]] = {
    plant.__name__: plant
    for plant in (
        in_the_old_form, out_of_the_folder, over_other_files, with_an_absolute_name, in_the_new_form,
        with_the_time_of_another_seal, a_link, a_link_to_a_stage, a_dangling_link, with_links_in_it, open_to_others,
        of_strangers_files, a_file, a_fifo, nested_lists,
    )
}  # fmt: skip


@pytest.mark.parametrize("plant", PLANTED)
def test_reading_beside_a_planted_stage_touches_nothing(plant: str, place: Path) -> None:
    PLANTED[plant](place.parent / stages.stage_name("m.onnx"))
    before = everything(place.parent.parent)
    try:
        netferry.inspect(place)
    except RefusedError as error:
        assert ".netferry-" in str(error) and "\n" not in str(error)
        assert plant not in ("of_strangers_files",)
    assert everything(place.parent.parent) == before


@pytest.mark.parametrize("plant", PLANTED)
def test_writing_beside_a_planted_stage_is_refused_early_and_touches_nothing(plant: str, place: Path) -> None:
    target = place.with_name("out.onnx")
    PLANTED[plant](place.parent / stages.stage_name("out.onnx"))
    before = everything(place.parent.parent)
    with pytest.raises(
        WriteError, match=r"\.netferry-\w+, where this would be staged, is not netferry's own"
    ):
        netferry.convert(place, destination=target)
    assert everything(place.parent.parent) == before


@pytest.mark.parametrize("plant", ["a_link", "in_the_new_form", "with_links_in_it"])
def test_the_command_line_says_so_in_a_sentence(plant: str, place: Path) -> None:
    PLANTED[plant](place.parent / stages.stage_name("proof.json"))
    before = everything(place.parent.parent)
    command = [
        sys.executable,
        "-m",
        "netferry",
        "verify",
        place,
        place,
        "--certificate",
        place.with_name("proof.json"),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == WriteError.exit_code
    assert "is not netferry's own" in done.stderr and "Traceback" not in done.stderr
    assert everything(place.parent.parent) == before


@pytest.mark.parametrize("name", ["other.onnx", "results", "page.html"])
def test_a_planted_stage_of_another_name_is_left_alone_and_disturbs_nobody(name: str, place: Path) -> None:
    for plant in (in_the_new_form, of_strangers_files):
        in_the_way = place.parent / stages.stage_name(f"{plant.__name__}{name}")
        plant(in_the_way)
    before = everything(place.parent)
    netferry.convert(place, destination=place.with_name("out.onnx"), verify=False)
    after = everything(place.parent)
    assert set(after) - set(before) == {"out.onnx", ledger.NAME}
    assert {key: after[key] for key in before} == before


# ---- an own stage that was damaged ------------------------------------------------------------------


def killed(folder: Path) -> Path:
    """The stage of a save of ``m.onnx`` and ``m.txt`` over old ones, killed when it was committed."""

    def write(text: str) -> None:
        with staging.staged(folder / "m.onnx") as stage:
            stage.write_text(text)
            stage.with_name("m.txt").write_text(text)

    def child() -> None:
        commit.put_in_place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        write("new")

    write("old")
    process = FORK.Process(target=child)
    process.start()
    process.join()
    (stage,) = folder.glob(".netferry-*")
    return stage


def listed(stage: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads((stage / "moves").read_text())
    change(found)
    (stage / "moves").write_text(json.dumps(found))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a name that climbs": lambda s: listed(s, lambda m: m["entries"].update({"../x": m["entries"]["m.txt"]})),
    "a name with a folder": lambda s: listed(s, lambda m: m["entries"].update({"a/b": m["entries"]["m.txt"]})),
    "another main file": lambda s: listed(s, lambda m: m.update(main="m.txt")),
    "an entry that is nowhere": lambda s: (s / "ready" / "m.txt").unlink(),
    "a content that is another": lambda s: (s / "ready" / "m.txt").write_text("evil"),
    "a file that is not listed": lambda s: (s / "ready" / "notes.txt").write_text("evil"),
    "a link in place of a file": lambda s: ((s / "ready" / "m.txt").unlink(), (s / "ready" / "m.txt").symlink_to("/etc/passwd")),
    "another file in its place": lambda s: ((s / "ready" / "m.txt").unlink(), (s / "ready" / "m.txt").write_text("next")),
    "no list": lambda s: (s / "moves").unlink(),
    "a list that is none": lambda s: (s / "moves").write_text("[1, 2]"),
    "a list that is a link": lambda s: ((s / "moves").rename(s.parent / "l"), (s / "moves").symlink_to("../l")),
    "ready is a link": lambda s: ((s / "ready").rename(s.parent / "r"), (s / "ready").symlink_to("../r")),
    "a copied seal": lambda s: ((s / "seal").unlink(), (s / "seal").touch()),
    "open to others": lambda s: s.chmod(0o755),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_stage_is_refused_by_name_and_left_as_it_is(damage: str, tmp_path: Path) -> None:
    stage = killed(tmp_path)
    DAMAGES[damage](stage)
    before = everything(tmp_path)
    with pytest.raises(NetferryError, match=stage.name):
        staging.steadily(tmp_path / "m.onnx", lambda: 1)
    with pytest.raises(NetferryError, match=stage.name), staging.staged(tmp_path / "m.onnx") as new:
        new.write_text("newer")
    assert everything(tmp_path) == before


def test_a_stage_that_was_copied_is_no_stage(tmp_path: Path) -> None:
    """As an archive, a backup or another machine would bring it."""
    stage = killed(tmp_path)
    shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-copy"), symlinks=True)
    before = everything(tmp_path.with_name(f"{tmp_path.name}-copy"))
    with pytest.raises(RefusedError, match="lacks the seal"):
        staging.steadily(tmp_path.with_name(f"{tmp_path.name}-copy") / "m.onnx", lambda: 1)
    assert everything(tmp_path.with_name(f"{tmp_path.name}-copy")) == before
    assert staging.steadily(tmp_path / "m.onnx", (tmp_path / "m.txt").read_text) == "new"
    assert stage.is_dir()


def test_a_strangers_file_in_an_own_stage_stays(tmp_path: Path) -> None:
    stage = killed(tmp_path)
    (stage / "thesis.txt").write_text("mine")
    (stage / "papers").mkdir()
    (stage / "papers" / "one.txt").write_text("mine")
    with staging.staged(tmp_path / "m.onnx") as new:
        new.write_text("newer")
    assert (tmp_path / "m.onnx").read_text() == "newer"
    assert (stage / "thesis.txt").read_text() == (stage / "papers" / "one.txt").read_text() == "mine"
    with staging.staged(tmp_path / "m.onnx") as new:
        new.write_text("newest")
    assert (stage / "thesis.txt").read_text() == "mine"


def test_what_a_dead_process_left_goes_with_the_next_save_in_the_folder(tmp_path: Path) -> None:
    killed(tmp_path)
    with staging.staged(tmp_path / "another.txt") as new:
        new.write_text("x")
    assert (tmp_path / "m.onnx").read_text() == (tmp_path / "m.txt").read_text() == "new"
    assert not list(tmp_path.glob(".netferry-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_stage_is_refused(tmp_path: Path) -> None:
    stage = killed(tmp_path)
    os.chown(stage, 12345, 12345)
    with pytest.raises(RefusedError, match="another user's"):
        staging.steadily(tmp_path / "m.onnx", lambda: 1)
    assert (stage / "ready" / "m.onnx").read_text() == "new"


# ---- systems without these names --------------------------------------------------------------------


@pytest.fixture(params=["no handles of folders", "Windows"])
def plain_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(os, "supports_dir_fd", set())
    if request.param == "Windows":
        monkeypatch.delattr(os, "geteuid")
        monkeypatch.setattr(stages, "fcntl", None)
        monkeypatch.setattr(ledger, "fcntl", None)
    return str(request.param)


@pytest.mark.usefixtures("plain_system")
@pytest.mark.parametrize("plant", ["a_link", "in_the_new_form", "in_the_old_form", "with_links_in_it"])
def test_without_handles_a_planted_stage_is_refused_too(plant: str, place: Path) -> None:
    PLANTED[plant](place.parent / stages.stage_name("out.onnx"))
    before = everything(place.parent.parent)
    with pytest.raises(WriteError, match=r"not netferry's own|another process"):
        netferry.convert(place, destination=place.with_name("out.onnx"), verify=False)
    assert everything(place.parent.parent) == before


@pytest.mark.usefixtures("plain_system")
def test_without_handles_a_save_arrives_and_may_be_made_again(place: Path) -> None:
    out = place.with_name("out.onnx")
    for _ in range(2):
        netferry.convert(place, destination=out, verify=False)
        np.testing.assert_array_equal(netferry.run(out, {"x": np.ones((1, 3), np.float32)})["y"], 1)
    for text in ("old", "new"):
        with staging.staged(place.with_name("saved")) as stage:
            stage.mkdir()
            (stage / "data").write_text(text)
        assert (place.with_name("saved") / "data").read_text() == text
    (place.with_name("saved") / "data").write_text("mine")
    with pytest.raises(WriteError, match="changed after"), staging.staged(place.with_name("saved")) as stage:
        stage.mkdir()
    assert not list(place.parent.glob(".netferry-*"))
