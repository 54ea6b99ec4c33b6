"""How far something is, where a notebook shows it; nothing anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from html import escape
from importlib import import_module
from typing import Any

from netferry.converters.escaping import line

Progress = Callable[[int, int, str], None]


def bar(given: Progress | None, title: str) -> Progress | None:
    """``given``, or in a notebook a bar below the cell, which goes when all is done."""
    if given is not None or not _in_notebook():
        return given
    return _Bar(title)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; nothing is imported to find out."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


class _Bar:
    """Steps and the seconds since the first; at the end nothing is left of it."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._shown: Any = None

    def __call__(self, done: int, total: int, text: str) -> None:
        screen: Any = import_module("IPython.display")
        over = total > 0 and done >= total
        page = screen.HTML("" if over else self._page(done, total, text))
        if self._shown is None:
            self._shown = screen.display(page, display_id=True)
        else:
            self._shown.update(page)

    def _page(self, done: int, total: int, text: str) -> str:
        seconds = time.monotonic() - self._began
        left = f", about {seconds / done * (total - done):.0f} s left" if 0 < done < total else ""
        said = f"{self._title}: {line(text)} ({done} of {total}, {seconds:.0f} s{left})"
        return f'<progress value="{done}" max="{max(total, 1)}"></progress> {escape(said)}'
