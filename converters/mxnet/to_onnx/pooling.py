"""Rows of poolings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.convolution import CHANNELS_FIRST, per_axis
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, few
from netferry.converters.mxnet.to_onnx.sizes import moved
from netferry.converters.signature import Array

CHANNELS_LAST = "NWC NHWC NDHWC"
_GLOBAL = {"max": "GlobalMaxPool", "avg": "GlobalAveragePool", "lp": "GlobalLpPool"}


@ROWS.row("Pooling")
def pooling(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (batch, channels, *space), or with the channels last where ``layout`` says so."""
    if a.string("layout", "None", among=f"{CHANNELS_FIRST} {CHANNELS_LAST}") in CHANNELS_LAST.split():
        first = _pooled(g, a, g.transpose(x, moved(x.rank, x.rank - 1, 1)), last=True)
        return g.transpose(first, moved(x.rank, 1, x.rank - 1))
    return _pooled(g, a, x)


def _pooled(g: Emitter, a: Attrs, x: Tensor, *, last: bool = False) -> Tensor:
    """x: (batch, channels, *space); ``last``: the channels stood last before they were moved."""
    if x.dtype.kind != "f":
        raise CannotConvert(f"pooling over {x.dtype.name}")
    kind = a.string("pool_type", "max", among="max avg sum lp")
    order = a.maybe_integer("p_value")
    whole = a.flag("count_include_pad", True)
    if a.flag("global_pool", False):
        a.ignore("kernel", "stride", "pad", "pooling_convention")
        return _global_pool(g, x, kind, order)
    kernel = list(a.integers("kernel"))
    windows = _Windows(x, a, kernel, last)
    common = {"kernel_shape": kernel, "strides": windows.strides, "ceil_mode": windows.ceil or None}
    if windows.ceil and (kind in ("sum", "lp") or (kind == "avg" and whole)):
        raise windows.unsized()
    if kind == "max":
        lowest = float(np.finfo(x.dtype).min)
        x, pads = windows.padded(g, x, lowest)
        return windows.completed(g, g.MaxPool(x, **common, pads=pads), lowest)
    if kind == "avg" and not whole:
        return g.AveragePool(x, **common, pads=windows.inside(), count_include_pad=0)
    x, pads = windows.padded(g, x, _zero(x))
    if kind == "lp":
        return windows.completed(g, g.LpPool(x, **common, pads=pads, p=order), 0.0)
    y = g.AveragePool(x, **common, pads=pads, count_include_pad=1)
    if kind == "sum":
        y = g.Mul(y, g.scalar(math.prod(kernel), x))
    elif windows.uneven:
        y = g.Mul(y, g.constant(windows.shares(), x.dtype))
    return windows.completed(g, y, 0.0)


def _global_pool(g: Emitter, x: Tensor, kind: str, order: int | None) -> Tensor:
    if kind == "sum":
        return g.ReduceSum(x, g.ints(*range(2, x.rank)), keepdims=1)
    return g.op(_GLOBAL[kind], x, p=order if kind == "lp" else None)


@ROWS.row("Pooling_v1")
def pooling_v1(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The retired pooling: its pad is of zeros, for maxima too, and its means are over the whole kernel."""
    kind = a.string("pool_type", "max", among="max avg sum")
    if a.flag("global_pool", False):
        a.ignore("kernel", "stride", "pad", "pooling_convention")
        return _global_pool(g, x, kind, None)
    kernel = list(a.integers("kernel"))
    pad, strides = per_axis(a, "pad", 0, len(kernel)), per_axis(a, "stride", 1, len(kernel))
    if any(pad):
        x = g.Pad(x, g.ints(0, 0, *pad, 0, 0, *pad), g.scalar(_zero(x), x))
    if a.string("pooling_convention", "valid", among="valid full") == "full":
        beyond = [_overhang(x.size(i + 2), kernel[i], strides[i]) for i in range(len(kernel))]
        fill = -math.inf if kind == "max" else _zero(x)
        if any(beyond):
            x = g.Pad(x, g.ints(*[0] * (x.rank + 2), *beyond), g.scalar(fill, x))
    if kind == "max":
        return g.MaxPool(x, kernel_shape=kernel, strides=strides)
    mean = g.AveragePool(x, kernel_shape=kernel, strides=strides)
    return g.Mul(mean, g.scalar(math.prod(kernel), x)) if kind == "sum" else mean


def _zero(x: Tensor) -> float:
    """A zero that is none: onnxruntime fuses a Pad of zeros into the pooling behind it, and then counts wrong."""
    return float(np.finfo(x.dtype).tiny)


def _overhang(size: int, kernel: int, stride: int) -> int:
    """How far the last window reaches beyond an axis, if all of it is covered."""
    return max(-(-(size - kernel) // stride) * stride + kernel - size, 0)


class _Windows:
    """Where the windows of a pooling lie, per spatial axis, in explicit pads.

    ``full`` rounds the number of windows up and has no rule against a last window that starts in the
    padding, as ONNX's ceil_mode has; ``same`` counts one window per stride. Both become a longer end
    pad, where sizes are known; where they are not, ``full`` becomes ceil_mode if its rule can never tell
    (stride + pad <= kernel). MXNet's mean counts only the ``pad`` of that, so that windows which reach
    beyond it need a correction (``shares``).
    """

    def __init__(self, x: Tensor, a: Attrs, kernel: Sequence[int], last: bool = False) -> None:
        count = len(kernel)
        self.last = last
        if x.rank != count + 2:
            raise CannotConvert(f"a kernel of {count} axes over an input of {x.rank}")
        self.kernel = list(kernel)
        self.strides = per_axis(a, "stride", 1, count)
        self.begin = per_axis(a, "pad", 0, count)
        self.end = list(self.begin)
        self.empty = [0] * count
        self.convention = a.string("pooling_convention", "valid", among="valid full same")
        self.sizes: list[int] = []
        self.counts: list[int] = []
        self.ceil = False
        if self.convention != "valid":
            self._lengthen(x)

    def _lengthen(self, x: Tensor) -> None:
        for axis, (kernel, stride, pad) in enumerate(zip(self.kernel, self.strides, self.begin, strict=True)):
            dim = x.dims[axis + 2] if x.dims is not None else None
            if not isinstance(dim, int):
                if self.convention == "same" or stride + pad > kernel:
                    raise self.unsized()
                self.ceil = True
                continue
            whole = dim + 2 * pad
            count = -(-whole // stride) if self.convention == "same" else 1 - (-(whole - kernel) // stride)
            inside = min(count, -(-(dim + pad) // stride))
            self.empty[axis] = count - inside
            self.sizes.append(dim)
            self.counts.append(inside)
            self.end[axis] = max((inside - 1) * stride + kernel - dim - pad, 0)

    def completed(self, g: Emitter, y: Tensor, value: float) -> Tensor:
        """The result with its windows that lie wholly behind the input, which onnxruntime does not take."""
        if not any(self.empty):
            return y
        return g.Pad(y, g.ints(*[0] * (y.rank + 2), *self.empty), g.scalar(value, y))

    def unsized(self) -> CannotConvert:
        return CannotConvert(
            f"the '{self.convention}' pooling convention over an axis whose size is not known",
            "Give the input's sizes with --input name:1,3,224,224",
        )

    @property
    def pads(self) -> list[int]:
        return self.begin + self.end

    @property
    def uneven(self) -> bool:
        return self.begin != self.end

    def inside(self) -> list[int]:
        """The pads, where each window holds at least one element of the input."""
        if any(self.empty) or any(pad >= size for pad, size in zip(self.pads, self.kernel * 2, strict=True)):
            raise CannotConvert("its last window lies wholly in the padding")
        return self.pads

    def padded(self, g: Emitter, x: Tensor, value: float) -> tuple[Tensor, list[int]]:
        """The input and the pads for it; written out where a window lies wholly in the padding.

        Where the channels stood last it is padded before they are moved: between a Transpose and a MaxPool onnxruntime fuses
        the Pad, and then loses its axes.
        """
        none = [0] * len(self.pads)
        if all(pad < kernel for pad, kernel in zip(self.pads, self.kernel * 2, strict=True)):
            return x, self.pads
        if not self.last:
            return g.Pad(x, g.ints(0, 0, *self.begin, 0, 0, *self.end), g.scalar(value, x)), none
        before = g.transpose(x, moved(x.rank, 1, x.rank - 1))
        wide = g.Pad(before, g.ints(0, *self.begin, 0, 0, *self.end, 0), g.scalar(value, x))
        return g.transpose(wide, moved(x.rank, x.rank - 1, 1)), none

    def shares(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """By how much the mean over the whole window understates MXNet's: (1, 1, *windows)."""
        few(math.prod(self.counts))
        shares = np.ones((1, 1, *self.counts))
        for axis, kernel in enumerate(self.kernel):
            starts = np.arange(self.counts[axis]) * self.strides[axis] - self.begin[axis]
            ends = np.minimum(starts + kernel, self.sizes[axis] + self.begin[axis])
            form = [1] * shares.ndim
            form[axis + 2] = -1
            shares = shares * (kernel / (ends - starts)).reshape(form)
        return shares


@ROWS.row("_contrib_AdaptiveAvgPooling2D")
def adaptive_average_pool(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Means over windows from floor(i size / count) to ceil((i + 1) size / count): two matrix products."""
    counts = list(a.integers("output_size", ())) or [1]
    counts = counts * 2 if len(counts) == 1 else counts
    if counts == [1, 1]:
        return g.GlobalAveragePool(x)
    heights, widths = (_shares(x.size(axis + 2), count) for axis, count in enumerate(counts))
    rows = g.MatMul(g.constant(heights, x.dtype), x)
    return g.MatMul(rows, g.constant(widths.T, x.dtype))


def _shares(size: int, count: int) -> Array:
    """(count, size): the share of each position in the mean of each window."""
    few(size * count)
    shares = np.zeros((count, size))
    for window in range(count):
        begin, end = window * size // count, -(-(window + 1) * size // count)
        shares[window, begin:end] = 1 / (end - begin)
    return shares
