"""What the documents say is what the code holds."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PLACES = "|".join(rf"(?<![\w.])/{folder}/" for folder in ("home", "root", "work"))
"""Folders of some machine, written so that this line is not one."""


@pytest.mark.parametrize(
    ("page", "marker", "maker"),
    [
        ("docs/operators.md", "operators", "operators"),
        ("README.md", "source", "source"),
        ("docs/operators.md", "rows", "carried"),
    ],
)
def test_what_is_generated_is_fresh(page: str, marker: str, maker: str) -> None:
    """``python scripts/make_tables.py`` makes it so."""
    tables = runpy.run_path(str(ROOT / "scripts" / "make_tables.py"))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert tables["put"](text, marker, tables[maker]()) == text


def test_every_command_and_exit_code_is_documented() -> None:
    from netferry.converters import errors

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for command in ("convert", "verify", "run", "inspect", "zoo list", "doctor", "demo"):
        assert f"netferry {command}" in page
    family = {cls.exit_code for cls in vars(errors).values() if hasattr(cls, "exit_code")}
    for code in {0, 1, 130} | family:
        assert f"| {code} |" in page


def test_links_between_documents_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", prose):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_contributing_is_short() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 50


def test_no_machine_path_stands_in_the_project() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".toml", ".txt", ""}:
            text = path.read_text(encoding="utf-8")
            assert not re.search(PLACES, text), name


def test_the_zoo_page_shows_the_code_as_it_is() -> None:
    """``python scripts/make_zoo_page.py netferry-demo/matrix.json`` makes it so."""
    from netferry.zoo.catalog import CATALOG

    page = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "scripts" / "make_zoo_page.py"))
    for framework in script["TITLES"]:
        for names in [*([spec.factory] for spec in CATALOG.values()), ["train"]]:
            assert script["code"](framework, names) in page, (framework, names)


def test_what_the_pages_name_is_there() -> None:
    """Paths in backticks that begin with a folder of the project."""
    for page in ("ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = re.findall(
            r"`((?:converters|netferry|validation|inference|zoo|tests|scripts)/[\w./*<>]*)`", text
        )
        assert named or page == "SECURITY.md"
        for name in named:
            pattern = re.sub(r"<\w+>", "*", name).rstrip("/")
            assert list(ROOT.glob(pattern)), f"{page} names {name}"
