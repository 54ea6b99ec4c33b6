"""What became of the entries of a catalogue, or of many sources: each with its verdict or the error that it ended with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from netferry.converters import escaping, source
from netferry.tasks.fanout import Answer, Document
from netferry.validation.comparison.metrics import NOT_CHECKED, PASSED
from netferry.validation.reports import junit, markdown, wording
from netferry.validation.reports.report import CANNOT_RUN, exit_code_of, versions


@dataclass(frozen=True)
class Compared:
    """One pair: its verdict (``not_checked`` where there is none, with the reason), and whether an earlier run gave it.

    ``files`` are those that a conversion has written; ``asked`` is whether anything was to be compared,
    ``precision`` what another precision gave.
    """

    name: str
    a: str
    b: str
    status: str
    reason: str
    seconds: float
    kept: bool
    report: Document | None = field(repr=False, default=None)
    error: Document | None = field(repr=False, default=None)
    files: tuple[str, ...] = ()
    asked: bool = True
    precision: Document | None = field(repr=False, default=None)

    @property
    def exit_code(self) -> int:
        """What a command for it alone would end with."""
        if self.error is not None:
            return int(self.error["exit_code"])
        return exit_code_of(self.status, (self.report or {}).get("missing", "")) if self.asked else 0

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "a": self.a, "b": self.b, "status": self.status, "reason": self.reason,
            "seconds": self.seconds, "kept": self.kept, "report": self.report, "error": self.error, "files": list(self.files),
            **({} if self.precision is None else {"precision": self.precision}),
        }  # fmt: skip


@dataclass(frozen=True)
class Verdicts:
    """All pairs of a catalogue, or all conversions of one call (``noun``)."""

    title: str
    pairs: tuple[Compared, ...]
    noun: str = "pairs"

    @property
    def exit_code(self) -> int:
        """The worst of all; what cannot run here is the least of faults."""
        return max(
            (pair.exit_code for pair in self.pairs), default=1, key=lambda code: (code != CANNOT_RUN, code)
        )

    @property
    def passed(self) -> bool:
        return bool(self.pairs) and all(pair.status == PASSED for pair in self.pairs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "catalogue": self.title,
            "status": wording.worst_status([pair.to_dict() for pair in self.pairs]),
            self.noun: [pair.to_dict() for pair in self.pairs],
            "versions": versions(),
        }

    def to_text(self) -> str:
        """One line for each pair, then the count."""
        width = max((len(pair.name) for pair in self.pairs), default=0) + 2
        lines = []
        for pair in self.pairs:
            ratio = wording.worst_ratio(pair.report or {})
            error = "" if ratio is None else f"{ratio:8.2g} yardsticks"
            line = f"{pair.name:<{width}}{_stated(pair):<13}{error:<20}{pair.seconds:7.1f} s"
            lines.append(f"{line}{', kept' if pair.kept else ''}")
            if pair.status != PASSED:
                lines.append(f"  {pair.reason}")
            if pair.precision is not None:
                lines.append(f"  {_gained(pair.precision)}")
        passed = sum(pair.status == PASSED for pair in self.pairs)
        return "\n".join(map(escaping.line, [*lines, f"{passed} of {len(self.pairs)} {self.noun} passed"]))

    def to_junit(self) -> str:
        return junit.of_matrix({"versions": versions(), "cells": [_cell(pair) for pair in self.pairs]})

    def to_markdown(self) -> str:
        return markdown.of_catalogue(self.to_dict(), self.noun)


def _cell(pair: Compared) -> dict[str, Any]:
    """A pair as JUnit's form takes a cell of the matrix."""
    return {
        "model": pair.name, "source": pair.a, "target": pair.b, "status": pair.status, "reason": pair.reason,
        "seconds": pair.seconds, "report": pair.report,
    }  # fmt: skip


def _gained(lowered: Document) -> str:
    """What another precision won and lost, in a line."""
    before, after = lowered["bytes"]
    worst = max(map(float, lowered["error"].values()), default=0.0)
    return (
        f"{lowered['precision']}: {before:,} -> {after:,} bytes, {lowered['speed']:.2f} times as fast, "
        f"error {worst:.2e} of an output's RMS"
    )


def _stated(pair: Compared) -> str:
    if pair.error is not None:
        return "not written" if pair.files == () and "destination" in pair.error else "not checked"
    return wording.STATED[pair.status] if pair.asked else "not compared"


def compared(answer: Answer) -> Compared:
    """A pair that was verified: the answer is its report."""
    a, b = map(source.title, answer.task.arguments)
    return _of_report(answer, a, b, answer.document)


def converted(answer: Answer) -> Compared:
    """A conversion: the answer holds its report and its files."""
    document = answer.document or {}
    if "precision" in document:
        return _lowered(answer, document)
    a, b = source.title(answer.task.arguments[0]), answer.task.options["destination"].name
    if answer.error is None and document["report"] is None:
        how = (
            "nothing was written (--dry-run)"
            if not document["files"]
            else "it was not compared (--no-verify)"
        )
        found = Compared(answer.task.name, a, b, NOT_CHECKED, how, answer.seconds, answer.kept, asked=False)
    else:
        found = _of_report(answer, a, b, document.get("report"))
    return replace(found, files=tuple(document.get("files", ())))


def _lowered(answer: Answer, document: Document) -> Compared:
    """A conversion to another precision: its status is that of the lower one."""
    own = {key: value for key, value in document.items() if key != "conversion"}
    status, task = document["status"], answer.task
    reason = "" if status == PASSED else f"{document['precision']} changes an output by more than it may"
    return Compared(
        task.name, source.title(task.arguments[0]), task.options["destination"].name, status, reason, answer.seconds, answer.kept,
        document["conversion"]["report"], files=tuple(document["files"]), precision=own,
    )  # fmt: skip


def _of_report(answer: Answer, a: str, b: str, report: Document | None) -> Compared:
    error = answer.error
    if report is not None:
        faults = [one for one in report["outputs"] if one["status"] != PASSED]
        reason = report["reason"] or (faults[0]["reason"] if faults else "")
        return Compared(answer.task.name, a, b, report["status"], reason, answer.seconds, answer.kept, report)
    assert error is not None
    return Compared(answer.task.name, a, b, NOT_CHECKED, error["message"], answer.seconds, False, None, error)
