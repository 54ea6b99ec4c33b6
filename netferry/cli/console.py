"""How commands speak: one answer on stdout, all else on stderr, one exit code; files in a child process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

from netferry.cli import colour
from netferry.cli.voice import LOGGER, TO_FILE, voice
from netferry.converters import escaping
from netferry.converters.trust import sandbox
from netferry.runtime import fork
from netferry.runtime.limits import Limits, explained

INTERRUPTED, NOBODY_READS, UNWRITTEN = 130, 141, 6
"""Exit codes: Ctrl-C, the reader of the answer has gone (``| head``), the answer cannot be written."""


def code_of(report: Any, strict: bool = False) -> int:
    """The exit code of a verdict, 0 where there is none; ``strict`` wants every free axis to have been tried at two sizes."""
    return 0 if report is None else report.exit_code or int(strict and bool(report.unchecked_axes))


_SPARE = 4 << 20
"""Bytes kept for reporting an error where there is no more memory; nobody writes to them, so they take none till then."""

Say = Callable[[dict[str, Any], Callable[[], str]], None]


@contextlib.contextmanager
def speaking(
    as_json: bool, limits: Limits | None = None, *files: str, opens: Mapping[str, Any] | None = None
) -> Iterator[Say]:
    """Keep stdout for the answer: whatever a framework prints meanwhile goes to stderr.

    With ``files``, which may be hostile, all that follows happens in a child with ``limits``, which may read and write
    what the arguments ``opens`` name (``netferry.runtime.access``). Errors become one message, or with ``--json`` one document,
    and the exit code of their kind.
    """
    from netferry.converters.errors import NetferryError

    warnings.showwarning = _show_warning
    spare = bytearray(_SPARE)
    answer = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)

    def write(text_line: str) -> None:
        try:
            with os.fdopen(os.dup(answer), "w", encoding="utf-8") as stream:
                stream.write(text_line + "\n")
        except BrokenPipeError:
            leave(NOBODY_READS)
        except OSError as error:
            print(f"netferry: the answer cannot be written ({error.strerror})", file=sys.stderr)
            leave(UNWRITTEN)

    held: list[str] = []

    def say(document: dict[str, Any], text: Callable[[], str]) -> None:
        from netferry.validation.reports.report import as_json as dumped

        if as_json:
            whole = document if limits is None else {"sandbox": sandbox.told(), **document}
            write(dumped(whole))
            return
        said = escaping.lines(text())
        for line in said.splitlines():
            LOGGER.debug("answer: %s", line, extra=TO_FILE)
        if colour.is_wanted(answer):
            said = colour.of_verdicts(said)
        held.append(said) if voice.quiet else write(said)

    try:
        if limits is not None:
            code = fork.enter(files, limits, opens)
            if code is not None:
                raise typer.Exit(code)
        yield say
    except NetferryError as error:
        del spare
        _tell(error, write, as_json)
        leave(error.exit_code)
    except typer.Exit as end:
        for said in held if end.exit_code else ():
            write(said)
        LOGGER.debug("ended with exit code %s", end.exit_code, extra=TO_FILE)
        raise
    except Exception as error:
        del spare
        if os.environ.get("NETFERRY_TRACEBACK"):
            raise
        fault = explained(error, files) or NetferryError(
            f"an unexpected {type(error).__name__}: {error}",
            remedy="This is a fault of netferry: please report it, with what NETFERRY_TRACEBACK=1 shows",
        )
        _tell(fault, write, as_json)
        leave(fault.exit_code)
    except KeyboardInterrupt as interrupt:
        left = str(interrupt) or "nothing half-done was left behind"
        print(f"netferry: interrupted; {left}", file=sys.stderr)
        leave(INTERRUPTED)
    finally:
        sys.stdout.flush()
        os.dup2(answer, 1)
        os.close(answer)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """What netferry itself warns of is shown; frameworks warn of their own future, which ``-vv`` shows."""
    own = category.__module__.startswith("netferry.")
    text = str(message) if own else f"{category.__name__}: {message}"
    LOGGER.log(logging.WARNING if own else logging.DEBUG, "%s", text)


def _tell(error: Any, write: Callable[[str], None], as_json: bool) -> None:
    """An error as one message, or as the one document; nothing is imported for it, since imports may be what failed."""
    if as_json:
        write(escaping.in_json(json.dumps(error.to_json(), indent=2)))
    else:
        print(f"netferry: {error}", file=sys.stderr)
    LOGGER.debug("error: %s", error, extra=TO_FILE)


def leave(code: int) -> None:
    """End the command, unless all is well."""
    if code:
        raise typer.Exit(code)
