"""ONNX's convolutions as MXNet's Convolution and Deconvolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema import padding
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.padding import LayerWindows, demand_rank, kernel_attributes
from netferry.converters.mxnet.from_onnx.table import NATIVE, demand_floats


@NATIVE.row("Conv")
def conv(
    xp: MxnetNamespace, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int
) -> Symbol:
    """x: (batch, channels, *space); w: (filters, channels / group, *kernel), as MXNet has it."""
    demand_floats(xp, x)
    layer = LayerWindows.over(x, windows)
    filters = w.size(0)
    dims = (x.shape[0], filters, *layer.outputs())
    if not layer.even:
        x = layer.pad(xp, x, 0.0)
    return xp.apply(
        "Convolution",
        *(part for part in (x, w, b) if part is not None),
        dims=dims,
        **kernel_attributes(windows, layer.begin if layer.even else None, dilate=True),
        num_filter=filters,
        num_group=group if group != 1 else None,
        no_bias=True if b is None else None,
    )


@NATIVE.row("ConvTranspose")
def conv_transpose(
    xp: MxnetNamespace,
    x: Symbol,
    w: Symbol,
    b: Symbol | None = None,
    *,
    windows: Windows,
    group: int,
    output_padding: Sequence[int] | None,
    output_shape: Sequence[int] | None,
) -> Symbol:
    """x: (batch, channels, *space); w: (channels, filters / group, *kernel), as MXNet has it.

    Uneven pads are cut off afterwards.
    """
    demand_floats(xp, x)
    demand_rank(x, windows)
    sizes, strides, none = x.shape[2:], windows.strides, (0,) * windows.rank
    begin, end, extra = _cut_off(windows, sizes, tuple(output_padding or none), output_shape)
    fits = begin == end and all(add < stride for add, stride in zip(extra, strides, strict=True))
    pad, adj = (begin, extra) if fits else (none, none)
    settings = zip(sizes, strides, windows.spans, adj, pad, strict=True)
    made = tuple((size - 1) * stride + span + add - 2 * p for size, stride, span, add, p in settings)
    y = xp.apply(
        "Deconvolution",
        *(part for part in (x, w, b) if part is not None),
        dims=(x.shape[0], w.size(1) * group, *made),
        **kernel_attributes(windows, pad, dilate=True),
        adj=adj if any(adj) else None,
        num_filter=w.size(1) * group,
        num_group=group if group != 1 else None,
        no_bias=b is None,
    )
    if fits:
        return y
    cuts = tuple(e - add for e, add in zip(end, extra, strict=True))
    if any(cut < 0 for cut in (*begin, *cuts)) or not known(made):
        raise CannotConvert("a transposed convolution whose output is longer than what it computes")
    positions = {
        axis + 2: (s, n - e, 1) for axis, (s, e, n) in enumerate(zip(begin, cuts, made, strict=True))
    }
    return xp.slice(y, positions)


def _cut_off(
    windows: Windows, sizes: Sequence[Any], extra: tuple[int, ...], output_shape: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """What is cut off at each end, and what is added (ONNX's ConvTranspose: output_shape and auto_pad say the total)."""
    totals = padding.excess(windows.auto_pad, output_shape, sizes, windows.spans, windows.strides, extra)
    if totals is None:
        begin, end = zip(*windows.listed, strict=True)
        return begin, end, extra
    if not known(sizes):
        raise CannotConvert("output sizes of a transposed convolution over axes whose sizes are not known")
    begin, end = zip(*(padding.halves(windows.auto_pad, max(total, 0)) for total in totals), strict=True)
    return begin, end, tuple(add + max(-total, 0) for add, total in zip(extra, totals, strict=True))
