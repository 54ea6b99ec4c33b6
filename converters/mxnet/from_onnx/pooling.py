"""ONNX's poolings as MXNet's Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.padding import LayerWindows, kernel_attributes, unsized
from netferry.converters.mxnet.from_onnx.table import COMPUTED, NATIVE, demand_floats
from netferry.converters.signature import Array


@NATIVE.row("MaxPool")
def max_pool(xp: MxnetNamespace, x: Symbol, *, windows: Windows, storage_order: int) -> Any:
    """``storage_order`` is how positions are counted, which MXNet does not give."""
    if xp.wanted(1):
        raise CannotConvert("the positions of the maxima as an output")
    if x.dtype.itemsize == 1 and x.dtype.kind in "iu":
        return xp.astype(_max_pool(xp, xp.astype(x, np.dtype("f4")), windows), x.dtype)
    demand_floats(xp, x)
    return _max_pool(xp, x, windows)


def _max_pool(xp: MxnetNamespace, x: Symbol, windows: Windows) -> Symbol:
    layer = LayerWindows.over(x, windows)
    if not layer.even:
        x = layer.pad(xp, x, float(np.finfo(x.dtype).min))
    return _pool(xp, x, layer, "max", pad=layer.even)


def _pool(
    xp: MxnetNamespace, x: Symbol, layer: LayerWindows, kind: str, *, pad: bool, **attrs: Any
) -> Symbol:
    kernel = layer.onnx.kernel
    if any(dilation != 1 for dilation in layer.onnx.dilations):
        raise CannotConvert("MXNet's pooling has no dilation")
    pads = layer.begin if pad else (0,) * len(kernel)
    if any(p >= k for p, k in zip(pads, kernel, strict=True)):
        raise CannotConvert("a window that may lie wholly in the padding")
    return xp.apply(
        "Pooling",
        x,
        dims=(*x.shape[:2], *layer.outputs()),
        **kernel_attributes(layer.onnx, pads, dilate=False),
        pool_type=kind,
        pooling_convention="full" if layer.full else None,
        **attrs,
    )


@NATIVE.row("AveragePool")
def average_pool(xp: MxnetNamespace, x: Symbol, *, windows: Windows, count_include_pad: int) -> Any:
    """Where MXNet's count of the elements of a window differs from ONNX's: the sum by ONNX's count."""
    demand_floats(xp, x)
    layer = LayerWindows.over(x, windows)
    if layer.full and (count_include_pad or layer.padded):
        raise unsized("ceil_mode")
    if layer.even and layer.end == layer.asked_end:
        return _pool(xp, x, layer, "avg", pad=True, count_include_pad=bool(count_include_pad))
    if not known(layer.sizes):
        raise unsized("uneven pads")
    total = _pool(xp, layer.pad(xp, x, 0.0), layer, "sum", pad=False)
    return xp.multiply(total, xp.constant((1 / _counts(layer, bool(count_include_pad))).astype(x.dtype)))


def _counts(layer: LayerWindows, include_pad: bool) -> Array:
    """How many elements ONNX counts in each window: (1, 1, *windows)."""
    counts: Array = np.ones((1, 1), np.float64)
    for axis, w in enumerate(layer.onnx.over(layer.sizes)):
        low, high = (-w.before, w.size + w.after) if include_pad else (0, w.size)
        positions = layer.outputs()[axis]
        budget.make(counts.size * positions + positions * w.kernel)
        steps = np.arange(w.kernel) * w.dilation
        starts = np.arange(positions) * w.stride - w.before
        inside = ((starts[:, None] + steps >= low) & (starts[:, None] + steps < high)).sum(1)
        counts = counts[..., None] * inside
    return counts


@NATIVE.row("LpPool")
def lp_pool(xp: MxnetNamespace, x: Symbol, *, windows: Windows, p: int) -> Any:
    demand_floats(xp, x)
    if p not in (1, 2):
        raise CannotConvert(f"MXNet's Lp pooling has no p={p}")
    layer = LayerWindows.over(x, windows)
    if layer.full:
        raise unsized("ceil_mode")
    x = xp.abs(x)
    if not layer.even:
        x = layer.pad(xp, x, 0.0)
    return _pool(xp, x, layer, "lp", pad=layer.even, p_value=p)


@NATIVE.row("GlobalMaxPool")
def global_max_pool(xp: MxnetNamespace, x: Symbol) -> Symbol:
    return _global_pool(xp, x, "max")


@NATIVE.row("GlobalAveragePool")
def global_average_pool(xp: MxnetNamespace, x: Symbol) -> Symbol:
    return _global_pool(xp, x, "avg")


def _global_pool(xp: MxnetNamespace, x: Symbol, kind: str) -> Symbol:
    if x.dtype not in COMPUTED or not 3 <= x.ndim <= 5:
        raise CannotConvert(f"MXNet has no global pooling over {x.ndim} axes of {x.dtype.name}")
    dims = (*x.shape[:2], *[1] * (x.ndim - 2))
    return xp.apply("Pooling", x, dims=dims, kernel=(1,) * (x.ndim - 2), pool_type=kind, global_pool=True)
