"""Which tensor of one model is which of another, whatever their names, layouts and fusions.

Each tensor is brought down to a digest that no rearrangement of its elements changes. Tensors of one digest are taken
for the same; where it decides something, the two are read again and compared element by element.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import permutations
from operator import or_

import numpy as np

from netferry.converters.graph.recorder import identifier
from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Step
from netferry.inference.intermediate import stream
from netferry.validation.metrics import (
    FAILED,
    NOT_CHECKED,
    PASSED,
    RELATIVE_TO_SCALE,
    Comparison,
    Tolerance,
    compare,
)

_BLOCK = 1 << 18
"""Elements of a tensor that are looked at in float64 at a time."""


# ---- digests ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digest:
    """What stays the same however a tensor's elements are arranged; the moments are of its finite values."""

    shape: tuple[int, ...]
    dtype: str
    size: int
    nans: int
    infinities: tuple[int, int]
    low: float
    high: float
    mean: float
    rms: float

    @property
    def scale(self) -> float:
        return max(abs(self.low), abs(self.high))

    def alike(self, other: Digest, limit: float) -> bool:
        """Whether both may be of the same values, up to ``limit`` of the scale."""
        if (self.size, self.nans, self.infinities) != (other.size, other.nans, other.infinities):
            return False
        error = limit * max(self.scale, other.scale)
        pairs = (
            (self.low, other.low),
            (self.high, other.high),
            (self.mean, other.mean),
            (self.rms, other.rms),
        )
        return all(abs(a - b) <= error for a, b in pairs)


def digest(array: Array) -> Digest:
    """The digest, in one pass over blocks of the tensor."""
    flat = array.ravel(order="K")
    count = nans = above = below = 0
    total = square = 0.0
    low, high = np.inf, -np.inf
    for start in range(0, flat.size, _BLOCK):
        block = flat[start : start + _BLOCK]
        wide = block.astype(np.float64)
        if not np.isfinite(wide @ _ONES[: wide.size]) and not np.isfinite(wide).all():
            nans += int(np.isnan(wide).sum())
            above += int((wide == np.inf).sum())
            below += int((wide == -np.inf).sum())
            block = wide = wide[np.isfinite(wide)]
        if wide.size:
            count += wide.size
            total += float(wide @ _ONES[: wide.size])
            square += float(wide @ wide)
            low, high = min(low, float(block.min())), max(high, float(block.max()))
    if not count:
        low = high = 0.0
    return Digest(
        array.shape, array.dtype.name, array.size, nans, (above, below), low, high,
        total / max(count, 1), float(np.sqrt(square / max(count, 1))),
    )  # fmt: skip


_ONES = np.ones(_BLOCK)
"""A product with ones is the fastest sum, and shows at once whether anything is not finite."""


def limit_of(a: Digest, b: Digest) -> float:
    """The larger of the errors that rounding explains in both dtypes, relative to the scale; 0 for integers."""
    return max(RELATIVE_TO_SCALE.get(a.dtype, 0.0), RELATIVE_TO_SCALE.get(b.dtype, 0.0))


# ---- a model's run, kept as digests -------------------------------------------------------------------


class _EnoughError(BaseException):
    """Ends a run whose further tensors nobody wants; not an ``Exception``, which would be the model's fault."""


@dataclass
class Trace:
    """One run of a model: its steps in order, and the digest of each tensor; the tensors themselves are gone."""

    model: object
    arrays: Sequence[Array]
    steps: list[Step] = field(default_factory=list)
    digests: dict[str, Digest] = field(default_factory=dict)
    maker: dict[str, int] = field(default_factory=dict)
    ends: Ends = field(default_factory=lambda: Ends((), {}))
    _keys: dict[str, frozenset[str]] = field(default_factory=dict)
    _last: dict[str, Array] = field(default_factory=dict)

    def run(self) -> Trace:
        """Raises what the model's run raises; the steps up to there are kept."""
        self.ends = stream(self.model, self.arrays, self._take)
        self.digests |= {name: digest(a) for name, a in zip(self.ends.inputs, self.arrays, strict=True)}
        return self

    def _take(self, step: Step, tensors: Mapping[str, Array]) -> None:
        for name, array in tensors.items():
            if array.dtype.kind in "biuf" or array.dtype.name in RELATIVE_TO_SCALE:
                self.digests[name] = digest(array)
        self.maker |= dict.fromkeys(step.gives, len(self.steps))
        self.steps.append(step)

    def read(self, names: Iterable[str]) -> dict[str, Array]:
        """Run again, as far as is needed, and keep these tensors; those of the last time are there yet."""
        wanted = set(names)
        found = {n: a for n, a in zip(self.ends.inputs, self.arrays, strict=True) if n in wanted}
        found |= {name: array for name, array in self._last.items() if name in wanted}

        def take(_step: Step, tensors: Mapping[str, Array]) -> None:
            found.update({name: array.copy() for name, array in tensors.items() if name in wanted})
            if wanted <= found.keys():
                raise _EnoughError

        if wanted - found.keys():
            self._last = {}
            with contextlib.suppress(_EnoughError):
                stream(self.model, self.arrays, take)
        self._last = found
        return found

    def step(self, tensor: str) -> Step | None:
        place = self.maker.get(tensor)
        return None if place is None else self.steps[place]

    def keys(self, tensor: str) -> frozenset[str]:
        """The words that a tensor may be known by in another framework: its own, its layer's, its weights'."""
        if tensor not in self._keys:
            step = self.step(tensor)
            words = {tensor} if step is None else {tensor, step.name}
            self._keys[tensor] = frozenset(map(_word, words)) | self.owners(tensor)
        return self._keys[tensor]

    def owners(self, tensor: str) -> frozenset[str]:
        """The layers whose weights the step uses, by their names."""
        step = self.step(tensor)
        return frozenset(_word(_owner(weight)) for weight in (step.weights if step else ()))

    def before(self, starts: Iterable[str], known: Iterable[str]) -> tuple[list[str], list[str]]:
        """Back from ``starts`` to what is ``known``: (the tensors on the way, in order; the known ones reached)."""
        stop = {*known, *self.ends.inputs}
        region, edge, stack = set[str](), set[str](), [name for name in starts if name in self.maker]
        while stack:
            name = stack.pop()
            if name in region:
                continue
            region.add(name)
            for read in self.steps[self.maker[name]].reads:
                if read in stop:
                    edge.add(read)
                elif read in self.maker:
                    stack.append(read)
        order = [name for step in self.steps for name in step.gives if name in region]
        return order, sorted(edge, key=lambda name: self.maker.get(name, -1))


_WEIGHT = re.compile(
    r"[._/]?(weight|bias|kernel|gamma|beta|running_mean|running_var|moving_mean|moving_variance|embeddings)"
    r"(_[ih]h_l\d+(_reverse)?)?(:0)?$"
)


def _word(name: str) -> str:
    """A name as an identifier, whatever a framework joins its parts with."""
    return re.sub(r"_+", "_", identifier(name)).strip("_")


def _owner(weight: str) -> str:
    """The layer that a weight belongs to, by its name: ``enc.linear1.weight`` -> ``enc.linear1``."""
    return _WEIGHT.sub("", weight)


# ---- pairs ------------------------------------------------------------------------------------------


def pairs(a: Trace, b: Trace, known: Mapping[str, str]) -> dict[str, str]:
    """For each tensor of ``a`` that some tensor of ``b`` equals by its digest, the likeliest of these.

    A shared name decides, then the order of execution: the first that comes after the last one taken.
    """
    by_size: dict[int, list[str]] = {}
    for name, one in b.digests.items():
        if name in b.maker:
            by_size.setdefault(one.size, []).append(name)
    found, last = dict(known), -1
    for name in (n for step in a.steps for n in step.gives if n in a.digests):
        own = a.digests[name]
        candidates = [
            other
            for other in by_size.get(own.size, ())
            if own.alike(b.digests[other], limit_of(own, b.digests[other]))
        ]
        owners = a.owners(name)
        if owners and not any(owners & b.owners(other) for other in candidates):
            layer = [other for other in by_size.get(own.size, ()) if owners & b.owners(other)]
            candidates = [] if layer else candidates  # the layer's own tensor differs: no other stands for it
        if candidates:
            found[name] = min(candidates, key=lambda other: _rank(a, name, b, other, last))
            last = max(last, b.maker[found[name]])
    return found


def _rank(a: Trace, name: str, b: Trace, other: str, last: int) -> tuple[bool, bool, bool, int]:
    place = b.maker[other]
    shape = a.digests[name].shape == b.digests[other].shape
    return not a.keys(name) & b.keys(other), not shape, place <= last, abs(place - last)


@dataclass(frozen=True)
class Arranged:
    """Two tensors held against each other: ``how`` the second lies beside the first, and what came out.

    ``b`` is the second one in the arrangement, the shape and the dtype of the first.
    """

    how: str
    comparison: Comparison
    b: Array = field(repr=False)

    @property
    def same(self) -> bool:
        return self.comparison.status == PASSED


_MOST_AXES = 5
_SHOWN = 4096


def arranged(a: Array, b: Array, tolerance: Tolerance | None = None, *, layouts: bool = False) -> Arranged:
    """Compare two tensors of as many elements in the arrangement in which they are closest.

    Tensors of one shape are compared as they lie; with ``layouts`` (one side counts channels last) the channels may
    move. Of different shapes any order of the axes of one of them counts, if it runs through the elements as the other;
    where some order of axes gives the other's shape, only such orders.
    """
    x, y = _one_dtype(a, b)
    ways = list(_ways(x, y, layouts))
    fitting = [way for way in ways if way[0]] or ways
    _, how, moved = min(fitting, key=lambda way: _distance(x, way[2]))
    moved = moved.reshape(x.shape)
    result = _compared(x, moved, tolerance)
    if result.status == NOT_CHECKED:  # empty, or nothing finite: it is the same, though it proves nothing
        result = replace(result, status=PASSED)
    return Arranged(how, result, moved)


def _compared(a: Array, b: Array, tolerance: Tolerance | None) -> Comparison:
    """``compare``, in blocks where the tensors are large; the limit is then that of the block with the largest scale."""
    if a.size <= _LARGE:
        return compare(a, b, tolerance)
    x, y = a.reshape(-1), b.reshape(-1)
    parts = [
        compare(x[start : start + _LARGE], y[start : start + _LARGE], tolerance)
        for start in range(0, x.size, _LARGE)
    ]
    whole = reduce(or_, parts)
    if (
        tolerance is not None
        or a.dtype.kind in "biu"
        or any(p.max_abs is None for p in parts if p.status == FAILED)
    ):
        return whole
    return whole.seen_from(0.0)


_LARGE = 1 << 19
"""Elements that are compared at a time: the comparator widens what it compares several times."""


def _ways(a: Array, b: Array, layouts: bool) -> Iterator[tuple[bool, str, Array]]:
    """Arrangements worth trying: whether the sizes of the axes fit, in words, and ``b`` in the order of ``a``."""
    if a.shape == b.shape:
        yield True, "as it is", b
        if layouts and a.ndim > 2:
            yield (
                True,
                "channels first against last",
                np.moveaxis(b.reshape(np.moveaxis(a, 1, -1).shape), -1, 1),
            )
            yield (
                True,
                "channels last against first",
                np.moveaxis(b.reshape(np.moveaxis(a, -1, 1).shape), 1, -1),
            )
        return
    x, y = a.squeeze(), b.squeeze()
    yield x.shape == y.shape, "reshaped", b
    if x.ndim <= _MOST_AXES:
        for order in list(permutations(range(x.ndim)))[1:]:
            sizes = tuple(x.shape[axis] for axis in order)
            moved = b.reshape(sizes).transpose(np.argsort(order))
            yield sizes == y.shape, f"the source's axes in the order {order}", moved
    if y.ndim <= _MOST_AXES and y.ndim != x.ndim:
        for order in list(permutations(range(y.ndim)))[1:]:
            yield False, f"the target's axes in the order {order}", y.transpose(order)


def _distance(a: Array, b: Array) -> float:
    """How far apart both are at the beginning, and then at a stride through the whole."""
    x, y = (np.asarray(v.flat[:_SHOWN]).astype(np.float64) for v in (a, b))
    error = np.abs(x - y)
    error[~np.isfinite(error)] = 0.0
    return float(error.sum())


def _one_dtype(a: Array, b: Array) -> tuple[Array, Array]:
    """Both in one dtype: of two floats the narrower, of a float and an integer the float."""
    if a.dtype == b.dtype:
        return a, b
    floats = [x.dtype for x in (a, b) if x.dtype.name in RELATIVE_TO_SCALE]
    dtype = min(floats, key=lambda d: d.itemsize) if floats else np.dtype(np.int64)
    return a.astype(dtype), b.astype(dtype)
