"""What a report shows beside the verdict, taken from a conversion or from the two models; and the report's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from netferry.validation.reports import junit, markdown
from netferry.validation.reports.page import Extras, matrix_page, report_page
from netferry.validation.reports.page.extras import file_facts
from netferry.validation.reports.report import versions
from netferry.validation.reports.wording import Document

if TYPE_CHECKING:
    from netferry.tasks.cells import Cell, Matrix


Words = Mapping[str, Callable[[], str]]
"""What may be written: html, junit, markdown, each made only where it is asked for."""


def of_verdict(report: Document, extras: Callable[[], Extras]) -> Words:
    """The forms of one verdict; ``extras`` is asked for the page alone."""
    return {
        "html": lambda: report_page(report, extras()),
        "junit": lambda: junit.of_report(report),
        "markdown": lambda: markdown.of_report(report),
    }


def of_matrix(result: Matrix) -> Words:
    """The forms of a ``Matrix``."""
    document = {"versions": versions(), **result.to_dict()}
    return {
        "html": lambda: matrix_page(document, _extras(result.cells), _titles()),
        "junit": lambda: junit.of_matrix(document),
        "markdown": lambda: markdown.of_matrix(document),
    }


def _extras(cells: Iterable[Cell]) -> dict[tuple[str, str, str], Extras]:
    return {
        (cell.model, cell.source, cell.target): Extras(
            graphs=cell.graphs, layers=cell.layers, files=file_facts(map(Path, cell.files))
        )
        for cell in cells
    }


def _titles() -> dict[str, tuple[str, str]]:
    from netferry.zoo.catalog import CATALOG

    return {name: (spec.title, spec.formula) for name, spec in CATALOG.items()}
