"""The register of networks: each is a function of mxnet that builds a symbol or a block, with what it reads and how it was saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netferry.converters.signature import Array

B = "batch"
"""The size that differs from run to run."""

Dims = Sequence[int | str]
Build = Callable[[Any], Any]


@dataclass(frozen=True)
class Feed:
    """An input: numbers around 0, images from 0 to 255, or whole numbers below ``below``."""

    dims: Dims
    below: int = 0
    image: bool = False

    def drawn(self, batch: int, seed: int) -> Array:
        rng = np.random.default_rng([batch, seed])
        dims = [batch if size == B else int(size) for size in self.dims]
        if self.below:
            return rng.integers(0, self.below, dims).astype(np.float32)
        if self.image:
            return rng.uniform(0, 255, dims).astype(np.float32)
        return rng.normal(0.1, 1, dims).astype(np.float32)

    @property
    def free(self) -> dict[int, str]:
        return {axis: B for axis, size in enumerate(self.dims) if size == B}


def numbers(*dims: int | str) -> Feed:
    return Feed(dims)


def images(channels: int, height: int, width: int) -> Feed:
    return Feed((B, channels, height, width), image=True)


def whole(below: int, *dims: int | str) -> Feed:
    return Feed(dims, below=below)


@dataclass(frozen=True)
class Network:
    """``form``: how it is saved (``worker.FORMS``); ``labels``: sizes of those that MXNet does not infer; ``kept``: the
    outputs that inference keeps, where it does not keep all; ``refused``: what the refusal says; ``scale``: of the weights."""

    name: str
    kind: str
    build: Build
    inputs: Mapping[str, Feed]
    form: str
    labels: Mapping[str, Dims] = field(default_factory=dict)
    kept: tuple[str, ...] | None = None
    refused: str = ""
    scale: float = 1.0

    def feeds(self, batch: int) -> dict[str, Array]:
        return {name: feed.drawn(batch, seed) for seed, (name, feed) in enumerate(self.inputs.items(), 1)}


NETWORKS: dict[str, Network] = {}


def network(
    kind: str,
    form: str = "checkpoint",
    *,
    labels: Mapping[str, Dims] | None = None,
    kept: tuple[str, ...] | None = None,
    refused: str = "",
    scale: float = 1.0,
    **inputs: Feed,
) -> Callable[[Build], Build]:
    """Register the function below as a network of a field."""

    def register(build: Build) -> Build:
        name = build.__name__
        assert name not in NETWORKS
        NETWORKS[name] = Network(name, kind, build, inputs, form, labels or {}, kept, refused, scale)
        return build

    return register
