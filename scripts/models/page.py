"""docs/models.md: what is carried, by library and family, from the results of the sweep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_WORDS = {
    "right": "right",
    "wrong": "**wrong**",
    "refused": "refused",
    "crashed": "no result",
    "not built": "not built",
}
_LEFT = {"Not carried": ("wrong", "refused", "crashed"), "Not built": ("not built",)}
_LONGEST = 160
_BEFORE = re.compile(
    r"^\w+(Error)?: |^1 node cannot be converted |^node '[^']*' \([^)]*\): |^the model does not run on these inputs: .*?PyTorch says: "
    r"|^Class validation error for validator '\w+': "
)
"""What comes before the reason in an error."""
_FIXES = re.compile(
    r": (expected code that treats every '\w+' alike, received code for which|it is a loop in Python over it: received) "
)
"""How a refusal of a free axis says what fixes it."""
_PLACE = re.compile(r"/\S*/site-packages/")
"""Where a package stands on the machine of the sweep."""
_AFTER = re.compile(
    r"[.:]* (Leave '|Set model|Use --|Call model|An exporter would|PyTorch's |Prepare |You can |Please ).*"
)
"""What one can do about it."""


def page(results: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    made = results.get("versions", {})
    rows = {name: one for name, one in results.items() if name != "versions"}
    lines = [
        "# Models that are carried",
        "",
        "Each architecture below was built small, with random weights, and converted to ONNX as it is, with its inputs and free axes "
        "from its architecture (decoders with their cache, batch, length and past free). It is *right* where onnxruntime gives what "
        "the model itself gives, within 1e-3 of the output's scale, at the sizes of the export and at others. *Generates* says whether "
        "32 greedy steps from the ONNX model's own cache give the tokens of the model's `generate`. "
        "`python scripts/sweep_pytorch.py` measures it, `--table` writes this page.",
        "",
        f"{made.get('date', '')}: {', '.join(f'{name} {made[name]}' for name in sorted(made) if name != 'date')}.",
        "",
    ]
    return "\n".join([*lines, *_tables(rows), ""])


def _summary(rows: Mapping[str, Any]) -> str:
    """What became of the models of one library, in numbers."""
    counts = Counter(str(one["status"]) for one in rows.values())
    tried = sum(count for status, count in counts.items() if status != "not built")
    right = [one for one in rows.values() if one["status"] == "right"]
    direct = sum(one.get("route") == "direct" for one in right)
    steps = [one["generates"] for one in right if "generates" in one]
    generated = (
        f" {steps.count('equal')} of {len(steps)} decoders generate the same 32 tokens." if steps else ""
    )
    return (
        f"{tried} architectures were tried: {len(right)} right ({direct} of them by netferry's own route), "
        f"{counts['wrong']} wrong, {counts['refused']} refused, {counts['crashed']} without a result. {counts['not built']} more of "
        f"the library's names could not be built small, have no model of their own, or need inputs that nobody has said.{generated}"
    )


def _tables(rows: Mapping[str, Any]) -> Iterator[str]:
    for library in sorted({name.partition("/")[0] for name in rows}):
        own = {name.partition("/")[2]: one for name, one in rows.items() if name.startswith(f"{library}/")}
        steps = any("generates" in one for one in own.values())
        head = ("architecture", "model", "", "route", "seconds of CPU", *(["generates"] if steps else []))
        yield from (f"## {library}", "", _summary(own), "", row(head), row(["---"] * len(head)))
        for name, one in sorted(own.items()):
            if one["status"] in ("right", "wrong"):
                yield row((name, *_result(one), *([str(one.get("generates", ""))[:60]] if steps else [])))
        for title, statuses in _LEFT.items():
            left = [(name, one) for name, one in sorted(own.items()) if one["status"] in statuses]
            if left:
                yield from (
                    "",
                    f"### {title}, and why",
                    "",
                    "| architecture | | the reason |",
                    "|---|---|---|",
                )
                yield from (
                    row((name, _WORDS[one["status"]], _reason(str(one.get("why", ""))))) for name, one in left
                )
        yield ""


def _reason(why: str) -> str:
    """Why a model is not carried, in one short sentence."""
    while (said := _BEFORE.sub("", why, count=1)) != why:
        why = said
    why = _PLACE.sub("", _FIXES.sub(": ", _AFTER.sub("", why)))
    return why if len(why) <= _LONGEST else f"{why[:_LONGEST]}..."


def _result(one: Mapping[str, Any]) -> tuple[str, ...]:
    word = _WORDS[one["status"]] + (f" ({one['note']})" if "note" in one else "")
    return str(one["model"]), word, str(one.get("route", "")), f"{one['seconds']:.1f}"


def row(cells: Sequence[str]) -> str:
    inside = " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells)
    return f"| {inside} |"
