"""The table of torch functions, continued: convolutions, pools, paddings and resizing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from torch.nn import functional as F  # noqa: N812 - its usual name
from torch.utils._sympy import functions as symbolic

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import onnx_pads, symmetric
from netferry.converters.pytorch.to_onnx.elementwise import row
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.tracer.sizes import Size

PAD_MODES = {
    "constant": "constant",
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}
"""PyTorch's words for how to pad, and ONNX's."""


def _each(value: Any, axes: int) -> list[Any]:
    """One value per spatial axis; PyTorch takes a single one for all."""
    if not isinstance(value, tuple | list):
        return [value] * axes
    return list(value) * axes if len(value) == 1 else list(value)


def batched(e: Emitter, input: Tensor, axes: int, layer: Callable[[Tensor], Tensor]) -> Tensor:
    """PyTorch also takes (channels, *space); ONNX wants a batch in front."""
    if input.rank == axes + 2:
        return layer(input)
    return e.g.Squeeze(layer(e.g.Unsqueeze(input, e.g.ints(0))), e.g.ints(0))


# ---- convolutions ---------------------------------------------------------------------------------


def _conv(
    axes: int,
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """(batch, channels, *space) with weight (out, in / groups, *kernel)."""
    if not isinstance(groups, int):
        raise CannotConvert(f"a convolution with as many groups as a free size ({groups})", "Fix that size")
    kernel = [weight.size(axis + 2) for axis in range(axes)]
    dilations = _each(dilation, axes)
    return batched(
        e,
        input,
        axes,
        lambda x: e.g.Conv(
            x,
            weight,
            bias,
            kernel_shape=kernel,
            strides=_each(stride, axes),
            pads=_conv_pads(padding, kernel, dilations),
            dilations=dilations,
            group=groups,
        ),
    )


def _conv_pads(padding: Any, kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """As numbers; 'same' puts the odd element behind."""
    if padding == "valid":
        return symmetric([0] * len(kernel))
    if padding == "same":
        totals = [dilation * (size - 1) for size, dilation in zip(kernel, dilations, strict=True)]
        return onnx_pads([(total // 2, total - total // 2) for total in totals])
    return symmetric(_each(padding, len(kernel)))


def _conv_transpose(
    axes: int,
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """(batch, channels, *space) with weight (in, out / groups, *kernel)."""
    extra = _each(output_padding, axes)
    return batched(
        e,
        input,
        axes,
        lambda x: e.g.ConvTranspose(
            x,
            weight,
            bias,
            kernel_shape=[weight.size(axis + 2) for axis in range(axes)],
            strides=_each(stride, axes),
            pads=symmetric(_each(padding, axes)),
            output_padding=extra if any(extra) else None,
            dilations=_each(dilation, axes),
            group=groups,
        ),
    )


# ---- pools ----------------------------------------------------------------------------------------


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

    def places(self, size: Size, *, up: bool) -> Size:
        """How many windows there are when the last one is rounded up or down."""
        room = size + 2 * self.pad - self.span
        return (-(-room // self.stride) if up else room // self.stride) + 1


def _windows(axes: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> list[_Window]:
    strides = kernel if stride in (None, [], ()) else stride
    parts = (_each(value, axes) for value in (kernel, strides, padding, dilation))
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
    if known and all(out or w.places(n, up=True) == w.places(n, up=False) for w, n, out in pairs):
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
    if divisor_override is not None:
        raise CannotConvert("an average with a divisor of its own")
    windows = _windows(axes, kernel_size, stride, padding, 1)
    ceil = ceil_mode and _rounds_up(e, input, windows)
    counted = int(count_include_pad and any(window.pad for window in windows))
    attributes = _attributes(windows, ceil) | {"count_include_pad": counted}
    return batched(e, input, axes, lambda x: e.g.AveragePool(x, **attributes))


def _adaptive_pool(
    operator: str, axes: int, e: Emitter, input: Tensor, output_size: Any, return_indices: bool = False
) -> Tensor:
    """To one place per axis: the global pool; to places that divide the size: windows side by side; else by matrices."""
    if return_indices:
        raise CannotConvert("a pool that returns where its maxima stood")
    have = e.sizes_of(input)[-axes:]
    want = [h if w is None else w for h, w in zip(have, _each(output_size, axes), strict=True)]
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
    """(n, o): how much of each place goes into each window."""
    size, count = (e.cast(e.scalar_size(one), np.dtype(np.int64)) for one in (n, o))
    zero, one = e.tensor(0, np.dtype(np.int64)), e.tensor(1, np.dtype(np.int64))
    place = e.g.Unsqueeze(e.g.Range(zero, size, one), e.g.ints(1))
    scaled = e.g.Mul(e.g.Range(zero, count, one), size)
    start = e.g.Div(scaled, count)
    stop = e.g.Div(e.g.Add(scaled, e.g.Sub(e.g.Add(size, count), one)), count)
    inside = e.g.And(e.g.GreaterOrEqual(place, start), e.g.Less(place, stop))
    return e.g.Div(e.cast(inside, dtype), e.cast(e.g.Sub(stop, start), dtype))


def _shown(sizes: Sequence[Size]) -> str:
    return "x".join(map(str, sizes))


for _axes in (1, 2, 3):
    row(f"conv{_axes}d")(partial(_conv, _axes))
    row(f"conv_transpose{_axes}d")(partial(_conv_transpose, _axes))
    row(f"max_pool{_axes}d")(partial(_max_pool, _axes))
    row(f"avg_pool{_axes}d")(partial(_avg_pool, _axes))
    row(f"adaptive_avg_pool{_axes}d")(partial(_adaptive_pool, "AveragePool", _axes))
    row(f"adaptive_max_pool{_axes}d")(partial(_adaptive_pool, "MaxPool", _axes))


@row("unfold", "im2col")
def unfold(
    e: Emitter, input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """(batch, channels, h, w) -> (batch, channels * places of the kernel, windows): a slice for each place."""
    if input.rank != 4:
        raise CannotConvert("unfolding what has no batch", "Give it a batch of one")
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = (
        _each(one, 2) for one in (kernel_size, dilation, padding, stride)
    )
    batch, channels, h, w = e.sizes_of(input)
    rows, columns = (
        _windows_along(n, k, d, p, s) for n, k, d, p, s in ((h, kh, dh, ph, sh), (w, kw, dw, pw, sw))
    )
    x = e.g.Pad(input, e.g.ints(0, 0, ph, pw, 0, 0, ph, pw)) if ph or pw else input
    parts = []
    for i, j in product(range(kh), range(kw)):
        top, left = i * dh, j * dw
        ends = e.shape([top + (rows - 1) * sh + 1, left + (columns - 1) * sw + 1])
        part = e.g.Slice(x, e.g.ints(top, left), ends, e.g.ints(2, 3), e.g.ints(sh, sw))
        parts.append(e.reshape(part, [batch, channels, 1, e.out.dims[2]]))
    return e.reshape(e.g.Concat(*parts, axis=2), e.out.dims)


def _windows_along(n: Size, kernel: int, dilation: int, padding: int, stride: int) -> Any:
    """How many windows fit along an axis."""
    room: Any = n + 2 * padding - dilation * (kernel - 1) - 1
    if stride == 1:
        return room + 1
    return (room // stride if isinstance(room, int) else symbolic.FloorDiv(room, stride)) + 1


# ---- padding --------------------------------------------------------------------------------------


@row("pad", "constant_pad_nd")
def pad(
    e: Emitter, input: Tensor, pad: Sequence[Any], mode: str = "constant", value: float | None = None
) -> Tensor:
    """PyTorch lists (begin, end) from the last axis on."""
    if not isinstance(mode, str):  # constant_pad_nd
        mode, value = "constant", mode
    pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
    pairs = [(0, 0)] * (input.rank - len(pairs)) + pairs
    pads = e.shape([begin for begin, _ in pairs] + [end for _, end in pairs])
    fill = e.tensor(value, input.dtype) if value else None
    return e.g.Pad(input, pads, fill, mode=PAD_MODES[mode])


# ---- resizing -------------------------------------------------------------------------------------


_LINEAR = ("linear", "bilinear", "trilinear")


@row("interpolate", "upsample")
def interpolate(
    e: Emitter,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """With a scale PyTorch reads the input by that scale, with a size or aligned corners by the sizes."""
    axes = input.rank - 2
    if mode == "area":
        return _adaptive_pool("AveragePool", axes, e, input, list(e.out.dims[2:]))
    kind: dict[str, Any] = _resize_kind(mode, bool(align_corners))
    if antialias:
        kind |= {"antialias": 1, "exclude_outside": 1}
        kind |= {"cubic_coeff_a": -0.5} if mode == "bicubic" else {}
    if size is None and not recompute_scale_factor and not align_corners:
        scales = e.g.constant([1.0, 1.0, *map(float, _each(scale_factor, axes))], np.float32)
        return e.g.Resize(input, None, scales, **kind)
    sizes = e.shape([*e.sizes_of(input)[:2], *e.out.dims[2:]])
    return e.g.Resize(input, None, None, sizes, **kind)


def _resize_kind(mode: str, align_corners: bool) -> dict[str, Any]:
    if mode == "nearest":
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    corners = "align_corners" if align_corners else "half_pixel"
    if mode == "nearest-exact":
        return {
            "mode": "nearest",
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    if mode in _LINEAR:
        return {"mode": "linear", "coordinate_transformation_mode": corners}
    if mode == "bicubic":
        return {"mode": "cubic", "coordinate_transformation_mode": corners, "cubic_coeff_a": -0.75}
    raise CannotConvert(f"resizing by '{mode}'")


_SAMPLING = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}


@row(F.grid_sample)
def grid_sample(
    e: Emitter,
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The grid's places go from -1 to 1 in both; PyTorch's bicubic and ONNX's cubic have the same -0.75."""
    return e.g.GridSample(
        input, grid, mode=_SAMPLING[mode], padding_mode=padding_mode, align_corners=int(bool(align_corners))
    )


@row(F.local_response_norm)
def local_response_norm(
    e: Emitter, input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha / size * sum of squares over ``size`` neighbouring channels) ^ beta."""
    if size % 2 == 0:
        raise CannotConvert(
            "a local response normalisation over an even number of channels", "Use an odd size"
        )
    return e.g.LRN(input, size=size, alpha=float(alpha), beta=float(beta), bias=float(k))


@row("pixel_shuffle")
def pixel_shuffle(e: Emitter, input: Tensor, upscale_factor: int) -> Tensor:
    return batched(e, input, 2, lambda x: e.g.DepthToSpace(x, blocksize=upscale_factor, mode="CRD"))


@row("pixel_unshuffle")
def pixel_unshuffle(e: Emitter, input: Tensor, downscale_factor: int) -> Tensor:
    """(..., c, h r, w r) -> (..., c r r, h, w): the blocks' places vary slowest behind the channels."""
    *front, c, _, _ = e.sizes_of(input)
    r, n = downscale_factor, len(front)
    split = e.reshape(input, [*front, c, e.out.dims[-2], r, e.out.dims[-1], r])
    order = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return e.reshape(e.g.transpose(split, order), e.out.dims)
