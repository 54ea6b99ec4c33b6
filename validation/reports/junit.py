"""A verdict or a matrix as JUnit XML, the form in which continuous integration reads results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from netferry.converters.escaping import line
from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED
from netferry.validation.reports.wording import Document, measure, number, worst_ratio

_ELEMENTS: Mapping[str, str] = {FAILED: "failure", NOT_CHECKED: "error"}
"""What was not checked is an error: nothing was proved, and a build that skips it would be green."""


@dataclass(frozen=True)
class _Case:
    suite: str
    name: str
    status: str
    reason: str
    seconds: float
    detail: str


def of_report(document: Document) -> str:
    """One test case for each output; ``document`` is what ``Report.to_dict()`` gives."""
    suite = f"{document['source']} -> {document['target']}"
    cases = [
        _Case(suite, str(one["name"]), one["status"], str(one.get("reason") or ""), 0.0, _error(one))
        for one in document.get("outputs") or ()
    ]
    training = document.get("training")
    if isinstance(training, Mapping):
        detail = "" if training.get("ratio") is None else f"{number(training['ratio'])} yardsticks"
        reason = str(training.get("reason") or "")
        cases.append(_Case(suite, "gradients and training", training["status"], reason, 0.0, detail))
    if not cases or all(case.status != document["status"] for case in cases):
        cases.append(_Case(suite, "verdict", document["status"], str(document.get("reason") or ""), 0.0, ""))
    properties = {"seed": document.get("seed"), "samples": len(document.get("samples") or ())}
    return _document(cases, properties | dict(document.get("versions") or {}))


def of_matrix(document: Document) -> str:
    """One test case for each cell, one suite for each model; ``document`` is what ``Matrix.to_dict()`` gives."""
    cases = [
        _Case(
            str(cell["model"]),
            f"{cell['source']} -> {cell['target']}",
            cell["status"],
            str(cell.get("reason") or ""),
            measure(cell.get("seconds")) or 0.0,
            _error(cell | {"ratio": worst_ratio(cell.get("report") or {})}),
        )
        for cell in document["cells"]
    ]
    return _document(cases, document.get("versions") or {})


def _error(one: Document) -> str:
    """The errors of an output as text."""
    known = (("ratio", "yardsticks"), ("max_rel", "of the output's scale"), ("max_abs", "absolute"))
    return ", ".join(f"{number(one[key])} {unit}" for key, unit in known if one.get(key) is not None)


def _document(cases: Sequence[_Case], properties: Mapping[str, Any]) -> str:
    root = _element("testsuites", {"name": "netferry", **_counts(cases)})
    for suite in dict.fromkeys(case.suite for case in cases):
        root.append(_suite(suite, [case for case in cases if case.suite == suite], properties))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _suite(name: str, cases: Sequence[_Case], properties: Mapping[str, Any]) -> ElementTree.Element:
    suite = _element("testsuite", {"name": name, **_counts(cases)})
    known = _element("properties", {})
    known.extend(_element("property", {"name": key, "value": value}) for key, value in properties.items())
    if len(known):
        suite.append(known)
    suite.extend(_case(case) for case in cases)
    return suite


def _case(case: _Case) -> ElementTree.Element:
    made = _element("testcase", {"classname": case.suite, "name": case.name, "time": f"{case.seconds:.3f}"})
    if case.status in _ELEMENTS:
        message = case.reason or case.status.replace("_", " ")
        fault = _element(_ELEMENTS[case.status], {"message": message, "type": case.status})
        fault.text = f"{line(message)}\n{line(case.detail)}".strip()
        made.append(fault)
    elif case.detail:
        out = _element("system-out", {})
        out.text = line(case.detail)
        made.append(out)
    return made


def _counts(cases: Iterable[_Case]) -> dict[str, str]:
    found = list(cases)
    return {
        "tests": str(len(found)),
        "failures": str(sum(case.status == FAILED for case in found)),
        "errors": str(sum(case.status == NOT_CHECKED for case in found)),
        "skipped": "0",
        "time": f"{sum(case.seconds for case in found):.3f}",
    }


def _element(tag: str, attributes: Mapping[str, Any]) -> ElementTree.Element:
    return ElementTree.Element(tag, {key: line(str(value)) for key, value in attributes.items()})
