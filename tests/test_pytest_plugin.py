"""The fixture that other projects get: what differs fails with the report, and pages and properties are left."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
from models import dense, saved

from netferry.testing import assert_equivalent as plain

TESTS = """
def test_equal(assert_equivalent):
    report = assert_equivalent("a.onnx", "same.onnx", quick=True)
    assert report.status == "passed"

def test_different(assert_equivalent):
    assert_equivalent("a.onnx", "other.onnx", quick=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, factor in (("a.onnx", 1.0), ("same.onnx", 1.0), ("other.onnx", 1.01)):
        saved(tmp_path, dense(factor), name)
    (tmp_path / "test_models.py").write_text(TESTS)
    return tmp_path


def test_the_report_is_left_with_the_test(folder: Path) -> None:
    found = entry_points(group="pytest11", name="netferry")  # an installation of before it was there has none
    named = () if found else ("-p", "netferry.pytest_plugin")
    command = (
        sys.executable, "-m", "pytest", *named, "-p", "no:randomly", "-q", "--junitxml", "junit.xml",
        "--netferry-report", "pages", "test_models.py",
    )  # fmt: skip
    environment = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "netferry: a.onnx and other.onnx" in done.stdout
    assert "AssertionError: failed, compared with quick" in done.stdout
    properties = [one.get("value") for one in ElementTree.parse(folder / "junit.xml").iter("property")]
    assert [str(one).partition(",")[0] for one in properties] == ["passed", "failed"]
    pages = sorted(path.name for path in (folder / "pages").glob("*.html"))
    assert pages == ["test_models.py-test_different-1.html", "test_models.py-test_equal-1.html"]


def test_it_works_without_pytest_too(folder: Path) -> None:
    assert plain(folder / "a.onnx", folder / "same.onnx", quick=True).status == "passed"
    with pytest.raises(AssertionError, match=r"^failed"):
        plain(folder / "a.onnx", folder / "other.onnx", quick=True)


def test_it_is_registered_where_netferry_is_installed() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"netferry": "netferry.pytest_plugin"}
