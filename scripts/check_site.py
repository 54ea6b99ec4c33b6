"""Whether the built site asks another machine for anything when it is read: scripts, styles, fonts, pictures.

python scripts/check_site.py site
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
"""The elements that load something, and where they say what."""

_AWAY = re.compile(r"(?:https?:)?//")
_STYLE = re.compile(r"(?:@import\s+|url\()\s*['\"]?((?:https?:)?//[^'\")\s]+)")
_UNLOADED = frozenset({"canonical", "alternate", "prev", "next", "license"})
"""What a link says without loading it."""


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        position = given.get(LOADS.get(tag, ""))
        said = set((given.get("rel") or "").split())
        if position and _AWAY.match(position) and not said & _UNLOADED:
            self.found.append(f"<{tag}> {position}")


def foreign(folder: Path) -> Iterator[str]:
    """What the site's pages and styles would load from elsewhere."""
    for path in sorted(folder.rglob("*.html")):
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(folder)}: {one}" for one in page.found)
    for path in sorted(folder.rglob("*.css")):
        for one in _STYLE.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(folder)}: {one}"


if __name__ == "__main__":
    faults = list(foreign(Path(sys.argv[1])))
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults or not list(Path(sys.argv[1]).glob("index.html")):
        sys.exit(1)
    print(
        f"{len(list(Path(sys.argv[1]).rglob('*.html')))} pages, none of which asks another machine for anything"
    )
