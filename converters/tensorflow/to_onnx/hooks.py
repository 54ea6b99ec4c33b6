"""What is replaced in Keras while a model is traced, for the calls of one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any
from unittest import mock

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
    nn_ops,
    numpy_ops,
    operation_module,
    own_backend,
    quantizers,
    traceback_utils,
    tree,
)
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import Traced

ACTIVE: ContextVar[Any] = ContextVar("walk", default=None)
"""The ``trace.Walk`` that is on in this context, or None."""


_LOCK = threading.RLock()


@contextmanager
def unhooked() -> Iterator[None]:
    """Keras as it is, for a while."""
    token = ACTIVE.set(None)
    try:
        yield
    finally:
        ACTIVE.reset(token)


@contextmanager
def hooked(walk: Any) -> Iterator[None]:
    """Lend Keras to a walk: for this thread's calls only, and whole again afterwards."""
    with _LOCK, ExitStack() as stack:
        for owner, name, make in _hooks():
            stack.enter_context(mock.patch.object(owner, name, make(getattr(owner, name))))
        token = ACTIVE.set(walk)
        try:
            yield
        finally:
            ACTIVE.reset(token)


Original = Callable[..., Any]


Make = Callable[[Any], Any]
"""From what Keras has to what replaces it while a walk is on."""


def _hooks() -> Iterator[tuple[Any, str, Make]]:
    yield Operation, "symbolic_call", _operation
    yield keras.Layer, "symbolic_call", _operation
    yield operation_module, "any_symbolic_tensors", _instead(lambda *_: True)
    yield layer_module, "Node", _instead(lambda *_, **__: None)
    yield traceback_utils, "is_traceback_filtering_enabled", _instead(lambda: False)
    for module in _SYMBOLIC:
        yield module, "any_symbolic_tensors", _or_variables
    for module in (keras.ops, all_ops, core_ops, backend, own_backend):
        yield module, "shape", _shape
    for owner in (backend, own_backend):
        for name, namespace in _MODULES.items():
            yield owner, name, partial(_Module, operations=namespace)
        for name in ("cast", "convert_to_tensor"):
            yield owner, name, partial(_through, operation=getattr(keras.ops, name))
    for module in (keras.ops, all_ops):
        yield module, "is_tensor", _is_tensor
    for module in (keras.ops, all_ops):
        yield module, "custom_gradient", _instead(_without_gradient)
    yield quantizers, "unpack_int4", _computed
    yield keras.Layer, "add_loss", _instead(lambda *_, **__: None)
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
            return (original if ACTIVE.get() is None else function)(*args, **kwargs)

        return hook

    return make


def _swapped(function: Original) -> Original:
    return lambda x, other: function(other, x)


def _operation(original: Original) -> Original:
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        walk = ACTIVE.get()
        return original(self, *args, **kwargs) if walk is None else walk.operation(self, args, kwargs)

    return symbolic_call


def _or_variables(original: Original) -> Original:
    """A weight takes part as itself, under its name, and not as the numbers that it holds."""

    def any_symbolic_tensors(args: Any = None, kwargs: Any = None) -> bool:
        if original(args, kwargs):
            return True
        return ACTIVE.get() is not None and any(
            isinstance(x, keras.Variable) for x in tree.flatten((args, kwargs))
        )

    return any_symbolic_tensors


def _shape(original: Original) -> Original:
    def shape(x: Any) -> Any:
        walk = ACTIVE.get()
        return original(x) if walk is None or not isinstance(x, Traced) else walk.shape(x)

    return shape


def _is_tensor(original: Original) -> Original:
    return lambda x: (ACTIVE.get() is not None and isinstance(x, Traced)) or original(x)


def _computed(original: Original) -> Original:
    """What a function makes of a weight, in place of its operations."""

    def hook(x: Any, *args: Any, **kwargs: Any) -> Any:
        walk = ACTIVE.get()
        return (original if walk is None else partial(walk.computed, original))(x, *args, **kwargs)

    return hook


def _without_gradient(function: Original) -> Original:
    """What a function with a gradient of its own gives, which it hands on beside that gradient."""
    return lambda *args, **kwargs: function(*args, **kwargs)[0]


_MODULES: Mapping[str, Any] = {
    "core": keras.ops,
    "image": keras.ops.image,
    "linalg": keras.ops.linalg,
    "math": keras.ops,
    "nn": keras.ops.nn,
    "numpy": keras.ops.numpy,
}
"""Modules of TensorFlow's side of Keras, and where the operations of the same names are."""


_FILLS: Mapping[str, int | None] = {"empty": 0, "full": None, "ones": 1, "zeros": 0}


_UNASKED = frozenset("custom_gradient eye identity is_tensor tri".split())
"""Functions whose counterpart in ``keras.ops`` does not look for symbols: it would only call them again."""


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
        if name in _UNASKED:
            return original
        operation = getattr(self._operations, name, None) or getattr(keras.ops, name, None)
        return original if operation is None or ACTIVE.get() is None else _through(original, operation)


def _through(original: Original, operation: Original) -> Original:
    def hook(*args: Any, **kwargs: Any) -> Any:
        traced = ACTIVE.get() is not None and _has_symbols((args, kwargs))
        return (operation if traced else original)(*args, **kwargs)

    return hook


def _filled(original: Original, fill: Any) -> Original:
    """``zeros``, ``ones`` and ``full`` in a shape that a symbol is part of."""

    def filled(shape: Any, *args: Any, **kwargs: Any) -> Any:
        walk = ACTIVE.get()
        if walk is None or not _has_symbols(shape):
            return original(shape, *args, **kwargs)
        value, rest = (args[0] if args else kwargs["fill_value"], args[1:]) if fill is None else (fill, args)
        return walk.filled(shape, value, (rest[0] if rest else kwargs.get("dtype")) or keras.config.floatx())

    return filled


def _has_symbols(value: Any) -> bool:
    return any(isinstance(x, Traced) for x in tree.flatten(value))


def _refuse_state(*_: Any, **__: Any) -> Any:
    walk = ACTIVE.get()
    assert walk is not None
    raise walk.stateful()
