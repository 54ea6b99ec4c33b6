"""Pools. Tensors are (batch, channels, *space)."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir.sizes import Size, ceil_div, smallest
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.padding import Pairs
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.pytorch.dtypes import INT64
from netferry.converters.pytorch.from_onnx.convolution import (
    befores,
    even,
    one,
    padded,
    padding,
    space,
    unless,
)
from netferry.converters.pytorch.from_onnx.layers import Xp, applied, module_path, row


def _pads_itself(windows: Windows, pairs: Pairs) -> bool:
    """Whether PyTorch's pools pad so: evenly, by no more than half of the kernel."""
    return even(pairs) and all(2 * before <= k for (before, _), k in zip(pairs, windows.kernel, strict=True))


def _rounds_up(windows: Windows) -> bool:
    """Whether ``ceil_mode`` counts: SAME gives the number of windows itself."""
    return windows.ceil_mode and not windows.auto_pad.startswith("SAME")


def _whole(x: Symbol, windows: Windows) -> Pairs:
    """The padding of a pool; with ``ceil_mode`` as much behind as the last window needs.

    ONNX drops a last window that would begin in the padding behind.
    """
    pairs = padding(x, windows)
    if not _rounds_up(windows):
        return pairs
    result: Pairs = []
    for axis, (before, after) in enumerate(pairs):
        span, stride, size = windows.spans[axis], windows.strides[axis], x.shape[2 + axis]
        count = smallest(ceil_div(size + before + after - span, stride), (size + before - 1) // stride)
        result.append((before, count * stride + span - size - before))
    return result


@row("MaxPool")
def MaxPool(xp: Xp, x: Symbol, *, windows: Windows, storage_order: int) -> Any:
    rank, dtype, pairs = space(x), x.dtype, padding(x, windows)
    inside = _pads_itself(windows, pairs)
    if dtype.kind in "iub":
        x = xp.astype(x, np.float32 if dtype.itemsize == 1 else np.float64)
    source = x
    if not inside:
        pairs = _whole(source, windows)
        x = padded(xp, x, pairs, float("-inf"))
    kernel = one(windows.kernel)
    options = {
        "stride": unless(one(windows.strides), kernel),
        "padding": befores(pairs) if inside else None,
        "dilation": unless(one(windows.dilations), 1),
        "ceil_mode": True if inside and _rounds_up(windows) else None,
    }
    if not xp.wanted(1):
        return xp.astype(_applied(xp, x, f"MaxPool{rank}d", kernel, **options), dtype)
    made = xp.call(f"F.max_pool{rank}d", x, kernel, **options, return_indices=True)
    y, indices = xp.unpack(made, 2, [x.dtype, INT64])
    rims = [(0, 0)] * rank if inside else pairs
    wide = tuple(size + before + after for size, (before, after) in zip(source.shape[2:], rims, strict=True))
    starts = tuple(before for before, _ in rims)
    found = xp.helper("places_in_tensor", indices, source, wide, starts,
                      column_major=True if storage_order else None, dtype=INT64)  # fmt: skip
    return xp.astype(y, dtype), found


def _applied(xp: Xp, x: Symbol, kind: str, kernel: Any, **options: Any) -> Symbol:
    y = applied(xp, x, kind, kernel, **options, at=module_path(xp), weights={})
    assert y is not None
    return y


@row("AveragePool")
def AveragePool(xp: Xp, x: Symbol, *, windows: Windows, count_include_pad: int) -> Any:
    rank, pairs = space(x), padding(x, windows)
    if _pads_itself(windows, pairs) and set(windows.dilations) == {1} and not _rounds_up(windows):
        nothing = all(not isinstance(end, Size) and end == 0 for pair in pairs for end in pair)
        kernel = one(windows.kernel)
        return _applied(xp, x, f"AvgPool{rank}d", kernel, stride=unless(one(windows.strides), kernel),
                        padding=befores(pairs), count_include_pad=None if count_include_pad or nothing else False)  # fmt: skip
    counted = pairs if count_include_pad else [(0, 0)] * rank
    beyond = [(b - c, a - d) for (b, a), (c, d) in zip(_whole(x, windows), counted, strict=True)]
    return xp.helper("window_means", x, windows.kernel, windows.strides, windows.dilations,
                     _ends(counted), _ends(beyond))  # fmt: skip


def _ends(pairs: Pairs) -> list[Any]:
    """As ``F.pad`` takes them: the last axis first."""
    return [end for pair in reversed(pairs) for end in pair]


@row("LpPool")
def LpPool(xp: Xp, x: Symbol, *, windows: Windows, p: int) -> Any:
    space(x)
    powers = padded(xp, xp.pow(xp.abs(x), p), _whole(x, windows))
    sums = xp.helper("window_sums", powers, windows.kernel, windows.strides, windows.dilations)
    return xp.pow(sums, 1.0 / p)


@row("GlobalAveragePool")
def GlobalAveragePool(xp: Xp, x: Symbol) -> Any:
    if x.ndim > 5:
        return xp.mean(x, tuple(range(2, x.ndim)), True)
    return xp.call(f"F.adaptive_avg_pool{space(x)}d", x, 1)


@row("GlobalMaxPool")
def GlobalMaxPool(xp: Xp, x: Symbol) -> Any:
    if x.ndim > 5:
        return xp.max(x, tuple(range(2, x.ndim)), True)
    return xp.call(f"F.adaptive_max_pool{space(x)}d", x, 1)


@row("MaxUnpool")
def MaxUnpool(xp: Xp, x: Symbol, indices: Symbol, output_shape: Any = None, *, windows: Windows) -> Any:
    """Values go where they were: indices count through the whole tensor as it would be without ``output_shape``."""
    axes = zip(x.shape[2:], windows.strides, windows.kernel, windows.listed, strict=True)
    sizes = ((size - 1) * stride + k - before - after for size, stride, k, (before, after) in axes)
    whole = (*x.shape[:2], *sizes)
    return xp.helper("max_unpool", x, indices, whole, whole if output_shape is None else tuple(output_shape))
