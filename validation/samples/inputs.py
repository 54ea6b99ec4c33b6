"""Inputs made from a signature: seeded, of the kinds that find faults, at several batch sizes and lengths."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.signature import Array, Example, Ranges, Signature, TensorSpec
from netferry.converters.size_bounds import size_of
from netferry.validation.samples.sizes import Explored, Sizes, symbol_of, untried

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 65504.0, 1e-40)
"""Values that kernels treat apart; each row of a batch gets one, so that the other rows stay informative."""

NORMAL, GIVEN = "normal", "given"
Shapes = Sequence[tuple[int, ...]]
"""Those of all inputs, in order."""


@dataclass(frozen=True)
class Sample:
    """One set of inputs and how it came about."""

    label: str
    arrays: Mapping[str, Array]


@dataclass(frozen=True)
class Whole:
    """Whole numbers, both ends among them."""

    low: int
    high: int


@dataclass(frozen=True)
class Maker:
    """Draws inputs for ``signature``: the same kind at the same sizes with the same seed gives the same arrays.

    ``ranges`` are which whole numbers inputs may hold, beside what the examples show.
    """

    signature: Signature
    given: Sequence[Example] | None = None
    seed: int = 0
    ranges: Ranges | None = None

    def sample(self, kind: str, sizes: Sizes) -> Sample:
        floats = self._rng(GRIDDED if kind in GRIDDED_AGAIN else kind, sizes)
        others = self._rng(f"{kind}, beside floats", sizes)
        shapes = [_shape(spec, sizes) for spec in self.signature.inputs]
        _demand_possible(self.signature.inputs, shapes)
        arrays = {
            spec.name: _draw(
                kind,
                floats if _is_float(spec) else others,
                spec,
                shapes[position],
                self._whole(position, spec, shapes),
            )
            for position, spec in enumerate(self.signature.inputs)
        }
        for position, array in enumerate(arrays.values()):
            self._fill_columns(others, position, array, shapes)
        words = ", ".join(f"{symbol}={size}" for symbol, size in sizes.items())
        return Sample(f"{kind}, {words}" if words else kind, arrays)

    def _rng(self, kind: str, sizes: Sizes) -> np.random.Generator:
        return np.random.default_rng([self.seed, *kind.encode(), *sizes.values()])

    def elements(self, sizes: Sizes) -> int:
        """How many numbers all inputs hold together at these sizes."""
        return sum(math.prod(_shape(spec, sizes)) for spec in self.signature.inputs)

    def _whole(self, position: int, spec: TensorSpec, shapes: Shapes) -> Whole | None:
        """The whole numbers that an input has; None for one of fractions. Integers of which nothing is known are 0, 1."""
        known = [one for one in (self.ranges or {}).get(position, ()) if one.column is None]
        if not known and spec.dtype.kind not in "iu":
            return None
        low = max([one.low for one in known] + [1 if _is_length(spec) else 0])
        tops = [top for one in known if (top := one.top(shapes)) is not None]
        if not tops and _is_length(spec):
            tops = _measured(self.signature, spec, shapes)
        return Whole(low, max(low, min(tops) if tops else max(1, self._shown(spec))))

    def _shown(self, spec: TensorSpec) -> int:
        """The largest integer in the example of an input."""
        arrays = [e.array for e in self.given or () if e.name == spec.name]
        return max((int(a.max()) for a in arrays if a.dtype.kind in "iu" and a.size), default=0)

    def _fill_columns(self, rng: np.random.Generator, position: int, array: Array, shapes: Shapes) -> None:
        """Places of the last axis that are indices, in an input that is drawn as something else (boxes)."""
        for one in (self.ranges or {}).get(position, ()):
            top = one.top(shapes)
            if one.column is not None and top is not None and array.ndim:
                array[..., one.column] = rng.integers(one.low, max(top, one.low) + 1, array.shape[:-1])


def samples(
    signature: Signature,
    given: Sequence[Example] | None = None,
    seed: int = 0,
    *,
    quick: bool = False,
    ranges: Ranges | None = None,
    sizes: Explored | None = None,
) -> Iterator[Sample]:
    """The given inputs first, then normal ones at the usual sizes, the kinds that find faults, and other sizes.

    ``sizes`` are those at which the source runs; left out, the first candidates. ``quick`` takes few.
    """
    if given is not None:
        yield Sample(GIVEN, {e.name: e.array for e in given})
    maker = Maker(signature, given, seed, ranges)
    for kind, choice in _plan(signature, sizes or untried(signature, given), quick):
        yield maker.sample(kind, choice)


def _plan(signature: Signature, sizes: Explored, quick: bool) -> Iterator[tuple[str, Sizes]]:
    """Each kind at the small sizes in turn; normal at all."""
    yield NORMAL, sizes.usual
    kinds = [kind for kind in KINDS if _says_anything(kind, signature)]
    for position, kind in enumerate(kinds[:2] if quick else kinds):
        choice = sizes.small[position % len(sizes.small)]
        yield kind, choice
        if kind == GRIDDED and not quick:
            yield from ((again, choice) for again in list(GRIDDED_AGAIN)[: _draws(signature, choice) - 1])
    rows, extents = (sizes.rows[:1], sizes.extents[:1]) if quick else (sizes.rows, sizes.extents)
    yield from ((NORMAL, choice) for choice in (*rows, *extents))
    if not quick and any(spec.dtype.kind in "biu" for spec in signature.outputs):
        yield from ((again, (sizes.usual, *rows)[-1]) for again in AGAIN)
    if not quick:
        many = [kind for kind in MANY if _says_anything(kind, signature)]
        yield from ((kind, choice) for choice in sizes.many for kind in many)


AGAIN = tuple(f"{NORMAL} again, draw {count}" for count in (2, 3, 4))
"""Whole numbers are little evidence each: a class that another row's input moves is one in a hundred."""


def _draws(signature: Signature, sizes: Sizes) -> int:
    """Samples until each value of the grid has been at every place of an input of floats, or at ``ENOUGH`` places."""
    shapes = [_shape(spec, sizes) for spec in signature.inputs if _is_float(spec)]
    return max(
        -(-len(GRID) * min(ENOUGH, count) // (rows * count)) if count else 1
        for rows, count, _ in map(_rows, shapes)
    )


def _says_anything(kind: str, signature: Signature) -> bool:
    return _NEEDS.get(kind, _has_floats)(signature)


def _has_floats(signature: Signature) -> bool:
    return any(_is_float(spec) for spec in signature.inputs)


def _shape(spec: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
    if spec.dims is None:
        raise UsageError(
            f"the rank of input '{spec.name}' is not known",
            remedy=f"Give it with --input {spec.name}:1,3,224,224",
        )
    return tuple(
        dim if isinstance(dim, int) else size_of(symbol_of(spec, axis), sizes)
        for axis, dim in enumerate(spec.dims)
    )


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.kind == "f" or spec.dtype.name == "bfloat16"


def _is_mask(spec: TensorSpec) -> bool:
    return not _is_float(spec) and ("mask" in spec.name.lower() or spec.dtype.kind == "b")


_LENGTH = re.compile(r"len(s|gths?)?(?![a-z])")


def _is_length(spec: TensorSpec) -> bool:
    return spec.dtype.kind in "iu" and _LENGTH.search(spec.name.lower()) is not None


def _measured(signature: Signature, length: TensorSpec, shapes: Shapes) -> list[int]:
    """What lengths may measure, by name alone: the first axis of each other input that is not the lengths' own."""
    own = length.dims[0] if length.dims else None
    found = []
    for spec, shape in zip(signature.inputs, shapes, strict=True):
        if spec.name != length.name and spec.dims and len(spec.dims) > 1:
            axis = next((axis for axis, dim in enumerate(spec.dims[:2]) if dim != own), 1)
            found.append(shape[axis])
    return found


Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _draw(
    kind: str, rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], whole: Whole | None
) -> Array:
    if _is_mask(spec):
        return _mask(kind, rng, shape).astype(spec.dtype)
    if whole is not None:
        ends = [whole.low, whole.high]
        values = (
            rng.choice(ends, shape) if kind == EXTREMES else rng.integers(whole.low, whole.high + 1, shape)
        )
        return np.asarray(values).astype(spec.dtype)
    with np.errstate(over="ignore"):
        return np.asarray(_DRAWS.get(kind, _normal)(rng, shape)).astype(spec.dtype)


_MOST_NUMBERS = 1 << 32
"""Of one input: four thousand millions are no sample any more."""


def _demand_possible(specs: Sequence[TensorSpec], shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse sizes, which a model fixes, at which no input can be made."""
    for spec, shape in zip(specs, shapes, strict=True):
        if math.prod(shape) > _MOST_NUMBERS:
            raise RefusedError(
                "no input can be made of the size that the model asks for",
                where=f"input '{spec.name}'",
                expected=f"at most {_MOST_NUMBERS:,} numbers",
                received=list(shape),
                remedy="Convert it with --no-verify",
            )


def _mask(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Mostly ones, the first of each row among them; for fully masked rows every second row is zeros."""
    mask = rng.random(shape) < 0.7
    if mask.ndim:
        mask[..., :1] = True
    if kind == MASKED and mask.ndim:
        mask[::2] = False
    return mask


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.asarray(rng.standard_normal(shape))


def _special(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal, with two special values in each row but the last, which stays as it is where there are several."""
    array = np.asarray(rng.standard_normal(shape))
    if not array.ndim or not array.size:
        return array
    rows = array.reshape(array.shape[0], -1)
    for position, row in enumerate(rows[: max(len(rows) - 1, 1)]):
        if row.size:
            for offset in range(2):
                row[rng.integers(row.size)] = SPECIAL[(2 * position + offset) % len(SPECIAL)]
    return rows.reshape(shape)


GRID = (0.0, 0.5, -0.5, 0.25, 1.0, -1.0, 1.5, -1.5, -0.25, 2.0, -2.0, 0.75, -0.75, 1.25, -1.25, 1.75, -1.75)
"""Quarters from -2 to 2, those first on which more operators turn."""


def _grid(rng: np.random.Generator, shape: tuple[int, ...], draw: int = 0) -> Array:
    """Values of the grid in any order: in each row every one twice, so that there are ties, and other ones in the next.

    Over as many rows and draws as the grid has values, each place has each of them once (a Latin square).
    """
    rows, count, distinct = _rows(shape)
    first = rng.permutation(np.resize(np.repeat(np.arange(distinct), 2 if count > TIED else 1), count))
    turns = (draw * rows + np.arange(rows)) * (distinct % len(GRID) or 1)
    return np.asarray(np.take(GRID, first + turns[:, None], mode="wrap").reshape(shape))


def _rows(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Rows that differ, the values of each, and how many of these are distinct."""
    rows = max(shape[0], 1) if len(shape) > 1 and math.prod(shape[1:]) > TIED else 1
    count = math.prod(shape) // rows
    return rows, count, min(-(-count // 2) if count > TIED else count, len(GRID))


TIED = 3
"""Values that a row has at most where none of them is there twice."""
ENOUGH = 64
"""Places where a value has been that need not be at every one of them."""

MASKED, EXTREMES, SPECIAL_VALUES, GRIDDED = "fully masked rows", "extremes", "special values", "quarter grid"
KINDS: Mapping[str, Draw] = {
    "normal x 30": lambda rng, shape: 30 * rng.standard_normal(shape),
    GRIDDED: _grid,
    "all negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)) - 0.25,
    "magnitudes": lambda rng, shape: rng.choice((-1.0, 1.0), shape) * 10.0 ** rng.uniform(-4, 2, shape),
    "normal x 1e-3": lambda rng, shape: 1e-3 * rng.standard_normal(shape),
    MASKED: _normal,
    EXTREMES: _normal,
    SPECIAL_VALUES: _special,
}
"""Beside normal: what each finds is in its name (steep parts, ties and roundings, padding, epsilons ...)."""


def _mixed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Each row of another kind, in turn."""
    draws = (_normal, KINDS["all negative"], _grid, KINDS["magnitudes"], _normal, KINDS["normal x 1e-3"])
    array = _normal(rng, shape)
    for place, draw in enumerate(draws[: len(array)] if array.ndim else ()):
        array[place :: len(draws)] = draw(rng, array[place :: len(draws)].shape)
    return array


GRIDDED_AGAIN: Mapping[str, Draw] = {
    f"{GRIDDED} again, draw {draw + 1}": partial(_grid, draw=draw) for draw in range(1, len(GRID))
}
"""Where an input is small: at each place the values that the draws before have left out."""

MIXED, MIXED_AGAIN = "many rows", "many rows again"
MANY: Mapping[str, Draw] = {MIXED: _mixed, "many rows x 30": KINDS["normal x 30"], MIXED_AGAIN: _mixed}
"""Where rows cost little, as many as it takes: what a limit cuts may show in one row of ten, and a class that an epsilon
moves is one in ten thousand (the last, for whole numbers alone); of ids there are no kinds of values to try."""

_NEEDS: Mapping[str, Callable[[Signature], bool]] = {
    MASKED: lambda signature: any(map(_is_mask, signature.inputs)),
    EXTREMES: lambda signature: any(
        spec.dtype.kind in "iu" and not _is_mask(spec) for spec in signature.inputs
    ),
    MIXED: lambda _signature: True,
    MIXED_AGAIN: lambda signature: any(
        spec.dtype.kind in "iu" for spec in (*signature.inputs, *signature.outputs)
    ),
}
"""What a model has of which a kind says something, where that is not an input of floats."""

_DRAWS: Mapping[str, Draw] = {**KINDS, **GRIDDED_AGAIN, **MANY}
"""Every kind that is not just normal."""
