"""Random generators that belong to everyone, and settings of PyTorch's that a model's code can change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

GENERATORS: Mapping[type, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    random.SystemRandom: (lambda _: None, lambda _, __: None),
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.Generator: (lambda g: g.bit_generator.state, lambda g, s: setattr(g.bit_generator, "state", s)),
    np.random.RandomState: (lambda g: g.get_state(legacy=False), lambda g, s: g.set_state(s)),
    torch.Generator: (lambda g: g.get_state(), lambda g, s: g.set_state(s)),
}
"""How the state of a random generator is read and set."""


def random_generators() -> list[Any]:
    """Those that belong to everyone."""
    devices = torch.cuda.default_generators if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    own = (random._inst, np.random.mtrand._rand, torch.default_generator)  # type: ignore[attr-defined]
    return [*own, *devices]


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Numbers that are drawn inside continue where the last ones inside ended, so that no two runs draw the same."""
    generators = [
        (one, *next(row for kind, row in GENERATORS.items() if isinstance(one, kind)))
        for one in random_generators()
    ]
    before = [get(one) for one, get, _ in generators]
    for one, _, set_ in generators:
        if id(one) in _DRAWN:
            set_(one, _DRAWN[id(one)])
    try:
        yield
    finally:
        for (one, get, set_), state in zip(generators, before, strict=True):
            if not equal_states(get(one), state):
                _DRAWN[id(one)] = get(one)
                set_(one, state)


_DRAWN: dict[int, Any] = {}
"""States of everyone's generators, as the last run has left them."""


def equal_states(a: Any, b: Any) -> bool:
    """Whether two states of a generator are one."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal_states(value, b[name]) for name, value in a.items())
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
    (torch.is_grad_enabled, torch._C._set_grad_enabled),
)
"""Settings of PyTorch's that code can change and forget."""
