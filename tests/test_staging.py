"""A save happens wholly or not at all, whatever ends it, and whoever else writes or reads meanwhile."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netferry.converters.disk import commit, folders, ledger, staging
from netferry.converters.errors import RefusedError, WriteError

FORK = multiprocessing.get_context("fork")
FRESH = multiprocessing.get_context("spawn")
"""For what runs long: a copy of a process with a framework's threads may die of them."""

Save = Callable[[Path, str], None]


def one_file(folder: Path, text: str) -> None:
    with staging.staged(folder / "out.onnx") as stage:
        stage.write_text(text)


def two_files(folder: Path, text: str) -> None:
    with staging.staged(folder / "m-symbol.json") as stage:
        stage.write_text(text)
        stage.with_name("m-0000.params").write_text(text)


def a_folder_and_a_file(folder: Path, text: str) -> None:
    with staging.staged(folder / "saved") as stage:
        (stage / "variables").mkdir(parents=True)
        (stage / "saved_model.pb").write_text(text)
        (stage / "variables" / "data").write_text(text)
        stage.with_name("saved.py").write_text(text)


SAVES = {save.__name__: (save, path) for save, path in (
    (one_file, "out.onnx"), (two_files, "m-symbol.json"), (a_folder_and_a_file, "saved"),
)}  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    """What the files of the folder hold, but for the ledger of what was written there."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ledger.NAME)
    return {str(file.relative_to(folder)): file.read_text() for file in files}


def whole(folder: Path) -> str:
    """The one text that every file of the folder holds."""
    (text,) = set(contents(folder).values())
    return text


@pytest.mark.parametrize("name", SAVES)
def test_a_save_arrives_whole_and_leaves_nothing_else(name: str, tmp_path: Path) -> None:
    save, _ = SAVES[name]
    for text in ("old", "new"):
        save(tmp_path, text)
        assert whole(tmp_path) == text
    assert not list(tmp_path.glob(".netferry-*"))


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", SAVES)
def test_an_interrupted_save_leaves_the_old_files_and_nothing_else(
    name: str, tmp_path: Path, fault: type[BaseException]
) -> None:
    save, main = SAVES[name]
    save(tmp_path, "old")
    before = contents(tmp_path)
    with pytest.raises(fault), staging.staged(tmp_path / main) as stage:
        stage.with_name("more").write_text("half")
        raise fault
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".netferry-*"))


def at_step(number: int, act: Callable[[], None]) -> pytest.MonkeyPatch:
    """Do ``act`` just before the ``number``-th change that the save makes to its folder."""
    patch, seen = pytest.MonkeyPatch(), iter(range(1, 400))

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            if next(seen) == number:
                act()
            return function(*args, **kwargs)

        return step

    for name in ("replace", "link", "mkdir", "fsync", "unlink", "rmdir"):
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(folders.Folder, "exchange", counted(folders.Folder.exchange))
    return patch


@pytest.mark.parametrize("old", [True, False], ids=["over an old one", "new"])
@pytest.mark.parametrize("name", SAVES)
def test_a_process_killed_at_any_step_leaves_the_old_or_the_new(name: str, old: bool, tmp_path: Path) -> None:
    save, main = SAVES[name]
    outcomes = set()
    for number in range(1, 120):
        folder = tmp_path / str(number)
        folder.mkdir()
        if old:
            save(folder, "old")
        child = FORK.Process(target=killed_at, args=(save, folder, number))
        child.start()
        child.join()
        staging._settle(folder / main)
        left = {key: text for key, text in contents(folder).items() if not key.startswith(".netferry")}
        assert len(set(left.values())) == (1 if old or left else 0), (number, left)
        outcomes |= set(left.values())
        save(folder, "next")
        assert whole(folder) == "next"
        assert not list(folder.glob(".netferry-*"))
        if child.exitcode == 0:
            break
    else:
        pytest.fail("the save has more steps than were tried")
    assert outcomes == ({"old", "new"} if old else {"new"})


def killed_at(save: Save, folder: Path, number: int) -> None:
    at_step(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    save(folder, "new")


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("name", SAVES)
def test_a_fault_at_any_step_leaves_the_old_or_the_new(
    name: str, tmp_path: Path, fault: BaseException
) -> None:
    save, _ = SAVES[name]

    def raise_it() -> None:
        raise fault

    for number in range(1, 120):
        folder = tmp_path / str(number)
        folder.mkdir()
        save(folder, "old")
        patch = at_step(number, raise_it)
        try:
            save(folder, "new")
            raised = None
        except (WriteError, KeyboardInterrupt) as error:
            raised = error
        finally:
            patch.undo()
        assert whole(folder) in ("old", "new")
        assert not list(folder.glob(".netferry-*"))
        if raised is None and number > 3:
            return
    pytest.fail("the save has more steps than were tried")


def killed_in_place(folder: Path, save: Save = two_files) -> Path:
    """The stage of a save that was killed when it was committed and nothing was in its place yet."""

    def killed() -> None:
        commit.put_in_place = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        save(folder, "new")

    child = FORK.Process(target=killed)
    child.start()
    child.join()
    (stage,) = folder.glob(".netferry-*")
    assert (stage / "ready").is_dir()
    return stage


def test_a_reader_finishes_what_a_killed_writer_had_committed_and_removes_nothing(tmp_path: Path) -> None:
    two_files(tmp_path, "old")
    stage = killed_in_place(tmp_path)
    before = set(stage.rglob("*"))
    assert staging.steadily(tmp_path / "m-symbol.json", lambda: 7) == 7
    left = {key: text for key, text in contents(tmp_path).items() if not key.startswith(".netferry")}
    assert left == {"m-symbol.json": "new", "m-0000.params": "new"}
    assert (stage / "old" / "m-symbol.json").read_text() == "old"
    assert before >= {stage / "seal", stage / "mark", stage / "moves"} <= set(stage.rglob("*"))
    two_files(tmp_path, "next")
    assert whole(tmp_path) == "next"
    assert not list(tmp_path.glob(".netferry-*"))


def test_the_second_of_two_writers_is_told(tmp_path: Path) -> None:
    with staging.staged(tmp_path / "out.onnx") as stage:
        stage.write_text("first")
        with pytest.raises(WriteError, match="another process is writing") as caught:
            one_file(tmp_path, "second")
        assert "out.onnx" in str(caught.value)
    assert whole(tmp_path) == "first"


@pytest.mark.parametrize("name", SAVES)
def test_a_stage_that_another_process_takes_for_a_dead_one_is_made_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, _ = SAVES[name]
    make, seen = folders.Folder.mkdir, []

    def made_and_swept(folder: folders.Folder, stage: str, mode: int = 0o777) -> None:
        make(folder, stage, mode)
        if stage.startswith(".netferry-") and not seen:
            seen.append(stage)
            staging._sweep_all(folder)  # what another process does between making a stage and locking it
            assert folder.stat(stage) is None

    monkeypatch.setattr(folders.Folder, "mkdir", made_and_swept)
    save(tmp_path, "new")
    assert seen
    assert whole(tmp_path) == "new"
    assert not list(tmp_path.glob(".netferry-*"))


def write_often(folder: Path, text: str, rounds: int, told: Any) -> None:
    wins = losses = 0
    while wins < rounds:
        try:
            two_files(folder, text)
            wins += 1
        except WriteError as error:
            assert "another process is writing" in str(error)
            losses += 1
    told.put((wins, losses))


def test_two_writers_and_a_reader_never_meet_half_a_save(tmp_path: Path) -> None:
    two_files(tmp_path, "old")
    told = FRESH.Queue()
    writers = [FRESH.Process(target=write_often, args=(tmp_path, text, 100, told)) for text in ("a", "b")]
    for writer in writers:
        writer.start()
    reads = 0
    while any(writer.is_alive() for writer in writers):
        texts = staging.steadily(tmp_path / "m-symbol.json", lambda: set(contents_of_pair(tmp_path)))
        assert len(texts) == 1
        reads += 1
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert [told.get(timeout=100)[0] for _ in writers] == [100, 100]
    assert reads > 0
    assert whole(tmp_path) in ("a", "b")


def contents_of_pair(folder: Path) -> Iterator[str]:
    yield (folder / "m-symbol.json").read_text()
    time.sleep(random.random() / 1000)
    yield (folder / "m-0000.params").read_text()


def test_where_it_cannot_be_written_it_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match="cannot write here"),
        staging.staged(tmp_path / "no" / "out.onnx") as stage,
    ):
        stage.write_text("never")
    with pytest.raises(WriteError, match="a folder stands in the way"), staging.staged(tmp_path) as stage:
        stage.write_text("a file")
    with (
        pytest.raises(WriteError, match="File name too long"),
        staging.staged(tmp_path / ("x" * 300)) as stage,
    ):
        stage.write_text("never")


def test_a_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "thesis.txt").write_text("mine")
    with pytest.raises(WriteError, match=r"other files.*thesis\.txt"):
        a_folder_and_a_file(tmp_path, "new")
    assert contents(tmp_path) == {"saved/thesis.txt": "mine"}


def test_a_reader_without_the_right_to_finish_a_save_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_file(tmp_path, "old")
    killed_in_place(tmp_path, one_file)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(commit, "put_in_place", refuse)
    with pytest.raises(RefusedError, match="cut off"):
        staging._settle(tmp_path / "out.onnx")


def write_limited(folder: Path, limit: int, told: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        two_files(folder, "new" * 1000)
        told.put("")
    except WriteError as error:
        told.put(str(error))


@pytest.mark.parametrize("limit", [0, 1, 100, 2999])
def test_a_write_that_is_cut_short_leaves_the_old_files(limit: int, tmp_path: Path) -> None:
    two_files(tmp_path, "old")
    told = FORK.Queue()
    child = FORK.Process(target=write_limited, args=(tmp_path, limit, told))
    child.start()
    message = told.get()
    child.join()
    assert "File too large" in message
    assert "m-symbol.json" in message
    assert whole(tmp_path) == "old"
