"""Keras runs its own model, and each layer and each operation of ``keras.ops`` that it calls is written.

The model is called on tensors that are symbols to Keras (``Traced``). Keras' own code casts, carries masks and
calls layers in its order; where it would infer an operation's shape, ``Walk.operation`` writes the operation's row.
A layer without a row, a model, a subclassed model is opened: its ``call`` runs on the same symbols.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from netferry.converters.errors import CannotConvert, Unsupported, UnsupportedError
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.runtime import (
    Operation,
    all_ops,
    backend,
    core_ops,
    image_ops,
    keras,
    layer_module,
    linalg_ops,
    math_ops,
    names_from_scratch,
    nn_ops,
    numpy_ops,
    operation_module,
    tf,
    tf_backend,
    traceback_utils,
    tree,
)
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, Row, refuse_unless
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import Traced, followed

READ_MASKS = (keras.layers.Maximum, keras.layers.Minimum, keras.layers.Multiply)
"""Layers whose ``call`` has no argument for a mask and reads it all the same."""


class OutrightError(UnsupportedError):
    """What no other road carries either."""


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
            with _hooked(self), names_from_scratch():
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
        """In the place of ``symbolic_call``: what the operation gives, as symbols."""
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
        row = ROWS.get(type(operation))
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
        given = {key: value for key, value in kwargs.items() if key != "training" and _is_given(value)}
        unknown = sorted(set(given) - set(inspect.signature(row).parameters))
        refuse_unless(not unknown, f"it is called with {', '.join(unknown)}")
        places, named = tree.map_structure(self._received, (tuple(args), given))
        written = row(self._g, operation, *places, **named)
        if isinstance(written, Tensor):
            return Traced(self._known(written, operation, args, kwargs))
        outputs = [Traced(self._known(x, operation, args, kwargs, place)) for place, x in enumerate(written)]
        if not isinstance(operation, keras.Layer):
            return outputs
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _opened(self, name: str, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        refuse_unless(isinstance(operation, keras.Layer), "netferry has no row for it")
        return self._inside(name, operation, args, kwargs)

    def _inside(self, name: str, layer: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        taken = inspect.signature(layer.call).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
        given = {key: value for key, value in kwargs.items() if open_ended or key in taken}
        with self._g.scope(name or layer.name), self._below(layer):
            return followed(layer.call, *args, **given)

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
        return self._g.lift(np.asarray(x)) if isinstance(x, np.ndarray | tf.Tensor) else x

    def stateful(self) -> CannotConvert:
        """Where a weight would change: no road carries it."""
        stop = CannotConvert("it keeps a state from one call to the next, or draws at random")
        name = "/".join(self._path[1:]) or self._path[0]
        self.outright.append(Unsupported(name, "call", stop.reason, "Pass the state in and out as tensors"))
        return stop

    # ---- sizes ------------------------------------------------------------------------------

    def _known(
        self, x: Tensor, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any], place: int = 0
    ) -> Tensor:
        """Sizes that Keras knows and ONNX' inference lost; the batch is nobody's to fix."""
        if x.dims is not None and None not in x.dims[1:]:
            return x
        try:
            shape = tree.flatten(self._spec(operation, args, kwargs))[place].shape
        except Exception:  # Keras, too, does not know
            return x
        if x.dims is None:
            return replace(x, dims=(None, *shape[1:]) if shape else ())
        sizes = zip(x.dims, shape, strict=True)
        return replace(x, dims=tuple(size if d is None and i else d for i, (d, size) in enumerate(sizes)))

    def _stand_in(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Something of the right sizes, so that the walk goes on and finds what else stands in the way."""
        try:
            spec = self._spec(operation, args, kwargs)
        except Exception as error:
            raise UnsupportedError(self.problems) from error
        return tree.map_structure(
            lambda x: Traced(self._g.unknown(np.dtype(x.dtype), x.shape)) if x is not None else None, spec
        )

    def _spec(self, operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The sizes of an operation's outputs, as Keras infers them."""
        with _let_go():
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


TRAINING = "it is called with training=True, so it draws at random"


def title(operation: Any) -> str:
    kind = type(operation)
    return kind.__name__ if issubclass(kind, keras.Layer) else f"keras.ops {kind.__name__}"


def _is_given(value: Any) -> bool:
    return any(x is not None for x in tree.flatten(value))


# ---- hooks in Keras -------------------------------------------------------------------------

_ACTIVE: ContextVar[Walk | None] = ContextVar("walk", default=None)
_LOCK = threading.RLock()


@contextmanager
def _let_go() -> Iterator[None]:
    """Keras as it is, for a while."""
    token = _ACTIVE.set(None)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


@contextmanager
def _hooked(walk: Walk) -> Iterator[None]:
    """Lend Keras to a walk: for this thread's calls only, and whole again afterwards."""
    with _LOCK, ExitStack() as stack:
        for owner, name, make in _hooks():
            stack.enter_context(mock.patch.object(owner, name, make(getattr(owner, name))))
        token = _ACTIVE.set(walk)
        try:
            yield
        finally:
            _ACTIVE.reset(token)


Original = Callable[..., Any]
Make = Callable[[Any], Any]
"""From what Keras has to what stands in its place while a walk is on."""


def _hooks() -> Iterator[tuple[Any, str, Make]]:
    yield Operation, "symbolic_call", _operation
    yield keras.Layer, "symbolic_call", _operation
    yield operation_module, "any_symbolic_tensors", _instead(lambda *_: True)
    yield layer_module, "Node", _instead(lambda *_, **__: None)
    yield traceback_utils, "is_traceback_filtering_enabled", _instead(lambda: False)
    for module in _SYMBOLIC:
        yield module, "any_symbolic_tensors", _or_variables
    for module in (keras.ops, all_ops, core_ops, backend, tf_backend):
        yield module, "shape", _shape
    for owner in (backend, tf_backend):
        for name, namespace in _MODULES.items():
            yield owner, name, partial(_Module, operations=namespace)
        for name in ("cast", "convert_to_tensor"):
            yield owner, name, partial(_through, operation=getattr(keras.ops, name))
    yield keras.Variable, "assign", _instead(_refuse_state)
    for name, function in _ARITHMETIC.items():
        yield keras.Variable, f"__{name}__", _instead(function)
        yield keras.Variable, f"__r{name}__", _instead(_swapped(function))
    for name, function in _DIRECT.items():
        yield keras.Variable, f"__{name}__", _instead(function)


_SYMBOLIC = (core_ops, image_ops, linalg_ops, math_ops, nn_ops, numpy_ops)
"""Modules of functions that ask whether one of their arguments is a symbol."""

_ARITHMETIC: Mapping[str, Original] = {
    "add": keras.ops.add,
    "and": keras.ops.logical_and,
    "floordiv": keras.ops.floor_divide,
    "matmul": keras.ops.matmul,
    "mod": keras.ops.mod,
    "mul": keras.ops.multiply,
    "or": keras.ops.logical_or,
    "pow": keras.ops.power,
    "sub": keras.ops.subtract,
    "truediv": keras.ops.true_divide,
}

_DIRECT: Mapping[str, Original] = {
    "abs": keras.ops.absolute,
    "ge": keras.ops.greater_equal,
    "getitem": keras.ops.get_item,
    "gt": keras.ops.greater,
    "le": keras.ops.less_equal,
    "lt": keras.ops.less,
    "neg": keras.ops.negative,
}


def _instead(function: Original) -> Make:
    def make(original: Original) -> Original:
        def hook(*args: Any, **kwargs: Any) -> Any:
            return (original if _ACTIVE.get() is None else function)(*args, **kwargs)

        return hook

    return make


def _swapped(function: Original) -> Original:
    return lambda x, other: function(other, x)


def _operation(original: Original) -> Original:
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        walk = _ACTIVE.get()
        return original(self, *args, **kwargs) if walk is None else walk.operation(self, args, kwargs)

    return symbolic_call


def _or_variables(original: Original) -> Original:
    """A weight takes part as itself, under its name, and not as the numbers that it holds."""

    def any_symbolic_tensors(args: Any = None, kwargs: Any = None) -> bool:
        if original(args, kwargs):
            return True
        return _ACTIVE.get() is not None and any(
            isinstance(x, keras.Variable) for x in tree.flatten((args, kwargs))
        )

    return any_symbolic_tensors


def _shape(original: Original) -> Original:
    def shape(x: Any) -> Any:
        walk = _ACTIVE.get()
        return original(x) if walk is None or not isinstance(x, Traced) else walk.shape(x)

    return shape


_MODULES: Mapping[str, Any] = {
    "core": keras.ops,
    "image": keras.ops.image,
    "linalg": keras.ops.linalg,
    "math": keras.ops,
    "nn": keras.ops.nn,
    "numpy": keras.ops.numpy,
}
"""Modules of TensorFlow's side of Keras, and where the operations of the same names are."""

_FILLS: Mapping[str, int | None] = {"full": None, "ones": 1, "zeros": 0}


class _Module:
    """A module of Keras' backend whose functions hand symbols on to ``keras.ops``."""

    def __init__(self, module: Any, operations: Any) -> None:
        self._module, self._operations = module, operations

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._module, name)
        if name == "shape":
            return _shape(original)
        if name in _FILLS:
            return _filled(original, _FILLS[name])
        operation = getattr(self._operations, name, None) or getattr(keras.ops, name, None)
        return original if operation is None or _ACTIVE.get() is None else _through(original, operation)


def _through(original: Original, operation: Original) -> Original:
    def hook(*args: Any, **kwargs: Any) -> Any:
        traced = _ACTIVE.get() is not None and _has_symbols((args, kwargs))
        return (operation if traced else original)(*args, **kwargs)

    return hook


def _filled(original: Original, fill: Any) -> Original:
    """``zeros``, ``ones`` and ``full`` in a shape that a symbol is part of."""

    def filled(shape: Any, *args: Any, **kwargs: Any) -> Any:
        walk = _ACTIVE.get()
        if walk is None or not _has_symbols(shape):
            return original(shape, *args, **kwargs)
        value, rest = (args[0] if args else kwargs["fill_value"], args[1:]) if fill is None else (fill, args)
        return walk.filled(shape, value, (rest[0] if rest else kwargs.get("dtype")) or keras.config.floatx())

    return filled


def _has_symbols(value: Any) -> bool:
    return any(isinstance(x, Traced) for x in tree.flatten(value))


def _refuse_state(*_: Any, **__: Any) -> Any:
    walk = _ACTIVE.get()
    assert walk is not None
    raise walk.stateful()
