"""What rounding does to a model, drawn by chance: each step of a float64 run is moved within a shorter format's precision.

This is Monte Carlo arithmetic (D. S. Parker, 1997): a few runs show which values a model may give in float32, whatever
kernels compute it, and at which places it cannot tell two values apart (ties, thresholds, saturated scores).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from netferry.converters.signature import Array

STRENGTH = 2.0
"""Unit roundoffs by which a step may err: good kernels of elementary functions do."""

FREE = 8
"""The first runs err on their own at each place. Of later ones every second errs one way in nearly all steps (up, down, towards
zero or away from it), as kernels do that break all ties alike: where many ties meet, errors drawn on their own even out."""

TINIEST = 2.0**-125
"""The smallest number that float32 holds with all its bits."""

NEARLY = 0.8
"""The share of steps that err the run's way."""

ANY = "*"
"""The name of a weight whose own name is not known, to whoever changes weights by name."""


class Kind(Enum):
    """How an operator rounds."""

    EXACT = "it moves or selects values"
    ROUNDS = "it rounds what its format cannot hold"
    INEXACT = "it approximates a function: also a result that the format could hold may be off"
    BOUNDED = "a function of a fixed range, whose kernels err relative to the range"
    SUM = "it adds many products: it errs relative to them, not to their sum"
    COMPOUND = "it is many steps in one: its operands are moved, and its result as that of a sum"
    DIVIDES_FIRST = "it divides, rounds, and then takes a whole number: its operand is moved"
    DIVIDES_BY_RANGE = "as that, by the range of its operand: what is equal to an end of it moves with it"


_DIVIDING = (Kind.DIVIDES_FIRST, Kind.DIVIDES_BY_RANGE)


class Rounding:
    """Draws the errors of one run, or of one ``place`` in it; ``u`` is the unit roundoff of the model's narrowest format."""

    def __init__(self, u: float, seed: int, kinds: Mapping[str, Kind], place: int = 0) -> None:
        self.u, self._kinds = u, kinds
        self._rng = np.random.default_rng([seed, 0x5EED, place])
        one_way = seed >= FREE and seed % 2 == 1
        self._way, self._outward = (1.0 if seed & 2 else -1.0) * one_way, bool(seed & 4)

    def kind(self, operator: str) -> Kind:
        return self._kinds.get(operator, Kind.ROUNDS)

    def result(self, operator: str, array: Array) -> Array:
        """What the operator may have given where it gave ``array`` (float64, of any shape)."""
        kind = self.kind(operator)
        if kind in (Kind.EXACT, *_DIVIDING) or array.dtype != np.float64 or not array.size:
            return array
        return self._moved(array, kind)

    def operand(self, operator: str, array: Any) -> Any:
        """What the operator may have read where it has steps of its own, or divides before it takes whole numbers."""
        kind = self.kind(operator)
        if kind not in (Kind.COMPOUND, *_DIVIDING):
            return array
        if not isinstance(array, np.ndarray) or array.dtype != np.float64 or not array.size:
            return array
        moved = self._moved(array, Kind.INEXACT)
        if kind is Kind.DIVIDES_BY_RANGE:
            for end in (array == array.min(), array == array.max()):
                moved[end] = moved[end][:1]  # of many draws the largest would lie too far out; NaN is no end
        return moved

    def _moved(self, array: Array, kind: Kind) -> Array:
        size = np.abs(array)
        with np.errstate(all="ignore"):
            if kind in (Kind.SUM, Kind.COMPOUND) and array.ndim:
                rows = array.reshape(array.shape[0], -1)
                top = np.sqrt(np.einsum("ij,ij->i", rows, rows) / rows.shape[1])
                np.maximum(size, top.reshape(-1, *[1] * (array.ndim - 1)), out=size)
            if kind is Kind.BOUNDED:
                size += 1.0
            moved = self._drawn(array)
            moved *= STRENGTH * self.u
            moved *= size
            moved += array
            if kind is Kind.BOUNDED:
                np.abs(moved, out=moved, where=array >= 0)
            kept = ~np.isfinite(moved)
            if kind in (Kind.ROUNDS, Kind.SUM, Kind.COMPOUND):
                kept |= self._is_held(array)
            np.copyto(moved, array, where=kept)
        return moved

    def _drawn(self, array: Array) -> Array:
        """Errors between -1 and 1, of either sign or all of one; a new array."""
        drawn = np.asarray(2.0 * self._rng.random(array.shape, np.float32).astype(np.float64) - 1.0)
        if not self._way:
            return drawn
        way = self._way if self._rng.random() < NEARLY else -self._way
        np.abs(drawn, out=drawn)
        drawn *= way * np.sign(array) if self._outward else way
        return drawn

    def _is_held(self, array: Array) -> Array:
        """Where the format holds a value exactly, so that nothing is rounded: its upper part is all of it (T. J. Dekker,
        1971)."""
        upper = array * (2.0**53 * self.u + 1.0)
        upper -= upper - array
        return np.asarray((upper == array) & ((np.abs(array) > TINIEST) | (array == 0)))


def widened(array: Array) -> Array:
    """A float array in float64, any other as it is."""
    narrow = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    return array.astype(np.float64) if narrow else array


def as_float32(value: float) -> float:
    """The number as float32 holds it; one beyond float32's range as it is."""
    with np.errstate(over="ignore"):
        held = float(np.float32(value))
    return held if np.isfinite(held) else value


def table(**kinds: Iterable[str] | str) -> dict[str, Kind]:
    """Operators by how they round, from lists of names: ``table(EXACT="Relu Max", SUM="MatMul")``."""
    return {
        operator: Kind[kind]
        for kind, names in kinds.items()
        for operator in (names.split() if isinstance(names, str) else names)
    }


@dataclass(frozen=True)
class Step:
    """How an output is rounded that a model makes of whole numbers.

    ``size`` is the distance from one number to the next, a share of the output's scale where ``relative``; ``most`` are the
    steps that another way of rounding inside may move a value by.
    """

    size: float
    most: float
    relative: bool = False
