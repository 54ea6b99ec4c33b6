"""A TensorFlow or Keras model in float64: rebuilt from its layers, else its graph with every float widened."""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from netferry.converters.errors import CannotConvert, first_line
from netferry.converters.rounding import as_float32
from netferry.converters.signature import Array, Example, examples
from netferry.converters.tensorflow.frozen.edit import bodies
from netferry.converters.tensorflow.frozen.widen import Frozen, widened
from netferry.converters.tensorflow.interface import chosen_signature, functional, interface_of
from netferry.converters.tensorflow.runtime import ConcreteFunction, Operation, keras, quiet, tf

Change = Callable[[str, Array], Array]

Constant = Callable[[float], float]

NARROW = ("float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16")


def as_float64(model: Any, change: Change | None = None, given: Sequence[Example] | None = None) -> Any:
    """The model with weights and arithmetic in float64; ``change`` may move each widened weight and constant.

    A graph of layers is built again under the dtype policy float64, with the floats of its configurations as float32
    holds them; any other model is traced for the sizes of ``given`` and its graph is widened.

    Raises:
        CannotConvert: neither can be done, with the reason.
    """
    try:
        with quiet():
            return _rebuilt(model, change)
    except Exception as error:
        reason = first_line(error)
    try:
        with quiet():
            return widened(interface_of(model, given), given, change)
    except Exception as error:
        raise CannotConvert(f"no float64 form ({reason}; {first_line(error)})") from error


def weights(model: Any) -> dict[str, Array]:
    """Every variable of floats by its path, as it is."""
    arrays = {_path(variable): np.asarray(variable) for variable in _variables(model)}
    return {name: array for name, array in arrays.items() if array.dtype.kind == "f"}


def size(model: Any) -> int:
    """The number of weights."""
    return sum(math.prod(variable.shape) for variable in _variables(model))


def constants(model: Any) -> set[float]:
    """The floats that the layers' configurations hold."""
    if not isinstance(model, keras.Model):
        return set()
    try:
        return set(_floats(model.get_config()))
    except NotImplementedError:
        return {value for layer in model._flatten_layers() for value in _floats(layer.get_config())}


def narrowest(model: Any) -> str:
    """The shortest float dtype that the model computes in, or holds weights of."""
    kinds = {np.dtype(v.dtype.name if hasattr(v.dtype, "name") else v.dtype).name for v in _variables(model)}
    if isinstance(model, keras.Model):
        kinds |= {str(layer.compute_dtype) for layer in model._flatten_layers()}
    elif isinstance(model, ConcreteFunction):
        kinds |= computed_in(model.graph.as_graph_def())
    return next((kind for kind in ("bfloat16", "float16", "float32", "float64") if kind in kinds), "float32")


def computed_in(graph: Any) -> set[str]:
    """The dtypes in which a graph's operations compute: more than that tensors are kept, read or cast."""
    operations = (node for body in bodies(graph) for node in body.nodes if node.op not in _KEEPING)
    types = {each.type for node in operations for each in node.attr.values() if each.type}
    return {tf.as_dtype(one).base_dtype.name for one in types}


_KEEPING = frozenset("""
    Arg Cast Const Enter Exit Identity IdentityN Placeholder PlaceholderWithDefault ReadVariableOp Retval VarHandleOp
    Variable VariableV2 _Arg _Retval
""".split())  # fmt: skip
"""Operators that compute nothing: weights are kept in bfloat16 and computed with in float32, say."""


def run_rounded(wide: Any, arrays: Sequence[Array], u: float, seed: int) -> dict[str, Array]:
    """Outputs of a float64 run whose every operation rounds to ``u`` by chance."""
    if isinstance(wide, Frozen):
        return wide.run_rounded(arrays, u, seed)
    if wide not in _FROZEN:
        given = examples(arrays)
        with quiet():
            _FROZEN[wide] = widened(interface_of(wide, given), given)
    return _FROZEN[wide].run_rounded(arrays, u, seed)


_FROZEN: MutableMapping[Any, Frozen] = WeakKeyDictionary()


# ---- rebuilt from layers --------------------------------------------------------------------


def _rebuilt(model: Any, change: Change | None) -> Any:
    graph = functional(model)
    if graph is None:
        raise CannotConvert("its layers are called by Python code of its own")
    inputs = keras.tree.map_structure(_wide_input, graph.input)

    def constant(value: float) -> float:
        held = as_float32(value)
        return held if change is None else float(change("", np.asarray(held)))

    def argument(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size == 1:
            return np.full(value.shape, constant(float(value.reshape(-1)[0])))
        return constant(value) if isinstance(value, float) else value

    def called(operation: Any, *args: Any, **keywords: Any) -> Any:
        args, keywords = keras.tree.map_structure(argument, (args, keywords))
        return operation(*args, **keywords)

    wide = keras.models.clone_model(
        graph,
        input_tensors=inputs,
        clone_function=lambda layer: _wide_layer(layer, constant),
        call_function=called,
    )
    _copy_weights(graph, wide, change)
    return wide


def _wide_input(tensor: Any) -> Any:
    operation = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape, dtype=_wide_dtype(tensor.dtype), name=operation.name if operation else None
    )


def _wide_layer(layer: Any, constant: Constant) -> Any:
    if isinstance(layer, keras.layers.Layer):
        return layer.__class__.from_config(_wide_config(layer.get_config(), constant))
    if isinstance(layer, Operation) and getattr(layer, "dtype", None) in NARROW:
        return type(layer)(dtype="float64", name=layer.name)
    return layer


def _wide_config(config: Any, constant: Constant, key: str = "") -> Any:
    """A layer's configuration with every dtype of narrow floats widened, those of inner layers too, and its floats
    as the layer computes with them."""
    if key.endswith("dtype"):
        return _wide_dtype(config)
    if isinstance(config, float):
        return constant(config)
    if isinstance(config, dict):
        return {name: _wide_config(value, constant, name) for name, value in config.items()}
    return [_wide_config(value, constant) for value in config] if isinstance(config, list) else config


def _wide_dtype(dtype: Any) -> Any:
    if isinstance(dtype, dict):
        name = dtype.get("config", {}).get("name")
        return "float64" if name in NARROW else dtype
    name = getattr(dtype, "name", dtype)
    return "float64" if name in NARROW else dtype


def _copy_weights(source: Any, wide: Any, change: Change | None) -> None:
    if [tuple(v.shape) for v in source.weights] != [tuple(v.shape) for v in wide.weights]:
        raise CannotConvert("the rebuilt model has other weights")
    for old, new in zip(source.weights, wide.weights, strict=True):
        array = np.asarray(old)
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            new.assign(array)
            continue
        value = array.astype(np.float64)
        new.assign(value if change is None else change(_path(old), value))


# ---- what both have ---------------------------------------------------------------------------


def _variables(model: Any) -> list[Any]:
    if isinstance(model, keras.Model):
        return list(model.weights)
    holder = chosen_signature(model) if getattr(model, "signatures", None) else model
    return list(getattr(holder, "variables", ()) or ())


def _path(variable: Any) -> str:
    return str(getattr(variable, "path", None) or variable.name)


def _floats(config: Any) -> set[float]:
    if isinstance(config, float):
        return {config}
    items = (
        config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ()
    )
    return {value for item in items for value in _floats(item)}
