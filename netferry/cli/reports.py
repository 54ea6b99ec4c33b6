"""The forms of a report on their way to files, and to the screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netferry.converters.disk.ledger import Overwriting


REPORT = {
    "verdict": "verdict.json", "text": "verdict.txt", "html": "report.html", "junit": "junit.xml", "markdown": "report.md",
}  # fmt: skip
"""The files of ``--report``: each form and its name."""


def demand_forms(
    replacing: Overwriting, wanted: Mapping[str, Path | None], folder: Path | None = None
) -> None:
    """Refuse, before any work, forms of a report that would replace a person's files."""
    from netferry.converters.disk.staging import demand

    paths = {} if folder is None else {form: folder / name for form, name in REPORT.items()}
    for form, path in (*wanted.items(), *paths.items()):
        demand(path, form, replacing)


def write_report(folder: Path, report: Any, extras: Callable[[], Any], replacing: Overwriting) -> None:
    """A verdict in all forms; ``extras`` gives what only the page shows beside it."""
    from netferry.tasks.pages import of_verdict

    forms = {
        **of_verdict(report.to_dict(), extras),
        "verdict": lambda: report.to_json() + "\n",
        "text": lambda: report.to_text() + "\n",
    }
    write_forms(forms, {form: folder / name for form, name in REPORT.items()}, replacing)


def write_forms(
    forms: Mapping[str, Callable[[], str]], wanted: Mapping[str, Path | None], replacing: Overwriting
) -> None:
    """Those forms that have a place to go to."""
    for form, path in wanted.items():
        if path is not None:
            write_text(path, forms[form](), form, replacing)


def sizes_text(files: Iterable[Path | str]) -> list[str]:
    """The files that were written, each with its size."""
    found = [Path(file) for file in files]
    width = max((len(str(file)) for file in found), default=0) + 2
    return [f"wrote {file!s:<{width}}{_size(file.stat().st_size)}" for file in found if file.is_file()]


def _size(count: int) -> str:
    """Bytes in the unit in which they have one to three digits before the point."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{count} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def open_on_desktop(page: Path) -> None:
    """Show the page where a person sits before a screen of this very machine; never over a wire or in CI."""
    away = ("CI", "SSH_CONNECTION", "SSH_TTY")
    screen = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if screen and sys.stderr.isatty() and not any(map(os.environ.get, away)):
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def write_text(path: Path, text: str, kind: str, replacing: Overwriting) -> None:
    """The text as a whole file, with the folders that it lies in."""
    from netferry.converters.disk.staging import staged
    from netferry.converters.errors import WriteError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot write here ({error.strerror})", where=str(path)) from error
    with staged(path, kind, replacing) as stage:
        stage.write_text(text, encoding="utf-8")
