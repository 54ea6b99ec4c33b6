"""What a conversion and an inspection give."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netferry.converters import escaping, frameworks
from netferry.converters.errors import Unsupported, UsageError
from netferry.converters.exported import ExportedModel
from netferry.converters.imported import ImportedModel
from netferry.converters.signature import Signature, TensorSpec

if TYPE_CHECKING:  # a conversion that is not verified does without inference and validation
    from netferry.validation.reports.page.graphs import Graph
    from netferry.validation.reports.report import Report


def _renamed(old: str, new: str) -> Any:
    """A property under its former name."""

    def value(self: Any) -> Any:
        warnings.warn(f"'{old}' is called '{new}'", DeprecationWarning, stacklevel=2)
        return getattr(self, new)

    return property(value)


@dataclass(frozen=True, repr=False)
class Conversion:
    """What a conversion gives: the model, the verdict (None where none was asked for), the files written.

    ``export`` is the model on its way, as ONNX; ``imported`` is what it has become in another framework.
    """

    export: ExportedModel = field(repr=False)
    source: str
    to: str
    report: Report | None = None
    files: tuple[Path, ...] = ()
    imported: ImportedModel | None = field(default=None, repr=False)

    arrival = _renamed("arrival", "imported")
    road = _renamed("road", "route")

    @cached_property
    def optimizer(self) -> Any:
        """The optimizer of ``model`` that goes on where the source's stood; None where no state of one was given."""
        if self.imported is None or self.imported.optimizer is None:
            return None
        return frameworks.named(self.to).module("optimizer").native(self.imported.optimizer, self.model)

    @cached_property
    def model(self) -> Any:
        """The live model: an ``nn.Module``, a Keras model, a gluon block, or an ``onnx.ModelProto``."""
        if self.imported is None:
            return frameworks.named("onnx").live.proto(self.export.model)
        return self.imported.model

    def __repr__(self) -> str:
        return f"<Conversion {self._told()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        verdict = "" if self.report is None else self.report._repr_html_()
        return f"<div><code>{escape(self._told())}</code>{verdict}</div>"

    def graphs(self) -> tuple[Graph, ...]:
        """What is drawn of it: the model as it left its framework, and in the target."""
        from netferry.validation.reports.page.graphs import of_onnx, of_source

        before = of_onnx(self.export.model, "as ONNX")
        if self.imported is None:
            return (before,)
        after = of_source(self.imported.source, frameworks.named(self.to).title, self.imported.weights)
        return (before,) if after is None else (before, after)

    def to_text(self) -> str:
        """The verdict in lines, as the command prints it."""
        return self._verdict().to_text()

    def to_html(self) -> str:
        """The verdict and both graphs as one page that needs no network."""
        from netferry.validation.reports.page import Extras, report_page

        return report_page(self._verdict().to_dict(), Extras(graphs=self.graphs()))

    def to_markdown(self) -> str:
        """The verdict for a pull request or a build's summary."""
        return self._verdict().to_markdown()

    def to_junit(self) -> str:
        """The verdict as JUnit's XML, a case for each output."""
        return self._verdict().to_junit()

    def _verdict(self) -> Report:
        if self.report is None:
            raise UsageError(
                "this conversion was not compared, and has no verdict", where=self.source, remedy="Leave verify=False out"
            )  # fmt: skip
        return self.report

    def _told(self) -> str:
        written = ", ".join(map(str, self.files)) or self.to
        status = "not compared" if self.report is None else self.report.status
        return escaping.line(f"{self.source} -> {written} ({self.route}): {status}")

    @property
    def route(self) -> str:
        return self.export.route

    @property
    def notes(self) -> tuple[str, ...]:
        return self.export.notes + (() if self.imported is None else self.imported.notes)

    @property
    def names(self) -> Mapping[str, str]:
        """The source's weights -> the parameters that they have become."""
        return {} if self.imported is None else self.imported.names

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "to": self.to,
            "route": self.route,
            "road": self.route,  # its former name
            "form": None if self.imported is None else self.imported.form,
            "files": [str(file) for file in self.files],
            "names": dict(self.names),
            "notes": list(self.notes),
            "status": None if self.report is None else self.report.status,
            "report": None if self.report is None else self.report.to_dict(),
        }


@dataclass(frozen=True)
class Prospect:
    """What a framework can take of a model: the form that it would have, or the nodes that are not supported.

    ``looked_at`` says how many nodes were looked at, of how many, where those were not all: what no problem was found in may have one.
    """

    form: str = ""
    problems: tuple[Unsupported, ...] = ()
    notes: tuple[str, ...] = ()
    looked_at: tuple[int, int] | None = None

    @property
    def carried(self) -> bool | None:
        """Whether all of it can be taken; None where that is not known."""
        return False if self.problems else None if self.looked_at else True

    def to_dict(self) -> dict[str, Any]:
        return {
            "carried": self.carried,
            "form": self.form,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": list(self.notes),
            "looked_at": None if self.looked_at is None else list(self.looked_at),
        }


@dataclass(frozen=True)
class Totals:
    """What one run costs where every free size is 1: arithmetic operations (a multiply and an add are two), bytes of the weights, and
    bytes of the tensors that are there at once. ``unknown`` counts nodes whose sizes are not known before a run."""

    operations: int
    weights: int
    tensors: int
    unknown: int = 0


@dataclass(frozen=True)
class Inspection:
    """What a model is: where it comes from, what goes in and out, and what it is made of; ``totals`` come with ``layers``."""

    title: str
    framework: str
    signature: Signature
    operators: Mapping[str, int]
    parameters: int
    bytes: int
    opset: int
    route: str
    notes: tuple[str, ...] = ()
    targets: Mapping[str, Prospect] = field(default_factory=dict)
    signatures: tuple[str, ...] = ()
    layers: tuple[TensorSpec, ...] = ()
    totals: Totals | None = None

    road = _renamed("road", "route")

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.title,
            "framework": self.framework,
            **self.signature.to_json(),
            "operators": dict(self.operators),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "opset": self.opset,
            "route": self.route,
            "road": self.route,  # its former name
            "notes": list(self.notes),
            "targets": {name: prospect.to_dict() for name, prospect in self.targets.items()},
            "signatures": list(self.signatures),
            "layers": [spec.to_json() for spec in self.layers],
            "totals": None if self.totals is None else asdict(self.totals),
        }
