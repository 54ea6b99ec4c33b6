"""Mutants of good files: each is refused in order, or is a model that arrives as what it says.

Everyday 300 of each format are looked into here, by our own readers; those that pass the look and need a framework are loaded, carried and compared
in forked children of a process that has the frameworks, up to 40 of each format. With ``--all`` they are 2,000 of each, and all that pass are loaded.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_good import write_good
from mutants import FORMATS, make
from preloaded import Preloaded

from netferry.converters import frameworks, source
from netferry.converters.errors import NetferryError

EVERYDAY, LOADED, ALL = 300, 40, 2000
PATIENCE = 20


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("fuzz") / "good")


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    process = Preloaded("onnx", "pytorch", "tensorflow", "mxnet")
    yield process
    process.close()


class Loaded(Exception):
    """A framework would have loaded the file now."""


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is loaded here that a framework would load."""

    def files(self: frameworks.Framework) -> Any:
        if self.name in ("pytorch", "tensorflow"):
            raise Loaded
        return self.module("files")

    monkeypatch.setattr(frameworks.Framework, "files", property(files))


def late(*_: object) -> None:
    raise TimeoutError("it hangs")


def survivors(form: str, count: int, good: Path, folder: Path) -> list[list[str]]:
    """The mutants that pass the look; the others are refused by an ordinary error with exit code 5, or 3."""
    passed = []
    signal.signal(signal.SIGALRM, late)
    for number in range(count):
        given = make(form, number, good, folder / str(number))
        signal.alarm(PATIENCE)
        try:
            source.open_source(*given)
        except NetferryError as error:
            assert error.exit_code == 5, (given, error)
            assert "\n" not in str(error)
        except Loaded:
            passed.append(given)
        else:
            passed.append(given)
        finally:
            signal.alarm(0)
    return passed


def check(form: str, count: int, most: int, good: Path, preloaded: Preloaded, folder: Path) -> None:
    passed = survivors(form, count, good, folder)
    assert passed, "every mutant was refused: they show nothing"
    step = max(1, len(passed) // most)
    faults = {}
    for given, fate in preloaded.batch(passed[::step], folder):
        if fate not in ("passed", "not_checked", "refused"):
            faults[os.fspath(given[0])] = fate
    assert not faults


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("form", FORMATS)
def test_a_mutant_is_refused_or_arrives_as_what_it_is(
    form: str, good: Path, preloaded: Preloaded, tmp_path: Path
) -> None:
    check(form, EVERYDAY, LOADED, good, preloaded, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("form", FORMATS)
def test_ten_thousand_mutants(form: str, good: Path, preloaded: Preloaded, tmp_path: Path) -> None:
    check(form, ALL, ALL, good, preloaded, tmp_path)
