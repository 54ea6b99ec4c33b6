"""What mkdocs asks while it builds the site: the project's own pages are pages of the site, too, and links between both hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {
    "SECURITY.md": "security.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "readme.md",
}
"""Files of the project's top folder, and what they are called here."""


def on_files(files: Files, config: Any) -> Files:
    """Take them in."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=_linked(text, "")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """``](../SECURITY.md)`` is ``](security.md)`` here."""
    return _linked(markdown, r"\.\./")


def _linked(text: str, before: str) -> str:
    names = "|".join(map(re.escape, PAGES))
    return re.sub(
        rf"\]\({before}({names})(#[^)]*)?\)", lambda found: f"]({PAGES[found[1]]}{found[2] or ''})", text
    )
