"""Rows of convolutions."""

from __future__ import annotations

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import padding
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter

_CHANNELS_FIRST = "None NCW NCHW NCDHW"


def demand_channels_first(a: Attrs) -> None:
    a.string("layout", "None", among=_CHANNELS_FIRST)


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
    if any(a.integers("target_shape", ())):
        raise CannotConvert("target_shape is not supported", "Give pad and adj instead")
    kernel = list(a.integers("kernel"))
    adj = per_axis(a, "adj", 0, len(kernel))
    return g.ConvTranspose(
        x,
        weight,
        None if a.flag("no_bias", True) else bias,
        kernel_shape=kernel,
        strides=per_axis(a, "stride", 1, len(kernel)),
        dilations=per_axis(a, "dilate", 1, len(kernel)),
        pads=padding.symmetric(per_axis(a, "pad", 0, len(kernel))),
        output_padding=adj if any(adj) else None,
        group=a.integer("num_group", 1),
    )
