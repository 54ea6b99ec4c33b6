"""Names and sizes of inputs and outputs, and what examples show of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import BATCH, Dim, Example, Signature, TensorSpec
from netferry.converters.tensorflow.names import served_name
from netferry.converters.tensorflow.runtime import Functional, KerasTensor, tf, tree

Named = dict[str, Any]
"""Tensors under the names of the outputs, in their order."""


@dataclass(frozen=True)
class Bound:
    """The inputs as they will be converted, with notes on them."""

    specs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()


def named_outputs(result: Any) -> Named:
    """A mapping's values under its keys, others as ``output_0``, ``output_1`` ..., as SavedModels do it."""
    if isinstance(result, Mapping) and not any(
        isinstance(value, Mapping | list | tuple) for value in result.values()
    ):
        return {str(key): value for key, value in result.items()}
    flat = [tensor for tensor in tf.nest.flatten(result) if tensor is not None]
    return {f"output_{position}": tensor for position, tensor in enumerate(flat)}


def tensor_specs(inputs: Sequence[TensorSpec]) -> list[Any]:
    """The inputs as TensorFlow traces them: free sizes are unknown there."""
    return [
        tf.TensorSpec(
            None if spec.dims is None else [dim if isinstance(dim, int) else None for dim in spec.dims],
            tf.as_dtype(spec.dtype),
            name=f"input_{position}",
        )
        for position, spec in enumerate(inputs)
    ]


def served_specs(model: Any, signature: Signature) -> list[Any]:
    """The inputs of a model that was imported, as TensorFlow serves them."""
    own = getattr(getattr(model, "serve", None), "input_signature", None)
    if own is not None:
        return list(own)
    return [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=served_name(spec.name))
        for tensor, spec in zip(model.inputs, signature.inputs, strict=True)
    ]


def traced_outputs(
    call: Callable[[Sequence[Any]], Named], inputs: Sequence[TensorSpec]
) -> tuple[TensorSpec, ...]:
    """The outputs of a model that declares none, from a trace of it."""
    traced = tf.function(lambda *tensors: call(tensors)).get_concrete_function(*tensor_specs(inputs))
    return tuple(spec_of(name, spec, "output") for name, spec in traced.structured_outputs.items())


def output_names(graph: Functional, taken: set[str]) -> list[str]:
    """A mapping's keys, else the names of the layers that gave the outputs, made unique."""
    if isinstance(graph._outputs_struct, Mapping):
        return [
            unique("_".join(map(str, path)), taken)
            for path, _ in tree.flatten_with_path(graph._outputs_struct)
        ]
    return [unique(tensor._keras_history.operation.name, taken) for tensor in graph.outputs]


def demand_dense(name: str, spec: Any, kind: str = "input") -> None:
    """Refuse in a sentence what is no array of numbers: strings, ragged and sparse tensors, resources.

    Raises:
        RefusedError: with the place at which to cut the model.
    """
    dtype = getattr(spec.dtype, "name", spec.dtype)
    kinds = _STRUCTURED.get(type(spec).__name__), _FOREIGN.get(str(dtype).rstrip("0123456789"))
    what = kinds[0] or kinds[1] or _declared(spec, kind)
    if what is None:
        return
    side = "begin it behind" if kind == "input" else "end it before"
    raise RefusedError(
        f"{kind} '{name}' holds {what}, which are not converted",
        expected="a dense tensor of numbers",
        received=f"{dtype}",
        remedy=f"Convert the part that computes on numbers: {side} the layers that handle {what}",
    )


def _declared(spec: Any, kind: str) -> str | None:
    """What an InputLayer says of its tensor; of what follows from it Keras does not keep count."""
    if kind != "input" or not isinstance(spec, KerasTensor):
        return None
    return "ragged rows" if spec.ragged else "sparse tensors" if spec.sparse else None


_STRUCTURED: Mapping[str, str] = {
    "RaggedTensorSpec": "ragged rows",
    "RaggedTensor": "ragged rows",
    "SparseTensorSpec": "sparse tensors",
    "SparseTensor": "sparse tensors",
}
"""TensorFlow's tensors of several parts."""

_FOREIGN: Mapping[str, str] = {
    "string": "strings",
    "str": "strings",
    "bytes": "strings",
    "object": "Python objects",
    "resource": "resources",
    "variant": "variants",
}
"""Dtypes of TensorFlow's and numpy's that no other framework computes with."""


def spec_of(name: str, spec: Any, kind: str = "input") -> TensorSpec:
    demand_dense(name, spec, kind)
    shape = None if spec.shape.rank is None else spec.shape.as_list()
    return TensorSpec(
        name, np.dtype(spec.dtype.as_numpy_dtype), None if shape is None else dims_of(name, shape)
    )


def dims_of(name: str, shape: Sequence[int | None]) -> tuple[Dim, ...]:
    """Sizes with a name for each that is free: ``batch`` for the first, ``<input>_dim1`` ... for others."""
    return tuple(
        size if size is not None else BATCH if axis == 0 else f"{name}_dim{axis}"
        for axis, size in enumerate(shape)
    )


def bind(own: Sequence[TensorSpec], given: Sequence[Example] | None) -> Bound:
    """What the model declares of its inputs, met with the examples: by name where all names are its own,
    else by position."""
    if given is None:
        return Bound(tuple(own))
    if len(given) != len(own):
        names = ", ".join(spec.name for spec in own)
        raise UsageError("the wrong number of inputs", expected=f"{len(own)} ({names})", received=len(given))
    by_name = {example.name: example for example in given}
    if set(by_name) == {spec.name for spec in own}:
        given = [by_name[spec.name] for spec in own]
    met = [_met(spec, example) for spec, example in zip(own, given, strict=True)]
    return Bound(tuple(spec for spec, _ in met), tuple(note for _, notes in met for note in notes))


def _met(own: TensorSpec, example: Example) -> tuple[TensorSpec, list[str]]:
    """One input as the example shows it, within what the model allows."""
    dtype = example.array.dtype if example.array.dtype.kind in "iu" and own.dtype.kind == "f" else own.dtype
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
