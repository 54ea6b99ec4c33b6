"""Convolutions with what has been fused into them, and those that have their channels last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.passes.contrib.activations import activated
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer

Windows = Mapping[str, Any]


def first(rank: int) -> list[int]:
    """The order that brings channels from the last place to the second."""
    return [0, rank - 1, *range(1, rank - 1)]


def last(rank: int) -> list[int]:
    """The order that brings channels from the second place to the last."""
    return [0, *range(2, rank), 1]


@opens("FusedConv")
def fused_conv(
    g: Writer,
    x: Value,
    w: Value,
    b: Maybe = None,
    z: Maybe = None,
    *,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    group: int = 1,
    windows: Windows,
) -> Value:
    """activation(Conv(X, W, B) + Z)."""
    y = g.Conv(x, w, b, group=group, **windows)
    return activated(g, activation, y if z is None else g.Add(y, z), activation_params)


@opens("NhwcFusedConv")
def nhwc_fused_conv(
    g: Writer,
    x: Value,
    w: Value,
    b: Maybe = None,
    z: Maybe = None,
    *,
    activation: str | None = None,
    activation_params: Sequence[float] = (),
    group: int = 1,
    windows: Windows,
) -> Value:
    """``fused_conv`` on (batch, *space, channels); the kernel is (out, in, *space) as ever."""
    y = g.Conv(g.transpose(x, first(g.rank(x))), w, b, group=group, **windows)
    y = y if z is None else g.Add(y, g.transpose(z, first(g.rank(z))))
    return g.transpose(activated(g, activation, y, activation_params), last(g.rank(x)))


@opens("NhwcConv")
def nhwc_conv(
    g: Writer,
    x: Value,
    w: Value,
    b: Maybe = None,
    *,
    group: int = 1,
    windows: Windows,
) -> Value:
    """x: (batch, *space, channels), w: (out, *space, in / group)."""
    rank = g.rank(x)
    y = g.Conv(g.transpose(x, first(rank)), g.transpose(w, first(rank)), b, group=group, **windows)
    return g.transpose(y, last(rank))


@opens("NhwcMaxPool")
def nhwc_max_pool(
    g: Writer,
    x: Value,
    *,
    kernel_shape: Sequence[int],
    ceil_mode: int = 0,
    windows: Windows,
) -> Value:
    rank = g.rank(x)
    moved = g.transpose(x, first(rank))
    y = g.MaxPool(moved, kernel_shape=list(kernel_shape), ceil_mode=ceil_mode, **windows)
    return g.transpose(y, last(rank))


@opens("ConvTransposeWithDynamicPads")
def conv_transpose_with_dynamic_pads(
    g: Writer,
    x: Value,
    w: Value,
    pads: Maybe = None,
    b: Maybe = None,
    *,
    group: int = 1,
    output_padding: Sequence[int] | None = None,
    windows: Windows,
) -> Value:
    """Pads that are computed are cut off the result."""
    if "auto_pad" in windows and pads is not None:
        raise CannotConvert(
            f"auto_pad={windows['auto_pad']!r} beside pads: netferry supports only 'NOTSET' here"
        )
    held = g.constant_of(pads)
    fixed = None if held is None else [int(size) for size in held]
    y = g.ConvTranspose(
        x,
        w,
        b,
        group=group,
        output_padding=None if output_padding is None else list(output_padding),
        pads=fixed,
        **windows,
    )
    if pads is None or fixed is not None:
        return y
    space = g.rank(x) - 2
    start, cut = g.slice(pads, 0, 0, space), g.slice(pads, 0, space, 2 * space)
    end = g.Sub(g.Shape(y, start=2), cut)
    return g.Slice(y, start, end, g.ints(*range(2, 2 + space)))
