"""What a report shows beside the verdict, taken from a conversion or from the two models: graphs, layers, files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from netferry import converters
from netferry.converters import artifact, frameworks, source
from netferry.converters.errors import first_line
from netferry.converters.signature import Example
from netferry.validation.reports.page import Extras
from netferry.validation.reports.page.extras import file_facts
from netferry.validation.reports.page.graphs import Graph, of_onnx, of_source
from netferry.validation.reports.report import Report
from netferry.validation.tensors.profile import Layers, profile

if TYPE_CHECKING:
    from netferry.results import Conversion


T = TypeVar("T")


def graphs_of(done: Conversion) -> tuple[Graph, ...]:
    """The graphs of a ``Conversion``: as it left its framework, and in the target."""
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
    signature: str | None = None,
    unsafe: bool = False,
) -> Extras:
    """What the page of a ``Conversion`` of ``model`` shows: both graphs, the error of each tensor from the source to
    the result, the files written."""
    notes: list[str] = []
    layers: Layers = _tried(
        "profile of the layers",
        (),
        notes,
        lambda: profile(
            source.open_source(model, weights, unsafe=unsafe, signature=signature),
            done.model,
            given,
            report=done.report,
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

    What is not available (a model that does not convert to ONNX, or cannot be looked into) is left out, and a note says why.
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
    """A picture never costs a verdict: where one is not available, the note beside it says why."""
    try:
        return do()
    except Exception as error:  # frameworks raise their own families
        notes.append(f"no {what}: {first_line(error) or type(error).__name__}")
        return otherwise


def _files_of(model: object) -> Iterator[Path]:
    if isinstance(model, str | os.PathLike) and os.path.lexists(model):
        found = artifact.look(model)
        yield from (found.path, *found.companions)
