"""Writes docs/reference-cli.md from the commands themselves: ``python scripts/make_cli_page.py``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

PAGE = Path(__file__).parent.parent / "docs" / "reference-cli.md"
HEAD = """# Every command

Made from the code by `scripts/make_cli_page.py`. What the commands are for, with examples, stands in [The command line](cli.md).
"""


def page() -> str:
    """The whole page."""
    from netferry.cli import app

    group: Any = typer.main.get_command(app)
    return "\n".join([HEAD, *_all(group, "netferry")])


def _all(group: Any, before: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _all(command, f"{before} {name}")
        else:
            yield from _command(f"{before} {name}", command)


def _command(title: str, command: Any) -> Iterator[str]:
    arguments = [
        one.metavar or one.name.upper() for one in command.params if one.param_type_name == "argument"
    ]
    yield f"## {title}\n"
    yield f"`{' '.join([title, *arguments, '[OPTIONS]'])}`\n"
    yield f"{_plain(command.help or '')}\n"
    panels: dict[str, list[Any]] = {}
    for one in command.params:
        if one.param_type_name == "option" and one.name != "help":
            panels.setdefault(one.rich_help_panel or "Options", []).append(one)
    for panel, options in panels.items():
        yield f"| {panel} | |"
        yield "|---|---|"
        yield from (f"| {_flags(one)} | {_plain(one.help or '')} |" for one in options)
        yield ""


def _flags(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    value = "" if option.is_flag or option.count else f" {option.metavar or _kind(option)}"
    return f"`{', '.join(names)}{value}`".replace("|", "\\|")


def _kind(option: Any) -> str:
    described = getattr(option, "type_descriptor", None)  # as typer has it since it does without click
    kind = str(described.annotation if described is not None else option.type).lower()
    return next((word for part, word in _KINDS.items() if part in kind), "TEXT")


_KINDS = {"int": "N", "float": "X", "path": "FILE"}


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
