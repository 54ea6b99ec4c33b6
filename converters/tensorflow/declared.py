"""What a model of TensorFlow declares of its inputs, met with the examples that it is shown; TensorFlow is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from netferry.converters.errors import UsageError
from netferry.converters.signature import BATCH, Dim, Example, TensorSpec


@dataclass(frozen=True)
class Bound:
    """The inputs as they will be converted, with notes on them."""

    specs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()


def dims_of(name: str, shape: Sequence[int | None]) -> tuple[Dim, ...]:
    """Sizes with a name for each that is free: ``batch`` for the first, ``<input>_dim1`` ... for others."""
    return tuple(
        size if size is not None else BATCH if axis == 0 else f"{name}_dim{axis}"
        for axis, size in enumerate(shape)
    )


def bind(own: Sequence[TensorSpec], given: Sequence[Example] | None, *, integers: bool = True) -> Bound:
    """What the model declares of its inputs, met with the examples: by name where all names are its own,
    else by position. ``integers`` stay integers where it declares floats: Keras casts what it is given."""
    if given is None:
        return Bound(tuple(own))
    if len(given) != len(own):
        names = ", ".join(spec.name for spec in own)
        raise UsageError("the wrong number of inputs", expected=f"{len(own)} ({names})", received=len(given))
    by_name = {example.name: example for example in given}
    if set(by_name) == {spec.name for spec in own}:
        given = [by_name[spec.name] for spec in own]
    met = [_met(spec, example, integers) for spec, example in zip(own, given, strict=True)]
    return Bound(tuple(spec for spec, _ in met), tuple(note for _, notes in met for note in notes))


def _met(own: TensorSpec, example: Example, integers: bool) -> tuple[TensorSpec, list[str]]:
    """One input as the example shows it, within what the model allows."""
    shown = example.array.dtype
    dtype = shown if integers and shown.kind in "iu" and own.dtype.kind == "f" else own.dtype
    if own.dims is None:
        return replace(example.spec, dtype=dtype), []
    shape = example.array.shape
    fits = len(shape) == len(own.dims) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(own.dims, shape, strict=True)
    )
    if not fits:
        raise UsageError(
            f"input '{example.name}' does not fit the model", expected=own, received=f"sizes {list(shape)}"
        )
    fixed = [axis for axis in example.free if isinstance(own.dims[axis], int)]
    if fixed and example.asked:
        raise UsageError(
            f"axis {fixed[0]} of input '{example.name}' cannot be free",
            expected=f"{own.dims[fixed[0]]}, the size that the model fixes",
            received=example.free[fixed[0]],
        )
    notes = [f"input '{example.name}': the model fixes axis {axis} at {own.dims[axis]}" for axis in fixed]
    return TensorSpec(example.name, dtype, _free_dims(own, example)), notes


def _free_dims(own: TensorSpec, example: Example) -> tuple[Dim, ...]:
    """Where freedom was asked for, nothing else is free; else what the model leaves free stays free."""

    def dim(axis: int, size: Dim) -> Dim:
        if isinstance(size, int):
            return size
        if example.asked:
            return example.free.get(axis, example.array.shape[axis])
        return example.free.get(axis) or dims_of(example.name, [None] * (axis + 1))[axis]

    return tuple(dim(axis, size) for axis, size in enumerate(own.dims or ()))
