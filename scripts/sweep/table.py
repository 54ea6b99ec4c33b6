"""The results as a table: for each kind what came out, then every mistake with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sweep.examine import JUDGED, Result, at_nan, mistake, traceback_in

COLUMNS = ("passed", "failed", "not_checked", "raised")
APART = ("no fault", "at NaN", "differs", "unclear", "refused", "none", "late", "broken")
TITLES = {"faults": "Planted faults: none may pass", "honest": "Honest pairs: all should pass"}


def summary(results: Iterable[Result]) -> dict[str, Any]:
    """As data: counts by half and kind, the mistakes, and what was not judged."""
    rows = sorted(results, key=lambda one: one["key"])
    document: dict[str, Any] = {}
    for half in TITLES:
        mine = [one for one in rows if one["half"] == half]
        judged = [one for one in mine if one["state"] in JUDGED]
        kinds = sorted({one["kind"] for one in mine})
        document[half] = {
            "judged": len(judged),
            "whole architectures": sum(one["whole"] for one in judged),
            "networks": len({one["name"].split(",")[0] for one in judged}),
            "kinds": {kind: _counts([one for one in mine if one["kind"] == kind]) for kind in kinds},
            "fields": dict(Counter(one["field"] for one in judged)),
            "mistakes": [_told(one) for one in judged if mistake(one)],
            "passed, and moved at NaN alone": [
                _told(one) for one in mine if at_nan(one) and one["status"] == "passed"
            ],
            "wrong by the frameworks' own results": [_told(one) for one in mine if one["state"] == "differs"],
            "tracebacks": [_told(one) for one in mine if traceback_in(one)],
            "not judged": [_told(one) for one in mine if one["state"] in ("late", "broken", "unclear")],
            "refused": [_told(one) for one in mine if one["state"] == "refused"],
            "seconds": round(sum(one["seconds"] for one in mine)),
        }
    return document


def _counts(rows: list[Result]) -> dict[str, int]:
    judged = [one for one in rows if one["state"] in JUDGED]
    found = {word: sum(one["status"] == word for one in judged) for word in COLUMNS}
    apart = {word: sum(one["state"] == word for one in rows) for word in APART}
    return {"judged": len(judged), "mistakes": sum(map(mistake, judged)), **found, **apart}


def _told(one: Result) -> dict[str, str]:
    words = ("key", "status", "reason", "moved", "measured")
    return {word: str(one[word]) for word in words if one.get(word)}


def markdown(document: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for half, title in TITLES.items():
        one = document[half]
        lines += [
            f"## {title}", "",
            f"{one['judged']} pairs, {one['whole architectures']} of them whole architectures, {one['networks']} networks, "
            f"{len(one['mistakes'])} mistakes, {one['seconds']} s.", "",
        ]  # fmt: skip
        words = ("judged", "mistakes", *COLUMNS, *APART)
        lines += [f"| kind | {' | '.join(words)} |", f"|---|{'---|' * len(words)}"]
        lines += [
            f"| {kind} | {' | '.join(str(row[word] or '') for word in words)} |"
            for kind, row in one["kinds"].items()
        ]
        lines.append("")
        for heading in (
            "mistakes",
            "passed, and moved at NaN alone",
            "wrong by the frameworks' own results",
            "tracebacks",
            "not judged",
            "refused",
        ):
            if one[heading]:
                lines += [
                    f"### {heading.capitalize()} ({len(one[heading])})",
                    "",
                    *map(_line, one[heading]),
                    "",
                ]
    return "\n".join(lines)


def _line(told: Mapping[str, str]) -> str:
    rest = "; ".join(
        f"{word}: {told[word]}" for word in ("moved", "measured", "status", "reason") if word in told
    )
    return f"- {told['key']}: {rest}".replace("\n", " ")
