"""What pytest finds where netferry is installed: the fixture ``assert_equivalent``, which leaves its report with the test.

    def test_the_export_is_the_model(assert_equivalent):
        assert_equivalent("model.keras", "model.onnx")

The report stands in the failure's output and, as properties, in JUnit XML. ``--netferry-report DIR`` also writes each as a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # netferry waits until a test asks for it
    from netferry.validation.reports.report import Report

PAGE = "page of a test"
"""What is written here, as the ledger has it."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--netferry-report``."""
    group = parser.getgroup("netferry", "netferry: models that must be equal")
    group.addoption(
        "--netferry-report", metavar="DIR", default=None, help="write the report of each comparison as a page"
    )


@pytest.fixture
def assert_equivalent(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """``netferry.testing.assert_equivalent``, with the report attached to the test."""
    count = 0

    def check(a: object, b: object, inputs: Any = None, **options: Any) -> Report:
        nonlocal count
        from netferry.api import verify
        from netferry.validation.comparison.metrics import PASSED

        __tracebackhide__ = True
        report = verify(a, b, inputs, **options)
        count += 1
        _attach(request, report, count)
        assert report.status == PASSED, report.to_text()
        return report

    return check


def _attach(request: pytest.FixtureRequest, report: Report, count: int) -> None:
    title = f"netferry: {report.source} and {report.target}"
    request.node.add_report_section("call", title, report.to_text())
    request.node.user_properties.append((title, report.to_text().splitlines()[0]))
    folder = request.config.getoption("--netferry-report")
    if folder:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", request.node.nodeid).strip("-")[-120:]
        _write(Path(folder) / f"{plain}-{count}.html", report.to_html())


def _write(path: Path, page: str) -> None:
    from netferry.converters.disk.ledger import Overwriting
    from netferry.converters.disk.staging import demand, staged

    path.parent.mkdir(parents=True, exist_ok=True)
    replacing = Overwriting()
    demand(path, PAGE, replacing)
    with staged(path, PAGE, replacing) as stage:
        stage.write_text(page, encoding="utf-8")
