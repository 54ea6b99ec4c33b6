"""Rows of convolutions."""

from __future__ import annotations

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, cast, few

CHANNELS_FIRST = "None NCW NCHW NCDHW"


def demand_channels_first(a: Attrs) -> None:
    a.string("layout", "None", among=CHANNELS_FIRST)


def per_axis(a: Attrs, name: str, default: int, count: int) -> list[int]:
    """One number per spatial axis (MXNet takes more, and ignores them); by default the same everywhere."""
    return list(a.integers(name, ()) or (default,) * count)[:count]


@ROWS.row("Convolution")
def convolution(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (batch, channels, *space); weight: (filters, channels / groups, *kernel)."""
    demand_channels_first(a)
    kernel = list(a.integers("kernel"))
    return g.Conv(
        x,
        weight,
        None if a.flag("no_bias", False) else bias,
        kernel_shape=kernel,
        strides=per_axis(a, "stride", 1, len(kernel)),
        dilations=per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(per_axis(a, "pad", 0, len(kernel))),
        group=a.integer("num_group", 1),
    )


@ROWS.row("Deconvolution")
def deconvolution(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (batch, channels, *space); weight: (channels, filters / groups, *kernel)."""
    demand_channels_first(a)
    kernel = list(a.integers("kernel"))
    pads, adj = _around_target(a, x, len(kernel))
    return g.ConvTranspose(
        x,
        weight,
        None if a.flag("no_bias", True) else bias,
        kernel_shape=kernel,
        strides=per_axis(a, "stride", 1, len(kernel)),
        dilations=per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(pads),
        output_padding=adj if any(adj) else None,
        group=a.integer("num_group", 1),
    )


def _around_target(a: Attrs, x: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Padding, and what is added behind; where the sizes of the result are given, both follow from them."""
    target, kernel = per_axis(a, "target_shape", 0, count), a.integers("kernel")
    pads, adj = (per_axis(a, name, 0, count) for name in ("pad", "adj"))
    if not any(target):
        return pads, adj
    strides, dilations = (per_axis(a, name, 1, count) for name in ("stride", "dilate"))
    whole = [
        stride * (x.size(axis + 2) - 1) + dilation * (size - 1) + 1
        for axis, (stride, dilation, size) in enumerate(zip(strides, dilations, kernel, strict=True))
    ]
    more = [size - wanted for size, wanted in zip(whole, target, strict=True)]
    if not all(target) or min(more) < 0:
        raise CannotConvert(
            f"target_shape={tuple(target)} does not fit the {tuple(whole)} places that it makes"
        )
    return [(size + 1) // 2 for size in more], [size % 2 for size in more]


@ROWS.row("_contrib_DeformableConvolution")
def deformable(
    g: Emitter, a: Attrs, x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """x: (batch, channels, height, width); offset: (batch, 2 * groups * kernel, ...), of each position down, then across.

    Outside of the image there is nothing, and behind the middle of its last pixel that pixel goes on: ONNX fades there.
    """
    kernel, kinds = list(a.integers("kernel")), a.integer("num_deformable_group", 1)
    strides, dilations, pads = (
        per_axis(a, name, default, 2) for name, default in (("stride", 1), ("dilate", 1), ("pad", 0))
    )
    rows, columns = np.indices((offset.size(2), offset.size(3)))
    base, last = [], []
    for down, across in np.ndindex(*kernel):
        base += [
            rows * strides[0] - pads[0] + down * dilations[0],
            columns * strides[1] - pads[1] + across * dilations[1],
        ]
        last += [x.size(2) - 1, x.size(3) - 1]
    few(kinds * len(base) * rows.size)
    start = g.constant(np.tile(np.stack(base), (kinds, 1, 1))[None], offset.dtype)
    end = g.constant(np.tile(last, kinds).reshape(1, -1, 1, 1), offset.dtype)
    place = g.Add(offset, start)
    inside = g.And(g.GreaterOrEqual(place, g.scalar(0, place)), g.Less(place, g.Add(end, g.scalar(1, end))))
    pairs = g.Reshape(cast(g, inside, x.dtype), g.ints(0, kinds * len(base) // 2, 2, *rows.shape))
    mask = g.ReduceMin(pairs, g.ints(2), keepdims=0)
    return _deformed(g, a, x, g.Sub(g.Min(place, end), start), weight, bias, mask)


@ROWS.row("_contrib_ModulatedDeformableConvolution")
def modulated(
    g: Emitter, a: Attrs, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """As ``deformable``; mask: (batch, groups * kernel, ...), how much each position counts."""
    a.ignore("im2col_step")
    return _deformed(g, a, x, offset, weight, bias, mask)


def _deformed(
    g: Emitter, a: Attrs, x: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None
) -> Tensor:
    demand_channels_first(a)
    kernel = list(a.integers("kernel"))
    return g.DeformConv(
        x,
        weight,
        offset,
        None if a.flag("no_bias", False) else bias,
        mask,
        kernel_shape=kernel,
        strides=per_axis(a, "stride", 1, len(kernel)),
        dilations=per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(per_axis(a, "pad", 0, len(kernel))),
        group=a.integer("num_group", 1),
        offset_group=a.integer("num_deformable_group", 1),
    )
