"""The table of torch functions: pools. Tensors are (batch, channels, *space)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import sympy
from torch.utils._sympy import functions as symbolic

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import symmetric
from netferry.converters.pytorch.to_onnx.convolution import batched
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import INT64, Row, row
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size
from netferry.converters.pytorch.to_onnx.tracer.windows import each


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
) -> Tensor | Sequence[Tensor]:
    windows = _windows(axes, kernel_size, stride, padding, dilation)
    ceil = ceil_mode and _rounds_up(e, input, windows)
    attributes = _attributes(windows, ceil)
    if not return_indices:
        return batched(e, input, axes, lambda x: e.g.MaxPool(x, **attributes))
    stacked = input if input.rank == axes + 2 else e.g.Unsqueeze(input, e.g.ints(0))
    values, numbers = e.g.ops("MaxPool", stacked, outputs=2, **attributes)
    plane = e.scalar_size(_product(e.sizes_of(input)[-axes:]))
    found = values, e.g.Mod(numbers, plane)  # ONNX counts through batch and channels too
    return found if stacked is input else [e.g.Squeeze(y, e.g.ints(0)) for y in found]


def _product(sizes: Sequence[Size]) -> Any:
    return math.prod(sizes) if all(isinstance(size, int) for size in sizes) else sympy.Mul(*sizes)


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
        input, windows, ceil = _with_room(e, input, windows), [replace(w, pad=0) for w in windows], False
    whole = divisor_override is not None or count_include_pad
    counted = int(whole and any(window.pad for window in windows))
    attributes = _attributes(windows, ceil) | {"count_include_pad": counted}
    average = batched(e, input, axes, lambda x: e.g.AveragePool(x, **attributes))
    if divisor_override is None:
        return average
    area = math.prod(window.kernel for window in windows)
    return e.g.Mul(average, e.g.scalar(area / divisor_override, average))


def _with_room(e: Emitter, input: Tensor, windows: Sequence[_Window]) -> Tensor:
    """Padded with zeros so that the last windows are whole: what ``ceil_mode`` adds is then rounded down to."""
    front = [0] * (input.rank - len(windows))
    begins, ends = [w.pad for w in windows], [w.pad + w.stride - 1 for w in windows]
    return e.g.Pad(input, e.g.ints(*front, *begins, *front, *ends))


def adaptive_pool(
    operator: str, axes: int, e: Emitter, input: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor | Sequence[Tensor]:
    """To one element per axis: the global pool; to sizes that divide the input's: windows side by side; else axis by axis."""
    have = e.sizes_of(input)[-axes:]
    want = [h if w is None else w for h, w in zip(have, each(output_size, axes), strict=True)]
    if return_indices:
        return _largest(e, input, have, want)
    if all(size == 1 for size in want):
        return batched(e, input, axes, lambda x: e.g.op(f"Global{operator}", x))
    if have == want:
        return input
    if not all(
        isinstance(h, int) and isinstance(w, int) and h % w == 0 for h, w in zip(have, want, strict=True)
    ):
        if operator == "AveragePool":
            return _averaged(e, input, have, want)
        return _largest(e, input, have, want)[0]
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


def _bounds(e: Emitter, n: Size, o: Size) -> tuple[Tensor, Tensor]:
    """(o,): where each window begins and ends."""
    size, count = (e.cast(e.scalar_size(one), INT64) for one in (n, o))
    zero, one = e.tensor(0, INT64), e.tensor(1, INT64)
    scaled = e.g.Mul(e.g.Range(zero, count, one), size)
    stop = e.g.Div(e.g.Add(scaled, e.g.Sub(e.g.Add(size, count), one)), count)
    return e.g.Div(scaled, count), stop


def _line(e: Emitter, size: Size) -> Tensor:
    return e.g.Range(e.tensor(0, INT64), e.cast(e.scalar_size(size), INT64), e.tensor(1, INT64))


def _bins(e: Emitter, n: Size, o: Size, dtype: np.dtype[Any]) -> Tensor:
    """(n, o): how much of each element goes into each window."""
    position = e.g.Unsqueeze(_line(e, n), e.g.ints(1))
    start, stop = _bounds(e, n, o)
    inside = e.g.And(e.g.GreaterOrEqual(position, start), e.g.Less(position, stop))
    return e.g.Div(e.cast(inside, dtype), e.cast(e.g.Sub(stop, start), dtype))


def _largest(e: Emitter, x: Tensor, have: Sequence[Size], want: Sequence[Size]) -> Sequence[Tensor]:
    """The maxima, the last axis first, and their numbers in the plane: the first of equal ones, row by row."""
    first = x.rank - len(have)
    numbers = e.expand(e.reshape(_line(e, _product(have)), list(have)), e.sizes_of(x))
    for axis in range(x.rank - 1, first - 1, -1):
        windows = _windows_of(e, have[axis - first], want[axis - first])
        spread, places = (e.g.Gather(one, windows, axis=axis) for one in (x, numbers))
        best = e.g.ArgMax(spread, axis=axis + 1, keepdims=1)
        sizes = [*e.sizes_of(x)[:axis], want[axis - first], *e.sizes_of(x)[axis + 1 :]]
        x, numbers = (
            e.known(e.g.Squeeze(e.g.GatherElements(one, best, axis=axis + 1), e.g.ints(axis + 1)), sizes)
            for one in (spread, places)
        )
    return x, numbers


def _windows_of(e: Emitter, n: Size, o: Size) -> Tensor:
    """(o, longest): the positions in each window; a shorter one repeats its last."""
    start, stop = _bounds(e, n, o)
    longest: Any = 1 - (-n // o) if isinstance(n, int) and isinstance(o, int) else symbolic.FloorDiv(n, o) + 2
    within = e.g.Add(e.g.Unsqueeze(start, e.g.ints(1)), _line(e, longest))
    return e.g.Min(within, e.g.Unsqueeze(e.g.Sub(stop, e.tensor(1, INT64)), e.g.ints(1)))


def _with_indices(pool: Row, *args: Any, **kwargs: Any) -> Any:
    """Whatever ``return_indices`` says: the function's name says it."""
    return pool(*args, **kwargs | {"return_indices": True})


for _axes in (1, 2, 3):
    row(f"max_pool{_axes}d")(partial(_max_pool, _axes))
    row(f"max_pool{_axes}d_with_indices")(partial(_with_indices, partial(_max_pool, _axes)))
    row(f"avg_pool{_axes}d")(partial(_avg_pool, _axes))
    row(f"adaptive_avg_pool{_axes}d")(partial(adaptive_pool, "AveragePool", _axes))
    row(f"adaptive_max_pool{_axes}d")(partial(adaptive_pool, "MaxPool", _axes))
    row(f"adaptive_max_pool{_axes}d_with_indices")(
        partial(_with_indices, partial(adaptive_pool, "MaxPool", _axes))
    )
