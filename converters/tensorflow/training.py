"""Training a Keras model: TensorFlow's tape and Keras' own optimizers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from netferry.converters.errors import UsageError
from netferry.converters.graph.ir.build import unique
from netferry.converters.signature import Array, examples
from netferry.converters.tensorflow.interface import interface_of
from netferry.converters.tensorflow.live import in_memory, running
from netferry.converters.tensorflow.runtime import global_state, keras, quiet, tf
from netferry.converters.training import (
    BETAS,
    IN_TRAINING,
    WITH_GRADIENTS,
    Batch,
    Gradients,
    Loss,
    Optimizer,
    Step,
    first_fault,
)


class Training:
    """A ``keras.Model`` called in inference mode, but for its BatchNormalization layers."""

    fixed, one_by_one = "", False

    def __init__(self, model: Any, _inputs: int) -> None:
        if not isinstance(model, keras.Model):
            raise UsageError(
                "gradients by name need a Keras model",
                expected="a keras.Model",
                received=f"{type(model).__module__}.{type(model).__qualname__}",
                remedy="Compare the model that it was saved from",
            )
        self.model = model
        taken: set[str] = set()
        self.variables = {unique(v.path, taken): v for v in model.variables if _is_float(v)}
        self._compiled: dict[Any, Any] = {}
        self._norms = [
            layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
        ]
        moving = {id(v) for n in self._norms for v in (n.moving_mean, n.moving_variance)}
        self._moving = {name for name, v in self.variables.items() if id(v) in moving}
        self.weights, self.statistics = self.current()
        self._found = self.weights | self.statistics
        self.trainable = {name: bool(self.variables[name].trainable) for name in self.weights}
        self.notes = ("Keras' BatchNormalization keeps the biased variance",) if self._norms else ()

    def __enter__(self) -> Self:
        for norm in self._norms:
            norm.call = _in_train_mode(norm)
        return self

    def __exit__(self, *error: object) -> None:
        self.reset()
        self._compiled.clear()
        for norm in self._norms:
            del norm.call

    def current(self) -> tuple[dict[str, Array], dict[str, Array]]:
        arrays = {name: np.array(variable) for name, variable in self.variables.items()}
        return (
            {name: array for name, array in arrays.items() if name not in self._moving},
            {name: array for name, array in arrays.items() if name in self._moving},
        )

    def reset(self) -> None:
        self.holding(self._found)

    def holding(self, values: Mapping[str, Array]) -> Any:
        for name, value in values.items():
            self.variables[name].assign(value)
        return self.model

    @property
    def _alive(self) -> dict[str, Any]:
        return {name: self.variables[name] for name, trained in self.trainable.items() if trained}

    def outputs(self, inputs: Sequence[Array]) -> dict[str, Array]:
        with running():
            named = self._call(inputs)([tf.convert_to_tensor(x) for x in inputs])
        return in_memory(named)

    def gradients(self, batch: Batch, loss: Loss) -> Gradients:
        tensors, targets = _lifted(batch)
        floats = [position for position, x in enumerate(tensors) if x.dtype.is_floating]
        with running():
            outputs, slopes = self._pass(batch, loss, floats)(tensors, targets)
        alive = len(self._alive)
        found = dict(zip(floats, slopes[alive:], strict=True))
        return Gradients(
            in_memory(outputs),
            {name: _array(slope) for name, slope in zip(self._alive, slopes, strict=False)},
            tuple(_array(found.get(position)) for position in range(len(tensors))),
        )

    def stepper(self, optimizer: Optimizer, loss: Loss, held: Mapping[str, Array]) -> Step:
        alive = self._alive
        native = _native(optimizer)
        native.build(list(alive.values()))

        def step(batch: Batch) -> Mapping[str, Array]:
            tensors, targets = _lifted(batch)
            key = (loss.name, *batch.weights.items(), *((tuple(x.shape), x.dtype) for x in tensors))
            with running():
                if key not in self._compiled:
                    self._compiled[key] = tf.function(self._pass(batch, loss, []))
                outputs, slopes = self._compiled[key](tensors, targets)
            native.epsilon = optimizer.epsilon_hat(int(native.iterations) + 1)
            moved = [
                (tf.convert_to_tensor(slope) * held.get(name, 1.0), variable)
                for (name, variable), slope in zip(alive.items(), slopes, strict=True)
                if slope is not None
            ]
            native.apply([slope for slope, _ in moved], [variable for _, variable in moved])
            return in_memory(outputs)

        return step

    def _pass(self, batch: Batch, loss: Loss, watched: Sequence[int]) -> Callable[..., Any]:
        """(inputs, targets) -> (outputs, gradients by the trainable weights and by the inputs at these places)."""
        call, weights = self._call(batch.inputs), batch.weights

        def run(tensors: Sequence[Any], targets: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
            inputs = [tensors[position] for position in watched]
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = call(tensors)
                alive = [outputs[name] for name in targets]
            aims = {name: tf.cast(target, outputs[name].dtype) for name, target in targets.items()}
            heads = loss.heads(outputs, aims, weights)
            by = [variable.value for variable in self._alive.values()] + inputs
            return outputs, tape.gradient(alive, by, output_gradients=heads)

        return run

    def _call(self, inputs: Sequence[Array]) -> Callable[[Sequence[Any]], dict[str, Any]]:
        interface = interface_of(self.model, examples(inputs))

        def call(tensors: Sequence[Any]) -> dict[str, Any]:
            return {name: y for name, y in interface.call(tensors).items() if y.dtype.is_floating}

        return call


def rehearse(model: Any, inputs: Sequence[Array]) -> str:
    """Why the model cannot be used as Keras' are, on a tape and in training mode; empty where it can.

    Its variables and the state of Keras' random numbers are afterwards what they were. What is no ``keras.Model`` (a
    loaded SavedModel) has no training mode, and is taken as it is.
    """
    if not isinstance(model, keras.Model):
        return ""
    tensors = [tf.convert_to_tensor(x) for x in inputs]
    generator = global_state.get_global_attribute(_GENERATOR)
    variables = [*model.variables, *([] if generator is None else [generator.state])]
    found = [np.array(variable) for variable in variables]

    def call(training: bool) -> None:
        interface: Any = interface_of(model, examples(inputs))
        interface._model = _Called(model, training)
        with tf.GradientTape(), quiet():
            interface.call(tensors)

    try:
        return first_fault({WITH_GRADIENTS: lambda: call(False), IN_TRAINING: lambda: call(True)})
    finally:
        for variable, value in zip(variables, found, strict=True):
            variable.assign(value)
        global_state.set_global_attribute(_GENERATOR, generator)


_GENERATOR = "global_seed_generator"
"""Under this name Keras keeps the random numbers of layers that have no seed of their own."""


class _Called:
    """A model that is called in one mode, whatever the caller asks for."""

    def __init__(self, model: Any, training: bool) -> None:
        self._model, self._training = model, training

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *args: Any, training: bool = False) -> Any:  # noqa: ARG002 - the caller's word
        return self._model(*args, training=self._training)


def _lifted(batch: Batch) -> tuple[list[Any], dict[str, Any]]:
    targets = {name: tf.convert_to_tensor(target) for name, target in batch.targets.items()}
    return [tf.convert_to_tensor(x) for x in batch.inputs], targets


def _is_float(variable: Any) -> bool:
    return bool(tf.as_dtype(variable.dtype).is_floating)


def _in_train_mode(norm: Any) -> Callable[..., Any]:
    plain = norm.call

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return plain(inputs, training=True, mask=mask)

    return call


def _native(optimizer: Optimizer) -> Any:
    if optimizer.kind == "sgd":
        return keras.optimizers.SGD(optimizer.learning_rate)
    return keras.optimizers.Adam(optimizer.learning_rate, beta_1=BETAS[0], beta_2=BETAS[1])


def _array(slope: Any) -> Array | None:
    return None if slope is None else np.asarray(tf.convert_to_tensor(slope))
