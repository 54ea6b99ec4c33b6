"""A verdict as a few lines of HTML, for a notebook; the whole page is ``page``'s."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from netferry.converters.escaping import line
from netferry.validation.reports import wording
from netferry.validation.reports.wording import MARKS, STATED, Document, number


def of_report(document: Document) -> str:
    """The verdict in a sentence, the outputs as a table; ``document`` is what ``Report.to_dict()`` gives."""
    outputs = document.get("outputs") or ()
    head = f"<b>{MARKS[document['status']]} {_told(wording.headline(document))}</b>"
    rows = "".join(_row("td", cells) for cells in map(_output, outputs))
    names = _row("th", ("output", "verdict", "error / scale", "reason"))
    return f"<div>{head}{f'<table>{names}{rows}</table>' if rows else ''}</div>"


def _output(one: Document) -> Sequence[str]:
    stated = f"{MARKS[one['status']]} {STATED[one['status']]}"
    return str(one["name"]), stated, number(one.get("max_rel")), str(one.get("reason") or "")


def _row(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_told(cell)}</{tag}>' for cell in cells)}</tr>"


def _told(text: str) -> str:
    return escape(line(text))
