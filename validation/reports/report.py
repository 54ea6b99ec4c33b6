"""The verdict, as data, as JSON and as lines of text."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from netferry.converters import escaping
from netferry.converters.frameworks import installed_version
from netferry.converters.signature import Signature
from netferry.converters.trust import sandbox
from netferry.validation.comparison.metrics import FAILED, NOT_CHECKED, PASSED, Comparison
from netferry.validation.reports.wording import count

if TYPE_CHECKING:
    from netferry.validation.training.results import TrainingVerdict


@dataclass(frozen=True)
class OutputVerdict:
    """One output over all samples.

    ``worst_sample`` is the one that gave the largest error, ``meaning_sample`` and ``ratio_sample`` those that
    gave the largest of these; ``samples`` are all that it was compared on.
    """

    name: str
    comparison: Comparison
    worst_sample: str = ""
    meaning_sample: str = ""
    ratio_sample: str = ""
    samples: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **asdict(self.comparison),
            "worst_sample": self.worst_sample,
            "meaning_sample": self.meaning_sample,
            "ratio_sample": self.ratio_sample,
            "samples": len(self.samples),
        }


@dataclass(frozen=True, repr=False)
class Report:
    """What was compared, on which inputs, and what came out.

    ``truth`` says where the float64 truth came from, or why there is none. ``optimised`` is what onnxruntime
    gave with its optimisations on beside off. ``training`` is there where gradients were asked for.
    ``unchecked_axes`` are free and were tried at fewer than two sizes. ``data`` names the real rows, with their digest.
    ``missing`` names the framework, library or kernel for want of which nothing could be compared here.
    ``sandbox`` says what the process that ran them had closed to itself.
    ``unusable`` says why the target cannot be trained on, or called with gradients on, though its outputs may be right.
    """

    source: str
    target: str
    outputs: tuple[OutputVerdict, ...] = ()
    samples: tuple[str, ...] = ()
    seed: int = 0
    notes: tuple[str, ...] = ()
    reason: str = ""
    missing: str = ""
    signature: Signature | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    truth: str = ""
    optimised: Mapping[str, float | str] = field(default_factory=dict)
    training: TrainingVerdict | None = None
    quick: bool = False
    unchecked_axes: tuple[str, ...] = ()
    data: Mapping[str, str] | None = None
    unusable: str = ""
    sandbox: str = field(default_factory=sandbox.told)
    options: str = ""

    @property
    def status(self) -> str:
        """``failed`` if anything differs, else ``not_checked`` if anything proved nothing, else ``passed``."""
        found = {verdict.comparison.status for verdict in self.outputs}
        if self.training is not None:
            found.add(self.training.status)
        if self.unusable:
            found.add(FAILED)
        for status in (FAILED, NOT_CHECKED):
            if status in found:
                return status
        return PASSED if found else NOT_CHECKED

    @property
    def failed(self) -> bool:
        return self.status == FAILED

    @property
    def exit_code(self) -> int:
        """What a command that gives this verdict ends with."""
        return exit_code_of(self.status, self.missing)

    @property
    def max_abs(self) -> float | None:
        return self._worst("max_abs")

    @property
    def max_rel(self) -> float | None:
        return self._worst("max_rel")

    @property
    def meaning(self) -> float | None:
        return self._worst("meaning")

    @property
    def ratio(self) -> float | None:
        return self._worst("ratio")

    def _worst(self, metric: str) -> float | None:
        values = (getattr(verdict.comparison, metric) for verdict in self.outputs)
        return max((value for value in values if value is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "source": self.source,
            "target": self.target,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "meaning": self.meaning,
            "ratio": self.ratio,
            "truth": self.truth,
            "optimised": dict(self.optimised),
            "quick": self.quick,
            "unchecked_axes": list(self.unchecked_axes),
            "unusable": self.unusable,
            "options": self.options,
            "outputs": [verdict.to_dict() for verdict in self.outputs],
            "training": None if self.training is None else self.training.to_dict(),
            "samples": list(self.samples),
            "seed": self.seed,
            "data": None if self.data is None else dict(self.data),
            "reason": self.reason,
            "missing": self.missing,
            "notes": list(self.notes),
            "signature": None if self.signature is None else self.signature.to_json(),
            "versions": dict(self.versions),
            "sandbox": self.sandbox,
        }

    def to_json(self) -> str:
        return as_json(self.to_dict())

    def to_markdown(self) -> str:
        """For a pull request or a build's summary."""
        from netferry.validation.reports.markdown import of_report

        return of_report(self.to_dict())

    def to_junit(self) -> str:
        """JUnit's XML, a case for each output."""
        from netferry.validation.reports.junit import of_report

        return of_report(self.to_dict())

    def to_html(self) -> str:
        """One page that needs no network. ``netferry verify --html`` draws the graphs and the layers' errors too."""
        from netferry.validation.reports.page import Extras, report_page

        return report_page(self.to_dict(), Extras())

    def __repr__(self) -> str:
        return f"<Report {self._headline()}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from netferry.validation.reports.html import of_report

        return of_report(self.to_dict())

    def _headline(self) -> str:
        axes = f"; not checked: {', '.join(self.unchecked_axes)}" if self.unchecked_axes else ""
        own = f", compared with {self.options}" if self.options else ""
        head = f"{self.status}{own}{axes}: {self.source} against {self.target}, {count(len(self.samples), 'sample')}"
        return escaping.line(f"{head} ({self.reason})" if self.reason else head)

    def to_text(self) -> str:
        """The verdict first, then each output, then what should be known."""
        lines = [self._headline(), f"  seed {self.seed}"]
        for verdict in self.outputs:
            one = verdict.comparison
            error = "" if one.max_rel is None else f" {one.max_rel:.2e} of scale"
            ulp = "" if one.max_ulp is None else f", {one.max_abs:.2e} absolute"
            why = f": {one.reason}" if one.reason else ""
            where = f" ({verdict.worst_sample})" if verdict.worst_sample else ""
            lines.append(f"  {verdict.name}: {one.status}{error}{ulp}{where}{why}")
        lines.extend(f"  note: {note}" for note in self.notes)
        lines = list(map(escaping.line, lines))
        if self.training is not None:
            lines.append(self.training.to_text())
        return "\n".join(lines)


CANNOT_RUN = 7
"""Exit code of what was not checked because one side cannot run here."""


def exit_code_of(status: str, missing: str = "") -> int:
    """0 passed, 1 failed or nothing proved, ``CANNOT_RUN`` for want of what is ``missing``."""
    if status == PASSED:
        return 0
    return CANNOT_RUN if status == NOT_CHECKED and missing else 1


def as_json(document: Any) -> str:
    """A document as JSON that any reader takes and any terminal shows."""
    return escaping.in_json(json.dumps(finite(escaping.data(document)), indent=2, default=str))


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they are written as strings."""
    if isinstance(value, float) and value not in (value, float("inf"), float("-inf")):
        return "nan"
    if isinstance(value, float) and abs(value) == float("inf"):
        return "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def versions() -> dict[str, str]:
    """The versions that a verdict stands on."""
    names = ("netferry", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch", "tensorflow",
             "tensorflow-cpu", "keras", "mxnet", "tf2onnx")  # fmt: skip
    found = {name: version for name in names if (version := installed_version(name))}
    return {"python": platform.python_version()} | found
