"""What a run of the matrix gives, as data and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from netferry.tasks.fanout import Document
from netferry.validation.reports.inside import Layers
from netferry.validation.reports.page.graphs import Graph
from netferry.validation.reports.report import Report, finite
from netferry.validation.training.results import LIMIT
from netferry.zoo.train import (
    FURTHER_STEPS,
)


@dataclass(frozen=True)
class Cell:
    """One model, one source, one target.

    ``history`` are the losses of its training in the source, ``further`` those of the steps that it took in
    the target after the conversion. ``gradient_ratio`` and ``training_ratio`` are the worst errors of its gradients
    and of those steps in units of the yardstick. ``source_ms`` and ``latency_ms`` are median milliseconds of one row, in the
    source's framework and in the target's (onnxruntime for ONNX). ``report`` is the whole verdict, ``layers`` the
    error of each tensor inside, ``graphs`` are the model's as ONNX and in the target.
    """

    model: str
    source: str
    target: str
    status: str
    max_abs: float | None = None
    max_rel: float | None = None
    seconds: float = 0.0
    route: str = ""
    train_seconds: float = 0.0
    latency_ms: float | None = None
    metric: float | None = None
    metric_name: str = ""
    history: tuple[float, ...] = ()
    further: tuple[float, ...] = ()
    files: tuple[str, ...] = ()
    reason: str = ""
    source_ms: float | None = None
    gradient_ratio: float | None = None
    training_ratio: float | None = None
    report: Report | Document | None = field(default=None, repr=False)
    layers: Layers = field(default=(), repr=False)
    graphs: tuple[Graph, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The graphs are left out: they are pictures for the page."""
        plain = asdict(replace(self, report=None, graphs=()))
        del plain["graphs"]
        return {**plain, "report": self.report.to_dict() if isinstance(self.report, Report) else self.report}


@dataclass(frozen=True)
class Matrix:
    """All cells of one run."""

    cells: tuple[Cell, ...]

    @property
    def passed(self) -> bool:
        return bool(self.cells) and all(cell.status == "passed" for cell in self.cells)

    def to_dict(self) -> dict[str, Any]:
        return {"cells": [finite(cell.to_dict()) for cell in self.cells]}

    def to_text(self) -> str:
        """A plain table: the verdict of each cell and its worst error relative to the output's scale."""
        targets = list(dict.fromkeys(cell.target for cell in self.cells))
        lines = [
            "model".ljust(18) + "from".ljust(12) + "".join(f"-> {target}".ljust(20) for target in targets)
        ]
        rows: dict[tuple[str, str], dict[str, Cell]] = {}
        for cell in self.cells:
            rows.setdefault((cell.model, cell.source), {})[cell.target] = cell
        for (model, source), cells in rows.items():
            verdicts = "".join(_short_verdict(cells.get(target)).ljust(20) for target in targets)
            lines.append((model.ljust(18) + source.ljust(12) + verdicts).rstrip())
        return "\n".join([line.rstrip() for line in lines] + self._training_lines())

    def _training_lines(self) -> list[str]:
        """For each pair of frameworks the worst ratio to the yardstick, of gradients and of the steps after them."""
        pairs: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.cells:
            if cell.gradient_ratio is not None and cell.training_ratio is not None:
                pairs.setdefault((cell.source, cell.target), []).append(cell)
        if not pairs:
            return []
        lines = ["", f"worst ratio to the yardstick (at most {LIMIT:g})   gradients   {FURTHER_STEPS} steps"]
        for (source, target), cells in pairs.items():
            slopes = max(cell.gradient_ratio or 0.0 for cell in cells)
            steps = max(cells, key=lambda cell: cell.training_ratio or 0.0)
            lines.append(
                f"{source:<12}-> {target:<28}{slopes:>9.2g}{steps.training_ratio or 0.0:>11.2g}  ({steps.model})"
            )
        return lines


def _short_verdict(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    return cell.status if cell.max_rel is None else f"{cell.status} {cell.max_rel:.1e}"
