"""Keras runs its own model, and each layer and each operation of ``keras.ops`` that it calls is written.

The model is called on tensors that are symbols to Keras (``Traced``). Keras' own code casts, passes masks on and
calls layers in its order; where it would infer an operation's shape, ``Walk.operation`` writes the operation's row.
A layer without a row, a model, a subclassed model is opened: its ``call`` runs on the same symbols.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import backend, keras, names_from_scratch, tree
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, Row, refuse_unless
from netferry.converters.tensorflow.to_onnx.hooks import hooked, unhooked
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import Traced, followed

READ_MASKS = (keras.layers.Maximum, keras.layers.Minimum, keras.layers.Multiply)
"""Layers whose ``call`` has no argument for a mask and reads it all the same."""


class OutrightError(UnsupportedError):
    """What no other route converts either."""


class Walk:
    """What Keras calls, written with ``g``; what cannot be written is collected in ``problems``."""

    def __init__(self, g: Emitter) -> None:
        self._g = g
        self._path: list[str] = []
        self.problems: list[Unsupported] = []
        self.outright: list[Unsupported] = []

    def __call__(self, call: Callable[..., Any], *args: Any) -> Any:
        """``call(*args)`` with Keras in the hands of this walk.

        Raises:
            UnsupportedError: everything that stands in the way, as far as it could be seen.
        """
        try:
            with hooked(self), names_from_scratch():
                result = call(*args)
        except CannotConvert as stop:
            self.problems.append(Unsupported("the model", "call", stop.reason, stop.remedy))
            raise UnsupportedError(self.problems) from stop
        finally:
            if self.outright:
                raise OutrightError(self.outright)
        if self.problems:
            raise UnsupportedError(self.problems)
        return result

    # ---- one operation ----------------------------------------------------------------------

    def operation(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Instead of ``symbolic_call``: what the operation gives, as symbols."""
        if not self._path:  # the model itself
            return self._inside("", operation, args, kwargs)
        name = "/".join([*self._path[1:], operation.name])
        seen = len(self.problems)
        try:
            return self._written(name, operation, args, kwargs)
        except CannotConvert as stop:
            del self.problems[seen:]
            self.problems.append(Unsupported(name, title(operation), stop.reason, stop.remedy))
            return self._stand_in(operation, args, kwargs)

    def _written(self, name: str, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """By its row where it has one that takes what it is called with, else from the inside."""
        if kwargs.get("training"):
            self.outright.append(Unsupported(name, title(operation), TRAINING))
        row = None if _quantised(operation) else ROWS.get(type(operation))
        if row is None:
            return self._opened(name, operation, args, kwargs)
        seen = len(self.problems)
        try:
            with self._g.scope(name), self._below(operation):
                return self._by_row(row, operation, args, kwargs)
        except CannotConvert as stop:
            if not isinstance(operation, keras.Layer):
                raise
            try:
                result = self._opened(name, operation, args, kwargs)
            except CannotConvert:
                raise stop from None
            if len(self.problems) > seen:
                raise stop from None
            return result

    def _by_row(self, row: Row, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        read = isinstance(operation, READ_MASKS) and any(map(backend.get_keras_mask, tree.flatten(args)))
        refuse_unless(not read, "a mask reaches it")
        if isinstance(operation, keras.Layer):
            args, kwargs = _arranged(row, operation, args, kwargs)
        given = {key: value for key, value in kwargs.items() if key != "training" and _is_given(value)}
        unknown = sorted(set(given) - set(inspect.signature(row).parameters))
        refuse_unless(not unknown, f"it is called with {', '.join(unknown)}")
        positions, named = tree.map_structure(self._received, (tuple(args), given))
        written = row(self._g, operation, *positions, **named)
        if isinstance(written, Tensor):
            return Traced(self._known(written, operation, args, kwargs))
        outputs = [
            Traced(self._known(x, operation, args, kwargs, position)) for position, x in enumerate(written)
        ]
        if not isinstance(operation, keras.Layer):
            return outputs
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _opened(self, name: str, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        refuse_unless(isinstance(operation, keras.Layer), "netferry does not support it")
        return self._inside(name, operation, args, kwargs)

    def _inside(self, name: str, layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        taken = inspect.signature(layer.call).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        given = {key: value for key, value in kwargs.items() if open_ended or key in taken}
        quantised = getattr(layer, "quantization_mode", None) is not None
        with self._g.scope(name or layer.name), self._below(layer):
            return followed(layer.quantized_call if quantised else layer.call, *args, **given)

    @contextmanager
    def _below(self, operation: Any) -> Iterator[None]:
        self._path.append(operation.name)
        try:
            yield
        finally:
            self._path.pop()

    def _received(self, x: Any) -> Any:
        """An argument as a row takes it: tensors of the graph, and arrays as its constants."""
        if isinstance(x, Traced):
            return x.tensor
        if isinstance(x, keras.Variable):
            return self._g.weight(x)
        if isinstance(x, slice):
            return slice(*(self._received(part) for part in (x.start, x.stop, x.step)))
        return self._g.lift(np.asarray(x)) if isinstance(x, np.ndarray) or backend.is_tensor(x) else x

    def stateful(self) -> CannotConvert:
        """Where a weight would change: no route converts it."""
        stop = CannotConvert("it keeps a state from one call to the next, or draws at random")
        name = "/".join(self._path[1:]) or self._path[0]
        self.outright.append(Unsupported(name, "call", stop.reason, "Pass the state in and out as tensors"))
        return stop

    # ---- sizes ------------------------------------------------------------------------------

    def _known(
        self, x: Tensor, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], position: int = 0
    ) -> Tensor:
        """Sizes that Keras knows and ONNX' inference lost; the batch is nobody's to fix."""
        if x.dims is not None and None not in x.dims[1:]:
            return x
        try:
            shape = tree.flatten(self.spec_of(operation, args, kwargs))[position].shape
        except Exception:  # Keras, too, does not know
            return x
        if x.dims is None:
            return replace(x, dims=(None, *shape[1:]) if shape else ())
        sizes = zip(x.dims, shape, strict=True)
        return replace(x, dims=tuple(size if d is None and i else d for i, (d, size) in enumerate(sizes)))

    def _stand_in(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Something of the right sizes, so that the walk goes on and finds what else stands in the way."""
        try:
            spec = self.spec_of(operation, args, kwargs)
        except Exception as error:
            raise UnsupportedError(self.problems) from error
        return tree.map_structure(
            lambda x: Traced(self._g.unknown(np.dtype(x.dtype), x.shape)) if x is not None else None, spec
        )

    def spec_of(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The sizes of an operation's outputs, as Keras infers them."""
        with unhooked():
            return operation.compute_output_spec(*args, **kwargs)

    # ---- what Keras' code asks beside its operations ----------------------------------------

    def shape(self, x: Any) -> tuple[Any, ...]:
        """The sizes of ``x``: what is free is a tensor, as in a graph of TensorFlow's."""
        return tuple(
            size if size is not None else Traced(self._g.size(x.tensor, axis))
            for axis, size in enumerate(x.shape)
        )

    def filled(self, shape: Sequence[Any], value: Any, dtype: Any) -> Any:
        """``value`` in a shape of which some size is known only when the model runs."""
        vector = self._g.vector([x.tensor if isinstance(x, Traced) else x for x in shape])
        fill = self._g.cast(
            self._received(value) if isinstance(value, Traced) else self._g.lift(value), dtype
        )
        return Traced(self._g.Expand(fill, vector))

    def computed(self, function: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
        """``function(x)`` of a weight, as a weight of the same name."""
        weight = self._received(x)
        refuse_unless(weight.array is not None, f"{function.__name__} of what is known only when it runs")
        with unhooked():
            made = np.asarray(function(keras.ops.convert_to_tensor(weight.array), *args, **kwargs))
        return Traced(self._g.constant(made, name=weight.name))


TRAINING = "it is called with training=True, so it draws at random"


def title(operation: Any) -> str:
    kind = type(operation)
    return kind.__name__ if issubclass(kind, keras.Layer) else f"keras.ops {kind.__name__}"


def _quantised(operation: Any) -> bool:
    """Whether a layer computes with integers, or one inside it does: then its own code says how."""
    return isinstance(operation, keras.Layer) and any(
        layer.quantization_mode is not None for layer in operation._flatten_layers()
    )


def _arranged(
    row: Row, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as its row takes them: the first by position, what the row does not count by name."""
    named = dict(kwargs)
    parameters = [
        name for name, p in inspect.signature(operation.call).parameters.items() if p.kind in _PLACED
    ]
    if not args and parameters[:1] and parameters[0] in named:
        args = (named.pop(parameters[0]),)
    places = [p.kind for p in inspect.signature(row).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in places or len(args) > len(parameters):
        return tuple(args), named
    count = max(1, sum(kind in _PLACED for kind in places) - 2)
    return tuple(args[:count]), dict(zip(parameters[count:], args[count:], strict=False)) | named


_PLACED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _is_given(value: Any) -> bool:
    return any(x is not None for x in tree.flatten(value))
