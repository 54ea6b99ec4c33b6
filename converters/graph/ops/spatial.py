"""Convolutions and pools from strided slices: exact for every form, where a target's own kernel has not that form.

One slice of the padded input for each place of the kernel; a pool combines the slices, a convolution multiplies
them with that place's weights. Sizes may be free.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.sizes import Size, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import INT64, ints, op
from netferry.converters.graph.schema.windows import Window, Windows


def _padded(xp: Any, x: Any, axes: Sequence[Window], value: Any) -> Any:
    pairs = [(w.before, w.after + w.missing) for w in axes]
    if all(not isinstance(side, Size) and side == 0 for pair in pairs for side in pair):
        return x
    return xp.pad(x, ((0, 0), (0, 0), *pairs), "constant", value)


def _slices(xp: Any, x: Any, axes: Sequence[Window]) -> list[Any]:
    """What each place of the kernel meets, in row-major order: (batch, channels, *out) each."""
    places = itertools.product(*(range(w.kernel) for w in axes))
    return [
        xp.slice(x, {2 + i: w.slice(k) for i, (w, k) in enumerate(zip(axes, place, strict=True))})
        for place in places
    ]


# ---- pools ------------------------------------------------------------------------------------------------------


@op
def MaxPool(xp: Any, x: Symbol, *, windows: Windows, storage_order: int) -> Any:
    axes = windows.over(x.shape[2:])
    least = -float("inf") if is_float(x.dtype) else int(np.iinfo(x.dtype).min)
    met = _slices(xp, _padded(xp, x, axes, least), axes)
    y = reduce(xp.maximum, met)
    return (y, _places(xp, x, axes, met, bool(storage_order))) if xp.wanted(1) else y


def _places(xp: Any, x: Symbol, axes: Sequence[Window], met: list[Any], column_major: bool) -> Any:
    """The flat index in ``x`` of each maximum, the first among equals."""
    sizes = ints(x.shape, "sizes")
    best = xp.argmax(xp.stack(met, 0), 0, False)
    shape = (*sizes[:2], *(w.out for w in axes))
    steps = [product(sizes[2 + i + 1 :]) for i in range(len(axes))]
    if column_major:
        steps = [product(sizes[2 : 2 + i]) for i in range(len(axes))]
    candidates = []
    budget.make(product(shape) * len(met))
    for place in itertools.product(*(range(w.kernel) for w in axes)):
        flat = np.arange(product(sizes[:2])).reshape(*sizes[:2], *[1] * len(axes)) * product(sizes[2:])
        for i, (w, k, step) in enumerate(zip(axes, place, steps, strict=True)):
            along = np.arange(w.out) * w.stride + k * w.dilation - w.before
            flat = flat + (along * step).reshape([-1 if 2 + i == axis else 1 for axis in range(len(shape))])
        candidates.append(np.broadcast_to(flat, shape))
    index = xp.asarray(np.stack(candidates), INT64)
    return xp.squeeze(xp.take_along_axis(index, xp.expand_dims(best, (0,)), 0), (0,))


@op
def AveragePool(xp: Any, x: Symbol, *, windows: Windows, count_include_pad: int) -> Any:
    """What a window reaches beyond the padding never counts; the padding itself where ``count_include_pad`` is set."""
    axes = windows.over(x.shape[2:])
    total = reduce(xp.add, _slices(xp, _padded(xp, x, axes, 0), axes))
    return total / _counts(xp, x, axes, bool(count_include_pad))


def _counts(xp: Any, x: Symbol, axes: Sequence[Window], with_padding: bool) -> Any:
    """How many elements each window holds: a number where all hold the same, else (1, 1, *out)."""
    rims = [w.missing if with_padding else w.before + w.after + w.missing for w in axes]
    if all(not isinstance(rim, Size) and rim == 0 for rim in rims):
        return product(w.kernel for w in axes)
    ones = xp.full((1, 1, *(w.size for w in axes)), 1, x.dtype)
    if with_padding:
        pairs = [(w.before, w.after) for w in axes]
        ones = xp.pad(ones, ((0, 0), (0, 0), *pairs), "constant", 1)
        ones = xp.pad(ones, ((0, 0), (0, 0), *((0, w.missing) for w in axes)), "constant", 0)
    else:
        ones = _padded(xp, ones, axes, 0)
    return reduce(xp.add, _slices(xp, ones, axes))


@op
def LpPool(xp: Any, x: Symbol, *, windows: Windows, p: int) -> Any:
    axes = windows.over(x.shape[2:])
    powers = _padded(xp, xp.abs(x) ** p, axes, 0)
    return reduce(xp.add, _slices(xp, powers, axes)) ** (1 / p)


# ---- convolutions ---------------------------------------------------------------------------------------------------


@op
def Conv(xp: Any, x: Symbol, w: Symbol, b: Symbol | None = None, *, windows: Windows, group: int) -> Any:
    axes = windows.over(x.shape[2:])
    y = _convolved(xp, _padded(xp, x, axes, 0), w, axes, x.shape[0], group)
    return y if b is None else y + xp.expand_dims(b, tuple(range(1, x.ndim - 1)))


def _convolved(xp: Any, x: Any, w: Any, axes: Sequence[Window], batch: Any, group: int) -> Any:
    """``x`` (batch, channels, *padded) by ``w`` (out, channels / group, *kernel), as one product of matrices."""
    out, taps = tuple(a.out for a in axes), product(a.kernel for a in axes)
    places = product(out)
    columns = xp.stack(_slices(xp, x, axes), 2)  # (batch, channels, kernel, *out)
    columns = xp.reshape(columns, (batch, group, -1, places))
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
    columns = xp.stack(_slices(xp, _padded(xp, spread, axes, 0), axes), 2)
    out = tuple(a.out for a in axes)
    columns = xp.reshape(columns, (x.shape[0], group, inputs * product(kernel), product(out)))
    y = xp.matmul(xp.reshape(grouped, (group, outputs, inputs * product(kernel))), columns)
    y = xp.reshape(y, (x.shape[0], group * outputs, *out))
    return y if b is None else y + xp.expand_dims(b, tuple(range(1, 1 + rank)))


def _with_zeros(xp: Any, x: Any, shape: Sequence[Any], place: int, strides: Sequence[int]) -> Any:
    """``stride - 1`` zeros between neighbours along one axis; the axes before it have theirs already."""
    stride, axis = strides[place], 2 + place
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
