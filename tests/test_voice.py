"""How much a command says: more with -v, nothing with -q, all of it in a log; help in panels, words completed."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from models import dense, saved

from netferry.cli import app, colour, plain_help
from netferry.cli.panels import CHOICES, PANELS
from netferry.cli.voice import _file


def netferry(*args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "netferry", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved(tmp_path, dense(), "a.onnx")
    saved(tmp_path, dense(1.01), "b.onnx")
    return tmp_path


def test_more_and_less_is_said_and_a_log_has_it_all(folder: Path) -> None:
    conversion = ("convert", "a.onnx", "out.onnx", "--quick")
    loud = netferry(*conversion, "-vv", "--log", "run.log", cwd=folder)
    assert loud.returncode == 0, loud.stderr
    stages = [line.removeprefix("netferry: ") for line in loud.stderr.splitlines()]
    for stage in ("reading", "exporting", "writing", "verifying"):
        assert any(stage in line for line in stages), (stage, stages)
    assert "wrote out.onnx  " in loud.stdout
    quiet = netferry(*conversion, "-q", "--log", "run.log", cwd=folder)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    log = (folder / "run.log").read_text()
    assert log.startswith("# netferry log\n")
    assert log.count("ended with exit code") == log.count("convert a.onnx out.onnx") == 2
    assert "answer: a.onnx -> out.onnx" in log


def test_quiet_still_says_what_went_wrong(folder: Path) -> None:
    differs = netferry("verify", "a.onnx", "b.onnx", "--quick", "-q", cwd=folder)
    assert differs.returncode == 1
    assert differs.stdout.startswith("failed")
    missing = netferry("convert", "nowhere.onnx", "out.onnx", "-q", "--log", "run.log", cwd=folder)
    assert missing.returncode == 5
    assert "no such file" in missing.stderr
    assert "no such file" in (folder / "run.log").read_text()


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_verdict_has_its_colour_on_a_terminal(
    environment: dict[str, str], coloured: bool, folder: Path
) -> None:
    ours, theirs = os.openpty()
    try:
        command = [sys.executable, "-m", "netferry", "verify", "a.onnx", "b.onnx", "--quick"]
        own = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
        done = subprocess.run(
            command, stdout=theirs, stderr=subprocess.PIPE, cwd=folder, timeout=300, check=False,
            env=own | {"TERM": "xterm"} | environment,
        )  # fmt: skip
        said = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1, done.stderr
    assert said.startswith("\033[1;31mfailed\033[0m" if coloured else "failed")
    assert ("y: \033[1;31mfailed" in said) == coloured


def test_colours_are_for_verdicts_and_for_nothing_else() -> None:
    text = "net.keras -> passed.onnx (direct)\npassed: net.keras against passed.onnx, 4 samples\n  y: not_checked failed\n"
    assert colour.of_verdicts(text) == (
        "net.keras -> passed.onnx (direct)\n\033[1;32mpassed\033[0m: net.keras against passed.onnx, 4 samples\n"
        "  y: \033[1;33mnot_checked\033[0m failed\n"
    )


@pytest.mark.parametrize("kind", ["link", "dangling link", "FIFO", "folder"])
def test_a_log_is_a_file_and_no_way_to_another(kind: str, tmp_path: Path) -> None:
    log, other = tmp_path / "run.log", tmp_path / "other"
    if kind == "link":
        other.write_text("# netferry log\n")
    if "link" in kind:
        log.symlink_to(other)
    elif kind == "FIFO":
        os.mkfifo(log)
    else:
        log.mkdir()
    with pytest.raises(typer.BadParameter, match=r"run\.log"):
        _file(log)
    assert not other.exists() or other.read_text() == "# netferry log\n"


def test_a_log_never_goes_into_a_file_of_a_person(folder: Path) -> None:
    before = (folder / "a.onnx").read_bytes()
    done = netferry("inspect", "a.onnx", "--log", "a.onnx", cwd=folder)
    assert done.returncode == 2
    assert "no log of netferry" in done.stderr
    assert (folder / "a.onnx").read_bytes() == before


def commands() -> dict[str, typer.core.TyperCommand]:
    group = typer.main.get_command(app)
    return {name: one for name, one in group.commands.items() if not hasattr(one, "commands")}  # type: ignore[attr-defined]


def test_every_command_has_these_flags_and_its_options_stand_in_panels() -> None:
    for name, command in commands().items():
        options = {flag: one for one in command.params for flag in one.opts}
        assert {"--verbose", "-v", "--quiet", "-q", "--log"} <= options.keys(), name
    convert = {one.name: one for one in commands()["convert"].params}
    loose = {name for name, one in convert.items() if getattr(one, "rich_help_panel", None) is None}
    assert loose <= {"models", "help"}, loose
    assert {one.name for command in commands().values() for one in command.params} > set(PANELS) - {
        "write_source"
    }


@pytest.mark.parametrize("name", CHOICES)
def test_the_words_that_an_option_takes_are_shown_and_completed(name: str) -> None:
    found = [one for command in commands().values() for one in command.params if one.name == name]
    if name == "framework":
        found = [
            one
            for one in typer.main.get_command(app).commands["zoo"].commands["train"].params
            if one.name == name
        ]  # type: ignore[attr-defined]
    assert found
    for option in found:
        assert option.metavar == "|".join(CHOICES[name])
        word = CHOICES[name][0]
        assert (
            [item.value for item in option.shell_complete(None, word[:1])]
            == [  # type: ignore[arg-type]
                one for one in CHOICES[name] if one.startswith(word[:1])
            ]
        )


def nested() -> list[tuple[str, typer.core.TyperCommand | typer.core.TyperGroup]]:
    root = typer.main.get_command(app)
    inner = [(f"zoo {name}", one) for name, one in root.commands["zoo"].commands.items()]  # type: ignore[attr-defined]
    return [("", root), *root.commands.items(), *inner]  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", [34, 40, 60, 80, 119, 120, 160])
def test_help_fits_the_terminal_and_breaks_no_word(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, and every word of the help stands in one line whole; a longer one breaks behind a mark."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name, command in nested():
        monkeypatch.setattr(command, "rich_markup_mode", plain_help.markup())
        with (
            command.make_context(f"netferry {name}", [], resilient_parsing=True) as context,
            contextlib.redirect_stdout(io.StringIO()) as boxed,
        ):
            shown = command.get_help(context) or ""
        shown += boxed.getvalue()
        assert all(len(line) <= columns for line in shown.splitlines()), name
        assert "\u2026" not in shown
        for word in shown_words(command):
            pieces = re.findall(r"[^,|/]+[,|/]?", word) if len(word) > columns - 10 else [word]
            assert all(piece in shown for piece in pieces), (name, word)


def shown_words(command: typer.core.TyperCommand | typer.core.TyperGroup) -> list[str]:
    """The flags of a command, the words that they take, and what is said of them."""
    texts = [text or "" for one in command.params for text in (one.help, one.metavar)]  # type: ignore[attr-defined]
    flags = [flag for one in command.params for flag in one.opts if flag.startswith("-")]
    return [*flags, *" ".join(texts).split()]
