"""The two stages of the verdict: what the target means, and how exactly it computes it.

``r`` is the source in float64, ``s`` the source as it is, ``t`` the target as it is, ``t64`` the target in float64.
A fault shows in either stage, so both must pass: float64 shows what rounding hides, and the target as it is shows
what its kernels really do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.signature import Array
from netferry.validation.metrics import roundoff

MEANING = 1e-10
"""Stage 1: models that carry the same numbers lie closer together than this in float64."""

BAKED = 1e-7
"""Stage 1 where a constant was rounded to float32 on the way (GELU's root of 2 gives 5e-9)."""

YARDSTICKS = 2.0
"""Stage 1 where weights were rounded anew (BatchNorm folded): in changes of ``r`` under one-ulp jitters."""

PASS, FAIL = 8.0, 32.0
"""Stage 2: the ratio up to which the target computes as well as the source, and from which it does not."""

SLICE = 16
"""Elements that a slice has at least; the whole output is always one."""

SMALL = 64
"""Outputs of fewer elements say little each: their yardstick is pooled over all samples."""

TINIEST = 2.0**-126
EDGES = 2.0 ** np.arange(-4, 9)


@dataclass(frozen=True)
class Arithmetic:
    """Stage 2 of one output on one sample; ``g`` and ``gm`` are the source's own RMS and largest relative error."""

    ratio: float
    slice: str
    histogram: tuple[int, ...]
    g: float
    gm: float


@dataclass(frozen=True)
class Triple:
    """One output three times: the source, the target and the truth, with what is not finite masked out."""

    s: Array
    t: Array
    r: Array
    u: float

    @property
    def scale(self) -> float:
        return float(np.abs(self.r).max(initial=0.0))


def triple(s: Array, t: Array, r: Array) -> Triple | None:
    """The three in float64; None where no place is finite in all of them."""
    u = roundoff(s.dtype)
    wide = [array.astype(np.float64) for array in (s, t, r)]
    finite = np.isfinite(wide[0]) & np.isfinite(wide[1]) & np.isfinite(wide[2])
    if not finite.any():
        return None
    if not finite.all():
        wide = [np.where(finite, array, 0.0) for array in wide]
    return Triple(wide[0], wide[1], wide[2], u)


def meaning(t64: Array, r: Array, usual: float = 0.0) -> float:
    """Stage 1: ``max|t64 - r| / max|r|`` where both are finite; infinite where their non-finite places differ."""
    if t64.shape != r.shape:
        return float("inf")
    a, b = t64.astype(np.float64), r.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    if not finite.any():
        return 0.0
    a, b = a[finite], b[finite]
    error, scale = float(np.abs(a - b).max()), max(float(np.abs(b).max()), usual)
    return 0.0 if error == 0 else error / scale if scale else float("inf")


def arithmetic(one: Triple, usual: float = 0.0, pooled: tuple[float, float] = (0.0, 0.0)) -> Arithmetic:
    """Stage 2: the largest of both quotients over the whole output and its slices.

    ``qmax = max(et) / max(max(es), gm max|r|, 2u max|r|, 2^-126)`` and
    ``qrms = rms(et) / max(rms(es), g rms(r), u rms(r), 2^-126)``. With ``usual``, errors below four roundings of
    that scale never count: for targets that mean the same (a sigmoid that comes near zero errs by a rounding of
    one). ``pooled`` are ``g`` and ``gm`` over all samples, for small outputs.
    """
    es, et = np.abs(one.s - one.r), np.abs(one.t - one.r)
    size, floor = np.abs(one.r), one.u * usual / 2
    whole = [_rms(array.reshape(1, -1))[0] for array in (es, size)]
    g = max(whole[0] / whole[1] if whole[1] else 0.0, pooled[0])
    gm = max(float(es.max()) / one.scale if one.scale else 0.0, pooled[1])
    worst, where = -1.0, "whole"
    for name, (e, d, r) in _slices(et, es, size):
        top = r.max(1)
        limit = np.maximum.reduce(
            [d.max(1), gm * top, 2 * one.u * top, np.full(len(top), max(floor, TINIEST))]
        )
        qmax = e.max(1) / limit
        rms_r = _rms(r)
        limit = np.maximum.reduce([_rms(d), g * rms_r, one.u * rms_r, np.full(len(top), max(floor, TINIEST))])
        q = np.maximum(qmax, _rms(e) / limit)
        place = int(q.argmax())
        if q[place] > worst:
            worst, where = float(q[place]), f"{name} {place}" if name != "whole" else name
    return Arithmetic(worst, where, _histogram(et, es, size, one.u), g, gm)


def _slices(*arrays: Array) -> Iterator[tuple[str, Sequence[Array]]]:
    """(rows, elements) of each way to slice: the whole, rows of the batch, channels, last indices."""
    yield "whole", [array.reshape(1, -1) for array in arrays]
    rank = arrays[0].ndim
    names = {0: "row", 1: "channel", rank - 1: "index"} if rank > 1 else {}
    for axis, name in names.items():
        count = arrays[0].shape[axis]
        if count > 1 and arrays[0].size // count >= SLICE:
            yield name, [np.moveaxis(array, axis, 0).reshape(count, -1) for array in arrays]


def _rms(rows: Array) -> Array:
    """Of each row, without overflow."""
    top = np.maximum(rows.max(1), TINIEST)
    return np.asarray(top * np.sqrt(np.mean((rows / top[:, None]) ** 2, 1)))


def _histogram(et: Array, es: Array, size: Array, u: float) -> tuple[int, ...]:
    """Errors in units of the source's own RMS error: below 2^-4, between powers of 2, above 2^8."""
    own, scale = (float(_rms(array.reshape(1, -1))[0]) for array in (es, size))
    unit = max(own, u * scale, TINIEST)
    bins = np.searchsorted(EDGES, et.reshape(-1) / unit, side="right")
    return tuple(int(n) for n in np.bincount(bins, minlength=len(EDGES) + 1))


def is_index(*arrays: Array) -> bool:
    """Whether all hold whole numbers alone: places, classes, counts."""
    return all(a.dtype.kind in "biu" or bool(np.all(a == np.rint(a))) for a in arrays)


def flips_alike(s: Array, t: Array, runs: Sequence[Array]) -> bool:
    """Whether an index output differs only where the source flips itself: in float64, or with jittered weights."""
    flips = np.zeros(s.shape, bool)
    for run in runs:
        flips |= run != s
    return not np.any((s != t) & ~flips)


def jitter(seed: int) -> Any:
    """A change of weights: each by one unit in the last place of float32, up or down by chance."""

    def change(name: str, array: Array) -> Array:
        rng = np.random.default_rng([seed, *name.encode()])
        step = np.spacing(np.abs(array).astype(np.float32)).astype(np.float64)
        signs = rng.integers(0, 2, array.shape) * 2 - 1
        return np.asarray(np.where(array == 0, 0.0, array + signs * step))

    return change
