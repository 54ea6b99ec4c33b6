"""The site: every page has its place in it, links between pages hold, what is generated is fresh, and nothing asks the network."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OWN = {"security.md", "architecture.md", "changelog.md", "contributing.md", "readme.md"}
"""Pages that scripts/site_hooks.py makes of the project's own."""


def placed() -> list[str]:
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    return re.findall(r": ([\w-]+\.md)$", nav, re.MULTILINE)


def test_every_page_has_its_place_and_every_place_its_page() -> None:
    named = placed()
    assert len(named) == len(set(named))
    assert set(named) - OWN == {page.name for page in DOCS.glob("*.md")}


def anchors(page: Path) -> set[str]:
    """As GitHub and mkdocs make them of titles."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-") for title in titles}


def test_links_to_a_part_of_a_page_lead_to_it() -> None:
    count = 0
    for page in (*DOCS.glob("*.md"), *ROOT.glob("*.md")):
        prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target, part in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", prose):
            goal = page if not target else page.parent / target
            count += 1
            assert part in anchors(goal), f"{page.name} -> {target}#{part}"
    assert count > 3


def test_the_messages_that_are_explained_are_messages_of_the_code() -> None:
    titles = re.findall(r"^## .*$", (DOCS / "faq.md").read_text(encoding="utf-8"), re.MULTILINE)
    quoted = [one for title in titles for one in re.findall(r'"([^"]+)"', title)]
    folders = ("netferry/runtime", "netferry/cli", "converters", "validation")
    code = "".join(
        path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")
    )
    assert len(quoted) > 8
    assert [one for one in quoted if one not in code] == []


def test_the_page_of_commands_is_as_the_code_has_it() -> None:
    """``python scripts/make_cli_page.py`` makes it so."""
    script = runpy.run_path(str(ROOT / "scripts" / "make_cli_page.py"))
    assert script["page"]() == (DOCS / "reference-cli.md").read_text(encoding="utf-8")


def test_what_the_page_of_python_names_is_there() -> None:
    from importlib import import_module

    named = re.findall(
        r"^::: ([\w.]+)$", (DOCS / "reference-api.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(named) > 15
    for name in named:
        module, _, own = name.rpartition(".")
        assert hasattr(import_module(module), own), name


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ('<script src="https://x.org/a.js"></script>', "<script> https://x.org/a.js"),
        ('<link rel="stylesheet" href="//x.org/a.css">', "<link> //x.org/a.css"),
        ('<a href="https://x.org">out</a><img src="a.png"><link rel="canonical" href="https://x.org">', None),
    ],
)
def test_what_would_ask_another_machine_is_found(page: str, told: str | None, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(page)
    found = list(runpy.run_path(str(ROOT / "scripts" / "check_site.py"))["foreign"](tmp_path))
    assert found == ([] if told is None else [f"index.html: {told}"])


@pytest.mark.slow
def test_the_site_is_built_strictly_and_asks_the_network_for_nothing() -> None:
    done = subprocess.run(
        ["scripts/docs"], cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False
    )
    if "No matching distribution" in done.stderr:
        pytest.skip("mkdocs-material cannot be installed here: no package registry")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "none of which asks another machine for anything" in done.stdout
