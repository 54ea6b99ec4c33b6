"""The data that the reference models learn from, as numpy.

Everything is embedded: made here from a seed, or part of scikit-learn. Images are (rows, height, width,
channels); each framework's file moves them to its own layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from netferry.converters.errors import MissingError
from netferry.converters.signature import Array
from netferry.zoo import idx
from netferry.zoo.catalog import ModelSpec

SLOPE, INTERCEPT = 3.0, 2.0
"""The line that ``linear`` must find again."""

HELD_OUT = 0.2
"""The share of rows that training never sees."""


@dataclass(frozen=True)
class Dataset:
    """``x``: float32; ``y``: float32 (rows, 1) of a number or of 0 and 1, int64 (rows,) of classes."""

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array


Rows = tuple[Array, Array]
"""Inputs and targets, row by row."""


def load(spec: ModelSpec, data_dir: Path | None = None) -> Dataset:
    """The data of a model, the same for the same seed.

    The digit models read MNIST's own files where ``data_dir`` holds them (see ``idx``); the other models do
    not look there.
    """
    if spec.data in DIGITS:
        view = DIGITS[spec.data]
        splits = _digits(spec.seed) if data_dir is None else _mnist(data_dir)
        return _dataset(*((view(images), labels) for images, labels in _standardised(*splits, axis=None)))
    return _dataset(*SOURCES[spec.data](spec.seed))


def _dataset(train: Rows, test: Rows) -> Dataset:
    return Dataset(*_typed(train), *_typed(test))


def _typed(rows: Rows) -> Rows:
    """float32 and int64, whole in memory; a target that is one number becomes a column."""
    x, y = rows
    y = y.astype(np.int64) if y.dtype.kind in "iu" else y.astype(np.float32).reshape(-1, 1)
    return np.ascontiguousarray(x, np.float32), y


def _split(x: Array, y: Array, seed: int) -> tuple[Rows, Rows]:
    """Shuffled, the last fifth held out."""
    order = np.random.default_rng(seed).permutation(len(x))
    train, test = np.split(order, [round(len(x) * (1 - HELD_OUT))])
    return (x[train], y[train]), (x[test], y[test])


def _line(seed: int) -> tuple[Rows, Rows]:
    random = np.random.default_rng(seed)
    x = random.uniform(-2, 2, (500, 1))
    return _split(x, SLOPE * x + INTERCEPT + random.normal(0, 0.3, x.shape), seed)


def _diabetes(seed: int) -> tuple[Rows, Rows]:
    """442 patients; the progression of the disease is standardised too, so that a loss near 0.5 is good."""
    x, y = _sklearn_datasets().load_diabetes(return_X_y=True)
    train, test = _standardised(*_split(x, y, seed))
    mean, scale = train[1].mean(), train[1].std()
    return (train[0], (train[1] - mean) / scale), (test[0], (test[1] - mean) / scale)


def _breast_cancer(seed: int) -> tuple[Rows, Rows]:
    x, y = _sklearn_datasets().load_breast_cancer(return_X_y=True)
    return _standardised(*_split(x, y.astype(np.float32), seed))


def _standardised(train: Rows, test: Rows, axis: int | None = 0) -> tuple[Rows, Rows]:
    """To mean 0 and deviation 1, by what the training rows say alone: each feature, or all pixels as one."""
    mean, scale = train[0].mean(axis=axis), train[0].std(axis=axis)
    return ((train[0] - mean) / scale, train[1]), ((test[0] - mean) / scale, test[1])


def _textures(seed: int, count: int = 800, size: int = 32) -> tuple[Rows, Rows]:
    """Coarse waves (0) against fine ones (1): any direction, phase and colour, under noise.

    Both have the same mean and contrast, so that no single pixel tells them apart: a filter must.
    """
    random = np.random.default_rng(seed)
    fine = np.arange(count) % 2

    def each(low: float, high: float, *dims: int) -> Array:
        return random.uniform(low, high, (count, *dims, 1))

    angle = each(0, np.pi, 1)
    length = np.where(fine[:, None, None] == 1, each(3, 5, 1), each(7, 12, 1))
    rows, columns = np.mgrid[:size, :size]
    along = rows * np.cos(angle) + columns * np.sin(angle)
    wave = np.sin(2 * np.pi * along / length + each(0, 2 * np.pi, 1))
    colour = each(0.2, 0.5, 3).reshape(count, 1, 1, 3)
    images = wave[..., None] * colour + random.normal(0, 0.1, (count, size, size, 3))
    return _standardised(*_split(images, fine.astype(np.float32), seed), axis=None)


def _digits(seed: int) -> tuple[Rows, Rows]:
    """scikit-learn's 1,797 real digits, 8 x 8, enlarged to MNIST's 28 x 28."""
    digits = _sklearn_datasets().load_digits()
    return _split(enlarge(digits.images / 16.0, 28), digits.target, seed)


def _mnist(folder: Path) -> tuple[Rows, Rows]:
    train, test = idx.read_mnist(folder)
    return (train[0] / np.float32(255), train[1]), (test[0] / np.float32(255), test[1])


def enlarge(images: Array, size: int) -> Array:
    """Square images (rows, n, n) to (rows, size, size), bilinear, with pixel centres aligned."""
    weights = _interpolation(images.shape[-1], size)
    return np.asarray(weights @ images @ weights.T)


def _interpolation(have: int, want: int) -> Array:
    """The matrix (want, have) that takes one axis to its new size; each row sums to 1."""
    centres = ((np.arange(want) + 0.5) * have / want - 0.5).clip(0, have - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(have)))


def _sklearn_datasets() -> ModuleType:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise MissingError(
            "scikit-learn, whose data the zoo learns from, is not installed",
            remedy='Install it: pip install "netferry[zoo]"',
        ) from error
    return datasets


SOURCES: Mapping[str, Callable[[int], tuple[Rows, Rows]]] = {
    "line": _line,
    "diabetes": _diabetes,
    "breast-cancer": _breast_cancer,
    "textures": _textures,
}

DIGITS: Mapping[str, Callable[[Array], Array]] = {
    "digits": lambda images: images[..., None],
    "digit-rows": lambda images: images,
    "digit-pixels": lambda images: images.reshape(len(images), -1),
}
"""How a model looks at images of digits (rows, 28, 28): as images, row by row, or all pixels at once."""
