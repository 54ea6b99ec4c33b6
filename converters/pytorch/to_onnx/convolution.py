"""The table of torch functions: convolutions. Tensors are (batch, channels, *space)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from torch.utils._sympy import functions as symbolic

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import onnx_pads, symmetric
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size
from netferry.converters.pytorch.to_onnx.tracer.windows import both_sides, each


def batched(e: Emitter, input: Tensor, axes: int, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """PyTorch also takes (channels, *space); ONNX wants a batch in front."""
    if input.rank == axes + 2:
        return layer(input)
    return e.g.Squeeze(layer(e.g.Unsqueeze(input, e.g.ints(0))), e.g.ints(0))


def _conv(
    axes: int,
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """(batch, channels, *space) with weight (out, in / groups, *kernel)."""
    if not isinstance(groups, int):
        raise CannotConvert(f"a convolution with as many groups as a free size ({groups})", "Fix that size")
    kernel = [weight.size(axis + 2) for axis in range(axes)]
    dilations = each(dilation, axes)
    return batched(
        e,
        input,
        axes,
        lambda x: e.g.Conv(
            x,
            weight,
            bias,
            kernel_shape=kernel,
            strides=each(stride, axes),
            pads=onnx_pads(both_sides(padding, kernel, dilations)),
            dilations=dilations,
            group=groups,
        ),
    )


def _conv_transpose(
    axes: int,
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """(batch, channels, *space) with weight (in, out / groups, *kernel)."""
    extra = each(output_padding, axes)
    if not all(isinstance(one, int) for one in extra):
        return _cut(e, input, weight, bias, each(stride, axes), padding, groups, dilation)
    return batched(
        e,
        input,
        axes,
        lambda x: e.g.ConvTranspose(
            x,
            weight,
            bias,
            kernel_shape=[weight.size(axis + 2) for axis in range(axes)],
            strides=each(stride, axes),
            pads=symmetric(each(padding, axes)),
            output_padding=extra if any(extra) else None,
            dilations=each(dilation, axes),
            group=groups,
        ),
    )


def _cut(
    e: Emitter, input: Tensor, weight: Tensor, bias: Tensor | None, stride: list[Any], padding: Any, groups: int, dilation: Any
) -> Tensor:  # fmt: skip
    """To the sizes that were asked for: as much as a stride can add at the ends is added, and the rest cut off."""
    axes = len(stride)
    whole = _conv_transpose(
        axes, e, input, weight, bias, stride, padding, [s - 1 for s in stride], groups, dilation
    )
    places = range(whole.rank - axes, whole.rank)
    starts, ends = e.g.ints(*[0] * axes), e.shape(list(e.out.dims[-axes:]))
    return e.g.Slice(whole, starts, ends, e.g.ints(*places))


for _axes in (1, 2, 3):
    row(f"conv{_axes}d")(partial(_conv, _axes))
    row(f"conv_transpose{_axes}d")(partial(_conv_transpose, _axes))


@row("unfold", "im2col")
def unfold(
    e: Emitter, input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """(batch, channels, h, w) -> (batch, channels * kernel elements, windows): a slice for each element of the kernel."""
    if input.rank != 4:
        raise CannotConvert("unfolding what has no batch", "Give it a batch of one")
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = (
        each(one, 2) for one in (kernel_size, dilation, padding, stride)
    )
    batch, channels, h, w = e.sizes_of(input)
    rows, columns = (
        _windows_along(n, k, d, p, s) for n, k, d, p, s in ((h, kh, dh, ph, sh), (w, kw, dw, pw, sw))
    )
    x = e.g.Pad(input, e.g.ints(0, 0, ph, pw, 0, 0, ph, pw)) if ph or pw else input
    parts = []
    for i, j in product(range(kh), range(kw)):
        top, left = i * dh, j * dw
        ends = e.shape([top + (rows - 1) * sh + 1, left + (columns - 1) * sw + 1])
        part = e.g.Slice(x, e.g.ints(top, left), ends, e.g.ints(2, 3), e.g.ints(sh, sw))
        parts.append(e.reshape(part, [batch, channels, 1, e.out.dims[2]]))
    return e.reshape(e.g.Concat(*parts, axis=2), e.out.dims)


def _windows_along(n: Size, kernel: int, dilation: int, padding: int, stride: int) -> Any:
    """How many windows fit along an axis."""
    room: Any = n + 2 * padding - dilation * (kernel - 1) - 1
    if stride == 1:
        return room + 1
    return (room // stride if isinstance(room, int) else symbolic.FloorDiv(room, stride)) + 1
