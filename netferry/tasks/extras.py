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
from netferry.validation.reports.inside import Inside, Layers
from netferry.validation.reports.page import Extras
from netferry.validation.reports.page.extras import FileFact, file_facts
from netferry.validation.reports.page.graphs import Graph, of_onnx
from netferry.validation.reports.page.sides import graph_of
from netferry.validation.reports.report import Report
from netferry.validation.tensors.profile import inside, profile

if TYPE_CHECKING:
    from netferry.results import Conversion


T = TypeVar("T")


def extras_of(
    done: Conversion,
    model: object,
    weights: str | os.PathLike[str] | None = None,
    given: Sequence[Example] | None = None,
    *,
    signature: str | None = None,
    unsafe: bool = False,
    commands: Sequence[str] = (),
) -> Extras:
    """What the page of a ``Conversion`` of ``model`` shows: both graphs, the error of each tensor from the source to
    the result, the files written."""
    notes: list[str] = []
    found = _inside(
        notes,
        lambda: (source.open_source(model, weights, unsafe=unsafe, signature=signature), done.model),
        given,
        done.report,
    )
    target = done.files[0].name if done.files else frameworks.named(done.to).title
    graphs = _sides(found, (done.source, target)) or done.graphs()
    return _extras(found, graphs, file_facts(done.files), notes, commands)


def _inside(
    notes: list[str],
    models: Callable[[], tuple[object, object]],
    given: Sequence[Example] | None,
    report: Report | None,
) -> Inside:
    return _tried("look inside", Inside(), notes, lambda: inside(*models(), given, report=report))


def _sides(found: Inside, titles: Sequence[str]) -> tuple[Graph, ...]:
    return tuple(graph_of(side, title) for side, title in zip(found.sides, titles, strict=False))


def _extras(
    found: Inside,
    graphs: Sequence[Graph],
    files: Sequence[FileFact],
    notes: Sequence[str],
    commands: Sequence[str],
) -> Extras:
    return Extras(
        graphs=tuple(graphs), layers=found.layers, files=tuple(files), notes=tuple(notes), counterparts=found.counterparts,
        first=found.first, commands=tuple(commands),
    )  # fmt: skip


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
    commands: Sequence[str] = (),
) -> Extras:
    """What the page of a comparison shows beside ``report``: both graphs as they ran (as ONNX, where a model cannot be looked into),
    the error of each tensor, the files.

    What is not available is left out, and a note says why.
    """
    notes: list[str] = []
    lives = [
        source.open_source(model, own, unsafe=unsafe) for model, own in zip(models, weights, strict=True)
    ]
    names = [source.title(model) for model in models]
    found = _inside(notes, lambda: (lives[0], lives[1]), given, report)
    graphs = list(_sides(found, names))
    for name, live in zip(names, lives if not graphs else (), strict=False):
        graphs += _tried(f"picture of {name}", [], notes, partial(_as_onnx, live, name, given))
    files = (file for model in models for file in _files_of(model))
    return _extras(found, graphs, file_facts(files), notes, commands)


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
