"""Pools, channels-last. What ONNX counts and Keras does not is divided by hand: an average over what is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, ceil_div
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops import OPS
from netferry.converters.graph.schema.padding import Pairs
from netferry.converters.tensorflow.from_onnx.convolution import every, is_same, pairs_of, short, strided
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.names import INT64, named
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.normalization import channels_last
from netferry.converters.tensorflow.from_onnx.table import NATIVE


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes; ``pads`` are ONNX's, ``beyond`` what ceil_mode adds behind them."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pairs
    beyond: tuple[Any, ...]
    same: bool

    @property
    def plain(self) -> bool:
        return all(pair == (0, 0) for pair in self.pads) and not any(self.beyond)

    @property
    def all_pads(self) -> Pairs:
        return [(before, after + more) for (before, after), more in zip(self.pads, self.beyond, strict=True)]


def window(
    x: Symbol, kernel: Sequence[int], strides: Any, dilations: Any, auto_pad: str, pads: Any, ceil_mode: int
) -> Window:
    rank = x.ndim - 2
    step, spread = every(strides, rank), every(dilations, rank)
    sizes = x.shape[2:]
    pairs = pairs_of(auto_pad, pads, sizes, kernel, step, spread)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    beyond = tuple(
        _beyond(size, pair, s, reach) if ceil_mode else 0
        for size, pair, s, reach in zip(sizes, pairs, step, span, strict=True)
    )
    padded = any(pair != (0, 0) for pair in pairs)
    same = padded and is_same(pairs, sizes, kernel, step, spread) and not any(beyond)
    return Window(tuple(kernel), tuple(step), tuple(spread), pairs, beyond, same)


def _beyond(size: Any, pair: tuple[Any, Any], stride: int, span: int) -> Any:
    """How far the last window of ceil_mode reaches behind the padding; it starts on the input or the pad before it."""
    if stride == 1:
        return 0
    before, after = pair
    if isinstance(size, Size):
        raise CannotConvert("ceil_mode on an axis whose size is not known before it runs")
    count = ceil_div(size + before + after - span, stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return max((count - 1) * stride + span - (size + before + after), 0)


def pooled(xp: TensorflowNamespace, kind: str, base: Any, w: Window, dtype: Any, padding: str) -> Any:
    """The pool itself over a channels-last tensor: a layer of Keras, or TensorFlow's operation."""
    rank = len(w.kernel)
    spread = any(d > 1 for d in w.dilations)
    if xp.functional and not spread:
        layer = xp.call_expr(
            dotted(f"layers.{kind}Pooling{rank}D"), short(w.kernel), strides=short(w.strides),
            padding=None if padding == "valid" else padding, dtype=named(dtype),
        )  # fmt: skip
        return xp.call_expr(layer, base)
    if xp.functional:
        raise CannotConvert("a functional Keras model has no pool with dilations")
    apart = spread and any(s > 1 for s in w.strides)
    made = xp.call_expr(
        dotted("tf.nn.pool"), base, list(w.kernel), "MAX" if kind == "Max" else "AVG",
        strides=[1] * rank if apart else list(w.strides), padding=padding.upper(),
        dilations=list(w.dilations) if spread else None,
    )  # fmt: skip
    return strided(xp, Tensor(xp, Fact(dtype), made), w.strides).base if apart else made


def lowest(dtype: np.dtype[Any]) -> Any:
    return float("-inf") if dtype.kind == "f" else int(np.iinfo(dtype).min)


@NATIVE.row("MaxPool")
def MaxPool(
    xp: TensorflowNamespace,
    x: Symbol,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Any:
    """Padding is lower than anything: -inf."""
    w = window(x, kernel_shape, strides, dilations, auto_pad, pads, ceil_mode)
    if x.dtype.kind not in "fiu" or not 1 <= len(w.kernel) <= 3:
        raise CannotConvert(f"TensorFlow pools no {x.dtype} over {len(w.kernel)} axes")
    wide = (
        x
        if x.dtype.kind == "f"
        else xp.astype(x, np.dtype(np.float64 if x.dtype.itemsize > 2 else np.float32))
    )
    base, perm = channels_last(xp, wide)
    if xp.wanted(1):
        return _with_places(xp, x, base, perm, w, storage_order)
    if not w.plain and not w.same:
        base = xp.padded(base, ((0, 0), *w.all_pads, (0, 0)), float("-inf"), wide.dtype)
    made = Tensor(
        xp, Fact(wide.dtype), pooled(xp, "Max", base, w, wide.dtype, "same" if w.same else "valid"), perm
    )
    return made if wide is x else xp.astype(made, x.dtype)


def _with_places(
    xp: TensorflowNamespace, x: Symbol, base: Any, perm: Any, w: Window, storage_order: int
) -> Any:
    """Values and their places in the flattened (batch, channels, *space) input, by TensorFlow's argmax of a 2-D pool."""
    if xp.functional or len(w.kernel) not in (1, 2) or any(d > 1 for d in w.dilations):
        raise CannotConvert(
            "TensorFlow gives the places of maxima for windows over two axes without dilations"
        )
    if len(w.kernel) == 1:
        base = xp.call_expr(dotted("tf.expand_dims"), base, 1)
        w = Window((1, *w.kernel), (1, *w.strides), (1, 1), [(0, 0), *w.pads], (0, *w.beyond), False)
        lifted = True
    else:
        lifted = False
    (top, _), (left, _) = w.all_pads
    _, channels, *space = x.shape
    height, width = (1, *space) if lifted else tuple(space)
    padded = xp.padded(base, ((0, 0), *w.all_pads, (0, 0)), float("-inf"), x.dtype)
    named_base = xp.let(Symbol(xp, Fact(x.dtype), padded), "padded")
    whole = xp.call(
        "tf.nn.max_pool_with_argmax", named_base, list(w.kernel), list(w.strides), padding="VALID",
        output_dtype=dotted("tf.int64"), include_batch_in_index=True, dtype=x.dtype,
    )  # fmt: skip
    values, places = xp.unpack(whole, 2, [x.dtype, INT64])
    flat_width = width + sum(w.all_pads[1])
    flat_height = height + sum(w.all_pads[0])
    channel, rest = xp.remainder(places, channels), xp.floor_divide(places, channels)
    column, rest = xp.remainder(rest, flat_width) - left, xp.floor_divide(rest, flat_width)
    row, image = xp.remainder(rest, flat_height) - top, xp.floor_divide(rest, flat_height)
    inner = row + column * height if storage_order else row * width + column
    index = (image * channels + channel) * (height * width) + inner
    turned = [Tensor(xp, part.fact, part.expr) for part in (values, index)]
    if lifted:
        turned = [xp.call("tf.squeeze", part, [1], dtype=part.dtype) for part in turned]  # type: ignore[misc]
    return tuple(Tensor(xp, Fact(part.dtype), part.expr, perm) for part in turned)


@NATIVE.row("AveragePool")
def AveragePool(
    xp: TensorflowNamespace,
    x: Symbol,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    """TensorFlow's SAME leaves padding out of the average; what else is counted is an average of ones."""
    w = window(x, kernel_shape, strides, dilations, auto_pad, pads, ceil_mode)
    if not 1 <= len(w.kernel) <= 3:
        raise CannotConvert(f"TensorFlow pools over 1 to 3 axes, not {len(w.kernel)}")
    base, perm = channels_last(xp, x)
    fact = Fact(x.dtype)
    if w.plain:
        return Tensor(xp, fact, pooled(xp, "Average", base, w, x.dtype, "valid"), perm)
    if w.same and not count_include_pad:
        return Tensor(xp, fact, pooled(xp, "Average", base, w, x.dtype, "same"), perm)
    whole = xp.padded(base, ((0, 0), *w.all_pads, (0, 0)), 0, x.dtype)
    made = pooled(xp, "Average", whole, w, x.dtype, "valid")
    if count_include_pad and not any(w.beyond):
        return Tensor(xp, fact, made, perm)
    corner = [slice(None, 1), *[slice(None)] * len(w.kernel), slice(None, 1)]
    plane = xp.index(Symbol(xp, fact, base), *corner)
    ones = xp.call_expr(dotted(f"{xp.root}.ones_like"), plane)
    if count_include_pad:
        ones = xp.padded(ones, ((0, 0), *w.pads, (0, 0)), 1, x.dtype)
        counted: Pairs = [(0, more) for more in w.beyond]
    else:
        counted = w.all_pads
    ones = xp.padded(ones, ((0, 0), *counted, (0, 0)), 0, x.dtype)
    share = pooled(xp, "Average", ones, w, x.dtype, "valid")
    return Tensor(xp, fact, xp.binary("/", made, share).expr, perm)


@NATIVE.row("GlobalAveragePool")
def GlobalAveragePool(xp: TensorflowNamespace, x: Symbol) -> Any:
    return _global(xp, x, "GlobalAverage", "GlobalAveragePool")


@NATIVE.row("GlobalMaxPool")
def GlobalMaxPool(xp: TensorflowNamespace, x: Symbol) -> Any:
    return _global(xp, x, "GlobalMax", "GlobalMaxPool")


def _global(xp: TensorflowNamespace, x: Symbol, kind: str, operator: str) -> Any:
    if not xp.functional or not 3 <= x.ndim <= 5:
        return OPS[operator](xp, x)
    base, perm = channels_last(xp, x)
    layer = xp.call_expr(dotted(f"layers.{kind}Pooling{x.ndim - 2}D"), keepdims=True, dtype=named(x.dtype))
    return xp.made(
        xp.call_expr(layer, base), dtype=x.dtype, dims=(*x.shape[:2], *[1] * (x.ndim - 2)), perm=perm
    )
