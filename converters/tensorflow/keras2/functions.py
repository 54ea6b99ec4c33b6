"""TensorFlow's functions that a functional model of Keras 2 calls between its layers, as functions of ``keras.ops``.

Each takes TensorFlow's own parameters, under TensorFlow's names: the first by position, the others by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.errors import Unsupported, UnsupportedError
from netferry.converters.tensorflow.keras2.sizes import Sizes, computed, shape_of, with_sizes
from netferry.converters.tensorflow.runtime import KerasTensor, keras

ops = keras.ops

Function = Callable[..., Any]


def found(name: str, function: str) -> Function:
    """The function under TensorFlow's name for it; what it gives is named as its layer is.

    Raises:
        UnsupportedError: it has no row here.
    """
    row = FUNCTIONS.get(function.removeprefix("compat.v1."))
    if row is None:
        remedy = "Build the model in Keras 3 and load the weights into it"
        reason = f"tf.{function} has no counterpart here"
        raise UnsupportedError([Unsupported(name, "TFOpLambda", reason, remedy)])

    def called(first: Any, **keywords: Any) -> Any:
        return _named(row(first, **keywords), name)

    return called


def _named(result: Any, name: str) -> Any:
    """The operation that gave a result bears the layer's name, and so does an output."""
    if isinstance(result, KerasTensor):
        result._keras_history.operation.name = name
    return result


def _alike(x: Any, *others: Any) -> list[Any]:
    """Numbers and lists beside a tensor take its dtype, as TensorFlow gives it to them."""
    every = (x, *others)
    dtype = next((each.dtype for each in every if isinstance(each, KerasTensor)), None)
    return [np.asarray(each, dtype) if isinstance(each, list | tuple) else each for each in every]


def _one(function: Function) -> Function:
    return lambda x: function(x)


def _two(function: Function) -> Function:
    def called(x: Any, y: Any = None, b: Any = None) -> Any:
        other = b if y is None else y
        if computed(x) or computed(other):
            return with_sizes(function, x, other)
        return function(*_alike(x, other))

    return called


def _over_axes(function: Function) -> Function:
    return lambda x, axis=None, keepdims=False: function(x, axis=_plain(axis), keepdims=keepdims)


def _plain(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _sliced(x: Any, slice_spec: Any) -> Any:
    spec = tuple(map(_index, slice_spec if isinstance(slice_spec, list | tuple) else [slice_spec]))
    if isinstance(x, Sizes):
        return x[spec[0]]
    return x[spec]


def _index(part: Any) -> Any:
    if isinstance(part, Mapping):
        if "start" not in part:
            return Ellipsis
        return slice(part["start"], part["stop"], part["step"])
    return Ellipsis if part in ("Ellipsis", "...") else part


def _matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    a, b = _alike(a, b)
    turned = [ops.swapaxes(x, -1, -2) if flag else x for x, flag in ((a, transpose_a), (b, transpose_b))]
    return ops.matmul(*turned)


def _reshape(tensor: Any, shape: Any) -> Any:
    return with_sizes(ops.reshape, tensor, shape)


def _concat(values: Any, axis: int = 0) -> Any:
    return ops.concatenate(_alike(*_several(values)), axis=axis)


def _stack(values: Any, axis: int = 0) -> Any:
    values = _several(values)
    if any(map(computed, values)) or all(isinstance(value, int) for value in values):
        return Sizes(values)
    return ops.stack(_alike(*values), axis=axis)


def _several(values: Any) -> Sequence[Any]:
    return values if isinstance(values, list | tuple) else [values]


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    return ops.split(value, np.cumsum(num_or_size_splits)[:-1].tolist(), axis=axis)


def _unstack(value: Any, num: int | None = None, axis: int = 0) -> Any:
    if isinstance(value, Sizes):
        return list(value)
    return ops.unstack(value, num, axis=axis)


def _squeeze(x: Any, axis: Any = None) -> Any:
    return ops.squeeze(x, axis=_plain(axis) or None)


def _pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0) -> Any:
    if mode.upper() != "CONSTANT":
        return ops.pad(tensor, paddings, mode=mode.lower())
    return ops.pad(tensor, paddings, constant_values=constant_values)


def _gather(params: Any, indices: Any, axis: Any = 0, batch_dims: int = 0, **_: Any) -> Any:
    if batch_dims:
        return _gathered(params, indices, axis, batch_dims)
    params, indices = (np.asarray(x) if isinstance(x, list) else x for x in (params, indices))
    return ops.take(params, indices, axis=axis)


def _gathered(params: Any, indices: Any, axis: Any, batch_dims: int) -> Any:
    """Along the one axis behind those that both have, where the indices say one place for each row."""
    if axis not in (None, batch_dims) or params.ndim != batch_dims + 1 or batch_dims < 1:
        raise ValueError("gather with batch_dims")
    flat = indices.ndim == batch_dims
    places = ops.expand_dims(indices, -1) if flat else indices
    found = ops.take_along_axis(params, places, axis=batch_dims)
    return ops.squeeze(found, -1) if flat else found


def _looked_up(params: Any, ids: Any, max_norm: Any = None, **_: Any) -> Any:
    if max_norm is not None:
        raise ValueError("embedding_lookup with max_norm")
    return _gather(params, ids)


def _tensordot(a: Any, b: Any, axes: Any) -> Any:
    return ops.tensordot(*_alike(a, b), axes=axes)


def _norm(tensor: Any, axis: Any = None, keepdims: Any = None, **kind: Any) -> Any:
    order = kind.get("ord", "euclidean")
    return ops.norm(tensor, 2 if order == "euclidean" else order, axis=_plain(axis), keepdims=bool(keepdims))


def _top(x: Any, k: int = 1, **_: Any) -> Any:
    return list(ops.top_k(x, k))


def _sorted(values: Any, axis: int = -1, direction: str = "ASCENDING") -> Any:
    found = ops.sort(values, axis=axis)
    return found if direction == "ASCENDING" else ops.flip(found, axis=axis)


def _banded(x: Any, num_lower: int, num_upper: int) -> Any:
    below = x if num_lower < 0 else ops.triu(x, -num_lower)
    return below if num_upper < 0 else ops.tril(below, num_upper)


def _pooled(dimensions: int, function: Function) -> Function:
    """``ksize`` and ``strides`` are a number, one for each axis of space, or one for each axis."""

    def sizes(given: Any) -> Any:
        numbers = list(given) if isinstance(given, list | tuple) else [given] * dimensions
        return tuple(numbers[1:-1] if len(numbers) == dimensions + 2 else numbers)

    def called(x: Any, ksize: Any, strides: Any, padding: str, data_format: str | None = None) -> Any:
        first = data_format is not None and data_format.startswith("NC")
        layout = "channels_first" if first else "channels_last"
        return function(x, sizes(ksize), sizes(strides), padding=padding.lower(), data_format=layout)

    return called


def _where(condition: Any, x: Any, y: Any) -> Any:
    return ops.where(condition, *_alike(x, y))


def _clipped(t: Any, clip_value_min: Any, clip_value_max: Any) -> Any:
    return ops.clip(t, clip_value_min, clip_value_max)


def _one_hot(indices: Any, depth: int, axis: int = -1, dtype: str = "float32") -> Any:
    return ops.one_hot(indices, depth, axis=axis, dtype=dtype)


def _normalized(x: Any, axis: Any = None, epsilon: float = 1e-12) -> Any:
    square = ops.sum(ops.square(x), axis=_plain(axis), keepdims=True)
    return ops.multiply(x, ops.rsqrt(ops.maximum(square, epsilon)))


def _resized(images: Any, size: Any, method: str = "bilinear", antialias: bool = False) -> Any:
    return ops.image.resize(images, tuple(size), interpolation=method, antialias=antialias)


def _arg(function: Function) -> Function:
    return lambda x, axis=0, output_type="int64": ops.cast(function(x, axis=axis), output_type)


def _filled(value: int) -> Function:
    return lambda x, dtype=None: ops.cast(ops.full_like(x, value), dtype or x.dtype)


def _cast(x: Any, dtype: str) -> Any:
    return x if computed(x) or isinstance(x, int) else ops.cast(x, dtype)


_UNARY: Mapping[str, Function] = {
    "abs": ops.abs, "asinh": ops.arcsinh, "acosh": ops.arccosh, "atanh": ops.arctanh, "log_sigmoid": ops.log_sigmoid, "acos": ops.arccos, "asin": ops.arcsin, "atan": ops.arctan, "ceil": ops.ceil, "cos": ops.cos, "cosh": ops.cosh,
    "erf": ops.erf, "exp": ops.exp, "expm1": ops.expm1, "floor": ops.floor, "is_finite": ops.isfinite, "is_inf": ops.isinf,
    "is_nan": ops.isnan, "log": ops.log, "log1p": ops.log1p, "logical_not": ops.logical_not, "negative": ops.negative,
    "reciprocal": ops.reciprocal, "round": ops.round, "rsqrt": ops.rsqrt, "sigmoid": ops.sigmoid, "sign": ops.sign, "sin": ops.sin,
    "sinh": ops.sinh, "softplus": ops.softplus, "sqrt": ops.sqrt, "square": ops.square, "tan": ops.tan, "tanh": ops.tanh,
}  # fmt: skip
"""Names in ``tf.math``."""

_NN: Mapping[str, Function] = {
    "elu": ops.elu, "relu": ops.relu, "relu6": ops.relu6, "selu": ops.selu, "silu": ops.silu, "softsign": ops.softsign, "swish": ops.silu,
}  # fmt: skip
"""Activations in ``tf.nn`` without settings."""

_BINARY: Mapping[str, Function] = {
    "add": ops.add, "atan2": ops.arctan2, "divide": ops.true_divide, "divide_no_nan": ops.divide_no_nan, "equal": ops.equal,
    "floordiv": ops.floor_divide, "floormod": ops.mod, "greater": ops.greater, "greater_equal": ops.greater_equal, "less": ops.less,
    "less_equal": ops.less_equal, "logical_and": ops.logical_and, "logical_or": ops.logical_or, "logical_xor": ops.logical_xor,
    "maximum": ops.maximum, "minimum": ops.minimum, "mod": ops.mod, "multiply": ops.multiply, "not_equal": ops.not_equal, "pow": ops.power,
    "squared_difference": lambda x, y: ops.square(ops.subtract(x, y)), "subtract": ops.subtract, "truediv": ops.true_divide,
}  # fmt: skip
"""Names in ``tf.math``, of two tensors."""

_OPERATORS: Mapping[str, Function] = {
    "add": ops.add, "eq": ops.equal, "logical_and": ops.logical_and, "logical_not": ops.logical_not, "logical_or": ops.logical_or,
    "ne": ops.not_equal, "radd": lambda x, y: ops.add(y, x),
}  # fmt: skip

_REDUCTIONS: Mapping[str, Function] = {
    "all": ops.all, "any": ops.any, "logsumexp": ops.logsumexp, "max": ops.max, "mean": ops.mean, "min": ops.min, "prod": ops.prod,
    "std": ops.std, "sum": ops.sum, "variance": ops.var,
}  # fmt: skip

FUNCTIONS: Mapping[str, Function] = {
    **{f"math.{name}": _one(function) for name, function in _UNARY.items()},
    **{f"nn.{name}": _one(function) for name, function in {**_NN, **_UNARY}.items()},
    **{name: _one(function) for name, function in _UNARY.items()},
    **{f"math.{name}": _two(function) for name, function in _BINARY.items()},
    **{name: _two(function) for name, function in _BINARY.items()},
    **{f"__operators__.{name}": _two(function) for name, function in _OPERATORS.items() if name != "logical_not"},
    "__operators__.logical_not": _one(ops.logical_not),
    **{f"math.reduce_{name}": _over_axes(function) for name, function in _REDUCTIONS.items()},
    **{f"reduce_{name}": _over_axes(function) for name, function in _REDUCTIONS.items()},
    "__operators__.getitem": _sliced,
    **{f"{module}top_k": _top for module in ("math.", "nn.")},
    **{f"{module}norm": _norm for module in ("", "linalg.")},
    **{f"nn.{name}{d}d": _pooled(d, function) for d in (1, 2, 3) for name, function in (("max_pool", ops.max_pool), ("avg_pool", ops.average_pool))},
    "argmax": _arg(ops.argmax),
    "argmin": _arg(ops.argmin),
    "broadcast_to": lambda x, shape: with_sizes(ops.broadcast_to, x, shape),
    "cast": _cast,
    "clip_by_value": _clipped,
    "concat": _concat,
    "convert_to_tensor": lambda value, dtype=None: value if dtype is None else _cast(value, dtype),
    "expand_dims": lambda x, axis: ops.expand_dims(x, axis),
    "gather": _gather,
    "ensure_shape": lambda x, **_: x,
    "identity": lambda x: x,
    "image.resize": _resized,
    "linalg.l2_normalize": _normalized,
    "linalg.band_part": _banded,
    "linalg.diag_part": lambda x: ops.diagonal(x, axis1=-2, axis2=-1),
    "linalg.matmul": _matmul,
    "linalg.trace": lambda x: ops.trace(x, axis1=-2, axis2=-1),
    "math.add_n": lambda inputs: reduce(ops.add, _several(inputs)),
    "math.argmax": _arg(ops.argmax),
    "math.argmin": _arg(ops.argmin),
    "math.cumprod": lambda x, axis=0: ops.cumprod(x, axis=axis),
    "math.cumsum": lambda x, axis=0: ops.cumsum(x, axis=axis),
    "math.l2_normalize": _normalized,
    "matmul": _matmul,
    "nn.bias_add": lambda value, bias: ops.add(*_alike(value, bias)),
    "nn.embedding_lookup": _looked_up,
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "nn.l2_normalize": _normalized,
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
    "nn.log_softmax": lambda logits, axis=-1: ops.log_softmax(logits, axis=axis),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=axis),
    "one_hot": _one_hot,
    "ones_like": _filled(1),
    "pad": _pad,
    "repeat": lambda x, repeats, axis=None: ops.repeat(x, repeats, axis=axis),
    "reshape": _reshape,
    "reverse": lambda tensor, axis: ops.flip(tensor, axis=_plain(axis)),
    "roll": lambda x, shift, axis: ops.roll(x, _plain(shift), _plain(axis)),
    "shape": lambda x, **_: shape_of(x),
    "sort": _sorted,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "stop_gradient": lambda x: ops.stop_gradient(x),
    "tensordot": _tensordot,
    "tile": lambda x, multiples: with_sizes(ops.tile, x, multiples),
    "transpose": lambda a, perm=None, **_: ops.transpose(a, axes=perm),
    "unstack": _unstack,
    "where": _where,
    "where_v2": _where,
    "zeros_like": _filled(0),
}  # fmt: skip
"""By TensorFlow's names, without ``tf.`` and ``tf.compat.v1.``."""
