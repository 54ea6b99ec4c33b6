"""Convolutions from strided slices: exact for every form, where a target's own kernel has not that form.

One slice of the padded input for each position in the kernel, multiplied by that position's weights. A pool combines the
slices instead (``pooling.py``). Sizes may be free.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.ir.sizes import Size, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import op
from netferry.converters.graph.schema.windows import Window, Windows


def padded(xp: Any, x: Any, axes: Sequence[Window], value: Any) -> Any:
    pairs = [(w.before, w.after + w.missing) for w in axes]
    if all(not isinstance(side, Size) and side == 0 for pair in pairs for side in pair):
        return x
    return xp.pad(x, ((0, 0), (0, 0), *pairs), "constant", value)


def slices(xp: Any, x: Any, axes: Sequence[Window]) -> list[Any]:
    """What each place of the kernel meets, in row-major order: (batch, channels, *out) each."""
    positions = itertools.product(*(range(w.kernel) for w in axes))
    return [
        xp.slice(x, {2 + i: w.slice(k) for i, (w, k) in enumerate(zip(axes, position, strict=True))})
        for position in positions
    ]


# ---- pools ------------------------------------------------------------------------------------------------------


# ---- convolutions ---------------------------------------------------------------------------------------------------


@op
def Conv(xp: Any, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int) -> Any:
    axes = windows.over(x.shape[2:])
    y = _convolved(xp, padded(xp, x, axes, 0), w, axes, x.shape[0], group)
    return y if b is None else y + xp.expand_dims(b, tuple(range(1, x.ndim - 1)))


def _convolved(xp: Any, x: Any, w: Any, axes: Sequence[Window], batch: Any, group: int) -> Any:
    """``x`` (batch, channels, *padded) by ``w`` (out, channels / group, *kernel), as one product of matrices."""
    out, taps = tuple(a.out for a in axes), product(a.kernel for a in axes)
    positions = product(out)
    columns = xp.stack(slices(xp, x, axes), 2)  # (batch, channels, kernel, *out)
    columns = xp.reshape(columns, (batch, group, -1, positions))
    kernels = xp.reshape(w, (group, w.shape[0] // group, w.shape[1] * taps))
    return xp.reshape(xp.matmul(kernels, columns), (batch, w.shape[0], *out))


@op
def ConvTranspose(
    xp: Any,
    x: Symbol,
    w: Symbol,
    b: Symbol | None = None,
    *,
    windows: Windows,
    group: int,
    output_padding: Sequence[int] | None,
    output_shape: Sequence[int] | None,
) -> Any:
    """A convolution of the input with zeros between its elements, by the flipped kernel.

    ``w``: (channels, out / group, *kernel).
    """
    kernel, strides, rank = windows.kernel, windows.strides, windows.rank
    extra = output_padding or [0] * rank
    sides = windows.cut_off(x.shape[2:], extra, output_shape)
    spread, axes = x, []
    for i, (stride, k, dilation) in enumerate(zip(strides, kernel, windows.dilations, strict=True)):
        spread = _with_zeros(xp, spread, x.shape, i, strides)
        size, reach = (x.shape[2 + i] - 1) * stride + 1, (k - 1) * dilation
        before, after = reach - sides[i][0], reach - sides[i][1] + extra[i]
        axes.append(Window(size, k, 1, dilation, before, after, size + before + after - reach))
    flipped = xp.flip(w, tuple(range(2, 2 + rank)))
    inputs, outputs = w.shape[0] // group, w.shape[1]
    grouped = xp.permute_dims(
        xp.reshape(flipped, (group, inputs, outputs, *kernel)), (0, 2, 1, *range(3, 3 + rank))
    )
    columns = xp.stack(slices(xp, padded(xp, spread, axes, 0), axes), 2)
    out = tuple(a.out for a in axes)
    columns = xp.reshape(columns, (x.shape[0], group, inputs * product(kernel), product(out)))
    y = xp.matmul(xp.reshape(grouped, (group, outputs, inputs * product(kernel))), columns)
    y = xp.reshape(y, (x.shape[0], group * outputs, *out))
    return y if b is None else y + xp.expand_dims(b, tuple(range(1, 1 + rank)))


def _with_zeros(xp: Any, x: Any, shape: Sequence[Any], position: int, strides: Sequence[int]) -> Any:
    """``stride - 1`` zeros between neighbours along one axis; the axes before it have theirs already."""
    stride, axis = strides[position], 2 + position
    if stride == 1:
        return x
    done = [(size - 1) * s + 1 for size, s in zip(shape[2:axis], strides, strict=False)]
    sizes = (*shape[:2], *done, *shape[axis:])
    apart = xp.reshape(x, (*sizes[: axis + 1], 1, *sizes[axis + 1 :]))
    pairs = tuple((0, stride - 1) if i == axis + 1 else (0, 0) for i in range(len(sizes) + 1))
    wide = xp.reshape(
        xp.pad(apart, pairs, "constant", 0), (*sizes[:axis], sizes[axis] * stride, *sizes[axis + 1 :])
    )
    return xp.slice(wide, {axis: (0, (sizes[axis] - 1) * stride + 1, 1)})
