"""A verdict or a matrix as Markdown: for a build's summary, a pull request, a model card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from netferry.converters.escaping import markdown
from netferry.validation.comparison.metrics import PASSED
from netferry.validation.reports import wording
from netferry.validation.reports.wording import MARKS, STATED, Document, brief, number, title_of


def of_report(document: Document) -> str:
    """The verdict in sentences, a table of the outputs, the notes; ``document`` is what ``Report.to_dict()`` gives."""
    lines = [f"## {MARKS[document['status']]} {wording.headline(document)}", ""]
    lines += [f"{markdown(sentence)}\n" for sentence in wording.sentences(document)]
    outputs = document.get("outputs") or ()
    if outputs:
        head = ("output", "verdict", "error / yardstick", "error / scale", "reason")
        lines += _table(head, (_output(one) for one in outputs))
    lines += [f"- {markdown(note)}" for note in (*_proved([document]), *(document.get("notes") or ()))]
    return "\n".join([*lines, "", _footer(document)]).rstrip() + "\n"


def _proved(documents: Iterable[Document]) -> Iterator[str]:
    rate = wording.proved(documents)
    if rate:
        yield f"{wording.RATE}: {rate}"


def _output(one: Document) -> tuple[str, ...]:
    return (
        str(one["name"]),
        f"{MARKS[one['status']]} {STATED[one['status']]}",
        number(one.get("ratio")),
        number(one.get("max_rel")),
        str(one.get("reason") or ""),
    )


def of_matrix(document: Document) -> str:
    """The verdict, then models and sources down, targets across; what did not pass is listed below."""
    cells: Sequence[Document] = list(document["cells"])
    lines = [f"## {MARKS[wording.worst_status(cells)]} {wording.matrix_headline(cells)}", ""]
    lines += [f"{markdown(sentence)}\n" for sentence in wording.matrix_sentences(cells)]
    targets = list(dict.fromkeys(str(cell["target"]) for cell in cells))
    rows: dict[tuple[str, str], dict[str, Document]] = {}
    for cell in cells:
        rows.setdefault((str(cell["model"]), str(cell["source"])), {})[str(cell["target"])] = cell
    if cells:
        head = ("model", "from", *(f"→ {title_of(target)}" for target in targets))
        lines += _table(head, (_row(key, found, targets) for key, found in rows.items()))
    lines += [f"- {markdown(_fault(cell))}" for cell in cells if cell["status"] != PASSED]
    lines += [f"- {markdown(rate)}" for rate in _proved(map(wording.report_of, cells))]
    return "\n".join([*lines, "", _footer(document)]).rstrip() + "\n"


def of_catalogue(document: Document, noun: str = "pairs") -> str:
    """The pairs of a catalogue (or conversions), one row each, with what did not pass listed below."""
    pairs: Sequence[Document] = list(document[noun])
    passed = sum(pair["status"] == PASSED for pair in pairs)
    lines = [f"## {MARKS[document['status']]} {passed} of {len(pairs)} {noun} passed", ""]
    head = ("pair", "A", "B", "verdict", "error / yardstick", "error / scale")
    lines += _table(head, map(_pair, pairs))
    lines += [
        f"- {markdown(pair['name'])}: {markdown(pair['reason'])}"
        for pair in pairs
        if pair["status"] != PASSED
    ]
    return "\n".join([*lines, "", _footer(document)]).rstrip() + "\n"


def _pair(pair: Document) -> tuple[str, ...]:
    report = wording.report_of(pair)
    verdict = f"{MARKS[pair['status']]} {STATED[pair['status']]}"
    ratio, scale = number(wording.worst_ratio(report)), number(report.get("max_rel"))
    return (str(pair["name"]), str(pair["a"]), str(pair["b"]), verdict, ratio, scale)


def _fault(cell: Document) -> str:
    reason = cell.get("reason") or STATED[cell["status"]]
    return f"{cell['model']} from {title_of(cell['source'])} to {title_of(cell['target'])}: {reason}"


def _row(key: tuple[str, str], found: dict[str, Document], targets: Iterable[str]) -> tuple[str, ...]:
    model, source = key
    return (model, title_of(source), *(_cell(found.get(target)) for target in targets))


def _cell(cell: Document | None) -> str:
    if cell is None:
        return "–"
    ratio = wording.worst_ratio(wording.report_of(cell))
    value = f"{brief(ratio)} ×" if ratio is not None else brief(cell.get("max_rel"))
    return f"{MARKS[cell['status']]} {value}".rstrip()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell if cell == '---' else markdown(cell) for cell in cells)} |"
    yield ""


def _footer(document: Document) -> str:
    versions = document.get("versions") or {}
    return markdown(", ".join(f"{name} {version}" for name, version in versions.items()))
