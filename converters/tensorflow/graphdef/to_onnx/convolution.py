"""Rows of convolutions, of (batch, *space, channels) and channels first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import attributes_of_same, onnx_pads
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter, Row


def channels_first(g: Emitter, a: Attrs, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor], bool]:
    """``x`` as (batch, channels, *space), the way back to its own layout, and whether it lay so already."""
    if a.text("data_format", "NHWC").startswith("NC"):
        return x, lambda y: y, True
    return (
        g.transpose(x, layout.channels_first(x.rank)),
        lambda y: g.transpose(y, layout.channels_last(y.rank)),
        False,
    )


def spatial(numbers: Sequence[int], first: bool, rank: int, default: int = 1) -> list[int]:
    """The numbers of the axes of space, of a list that has all axes."""
    if not numbers:
        return [default] * (rank - 2)
    return list(numbers[2:] if first else numbers[1:-1])


def unless(values: Sequence[int], default: int) -> list[int] | None:
    return None if all(value == default for value in values) else list(values)


def padding_of(
    g: Emitter,
    a: Attrs,
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    first: bool,
) -> dict[str, Any]:
    """``pads`` where they can be counted now, ``auto_pad`` where they depend on a size that is free."""
    mode = a.text("padding", "VALID")
    if mode == "VALID":
        return {}
    if mode == "EXPLICIT":
        flat = a.integers("explicit_paddings")
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        pairs = pairs[2:] if first else pairs[1:-1]
        return {"pads": onnx_pads(pairs)}
    return attributes_of_same((x.dims or ())[2:], kernel, strides, dilations)


def plain_weight(g: Emitter, kernel: Tensor, x: Tensor) -> tuple[Tensor, int]:
    """(*space, channels / groups, filters) as ONNX has it, and the number of groups."""
    space = kernel.rank - 2
    channels = (x.dims or (None, None))[1]
    groups = channels // kernel.size(space) if isinstance(channels, int) else 1
    return g.transpose(kernel, (space + 1, space, *range(space))), groups


def depthwise_weight(g: Emitter, kernel: Tensor, x: Tensor) -> tuple[Tensor, int]:
    """(*space, channels, multiplier) as ONNX has it, and the number of groups."""
    space = kernel.rank - 2
    *size, channels, multiplier = (kernel.size(axis) for axis in range(kernel.rank))
    shape, order = (channels * multiplier, 1, *size), (space, space + 1, *range(space))
    if kernel.array is not None:
        return g.weight(kernel.array.transpose(order).reshape(shape), g.title(kernel)), channels
    return g.Reshape(g.transpose(kernel, order), g.ints(*shape)), channels


def _conv(weigh: Callable[[Emitter, Tensor, Tensor], tuple[Tensor, int]]) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor, kernel: Tensor) -> Tensor:
        with_first, back, first = channels_first(g, a, x)
        strides, dilations = (spatial(a.integers(name), first, x.rank) for name in ("strides", "dilations"))
        size = [kernel.size(axis) for axis in range(kernel.rank - 2)]
        weight, groups = weigh(g, kernel, with_first)
        return back(
            g.convolved(
                "Conv",
                with_first,
                weight,
                kernel_shape=size,
                group=groups if groups > 1 else None,
                strides=unless(strides, 1),
                dilations=unless(dilations, 1),
                **padding_of(g, a, with_first, size, strides, dilations, first),
            )
        )

    return row


ROWS.row("Conv2D", "Conv3D")(_conv(plain_weight))
ROWS.row("DepthwiseConv2dNative")(_conv(depthwise_weight))


@ROWS.row("Conv2DBackpropInput", "Conv3DBackpropInputV2")
def conv_transpose(g: Emitter, a: Attrs, sizes: Tensor, kernel: Tensor, x: Tensor) -> Tensor:
    """The gradient of a convolution of what has ``sizes``; kernel: (*space, filters, channels)."""
    with_first, back, first = channels_first(g, a, x)
    space = kernel.rank - 2
    weight = g.transpose(kernel, (space + 1, space, *range(space)))
    strides, dilations = (spatial(a.integers(name), first, x.rank) for name in ("strides", "dilations"))
    content = g.content(sizes)
    wanted: list[Any] = [None] * space if content is None else spatial(list(content), first, x.rank)
    spans = [(kernel.size(axis) - 1) * dilations[axis] + 1 for axis in range(space)]
    extents = [
        _extent(a, want, g.size_of(with_first, axis + 2), span, stride, axis, first)
        for axis, (want, span, stride) in enumerate(zip(wanted, spans, strides, strict=True))
    ]
    pads = onnx_pads([(begin, end) for begin, end, _ in extents])
    y = g.convolved(
        "ConvTranspose",
        with_first,
        weight,
        strides=unless(strides, 1),
        dilations=unless(dilations, 1),
        pads=pads if any(pads) else None,
        output_padding=unless([extra for *_, extra in extents], 0),
    )
    return back(y)


def _extent(
    a: Attrs, want: Any, size: Any, span: int, stride: int, axis: int, first: bool
) -> tuple[int, int, int]:
    """Padding before and after, and ONNX's ``output_padding``, of one axis.

    The convolution's own output has ``size`` places; how many places it read follows from ``want``.
    """
    mode = a.text("padding", "VALID")
    if mode == "EXPLICIT":
        flat = a.integers("explicit_paddings")
        begin, end = flat[2 * (axis + (2 if first else 1)) :][:2]
    elif mode == "VALID":
        begin = end = 0
    else:
        begin = end = -1
    tail = None if want is None else want - (size - 1) * stride
    if not isinstance(
        tail, int
    ):  # a size that is free: as Keras asks for it, size * stride or (size - 1) * stride + span
        tail = stride if mode == "SAME" else max(span, stride) - max(begin, 0) - max(end, 0)
    if mode == "SAME":
        total = max(span - tail, 0)
        return total // 2, total - total // 2, max(tail - span, 0)
    extra = tail - (span - begin - end)
    if extra < 0:
        return begin, end - extra, 0
    return begin, end, extra


@ROWS.row("Dilation2D")
def dilation(g: Emitter, a: Attrs, x: Tensor, kernel: Tensor) -> Tensor:
    """x: (batch, height, width, channels); kernel: (rows, columns, channels). The largest of what is moved and raised by the kernel."""
    strides, rates = a.integers("strides")[1:3], a.integers("rates")[1:3]
    sizes = [kernel.size(axis) for axis in (0, 1)]
    spans = [(size - 1) * rate + 1 for size, rate in zip(sizes, rates, strict=True)]
    if a.text("padding") == "SAME":
        own = [x.dims[axis] if x.dims is not None else None for axis in (1, 2)]
        if not all(isinstance(size, int) for size in own) and strides != [1, 1]:
            raise CannotConvert(
                "its padding depends on a size that is free", "Fix its height and width (--fix)"
            )
        wide = [
            max((-(-size // stride) - 1) * stride + span - size, 0) if isinstance(size, int) else span - 1
            for size, stride, span in zip(own, strides, spans, strict=True)
        ]
        before = [each // 2 for each in wide]
        after = [each - half for each, half in zip(wide, before, strict=True)]
        x = g.Pad(x, g.ints(0, *before, 0, 0, *after, 0), g.constant(np.finfo(x.dtype).min, x.dtype))
    ends = [g.Sub(g.length(x, axis + 1), g.constant(span - 1, np.int64)) for axis, span in enumerate(spans)]
    parts = []
    for row in range(sizes[0]):
        for column in range(sizes[1]):
            begins = [row * rates[0], column * rates[1]]
            stops = g.vector(
                [g.Add(end, g.constant(begin, np.int64)) for end, begin in zip(ends, begins, strict=True)]
            )
            part = g.Slice(x, g.ints(*begins), stops, g.ints(1, 2), g.ints(*strides))
            raised = g.Gather(
                g.Gather(kernel, g.constant(row, np.int64), axis=0), g.constant(column, np.int64), axis=0
            )
            parts.append(g.Add(part, raised))
    return parts[0] if len(parts) == 1 else g.Max(*parts)
