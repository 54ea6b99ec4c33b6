"""The inputs of a signature: declared names and sizes, met with examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from netferry.converters.errors import Unsupported, UnsupportedError, UsageError
from netferry.converters.signature import BATCH, Dim, Example, TensorSpec
from netferry.converters.tensorflow.graphdef import messages
from netferry.converters.tensorflow.graphdef.model import GraphModel, Port


def own_specs(model: GraphModel) -> tuple[TensorSpec, ...]:
    """What the signature declares: ``batch`` for a free first axis, ``<input>_dim1`` ... for others."""
    return tuple(_spec(model, port) for port in model.signature.inputs)


def _spec(model: GraphModel, port: Port) -> TensorSpec:
    code = port.dtype - 100 if port.dtype > 100 else port.dtype
    if code not in messages.DTYPES:
        what = "strings" if code == messages.STRING else "what is no tensor"
        raise UnsupportedError(
            [
                Unsupported(
                    port.name,
                    "input",
                    f"it takes {what}, which ONNX models do not",
                    "Cut the model behind it",
                )
            ],
            where=model.label,
        )
    return TensorSpec(
        port.name, messages.DTYPES[code], None if port.dims is None else named_dims(port.name, port.dims)
    )


def named_dims(name: str, dims: Sequence[int | None]) -> tuple[Dim, ...]:
    return tuple(
        size if size is not None else BATCH if axis == 0 else f"{name}_dim{axis}"
        for axis, size in enumerate(dims)
    )


def specs_of(
    model: GraphModel, given: Sequence[Example] | None
) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    """The inputs as they will be converted, by name where all names are the signature's, else by position; and notes."""
    own = own_specs(model)
    if given is None:
        return own, ()
    if len(given) != len(own):
        names = ", ".join(spec.name for spec in own)
        raise UsageError("the wrong number of inputs", expected=f"{len(own)} ({names})", received=len(given))
    by_name = {example.name: example for example in given}
    if set(by_name) == {spec.name for spec in own}:
        given = [by_name[spec.name] for spec in own]
    met = [_met(spec, example) for spec, example in zip(own, given, strict=True)]
    return tuple(spec for spec, _ in met), tuple(note for _, notes in met for note in notes)


def _met(own: TensorSpec, example: Example) -> tuple[TensorSpec, list[str]]:
    """One input as the example shows it, within what the signature allows."""
    if own.dims is None:
        return replace(example.spec, dtype=own.dtype), []
    shape = example.array.shape
    fits = len(shape) == len(own.dims) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(own.dims, shape, strict=True)
    )
    if not fits:
        raise UsageError(
            f"input '{example.name}' does not fit the model",
            expected=own,
            received=f"sizes {list(np.shape(example.array))}",
        )
    fixed = [axis for axis in example.free if isinstance(own.dims[axis], int)]
    if fixed and example.asked:
        raise UsageError(
            f"axis {fixed[0]} of input '{example.name}' cannot be free",
            expected=f"{own.dims[fixed[0]]}, the size that the model fixes",
            received=example.free[fixed[0]],
        )
    notes = [f"input '{example.name}': the model fixes axis {axis} at {own.dims[axis]}" for axis in fixed]
    return TensorSpec(example.name, own.dtype, _free(own, example)), notes


def _free(own: TensorSpec, example: Example) -> tuple[Dim, ...]:
    """Where freedom was asked for, nothing else is free; else what the model leaves free stays free."""
    names = named_dims(example.name, [None] * len(own.dims or ()))

    def dim(axis: int, size: Dim) -> Dim:
        if isinstance(size, int):
            return size
        if example.asked:
            return example.free.get(axis, example.array.shape[axis])
        return example.free.get(axis) or names[axis]

    return tuple(dim(axis, size) for axis, size in enumerate(own.dims or ()))
