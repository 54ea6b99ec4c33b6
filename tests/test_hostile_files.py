"""Every hostile or broken file is refused in one line, and leaves nothing."""

from __future__ import annotations

import json
import random
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
from hostile import SECRET, Case, Kit
from hostile_good import write_good
from preloaded import Preloaded

from netferry.converters import frameworks, source
from netferry.converters.errors import NetferryError

CASES = hostile.load()
LARGEST = 400 << 20
"""Bytes by which a process may grow: what loading a small model takes, but no gigabytes."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("corpus") / "good")


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    process = Preloaded("onnx", "pytorch", "tensorflow", "mxnet")
    yield process
    process.close()


class Loaded(Exception):
    """A framework would have loaded the file now."""


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 150


def prepared(one: Case, good: Path, folder: Path) -> list[str]:
    kit = Kit(folder / "case", good)
    kit.folder.mkdir()
    arguments = hostile.arguments(one, kit)
    Path(arguments[1]).parent.mkdir()
    return arguments


def files_of(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def check_words(one: Case, said: str, arguments: list[str]) -> None:
    """The cause, and the file: the one that was given, or one that belongs to it."""
    assert re.search(one.words, said, re.DOTALL), said
    given = Path(arguments[0].rpartition(":")[0] if ".py:" in arguments[0] else arguments[0])
    family = {given.name, *(path.name for path in given.parent.glob("*")), *arguments[2:]}
    assert any(name[:60] in said for name in family), said
    assert SECRET.decode() not in said


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused(
    name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Most are refused by the look into them, in this process; what a framework has to load goes to a child."""
    one = CASES[name]
    arguments = prepared(one, good, tmp_path)
    before, size = files_of(tmp_path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def loaded(self: frameworks.Framework) -> Any:
        if self.name in ("pytorch", "tensorflow") and ".py:" not in arguments[0]:
            raise Loaded
        return self.module("files")

    monkeypatch.setattr(frameworks.Framework, "files", property(loaded))
    weights = arguments[arguments.index("--weights") + 1] if "--weights" in arguments else None
    try:
        source.open_source(arguments[0], weights)
    except NetferryError as error:
        assert error.exit_code == 5
        assert "\n" not in str(error)
        check_words(one, str(error), arguments)
        assert files_of(tmp_path) - before <= {
            path for path in files_of(tmp_path) if "__pycache__" in str(path)
        }
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size) << 10 < LARGEST
    except Loaded:
        check_in_a_child(one, arguments, request.getfixturevalue("preloaded"), tmp_path)
    else:
        check_in_a_child(one, arguments, request.getfixturevalue("preloaded"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_refused_on_the_command_line(
    name: str, good: Path, preloaded: Preloaded, tmp_path: Path
) -> None:
    check_in_a_child(CASES[name], prepared(CASES[name], good, tmp_path), preloaded, tmp_path)


def check_in_a_child(one: Case, arguments: list[str], preloaded: Preloaded, folder: Path) -> None:
    before = files_of(folder)
    done = preloaded(["convert", *arguments], folder)
    assert done.code == 5, done
    assert "Traceback" not in done.stderr and done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("netferry: ")]
    assert len(lines) == 1, done.stderr
    check_words(one, lines[0], arguments)
    assert files_of(folder) - before <= {path for path in files_of(folder) if "__pycache__" in str(path)}
    assert done.grown < LARGEST, f"{done.grown >> 20} MiB"


# ---- under an audit hook ---------------------------------------------------------------------------

DRAWN = frozenset(random.Random(2026).sample(sorted(CASES), len(CASES) // 10))
"""What the everyday tests open under ``sys.addaudithook``."""

GOOD = {
    "net.onnx": "o.onnx", "ext.onnx": "o.pt2", "net.pt2": "o.onnx", "script.pt": "o.onnx", "net.keras": "o.onnx",
    "whole.h5": "o-symbol.json", "served": "o.onnx", "mx-symbol.json": "o.keras",
}  # fmt: skip
"""A way into every framework and out of it."""


def audited(preloaded: Preloaded, arguments: list[str], folder: Path) -> tuple[int, list[str]]:
    """The exit code of ``netferry convert``, and what Python did meanwhile that no file has a business with.

    5, a refusal, stands for a process that ran into a limit, too.
    """
    done = preloaded(["--audit", "convert", *arguments], folder)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    found = [one for one in told if isinstance(one, str)]
    return (5 if done.code < 0 else told[-1]), found


def check_audited(name: str, good: Path, preloaded: Preloaded, folder: Path) -> None:
    arguments = prepared(CASES[name], good, folder)
    own = arguments[0].rpartition(":")[0] if ".py:" in arguments[0] else "\0"  # code of the user's
    code, found = audited(preloaded, arguments, folder)
    assert code == 5
    assert [one for one in found if own not in one] == []
    assert not Kit(folder / "case", good).marker.exists()


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_hostile_file_sets_nothing_off(name: str, good: Path, preloaded: Preloaded, tmp_path: Path) -> None:
    check_audited(name, good, preloaded, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CASES) - DRAWN))
def test_no_hostile_file_sets_anything_off(
    name: str, good: Path, preloaded: Preloaded, tmp_path: Path
) -> None:
    check_audited(name, good, preloaded, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("net.onnx", "net.keras") else pytest.param(name, marks=pytest.mark.slow)
        for name in GOOD
    ],
)
def test_a_good_file_sets_nothing_off(name: str, good: Path, preloaded: Preloaded, tmp_path: Path) -> None:
    kit = Kit(tmp_path / "in", good)
    kit.folder.mkdir()
    (tmp_path / "out").mkdir()
    sizes = ["--input", "x:2,3"] if name == "script.pt" else []
    arguments = [str(kit.copy(name)), str(tmp_path / "out" / GOOD[name]), *sizes]
    assert audited(preloaded, arguments, tmp_path) == (0, [])
