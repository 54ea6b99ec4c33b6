"""What is shown on stderr while something takes time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from netferry.converters.escaping import line


@contextlib.contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes time; nothing where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(_plain(text)):
        yield


def _plain(text: str) -> str:
    """A name's brackets are no colours."""
    from rich.markup import escape

    return escape(line(text))


_LINE_SECONDS = 1.0
"""A plain stream gets a line of progress no more often than this."""


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None] | None]:
    """A progress bar on a terminal, nothing on a plain stream."""
    if not sys.stderr.isatty():
        yield None
        return
    with progress_bar(title) as progress:
        yield progress


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; on a plain stream, a line for each step."""
    if not sys.stderr.isatty():
        shown_at = -_LINE_SECONDS

        def step(done: int, total: int, text: str) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= _LINE_SECONDS or done == total:
                shown_at = time.monotonic()
                print(f"[{done}/{total or '?'}] {line(text)}", file=sys.stderr, flush=True)

        yield step
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(_plain(title))
        yield lambda done, total, text: shown.update(
            task, completed=done, total=total, description=_plain(text)
        )
