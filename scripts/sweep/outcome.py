"""What becomes of one file on its way to one framework, in a word and in a sentence."""

from __future__ import annotations

from pathlib import Path

import netferry
from netferry.converters.errors import NetferryError
from netferry.validation.reports.report import Report

ARRIVED = ("passed", "converted")


def outcome(path: Path, to: str, verify: bool = True) -> tuple[str, str]:
    """passed, failed, not_checked, converted (not verified), refused or crashed; and why."""
    try:
        result = netferry.convert(path, to=to, verify=verify, seed=1)
    except NetferryError as error:
        return "refused", line(error)
    except Exception as error:  # a crash is a finding
        return "crashed", f"{type(error).__name__}: {line(error)}"
    report = result.report
    if report is None:
        return "converted", ""
    return report.status, "" if report.status == "passed" else _why(report)


def line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _why(report: Report) -> str:
    """The first output that did not pass, and why."""
    said = [
        f"{one.name}: {one.comparison.reason}" for one in report.outputs if one.comparison.status != "passed"
    ]
    return " ".join((report.reason or report.unusable or (said or ["no outputs"])[0]).split())[:300]
