"""The two stages of the verdict: what the target means, and how exactly it computes it.

``r`` is the source in float64, ``s`` the source as it is, ``t`` the target as it is, ``t64`` the target in float64.
A fault shows in either stage, so both must pass: float64 shows what rounding hides, and the target as it is shows
what its kernels really do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.rounding import ANY, FREE
from netferry.converters.signature import Array
from netferry.validation.comparison.metrics import roundoff

MEANING = 1e-10
"""Stage 1: models with the same numbers lie closer together than this in float64."""

BAKED = 1e-7
"""Stage 1 where a constant was rounded to float32 on the way (GELU's root of 2 gives 5e-9)."""

YARDSTICKS = 2.0
"""Stage 1 where weights were rounded anew (BatchNorm folded): in changes of ``r`` under one-ulp jitters."""

PASS, FAIL = 8.0, 32.0
"""Stage 2: the ratio up to which the target computes as well as the source, and from which it does not."""

SLICE = 16
"""Elements that a slice has at least; the whole output is always one."""

SMALL = 64
"""Outputs of fewer elements are little evidence each: their yardstick is pooled over all samples."""

ROUGH = 256.0
"""Roundings of an output's scale from which rounding moves it farther than smooth steps do."""

TINIEST = 2.0**-126
EDGES = 2.0 ** np.arange(-4, 9)


@dataclass(frozen=True)
class Arithmetic:
    """Stage 2 of one output on one sample; ``g`` and ``gm`` are the source's own RMS and largest relative error.

    ``nearer`` is a target that is at least as near the truth as the source is, in its mean and in its largest error.
    """

    ratio: float
    slice: str
    histogram: tuple[int, ...]
    g: float
    gm: float
    nearer: bool = False


@dataclass(frozen=True)
class Triple:
    """One output three times: the source, the target and the truth, with what is not finite masked out.

    ``spread`` is how far rounding alone moves each element, where that is known.
    """

    s: Array
    t: Array
    r: Array
    u: float
    spread: Array | None = None

    @property
    def own(self) -> Array:
        """The source's error: what is seen, and what rounding alone does."""
        seen = np.abs(self.s - self.r)
        return seen if self.spread is None else np.maximum(seen, self.spread)

    @property
    def scale(self) -> float:
        return float(np.abs(self.r).max(initial=0.0))


@dataclass(frozen=True)
class Noise:
    """What rounding alone makes of one output on one sample: the source as it is, in float64, and rounded by chance.

    ``loose`` are the elements that rounding decides, ``wild`` those among them that it takes out of the finite numbers,
    ``certain`` those that it does not decide; ``spread`` is how far it moves each element. ``taken``: (runs, *shape) is what
    the source takes, first as it is. ``reach`` is how far an element that is not loose moves, ``alone`` the most
    elements that one run moves farther while no other does, and ``fine`` a rounding of the output's scale. ``suspect`` is
    a truth from which the source as it is lies farther than rounding explains; ``rough`` an output that rounding moves
    far somewhere, as behind a quantiser.
    """

    loose: Array
    wild: Array
    certain: Array
    spread: Array
    taken: Array
    reach: float
    alone: int
    fine: float
    suspect: bool = False
    rough: bool = False

    @staticmethod
    def of(r: Array, s: Array, runs: Sequence[Array], limit: float, u: float) -> Noise:
        """``runs`` are float64 runs of the source that rounded to ``u``; arrays of one shape. An element that they move by
        more than ``limit`` of the output's scale is decided by rounding."""
        with np.errstate(all="ignore"):
            wide = np.stack([run.astype(np.float64) for run in runs])
            wild = ~np.isfinite(wide).all(0) & ~_alike(wide)
            moved = np.nan_to_num(wide.max(0) - wide.min(0), nan=0.0, posinf=np.inf)
            scale = float(np.abs(r[np.isfinite(r)]).max(initial=0.0))
            taken = np.stack([np.where(np.isfinite(s), s, r), r, *np.where(np.isnan(wide), r, wide)])
        loose = wild | (moved > limit * scale)
        noise = Noise(
            loose, wild, ~loose, np.where(wild, 0.0, moved), taken, limit * scale, _alone(wide, limit * scale), u * scale,
            rough=bool(moved[~wild].max(initial=0.0) > ROUGH * u * scale),
        )  # fmt: skip
        return replace(noise, suspect=True) if noise.is_astray(s) else noise.without(noise.apart(s))

    @property
    def shows_all(self) -> bool:
        """Whether rounding moves every element, and none of them far: it meets no step."""
        return bool(self.spread.all()) and not self.loose.any()

    def without(self, elements: Array) -> Noise:
        """The same with these elements left to rounding."""
        return replace(self, loose=self.loose | elements, certain=self.certain & ~elements)

    def is_astray(self, run: Array) -> bool:
        """Whether a run that rounds by itself is apart at more elements than one of the runs by chance moves alone. (Behind a
        quantiser each run goes its own way at some elements.)"""
        return int(self.apart(run).sum()) > self.alone

    def apart(self, run: Array) -> Array:
        """Where rounding decides nothing, and a run has finite numbers where the float64 runs do not come near."""
        low, high = self.taken[1:].min(0), self.taken[1:].max(0)
        with np.errstate(all="ignore"):
            near = (run >= low - self.reach) & (run <= high + self.reach)
        return np.asarray(self.certain & np.isfinite(run) & ~near)

    def is_as_near(self, run: Array) -> bool:
        """Whether a float64 run lies as near the truth as those that round by chance: its largest distance is no larger
        than twice theirs, nor its second largest, and so on. (Near a step, each way of computing falls as it may.)"""
        r, rounded = self.taken[1], self.taken[2 : 2 + FREE]
        with np.errstate(all="ignore"):
            own = np.sort(np.abs(run - r)[self.certain])
            usual = np.sort(np.abs(rounded - r)[:, self.certain], axis=1).max(0)
        return bool(np.all(own <= YARDSTICKS * usual))

    def admits(self, t: Array) -> bool:
        """Whether the target is, at the loose elements, what the source may be: within its range, and like its values."""
        return self._in_range(t) and self._like_the_rest(t)

    def _in_range(self, t: Array) -> bool:
        """Whether at every loose element the target lies where the source does, or as far from there as that is wide: as
        wide as rounding moves this element, or half of the loose ones. (Where a quantiser's step lies on the way, few
        runs go far, and what they show of one element alone is little.)"""
        low, high = self.taken.min(0), self.taken.max(0)
        with np.errstate(all="ignore"):
            width = np.nan_to_num(high - low, nan=np.inf)
            width = np.maximum(width, np.median(width[self.loose])) if self.loose.any() else width
            inside = (t >= low - width) & (t <= high + width)
        return bool(np.all(~self.loose | np.where(np.isfinite(t), inside, self.wild)))

    def _like_the_rest(self, t: Array) -> bool:
        """Whether at most loose elements the target is as near one of the source's values as these are to each other. (A
        step gives one value or another, and none between them; a chain of steps gives many.)"""
        told = self.loose & ~self.wild & np.isfinite(t)
        if not told.any():
            return True
        taken = self.taken[:, told]
        order = np.argsort(taken, 0)
        gaps = np.diff(np.take_along_axis(taken, order, 0), axis=0, prepend=-np.inf, append=np.inf)
        nearest = np.empty_like(taken)
        np.put_along_axis(nearest, order, np.minimum(gaps[:-1], gaps[1:]), 0)
        usual = np.median(nearest, 1).max()
        own = np.median(np.abs(taken - t[told]).min(0))
        return bool(own <= PASS * max(usual, 2 * self.fine))


def _alone(runs: Array, reach: float) -> int:
    """The most elements that one of the runs has farther than ``reach`` beyond all others."""
    if len(runs) < 3:
        return 0
    count = np.zeros(len(runs), np.int64)
    for side in (runs, -runs):
        order = np.argsort(side, 0)
        with np.errstate(all="ignore"):
            next_to, last = np.take_along_axis(side, order[-2:], 0)
            count += np.bincount(order[-1][last - next_to > reach], minlength=len(runs))
    return int(count.max())


def _alike(wide: Array) -> Array:
    """Where all runs have the same value that is not finite."""
    first = wide[0]
    return np.asarray(np.all((wide == first) | (np.isnan(wide) & np.isnan(first)), 0))


def triple(s: Array, t: Array, r: Array, noise: Noise | None = None) -> Triple | None:
    """The three in float64; None where no element is finite in all of them, and decided by more than rounding."""
    u = roundoff(s.dtype)
    wide = [array.astype(np.float64) for array in (s, t, r)]
    certain = np.isfinite(wide[0]) & np.isfinite(wide[1]) & np.isfinite(wide[2])
    if noise is not None:
        certain &= ~noise.loose
    if not certain.any():
        return None
    if not certain.all():
        wide = [np.where(certain, array, 0.0) for array in wide]
    return Triple(wide[0], wide[1], wide[2], u, None if noise is None else noise.spread)


def meaning(t64: Array, r: Array, usual: float = 0.0, loose: Array | None = None) -> float:
    """Stage 1: ``max|t64 - r| / max|r|`` where both are finite; infinite where their non-finite elements differ.

    ``loose`` elements, which rounding decides, are left out.
    """
    if t64.shape != r.shape:
        return float("inf")
    a, b = t64.astype(np.float64), r.astype(np.float64)
    if loose is not None:
        a, b = a[~loose], b[~loose]
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
    es, et = one.own, np.abs(one.t - one.r)
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
        index = int(q.argmax())
        if q[index] > worst:
            worst, where = float(q[index]), f"{name} {index}" if name != "whole" else name
    nearer = bool(et.max(initial=0.0) <= es.max(initial=0.0) and _rms(et.reshape(1, -1)) <= whole[0])
    return Arithmetic(worst, where, _histogram(et, es, size, one.u), g, gm, nearer)


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
    """Whether all hold whole numbers alone: indices, classes, counts."""
    return all(a.dtype.kind in "biu" or bool(np.all(a == np.rint(a))) for a in arrays)


def has_few_bits(value: float) -> bool:
    """Whether a number has at most twelve bits, so that no format rounds it."""
    mantissa, _ = np.frexp(value)
    return bool(mantissa * 4096 == np.rint(mantissa * 4096))


def jitter(seed: int, u: float, names: frozenset[str]) -> Any:
    """A change of constants (single numbers, where a format rounds them) and of the weights of these names: each by one
    unit in the last place of the format with the unit roundoff ``u``, up or down by chance; a single number in one of two
    seeds up, in the other down."""

    def change(name: str, array: Array) -> Array:
        single = array.size == 1
        if not single and name not in names and not (names and name == ANY):
            return array
        if single and has_few_bits(float(array.reshape(-1)[0])):
            return array
        draw, back = (seed // 2, seed % 2) if single else (seed, 0)
        rng = np.random.default_rng([draw, *name.encode(), *(() if name else array.tobytes())])
        _, exponent = np.frexp(array)
        step = 2 * u * np.exp2(exponent - 1.0)
        signs = (rng.integers(0, 2, array.shape) * 2 - 1) * (1 - 2 * back)
        return np.asarray(np.where(array == 0, 0.0, array + signs * step))

    return change
