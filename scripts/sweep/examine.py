"""One case: built, measured without netferry, and only then judged by it."""

from __future__ import annotations

import time
from typing import Any

from sweep.case import SPECIAL, Case, Pair
from sweep.plain import RunError, agreement, moved

Result = dict[str, Any]
"""What is known of a case, a line of the results: key, half, kind, name, field, whole, state, status, reason, seconds.

``state`` is what the frameworks themselves say: fault, at NaN (a fault that no finite input shows), no fault; agrees, differs, still, unclear; refused (netferry
does not convert it), broken (the case itself ended with an error), late (no end within its time). ``status`` is what netferry
says: passed, failed, not_checked, or raised.
"""


class RefusalError(Exception):
    """netferry does not convert this model, and says why."""


class TracebackError(Exception):
    """netferry converts this model and ends with an error of Python's own."""


JUDGED = ("fault", "agrees", "still")


def examine(case: Case) -> Result:
    begun = time.monotonic()
    result: Result = {
        "key": case.key, "half": case.half, "kind": case.kind, "name": case.name, "field": case.field, "whole": case.whole,
    }  # fmt: skip
    try:
        pair = case.build()
        result |= {"state": "none"} if pair is None else _judged(case.half, pair)
    except RefusalError as error:
        result |= {"state": "refused", "reason": str(error)[:300]}
    except TracebackError as error:
        result |= {"state": "refused", "status": "raised", "reason": f"a traceback, {error}"}
    except RunError as error:
        result |= {"state": "unclear", "reason": str(error)[:300]}
    except Exception as error:  # one case does not end the sweep
        result |= {"state": "broken", "reason": f"{type(error).__name__}: {str(error)[:300]}"}
    return result | {"seconds": round(time.monotonic() - begun, 3)}


def _judged(half: str, pair: Pair) -> Result:
    if half == "faults":
        share, where = moved(pair)
        if not share:
            return {"state": "no fault", "reason": where}
        state = "at NaN" if where == SPECIAL else "fault"
        return {"state": state, "moved": f"{share:.1e} at {where}", **verdict(pair)}
    state, why = agreement(pair)
    return {"state": state, "measured": why, **(verdict(pair) if state != "unclear" else {})}


def verdict(pair: Pair) -> Result:
    """What netferry says, with the first reason of its report."""
    import netferry

    try:
        report = asked(pair)
    except netferry.NetferryError as error:
        return {"status": "raised", "reason": f"{type(error).__name__}: {str(error)[:300]}"}
    except Exception as error:
        return {"status": "raised", "reason": f"a traceback, {type(error).__name__}: {str(error)[:300]}"}
    return {"status": report.status, "reason": first_reason(report)}


def asked(pair: Pair) -> Any:
    """netferry's report."""
    import netferry

    given = {} if pair.feeds else {"inputs": pair.network.example, "dynamic": pair.network.dynamic}
    return pair.verdict() if pair.verdict else netferry.verify(pair.source, pair.target, **given)


def first_reason(report: Any) -> str:
    """That of the first output that decided the status, where the largest error was, and the truth."""
    for output in report.outputs:
        if output.comparison.status == report.status and output.comparison.reason:
            return f"{output.name} ({output.worst_sample}): {output.comparison.reason}; truth: {report.truth}"
    return str(report.reason or report.truth)


def mistake(result: Result) -> bool:
    """A fault that passed, or a pair that agrees and did not; where nothing moves, not_checked is right, too."""
    if result["state"] == "fault":
        return bool(result["status"] == "passed")
    if result["state"] == "still":
        return result["status"] in ("failed", "raised")
    return bool(result["state"] == "agrees" and result["status"] != "passed")


def at_nan(result: Result) -> bool:
    """A fault that no finite input shows; between frameworks netferry tells it in a note."""
    return bool(result["state"] == "at NaN")


def traceback_in(result: Result) -> bool:
    return "a traceback" in result.get("reason", "") and result.get("status") == "raised"
