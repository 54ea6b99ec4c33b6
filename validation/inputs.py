"""Inputs made from a signature: seeded, of the kinds that find faults, at several batch sizes and lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import BATCH, Array, Example, Signature, TensorSpec

BATCHES = (1, 2, 16)
SIZES = (32, 40)
"""Sizes tried for a free axis of which no example is given: large enough for a stack of poolings."""
LONG = 24
"""Where an example is short, a free axis is tried at this size too: some faults begin beyond 16."""

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 65504.0, 1e-40)
"""Values that kernels treat apart; each row of a batch gets one, so that the other rows still tell something."""


@dataclass(frozen=True)
class Sample:
    """One set of inputs and how it came about."""

    label: str
    arrays: Mapping[str, Array]


def samples(
    signature: Signature,
    given: Sequence[Example] | None = None,
    seed: int = 0,
    *,
    quick: bool = False,
    tops: Mapping[str, int] | None = None,
) -> Iterator[Sample]:
    """The given inputs first, then normal ones at each choice of the free sizes, then the kinds that find faults.

    ``tops`` are the largest integers that inputs may take. ``quick`` leaves all but the first of each out.
    """
    if given is not None:
        yield Sample("given", {e.name: e.array for e in given})
    choices = list(_choices(signature, given))
    for kind, sizes in _plan(signature, choices, quick):
        rng = np.random.default_rng([seed, *kind.encode(), *sizes.values()])
        arrays = {
            spec.name: _draw(kind, rng, spec, _shape(spec, sizes), _top(spec, given, tops or {}))
            for spec in signature.inputs
        }
        words = ", ".join(f"{symbol}={size}" for symbol, size in sizes.items())
        yield Sample(f"{kind}, {words}" if words else kind, arrays)


def _plan(
    signature: Signature, choices: Sequence[dict[str, int]], quick: bool
) -> Iterator[tuple[str, dict[str, int]]]:
    """Each kind with the sizes it is tried at: normal at all, the others at the small ones in turn."""
    small = choices[:2]
    yield "normal", small[-1]
    kinds = [kind for kind in KINDS if _says_anything(kind, signature)]
    for place, kind in enumerate(kinds[:2] if quick else kinds):
        yield kind, small[place % len(small)]
    yield from (("normal", sizes) for sizes in (choices[:1] if len(choices) > 1 else []))
    if not quick:
        yield from (("normal", sizes) for sizes in choices[2:])


def _says_anything(kind: str, signature: Signature) -> bool:
    if kind == MASKED:
        return any(_is_mask(spec) for spec in signature.inputs)
    if kind == EXTREMES:
        return any(spec.dtype.kind in "iu" and not _is_mask(spec) for spec in signature.inputs)
    return any(_is_float(spec) for spec in signature.inputs)


def _choices(signature: Signature, given: Sequence[Example] | None) -> Iterator[dict[str, int]]:
    """Sizes for every free axis: the first of each, then the second of each, and so on."""
    seen = {
        symbol: example.array.shape[axis] for example in given or () for axis, symbol in example.free.items()
    }
    options: dict[str, tuple[int, ...]] = {}
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.dims or ()):
            if not isinstance(dim, int):
                symbol = symbol_of(spec, axis)
                known = _lengths(seen[symbol]) if symbol in seen else SIZES
                options[symbol] = BATCHES if symbol == BATCH else known
    for column in zip_longest(*options.values()):
        yield {
            symbol: sizes[-1] if size is None else size
            for (symbol, sizes), size in zip(options.items(), column, strict=True)
        }
    if not options:
        yield {}


def _lengths(seen: int) -> tuple[int, ...]:
    return (seen, seen + 3) if seen + 3 > LONG - 8 else (seen, seen + 3, LONG)


def symbol_of(spec: TensorSpec, axis: int) -> str:
    """The name of a free axis; one without a name gets its own."""
    dim = spec.dims[axis] if spec.dims else None
    return dim if isinstance(dim, str) else f"{spec.name}_dim{axis}"


def _shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if spec.dims is None:
        raise UsageError(
            f"the rank of input '{spec.name}' is not known",
            remedy=f"Say it with --input {spec.name}:1,3,224,224",
        )
    return tuple(
        dim if isinstance(dim, int) else sizes[symbol_of(spec, axis)] for axis, dim in enumerate(spec.dims)
    )


def _top(spec: TensorSpec, given: Sequence[Example] | None, tops: Mapping[str, int]) -> int:
    """The largest integer that an input may take: what is known of it, what its example shows, or 1."""
    shown = [
        e.array for e in given or () if e.name == spec.name and e.array.dtype.kind in "iu" and e.array.size
    ]
    largest = max([int(array.max()) for array in shown] + [1])
    return max(largest, tops.get(spec.name, 0)) if not _is_mask(spec) else min(largest, 1)


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.kind == "f" or spec.dtype.name == "bfloat16"


def _is_mask(spec: TensorSpec) -> bool:
    return not _is_float(spec) and ("mask" in spec.name.lower() or spec.dtype.kind == "b")


Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def _draw(kind: str, rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], top: int) -> Array:
    if _is_mask(spec):
        return _mask(kind, rng, shape).astype(spec.dtype)
    if spec.dtype.kind in "iu":
        values = rng.choice([0, top], shape) if kind == EXTREMES else rng.integers(0, top + 1, shape)
        return values.astype(spec.dtype)
    with np.errstate(over="ignore"):
        return np.asarray(KINDS.get(kind, _normal)(rng, shape)).astype(spec.dtype)


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
    if not array.ndim:
        return array
    rows = array.reshape(array.shape[0], -1)
    for place, row in enumerate(rows[: max(len(rows) - 1, 1)]):
        if row.size:
            for offset in range(2):
                row[rng.integers(row.size)] = SPECIAL[(2 * place + offset) % len(SPECIAL)]
    return rows.reshape(shape)


MASKED, EXTREMES, SPECIAL_VALUES = "fully masked rows", "extremes", "special values"
KINDS: Mapping[str, Draw] = {
    "normal x 30": lambda rng, shape: 30 * rng.standard_normal(shape),
    "quarter grid": lambda rng, shape: np.clip(rng.integers(-24, 25, shape) / 4, -2, 2),
    "all negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)) - 0.25,
    "normal x 1e-3": lambda rng, shape: 1e-3 * rng.standard_normal(shape),
    MASKED: _normal,
    EXTREMES: _normal,
    SPECIAL_VALUES: _special,
}
"""Beside normal: what each finds is in its name (steep places, ties and roundings, padding, epsilons ...)."""
