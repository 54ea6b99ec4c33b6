"""Which tensor of one model is which of another, whatever their names, layouts and fusions.

Each tensor is brought down to a digest that no rearrangement of its elements changes. Tensors of one digest may be the
same; where it decides something, the two are read again and compared element by element. A name alone makes no pair: a
layer may be one step here and several there, and its tensors are then not one another's.
"""

from __future__ import annotations

import contextlib
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import numpy as np

from netferry.converters.graph.ir.names import identifier
from netferry.converters.signature import Array
from netferry.converters.steps import Ends, Step
from netferry.inference.intermediate import framework_of, stream
from netferry.validation.comparison.metrics import RELATIVE_TO_SCALE

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


Shape = tuple[int, ...]

_REARRANGED = 1e-12
"""Digests so close are of the same elements: sums in another order differ by less."""

_MOST_VIEWS = 4


def _roomy(shape: Shape) -> tuple[Shape, ...]:
    """The shape, if it has a batch, a spatial axis and channels."""
    return (shape,) if len(shape) > 2 else ()


@dataclass
class Trace:
    """One run of a model: its steps in order, and the digest of each tensor; the tensors themselves are gone.

    ``layers`` are those whose weights a tensor's step uses, or, where it uses none, those of what it reads. ``views`` are
    the shapes with room for channels in which its elements stood on the way to it.
    """

    model: object
    arrays: Sequence[Array]
    steps: list[Step] = field(default_factory=list)
    digests: dict[str, Digest] = field(default_factory=dict)
    maker: dict[str, int] = field(default_factory=dict)
    ends: Ends = field(default_factory=lambda: Ends((), {}))
    layers: dict[str, frozenset[str]] = field(default_factory=dict)
    views: dict[str, tuple[Shape, ...]] = field(default_factory=dict)
    readers: dict[str, list[Step]] = field(default_factory=dict)
    _keys: dict[str, frozenset[str]] = field(default_factory=dict)
    _last: dict[str, Array] = field(default_factory=dict)

    def run(self) -> Trace:
        """Raises what the model's run raises; the steps up to there are kept."""
        self.ends = stream(self.model, self.arrays, self._take)
        self.digests |= {name: digest(a) for name, a in zip(self.ends.inputs, self.arrays, strict=True)}
        self._look_back()
        return self

    def _look_back(self) -> None:
        for name in self.ends.inputs:
            self.views[name], self.layers[name] = _roomy(self.digests[name].shape), frozenset()
        for step in self.steps:
            for name in step.reads:
                self.readers.setdefault(name, []).append(step)
            own = _owners(step)
            read = frozenset[str]().union(*(self.layers.get(name, ()) for name in step.reads))
            self.layers |= dict.fromkeys(step.gives, own or read)
            for name in (n for n in step.gives if n in self.digests):
                one = self.digests[name]
                alike = (n for n in step.reads if n in self.digests and self.digests[n].size == one.size)
                before = (view for n in alike for view in self.views.get(n, ()))
                self.views[name] = tuple(dict.fromkeys((*_roomy(one.shape), *before)))[:_MOST_VIEWS]

    def onward(self, tensor: str, other: Trace, beside: str) -> list[str]:
        """The tensor, and what becomes of it in steps that read it alone and keep its size: what may be one step in the
        ``other`` run, whose tensor ``beside`` is of the same layer. Steps that only rearrange are passed over; a further
        layer that the other run has too is the end."""
        elsewhere = (
            frozenset[str]().union(*map(_owners, other.steps)) - other.layers[beside] - self.layers[tensor]
        )
        found, last = [tensor], tensor
        while len(steps := self.readers.get(last, [])) == 1:
            step = steps[0]
            following = next((n for n in step.gives if n in self.digests), None)
            if following is None or len(step.reads) != 1 or _owners(step) & elsewhere:
                break
            one, before = self.digests[following], self.digests[last]
            if one.size != before.size:
                break
            if not (one.scale > 0 and one.alike(before, _REARRANGED)):
                found.append(following)
            last = following
        return found

    @cached_property
    def channels_last(self) -> bool:
        return framework_of(self.model).name == "tensorflow"

    @property
    def made(self) -> Iterator[str]:
        """The tensors of the steps that have a digest, in order of execution."""
        return (name for step in self.steps for name in step.gives if name in self.digests)

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
        location = self.maker.get(tensor)
        return None if location is None else self.steps[location]

    def keys(self, tensor: str) -> frozenset[str]:
        """The names that a tensor may be known by in another framework: its own, its layer's, its weights'."""
        if tensor not in self._keys:
            step = self.step(tensor)
            self._keys[tensor] = frozenset({_word(tensor)})
            if step is not None:
                self._keys[tensor] |= {_word(step.name)} | _owners(step)
        return self._keys[tensor]

    def owned(self, tensors: Sequence[str], layers: Iterable[str]) -> list[str]:
        """Those among the tensors whose steps use weights of these layers; all where none does."""
        wanted = frozenset(layers)
        return [n for n in tensors if (step := self.step(n)) and _owners(step) & wanted] or list(tensors)

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


def _owners(step: Step) -> frozenset[str]:
    """The layers whose weights a step uses, by their names."""
    return frozenset(_word(_owner(weight)) for weight in step.weights)


def _word(name: str) -> str:
    """A name as an identifier, whatever a framework joins its parts with."""
    return re.sub(r"_+", "_", identifier(name)).strip("_")


def _owner(weight: str) -> str:
    """The layer that a weight belongs to, by its name: ``enc.linear1.weight`` -> ``enc.linear1``."""
    return _WEIGHT.sub("", weight)


# ---- pairs ------------------------------------------------------------------------------------------


Pairs = dict[str, list[str]]
"""For a tensor of one side the tensors of the other that may be the same, the likeliest first; never an empty list."""

MOST_ALIKE = 4
"""Tensors of one digest that are tried one after the other."""


def pairs(a: Trace, b: Trace, known: Mapping[str, str]) -> tuple[Pairs, Pairs]:
    """For each tensor of ``a`` the tensors of ``b`` that equal it by their digests, and the other way round.

    ``known`` are the inputs. The layer decides, then a shared name: no other stands in for a tensor that has one. After
    these come the shape and the order of execution. A tensor of another layer is taken only where the other side has
    none of this layer that equals nothing.
    """
    by_size: dict[int, list[tuple[float, str]]] = {}
    for name in (*b.ends.inputs, *b.made):  # a tensor that is an input in another order has that input
        by_size.setdefault(b.digests[name].size, []).append((b.digests[name].scale, name))
    for group in by_size.values():
        group.sort()
    dtypes = {one.dtype for side in (a, b) for one in side.digests.values()}
    widest = max((RELATIVE_TO_SCALE.get(dtype, 0.0) for dtype in dtypes), default=0.0)
    forth: Pairs = {}
    back: Pairs = {}
    for name in (*a.ends.inputs, *a.made):
        own = a.digests[name]
        for other in _of_scale(own.scale, widest, by_size.get(own.size, [])):
            if own.alike(b.digests[other], limit_of(own, b.digests[other])):
                forth.setdefault(name, []).append(other)
                back.setdefault(other, []).append(name)
    turned = {theirs: ours for ours, theirs in known.items()}
    return _ordered(a, b, forth, back, known), _ordered(b, a, back, forth, turned)


def _of_scale(scale: float, widest: float, group: Sequence[tuple[float, str]]) -> Iterator[str]:
    """The tensors in ``group``, sorted by scale, that may be alike to one of this scale up to the ``widest`` limit."""
    start = bisect_left(group, (scale * (1 - widest), ""))
    for other, name in islice(group, start, None):
        if other * (1 - widest) > scale:
            return
        yield name


def _ordered(a: Trace, b: Trace, forth: Pairs, back: Pairs, known: Mapping[str, str]) -> Pairs:
    lost = {(layer, b.digests[n].size) for n in b.made if n not in back for layer in b.layers[n]}
    found, last = {ours: [theirs] for ours, theirs in known.items()}, -1
    for name in (n for n in a.made if n in forth):
        layers, size = a.layers[name], a.digests[name].size
        same = [other for other in forth[name] if layers & b.layers[other]]
        if not same and any((layer, size) in lost for layer in layers):
            continue  # the layer's own tensor differs: no other stands for it
        named = [other for other in same or forth[name] if a.keys(name) & b.keys(other)]
        likely = sorted(named or same or forth[name], key=lambda other: _rank(a, name, b, other, last))
        found[name] = likely[:MOST_ALIKE]
        last = max(last, b.maker.get(likely[0], -1))
    return found


def _rank(a: Trace, name: str, b: Trace, other: str, last: int) -> tuple[bool, bool, int]:
    location = b.maker.get(other, -1)
    shape = a.digests[name].shape == b.digests[other].shape
    return not shape, location <= last, abs(location - last)
