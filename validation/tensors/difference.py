"""What ``bisect`` found, as data and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from netferry.converters import escaping
from netferry.converters.signature import Array
from netferry.validation.comparison.metrics import Comparison
from netferry.validation.reports.report import Report


@dataclass(frozen=True)
class Location:
    """A tensor inside a model and the step that gave it; ``path`` are the steps from what is equal to it."""

    framework: str
    name: str
    kind: str
    tensor: str
    shape: tuple[int, ...]
    line: str = ""
    weights: tuple[str, ...] = ()
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        described = f"{self.kind} '{self.name}' gives {self.tensor} {list(self.shape)}"
        return f"{described}: {self.line}" if self.line else described

    def to_dict(self) -> dict[str, Any]:
        return {
            "framework": self.framework, "name": self.name, "kind": self.kind, "tensor": self.tensor,
            "shape": list(self.shape), "line": self.line, "weights": list(self.weights), "path": list(self.path),
        }  # fmt: skip


@dataclass(frozen=True)
class Equal:
    """Two tensors that were found equal, element by element, and how the first lies in the second."""

    source: str
    target: str
    how: str
    max_rel: float | None

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source, "target": self.target, "how": self.how, "max_rel": self.max_rel}


@dataclass(frozen=True)
class Evidence:
    """The arrays of a difference: what goes in and what comes out; ``moved`` is the target's in the source's order."""

    source_inputs: Mapping[str, Array]
    target_inputs: Mapping[str, Array]
    source: Array
    target: Array
    moved: Array


@dataclass(frozen=True)
class Difference:
    """The first step whose result differs: in the source, in the target, and by how much.

    ``inputs`` are what both steps read, and equal; ``how`` says what made the two steps correspond.
    """

    source: Location
    target: Location
    comparison: Comparison
    how: str
    arrangement: str
    inputs: tuple[Equal, ...]
    evidence: Evidence = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            "source": self.source.to_dict(), "target": self.target.to_dict(), "how": self.how,
            "arrangement": self.arrangement, "reason": self.comparison.reason,
            "max_abs": self.comparison.max_abs, "max_rel": self.comparison.max_rel,
            "inputs": [pair.to_dict() for pair in self.inputs],
        }  # fmt: skip


@dataclass(frozen=True)
class Bisection:
    """What was looked at and what was found; ``report`` is the verdict on the outputs."""

    report: Report
    sample: str = ""
    tensors: tuple[int, int] = (0, 0)
    corresponding: int = 0
    difference: Difference | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        return self.report.status

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": self.status, "source": self.report.source, "target": self.report.target,
            "sample": self.sample, "reason": self.reason,
            "difference": None if self.difference is None else self.difference.to_dict(),
            "tensors": {"source": self.tensors[0], "target": self.tensors[1], "corresponding": self.corresponding},
            "notes": list(self.notes), "files": list(self.files), "report": self.report.to_dict(),
        }  # fmt: skip

    def to_text(self) -> str:
        """What differs first, what it reads, and how far that can be trusted."""
        head = f"{self.report.source} against {self.report.target}"
        one = self.difference
        if one is None:
            lines = [f"{head}: {self.reason}"]
        else:
            lines = [
                f"{head}: the first difference, on '{self.sample}'",
                f"  source  {one.source}",
                f"  target  {one.target}",
                f"  {one.comparison.reason} (corresponding by {one.how}; {one.arrangement})",
                *(f"  reads   {e.source} = {e.target} ({e.how})" for e in one.inputs),
            ]
            for side, location in (("source", one.source), ("target", one.target)):
                if len(location.path) > 1:
                    lines.append(f"  in the {side} these steps lie between: {', '.join(location.path)}")
        if any(self.tensors):
            counts = f"{self.tensors[0]} tensors in the source, {self.tensors[1]} in the target"
            lines.append(f"  {counts}; {self.corresponding} of the source's have an equal there")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(map(escaping.line, [*lines, *(f"  wrote {file}" for file in self.files)]))
