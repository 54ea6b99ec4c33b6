"""docs/models.md: what is carried, by library and family, from the results of the sweep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {
    "right": "right",
    "wrong": "**wrong**",
    "refused": "refused",
    "crashed": "no result",
    "not built": "not built",
}
_LONGEST = 160


def page(results: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    made = results.get("versions", {})
    rows = {name: one for name, one in results.items() if name != "versions"}
    counts = Counter(str(one["status"]) for one in rows.values())
    tried = sum(count for status, count in counts.items() if status != "not built")
    direct = sum(one.get("route") == "direct" and one["status"] == "right" for one in rows.values())
    lines = [
        "# Models that are carried",
        "",
        "Each architecture below was built small, with random weights, and converted to ONNX as it is, with its inputs and free axes "
        "from its architecture (decoders with their cache, batch, length and past free). It is *right* where onnxruntime gives what "
        "the model itself gives, within 1e-3 of the output's scale, at the sizes of the export and at others. "
        "`python scripts/sweep_pytorch.py` measures it, `--table` writes this page.",
        "",
        f"{made.get('date', '')}: torch {made.get('torch', '?')}, transformers {made.get('transformers', '?')}, "
        f"netferry {made.get('netferry', '?')}. {tried} architectures were tried: {counts['right']} right ({direct} of them by netferry's own route), "
        f"{counts['wrong']} wrong, {counts['refused']} refused, {counts['crashed']} without a result; "
        f"{counts['not built']} could not be built small.",
        "",
    ]
    return "\n".join([*lines, *_tables(rows), ""])


def _tables(rows: Mapping[str, Any]) -> Iterator[str]:
    for library in sorted({name.partition("/")[0] for name in rows}):
        own = {name.partition("/")[2]: one for name, one in rows.items() if name.startswith(f"{library}/")}
        yield from (
            f"## {library}",
            "",
            "| architecture | model | | route | seconds of CPU |",
            "|---|---|---|---|---|",
        )
        for name, one in sorted(own.items()):
            if one["status"] in ("right", "wrong"):
                cells = (
                    name,
                    one["model"],
                    _WORDS[one["status"]],
                    one.get("route", ""),
                    f"{one['seconds']:.1f}",
                )
                yield f"| {' | '.join(cells)} |"
        yield from ("", "### Not carried, and why", "", "| architecture | | the reason |", "|---|---|---|")
        for name, one in sorted(own.items()):
            if one["status"] != "right":
                reason = str(one.get("why", "")).replace("|", "\\|")
                yield f"| {name} | {_WORDS[one['status']]} | {reason[:_LONGEST]} |"
        yield ""
