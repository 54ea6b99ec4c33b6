"""The verdict on training, as data and as lines of text, and its limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from netferry.converters import escaping
from netferry.validation.comparison.metrics import PASSED, largest

LIMIT = 50.0
"""The largest ratio to the yardstick that float32 explains: conversions were measured at 25 and less, faults at
228 and more."""

MEANING = 1e-7
"""The largest difference of gradients in float64, relative to the weight's largest: conversions lie below 1e-9
(5e-9 where a float32 constant is baked in), an epsilon of 1.1e-5 for 1e-5 gives 9e-6."""

STATISTICS_MEANING = 1e-6
"""The same for running statistics: MXNet keeps BatchNorm's momentum in float32."""

SHOWN = 12
"""Faults that the text names one by one."""


@dataclass(frozen=True)
class Measured:
    """One thing compared: its errors in units of the yardstick (``ratio``) and of its own size (``error``);
    ``meaning`` is the difference in float64."""

    name: str
    status: str = PASSED
    reason: str = ""
    ratio: float | None = None
    error: float | None = None
    meaning: float | None = None


@dataclass(frozen=True)
class WeightVerdict:
    """One weight of the source: what it has become, its gradient, and its change under each optimizer."""

    name: str
    counterparts: tuple[str, ...]
    trainable: bool
    gradient: Measured
    changes: Mapping[str, Measured] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[Measured, ...]:
        return (self.gradient, *self.changes.values())


@dataclass(frozen=True)
class Curve:
    """The losses of both sides, step by step, and the target's distance in units of the source's own error."""

    optimizer: str
    learning_rate: float
    source: tuple[float, ...]
    target: tuple[float, ...]
    measured: Measured


@dataclass(frozen=True)
class TrainingVerdict:
    """Whether two models train alike, and how that was found out; ``whole`` is what concerns no single gradient."""

    status: str
    reason: str = ""
    loss: str = ""
    truth: str = ""
    steps: int = 0
    weights: tuple[WeightVerdict, ...] = ()
    inputs: tuple[Measured, ...] = ()
    statistics: tuple[Measured, ...] = ()
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()
    whole: tuple[Measured, ...] = ()

    @property
    def gradients(self) -> float | None:
        """The worst ratio of a gradient, of a weight or of an input."""
        return largest([w.gradient.ratio for w in self.weights] + [x.ratio for x in self.inputs])

    @property
    def training(self) -> float | None:
        """The worst ratio of a weight's change, of a loss curve, or of a statistic."""
        changes = [m.ratio for w in self.weights for m in w.changes.values()]
        return largest(changes + [c.measured.ratio for c in self.curves] + [s.ratio for s in self.statistics])

    @property
    def ratio(self) -> float | None:
        """The worst ratio of all."""
        return largest([self.gradients, self.training])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"gradients": self.gradients, "training": self.training, "ratio": self.ratio}

    def to_text(self) -> str:
        """The verdict, then the worst of each kind, then what should be known."""
        head = f"{self.status}: gradients and {self.steps} steps of training, {len(self.weights)} weights"
        lines = [f"{head} ({self.reason})" if self.reason else head]
        kinds = {
            "gradient of a weight": [w.gradient for w in self.weights],
            "gradient of an input": self.inputs,
            "running statistic": self.statistics,
            "change of a weight": [m for w in self.weights for m in w.changes.values()],
            "loss curve": [curve.measured for curve in self.curves],
        }
        for kind, measured in kinds.items():
            worst = max(
                (m for m in measured if m.ratio is not None), key=lambda m: m.ratio or 0, default=None
            )
            if worst is not None:
                lines.append(f"  {kind}: at most {worst.ratio:.2g} of the yardstick ({worst.name})")
        for curve in self.curves:
            a, b = curve.source[-1], curve.target[-1]
            lines.append(f"  {curve.optimizer}: loss {curve.source[0]:.6g} to {a:.6g}, in the target {b:.6g}")
        found = [*self.whole, *(m for measured in kinds.values() for m in measured)]
        faults = [m for m in found if m.status != PASSED]
        lines += [f"  {m.status}: {m.name}: {m.reason}" for m in faults[:SHOWN]]
        if len(faults) > SHOWN:
            lines.append(f"  and {len(faults) - SHOWN} more")
        return "\n".join(map(escaping.line, [*lines, *(f"  note: {note}" for note in self.notes)]))
