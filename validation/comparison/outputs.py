"""Which output of the target is which of the source: by name, as the caller says, else by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import Array, Example
from netferry.validation.comparison.truth import NUDGE, Double

Outputs = Mapping[str, Array]


@dataclass
class Pairing:
    """``given`` maps outputs of the source to those of the target; what was found is kept from the first sample on."""

    given: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _back: dict[str, str] | None = None

    def renamed(self, target: Outputs, source: Outputs) -> dict[str, Array]:
        """The target's outputs under the source's names, in the target's order.

        Raises UsageError where an output that the caller named is not there.
        """
        if self._back is None:
            self._back = self._found(target, source)
        return self.apply(target)

    def apply(self, target: Outputs) -> dict[str, Array]:
        back = self._back or {}
        return {back.get(name, name): array for name, array in target.items()}

    def _found(self, target: Outputs, source: Outputs) -> dict[str, str]:
        for side, names, outputs in (
            ("source", self.given.keys(), source),
            ("target", self.given.values(), target),
        ):
            for name in names:
                if name not in outputs:
                    raise UsageError(
                        f"the {side} has no output '{name}'",
                        expected=f"one of {', '.join(outputs)}",
                        received=name,
                    )
        back = {theirs: ours for ours, theirs in self.given.items()}
        ours = [name for name in source if name not in self.given and (name not in target or name in back)]
        theirs = [name for name in target if name not in back and (name not in source or name in self.given)]
        if ours and len(ours) == len(theirs) and all(
            _alike(source[one], target[other]) for one, other in zip(ours, theirs, strict=True)
        ):  # fmt: skip
            back |= dict(zip(theirs, ours, strict=True))
            pairs = ", ".join(f"{one} with {other}" for one, other in zip(ours, theirs, strict=True))
            self.notes.append(f"outputs are called otherwise in the target and paired by position: {pairs}")
        return back


def _alike(ours: Array, theirs: Array) -> bool:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape


class PairedDouble(Double):
    """A target in float64 whose outputs have the source's names."""

    def __init__(self, model: object, given: Sequence[Example] | None, pairing: Pairing) -> None:
        super().__init__(model, given)
        self._pairing = pairing

    def run(self, arrays: Sequence[Array]) -> dict[str, Array] | None:
        outputs = super().run(arrays)
        return None if outputs is None else self._pairing.apply(outputs)

    def nudged(self, arrays: Sequence[Array], by: float = NUDGE) -> dict[str, Array] | None:
        outputs = super().nudged(arrays, by)
        return None if outputs is None else self._pairing.apply(outputs)

    def jittered(self, arrays: Sequence[Array], seed: int, names: frozenset[str]) -> dict[str, Array]:
        return self._pairing.apply(super().jittered(arrays, seed, names))
