"""Arithmetic on sizes and constants, done while the graph is written: numpy on numbers and ``Size``s."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size, product
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import MOST_CONTENT, Attrs

Fold = Callable[..., Any]


def folded(operator: str, a: Attrs, contents: Sequence[Array | None]) -> list[Array] | None:
    """What an operator gives for elements that are known, as arrays of numbers or of objects; None where it is not known."""
    fold = _FOLDS.get(operator)
    if fold is None or not contents or any(each is None for each in contents):
        return None
    try:
        with np.errstate(all="ignore"):
            if operator in _GROWN and not _GROWN[operator](*contents) <= MOST_CONTENT:
                return None
            made = fold(a, *contents)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, CannotConvert):
        return None
    results = made if isinstance(made, list) else [made]
    arrays = [_plain(each) for each in results]
    return None if any(each.size > MOST_CONTENT for each in arrays) else arrays


def _plain(x: Any) -> Array:
    """Objects that are all numbers become int64."""
    array = np.asarray(x)
    if array.dtype != object:
        return array
    if any(isinstance(each, Size) for each in array.reshape(-1)):
        return array
    return array.astype(np.int64)


def is_known(x: Array) -> bool:
    return bool(x.dtype != object)


def _objects(values: Sequence[Any]) -> Array:
    found = np.empty(len(values), object)
    found[:] = values
    return found


def _strided(a: Attrs, x: Array, begin: Array, end: Array, strides: Array) -> Array:
    bits = {
        name: a.integer(f"{name}_mask") for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list[Any] = []
    for position in range(len(strides)):
        bit = 1 << position
        if bits["ellipsis"] & bit:
            index.append(Ellipsis)
        elif bits["new_axis"] & bit:
            index.append(None)
        elif bits["shrink_axis"] & bit:
            index.append(int(begin[position]))
        else:
            low = None if bits["begin"] & bit else int(begin[position])
            high = None if bits["end"] & bit else int(end[position])
            index.append(slice(low, high, int(strides[position])))
    return np.asarray(x[tuple(index)])


def _gathered(a: Attrs, x: Array, indices: Array, axis: Any = 0) -> Array:
    if a.integer("batch_dims"):
        raise CannotConvert("by batches")
    return np.take(x, indices.astype(np.int64), axis=int(axis))


def _cast(a: Attrs, x: Array) -> Array:
    return x if x.dtype == object else x.astype(a.dtype("DstT"))


def _product(a: Attrs, x: Array, axes: Array) -> Any:
    if x.dtype == object and x.ndim == 1 and axes.size == 1:
        found = product(list(x))
        return _objects([found]) if a.flag("keep_dims") else np.asarray(found, object)
    return np.prod(x, axis=tuple(axes.reshape(-1)), keepdims=a.flag("keep_dims"), dtype=x.dtype)


def _reduced(function: Any) -> Fold:
    return lambda a, x, axes: function(
        x, axis=tuple(np.asarray(axes).reshape(-1)), keepdims=a.flag("keep_dims")
    ).astype(x.dtype)


def _typed_like(function: Any) -> Fold:
    """A function of arrays of one dtype, which the result keeps."""

    def fold(a: Attrs, *arrays: Array) -> Array:
        if any(array.dtype == object for array in arrays):
            arrays = tuple(map(_whole, arrays))
        made = np.asarray(function(*arrays))
        kinds = {array.dtype for array in arrays}
        return made.astype(kinds.pop()) if len(kinds) == 1 and made.dtype != object else made

    return fold


def _whole(x: Array) -> Array:
    """Numbers that are computed with sizes: of a size only whole multiples are known."""
    if x.dtype.kind == "f" and not np.array_equal(x, np.floor(x)):
        raise TypeError
    return x.astype(np.int64) if x.dtype.kind == "f" else x


def _split(a: Attrs, axis: Array, x: Array) -> list[Array]:
    return list(np.split(x, a.integer("num_split", 1), axis=int(axis)))


def _padded(a: Attrs, x: Array, amounts: Array) -> Array:
    return np.pad(x, amounts.astype(np.int64))


def _numbers_only(function: Any) -> Fold:
    """Not of sizes: what compares or orders them is not known."""

    def fold(a: Attrs, *arrays: Array) -> Any:
        if any(array.dtype == object for array in arrays):
            raise TypeError
        return function(a, *arrays)

    return fold


def _sums_of_gradient(_: Attrs, one: Array, other: Array) -> list[Array]:
    """Over which axes the gradients of two operands are added up that were broadcast to each other."""
    rank = max(one.size, other.size)
    both = [[1] * (rank - each.size) + list(each) for each in (one, other)]
    summed: list[list[int]] = [[], []]
    for axis, pair in enumerate(zip(*both, strict=True)):
        alone = [not isinstance(size, Size) and size == 1 for size in pair]
        if pair[0] != pair[1] and not any(alone):
            raise TypeError
        for axes, mine in zip(summed, alone, strict=True):
            axes += [axis] if mine else []
    return [np.asarray(axes, np.int32) for axes in summed]


def _range(a: Attrs, start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(start, limit, delta).astype(start.dtype)


_BINARY = {
    "Add": np.add, "AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "FloorDiv": np.floor_divide, "FloorMod": np.mod,
}  # fmt: skip
_NUMERIC = {
    "Maximum": np.maximum, "Minimum": np.minimum, "Pow": np.power, "RealDiv": np.true_divide,
    "Neg": np.negative, "Abs": np.abs, "Sqrt": np.sqrt, "Floor": np.floor, "Ceil": np.ceil, "Square": np.square, "Round": np.rint,
}  # fmt: skip
_COMPARED = {
    "Equal": np.equal, "NotEqual": np.not_equal, "Less": np.less, "LessEqual": np.less_equal, "Greater": np.greater,
    "GreaterEqual": np.greater_equal, "LogicalAnd": np.logical_and, "LogicalOr": np.logical_or, "LogicalNot": np.logical_not,
}  # fmt: skip

_FOLDS: Mapping[str, Fold] = {
    **{name: _typed_like(function) for name, function in _BINARY.items()},
    **{name: _numbers_only(_typed_like(function)) for name, function in _NUMERIC.items()},
    **{
        name: _numbers_only(lambda _a, *arrays, function=function: np.asarray(function(*arrays)))
        for name, function in _COMPARED.items()
    },
    "Identity": lambda _a, x: x,
    "StopGradient": lambda _a, x: x,
    "Cast": _cast,
    "StridedSlice": _strided,
    "Pack": lambda a, *arrays: (
        np.stack([np.asarray(each, object) for each in arrays], axis=a.integer("axis"))
        if any(each.dtype == object for each in arrays)
        else np.stack(arrays, axis=a.integer("axis"))
    ),
    "Unpack": lambda a, x: list(np.moveaxis(x, a.integer("axis"), 0)),
    "ConcatV2": lambda _a, *arrays: np.concatenate(arrays[:-1], axis=int(arrays[-1])),
    "GatherV2": _gathered,
    "Gather": _gathered,
    "Reshape": lambda _a, x, shape: x.reshape(shape.astype(np.int64)),
    "ExpandDims": lambda _a, x, axis: np.expand_dims(x, int(axis)),
    "Squeeze": lambda a, x: np.squeeze(x, tuple(a.integers("squeeze_dims")) or None),
    "Slice": lambda _a, x, begin, size: x[
        tuple(slice(int(b), None if s == -1 else int(b + s)) for b, s in zip(begin, size, strict=True))
    ],
    "Split": _split,
    "Transpose": _numbers_only(lambda _a, x, perm: x.transpose(perm)),
    "Prod": _product,
    "Sum": _reduced(np.sum),
    "Max": _numbers_only(_reduced(np.max)),
    "Min": _numbers_only(_reduced(np.min)),
    "All": _numbers_only(_reduced(np.all)),
    "Any": _numbers_only(_reduced(np.any)),
    "Range": _numbers_only(_range),
    "Fill": lambda _a, sizes, value: np.full([int(each) for each in sizes], value),
    "Tile": _numbers_only(lambda _a, x, times: np.tile(x, times)),
    "Pad": _numbers_only(_padded),
    "ReverseV2": _numbers_only(lambda _a, x, axes: np.flip(x, tuple(axes))),
    "Size": _numbers_only(lambda a, x: np.asarray(x.size, a.dtype("out_type", np.int32))),
    "SelectV2": _numbers_only(lambda _a, c, x, y: np.where(c, x, y)),
    "ZerosLike": _numbers_only(lambda _a, x: np.zeros_like(x)),
    "OnesLike": _numbers_only(lambda _a, x: np.ones_like(x)),
    "BroadcastArgs": _numbers_only(
        lambda _a, x, y: np.asarray(np.broadcast_shapes(tuple(x), tuple(y))).astype(x.dtype)
    ),
    "BroadcastTo": _numbers_only(lambda _a, x, sizes: np.broadcast_to(x, sizes)),
    "BroadcastGradientArgs": _sums_of_gradient,
    "InvertPermutation": _numbers_only(lambda _a, x: np.argsort(x).astype(x.dtype)),
}

_GROWN: Mapping[str, Callable[..., float]] = {
    "Range": lambda start, limit, delta: (float(limit) - float(start)) / float(delta),
    "Fill": lambda sizes, _value: _count(sizes),
    "Tile": lambda x, times: x.size * _count(times),
    "Pad": lambda x, amounts: _count(np.add(x.shape, amounts.sum(axis=1, dtype=np.float64))),
    "BroadcastTo": lambda _x, sizes: _count(sizes),
    **dict.fromkeys([*_BINARY, *_NUMERIC, *_COMPARED, "SelectV2"], lambda *arrays: _broadcast(arrays)),
    **dict.fromkeys(
        ["Gather", "GatherV2"], lambda x, indices, axis=0: indices.size * x.size / x.shape[int(axis)]
    ),
}
"""How many elements an operator makes out of a few numbers: asked before it makes them."""


def _broadcast(arrays: Sequence[Array]) -> float:
    return math.prod(map(float, np.broadcast_shapes(*(array.shape for array in arrays))))


def _count(sizes: Array) -> float:
    return float(np.prod(sizes.astype(np.float64)))
