"""Names and sizes of inputs and outputs, and what examples show of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import RefusedError
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Signature, TensorSpec
from netferry.converters.tensorflow.declared import dims_of
from netferry.converters.tensorflow.names import served_name
from netferry.converters.tensorflow.runtime import Functional, KerasTensor, tf, tree

Named = dict[str, Any]
"""Tensors under the names of the outputs, in their order."""


def named_outputs(result: Any) -> Named:
    """A mapping's values under its keys, others as ``output_0``, ``output_1`` ..., as SavedModels do it."""
    if isinstance(result, Mapping) and not any(
        isinstance(value, Mapping | list | tuple) for value in result.values()
    ):
        return {str(key): value for key, value in result.items()}
    flat = [tensor for tensor in tree.flatten(result) if tensor is not None]
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
