"""The pages before axe-core, which knows what a screen reader and a keyboard need; nothing is said on the console, nothing scrolls sideways.

``axe/axe.min.js`` is axe-core 4.14.1 of Deque Systems (MPL 2.0), as the npm registry has it; it is no part of netferry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_documents import cell, output, report
from test_page_browser import (
    CHROMIUM,
    DRIVER,
    SCHEMES,
    Browser,
    browser,
    real_verdict,
    whole_matrix,
    whole_verdict,
)

from netferry.validation.reports.page import matrix_page, report_page

__all__ = ["browser", "real_verdict"]

pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="no Chromium here")

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
LOOK = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => done(found.violations.map((v) => `${v.id}: ${v.help} (${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120)).join(" | ")})`)),
  (error) => done([String(error)]));
"""

NAMES = ("matrix", "verdict", "failed", "cells")


def page(name: str) -> tuple[str, str]:
    """A page and the part of it that is opened."""
    if name == "matrix":
        return whole_matrix(), "#cnn/tensorflow/mxnet"
    if name == "verdict":
        return whole_verdict(), ""
    if name == "failed":
        return report_page(report(output("y", "failed", 90.0, reason="an error of 0.3"))), ""
    return matrix_page({"cells": [cell("cnn", "pytorch", to) for to in ("onnx", "mxnet")]}), ""


def violations(browser: Browser, text: str, anchor: str = "", **look: Any) -> list[str]:
    browser.open(text, anchor, **look)
    browser.run(AXE)
    browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
    found: list[str] = browser.driver.execute_async_script(LOOK)
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("name", NAMES)
def test_axe_finds_nothing(browser: Browser, name: str, width: int, scheme: str) -> None:
    browser.driver.set_script_timeout(120)
    text, anchor = page(name)
    assert violations(browser, text, anchor, width=width, scheme=scheme) == []
    assert browser.complaints() == []
    assert (
        browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    )


def test_axe_finds_nothing_on_a_page_of_real_models(browser: Browser, real_verdict: str) -> None:
    assert violations(browser, real_verdict) == []


def test_axe_finds_what_is_wrong(browser: Browser) -> None:
    """The check of the tests above can fail."""
    text, _ = page("failed")
    broken = text.replace('<html lang="en">', "<html>").replace(
        '<h1 id="verdict">', '<button></button><h1 id="verdict">'
    )
    found = " ".join(violations(browser, broken))
    assert "html-has-lang" in found
    assert "button-name" in found
