"""What an interpreter and a notebook show of a result: one line, or a few lines of HTML, and never a foreign name as markup."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from models import dense

import netferry
from netferry import notebook
from netferry.converters.errors import UsageError
from netferry.inference.session import Session
from netferry.validation.comparison.metrics import PASSED, Comparison
from netferry.validation.reports.report import OutputVerdict, Report


def test_a_conversion_shows_itself_in_one_line_and_as_html() -> None:
    done = netferry.convert(dense(), "onnx", quick=True)
    assert repr(done).startswith("<Conversion ")
    assert repr(done).endswith(": passed>")
    assert "\n" not in repr(done)
    page = ElementTree.fromstring(done._repr_html_())
    assert {cell.text for cell in page.iter("th")} >= {"output", "verdict"}
    assert repr(Session(done.model)).startswith("<Session on cpu: (")


def test_a_report_shows_itself_in_every_form() -> None:
    done = netferry.convert(dense(), "onnx", quick=True)
    assert done.report is not None
    assert repr(done.report) == f"<Report {done.report.to_text().splitlines()[0]}>"
    assert done.report.to_markdown().startswith("## ")
    assert ElementTree.fromstring(done.report.to_junit()).tag == "testsuites"
    assert done.report.to_html().lstrip().lower().startswith("<!doctype html>")


def test_foreign_names_are_no_markup() -> None:
    bad = "<script>alert(1)</script>\x1b[31m\n"
    report = Report(bad, bad, (OutputVerdict(bad, Comparison(PASSED)),))
    shown = report._repr_html_()
    assert "<script>" not in shown
    assert "\x1b" not in shown + repr(report)
    assert "\n" not in repr(report)
    ElementTree.fromstring(shown)


def test_a_conversion_shows_its_verdict_in_every_form_and_says_where_there_is_none() -> None:
    done = netferry.convert(dense(), "pytorch", quick=True)
    assert done.to_text().startswith("passed")
    assert done.to_markdown().startswith("## ")
    assert ElementTree.fromstring(done.to_junit()).tag == "testsuites"
    page = done.to_html()
    assert page.count('class="side"') == 2
    with pytest.raises(UsageError, match="not compared"):
        netferry.convert(dense(), "pytorch", verify=False).to_html()


def test_what_commands_do_is_exported_under_their_names() -> None:
    for name in ("bench", "bisect", "check", "convert", "diff", "inspect", "package", "precision", "run", "stream", "verify"):  # fmt: skip
        assert name in netferry.__all__
        assert callable(getattr(netferry, name))


def test_a_notebook_shows_a_bar_that_goes_when_all_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    shell = type("ZMQInteractiveShell", (), {})()
    handle = SimpleNamespace(update=lambda page: shown.append(page))

    def display(page: Any, display_id: bool) -> Any:
        shown.append(page)
        return handle

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    netferry.convert(dense(), "onnx", quick=True)
    assert shown[0].startswith('<progress value="0" max="')
    assert "verifying" in "".join(shown) and shown[-1] == ""
    step = notebook.bar(None, "<b>")
    assert step is not None
    step(1, 4, "<script>\n")
    assert "<b>" not in shown[-1] and "<script>" not in shown[-1] and "\n" not in shown[-1]
    count = len(shown)
    netferry.convert(dense(), "onnx", quick=True, progress=lambda *_: None)
    assert len(shown) == count


def test_nothing_is_shown_outside_of_a_notebook() -> None:
    assert notebook.bar(None, "anything") is None


def test_the_hook_of_pre_commit_is_a_command_that_there_is() -> None:
    root = Path(__file__).parent.parent
    hooks = (root / ".pre-commit-hooks.yaml").read_text()
    assert "\n  entry: netferry verify --check\n" in hooks
    [name] = re.findall(r"- id: (\S+)", hooks)
    assert f"- id: {name}" in (root / "docs" / "howto-ci.md").read_text()
