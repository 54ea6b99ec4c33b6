"""TensorFlow and Keras models in memory: what they take and give, and running them.

Every kind of model shows one ``Face``: its inputs in order, and a call from tensors to named tensors.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from netferry.converters import origin
from netferry.converters.errors import MissingError, RefusedError, UsageError
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import (
    BATCH,
    Array,
    Dim,
    Example,
    Signature,
    TensorSpec,
    examples,
)
from netferry.converters.tensorflow.names import served_name
from netferry.converters.tensorflow.runtime import (
    BACKEND,
    ConcreteFunction,
    Functional,
    keras,
    quiet,
    tf,
    tree,
)

Named = dict[str, Any]
"""Tensors under the names of the outputs, in their order."""


class Face(Protocol):
    """What a model shows, whatever it is; ``opaque`` says why its layers cannot be walked, where they cannot."""

    opaque: str

    def inputs(self, given: Sequence[Example] | None) -> Bound: ...

    def call(self, tensors: Sequence[Any]) -> Named: ...

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]: ...


@dataclass(frozen=True)
class Bound:
    """The inputs as they will be carried, with what there is to tell about them."""

    specs: tuple[TensorSpec, ...]
    notes: tuple[str, ...] = ()


# ---- the room's contract --------------------------------------------------------------------


def accepts(model: object) -> bool:
    """Keras models, functions of TensorFlow, and modules or loaded SavedModels that have one.

    Raises:
        RefusedError: a Keras model of another backend than TensorFlow.
    """
    if isinstance(model, keras.Model):
        if keras.backend.backend() != BACKEND:
            raise RefusedError(
                "this Keras model does not run on TensorFlow",
                expected="Keras with the TensorFlow backend",
                received=f"Keras with the backend {keras.backend.backend()}",
                remedy="Save it (model.save('model.keras')) and convert the file with KERAS_BACKEND=tensorflow",
            )
        return True
    return _face_of(model) is not None


def run(model: object, arrays: Sequence[Array]) -> dict[str, Array]:
    """Run in inference mode: inputs by position, outputs by name and in order.

    Raises:
        MissingError: this processor's TensorFlow has no kernel for an operator of the model.
    """
    given = examples(arrays)
    face = face_of(model, given)
    expected = len(face.inputs(given).specs)
    if expected != len(arrays):
        raise UsageError("the wrong number of inputs", expected=expected, received=len(arrays))
    with running():
        named = face.call([tf.convert_to_tensor(array) for array in arrays])
    return {name: np.asarray(tensor) for name, tensor in named.items()}


_NO_KERNEL = re.compile(r"[^{}\n]*(CPU implementations do not|only supports (the )?ND?HWC)[^\[\n]*")
"""What TensorFlow says where only oneDNN has a kernel: channels first, and transposed convolutions that are dilated."""


@contextmanager
def running() -> Iterator[None]:
    """Nothing on standard error while TensorFlow computes.

    Raises:
        MissingError: this processor's TensorFlow has no kernel for an operator.
    """
    try:
        with quiet():
            yield
    except tf.errors.OpError as error:
        missing = _without_kernel(error)
        if missing is None:
            raise
        raise missing from error


def _without_kernel(error: Exception) -> MissingError | None:
    """The error in one sentence, where it is the processor's and not the model's."""
    said = _NO_KERNEL.search(str(error))
    if said is None:
        return None
    layer = re.search(r"calling (\S+)\.call\(\)", str(error))
    return MissingError(
        f"TensorFlow has no kernel on this processor for {layer[1] if layer else 'an operator'} "
        f"({said[0].strip().rstrip('.')})",
        remedy="Set TF_ENABLE_ONEDNN_OPTS=1 before the start, which adds oneDNN's kernels",
    )


# ---- kinds of models ------------------------------------------------------------------------


def face_of(model: object, given: Sequence[Example] | None = None) -> Face:
    """The face of a model that ``accepts`` takes; a Sequential without sizes gets those of ``given``."""
    if isinstance(model, keras.Sequential) and not model._functional and given:
        _build(model, given)
    face = _face_of(model)
    if face is None:
        raise RefusedError("this is not a model of TensorFlow", received=type(model).__qualname__)
    return face


def _face_of(model: Any) -> Face | None:
    if isinstance(model, keras.Model):
        graph = functional(model)
        if graph is not None:
            return Layered(model, graph)
        return _Served(model) if _says_sizes(getattr(model, "serve", None)) else _Unbuilt(model)
    if isinstance(model, ConcreteFunction):
        return Concrete(model)
    if isinstance(model, tf.types.experimental.PolymorphicFunction):
        return Concrete(model.get_concrete_function()) if _says_sizes(model) else _Traced(model, model)
    if getattr(model, "signatures", None):
        return Concrete(chosen_signature(model), keep=model)
    if isinstance(model, tf.Module) and callable(model):
        function = model.__call__
        return _face_of(function) if hasattr(function, "get_concrete_function") else _Traced(model, function)
    return None


def functional(model: Any) -> Functional | None:
    """The graph of layers that a model is; None where its ``call`` is Python code of its own."""
    if isinstance(model, keras.Sequential):
        graph: Functional | None = model._functional
        return graph if type(model).call is keras.Sequential.call else None
    return model if isinstance(model, Functional) and type(model).call is Functional.call else None


def chosen_signature(model: Any) -> ConcreteFunction:
    """``serving_default``, or the only signature there is."""
    signatures = model.signatures
    if len(signatures) == 1 or "serving_default" in signatures:
        return signatures.get("serving_default") or next(iter(signatures.values()))
    raise RefusedError(
        "the model has several signatures and none is the default",
        expected="serving_default, or one signature",
        received=", ".join(signatures),
        remedy="Load it and give the one that is meant: tf.saved_model.load(path).signatures['name']",
    )


def _says_sizes(function: Any) -> bool:
    return getattr(function, "input_signature", None) is not None


def _build(model: Any, given: Sequence[Example]) -> None:
    """Build a Sequential that has not been told its sizes, as its first call would."""
    if len(given) != 1:
        raise UsageError("a Sequential model has one input", expected=1, received=len(given))
    model.build((None, *given[0].array.shape[1:]))


class Layered:
    """A Functional or Sequential model: its InputLayers' names, its output layers' names."""

    opaque = ""

    def __init__(self, model: Any, graph: Functional) -> None:
        self._model, self.graph = model, graph
        taken: set[str] = set()
        self._own = [self._input(tensor, taken) for tensor in graph.inputs]
        self.names = _output_names(graph, taken)

    def _input(self, tensor: Any, taken: set[str]) -> TensorSpec:
        """Sequential models do not fix the batch, though Keras notes that of the first call."""
        layer = tensor._keras_history.operation
        name = unique(tensor.name if layer is None else layer.name, taken)
        shape = (None, *tensor.shape[1:]) if isinstance(self._model, keras.Sequential) else tensor.shape
        return TensorSpec(name, np.dtype(tensor.dtype), _dims(name, shape))

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        return _bind(self._own, given)

    def call(self, tensors: Sequence[Any]) -> Named:
        packed = tree.pack_sequence_as(self.graph._inputs_struct, list(tensors))
        return dict(zip(self.names, tree.flatten(self._model(packed, training=False)), strict=True))

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        free = any(spec.dims and spec.dims[0] == BATCH for spec in inputs)
        return tuple(
            TensorSpec(
                name,
                np.dtype(tensor.dtype),
                (BATCH if free and tensor.shape else tensor.shape[0], *tensor.shape[1:])
                if tensor.shape
                else (),
            )
            for name, tensor in zip(self.names, self.graph.outputs, strict=True)
        )


class _Python:
    """A model whose sizes are only known from examples; its outputs are named as TensorFlow names them."""

    opaque = "its layers are called by Python code of its own"

    def __init__(self, model: Any) -> None:
        self._model = model

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        if given is None:
            raise UsageError(
                "the model does not say the sizes of its inputs",
                where=origin.named(self._model),
                remedy="Give example inputs: inputs={'x': array}, or --input x:1,224,224,3:f32",
            )
        return Bound(tuple(example.spec for example in given))

    def call(self, tensors: Sequence[Any]) -> Named:
        return named_outputs(self._apply(tensors))

    def _apply(self, tensors: Sequence[Any]) -> Any:
        raise NotImplementedError

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return traced_outputs(self.call, inputs)


class _Unbuilt(_Python):
    """A subclassed Keras model, or a Sequential that has not been built."""

    def _apply(self, tensors: Sequence[Any]) -> Any:
        """Several inputs are passed one by one where ``call`` takes as many, else as a list."""
        parameters = inspect.signature(self._model.call).parameters.values()
        places = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in _CONTEXT]
        many = len(tensors) > 1 and len(places) < len(tensors)
        return self._model(*([list(tensors)] if many else tensors), training=False)


class _Served(_Unbuilt):
    """A Keras model with Python code of its own that says under which signature it is served."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        specs = model.serve.input_signature
        self._own = [_spec(spec.name or f"input_{place}", spec) for place, spec in enumerate(specs)]

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        return _bind(self._own, given)

    def _apply(self, tensors: Sequence[Any]) -> Any:
        return self._model(*tensors, training=False)


_CONTEXT = ("training", "mask")
"""Arguments of ``call`` that are no inputs."""


class _Traced(_Python):
    """A ``tf.function`` without a signature, or a module that is called as plain Python."""

    opaque = "it is a function of TensorFlow's operators"

    def __init__(self, model: Any, function: Callable[..., Any]) -> None:
        super().__init__(model)
        self._function = function

    def _apply(self, tensors: Sequence[Any]) -> Any:
        return self._function(*tensors)


class Concrete:
    """A function traced for sizes that it knows: a signature of a SavedModel, or one given as it is.

    ``keep`` holds the loaded model, whose variables the function only borrows.
    """

    opaque = "it is a graph of TensorFlow's operators"

    def __init__(self, function: ConcreteFunction, keep: Any = None) -> None:
        self.function, self._keep = function, keep
        self._places, by_name = function.structured_input_signature
        by_name = self._in_order(by_name)
        self._keywords, taken = list(by_name), set[str]()
        places = tf.nest.flatten(self._places)
        self._specs = [*places, *by_name.values()]
        names = [*(spec.name or f"input_{i}" for i, spec in enumerate(places)), *by_name]
        self._own = [_spec(unique(name, taken), spec) for name, spec in zip(names, self._specs, strict=True)]

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        return _bind(self._own, given)

    def call(self, tensors: Sequence[Any]) -> Named:
        fitting = [tf.cast(tensor, spec.dtype) for tensor, spec in zip(tensors, self._specs, strict=True)]
        count = len(fitting) - len(self._keywords)
        places = tf.nest.pack_sequence_as(self._places, fitting[:count])
        results = self.function(*places, **dict(zip(self._keywords, fitting[count:], strict=True)))
        return self._in_order(named_outputs(results))

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:  # noqa: ARG002 - Face's
        named = self._in_order(named_outputs(self.function.structured_outputs))
        return tuple(_spec(name, spec) for name, spec in named.items())

    def _in_order(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """A file keeps the names of a signature without an order, which each process would find in another: by name."""
        return dict(sorted(named.items(), key=_numbered) if self._keep is not None else named.items())


def _numbered(item: tuple[str, Any]) -> list[Any]:
    """``output_2`` comes before ``output_10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", item[0])]


# ---- names and sizes ------------------------------------------------------------------------


def named_outputs(result: Any) -> Named:
    """A mapping's values under its keys, others as ``output_0``, ``output_1`` ..., as SavedModels do it."""
    if isinstance(result, Mapping) and not any(
        isinstance(value, Mapping | list) for value in result.values()
    ):
        return {str(key): value for key, value in result.items()}
    flat = [tensor for tensor in tf.nest.flatten(result) if tensor is not None]
    return {f"output_{place}": tensor for place, tensor in enumerate(flat)}


def tensor_specs(inputs: Sequence[TensorSpec]) -> list[Any]:
    """The inputs as TensorFlow traces them: free sizes are unknown there."""
    return [
        tf.TensorSpec(
            None if spec.dims is None else [dim if isinstance(dim, int) else None for dim in spec.dims],
            tf.as_dtype(spec.dtype),
            name=f"input_{place}",
        )
        for place, spec in enumerate(inputs)
    ]


def served_specs(model: Any, signature: Signature) -> list[Any]:
    """The inputs of a model that has arrived, as TensorFlow serves them."""
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
    """The outputs of a model that says nothing of them, from a trace of it."""
    traced = tf.function(lambda *tensors: call(tensors)).get_concrete_function(*tensor_specs(inputs))
    return tuple(_spec(name, spec) for name, spec in traced.structured_outputs.items())


def _output_names(graph: Functional, taken: set[str]) -> list[str]:
    """A mapping's keys, else the names of the layers that gave the outputs, made unique."""
    if isinstance(graph._outputs_struct, Mapping):
        return [
            unique("_".join(map(str, path)), taken)
            for path, _ in tree.flatten_with_path(graph._outputs_struct)
        ]
    return [unique(tensor._keras_history.operation.name, taken) for tensor in graph.outputs]


def _spec(name: str, spec: Any) -> TensorSpec:
    shape = None if spec.shape.rank is None else spec.shape.as_list()
    return TensorSpec(
        name, np.dtype(spec.dtype.as_numpy_dtype), None if shape is None else _dims(name, shape)
    )


def _dims(name: str, shape: Sequence[int | None]) -> tuple[Dim, ...]:
    """Sizes with a name for each that is free: ``batch`` for the first, ``<input>_dim1`` ... for others."""
    return tuple(
        size if size is not None else BATCH if axis == 0 else f"{name}_dim{axis}"
        for axis, size in enumerate(shape)
    )


def _bind(own: Sequence[TensorSpec], given: Sequence[Example] | None) -> Bound:
    """What the model says of its inputs, met with the examples: by name where all names are its own,
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
        return example.free.get(axis) or _dims(example.name, [None] * (axis + 1))[axis]

    return tuple(dim(axis, size) for axis, size in enumerate(own.dims or ()))
