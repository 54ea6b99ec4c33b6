"""What is shown on stderr while something takes time."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from netferry.cli.voice import LOGGER, voice
from netferry.converters.escaping import line


@contextlib.contextmanager
def busy(text: str) -> Iterator[None]:
    """A spinner on stderr while something takes time; nothing where stderr is not a terminal."""
    LOGGER.info("%s", text)
    if not _moving():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(_plain(text)):
        yield


def _plain(text: str) -> str:
    """A name's brackets are no colours."""
    from rich.markup import escape

    return escape(line(text))


def _moving() -> bool:
    """Whether something may move on the screen: lines that ``-v`` asks for stay where they are."""
    return sys.stderr.isatty() and not voice.quiet and not voice.verbosity


def _told(title: str) -> Callable[[int, int, str], None]:
    """Steps as lines of the log; those of a sample are worth less than those of a stage."""
    LOGGER.info("%s", title)

    def step(done: int, total: int, text: str) -> None:
        LOGGER.debug("[%s/%s] %s", done, total or "?", text)

    return step


_LINE_SECONDS = 1.0
"""A plain stream gets a line of progress no more often than this."""


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on a terminal, nothing on a plain stream unless ``-v`` asks for lines."""
    if not _moving():
        yield _told(title)
        return
    with progress_bar(title) as progress:
        yield progress


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr; on a plain stream, a line for each step. The log gets every step."""
    told = _told(title)
    if voice.quiet or voice.verbosity:
        yield told
        return
    with _moving_bar(title) if _moving() else contextlib.nullcontext(_lines()) as shown:

        def step(done: int, total: int, text: str) -> None:
            told(done, total, text)
            shown(done, total, text)

        yield step


def _lines() -> Callable[[int, int, str], None]:
    shown_at = -_LINE_SECONDS

    def step(done: int, total: int, text: str) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= _LINE_SECONDS or done == total:
            shown_at = time.monotonic()
            print(f"[{done}/{total or '?'}] {line(text)}", file=sys.stderr, flush=True)

    return step


@contextlib.contextmanager
def _moving_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(_plain(title))
        yield lambda done, total, text: shown.update(
            task, completed=done, total=total, description=_plain(text)
        )
