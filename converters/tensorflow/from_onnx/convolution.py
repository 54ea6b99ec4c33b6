"""Convolutions, channels-last: Keras' layers where the kernel is a weight, its operation where it is computed.

Padding becomes Keras' 'valid' or 'same' where that is exactly what ONNX means, else a padding of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.padding import Pairs
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.tensorflow.from_onnx.function_names import Weight, layer_dtype
from netferry.converters.tensorflow.from_onnx.layer_calls import called, channels_last, weight
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


def concise(values: Sequence[int]) -> Any:
    """One number where all are alike."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def is_same(pairs: Pairs, windows: Windows, space: Sequence[Any]) -> bool:
    """Whether anything is padded, and exactly as TensorFlow's SAME pads for these windows."""
    return any(pair != (0, 0) for pair in pairs) and pairs == replace(windows, auto_pad="SAME_UPPER").pairs(
        space
    )


def zero_padded(xp: TensorflowNamespace, base: Any, pairs: Pairs, dtype: Any) -> Any:
    """Zeros round the spatial axes of a channels-last tensor."""
    if all(pair == (0, 0) for pair in pairs):
        return base
    if not xp.functional or len(pairs) > 3:
        return xp.padded(base, ((0, 0), *pairs, (0, 0)), 0, dtype)
    if not known(amount for pair in pairs for amount in pair):
        raise CannotConvert("its padding depends on a size that is known only when the model runs")
    padding = tuple(pairs[0]) if len(pairs) == 1 else tuple(pairs)
    layer = xp.call_expr(dotted(f"layers.ZeroPadding{len(pairs)}D"), padding, dtype=layer_dtype(dtype))
    return xp.call_expr(layer, base)


def strided(xp: TensorflowNamespace, x: Tensor, strides: Sequence[int]) -> Tensor:
    """Every so many elements of the spatial axes of a channels-last tensor."""
    if all(stride == 1 for stride in strides):
        return x
    cuts = [slice(None), *(slice(None, None, stride) for stride in strides)]
    base = Symbol(xp, Fact(x.dtype), x.base)
    return Tensor(xp, Fact(x.dtype), xp.index(base, *cuts).expr, x.perm)


@NATIVE.row("Conv")
def Conv(
    xp: TensorflowNamespace, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int
) -> Any:
    demand_rank(windows)
    pairs = windows.pairs(x.shape[2:])
    apart = max(windows.strides) > 1 and max(windows.dilations) > 1
    moved = replace(windows, strides=(1,) * windows.rank) if apart else windows
    base, perm = channels_last(xp, x)
    same = is_same(pairs, moved, x.shape[2:])
    if not same:
        base = zero_padded(xp, base, pairs, x.dtype)
    made = _convolved(xp, base, x, w, b, group, moved, "same" if same else "valid", perm)
    return strided(xp, made, windows.strides) if apart else made


def demand_rank(windows: Windows) -> None:
    """Refuse kernels that Keras' layers do not have."""
    if not 1 <= windows.rank <= 3:
        raise CannotConvert(f"Keras convolves over 1 to 3 spatial axes, not {windows.rank}")


def _convolved(
    xp: TensorflowNamespace, base: Any, x: Symbol, w: Symbol, b: Symbol | None, group: int, windows: Windows,
    padding: str, perm: Any,
) -> Tensor:  # fmt: skip
    """A layer where its weights are known, else the operation."""
    known = w.content is not None and (b is None or b.content is not None)
    return (_layer if known else _operation)(xp, base, x, w, b, group, windows, padding, perm)


def _layer(
    xp: TensorflowNamespace, base: Any, x: Symbol, w: Symbol, b: Symbol | None, group: int, windows: Windows,
    padding: str, perm: Any,
) -> Tensor:  # fmt: skip
    assert w.content is not None
    strides, dilations = windows.strides, windows.dilations
    rank, (filters, per_group) = windows.rank, w.content.shape[:2]
    depthwise = group > 1 and per_group == 1 and rank < 3 and len(set(strides)) == 1 and filters % group == 0
    if depthwise:
        kind, args = f"DepthwiseConv{rank}D", list[int]()
        split = w.content.reshape(group, filters // group, *w.content.shape[2:])
        kernel = split.transpose(*range(2, rank + 2), 0, 1)
        extra: dict[str, Any] = {"depth_multiplier": filters // group if filters > group else None}
    else:
        kind, args = f"Conv{rank}D", [filters]
        kernel = w.content.transpose(*range(2, rank + 2), 1, 0)
        extra = {"groups": group if group > 1 else None}
    weights = {"kernel": weight(w, kernel)}
    if b is not None:
        weights["bias"] = weight(b)
    layer = xp.layer(
        kind, weights, (*(None,) * (rank + 1), per_group * group), *args, concise(w.content.shape[2:]), dtype=x.dtype,
        strides=None if set(strides) == {1} else concise(strides), padding=None if padding == "valid" else padding,
        dilation_rate=None if set(dilations) == {1} else concise(dilations), use_bias=None if b is not None else False, **extra,
    )  # fmt: skip
    return called(xp, layer, base, x, perm=perm)


def _operation(
    xp: TensorflowNamespace, base: Any, x: Symbol, w: Symbol, b: Symbol | None, group: int, windows: Windows,
    padding: str, perm: Any,
) -> Tensor:  # fmt: skip
    """The kernel is a tensor: (filters, channels / group, *space) transposed to (*space, channels / group, filters)."""
    rank = w.ndim - 2
    if xp.functional and group > 1:
        raise CannotConvert("a functional Keras model has no grouped convolution with a computed kernel")
    kernel = xp.permute_dims(w, (*range(2, rank + 2), 1, 0))
    made = xp.call(
        "ops.conv" if xp.functional else "keras.ops.conv", base, kernel, strides=concise(windows.strides), padding=padding,
        data_format="channels_last", dilation_rate=concise(windows.dilations), dtype=x.dtype,
    )  # fmt: skip
    plain = Tensor(xp, Fact(x.dtype), made.expr)
    if b is not None:
        plain = xp.made(xp.call_expr(dotted(f"{xp.root}.add"), plain, b), dtype=x.dtype)
    return Tensor(xp, Fact(x.dtype), plain.base, perm)


@NATIVE.row("ConvTranspose")
def ConvTranspose(
    xp: TensorflowNamespace, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int,
    output_padding: Sequence[int] | None, output_shape: Sequence[int] | None,
) -> Any:  # fmt: skip
    """The whole transposed convolution, cut to size: ONNX's pads take positions away.

    A dilated one is a convolution with its kernel flipped: TensorFlow's own kernels for the CPU transpose none.
    """
    demand_rank(windows)
    extra = output_padding or [0] * windows.rank
    cuts = _cuts(windows, x.shape[2:], extra, output_shape)
    dilated = max(windows.dilations) > 1
    if dilated and max(windows.strides) > 1:
        raise CannotConvert("Keras' transposed convolution has strides or dilations, not both")
    base, perm = channels_last(xp, x)
    if dilated:
        return _dilated_transpose(xp, base, x, w, b, group, windows, cuts, perm)
    parts = [_transposed_group(xp, base, x, w, b, part, group, windows.strides) for part in range(group)]
    whole = (
        parts[0].base
        if group == 1
        else xp.write_call("concat", [p.base for p in parts], -1, dtype=x.dtype).base
    )
    ends = [max(stride, span) - span for stride, span in zip(windows.strides, windows.spans, strict=True)]
    pairs = [(before, after + end) for (before, after), end in zip(cuts, ends, strict=True)]
    added = [(max(-before, 0), max(-after, 0)) for before, after in pairs]
    if b is not None and any(pair != (0, 0) for pair in added):
        raise CannotConvert("its output is longer than what its kernel reaches, and it has a bias")
    whole = zero_padded(xp, whole, added, x.dtype)
    return Tensor(xp, Fact(x.dtype), cut_off(xp, whole, pairs, x.dtype), perm)


def _cuts(
    windows: Windows, space: Sequence[Any], extra: Sequence[int], output_shape: Sequence[int] | None
) -> Pairs:
    """What is cut off (before, after) each axis of stride * (size - 1) + span positions; less than nothing is added."""
    cuts = windows.cut_off(space, extra, output_shape)
    if not known(side for pair in cuts for side in pair):
        raise CannotConvert("its output's size is fixed and its input's is not known before it runs")
    if windows.auto_pad.startswith("SAME") and not output_shape:
        cuts = [pair if sum(pair) >= 0 else (0, 0) for pair in cuts]
    return [(before, after - more) for (before, after), more in zip(cuts, extra, strict=True)]


def cut_off(xp: TensorflowNamespace, base: Any, pairs: Pairs, dtype: Any) -> Any:
    """A channels-last tensor without the first and last elements of its spatial axes; negative numbers cut nothing."""
    inside = [slice(max(before, 0) or None, -after if after > 0 else None) for before, after in pairs]
    if all(cut == slice(None) for cut in inside):
        return base
    return xp.index(Symbol(xp, Fact(dtype), base), slice(None), *inside).expr


def _dilated_transpose(
    xp: TensorflowNamespace, base: Any, x: Symbol, w: Symbol, b: Symbol | None, group: int, windows: Windows,
    cuts: Pairs, perm: Any,
) -> Tensor:  # fmt: skip
    """A transposed convolution of stride 1: the kernel, flipped, meets as much padding as it reaches."""
    pads = [
        (span - 1 - before, span - 1 - after)
        for span, (before, after) in zip(windows.spans, cuts, strict=True)
    ]
    base = zero_padded(xp, base, [(max(before, 0), max(after, 0)) for before, after in pads], x.dtype)
    base = cut_off(xp, base, [(-before, -after) for before, after in pads], x.dtype)
    return _convolved(xp, base, x, _exchanged(xp, w, group), b, group, windows, "valid", perm)


def _exchanged(xp: TensorflowNamespace, w: Symbol, group: int) -> Symbol:
    """(channels, filters / group, *space) flipped, as (filters, channels / group, *space)."""
    (channels, per_group), space = (w.size(0), w.size(1)), w.shape[2:]
    parted = (group, channels // group, per_group, *space)
    shape = (group * per_group, channels // group, *space)
    axes = tuple(range(2, w.ndim))
    if w.content is not None:
        content = np.flip(w.content, axes).reshape(parted).swapaxes(1, 2).reshape(shape)
        return Symbol(xp, replace(w.fact, dims=shape, content=content))
    parts = xp.reshape(xp.flip(w, axes), parted)
    made = xp.reshape(xp.permute_dims(parts, (0, 2, 1, *range(3, w.ndim + 1))), shape)
    return Symbol(xp, Fact(w.dtype, shape), made.expr)


def _transposed_group(
    xp: TensorflowNamespace, base: Any, x: Symbol, w: Symbol, b: Symbol | None, part: int, group: int,
    strides: Sequence[int],
) -> Tensor:  # fmt: skip
    """One group of the whole transposed convolution, without padding."""
    rank, filters = w.ndim - 2, w.size(1)
    channels = w.size(0) // group
    if group > 1:
        cut = [*[slice(None)] * (rank + 1), slice(part * channels, (part + 1) * channels)]
        base = xp.index(Symbol(xp, Fact(x.dtype), base), *cut).expr
    if w.content is None or (b is not None and b.content is None):
        if xp.functional:
            raise CannotConvert(
                "a functional Keras model has no transposed convolution with a computed kernel"
            )
        transposed = xp.permute_dims(w, (*range(2, rank + 2), 1, 0))
        if group > 1:
            transposed = xp.slice(transposed, {rank + 1: (part * channels, (part + 1) * channels, 1)})
        made = xp.call(
            "keras.ops.conv_transpose", base, transposed, strides=concise(strides),
            padding="valid", data_format="channels_last", dtype=x.dtype,
        )  # fmt: skip
        if b is None:
            return made  # type: ignore[return-value]
        some = b if group == 1 else xp.slice(b, {0: (part * filters, (part + 1) * filters, 1)})
        return xp.made(xp.call_expr(dotted(f"{xp.root}.add"), made, some), dtype=x.dtype)
    kernel = w.content[part * channels : (part + 1) * channels].transpose(*range(2, rank + 2), 1, 0)
    weights = {"kernel": Weight(kernel) if group > 1 else weight(w, kernel)}
    if b is not None:
        assert b.content is not None
        bias = b.content[part * filters : (part + 1) * filters]
        weights["bias"] = Weight(bias) if group > 1 else weight(b, bias)
    layer = xp.layer(
        f"Conv{rank}DTranspose", weights, (*(None,) * (rank + 1), channels), filters, concise(kernel.shape[:rank]),
        dtype=x.dtype, use_bias=None if b is not None else False, name=() if group == 1 else (w.fact.name,),
        strides=None if set(strides) == {1} else concise(strides),
    )  # fmt: skip
    return called(xp, layer, base, x)
