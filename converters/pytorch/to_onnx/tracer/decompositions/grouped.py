"""Functions that are decomposed into others: convolutions with as many groups as a free size.

ONNX has the number of groups as an attribute, which nothing computes. A filter for each image of the batch is a product of
each image's windows with its own filters instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed
from netferry.converters.pytorch.to_onnx.tracer.windows import both_sides, each

_MOST_PLACES = 1024
"""Places of a kernel, each of which is a slice of the input."""


def _convolution(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Any:
    """(batch, groups * channels, *space) with weight (groups * out, channels, *kernel); known groups have a row."""
    if isinstance(groups, int):
        return NotImplemented
    if input.dim() == axes + 1:
        return _convolution(
            axes, input.unsqueeze(0), weight, bias, stride, padding, dilation, groups
        ).squeeze(0)
    kernel, steps, apart = list(weight.shape[2:]), each(stride, axes), each(dilation, axes)
    if not all(isinstance(size, int) for size in kernel) or math.prod(kernel) > _MOST_PLACES:
        raise NotImplementedError(f"a convolution of {groups} groups whose kernel has the size {kernel}")
    x = _padded(input, both_sides(padding, kernel, apart))
    spans = [spread * (size - 1) for size, spread in zip(kernel, apart, strict=True)]
    sizes = [
        (n - span - 1) // step + 1 if step != 1 else n - span
        for n, span, step in zip(x.shape[2:], spans, steps, strict=True)
    ]
    channels, out = weight.shape[1], weight.shape[0] // groups
    x = x.reshape(x.shape[0], groups, channels, *x.shape[2:])
    places = product(*(range(0, size * spread, spread) for size, spread in zip(kernel, apart, strict=True)))
    windows = torch.stack([_window(x, place, sizes, steps) for place in places], 3)
    columns = windows.reshape(x.shape[0], groups, channels * math.prod(kernel), math.prod(sizes))
    found: Any = weight.reshape(groups, out, channels * math.prod(kernel)) @ columns
    y: Tensor = found.reshape(x.shape[0], groups * out, *sizes)
    return y if bias is None else y + bias.reshape(-1, *[1] * axes)


def _window(x: Tensor, place: Sequence[int], sizes: Sequence[Any], steps: Sequence[int]) -> Tensor:
    """(batch, groups, channels, *sizes): what one element of the kernel is multiplied with."""
    index: list[Any] = [
        slice(begin, begin + (size - 1) * step + 1, step)
        for begin, size, step in zip(place, sizes, steps, strict=True)
    ]
    where: Any = (..., *index)
    found: Tensor = x[where]
    return found


def _padded(x: Tensor, sides: Sequence[tuple[int, int]]) -> Tensor:
    flat = [one for side in reversed(sides) for one in side]
    return F.pad(x, flat) if any(flat) else x


def _transposed(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Any:
    """A convolution with the kernel turned round, over an input with zeros between its elements."""
    if isinstance(groups, int):
        return NotImplemented
    if input.dim() == axes + 1:
        whole = _transposed(
            axes, input.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation
        )
        return whole.squeeze(0)
    kernel, apart = list(weight.shape[2:]), each(dilation, axes)
    x = input
    for axis, step in enumerate(each(stride, axes), 2):
        x = _with_zeros_between(x, axis, step) if step != 1 else x
    reach = [spread * (size - 1) for size, spread in zip(kernel, apart, strict=True)]
    sides = [
        (far - cut, far - cut + more)
        for far, cut, more in zip(reach, each(padding, axes), each(output_padding, axes), strict=True)
    ]
    channels, out = weight.shape[0] // groups, weight.shape[1]
    turned = weight.reshape(groups, channels, out, *kernel).transpose(1, 2).flip(tuple(range(3, 3 + axes)))
    filters = turned.reshape(groups * out, channels, *kernel)
    return _convolution(axes, _padded(x, sides), filters, bias, 1, 0, apart, groups)


def _with_zeros_between(x: Tensor, axis: int, step: int) -> Tensor:
    size = x.shape[axis]
    wide = F.pad(x.unsqueeze(axis + 1), [0, 0] * (x.dim() - axis - 1) + [0, step - 1])
    return wide.flatten(axis, axis + 1).narrow(axis, 0, (size - 1) * step + 1)


for _axes in (1, 2, 3):
    decomposed(f"conv{_axes}d")(partial(_convolution, _axes))
    decomposed(f"conv_transpose{_axes}d")(partial(_transposed, _axes))
