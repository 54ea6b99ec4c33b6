"""What rows are to a model: whether it has an output for each row of its input, and whether each keeps to its own row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.signature import Array, Signature, TensorSpec

Arrays = Mapping[str, Array]

MIXED = 0.2
"""RMS difference of a row alone from the same row among others, in the output's RMS, from which rows are mixed.

Dynamic int8 takes its scale from the whole batch, and moves a row by up to 0.1; a recurrent network or a
normalisation along the batch moves it by about 1.
"""

EXACT = "biuOSU"
"""Kinds of dtypes, numbers of which are the same or not."""


def fixed_batch(signature: Signature) -> int | None:
    """How many rows the model takes at once where it takes just so many."""
    sizes = {spec.dims[0] for spec in signature.inputs if spec.dims and isinstance(spec.dims[0], int)}
    return next(iter(sizes)) if len(sizes) == 1 else None


def rows_are_free(signature: Signature) -> bool:
    """Whether the first axis of every input and output may have any size."""
    specs = (*signature.inputs, *signature.outputs)
    return all(spec.dims and not isinstance(spec.dims[0], int) for spec in specs)


def has_rows(spec: TensorSpec, batch: int) -> bool:
    """Whether an output can have a row for each of ``batch`` rows, as far as its sizes are known."""
    return spec.dims is None or (
        len(spec.dims) > 0 and (not isinstance(spec.dims[0], int) or spec.dims[0] == batch)
    )


def demand_rows(signature: Signature, batch: int, model: str) -> None:
    """Refuse a model whose outputs are known to hold no row for each row; alone, every row has its outputs."""
    fixed = fixed_batch(signature)
    for spec in signature.outputs:
        free_in_fixed_out = fixed is None and spec.dims and isinstance(spec.dims[0], int)
        if batch > 1 and (free_in_fixed_out or not has_rows(spec, batch)):
            raise no_rows(spec.name, spec.dims, model)


def rowless(outputs: Arrays, rows: int) -> str | None:
    """The first of ``outputs`` that does not hold ``rows`` rows."""
    return next((name for name, array in outputs.items() if array.ndim == 0 or len(array) != rows), None)


def no_rows(name: str, shape: object, model: str) -> RefusedError:
    return RefusedError(
        f"output '{name}' has no row for each row of the input",
        where=model,
        received=shape,
        remedy="Run its rows one by one with --batch 1",
    )


def mixed(run: Callable[[Arrays], Arrays], inputs: Arrays, outputs: Arrays) -> str | None:
    """The first of ``outputs`` in which a row depends on the rows beside it, as the first axis of time does.

    The first, the middle and the last row are run alone; half of them must differ, since a network that reads
    forwards leaves the first row as it was, and rounding may change the class of one.
    """
    rows = len(next(iter(inputs.values())))
    asked = sorted({0, rows // 2, rows - 1})
    if len(asked) < 2:
        return None
    alone = [run({name: array[row : row + 1] for name, array in inputs.items()}) for row in asked]
    for name, together in outputs.items():
        pairs = [(together[row], one[name][0]) for row, one in zip(asked, alone, strict=True)]
        if any(left.shape != right.shape for left, right in pairs):
            continue  # sizes that depend on the data reveal nothing about its numbers
        scale = 0.0 if together.dtype.kind in EXACT else _rms(together)
        if sum(_differ(left, right, scale) for left, right in pairs) * 2 >= len(pairs):
            return name
    return None


def _differ(left: Array, right: Array, scale: float) -> bool:
    if left.dtype.kind in EXACT:
        return not np.array_equal(left, right)
    left, right = _wide(left), _wide(right)
    finite = np.isfinite(left)
    if not np.array_equal(finite, np.isfinite(right)):
        return True
    return _rms(left[finite] - right[finite]) > MIXED * scale


def _rms(array: Array) -> float:
    """Of the finite numbers."""
    sizes = np.abs(_wide(array))
    finite = sizes[np.isfinite(sizes)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0


def _wide(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)
