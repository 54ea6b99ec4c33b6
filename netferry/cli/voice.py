"""How much a command says: ``-v``, ``-vv``, ``-q`` and ``--log``, which every command has."""

from __future__ import annotations

import inspect
import logging
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from netferry.cli.panels import in_panels
from netferry.version import VERSION

LOGGER = logging.getLogger("netferry")
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
TO_FILE: Mapping[str, Any] = {"file_alone": True}
"""What the screen shows in its own way."""

_HEAD = "# netferry log\n"
"""The first line of a log: a file that begins otherwise is a person's own, and is left."""


_APPENDING = (
    os.O_RDWR
    | os.O_APPEND
    | os.O_CREAT
    | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY"))
)
"""What is looked at is what is written: no link is followed, and a FIFO does not hang."""


@dataclass
class _Voice:
    """What the flags of this call ask for; the child that a command goes on in has it, too."""

    verbosity: int = 0
    quiet: bool = False


voice = _Voice()


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from netferry.converters import escaping

        return escaping.line(super().format(record))


def spoken(function: Callable[..., None]) -> Callable[..., None]:
    """A command with the flags of this page, and its options in panels."""
    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function)
    parameters = [one.replace(annotation=hints[one.name]) for one in own.parameters.values()]
    added = [one for one in _FLAGS.parameters.values() if one.name not in own.parameters]

    @wraps(function)
    def command(*, verbose: int = 0, quiet: bool = False, log: Path | None = None, **given: Any) -> None:
        _set_up(verbose, quiet, log)
        function(**given)

    everything = in_panels([*parameters, *added])
    command.__dict__.pop("__wrapped__")
    command.__signature__ = own.replace(parameters=everything, return_annotation=None)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in everything}
    return command


def _flags(
    *,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, help="Say more: -v each stage, -vv each sample, too."),
    ] = 0,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing where all is well; the exit code tells.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Add all of it to a file, with times, whatever the screen shows."),
    ] = None,
) -> None:
    """The flags that every command has."""


_FLAGS = inspect.signature(_flags, eval_str=True)


def _set_up(verbose: int, quiet: bool, log: Path | None) -> None:
    if verbose and quiet:
        raise typer.BadParameter("--quiet says less and --verbose says more: use one of them")
    voice.verbosity, voice.quiet = verbose, quiet
    LOGGER.setLevel(logging.DEBUG)
    LOGGER.propagate = False
    LOGGER.handlers.clear()
    screen = logging.StreamHandler(sys.stderr)
    screen.setLevel(logging.ERROR if quiet else _LEVELS[min(verbose, len(_LEVELS) - 1)])
    screen.addFilter(lambda record: not hasattr(record, "file_alone"))
    screen.setFormatter(_Lines("netferry: %(message)s"))
    LOGGER.addHandler(screen)
    if log is not None:
        LOGGER.addHandler(_file(log))
        LOGGER.debug("netferry %s: %s", VERSION, " ".join(sys.argv[1:]), extra=TO_FILE)


def _file(log: Path) -> logging.Handler:
    """A handler that adds to a log of netferry's; the child inherits it open, so it needs no right to the folder."""
    try:
        stream = os.fdopen(os.open(log, _APPENDING, 0o666), "a+", encoding="utf-8", errors="replace")
        found = os.fstat(stream.fileno())
        stream.seek(0)
        if not stat.S_ISREG(found.st_mode) or (found.st_size and stream.read(len(_HEAD)) != _HEAD):
            raise typer.BadParameter(f"{log} is no log of netferry's: name another file for --log")
        if not found.st_size:
            stream.write(_HEAD)
        handler = logging.StreamHandler(stream)
    except OSError as error:
        why = "a link is not followed" if log.is_symlink() else error.strerror
        raise typer.BadParameter(f"--log: {log} cannot be written ({why})") from None
    handler.setLevel(logging.DEBUG)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)-7s %(message)s"))
    return handler
