"""Which elements of the source's weights each weight of the target is made of.

A converter copies: a weight of the target is a rearrangement of the source's weights (transposed, gates
reordered, packed, split), or the sum of two (the biases of a recurrent layer). So the source is given weights
that are all different, converted once more, and each element found by its value: exact, and without knowing
any layer. Two models without a conversion between them are matched by the values that they have.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np

from netferry import converters
from netferry.converters import frameworks
from netferry.converters.errors import NetferryError
from netferry.converters.signature import Array, Example
from netferry.converters.training import Training, arrays_of, holding
from netferry.validation.training.reference import (
    TrainingReference,
)
from netferry.validation.training.trajectory import training_of

NOTHING = -1
"""The index of an element that comes from no weight of the source: a bias that only one side has."""

Values = Mapping[str, Array]

_FLOATS_TO_ONE, _FLOATS_ABOVE = 2**23, 2**29
"""How many numbers of float32 there are between 1/2 and 1, and how many above 1/2 are taken for larger models."""


class Pool:
    """Named arrays as one long vector, in which an element has an index."""

    def __init__(self, values: Values) -> None:
        self.names = tuple(values)
        self._ends = np.cumsum([0, *(values[name].size for name in self.names)])
        self.shapes = {name: values[name].shape for name in self.names}
        self.size = int(self._ends[-1])

    def slice(self, name: str) -> slice:
        position = self.names.index(name)
        return slice(int(self._ends[position]), int(self._ends[position + 1]))

    def flat(self, values: Mapping[str, Array | None]) -> Array:
        """The vector of these values; what is missing or None is zero."""
        vector = np.zeros(self.size)
        for name in self.names:
            if (array := values.get(name)) is not None:
                vector[self.slice(name)] = np.asarray(array, np.float64).reshape(-1)
        return vector

    def named(self, vector: Array) -> dict[str, Array]:
        return {name: vector[self.slice(name)].reshape(self.shapes[name]) for name in self.names}

    def owners(self, indices: Array) -> tuple[str, ...]:
        """The arrays in which these indices lie, in order."""
        found = np.unique(np.searchsorted(self._ends, indices[indices >= 0], side="right") - 1)
        return tuple(self.names[position] for position in found)


@dataclass(frozen=True)
class WeightMatching:
    """For each weight of the target the indices in the source's pool that each of its elements is the sum of.

    ``indices[name]`` is one vector of indices, or two where it is a sum. ``how`` says how this was found out;
    ``origin`` is what it was turned round from.
    """

    pool: Pool
    indices: Mapping[str, tuple[Array, ...]]
    how: str
    missing: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    origin: WeightMatching | None = None

    def values(self, source: Values, target: Values) -> dict[str, tuple[Array, Array]]:
        """Each weight beside what it is made of (flat), where the conversion went the other way from there."""
        maker, from_, to = (self, source, target) if self.origin is None else (self.origin, target, source)
        return {name: (made, to[name].reshape(-1)) for name, made in maker.push(from_).items()}

    def push(self, values: Mapping[str, Array | None]) -> dict[str, Array]:
        """The source's values as the target has them (flat); what comes from nothing is zero."""
        vector = np.append(self.pool.flat(values), 0.0)  # NOTHING is the last
        return {
            name: np.sum([vector[indices] for indices in parts], axis=0)
            for name, parts in self.indices.items()
        }

    def pull(self, slopes: Mapping[str, Array | None]) -> dict[str, Array]:
        """Gradients by the target's weights as gradients by the source's: the transpose of ``push``."""
        vector = np.zeros(self.pool.size + 1)
        for name, parts in self.indices.items():
            slope = slopes.get(name)
            for indices in parts if slope is not None else ():
                np.add.at(vector, indices, np.asarray(slope, np.float64).reshape(-1))
        return self.pool.named(vector[:-1])

    @property
    def unread(self) -> tuple[str, ...]:
        """The weights of the source that nothing in the target is made of."""
        read = {name for owners in self.names.values() for name in owners}
        return tuple(name for name in self.pool.names if name not in read)


def distinct(values: Values) -> dict[str, Array] | None:
    """Values of the same shapes and dtypes that are all different, from 1/2 upward; None where a dtype is too
    narrow for so many. They grow evenly, so that the sums of two vectors differ as well."""
    count = sum(array.size for array in values.values())
    step = (_FLOATS_TO_ONE if count <= _FLOATS_TO_ONE else _FLOATS_ABOVE) // max(count, 1)
    if step == 0 or any(array.dtype not in (np.float32, np.float64) for array in values.values()):
        return None
    bits = int(np.float32(0.5).view(np.uint32))
    line = (bits + step * np.arange(count, dtype=np.uint32)).astype(np.uint32).view(np.float32)
    parts = np.split(line, np.cumsum([array.size for array in values.values()])[:-1])
    return {
        name: part.reshape(array.shape).astype(array.dtype)
        for (name, array), part in zip(values.items(), parts, strict=True)
    }


def by_name(source: Values, target: Values) -> WeightMatching:
    """Weights of the same name, each element its own counterpart."""
    pool = Pool(source)
    return _matching(
        pool,
        {name: (_indices_of(pool, name),) for name in target if name in source},
        target,
        "by their names",
    )


def by_value(source: Values, target: Values, how: str) -> WeightMatching:
    """Each element of ``target`` where its value stands in ``source``; where it does not, as a sum of two."""
    pool = Pool(source)
    vector = pool.flat(source)
    order = np.argsort(vector, kind="stable")
    ranked = vector[order]
    indices: dict[str, tuple[Array, ...]] = {}
    for name, array in target.items():
        found = _same(pool, source, name, array)
        if found is None:
            found = _found(order, ranked, array.reshape(-1).astype(np.float64))
        if found is not None:
            indices[name] = (found,)
    used = {owner for parts in indices.values() for owner in pool.owners(parts[0])}
    spare = [name for name in pool.names if name not in used]
    for name, array in target.items():
        if name in indices:
            continue
        if sums := _as_sum(pool, source, spare, array):
            indices[name] = sums
        elif alike := next((one for one in spare if _constant_alike(source[one], array)), None):
            spare.remove(alike)
            indices[name] = (_indices_of(pool, alike),)
    return _matching(pool, indices, target, how)


def inverse(found: WeightMatching, source: Values, target: Values) -> WeightMatching:
    """The matching seen from the other side: of a sum the first part stands for the whole."""
    pool, back = Pool(source), np.full(found.pool.size, NOTHING, np.int64)
    for name, parts in found.indices.items():
        own = _indices_of(pool, name)
        known = parts[0] >= 0
        back[parts[0][known]] = own[known]
    whole = found.pool.named(back)
    indices = {
        name: (whole[name].reshape(-1),) for name in target if name in whole and (whole[name] >= 0).any()
    }
    return replace(_matching(pool, indices, target, found.how), origin=found)


def _matching(
    pool: Pool, indices: Mapping[str, tuple[Array, ...]], target: Values, how: str
) -> WeightMatching:
    names = {name: pool.owners(np.concatenate(parts)) for name, parts in indices.items()}
    missing = tuple(name for name in target if name not in indices)
    return WeightMatching(pool, indices, how, missing, names)


def _indices_of(pool: Pool, name: str) -> Array:
    own = pool.slice(name)
    return np.arange(own.start, own.stop)


def _same(pool: Pool, source: Values, name: str, array: Array) -> Array | None:
    """The indices of the source's weight of this name, where it is this very array."""
    own = source.get(name)
    if own is None or own.shape != array.shape or not np.array_equal(own, array):
        return None
    return _indices_of(pool, name)


def _found(order: Array, ranked: Array, wanted: Array) -> Array | None:
    """The index of each wanted value; zeros that no weight has come from nothing. None where one is not there,
    or where all are."""
    if not ranked.size or not wanted.size:
        return None
    rank = np.minimum(np.searchsorted(ranked, wanted), ranked.size - 1)
    there = ranked[rank] == wanted
    if not there.any() or (wanted[~there] != 0).any():
        return None
    twice = np.zeros(ranked.size, bool)
    twice[:-1] = ranked[1:] == ranked[:-1]
    if twice[rank[there]].any():
        return None
    indices: Array = order[rank]
    indices[~there] = NOTHING
    return indices


def _as_sum(pool: Pool, source: Values, spare: list[str], array: Array) -> tuple[Array, Array] | None:
    """The indices of two weights whose sum this is, in any order of its elements."""
    wanted = array.reshape(-1)
    for one, two in _pairs(spare, source, array.size):
        a, b = _indices_of(pool, one), _indices_of(pool, two)
        sums = source[one].reshape(-1) + source[two].reshape(-1)
        if np.array_equal(sums, wanted):
            return a, b
        order = np.argsort(sums, kind="stable")
        found = _found(order, sums[order].astype(np.float64), wanted.astype(np.float64))
        if found is not None and (found >= 0).all():
            return a[found], b[found]
    return None


def _constant_alike(one: Array, other: Array) -> bool:
    """Whether both have one number alone, and the same: which element is which cannot matter."""
    return one.shape == other.shape and bool((one == one.flat[0]).all() and np.array_equal(one, other))


def _pairs(spare: list[str], source: Values, size: int) -> Iterator[tuple[str, str]]:
    fitting = [name for name in spare if source[name].size == size]
    return itertools.combinations(fitting, 2)


SAME = 1e-5
"""How far, relative to their scale, two weights may lie apart that are called the same value."""


def value_distance(made: Array, kept: Array) -> float:
    """How far two weights lie apart, relative to their scale."""
    size = float(np.abs(made).max(initial=0.0)) or 1.0
    return float(np.abs(kept - made).max(initial=0.0)) / size


def match_weights(reference: TrainingReference, target: object, training: Training) -> WeightMatching:
    """Which weights have become which: by a conversion either way, by their names, or by their values."""
    own = {**reference.weights, **reference.statistics}
    theirs = arrays_of(training)
    other = frameworks.of(target).name
    shapes = {name: array.shape for name, array in theirs.items()}
    if other == reference.framework and shapes == {name: array.shape for name, array in own.items()}:
        return by_name(own, theirs)
    count = len(reference.batches[0].inputs)
    forth = _through_conversion(reference.model, own, other, theirs, count, reference.given)
    if forth is not None and _agree(forth, own, theirs):
        return forth
    back = _through_conversion(target, theirs, reference.framework, own, count, reference.given)
    if back is not None and (forth is None or _agree(back, theirs, own)):
        return inverse(back, own, theirs)
    if forth is not None:
        return forth
    return by_value(own, theirs, "by the values that they have")


def _through_conversion(
    model: object,
    own: Mapping[str, Array],
    to: str,
    theirs: Mapping[str, Array],
    inputs: int,
    given: Sequence[Example] | None,
) -> WeightMatching | None:
    """The matching as netferry's own conversion makes them; None where it makes another model than this."""
    return through_conversion(
        lambda values: holding(training_of(model, inputs), values), own, to, theirs, given
    )


def through_conversion(
    held: Callable[[Values], AbstractContextManager[object]],
    own: Values,
    to: str,
    theirs: Values,
    given: Sequence[Example] | None,
) -> WeightMatching | None:
    """The same for a model that is ``held`` with other values in the place of its ``own``."""
    tags = distinct(own)
    if tags is None:
        return None
    try:
        with held(tags) as tagged:
            export = converters.export_model(tagged, given=given)
            imported = {
                n: np.array(array) for n, array in converters.import_model(export.model, to).weights.items()
            }
    except NetferryError:
        return None
    if any(name not in imported or imported[name].shape != array.shape for name, array in theirs.items()):
        return None
    return by_value(
        tags, {name: imported[name] for name in theirs}, "by a conversion of weights that are all different"
    )


def _agree(found: WeightMatching, source: Mapping[str, Array], target: Mapping[str, Array]) -> bool:
    """Whether the target has the values that a conversion of the source gives it."""
    return all(value_distance(made, kept) <= SAME for made, kept in found.values(source, target).values())
