"""Help as plain text, for terminals too narrow for boxes: the same panels, and no word is cut or broken."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

BOXED = 120
"""Columns from which on boxes have room for every flag and its words."""

_SIDE_BY_SIDE = 72
"""Columns from which on what a flag does stands beside it; else below it."""

_NARROWEST = 24


def columns() -> int:
    """The width of the terminal; 80 where there is none."""
    return shutil.get_terminal_size().columns


def markup() -> Any:
    """How Typer writes help here: ``"rich"`` draws boxes, None is this file."""
    return None if columns() < BOXED else "rich"


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters; a word that is longer is broken behind a comma, a bar or a slash, or stays whole."""
    words = [part for word in text.split() for part in (_parts(word) if len(word) > width else [word + " "])]
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return [line.rstrip() for line in lines]


def _parts(word: str) -> list[str]:
    """Pieces of a long word that are joined without a space where two have room in a line."""
    *pieces, last = re.findall(r"[^,|/]+[,|/]?|[,|/]", word)
    return [*pieces, last + " "]


_CONTEXT: Any = TyperGroup.context_class


class _Formatter(_CONTEXT.formatter_class):  # type: ignore[misc]
    """Click's formatter at the terminal's own width."""

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()
        self.width = max(min(columns(), BOXED) - 1, _NARROWEST)

    def write_text(self, text: str) -> None:
        for paragraph in text.split("\n\n"):
            self.write(textwrap.indent("\n".join(self._fit(paragraph)), " " * self.current_indent) + "\n")

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        first, *rest = wrapped(f"{prefix or 'Usage: '}{prog} {args}", self.width - 4)
        self.write("\n".join([first, *(f"    {line}" for line in rest)]) + "\n")

    def write_dl(self, rows: Sequence[tuple[str, str]], col_max: int = 28, col_spacing: int = 2) -> None:
        beside = self.width + 1 >= _SIDE_BY_SIDE
        margin = " " * self.current_indent
        column = min(max((len(first) for first, _ in rows), default=0), col_max) + col_spacing
        for first, second in rows:
            heads = [margin + line for line in self._fit(first)]
            indent = self.current_indent + (column if beside else 4)
            lines = [" " * indent + line for line in wrapped(second, self.width - indent)] if second else []
            if beside and lines and len(heads[-1]) + col_spacing <= indent:
                heads[-1] = heads[-1].ljust(indent) + lines.pop(0)[indent:]
            self.write("\n".join([*heads, *lines]) + "\n")

    def _fit(self, text: str) -> list[str]:
        return wrapped(text, self.width - self.current_indent)


class _Context(_CONTEXT):  # type: ignore[misc]
    formatter_class = _Formatter


class _InPanels:
    """A command whose options stand under the names of their panels."""

    context_class: Any = _Context

    def format_options(self: Any, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                other = "Arguments" if parameter.param_type_name == "argument" else "Options"
                panel = getattr(parameter, "rich_help_panel", None) or other
                panels.setdefault(panel, []).append(record)
        for panel, records in panels.items():
            if records:
                with formatter.section(panel):
                    formatter.write_dl(records)
        if hasattr(self, "commands"):
            self.format_commands(ctx, formatter)


class Command(_InPanels, TyperCommand):
    """One command."""


class Group(_InPanels, TyperGroup):
    """A group of commands, each with the whole sentence that says what it does."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        shown = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, _first(one.help or "")) for name, one in shown if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())
