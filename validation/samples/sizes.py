"""The sizes at which free axes are tried, found by asking the source where it runs.

A free axis is a promise. So each gets several sizes, other axes meanwhile other ones, until the source takes them;
what the source never took at two sizes was not checked, and the report names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from math import ceil

from netferry.converters.signature import BATCH, LADDER, Array, Example, Signature, TensorSpec
from netferry.converters.size_bounds import is_composed

Sizes = Mapping[str, int]
"""Symbol -> size: one choice for every free axis."""
Accepts = Callable[[Sizes], bool]
"""Whether the source runs at these sizes."""
Heavy = Callable[[Sizes, Sizes], bool]
"""Whether sizes cost too much, beside the usual ones."""

BATCHES = (1, 2, 16)
FEWER_ROWS = (8, 4, 3)
"""Batches instead of 16 where it costs too much."""

MANY_ROWS = (128, 64, 32)
"""Rows that are looked at where they cost little."""

FACTORS = (1.5, 2.0, 1.25, 1.75)
"""Of the usual size; each axis gets another one."""
SMALLER = (0.75, 0.5)
MULTIPLES = (1, 8, 16, 32, 64)
"""Sizes are rounded up to these where the source refuses others (a stack of strides)."""
ODD = 3
"""Added to every size: what is no multiple of anything."""
LONG = 24
"""Where the usual size is short, this one is tried too: some faults begin beyond 16."""

MOST_TRIES = 200
"""Refusals after which no further sizes are looked for: for those at which it runs at all, then for others."""
_MIXED = (1, 8, 32, 128, 512, 4096, 16000)
"""Sizes that are tried in all combinations, where none fits all axes at once."""


@dataclass(frozen=True)
class Explored:
    """Where the source runs: the ``usual`` sizes, other batches, other extents; none is there twice.

    ``small`` are those at which every kind of values is tried; ``many`` is the largest batch.
    """

    usual: Sizes
    small: tuple[Sizes, ...]
    rows: tuple[Sizes, ...] = ()
    extents: tuple[Sizes, ...] = ()
    many: tuple[Sizes, ...] = ()


def symbol_of(spec: TensorSpec, axis: int) -> str:
    """The name of a free axis; one without a name gets its own."""
    dim = spec.dims[axis] if spec.dims else None
    return dim if isinstance(dim, str) else f"{spec.name}_dim{axis}"


def symbols(signature: Signature) -> dict[str, list[tuple[str, int]]]:
    """Every free axis by its symbol: the inputs and their axes that have it; none whose size others decide."""
    found: dict[str, list[tuple[str, int]]] = {}
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.dims or ()):
            if not isinstance(dim, int):
                found.setdefault(symbol_of(spec, axis), []).append((spec.name, axis))
    return {symbol: axes for symbol, axes in found.items() if not is_composed(symbol, found)}


def sizes_of(signature: Signature, arrays: Mapping[str, Array]) -> dict[str, int]:
    """What each free axis is in these arrays."""
    return {
        symbol: arrays[name].shape[axis]
        for symbol, axes in symbols(signature).items()
        for name, axis in axes[:1]
        if name in arrays and axis < arrays[name].ndim
    }


def batches_of(signature: Signature) -> set[str]:
    """The symbols that are the batch: the one of that name, else whatever leads an input.

    Where what leads an input stands further back in another one (lengths of each row beside time-major sequences),
    what leads that one is no batch.
    """
    named = [
        [
            symbol_of(spec, axis) if not isinstance(dim, int) else ""
            for axis, dim in enumerate(spec.dims or ())
        ]
        for spec in signature.inputs
    ]
    leaders = {symbols_[0] for symbols_ in named if symbols_} - {""}
    found = set()
    for own in named:
        if BATCH in own:
            found.add(BATCH)
        elif own and own[0] and not (leaders - {own[0]}) & set(own[1:]):
            found.add(own[0])
    return found


def untried(signature: Signature, given: Sequence[Example] | None = None) -> Explored:
    """The sizes that would be tried first, where there is no source to ask."""
    return explored(signature, given, lambda _sizes: True)


def explored(
    signature: Signature,
    given: Sequence[Example] | None,
    accepts: Accepts,
    heavy: Heavy = lambda _sizes, _usual: False,
) -> Explored:
    """Sizes for every free axis at which the source runs; ``heavy`` are those that cost too much beside the usual."""
    return _Search(signature, given, accepts, heavy).run()


@dataclass
class _Search:
    signature: Signature
    given: Sequence[Example] | None
    accepts: Accepts
    heavy: Heavy
    refusals: int = 0
    answers: dict[tuple[tuple[str, int], ...], bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = list(symbols(self.signature))
        self.batch = batches_of(self.signature)
        shown = {example.name: example.array for example in self.given or ()}
        self.seen = sizes_of(self.signature, shown)
        self.two_rows: Sizes = {}
        self.free = [name for name in self.names if name not in self.batch]

    def run(self) -> Explored:
        usual = self._usual() if self.names else {}
        if usual is None:
            first = self._at(LADDER[0], 2)
            return Explored(first, (first,))
        self.two_rows, self.refusals = usual, 0
        rows = _unique([usual, *self._rows(usual)])
        single = next((sizes for sizes in rows if self._leads(sizes, 1)), usual)
        chosen = _unique([*rows, *self._extents(single)])
        extents, many = tuple(chosen[len(rows) :]), tuple(self._many(usual))
        if self.heavy(usual, dict.fromkeys(self.names, 1)):
            return Explored(single, (single,), tuple(one for one in rows if one != single), extents, many)
        return Explored(usual, tuple(_unique([single, usual])), tuple(rows[1:]), extents, many)

    def _runs(self, sizes: Sizes) -> bool:
        key = tuple(sorted(sizes.items()))
        if key not in self.answers:
            if self.refusals >= MOST_TRIES:
                return False
            self.answers[key] = self.accepts(sizes)
            self.refusals += not self.answers[key]
        return self.answers[key]

    def _at(self, size: int, rows: int) -> dict[str, int]:
        """Every axis that no example shows at one size."""
        return {name: rows if name in self.batch else self.seen.get(name, size) for name in self.names}

    def _leads(self, sizes: Sizes, rows: int) -> bool:
        return all(sizes[name] == rows for name in self.batch)

    # ---- where it runs at all ----------------------------------------------------------------------------

    def _usual(self) -> dict[str, int] | None:
        return next((sizes for sizes in self._starts() if self._runs(sizes)), None)

    def _starts(self) -> Iterator[dict[str, int]]:
        """32 everywhere, in two rows, in one; then other sizes; then leading axes that are no batch; then mixtures."""
        for size in LADDER:
            yield self._at(size, 2)
            yield self._at(size, 1)
            if all(name in self.seen for name in self.free):
                break
        yield {**self._at(LADDER[0], 2), **self.seen}
        for size in LADDER:
            yield {name: self.seen.get(name, size) for name in self.names}
        hidden = [name for name in self.free if name not in self.seen][:3]
        for mixture in product(_MIXED, repeat=len(hidden)) if len(hidden) > 1 else ():
            for rows in (2, 1):
                yield {**self._at(LADDER[0], rows), **dict(zip(hidden, mixture, strict=True))}

    # ---- other sizes -------------------------------------------------------------------------------------

    def _rows(self, usual: Sizes) -> Iterator[dict[str, int]]:
        """Other batches: one row, two, and 16 or as many as may be."""
        for rows in BATCHES if self.batch else ():
            for fewer in (rows, *(FEWER_ROWS if rows == max(BATCHES) else ())):
                sizes = {name: fewer if name in self.batch else size for name, size in usual.items()}
                if not self.heavy(sizes, self.two_rows) and self._runs(sizes):
                    yield sizes
                    break
        if self.batch and len({tuple(sizes.items()) for sizes in self._accepted(self.batch, usual)}) < 2:
            yield from self._alone(usual, sorted(self.batch))

    def _many(self, usual: Sizes) -> Iterator[Sizes]:
        """As many rows as do not cost too much, where the batch is free."""
        if self.batch:
            wishes = ({**usual, **dict.fromkeys(self.batch, rows)} for rows in MANY_ROWS)
            yield from islice((sizes for sizes in wishes if self._fits(sizes, usual)), 1)

    def _accepted(self, names: set[str], usual: Sizes) -> Iterator[dict[str, int]]:
        for key, runs in self.answers.items():
            sizes = dict(key)
            if runs and all(sizes[name] == usual[name] for name in sizes if name not in names):
                yield {name: sizes[name] for name in names}

    def _extents(self, single: Sizes) -> Iterator[dict[str, int]]:
        """Each free axis at other sizes than the usual one, and than its neighbours'."""
        if not self.free:
            return
        found = []
        for turn in (0, 1):
            sizes = next((wish for wish in self._wishes(single, turn) if self._fits(wish, single)), None)
            if sizes is not None:
                found.append(sizes)
        moved = {name for sizes in found for name in self.free if sizes[name] != single[name]}
        yield from found
        yield from self._alone(single, [name for name in self.free if name not in moved])
        for wish in self._odd(single):
            if self._fits(wish, single):
                yield wish

    def _wishes(self, single: Sizes, turn: int) -> Iterator[dict[str, int]]:
        """Another factor for each axis; then one for all, where sizes are tied to each other; then smaller ones."""
        for factors in (FACTORS, SMALLER):
            count = min(max(len(self.free), 2), len(factors))
            different = [factors[(position + turn) % count] for position in range(len(self.free))]
            for chosen in (different, [factors[turn]] * len(self.free)):
                for multiple in MULTIPLES:
                    yield self._scaled(single, chosen, multiple)

    def _scaled(self, single: Sizes, factors: Sequence[float], multiple: int) -> dict[str, int]:
        made = dict(single)
        for name, factor in zip(self.free, factors, strict=True):
            made[name] = max(ceil(single[name] * factor / multiple) * multiple, 1)
            if made[name] == single[name]:
                made[name] += multiple
        return made

    def _odd(self, single: Sizes) -> Iterator[dict[str, int]]:
        yield {**single, **{name: single[name] + ODD for name in self.free}}
        if any(single[name] < LONG - 8 for name in self.free):
            yield {**single, **{name: max(LONG, single[name]) for name in self.free}}

    def _alone(self, usual: Sizes, names: Sequence[str]) -> Iterator[dict[str, int]]:
        """One axis after the other, the rest as usual: larger, smaller, one more, one less."""
        for name in names:
            size = usual[name]
            wishes = [
                *(ceil(size * factor / m) * m for factor in FACTORS[:2] for m in MULTIPLES),
                *(max(int(size * factor), 1) for factor in SMALLER), size + 1, max(size - 1, 1),
            ]  # fmt: skip
            fitting = ({**usual, name: wish} for wish in dict.fromkeys(wishes) if wish != size)
            found = next((sizes for sizes in fitting if self._fits(sizes, usual)), None)
            if found is not None:
                yield found

    def _fits(self, sizes: Sizes, usual: Sizes) -> bool:
        return sizes != usual and not self.heavy(sizes, self.two_rows) and self._runs(sizes)


def _unique(choices: Sequence[Sizes]) -> list[Sizes]:
    return list({tuple(sorted(sizes.items())): sizes for sizes in choices}.values())
