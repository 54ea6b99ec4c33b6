"""Convolutions, channels-last: Keras' layers where the kernel is a weight, its operation where it is computed.

Padding arrives as Keras' 'valid' or 'same' where that is exactly what ONNX means, else as a padding of its own.
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
from netferry.converters.graph.schema import padding
from netferry.converters.graph.schema.padding import Pairs, same_upper
from netferry.converters.tensorflow.from_onnx.layers import called, weight
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.names import Weight, named
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.normalization import channels_last
from netferry.converters.tensorflow.from_onnx.table import NATIVE


def every(values: Sequence[int] | None, rank: int) -> list[int]:
    """An attribute with a number for each spatial axis; ones where it is left out."""
    return list(values) if values else [1] * rank


def short(values: Sequence[int]) -> Any:
    """One number where all are alike."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def pairs_of(
    auto_pad: str,
    pads: Sequence[int] | None,
    sizes: Sequence[Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> Pairs:
    """(before, after) of each spatial axis; sizes that are only known at run time are computed then."""
    if auto_pad in ("NOTSET", "", "VALID"):
        return padding.listed(auto_pad, pads, len(kernel))
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise CannotConvert(f"auto_pad is {auto_pad!r}")
    return padding.same(auto_pad, sizes, kernel, strides, dilations)


def is_same(
    pairs: Pairs,
    sizes: Sequence[Any],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> bool:
    """Whether TensorFlow's SAME pads exactly so."""
    settings = zip(pairs, sizes, kernel, strides, dilations, strict=True)
    return all(
        same_upper(size, k, stride, dilation) == tuple(pair) for pair, size, k, stride, dilation in settings
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
    layer = xp.call_expr(dotted(f"layers.ZeroPadding{len(pairs)}D"), padding, dtype=named(dtype))
    return xp.call_expr(layer, base)


def strided(xp: TensorflowNamespace, x: Tensor, strides: Sequence[int]) -> Tensor:
    """Every so many places of the spatial axes of a channels-last tensor."""
    if all(stride == 1 for stride in strides):
        return x
    cuts = [slice(None), *(slice(None, None, stride) for stride in strides)]
    base = Symbol(xp, Fact(x.dtype), x.base)
    return Tensor(xp, Fact(x.dtype), xp.index(base, *cuts).expr, x.perm)


@NATIVE.row("Conv")
def Conv(
    xp: TensorflowNamespace,
    x: Symbol,
    w: Symbol,
    b: Symbol | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    rank = x.ndim - 2
    if not 1 <= rank <= 3:
        raise CannotConvert(f"Keras convolves over 1 to 3 spatial axes, not {rank}")
    kernel = [w.size(axis) for axis in range(2, rank + 2)]
    step, spread = every(strides, rank), every(dilations, rank)
    pairs = pairs_of(auto_pad, pads, x.shape[2:], kernel, step, spread)
    apart = any(s > 1 for s in step) and any(d > 1 for d in spread)
    stride = [1] * rank if apart else step
    base, perm = channels_last(xp, x)
    same = is_same(pairs, x.shape[2:], kernel, stride, spread) and any(pair != (0, 0) for pair in pairs)
    if not same:
        base = zero_padded(xp, base, pairs, x.dtype)
    known = w.content is not None and (b is None or b.content is not None)
    convolve = _layer if known else _operation
    made = convolve(xp, base, x, w, b, group, stride, spread, "same" if same else "valid", perm)
    return strided(xp, made, step) if apart else made


def _layer(
    xp: TensorflowNamespace,
    base: Any,
    x: Symbol,
    w: Symbol,
    b: Symbol | None,
    group: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
    perm: Any,
) -> Tensor:
    assert w.content is not None
    rank, (filters, per_group) = w.ndim - 2, w.content.shape[:2]
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
        kind, weights, (*(None,) * (rank + 1), per_group * group), *args, short(w.content.shape[2:]), dtype=x.dtype,
        strides=None if set(strides) == {1} else short(strides), padding=None if padding == "valid" else padding,
        dilation_rate=None if set(dilations) == {1} else short(dilations), use_bias=None if b is not None else False, **extra,
    )  # fmt: skip
    return called(xp, layer, base, x, perm=perm)


def _operation(
    xp: TensorflowNamespace,
    base: Any,
    x: Symbol,
    w: Symbol,
    b: Symbol | None,
    group: int,
    strides: Sequence[int],
    dilations: Sequence[int],
    padding: str,
    perm: Any,
) -> Tensor:
    """The kernel is a tensor: (filters, channels / group, *space) turned to (*space, channels / group, filters)."""
    rank = w.ndim - 2
    if xp.functional and group > 1:
        raise CannotConvert("a functional Keras model has no grouped convolution with a computed kernel")
    kernel = xp.permute_dims(w, (*range(2, rank + 2), 1, 0))
    made = xp.call(
        "ops.conv" if xp.functional else "keras.ops.conv", base, kernel, strides=short(strides), padding=padding,
        data_format="channels_last", dilation_rate=short(dilations), dtype=x.dtype,
    )  # fmt: skip
    plain = Tensor(xp, Fact(x.dtype), made.expr)
    if b is not None:
        plain = xp.made(xp.call_expr(dotted(f"{xp.root}.add"), plain, b), dtype=x.dtype)
    return Tensor(xp, Fact(x.dtype), plain.base, perm)


@NATIVE.row("ConvTranspose")
def ConvTranspose(
    xp: TensorflowNamespace,
    x: Symbol,
    w: Symbol,
    b: Symbol | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    """The whole transposed convolution, cut to size: ONNX's pads take places away.

    A dilated one is a convolution with its kernel turned round: TensorFlow's own kernels for the CPU transpose none.
    """
    rank = x.ndim - 2
    if not 1 <= rank <= 3:
        raise CannotConvert(f"Keras convolves over 1 to 3 spatial axes, not {rank}")
    kernel = [w.size(axis) for axis in range(2, rank + 2)]
    step, spread = every(strides, rank), every(dilations, rank)
    span = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    added = list(output_padding) if output_padding else [0] * rank
    cuts = _cuts(auto_pad, pads, output_shape, x.shape[2:], step, span, added)
    if any(d > 1 for d in spread) and any(s > 1 for s in step):
        raise CannotConvert("Keras' transposed convolution has strides or dilations, not both")
    base, perm = channels_last(xp, x)
    if any(d > 1 for d in spread):
        return _turned_round(xp, base, x, w, b, group, spread, cuts, perm)
    ends = [max(s, e) - e for s, e in zip(step, span, strict=True)]
    pairs = [(before, after + end) for (before, after), end in zip(cuts, ends, strict=True)]
    parts = [_transposed(xp, base, x, w, b, part, group, step) for part in range(group)]
    whole = parts[0].base if group == 1 else xp.say("concat", [p.base for p in parts], -1, dtype=x.dtype).base
    short_by = [(max(-before, 0), max(-after, 0)) for before, after in pairs]
    if any(pair != (0, 0) for pair in short_by):
        if b is not None:
            raise CannotConvert("its output is longer than what its kernel reaches, and it has a bias")
        whole = zero_padded(xp, whole, short_by, x.dtype)
    inside = [
        slice(None),
        *(slice(max(before, 0) or None, -after if after > 0 else None) for before, after in pairs),
    ]
    if any(cut != slice(None) for cut in inside):
        whole = xp.index(Symbol(xp, Fact(x.dtype), whole), *inside).expr
    return Tensor(xp, Fact(x.dtype), whole, perm)


def _cuts(
    auto_pad: str,
    pads: Any,
    output_shape: Any,
    sizes: Sequence[Any],
    strides: Sequence[int],
    span: Sequence[int],
    added: Sequence[int],
) -> Pairs:
    """What is cut off (before, after) each axis of stride * (size - 1) + span places; less than nothing is added."""
    totals = padding.excess(auto_pad, output_shape, sizes, span, strides, added)
    if totals is None:
        cuts = padding.listed(auto_pad, pads, len(span))
    elif not known(totals):
        raise CannotConvert("its output's size is fixed and its input's is not known before it runs")
    else:
        cuts = [padding.halves(auto_pad, total if output_shape else max(total, 0)) for total in totals]
    return [(before, after - more) for (before, after), more in zip(cuts, added, strict=True)]


def _turned_round(
    xp: TensorflowNamespace,
    base: Any,
    x: Symbol,
    w: Symbol,
    b: Symbol | None,
    group: int,
    dilations: Sequence[int],
    cuts: Pairs,
    perm: Any,
) -> Tensor:
    """A transposed convolution of stride 1: the kernel, turned round, meets as much padding as it reaches."""
    rank = w.ndim - 2
    reach = [(k - 1) * d for k, d in zip(w.shape[2:], dilations, strict=True)]
    pads = [(far - before, far - after) for far, (before, after) in zip(reach, cuts, strict=True)]
    base = zero_padded(xp, base, [(max(before, 0), max(after, 0)) for before, after in pads], x.dtype)
    inside = [slice(max(-before, 0) or None, min(after, 0) or None) for before, after in pads]
    if any(cut != slice(None) for cut in inside):
        base = xp.index(Symbol(xp, Fact(x.dtype), base), slice(None), *inside).expr
    known = w.content is not None and (b is None or b.content is not None)
    convolve = _layer if known else _operation
    kernel = _exchanged(xp, w, group)
    return convolve(xp, base, x, kernel, b, group, [1] * rank, dilations, "valid", perm)


def _exchanged(xp: TensorflowNamespace, w: Symbol, group: int) -> Symbol:
    """(channels, filters / group, *space) turned round, as (filters, channels / group, *space)."""
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


def _transposed(
    xp: TensorflowNamespace,
    base: Any,
    x: Symbol,
    w: Symbol,
    b: Symbol | None,
    part: int,
    group: int,
    strides: Sequence[int],
) -> Tensor:
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
        turned = xp.permute_dims(w, (*range(2, rank + 2), 1, 0))
        if group > 1:
            turned = xp.slice(turned, {rank + 1: (part * channels, (part + 1) * channels, 1)})
        made = xp.call(
            "keras.ops.conv_transpose", base, turned, strides=short(strides),
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
        f"Conv{rank}DTranspose", weights, (*(None,) * (rank + 1), channels), filters, short(kernel.shape[:rank]),
        dtype=x.dtype, use_bias=None if b is not None else False, name=() if group == 1 else (w.fact.name,),
        strides=None if set(strides) == {1} else short(strides),
    )  # fmt: skip
    return called(xp, layer, base, x)
