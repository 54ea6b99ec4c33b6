"""Pools, channels-last. What ONNX counts and Keras does not is divided by hand: an average over what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.padding import Pairs
from netferry.converters.graph.schema.windows import Window, Windows
from netferry.converters.tensorflow.from_onnx.convolution import concise, is_same, strided
from netferry.converters.tensorflow.from_onnx.function_names import INT64, layer_dtype
from netferry.converters.tensorflow.from_onnx.layer_calls import channels_last
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


@dataclass(frozen=True)
class Pool:
    """A pool over the spatial axes: ``pads`` are ONNX's, ``missing`` is what ceil_mode adds behind them, and is never counted.

    ``same`` is set where TensorFlow's SAME pads exactly so.
    """

    windows: Windows
    pads: Pairs
    missing: tuple[Any, ...]
    same: bool = False

    @property
    def plain(self) -> bool:
        return all(pair == (0, 0) for pair in self.all_pads)

    @property
    def all_pads(self) -> Pairs:
        return [(before, after + more) for (before, after), more in zip(self.pads, self.missing, strict=True)]

    @property
    def padding(self) -> str:
        return "same" if self.same else "valid"


def pool_of(windows: Windows, space: Sequence[Any]) -> Pool:
    """The pool over an input of these sizes."""
    pairs, missing, halves = windows.pairs(space), (0,) * windows.rank, False
    if windows.ceil_mode:
        axes = windows.over(space)
        missing = tuple(map(_missing, axes))
        settings = {(axis.kernel, axis.stride, axis.dilation, axis.before, axis.after) for axis in axes}
        halves = any(missing) and settings == {(2, 2, 1, 0, 0)}  # SAME pads one behind an odd axis, no more
    same = halves or (not any(missing) and not leaps(windows) and is_same(pairs, windows, space))
    return Pool(windows, pairs, missing, same)


def _missing(axis: Window) -> Any:
    """What the last window reaches beyond the padding.

    Along an axis of any size it is what it is at the most: what is more than needed belongs to no window, as long as no
    window begins behind the input.
    """
    if axis.stride == 1:
        return 0
    if known([axis.missing]):
        return axis.missing
    if (axis.kernel - 1) * axis.dilation + 1 < axis.stride + axis.after:
        raise CannotConvert("ceil_mode on an axis whose size is not known before it runs")
    return axis.stride - 1


def leaps(windows: Windows) -> bool:
    """Whether it steps over elements, which TensorFlow's pools refuse."""
    return any(stride > size for stride, size in zip(windows.strides, windows.kernel, strict=True))


def pooled(xp: TensorflowNamespace, kind: str, base: Any, windows: Windows, dtype: Any, padding: str) -> Any:
    """The pool itself over a channels-last tensor: a layer of Keras, or TensorFlow's operation."""
    rank, strides = windows.rank, windows.strides
    dilated = max(windows.dilations) > 1
    if xp.functional and not (dilated or leaps(windows)):
        layer = xp.call_expr(
            dotted(f"layers.{kind}Pooling{rank}D"), concise(windows.kernel), strides=concise(strides),
            padding=None if padding == "valid" else padding, dtype=layer_dtype(dtype),
        )  # fmt: skip
        return xp.call_expr(layer, base)
    if xp.functional:
        raise CannotConvert(
            "a functional Keras model has no pool with dilations, or with strides beyond its windows"
        )
    apart = (dilated or leaps(windows)) and max(strides) > 1
    made = xp.call_expr(
        dotted("tf.nn.pool"), base, list(windows.kernel), "MAX" if kind == "Max" else "AVG",
        strides=[1] * rank if apart else list(strides), padding=padding.upper(),
        dilations=list(windows.dilations) if dilated else None,
    )  # fmt: skip
    return strided(xp, Tensor(xp, Fact(dtype), made), strides).base if apart else made


def _poolable(xp: TensorflowNamespace, x: Symbol, rank: int) -> Symbol:
    """The input as floats that hold it and that TensorFlow has a pool over so many axes for, also on processors."""
    floats = is_float(x.dtype)
    if not (floats or x.dtype.kind in "iu") or not 1 <= rank <= 3:
        raise CannotConvert(f"TensorFlow pools no {x.dtype} over {rank} axes")
    small, large = np.dtype("float32"), np.dtype("float64")
    held = x.dtype if floats else large if x.dtype.itemsize > 2 else small
    if rank == 3:
        if held == large:
            raise CannotConvert(f"TensorFlow pools no {x.dtype} over 3 axes")
        held = small
    return x if held == x.dtype else xp.astype(x, held)


@NATIVE.row("MaxPool")
def MaxPool(xp: TensorflowNamespace, x: Symbol, *, windows: Windows, storage_order: int) -> Any:
    """Padding is lower than anything, -inf; behind what is never negative 0, which small integers hold too."""
    pool = pool_of(windows, x.shape[2:])
    as_float = _poolable(xp, x, windows.rank)
    base, perm = channels_last(xp, as_float)
    if xp.wanted(1):
        return _with_indices(xp, x, base, perm, pool, bool(storage_order))
    if not pool.plain and not pool.same:
        base = xp.padded(base, ((0, 0), *pool.all_pads, (0, 0)), _lowest(xp), as_float.dtype)
    largest = pooled(xp, "Max", base, windows, as_float.dtype, pool.padding)
    made = Tensor(xp, Fact(as_float.dtype), largest, perm)
    return made if as_float is x else xp.astype(made, x.dtype)


_NEVER_NEGATIVE = frozenset({"Abs", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus"})


def _lowest(xp: TensorflowNamespace) -> float:
    """What never is the largest in a window, nor takes a gradient that would go elsewhere."""
    value = xp.node.inputs[0]
    maker = None if value is None else value.producer()
    return (
        0.0 if maker is not None and not maker.domain and maker.op_type in _NEVER_NEGATIVE else float("-inf")
    )


def _with_indices(
    xp: TensorflowNamespace, x: Symbol, base: Any, perm: Any, pool: Pool, column_major: bool
) -> Any:
    """Values and their indices in the flattened (batch, channels, *space) input, by TensorFlow's argmax of a 2-D pool."""
    windows, pads = pool.windows, pool.all_pads
    kernel, strides, space = list(windows.kernel), list(windows.strides), x.shape[2:]
    if xp.functional or windows.rank > 2 or max(windows.dilations) > 1:
        raise CannotConvert(
            "TensorFlow gives the indices of maxima for windows over two axes without dilations"
        )
    lifted = windows.rank == 1
    if lifted:
        base = xp.call_expr(dotted("tf.expand_dims"), base, 1)
        kernel, strides, space, pads = [1, *kernel], [1, *strides], (1, *space), [(0, 0), *pads]
    padded = xp.padded(base, ((0, 0), *pads, (0, 0)), float("-inf"), x.dtype)
    whole = xp.call(
        "tf.nn.max_pool_with_argmax", xp.let(Symbol(xp, Fact(x.dtype), padded), "padded"), kernel, strides,
        padding="VALID", output_dtype=dotted("tf.int64"), include_batch_in_index=True, dtype=x.dtype,
    )  # fmt: skip
    values, indices = xp.unpack(whole, 2, [x.dtype, INT64])
    index = _unpadded_index(xp, indices, x.shape[1], space, pads, column_major)
    results = [Tensor(xp, part.fact, part.expr) for part in (values, index)]
    if lifted:
        results = [xp.call("tf.squeeze", part, [1], dtype=part.dtype) for part in results]  # type: ignore[misc]
    return tuple(Tensor(xp, Fact(part.dtype), part.expr, perm) for part in results)


def _unpadded_index(
    xp: TensorflowNamespace, indices: Symbol, channels: Any, space: Any, pads: Pairs, column_major: bool
) -> Symbol:
    """Flat indices of a padded (batch, height, width, channels) tensor as those of (batch, channels, height, width)."""
    (top, _), (left, _) = pads
    height, width = space
    channel, rest = xp.remainder(indices, channels), xp.floor_divide(indices, channels)
    flat_width, flat_height = width + sum(pads[1]), height + sum(pads[0])
    column, rest = xp.remainder(rest, flat_width) - left, xp.floor_divide(rest, flat_width)
    row, image = xp.remainder(rest, flat_height) - top, xp.floor_divide(rest, flat_height)
    inner = row + column * height if column_major else row * width + column
    return (image * channels + channel) * (height * width) + inner  # type: ignore[no-any-return]


@NATIVE.row("AveragePool")
def AveragePool(xp: TensorflowNamespace, x: Symbol, *, windows: Windows, count_include_pad: int) -> Any:
    """TensorFlow's SAME leaves padding out of the average; what else is counted is an average of ones."""
    as_float = _poolable(xp, x, windows.rank)
    if as_float is not x:
        made = AveragePool(xp, as_float, windows=windows, count_include_pad=count_include_pad)
        return xp.astype(made, x.dtype)
    pool = pool_of(windows, x.shape[2:])
    base, perm = channels_last(xp, x)
    fact = Fact(x.dtype)
    if pool.plain or (pool.same and (any(pool.missing) or not count_include_pad)):
        return Tensor(xp, fact, pooled(xp, "Average", base, windows, x.dtype, pool.padding), perm)
    whole = xp.padded(base, ((0, 0), *pool.all_pads, (0, 0)), 0, x.dtype)
    made = pooled(xp, "Average", whole, windows, x.dtype, "valid")
    if count_include_pad and not any(pool.missing):
        return Tensor(xp, fact, made, perm)
    corner = [slice(None, 1), *[slice(None)] * windows.rank, slice(None, 1)]
    plane = xp.index(Symbol(xp, fact, base), *corner)
    ones = xp.call_expr(dotted(f"{xp.root}.ones_like"), plane)
    uncounted = pool.all_pads
    if count_include_pad:
        ones = xp.padded(ones, ((0, 0), *pool.pads, (0, 0)), 1, x.dtype)
        uncounted = [(0, more) for more in pool.missing]
    ones = xp.padded(ones, ((0, 0), *uncounted, (0, 0)), 0, x.dtype)
    share = pooled(xp, "Average", ones, windows, x.dtype, "valid")
    return Tensor(xp, fact, xp.binary("/", made, share).expr, perm)


def _global(kind: str) -> Any:
    def row(xp: TensorflowNamespace, x: Symbol) -> Any:
        if not xp.functional or not 3 <= x.ndim <= 5:
            return NotImplemented
        base, perm = channels_last(xp, x)
        layer = xp.call_expr(
            dotted(f"layers.{kind}Pooling{x.ndim - 2}D"), keepdims=True, dtype=layer_dtype(x.dtype)
        )
        dims = (*x.shape[:2], *[1] * (x.ndim - 2))
        return xp.made(xp.call_expr(layer, base), dtype=x.dtype, dims=dims, perm=perm)

    return row


for _kind in ("GlobalAverage", "GlobalMax"):
    NATIVE.row(f"{_kind}Pool")(_global(_kind))
