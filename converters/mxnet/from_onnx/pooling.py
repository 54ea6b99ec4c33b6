"""ONNX's poolings as MXNet's Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.layers import COMPUTED, NATIVE, Row, demand_floats
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.padding import Windows
from netferry.converters.signature import Array


@NATIVE.row("MaxPool")
def max_pool(
    xp: MxnetNamespace,
    x: Symbol,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> Any:
    if xp.wanted(1):
        raise CannotConvert("the places of the maxima as an output")
    windows = Windows(
        x,
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    if x.dtype.itemsize == 1 and x.dtype.kind in "iu":
        return xp.astype(_max_pool(xp, xp.astype(x, np.dtype("f4")), windows), x.dtype)
    demand_floats(xp, x)
    return _max_pool(xp, x, windows)


def _max_pool(xp: MxnetNamespace, x: Symbol, windows: Windows) -> Symbol:
    if not windows.even:
        x = windows.pad(xp, x, float(np.finfo(x.dtype).min))
    return _pool(xp, x, windows, "max", pad=windows.even)


def _pool(xp: MxnetNamespace, x: Symbol, windows: Windows, kind: str, *, pad: bool, **attrs: Any) -> Symbol:
    if any(dilation != 1 for dilation in windows.dilations):
        raise CannotConvert("MXNet's pooling has no dilation")
    pads = list(windows.begin) if pad else [0] * len(windows.begin)
    if any(p >= k for p, k in zip(pads, windows.kernel, strict=True)):
        raise CannotConvert("a window that may lie wholly in the padding")
    return xp.apply(
        "Pooling",
        x,
        dims=(*x.shape[:2], *windows.outputs()),
        **windows.attributes(dilate=False, pad=pad),
        pool_type=kind,
        pooling_convention="full" if windows.full else None,
        **attrs,
    )


@NATIVE.row("AveragePool")
def average_pool(
    xp: MxnetNamespace,
    x: Symbol,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    """Where MXNet's count of the elements of a window differs from ONNX's: the sum by ONNX's count."""
    demand_floats(xp, x)
    windows = Windows(
        x,
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    if windows.full and (count_include_pad or windows.padded):
        raise CannotConvert(
            "ceil_mode over an axis whose size is not known", "Give the source model fixed sizes"
        )
    if windows.even and tuple(windows.end) == windows.asked_end:
        return _pool(xp, x, windows, "avg", pad=True, count_include_pad=bool(count_include_pad))
    if not known(windows.sizes):
        raise CannotConvert(
            "uneven pads over an axis whose size is not known", "Give the source model fixed sizes"
        )
    total = _pool(xp, windows.pad(xp, x, 0.0), windows, "sum", pad=False)
    return xp.multiply(total, xp.constant((1 / _counts(windows, bool(count_include_pad))).astype(x.dtype)))


def _counts(windows: Windows, include_pad: bool) -> Array:
    """How many elements ONNX counts in each window: (1, 1, *windows)."""
    counts: Array = np.ones((1, 1), np.float64)
    for axis, places in enumerate(windows.outputs()):
        begin, size = windows.begin[axis], windows.sizes[axis]
        low, high = (-begin, size + windows.asked_end[axis]) if include_pad else (0, size)
        budget.make(counts.size * places + places * windows.kernel[axis])
        steps = np.arange(windows.kernel[axis]) * windows.dilations[axis]
        starts = np.arange(places) * windows.strides[axis] - begin
        inside = ((starts[:, None] + steps >= low) & (starts[:, None] + steps < high)).sum(1)
        counts = counts[..., None] * inside
    return counts


@NATIVE.row("LpPool")
def lp_pool(
    xp: MxnetNamespace,
    x: Symbol,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    kernel_shape: Sequence[int],
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Any:
    demand_floats(xp, x)
    if p not in (1, 2):
        raise CannotConvert(f"MXNet's Lp pooling has no p={p}")
    windows = Windows(
        x,
        kernel_shape,
        strides=strides,
        dilations=dilations,
        pads=pads,
        auto_pad=auto_pad,
        ceil_mode=ceil_mode,
    )
    if windows.full:
        raise CannotConvert(
            "ceil_mode over an axis whose size is not known", "Give the source model fixed sizes"
        )
    x = xp.abs(x)
    if not windows.even:
        x = windows.pad(xp, x, 0.0)
    return _pool(xp, x, windows, "lp", pad=windows.even, p_value=p)


def _global_pool(kind: str) -> Row:
    def row(xp: MxnetNamespace, x: Symbol, *, p: int | None = None) -> Symbol:
        if x.dtype not in COMPUTED or not 3 <= x.ndim <= 5:
            raise CannotConvert(f"MXNet has no global pooling over {x.ndim} axes of {x.dtype.name}")
        count = x.ndim - 2
        return xp.apply(
            "Pooling",
            x,
            dims=(*x.shape[:2], *[1] * count),
            kernel=(1,) * count,
            pool_type=kind,
            global_pool=True,
        )

    return row


NATIVE.row("GlobalMaxPool")(_global_pool("max"))
NATIVE.row("GlobalAveragePool")(_global_pool("avg"))
