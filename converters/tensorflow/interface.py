"""The interface that every kind of model shows: its inputs in order, and a call from tensors to named tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from netferry.converters import origin
from netferry.converters.errors import RefusedError, UsageError
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import BATCH, Example, InputNames, TensorSpec
from netferry.converters.tensorflow import calling
from netferry.converters.tensorflow.declared import Bound, bind, dims_of
from netferry.converters.tensorflow.runtime import INSTALLED, ConcreteFunction, Functional, keras, tf, tree
from netferry.converters.tensorflow.specs import (
    Named,
    demand_dense,
    named_outputs,
    output_names,
    spec_of,
    traced_outputs,
)


class ModelInterface(Protocol):
    """What a model shows, whatever it is; ``opaque`` is why its layers cannot be walked, where they cannot."""

    opaque: str

    @property
    def input_names(self) -> InputNames: ...

    def inputs(self, given: Sequence[Example] | None) -> Bound: ...

    def call(self, tensors: Sequence[Any]) -> Named: ...

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]: ...


def interface_of(model: object, given: Sequence[Example] | None = None) -> ModelInterface:
    """The interface of a model that ``accepts`` takes; a Sequential without sizes gets those of ``given``."""
    if isinstance(model, keras.Sequential) and not model._functional and given:
        _build(model, given)
    interface = interface_or_none(model)
    if interface is None:
        raise RefusedError("this is not a model of TensorFlow", received=type(model).__qualname__)
    return interface


def interface_or_none(model: Any) -> ModelInterface | None:
    if isinstance(model, keras.Model):
        graph = functional(model)
        if graph is not None:
            return Layered(model, graph)
        return _Served(model) if _declares_sizes(getattr(model, "serve", None)) else Subclassed(model)
    if not INSTALLED:
        return None
    if isinstance(model, ConcreteFunction):
        return Concrete(model)
    if isinstance(model, tf.types.experimental.PolymorphicFunction):
        return Concrete(model.get_concrete_function()) if _declares_sizes(model) else _Traced(model, model)
    if getattr(model, "signatures", None):
        return Concrete(chosen_signature(model), keep=model)
    if isinstance(model, tf.Module) and callable(model):
        function = model.__call__
        return (
            interface_or_none(function)
            if hasattr(function, "get_concrete_function")
            else _Traced(model, function)
        )
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


def _declares_sizes(function: Any) -> bool:
    return getattr(function, "input_signature", None) is not None


def _build(model: Any, given: Sequence[Example]) -> None:
    """Build a Sequential that does not know its sizes, as its first call would."""
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
        self.names = output_names(graph, taken)
        for output, tensor in zip(self.names, graph.outputs, strict=True):
            demand_dense(output, tensor, "output")

    def _input(self, tensor: Any, taken: set[str]) -> TensorSpec:
        """Sequential models do not fix the batch, though Keras notes that of the first call."""
        layer = tensor._keras_history.operation
        name = unique(tensor.name if layer is None else layer.name, taken)
        demand_dense(name, tensor)
        shape = (None, *tensor.shape[1:]) if isinstance(self._model, keras.Sequential) else tensor.shape
        return TensorSpec(name, np.dtype(tensor.dtype), dims_of(name, shape))

    @property
    def input_names(self) -> InputNames:
        return InputNames.given_by_someone(spec.name for spec in self._own)

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        return bind(self._own, given)

    def call(self, tensors: Sequence[Any]) -> Named:
        packed = tree.pack_sequence_as(self.graph._inputs_struct, list(tensors))
        given = dict(zip(self.names, tree.flatten(self._model(packed, training=False)), strict=True))
        return {name: given[name] for name in self._in_order()}

    def _in_order(self) -> list[str]:
        """The outputs as the model was made with them; a mapping is flattened by its keys' alphabet."""
        made = self.graph._outputs_struct
        if not isinstance(made, Mapping) or len(made) != len(self.names):
            return self.names
        named = dict(zip(sorted(made), self.names, strict=True))
        return [named[key] for key in made]

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        free = any(spec.dims and spec.dims[0] == BATCH for spec in inputs)
        specs = {
            name: TensorSpec(
                name,
                np.dtype(tensor.dtype),
                (BATCH if free and tensor.shape else tensor.shape[0], *tensor.shape[1:])
                if tensor.shape
                else (),
            )
            for name, tensor in zip(self.names, self.graph.outputs, strict=True)
        }
        return tuple(specs[name] for name in self._in_order())


class _Python:
    """A model whose sizes are only known from examples; its outputs are named as TensorFlow names them."""

    opaque = "its layers are called by Python code of its own"

    def __init__(self, model: Any, function: Callable[..., Any]) -> None:
        self._model, self._function = model, function
        self._form: calling.Form | None = None

    @property
    def input_names(self) -> InputNames:
        return InputNames(calling.argument_names(self._model, self._function), declared=False)

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        if given is None:
            raise UsageError(
                "the model does not declare the sizes of its inputs",
                where=origin.named(self._model),
                remedy="Give example inputs: inputs={'x': array}, or --input x:1,224,224,3:f32",
            )
        for example in given:
            demand_dense(example.name, example.array)
        self._form = calling.form_for(self._model, self._function, self._run, given)
        return Bound(tuple(example.spec for example in self._form.ordered(given)))

    def call(self, tensors: Sequence[Any]) -> Named:
        form = self._form or calling.known_form(self._model, self._function, len(tensors))
        places, named = form.arguments(tensors)
        return named_outputs(self._run(*places, **named))

    def _run(self, *places: Any, **named: Any) -> Any:
        return self._function(*places, **named)

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return traced_outputs(self.call, inputs)


class Subclassed(_Python):
    """A subclassed Keras model; what it was built for is known to it, as far as Keras noted it."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, model.call)

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        own = calling.recorded_specs(self._model, self._function) if given is None else None
        if own is None:
            return super().inputs(given)
        self._form = calling.recorded_form(self._model, self._function)
        return Bound(own, tuple(_as_built(spec) for spec in own))

    def looked_up(self) -> dict[int, int]:
        """How many rows an Embedding has that looks an input up, by the input's place, as far as it is known."""
        return calling.looked_up(self._model, self._function)

    def _run(self, *places: Any, **named: Any) -> Any:
        return self._model(*places, **named, training=False)


def _as_built(spec: TensorSpec) -> str:
    return (
        f"input '{spec.name}': {spec}, as the model was built; give inputs= for other sizes or another dtype"
    )


class _Served(Subclassed):
    """A Keras model with Python code of its own that declares under which signature it is served."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._specs = model.serve.input_signature

    def _own(self) -> list[TensorSpec]:
        return [spec_of(spec.name or f"input_{position}", spec) for position, spec in enumerate(self._specs)]

    @property
    def input_names(self) -> InputNames:
        return InputNames.given_by_someone(spec.name for spec in self._own())

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        return bind(self._own(), given)


class _Traced(_Python):
    """A ``tf.function`` without a signature, or a module that is called as plain Python."""

    opaque = "it is a function of TensorFlow's operators"

    def _run(self, *places: Any, **named: Any) -> Any:
        """In a trace, plain Python's branches and loops on tensors become TensorFlow's."""
        plain = tf.inside_function() and not hasattr(self._function, "get_concrete_function")
        return (tf.function(self._function) if plain else self._function)(*places, **named)


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
        positions = [spec for spec in tf.nest.flatten(self._places) if _is_spec(spec)]
        self._specs = [*positions, *by_name.values()]
        names = [*(getattr(spec, "name", None) or f"input_{i}" for i, spec in enumerate(positions)), *by_name]
        self._own = [
            spec_of(unique(name, taken), spec) for name, spec in zip(names, self._specs, strict=True)
        ]

    @property
    def input_names(self) -> InputNames:
        return InputNames.given_by_someone(spec.name for spec in self._own)

    def inputs(self, given: Sequence[Example] | None) -> Bound:
        return bind(self._own, given)

    def call(self, tensors: Sequence[Any]) -> Named:
        fitting = [tf.cast(tensor, spec.dtype) for tensor, spec in zip(tensors, self._specs, strict=True)]
        count = len(fitting) - len(self._keywords)
        left = iter(fitting[:count])
        positions = tf.nest.map_structure(lambda x: next(left) if _is_spec(x) else x, self._places)
        results = self.function(*positions, **dict(zip(self._keywords, fitting[count:], strict=True)))
        return self._in_order(named_outputs(results))

    def outputs(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:  # noqa: ARG002 - Face's
        named = self._in_order(named_outputs(self.function.structured_outputs))
        return tuple(spec_of(name, spec, "output") for name, spec in named.items())

    def _in_order(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """A file keeps the names of a signature without an order, which each process would find in another: by name."""
        return dict(sorted(named.items(), key=_numbered) if self._keep is not None else named.items())


def _is_spec(value: Any) -> bool:
    """An input, and no default of Python's that was traced along."""
    return isinstance(value, tf.TypeSpec)


def _numbered(item: tuple[str, Any]) -> list[Any]:
    """``output_2`` comes before ``output_10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", item[0])]
