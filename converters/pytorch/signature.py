"""What a PyTorch model takes and gives, found by running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from netferry.converters import size_bounds
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.pytorch import calling
from netferry.converters.pytorch.live import examples_of, run
from netferry.converters.signature import (
    Array,
    Dim,
    Example,
    InputNames,
    Signature,
    TensorSpec,
)


def signature(model: Any, given: Sequence[Example] | None = None) -> Signature:
    """Inputs as given; outputs as the model gives them when it runs on ``given``.

    An output's size is free where it follows a free axis: the model is run a second time, one larger
    along every free axis, and a size that moved as one symbol did carries that symbol's name.
    """
    given = examples_of(model, given)
    first, larger = run(model, [example.array for example in given]), _larger(given)
    try:
        second = run(model, [_grown(example, larger) for example in given])
    except (RefusedError, UsageError):
        second = first  # the free axes are fixed in truth; the export will say so
    moved = {
        (example.array.shape[axis], larger[symbol]): symbol
        for example in given
        for axis, symbol in example.free.items()
    }

    def dim(before: int, after: int) -> Dim:
        return before if before == after else moved.get((before, after))

    outputs = tuple(
        TensorSpec(name, array.dtype, tuple(map(dim, array.shape, second[name].shape)))
        for name, array in first.items()
    )
    return Signature(tuple(example.spec for example in given), outputs)


def input_names(model: Any) -> InputNames | None:
    """As an exported program or a module that netferry wrote declares them; of other code the parameters of its ``forward``."""
    if isinstance(model, torch.export.ExportedProgram):
        return InputNames(tuple(map(str, model.graph_signature.user_inputs)))
    for declared in (getattr(type(model), "netferry_inputs", None), getattr(model, "input_specs", None)):
        if isinstance(declared, tuple | Mapping):
            return InputNames.given_by_someone(declared)
    if isinstance(model, torch.jit.ScriptModule):
        return InputNames(tuple(calling.parameter_names(model)), declared=False)
    own = None if calling.is_open_ended(model) else calling.parameters(model)
    return None if own is None else InputNames(tuple(own), declared=False)


def _larger(given: Sequence[Example]) -> dict[str, int]:
    """Every free size one larger; one that is named by an expression, as that says."""
    names = {symbol: e.array.shape[axis] for e in given for axis, symbol in e.free.items()}
    plain = {name: size + 1 for name, size in names.items() if not size_bounds.is_composed(name, names)}
    return {name: size_bounds.size_of(name, plain) for name in names}


def _grown(example: Example, sizes: Mapping[str, int]) -> Array:
    """The example's array at larger sizes along its free axes (its last entries more than once)."""
    array = example.array
    if not array.size:
        return np.zeros(
            [sizes.get(example.free.get(axis, ""), size) for axis, size in enumerate(array.shape)],
            array.dtype,
        )
    for axis, symbol in example.free.items():
        array = array.take(np.minimum(np.arange(sizes[symbol]), array.shape[axis] - 1), axis)
    return array
