"""The report as one HTML page that needs nothing but itself: no network, no library, no second file.

``report_page`` shows one verdict, ``matrix_page`` a whole matrix, ``bench_page`` timings; all are built from plain data
by the same parts.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from netferry.converters.escaping import html
from netferry.validation.reports.page.drawing import Sprites
from netferry.validation.reports.page.extras import Extras, environment
from netferry.validation.reports.page.grid import CellKey, grid
from netferry.validation.reports.page.journey import journey
from netferry.validation.reports.page.timings import timings
from netferry.validation.reports.wording import Document, title_of

__all__ = ["Extras", "bench_page", "matrix_page", "report_page"]

_TEMPLATES = Path(__file__).parent / "templates"
_NOTHING = Extras()


def report_page(document: Document, extras: Extras = _NOTHING) -> str:
    """The page of one verdict; ``document`` is what ``Report.to_dict()`` gives."""
    sprites = Sprites()
    values = journey(document, extras, sprites, whole=True)
    title = f"{values.source} → {values.target}: {values.stated}"
    return _page("report.html", document, sprites, title=title, journey=values)


def matrix_page(
    document: Document,
    extras: Mapping[CellKey, Extras] | None = None,
    titles: Mapping[str, tuple[str, str]] | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """The page of a matrix; ``document`` is what ``Matrix.to_dict()`` gives.

    ``extras`` belong to cells by (model, source, target), ``titles`` (title, formula) to models.
    """
    sprites = Sprites()
    values = grid(document, extras or {}, titles or {}, sprites)
    about = {**document, "versions": versions or document.get("versions") or {}}
    return _page("matrix.html", about, sprites, title=f"netferry: {values.headline}", grid=values)


def bench_page(document: Document) -> str:
    """The page of a benchmark; ``document`` is what ``Bench.to_dict()`` gives."""
    values = timings(document)
    return _page("bench.html", document, Sprites(), title=f"netferry: {values.headline}", bench=values)


def _page(template: str, document: Document, sprites: Sprites, **values: Any) -> str:
    style, script = (_part(name) for name in ("page.css", "page.js"))
    return (
        _templates()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),
            script=Markup(script),
            policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}",
            environment=environment(document.get("versions") or {}, str(document.get("sandbox") or "")),
            sheet=sprites.sheet(),
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
    )


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=html,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["title_of"] = title_of
    return made


@cache
def _part(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """What the page's security policy admits: this very text, and nothing that a name could smuggle in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
