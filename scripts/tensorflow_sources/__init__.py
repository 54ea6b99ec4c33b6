"""Models as people of TensorFlow have them, built small: Keras in all its forms, SavedModels, graphs of TensorFlow 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Source:
    """``given`` is what is converted; ``function`` is TensorFlow's own, and gives what is right for each of ``feeds``.

    ``keras`` is the model whose own export is tried, where it is one; ``outputs`` are asked for by name, where they must be.
    """

    given: Any
    function: Callable[..., Any]
    feeds: Sequence[Feeds]
    keras: Any = None
    outputs: Sequence[str] = ()


Build = Callable[[Path], Source]
FAMILIES: dict[str, dict[str, Build]] = {}
"""What is tried: family, then name, then what builds it in a folder of its own."""


def floats(*sizes: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(sizes).astype(np.float32)


def integers(most: int, *sizes: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, most, sizes).astype(np.int32)


def randomised(model: Any, keyword: str = "variance") -> Any:
    """Every weight at random, so that one that is lost or swapped shows."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        name = getattr(variable, "path", variable.name)
        if "seed" in name or "float" not in str(variable.dtype):
            continue
        value = rng.standard_normal(variable.shape) * 0.4
        variable.assign((np.abs(value) + 0.5 if keyword in name else value).astype(np.float32))
    return model
