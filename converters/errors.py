"""The one error family: a sentence that says where, what was expected, what was received, what to do.

Each class has the exit code that the command line ends with (see ``docs/cli.md``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from netferry.converters.escaping import line


class NetferryError(Exception):
    """Root of every error that is the fault of the input or of the environment."""

    exit_code: ClassVar[int] = 5

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        expected: object = None,
        received: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem = _told(problem)
        self.where = None if where is None else _told(where)
        self.expected = None if expected is None else _told(str(expected))
        self.received = None if received is None else _told(str(received))
        self.remedy = None if remedy is None else _told(remedy)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        facts = [
            f"{label} {fact}"
            for label, fact in (("expected", self.expected), ("received", self.received))
            if fact is not None
        ]
        head = f"{self.where}: {self.problem}" if self.where else self.problem
        body = f"{head}: {', '.join(facts)}" if facts else head
        return f"{body}. {self.remedy}" if self.remedy else body

    def at(self, where: str) -> NetferryError:
        """The same error seen from further out: ``where`` is put before what it already says."""
        self.where = _told(f"{where}: {self.where}" if self.where else where)
        self.args = (self._sentence(),)
        return self

    def to_json(self) -> dict[str, Any]:
        return {
            "error": type(self).__name__,
            "message": str(self),
            "where": self.where,
            "expected": self.expected,
            "received": self.received,
            "remedy": self.remedy,
            "exit_code": self.exit_code,
        }


_STAGED = re.compile(r"\.netferry-[^/\\\s]{1,64}[/\\][a-z]{1,8}[/\\]")
"""What stands between a file's folder and its name while it is being written (``staging``)."""


def _told(text: str) -> str:
    """One line of bounded length, in which a file that is being written bears the name that it will have."""
    return line(_STAGED.sub("", text) if ".netferry-" in text else text)


class UsageError(NetferryError):
    """The call itself cannot be meant: a wrong argument, a flag that does not fit."""

    exit_code = 2


class RefusedError(NetferryError):
    """The input is not a model that can be read, or does not hold together."""

    exit_code = 5


class MissingError(NetferryError):
    """A framework, library or device that the request needs is not here."""

    exit_code = 4


class WriteError(NetferryError):
    """The result could not be written; what stood there before still stands."""

    exit_code = 6


@dataclass(frozen=True)
class Unsupported:
    """One node that cannot be converted: its name, its operator, why, and the nearest remedy."""

    node: str
    operator: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"node '{self.node}' ({self.operator}): {self.reason}"
        return f"{line}. {self.remedy}" if self.remedy else line


class UnsupportedError(NetferryError):
    """Operators that netferry does not support, all of them at once."""

    exit_code = 3

    def __init__(self, problems: Iterable[Unsupported], *, where: str | None = None) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        super().__init__(f"{count} node{'s' if count != 1 else ''} cannot be converted", where=where)

    def _sentence(self) -> str:
        told = [line(str(problem)) for problem in self.problems[:_MOST_TOLD]]
        if len(self.problems) > _MOST_TOLD:
            told.append(f"and {len(self.problems) - _MOST_TOLD:,} more; --json lists them all")
        return super()._sentence() + "".join(f"\n  {one}" for one in told)

    def to_json(self) -> dict[str, Any]:
        problems = [{key: line(text) for key, text in asdict(one).items()} for one in self.problems]
        return super().to_json() | {"problems": problems}


_MOST_TOLD = 100
"""Problems that a message names; a graph may have a million nodes."""


class CannotConvert(Exception):  # noqa: N818 - raised by a row, caught by the walk that knows the node
    """A row met an attribute or a form that it does not support; the interpreter adds the node's name."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


def nearest(name: str, names: Iterable[str], remedy: str | None = None) -> str | None:
    """A remedy for a name that is none of ``names``: those that it is most like, before what else can be done."""
    import difflib  # only where something is wrong

    ways = {one.lower(): one for one in names}
    begun = [one for one in ways if name and one.startswith(name.lower())]
    found = begun[:3] or difflib.get_close_matches(name.lower(), ways, n=3, cutoff=0.6)
    if not found:
        return remedy
    meant = f"Did you mean {' or '.join(ways[one] for one in found)}?"
    return f"{meant} {remedy}" if remedy else meant


def first_line(error: BaseException) -> str:
    """What another library said, short enough to stand in a sentence; its kind where it said nothing.

    Of a traceback that a library has put into its message (MXNet) it is the last line; behind a heading that says only where
    (Keras) it is the one that says what.
    """
    lines = [one for one in str(error).splitlines() if one.strip()] or [type(error).__name__]
    if lines[0].startswith("Traceback (most recent call last)"):
        return line(lines[-1])
    return line(
        lines[1 if len(lines) > 1 and lines[0].startswith("Exception encountered when calling") else 0]
    )
