"""Where the truth comes from: the source's own framework in float64, or its own file; and the guards on it.

Never a graph or a table of netferry: were its exporter wrong, truth and target would be wrong alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from netferry.converters import frameworks
from netferry.converters.errors import CannotConvert, first_line
from netferry.converters.frameworks import Framework
from netferry.converters.rounding import Step, widened
from netferry.converters.signature import Array, Example
from netferry.validation.comparison.metrics import roundoff
from netferry.validation.comparison.stages import has_few_bits, jitter

SUSPECT: Mapping[str, float] = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.5}
"""The distance of the source from its truth, relative to the scale, from which the truth is not believed."""

NUDGE = 1e-11
"""A relative change of inputs that float64 sees and float32 does not."""

PUSH = 1e-5
"""A relative change of inputs that float32 sees too."""

STILL = 1e-13
"""Movements below this share of an output's scale are float64's own rounding."""

KEPT = 1_000_000
"""Weights up to which a jittered model is kept for the next sample."""

LARGEST = 250_000_000
"""Weights up to which a model is run in float64: twice the memory of the model, for the source and for the target."""

Change = Callable[[str, Array], Array]


class Double:
    """A model in float64: made when it is first run; ``reason`` says why there is none, where there is none."""

    def __init__(self, model: object, given: Sequence[Example] | None = None) -> None:
        self.model, self._given, self.reason = model, given, ""
        self._ran, self._reachable = False, True
        self._jitters: dict[tuple[int, frozenset[str]], Any] = {}

    @property
    def framework(self) -> Framework:
        onnx_file = isinstance(self.model, str | os.PathLike)
        return frameworks.named("onnx") if onnx_file else frameworks.of(self.model)

    @property
    def title(self) -> str:
        """Where it came from, or why there is none."""
        how = "ONNX's reference evaluator" if self.framework.name == "onnx" else self.framework.title
        return f"none: {self.reason}" if self.reason else f"{how} in float64"

    def run(self, arrays: Sequence[Array]) -> dict[str, Array] | None:
        """Outputs in float64 by name; None where the model has no float64 run."""
        if not self._ran and self.size > LARGEST:
            self.reason = f"{self.size:,} weights are too many to run in float64 (more than {LARGEST:,})"
        if self.reason:
            return None
        try:
            outputs = self._run(arrays)
        except Exception as error:  # whatever a framework raises where it has no double kernel
            if not self._ran:
                self.reason = _reason(error)
            return None
        self._ran = True
        return outputs

    def jittered(self, arrays: Sequence[Array], seed: int, names: frozenset[str]) -> dict[str, Array]:
        """Outputs with every constant, and the weights of these names, moved by one unit in its format's last place."""
        key = seed, names
        wide = self._jitters.get(key) or self._made(jitter(seed, self.u, names))
        if self.size <= KEPT:
            self._jitters[key] = wide
        return self._run_wide(wide, arrays)

    def rounded(self, arrays: Sequence[Array], seed: int, coarser: float = 1.0) -> dict[str, Array]:
        """Outputs of a run whose every step rounds by chance, ``coarser`` times as far as in the model's format; where steps
        cannot be reached, of one with weights moved by a rounding."""
        if self._reachable:
            try:
                found: dict[str, Array] = self._module.run_rounded(
                    self._wide, [widened(array) for array in arrays], self.u * coarser, seed
                )
                return found
            except Exception:  # whatever a framework raises where its steps cannot be reached
                self._reachable = False
        return self.jittered(arrays, seed, frozenset(self.weights))

    def nudged(self, arrays: Sequence[Array], by: float = NUDGE) -> dict[str, Array] | None:
        """Outputs with the inputs moved by this share of each, and the weights where there is no float input."""
        moved = [_nudged(array, by) for array in map(widened, arrays)]
        try:
            if any(a.dtype.kind == "f" for a in moved):
                return self._run(moved)
            return self._run_wide(self._made(lambda _name, array: array * (1 + by)), arrays)
        except Exception:  # as in run
            return None

    @cached_property
    def u(self) -> float:
        """The unit roundoff of the shortest format that the model computes in."""
        return roundoff(np.dtype(ml_dtypes.bfloat16 if self.format == "bfloat16" else self.format))

    @cached_property
    def format(self) -> str:
        """The shortest float dtype that the model computes in; without weights, that of its inputs."""
        inputs = {example.array.dtype.name for example in self._given or ()}
        shown = next((name for name in ("bfloat16", "float16") if name in inputs), None)
        return shown if shown and not self.weights else str(self._module.narrowest(self.model))

    @cached_property
    def size(self) -> int:
        """The number of weights."""
        count: int = self._module.size(self.model)
        return count

    @cached_property
    def weights(self) -> Mapping[str, Array]:
        found: Mapping[str, Array] = self._module.weights(self.model)
        return found

    @cached_property
    def steps(self) -> Mapping[str, Step]:
        """How each output is rounded that is made of whole numbers; of other outputs nothing."""
        found: Mapping[str, Step] = getattr(self._module, "steps", lambda _: {})(self.model)
        return found

    @cached_property
    def reaches(self) -> Mapping[str, float]:
        """The largest value of each output of a bounded function, as far as the file says so: a sigmoid errs by a rounding of 1,
        however near 0 it comes."""
        found: Mapping[str, float] = getattr(self._module, "reaches", lambda _: {})(self.model)
        return found

    @cached_property
    def made_of_sizes(self) -> set[str]:
        """The outputs that no number of an input reaches, as far as the file says so: equality at several sizes proves them."""
        found: set[str] = getattr(self._module, "made_of_sizes", lambda _: set())(self.model)
        return found

    @property
    def constants(self) -> set[float]:
        """The numbers that the model's code and attributes hold, those that its runs have shown too."""
        shown: set[float] = getattr(self._wide, "constants", set()) if self._ran else set()
        return self._own_constants | shown

    @cached_property
    def _own_constants(self) -> set[float]:
        found: set[float] = self._module.constants(self.model)
        return found

    @property
    def _module(self) -> ModuleType:
        return self.framework.module("double")

    @cached_property
    def _wide(self) -> Any:
        return self._made(None)

    def _run(self, arrays: Sequence[Array]) -> dict[str, Array]:
        return self._run_wide(self._wide, arrays)

    def _made(self, change: Change | None) -> Any:
        needs_sizes = {"given": self._given} if self.framework.name == "tensorflow" else {}
        model = self.model if change is None else self._prepared
        return self._module.as_float64(model, change, **needs_sizes)

    @cached_property
    def _prepared(self) -> Any:
        """The model as one that is changed many times."""
        return getattr(self._module, "raised", lambda model: model)(self.model)

    def _run_wide(self, wide: Any, arrays: Sequence[Array]) -> dict[str, Array]:
        outputs: dict[str, Array] = self.framework.live.run(wide, [widened(array) for array in arrays])
        return outputs


def _nudged(array: Array, by: float) -> Array:
    """Every float moved on its own: what normalises undoes a common factor or shift."""
    if array.dtype.kind != "f":
        return array
    noise = np.random.default_rng(0).standard_normal(array.shape)
    return np.asarray(array + by * np.maximum(np.abs(array), 1e-3) * noise)


def _reason(error: Exception) -> str:
    if isinstance(error, CannotConvert):
        return error.reason
    return first_line(error)


# ---- guards ------------------------------------------------------------------------------------------


def is_suspect(s: Array, r: Array) -> bool:
    """Whether the source lies so far from its own float64 run that the latter is not to be believed; a run that
    is not finite where the source is lies infinitely far."""
    wide = s.astype(np.float64)
    if np.any(np.isfinite(wide) & ~np.isfinite(r)):
        return True
    finite = np.isfinite(wide) & np.isfinite(r)
    if not finite.any():
        return False
    error, scale = np.abs(wide[finite] - r[finite]).max(), np.abs(r[finite]).max()
    return bool(error > SUSPECT.get(s.dtype.name, np.inf) * scale + np.finfo(np.float32).tiny)


def is_narrow(before: Array, nudged: Array, pushed: Array) -> bool:
    """Whether an output of fractions does not move when inputs are nudged, and moves as float32 does when they are
    pushed: it passes through float32. (One that is saturated moves neither way.)"""
    if not np.array_equal(before, nudged, equal_nan=True) or np.all(before == np.rint(before)):
        return False
    with np.errstate(all="ignore"):
        moved, scale = np.nan_to_num(np.abs(pushed - before)), np.nan_to_num(np.abs(before))
    return bool(moved.max(initial=0.0) > roundoff(np.dtype(np.float32)) * scale.max(initial=0.0))


def answers_alike(r: Sequence[Array], t: Sequence[Array]) -> bool:
    """Whether both (before, after) move alike when nudged; where not, one passes through float32 somewhere."""
    with np.errstate(all="ignore"):
        ours, theirs = (np.nan_to_num(after - before) for before, after in (r, t))
        usual = np.abs(r[0][np.isfinite(r[0])]).max(initial=0.0)
    scale = np.abs(ours).max(initial=0.0)
    return bool(np.abs(ours - theirs).max(initial=0.0) <= max(0.1 * scale, STILL * usual))


# ---- which weights were copied ----------------------------------------------------------------------------


REWRITTEN = 1 / 8
"""The share of a weight's numbers from which it was folded or merged; one number alone that is another is a fault."""


def not_copied(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> frozenset[str]:
    """The weights of one model whose numbers are not among the other's, in whatever arrangement: many of them, not a few."""
    there = {_digest(array) for array in theirs.values()}
    rest = {n: array for n, array in ours.items() if _informative(array) and _digest(array) not in there}
    if not rest:
        return frozenset()
    values = np.unique(
        np.concatenate([_bits(array) for array in theirs.values()] or [np.empty(0, np.uint32)])
    )
    return frozenset(name for name, array in rest.items() if _share_outside(_bits(array), values) > REWRITTEN)


def _share_outside(bits: Array, values: Array) -> float:
    """Of a weight's numbers (of a long one, of some that lie evenly), the share that is not among ``values``, which are sorted."""
    shown = bits[:: max(1, bits.size // _SHOWN)]
    places = np.minimum(np.searchsorted(values, shown), values.size - 1)
    return float(np.mean(values[places] != shown)) if values.size else 1.0


_SHOWN = 100_000


def single_numbers(weights: Mapping[str, Array]) -> set[float]:
    """The constants that a graph keeps among its weights: arrays of one number."""
    return {float(array.flat[0]) for array in weights.values() if array.size and not _informative(array)}


def _informative(array: Array) -> bool:
    return array.size > 1 and bool(np.any(array != array.flat[0]))


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _digest(array: Array) -> tuple[int, int]:
    """Size, and a sum over mixed bits, which no rearrangement changes."""
    bits = _bits(array).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return array.size, int((bits ^ (bits >> np.uint64(29))).sum(dtype=np.uint64))


def is_rounded(values: Iterable[float]) -> bool:
    """Whether one of these constants has another value in float32, or has float32's full length already."""
    return any(np.isfinite(value) and not has_few_bits(value) for value in values)
