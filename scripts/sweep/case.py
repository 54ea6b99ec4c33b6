"""What the sweep is made of: networks, what goes into them, and pairs of models whose right verdict is known."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes  # noqa: F401 - teaches numpy bfloat16
import numpy as np

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
Dims = tuple[int | str, ...]

SIZES: Mapping[str, tuple[int, ...]] = {
    "batch": (2, 3, 5), "time": (7, 9, 21), "height": (9, 12, 16), "width": (10, 12, 15),
}  # fmt: skip
"""What a free axis is tried at; the first is that of the example."""


@dataclass(frozen=True)
class Input:
    """One input: sizes (a word is a free axis), dtype, and, of integers, the largest (0 and more are drawn)."""

    name: str
    dims: Dims
    dtype: str = "float32"
    top: int = 1

    def shape(self, place: int) -> tuple[int, ...]:
        return tuple(d if isinstance(d, int) else SIZES[d][place] for d in self.dims)


@dataclass(frozen=True)
class Network:
    """A model with random weights, the same at every call of ``make``."""

    name: str
    framework: str
    field: str
    make: Callable[[], Any] = field(repr=False)
    inputs: tuple[Input, ...] = ()
    precision: str = "float32"
    whole: bool = True
    """A whole architecture rather than one operator."""

    @property
    def dynamic(self) -> dict[str, dict[int, str]]:
        return {
            one.name: {axis: dim for axis, dim in enumerate(one.dims) if isinstance(dim, str)}
            for one in self.inputs
        }

    @property
    def example(self) -> Feed:
        return next(feeds(self))[1]


@dataclass
class Pair:
    """Two models, what is known of their inputs, and the control: what ``target`` is before the fault.

    ``inputs`` and ``dynamic`` are what ``netferry.verify`` is called with; None where the models say it themselves.
    ``verdict`` replaces the call of ``verify`` (a conversion that verifies itself).
    """

    source: Any
    target: Any
    network: Network
    control: Any = None
    special: bool = False
    verdict: Callable[[], Any] | None = None
    feeds: Callable[[], Iterator[tuple[str, Feed]]] | None = None

    def drawn(self) -> Iterator[tuple[str, Feed]]:
        return self.feeds() if self.feeds else feeds(self.network, special=self.special)


Build = Callable[[], Pair | None]
"""Makes a pair; None where it does not apply after all."""


@dataclass(frozen=True)
class Case:
    """One line of the results: ``half`` is faults or honest."""

    half: str
    kind: str
    name: str
    build: Build = field(repr=False)
    field: str = ""
    whole: bool = True

    @property
    def quick(self) -> bool:
        """Whether neither TensorFlow nor MXNet takes part."""
        return not any(word in self.name for word in ("tensorflow", "mxnet", "keras"))

    @property
    def key(self) -> str:
        return f"{self.half}/{self.kind}/{self.name}"


@dataclass(frozen=True)
class Group:
    """Cases that share a process: ``cases`` makes them, in the same order each time.

    ``quick``: making them needs neither TensorFlow nor MXNet, and none is large.
    """

    name: str
    half: str
    cases: Callable[[], Iterator[Case]] = field(repr=False)
    quick: bool = True


def chosen(key: str, share: float, seed: int) -> bool:
    """A seeded share of the cases."""
    return share >= 1 or zlib.crc32(f"{seed}:{key}".encode()) / 2**32 < share


def some(candidates: list[Any], count: int, *seed: object) -> list[Any]:
    """A seeded few of the candidates, in their order."""
    places = sorted(random.Random(str(seed)).sample(range(len(candidates)), min(count, len(candidates))))
    return [candidates[place] for place in places]


# ---- inputs, none of them netferry's -----------------------------------------------------------------

Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]

KINDS: Mapping[str, Draw] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "x 30": lambda rng, shape: 30 * rng.standard_normal(shape),
    "negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)) - 0.1,
    "small": lambda rng, shape: 1e-3 * rng.standard_normal(shape),
    "grid": lambda rng, shape: rng.integers(-6, 7, shape) / 4,
}
PLAIN = (("normal", 0), ("normal", 1), ("normal", 2), ("grid", 0), ("x 30", 0), ("negative", 1), ("small", 0))
"""Kinds and sizes at which honest pairs are held together."""

SPECIAL = "special values"
"""NaN among normal numbers."""


def feeds(network: Network, *, special: bool = False, plain: bool = False) -> Iterator[tuple[str, Feed]]:
    """Normal inputs at each size first, then the other kinds at the first two sizes."""
    places = [("normal", place) for place in range(3)]
    places += [(kind, place % 2) for place, kind in enumerate(KINDS) if kind != "normal"]
    for kind, place in PLAIN if plain else places:
        yield f"{kind}, size {place}", _drawn(network, kind, place)
    if special:
        yield SPECIAL, _drawn(network, "special", 0)


def _drawn(network: Network, kind: str, place: int) -> Feed:
    return {one.name: _array(network.name, one, kind, place) for one in network.inputs}


def _array(name: str, one: Input, kind: str, place: int) -> Array:
    rng = np.random.default_rng(zlib.crc32(f"{name} {one.name} {kind} {place}".encode()))
    shape, dtype = one.shape(place), np.dtype(one.dtype)
    if dtype.kind == "b":
        mask = rng.random(shape) < 0.6
        mask[..., :1] = True
        return mask
    if dtype.kind in "iu":
        low = -one.top if dtype.kind == "i" and "signed" in one.name else 0
        return rng.integers(low, one.top + 1, shape).astype(dtype)
    if kind == "special":
        array = rng.standard_normal(shape)
        array.reshape(-1)[:: max(array.size // 6, 1)] = np.nan
        return array.astype(dtype)
    return np.asarray(KINDS[kind](rng, shape)).astype(dtype)
