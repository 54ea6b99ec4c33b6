"""Inputs made from a signature: seeded, of several kinds, at several batch sizes and lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.signature import BATCH, Array, Example, Signature, TensorSpec

BATCHES = (1, 2, 5)
SIZES = (32, 40)
"""Sizes tried for a free axis of which no example is given: large enough for a stack of poolings."""

EDGES = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, 2.5, -2.5, 3.0, 6.0, 6.5, -3.5, 1e-3, -1e-3, 20.0, -20.0)
"""Places where activations bend, rounding is halved and epsilons count."""


@dataclass(frozen=True)
class Sample:
    """One set of inputs and how it came about."""

    label: str
    arrays: Mapping[str, Array]


def samples(signature: Signature, given: Sequence[Example] | None = None, seed: int = 0) -> Iterator[Sample]:
    """The given inputs first, then normal, uniform and edge values at each choice of the free sizes."""
    if given is not None:
        yield Sample("given", {e.name: e.array for e in given})
    for sizes in _choices(signature, given):
        for kind, draw in KINDS.items():
            rng = np.random.default_rng([seed, *sizes.values()])
            arrays = {
                spec.name: draw(rng, spec, _shape(spec, sizes), _top(spec, given))
                for spec in signature.inputs
            }
            words = ", ".join(f"{symbol}={size}" for symbol, size in sizes.items())
            yield Sample(f"{kind}, {words}" if words else kind, arrays)


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
                known = (seen[symbol], seen[symbol] + 3) if symbol in seen else SIZES
                options[symbol] = BATCHES if symbol == BATCH else known
    for column in zip_longest(*options.values()):
        yield {
            symbol: sizes[-1] if size is None else size
            for (symbol, sizes), size in zip(options.items(), column, strict=True)
        }
    if not options:
        yield {}


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


def _top(spec: TensorSpec, given: Sequence[Example] | None) -> int:
    """The largest integer that an input may take: what its example shows, or 1 where there is none."""
    for example in given or ():
        if example.name == spec.name and example.array.dtype.kind in "iu" and example.array.size:
            return max(int(example.array.max()), 1)
    return 1


def _normal(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], top: int) -> Array:
    if spec.dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if spec.dtype.kind in "iu":
        return rng.integers(0, top + 1, shape).astype(spec.dtype)
    return rng.standard_normal(shape).astype(spec.dtype)


def _uniform(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], top: int) -> Array:
    if spec.dtype.kind in "biu":
        return _normal(rng, spec, shape, top)
    return rng.uniform(-1, 1, shape).astype(spec.dtype)


def _edges(rng: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...], top: int) -> Array:
    if spec.dtype.kind in "biu":
        return rng.choice([0, top], shape).astype(spec.dtype)
    return rng.choice(EDGES, shape).astype(spec.dtype)


KINDS = {"normal": _normal, "uniform": _uniform, "edges": _edges}
