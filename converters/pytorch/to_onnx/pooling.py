"""The table of torch functions: pools. Tensors are (batch, channels, *space)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import symmetric
from netferry.converters.pytorch.to_onnx.convolution import batched, each
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size


@dataclass(frozen=True)
class _Window:
    """How a pool moves along one axis."""

    kernel: int
    stride: int
    pad: int
    dilation: int

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    def starts_outside(self, size: Size) -> bool | None:
        """Whether rounding up would add a window that starts behind the input, which PyTorch leaves out.

        None where that depends on a free size.
        """
        if self.pad + self.stride - 1 < self.span:
            return False
        if not isinstance(size, int):
            return None
        last = -(-(size + 2 * self.pad - self.span) // self.stride)
        return last * self.stride >= size + self.pad

    def positions(self, size: Size, *, up: bool) -> Size:
        """How many windows there are when the last one is rounded up or down."""
        room = size + 2 * self.pad - self.span
        return (-(-room // self.stride) if up else room // self.stride) + 1


def _windows(axes: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[_Window]:
    strides = kernel if stride in (None, [], ()) else stride
    parts = (each(value, axes) for value in (kernel, strides, padding, dilation))
    return [_Window(*values) for values in zip(*parts, strict=True)]


def _attributes(windows: Sequence[_Window], ceil: bool) -> dict[str, Any]:
    dilations = [window.dilation for window in windows]
    return {
        "kernel_shape": [window.kernel for window in windows],
        "strides": [window.stride for window in windows],
        "pads": symmetric([window.pad for window in windows]),
        "dilations": dilations if any(dilation != 1 for dilation in dilations) else None,
        "ceil_mode": int(ceil),
    }


def _rounds_up(e: Emitter, input: Tensor, windows: Sequence[_Window]) -> bool:
    """Whether ONNX's ceil_mode gives what PyTorch's does: ONNX keeps a window that starts behind the input."""
    sizes = e.sizes_of(input)[-len(windows) :]
    outside = [window.starts_outside(size) for window, size in zip(windows, sizes, strict=True)]
    if not any(found is not False for found in outside):
        return True
    known = all(isinstance(size, int) for size in sizes)
    pairs = list(zip(windows, sizes, outside, strict=True))
    if known and all(out or w.positions(n, up=True) == w.positions(n, up=False) for w, n, out in pairs):
        return False
    raise CannotConvert(
        "a pool with ceil_mode whose last window starts behind the input, for some sizes",
        "Use ceil_mode=False",
    )


def _max_pool(
    axes: int,
    e: Emitter,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if return_indices:
        raise CannotConvert("a pool that returns where its maxima stood")
    windows = _windows(axes, kernel_size, stride, padding, dilation)
    ceil = ceil_mode and _rounds_up(e, input, windows)
    return batched(e, input, axes, lambda x: e.g.MaxPool(x, **_attributes(windows, ceil)))


def _avg_pool(
    axes: int,
    e: Emitter,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    windows = _windows(axes, kernel_size, stride, padding, 1)
    ceil = ceil_mode and _rounds_up(e, input, windows)
    if divisor_override is not None and ceil:
        raise CannotConvert("an average with a divisor of its own whose sizes are rounded up")
    whole = divisor_override is not None or count_include_pad
    counted = int(whole and any(window.pad for window in windows))
    attributes = _attributes(windows, ceil) | {"count_include_pad": counted}
    average = batched(e, input, axes, lambda x: e.g.AveragePool(x, **attributes))
    if divisor_override is None:
        return average
    area = math.prod(window.kernel for window in windows)
    return e.g.Mul(average, e.g.scalar(area / divisor_override, average))


def adaptive_pool(
    operator: str, axes: int, e: Emitter, input: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor:
    """To one element per axis: the global pool; to sizes that divide the input's: windows side by side; else by matrices."""
    if return_indices:
        raise CannotConvert("a pool that returns where its maxima stood")
    have = e.sizes_of(input)[-axes:]
    want = [h if w is None else w for h, w in zip(have, each(output_size, axes), strict=True)]
    if all(size == 1 for size in want):
        return batched(e, input, axes, lambda x: e.g.op(f"Global{operator}", x))
    if have == want:
        return input
    if not all(
        isinstance(h, int) and isinstance(w, int) and h % w == 0 for h, w in zip(have, want, strict=True)
    ):
        if operator == "AveragePool":
            return _averaged(e, input, have, want)
        raise CannotConvert(
            f"an adaptive pool from {_shown(have)} to {_shown(want)} has windows of several sizes",
            "Give it input sizes that are multiples of its output sizes",
        )
    window = [int(h) // int(w) for h, w in zip(have, want, strict=True)]
    return batched(e, input, axes, lambda x: e.g.op(operator, x, kernel_shape=window, strides=window))


def _averaged(e: Emitter, x: Tensor, have: Sequence[Size], want: Sequence[Size]) -> Tensor:
    """Along each axis a product with the matrix of its windows: i n // o up to, rounded up, (i + 1) n / o."""
    first = x.rank - len(have)
    for axis, (n, o) in enumerate(zip(have, want, strict=True), first):
        if n == o:
            continue
        order = [*(i for i in range(x.rank) if i != axis), axis]
        turned = e.g.MatMul(e.g.transpose(x, order), _bins(e, n, o, x.dtype))
        x = e.g.transpose(turned, [order.index(i) for i in range(x.rank)])
    return x


def _bins(e: Emitter, n: Size, o: Size, dtype: np.dtype[Any]) -> Tensor:
    """(n, o): how much of each element goes into each window."""
    size, count = (e.cast(e.scalar_size(one), np.dtype(np.int64)) for one in (n, o))
    zero, one = e.tensor(0, np.dtype(np.int64)), e.tensor(1, np.dtype(np.int64))
    position = e.g.Unsqueeze(e.g.Range(zero, size, one), e.g.ints(1))
    scaled = e.g.Mul(e.g.Range(zero, count, one), size)
    start = e.g.Div(scaled, count)
    stop = e.g.Div(e.g.Add(scaled, e.g.Sub(e.g.Add(size, count), one)), count)
    inside = e.g.And(e.g.GreaterOrEqual(position, start), e.g.Less(position, stop))
    return e.g.Div(e.cast(inside, dtype), e.cast(e.g.Sub(stop, start), dtype))


def _shown(sizes: Sequence[Size]) -> str:
    return "x".join(map(str, sizes))


for _axes in (1, 2, 3):
    row(f"max_pool{_axes}d")(partial(_max_pool, _axes))
    row(f"avg_pool{_axes}d")(partial(_avg_pool, _axes))
    row(f"adaptive_avg_pool{_axes}d")(partial(adaptive_pool, "AveragePool", _axes))
    row(f"adaptive_max_pool{_axes}d")(partial(adaptive_pool, "MaxPool", _axes))
