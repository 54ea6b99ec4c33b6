"""The functions of the namespace in numpy, of plain arrays.

Half and smaller floats are computed in float32 and rounded back, small integers in int32 and wrapped back;
see ``fold.py``, which also lets arithmetic on sizes pass through arrays of ``Size``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import numpy_helper

from netferry.converters.signature import Array

Axes = tuple[int, ...]
Dtype = np.dtype[Any]

WORDS: dict[str, Callable[..., Any]] = {
    **{
        word: getattr(np, name)
        for word, name in {
            "abs": "abs", "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh",
            "atan": "arctan", "atanh": "arctanh", "ceil": "ceil", "cos": "cos", "cosh": "cosh", "exp": "exp",
            "expm1": "expm1", "floor": "floor", "isinf": "isinf", "isnan": "isnan", "log": "log",
            "log1p": "log1p", "negative": "negative", "round": "rint", "sign": "sign", "sin": "sin",
            "sinh": "sinh", "sqrt": "sqrt", "square": "square", "tan": "tan", "tanh": "tanh",
            "reciprocal": "reciprocal", "logical_not": "logical_not", "bitwise_invert": "invert",
            "add": "add", "subtract": "subtract", "multiply": "multiply", "divide": "divide",
            "floor_divide": "floor_divide", "remainder": "remainder", "fmod": "fmod", "pow": "power",
            "maximum": "maximum", "minimum": "minimum", "equal": "equal", "not_equal": "not_equal",
            "less": "less", "less_equal": "less_equal", "greater": "greater",
            "greater_equal": "greater_equal", "logical_and": "logical_and", "logical_or": "logical_or",
            "logical_xor": "logical_xor", "bitwise_and": "bitwise_and", "bitwise_or": "bitwise_or",
            "bitwise_xor": "bitwise_xor", "left_shift": "left_shift", "right_shift": "right_shift",
            "where": "where", "reshape": "reshape", "broadcast_to": "broadcast_to",
            "permute_dims": "transpose", "expand_dims": "expand_dims", "squeeze": "squeeze",
            "concat": "concatenate", "stack": "stack", "flip": "flip", "tile": "tile", "roll": "roll",
            "take": "take", "tril": "tril", "triu": "triu", "matmul": "matmul", "einsum": "einsum",
        }.items()
    }
}  # fmt: skip
"""Name -> function; those of numpy under its names, the others below."""

STRUCTURAL = frozenset(
    """
    asarray astype bitcast full arange eye shape reshape broadcast_to permute_dims expand_dims squeeze concat
    stack unstack split flip tile roll slice pad diagonal where take take_along_axis gather_nd nonzero compress
    """.split()
)
"""Functions that move elements and never compute with them: any dtype goes through as it is."""


def word(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function under its name without the trailing underscore that keeps a builtin visible."""
    WORDS[function.__name__.rstrip("_")] = function
    return function


# ---- elementwise ------------------------------------------------------------------------------------------


@word
def erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x)).astype(x.dtype)


@word
def rsqrt(x: Array) -> Any:
    return 1 / np.sqrt(x)


@word
def sigmoid(x: Array) -> Any:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


@word
def trunc_divide(a: Array, b: Array) -> Any:
    """Toward zero: where floor went below a quotient that is not whole, one more."""
    quotient = np.floor_divide(a, b)
    return quotient + ((quotient * b != a) & ((a < 0) != (b < 0))).astype(quotient.dtype)


# ---- making and casting --------------------------------------------------------------------------------------


@word
def asarray(content: Any, dtype: Dtype) -> Array:
    return np.asarray(content).astype(dtype)


@word
def full(sizes: Sequence[int], value: Any, dtype: Dtype) -> Array:
    return np.full(sizes, value, dtype)


@word
def arange(start: Any, stop: Any, step: Any, dtype: Dtype) -> Any:
    """start + i * step, in float64 where it is not of integers."""
    first, last, by = (np.asarray(x).item() for x in (start, stop, step))
    count = max(math.ceil((last - first) / by), 0)
    return (first + np.arange(count) * by).astype(dtype)


@word
def eye(rows: int, columns: int, k: int, dtype: Dtype) -> Array:
    return np.eye(rows, columns, k).astype(dtype)


@word
def shape(x: Array) -> Array:
    return np.array(x.shape, np.int64)


@word
def astype(x: Array, dtype: Dtype) -> Any:
    return cast(x, dtype)


def cast(x: Array, dtype: Dtype, *, saturate: bool = True, round_mode: str = "up") -> Any:
    """As ONNX's Cast: floats to integers toward zero, to the small floats saturating, unless asked not to."""
    if dtype.kind == "O":
        return _to_text(x)
    if x.dtype.kind in "OUS":
        x = np.array(
            [float(text) if dtype.kind not in "iu" else int(text) for text in x.reshape(-1)]
        ).reshape(x.shape)
    if dtype.name == "float8_e8m0fnu":
        return numpy_helper.to_float8e8m0(x.astype(np.float32), saturate=saturate, round_mode=round_mode)
    if dtype.name.startswith("float8") and saturate:
        return numpy_helper.saturate_cast(x.astype(np.float32), dtype)
    if dtype.isbuiltin == 2 and dtype.name.startswith(("int", "uint")):
        return _wrapped(x, dtype)
    if x.dtype.isbuiltin == 2 and x.dtype.kind != "O":
        x = x.astype(np.float32)
    return x.astype(dtype)


def _wrapped(x: Array, dtype: Dtype) -> Any:
    """To an integer of 2 or 4 bits: its lowest bits."""
    bits = int("".join(filter(str.isdigit, dtype.name)))
    whole = x.astype(np.int32) & (2**bits - 1)
    return (whole if dtype.name[0] == "u" else (whole ^ 2 ** (bits - 1)) - 2 ** (bits - 1)).astype(dtype)


def _to_text(x: Array) -> Array:
    if x.dtype.kind in "OUS":
        return x.astype(object)
    wide = x.astype(np.float32) if x.dtype.isbuiltin == 2 else x
    return np.array([str(item) for item in wide.reshape(-1)], object).reshape(x.shape)


@word
def bitcast(x: Array, dtype: Dtype) -> Array:
    return np.ascontiguousarray(x).reshape(x.shape).view(dtype)


# ---- places -----------------------------------------------------------------------------------------------------


@word
def unstack(x: Array, axis: int) -> tuple[Array, ...]:
    return tuple(np.moveaxis(x, axis, 0))


@word
def split(x: Array, lengths: Sequence[int], axis: int) -> tuple[Array, ...]:
    return tuple(np.split(x, np.cumsum(lengths[:-1], dtype=np.int64), axis))


@word
def slice_(x: Array, positions: Mapping[int, tuple[Any, Any, Any]]) -> Array:
    return x[tuple(slice(*positions.get(axis, (None,))) for axis in range(x.ndim))]


@word
def pad(x: Array, pairs: Sequence[tuple[int, int]], mode: str, value: Any) -> Array:
    cut = x[tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(pairs, x.shape, strict=True))]
    pairs = [(max(a, 0), max(b, 0)) for a, b in pairs]
    if mode == "constant":
        whole = np.full([size + a + b for size, (a, b) in zip(cut.shape, pairs, strict=True)], value, x.dtype)
        whole[tuple(slice(a, a + size) for size, (a, _) in zip(cut.shape, pairs, strict=True))] = cut
        return whole
    return np.pad(cut, pairs, mode=mode)  # type: ignore[call-overload,no-any-return]


@word
def diagonal(x: Array, axis1: int, axis2: int) -> Array:
    return np.diagonal(x, 0, axis1, axis2)


# ---- picking and placing -------------------------------------------------------------------------------------------


@word
def take_along_axis(x: Array, indices: Array, axis: int) -> Array:
    return x[_grid(indices, x.shape[axis], axis)]


def _grid(indices: Array, size: int, axis: int) -> tuple[Array, ...]:
    """The place of each index: its own on every axis but one."""
    grid = list(np.indices(indices.shape, sparse=True))
    grid[axis] = np.where(indices < 0, indices + size, indices)
    return tuple(grid)


@word
def gather_nd(x: Array, indices: Array, batch_dims: int) -> Any:
    batch = np.indices(indices.shape[:-1], sparse=True)[:batch_dims]
    return x[(*batch, *np.moveaxis(indices, -1, 0))]


_MEET: Mapping[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scattered(x: Array, positions: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    out = x.copy()
    if reduction == "none":
        out[positions] = updates
    else:
        _MEET[reduction].at(out, positions, updates)
    return out


@word
def scatter_nd(x: Array, indices: Array, updates: Array, reduction: str) -> Array:
    return _scattered(x, tuple(np.moveaxis(indices, -1, 0)), updates, reduction)


@word
def scatter_along_axis(x: Array, indices: Array, updates: Array, axis: int, reduction: str) -> Array:
    return _scattered(x, _grid(indices, x.shape[axis], axis), updates, reduction)


@word
def nonzero(x: Array) -> Array:
    return np.array(np.nonzero(x), np.int64) if x.ndim else np.zeros((0, int(bool(x))), np.int64)


@word
def compress(x: Array, condition: Array, axis: int) -> Array:
    return np.compress(condition, x, axis)


@word
def topk(x: Array, k: int, axis: int, largest: bool) -> tuple[Array, Array]:
    if largest:  # the last of a stable ascending order of the reversed axis is the first of the largest
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis, kind="stable")
    order = np.take(order, np.arange(k), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


@word
def unique(x: Array, axis: int | None, sorted: bool) -> tuple[Array, ...]:  # noqa: A002
    values, first, inverse, counts = np.unique(x, True, True, True, axis=axis)
    if not sorted:
        order = np.argsort(first)
        rank = np.argsort(order)
        values, first, inverse, counts = (
            np.take(values, order, axis or 0), first[order], rank[inverse], counts[order],
        )  # fmt: skip
    return values, *(part.reshape(-1).astype(np.int64) for part in (first, inverse, counts))


# ---- along axes ---------------------------------------------------------------------------------------------------


@word
def sum_(x: Array, axes: Axes, keepdims: bool) -> Any:
    return np.sum(x, axes, dtype=x.dtype, keepdims=keepdims)


@word
def mean(x: Array, axes: Axes, keepdims: bool) -> Any:
    return np.mean(x, axes, keepdims=keepdims).astype(x.dtype)


@word
def prod(x: Array, axes: Axes, keepdims: bool) -> Any:
    return np.prod(x, axes, dtype=x.dtype, keepdims=keepdims)


def _lowest(dtype: Dtype) -> Any:
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _highest(dtype: Dtype) -> Any:
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


@word
def max_(x: Array, axes: Axes, keepdims: bool) -> Array:
    return np.asarray(np.max(x, axes, keepdims=keepdims, initial=_lowest(x.dtype))).astype(x.dtype)


@word
def min_(x: Array, axes: Axes, keepdims: bool) -> Array:
    return np.asarray(np.min(x, axes, keepdims=keepdims, initial=_highest(x.dtype))).astype(x.dtype)


@word
def argmax(x: Array, axis: int, keepdims: bool) -> Array:
    return np.asarray(np.argmax(x, axis, keepdims=keepdims), np.int64)


@word
def argmin(x: Array, axis: int, keepdims: bool) -> Array:
    return np.asarray(np.argmin(x, axis, keepdims=keepdims), np.int64)


@word
def cumulative_sum(x: Array, axis: int) -> Array:
    return np.cumsum(x, axis, dtype=x.dtype)


@word
def cumulative_prod(x: Array, axis: int) -> Array:
    return np.cumprod(x, axis, dtype=x.dtype)


@word
def logsumexp(x: Array, axes: Axes, keepdims: bool) -> Any:
    top = max_(x, axes, True)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - top), axes, keepdims=True)) + top
    return (total if keepdims else np.squeeze(total, axes)).astype(x.dtype)


@word
def softmax(x: Array, axis: int) -> Any:
    raised = np.exp(x - max_(x, (axis,), True))
    return raised / np.sum(raised, axis, keepdims=True)


@word
def log_softmax(x: Array, axis: int) -> Any:
    lowered = x - max_(x, (axis,), True)
    return lowered - np.log(np.sum(np.exp(lowered), axis, keepdims=True))


# ---- algebra -----------------------------------------------------------------------------------------------------


@word
def det(x: Array) -> Array:
    return np.asarray(np.linalg.det(x)).astype(x.dtype)


@word
def inv(x: Array) -> Array:
    return np.asarray(np.linalg.inv(x)).astype(x.dtype)


@word
def dft(x: Array, axis: int, length: int, inverse: bool, onesided: bool) -> Array:
    """Real numbers have a last axis of 1, complex ones of 2; an inverse of one side is real."""
    numbers = x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]
    if inverse and onesided:
        return np.fft.irfft(numbers, length, axis)[..., None].astype(x.dtype)
    moved = (np.fft.ifft if inverse else np.fft.fft)(numbers, length, axis)
    if onesided:
        moved = np.take(moved, np.arange(length // 2 + 1), axis)
    return np.stack([moved.real, moved.imag], -1).astype(x.dtype)


# ---- how much a word makes -------------------------------------------------------------------------------------------
