"""Pools from strided slices: exact for every form, where a target's own kernel has not that form."""

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
from netferry.converters.graph.ops.convolution import padded, slices
from netferry.converters.graph.ops.table import INT64, ints, op
from netferry.converters.graph.schema.windows import Window, Windows


@op
def MaxPool(xp: Any, x: Symbol, *, windows: Windows, storage_order: int) -> Any:
    axes = windows.over(x.shape[2:])
    least = -float("inf") if is_float(x.dtype) else int(np.iinfo(x.dtype).min)
    met = slices(xp, padded(xp, x, axes, least), axes)
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
    for position in itertools.product(*(range(w.kernel) for w in axes)):
        flat = np.arange(product(sizes[:2])).reshape(*sizes[:2], *[1] * len(axes)) * product(sizes[2:])
        for i, (w, k, step) in enumerate(zip(axes, position, steps, strict=True)):
            along = np.arange(w.out) * w.stride + k * w.dilation - w.before
            flat = flat + (along * step).reshape([-1 if 2 + i == axis else 1 for axis in range(len(shape))])
        candidates.append(np.broadcast_to(flat, shape))
    index = xp.asarray(np.stack(candidates), INT64)
    return xp.squeeze(xp.take_along_axis(index, xp.expand_dims(best, (0,)), 0), (0,))


@op
def AveragePool(xp: Any, x: Symbol, *, windows: Windows, count_include_pad: int) -> Any:
    """What a window reaches beyond the padding never counts; the padding itself where ``count_include_pad`` is set."""
    axes = windows.over(x.shape[2:])
    total = reduce(xp.add, slices(xp, padded(xp, x, axes, 0), axes))
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
        ones = padded(xp, ones, axes, 0)
    return reduce(xp.add, slices(xp, ones, axes))


@op
def LpPool(xp: Any, x: Symbol, *, windows: Windows, p: int) -> Any:
    axes = windows.over(x.shape[2:])
    powers = padded(xp, xp.abs(x) ** p, axes, 0)
    return reduce(xp.add, slices(xp, powers, axes)) ** (1 / p)
