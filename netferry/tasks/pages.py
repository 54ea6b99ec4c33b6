"""What a report shows beside the verdict, taken from a conversion or from the two models; and the report's files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from netferry import converters
from netferry.converters import artifact, frameworks, source
from netferry.converters.errors import first_line
from netferry.converters.signature import Example
from netferry.validation.reports import junit, markdown
from netferry.validation.reports.page import Extras, matrix_page, report_page
from netferry.validation.reports.page.extras import file_facts
from netferry.validation.reports.page.graphs import Graph, of_onnx, of_source
from netferry.validation.reports.report import Report, versions
from netferry.validation.reports.wording import Document
from netferry.validation.tensors.profile import Layers, profile

if TYPE_CHECKING:
    from netferry.api import Conversion
    from netferry.tasks.matrix import Cell, Matrix


T = TypeVar("T")


def graphs_of(done: Conversion) -> tuple[Graph, ...]:
    """The graphs of a ``Conversion``: as it left its framework, and as it arrived."""
    before = of_onnx(done.export.model, "as ONNX")
    imported = done.imported
    if imported is None:
        return (before,)
    after = of_source(imported.source, frameworks.named(done.to).title, imported.weights)
    return (before,) if after is None else (before, after)


def extras_of(
    done: Conversion,
    model: object,
    weights: str | os.PathLike[str] | None = None,
    given: Sequence[Example] | None = None,
    *,
    unsafe: bool = False,
) -> Extras:
    """What the page of a ``Conversion`` of ``model`` shows: both graphs, the error of each tensor from the source to
    what arrived, the files written."""
    notes: list[str] = []
    layers: Layers = _tried(
        "profile of the layers",
        (),
        notes,
        lambda: profile(
            source.open_source(model, weights, unsafe=unsafe), done.model, given, report=done.report
        ),
    )
    return Extras(graphs=graphs_of(done), layers=layers, files=file_facts(done.files), notes=tuple(notes))


def layers_between(
    a: object, b: object, given: Sequence[Example] | None = None, report: Report | None = None
) -> Layers:
    """The error of each tensor, as the verdict has it; empty where a model cannot be looked into."""
    return _tried("profile of the layers", (), [], lambda: profile(a, b, given, report=report))


def extras_between(
    models: Sequence[object],
    weights: Sequence[str | os.PathLike[str] | None],
    given: Sequence[Example] | None = None,
    *,
    unsafe: bool = False,
    report: Report | None = None,
) -> Extras:
    """What the page of a comparison shows beside ``report``: each graph as ONNX, the error of each tensor, the files.

    What cannot be had (a model that cannot be carried to ONNX, or not be looked into) is left out, and a note says why.
    """
    notes: list[str] = []
    lives = [
        source.open_source(model, own, unsafe=unsafe) for model, own in zip(models, weights, strict=True)
    ]
    graphs: list[Graph] = []
    for model, live in zip(models, lives, strict=True):
        name = source.title(model)
        graphs += _tried(f"picture of {name}", [], notes, partial(_as_onnx, live, name, given))
    layers: Layers = _tried(
        "profile of the layers", (), notes, lambda: profile(lives[0], lives[1], given, report=report)
    )
    files = (file for model in models for file in _files_of(model))
    return Extras(graphs=tuple(graphs), layers=layers, files=file_facts(files), notes=tuple(notes))


def _as_onnx(live: object, name: str, given: Sequence[Example] | None) -> list[Graph]:
    return [of_onnx(converters.export_model(live, given=given).model, f"{name}, as ONNX")]


def _tried(what: str, otherwise: T, notes: list[str], do: Callable[[], T]) -> T:
    """A picture never costs a verdict: where one cannot be had for whatever reason, the reason is told beside it."""
    try:
        return do()
    except Exception as error:  # frameworks raise their own families
        notes.append(f"no {what}: {first_line(error) or type(error).__name__}")
        return otherwise


def _files_of(model: object) -> Iterator[Path]:
    if isinstance(model, str | os.PathLike) and os.path.lexists(model):
        found = artifact.look(model)
        yield from (found.path, *found.companions)


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
