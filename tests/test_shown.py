"""What an interpreter and a notebook show of a result: one line, or a few lines of HTML, and never a foreign name as markup."""

from __future__ import annotations

from xml.etree import ElementTree

from models import dense

import netferry
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
