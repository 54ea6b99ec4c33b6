"""docs/models-vision.md: what is carried of the vision and audio libraries, from the results of the sweep."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from models.page import row

_LONGEST = 240
_WAYS = {"pytorch": "back in PyTorch", "tensorflow": "in Keras"}
_HEAD = ("model", "class", "in ONNX", "free sizes", *_WAYS.values(), "seconds of CPU")


def page(results: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    made = dict(results.get("versions", {}))
    date, listed = made.pop("date", ""), made.pop("listed", "")
    rows = {name: one for name, one in results.items() if name != "versions"}
    lines = [
        "# Models of vision and audio that are carried",
        "",
        "Each model below was built with random weights, its statistics taken from its inputs, and converted to ONNX as it is, with those "
        "sizes free that the model itself takes otherwise. It is *right* where onnxruntime gives what the model gives, within 1e-3 of "
        "each output's scale, at the sizes of the export (not square) and at two others. Each then goes back to PyTorch, and a third of "
        "them to Keras; those are held against the same numbers. What stands behind a `#` is the form in which the model was handed over. "
        "`python scripts/sweep_vision.py` measures it, `--table` writes this page"
        + (
            f"; of the {listed} models that it lists, those that are missing here have not been tried."
            if listed
            else "."
        ),
        "",
        f"{date}: {', '.join(f'{name} {made[name]}' for name in sorted(made))}.",
        "",
        *_peers(rows),
    ]
    return "\n".join([*lines, *_tables(rows), ""])


def _summary(rows: Mapping[str, Any]) -> str:
    """What became of the models of one library, in numbers."""
    counts = Counter(str(one["status"]) for one in rows.values())
    said = [
        f"{sum(counts.values()) - counts['not built']} tried: {counts['right']} right, {counts['wrong']} wrong, "
        f"{counts['refused']} refused, {counts['crashed']} without a result"
    ]
    for way, title in _WAYS.items():
        found = [one[way] for one in rows.values() if way in one]
        said += [f"{title} {found.count('right')} of {len(found)}"] if found else []
    return "; ".join(said) + "."


def _tables(rows: Mapping[str, Any]) -> Iterator[str]:
    yield from ("All of them: " + _summary(rows), "")
    for library in sorted({name.partition("/")[0] for name in rows}):
        own = {name.partition("/")[2]: one for name, one in rows.items() if name.startswith(f"{library}/")}
        yield from (f"## {library}", "", _summary(own), "", _row(_HEAD), _row(["---"] * len(_HEAD)))
        yield from (_row((name, *_result(one))) for name, one in sorted(own.items()))
        reasons = [*_reasons(own)]
        if reasons:
            yield from ("", "| not carried | where | the reason |", "|---|---|---|", *reasons)
        yield ""


def _result(one: Mapping[str, Any]) -> tuple[str, ...]:
    word = str(one["status"]) + (f" ({one['note']})" if "note" in one else "")
    ways = [{"right": "right", None: ""}.get(one.get(way), "no") for way in _WAYS]
    seconds = f"{one['seconds']:.1f}" if "seconds" in one else ""
    return str(one.get("model", "")), word, ", ".join(one.get("free", ())), *ways, seconds


def _reasons(rows: Mapping[str, Any]) -> Iterator[str]:
    for name, one in sorted(rows.items()):
        if one["status"] != "right":
            yield _row((name, "ONNX", _short(one.get("why", ""))))
        for way, title in _WAYS.items():
            if one.get(way, "right") != "right":
                yield _row((name, title, _short(one[way])))


def _short(why: str) -> str:
    return why if len(why) <= _LONGEST else f"{why[:_LONGEST]}..."


def _peers(rows: Mapping[str, Any]) -> Iterator[str]:
    """Export time beside PyTorch's own exporters, where all three were measured and wrote a file."""
    measured = {name: one["peers"] for name, one in rows.items() if one.get("peers")}
    if not measured:
        return
    yield from (
        "## Beside PyTorch's exporters",
        "",
        "CPU seconds of one thread, the same free sizes asked of all.",
        "",
    )
    head = ("model", "netferry", "TorchScript", "dynamo")
    yield from (_row(head), _row(["---"] * len(head)))
    for name, one in sorted(measured.items()):
        yield _row((name, *(_told(one.get(side, {})) for side in head[1:])))
    for side in head[2:]:
        shares = [
            one["netferry"]["seconds"] / one[side]["seconds"]
            for one in measured.values()
            if "seconds" in one.get("netferry", {}) and "seconds" in one.get(side, {})
        ]
        if shares:
            yield from (
                "",
                f"Of {side}'s time, the median of {len(shares)}: {statistics.median(shares):.2f}.",
            )
    yield ""


def _told(side: Mapping[str, Any]) -> str:
    if "seconds" not in side:
        return f"fails: {str(side.get('why', ''))[:60]}"
    return f"{side['seconds']:.2f}" + ("" if side["why"] == "right" else f" (wrong: {side['why'][:60]})")


def _row(cells: Sequence[str]) -> str:
    return row([" ".join(cell.split()) for cell in cells])
