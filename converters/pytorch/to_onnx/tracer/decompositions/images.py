"""Functions that are decomposed into others: images, their windows and regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed

_NN: Any = torch._C._nn


@decomposed("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(input: Tensor, groups: int) -> Tensor:
    parts: Any = input.unflatten  # it has no types
    found: Tensor = parts(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
    return found


def _both(value: Any) -> list[Any]:
    return [value, value] if not isinstance(value, list | tuple) else list(value) * (2 // len(value))


@decomposed("fold", "col2im")
def _fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """Windows summed where they overlap: a transposed convolution that puts each element at its place."""
    kernel, dilations, pads, strides, sizes = map(
        _both, (kernel_size, dilation, padding, stride, output_size)
    )
    if input.dim() == 2:
        return _fold(input.unsqueeze(0), sizes, kernel, dilations, pads, strides).squeeze(0)
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    counts = [(n + 2 * p - span) // s + 1 for n, p, span, s in zip(sizes, pads, spans, strides, strict=True)]
    area = kernel[0] * kernel[1]
    channels = input.size(1) // area
    windows = input.reshape(-1, area, *counts)
    places = torch.eye(area, dtype=input.dtype, device=input.device).view(area, 1, *kernel)
    placed = F.conv_transpose2d(windows, places, None, strides, 0, 0, 1, dilations)
    if max(strides) > 1:  # what no window reaches
        placed = F.pad(placed, (0, strides[1] - 1, 0, strides[0] - 1))
    placed = placed.narrow(-2, pads[0], sizes[0]).narrow(-1, pads[1], sizes[1])
    return placed.reshape(input.size(0), channels, *sizes)


@decomposed(F.unfold, _NN.im2col)
def _unfold(input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Without a batch; with one it has a row."""
    if input.dim() != 3:
        return NotImplemented
    return F.unfold(input.unsqueeze(0), *args, **kwargs).squeeze(0)


def _unpool(axes: int, input: Tensor, indices: Tensor, output_size: Sequence[Any], *_: Any) -> Tensor:
    """Each element at its index in a plane of zeros."""
    sizes = list(output_size)[-axes:]
    total = sizes[0]
    for size in sizes[1:]:
        total = total * size
    front = input.shape[: input.dim() - axes]
    plane = input.new_zeros((*front, total))
    return plane.scatter(-1, indices.flatten(-axes), input.flatten(-axes)).reshape(*front, *sizes)


decomposed(_NN.max_unpool2d)(partial(_unpool, 2))
decomposed(_NN.max_unpool3d)(partial(_unpool, 3))


# ---- resizing, as PyTorch's own library calls it ---------------------------------------------------


def _factors(given: Sequence[Any]) -> list[float] | None:
    scales = list(given[0]) if given and isinstance(given[0], list | tuple) else list(given)
    return None if not scales or any(scale is None for scale in scales) else scales


def _resized(mode: str, input: Tensor, output_size: Any, *scales: Any, **named: Any) -> Tensor:
    scale = _factors([*scales, *named.values()])
    if scale is not None:
        return F.interpolate(input, scale_factor=scale, mode=mode)
    return F.interpolate(input, size=list(output_size), mode=mode)


def _resized_smoothly(
    mode: str, antialias: bool, input: Tensor, output_size: Any, align_corners: bool, *scales: Any, **named: Any
) -> Tensor:  # fmt: skip
    scale = _factors([*scales, *named.values()])
    size = None if scale is not None else list(output_size)
    return F.interpolate(
        input, size=size, scale_factor=scale, mode=mode, align_corners=align_corners, antialias=antialias
    )


for _axes in (1, 2, 3):
    decomposed(getattr(_NN, f"upsample_nearest{_axes}d"))(partial(_resized, "nearest"))
    decomposed(getattr(_NN, f"_upsample_nearest_exact{_axes}d"))(partial(_resized, "nearest-exact"))
for _name, _mode in {"linear1d": "linear", "bilinear2d": "bilinear", "trilinear3d": "trilinear", "bicubic2d": "bicubic"}.items():  # fmt: skip
    decomposed(getattr(_NN, f"upsample_{_name}"))(partial(_resized_smoothly, _mode, False))
    if hasattr(_NN, f"_upsample_{_name}_aa"):
        decomposed(getattr(_NN, f"_upsample_{_name}_aa"))(partial(_resized_smoothly, _mode, True))


@decomposed(F.local_response_norm)
def _local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """Over an even number of channels one more stands before than behind; odd ones of images have a row."""
    if size % 2 and input.dim() == 4:
        return NotImplemented
    channels = input.size(1)
    squares = F.pad(input.square(), (0, 0) * (input.dim() - 2) + (size // 2, (size - 1) // 2))
    total = squares.narrow(1, 0, channels)
    for first in range(1, size):
        total = total + squares.narrow(1, first, channels)
    return input / (total * (alpha / size) + k).pow(beta)


@decomposed(F.interpolate)
def _interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Any:  # fmt: skip
    """With antialias and aligned corners: filtered by PyTorch's own weights, whose step is that of corners and whose first
    position that of halves, which ONNX has not."""
    if not (antialias and align_corners):
        return NotImplemented
    sizes = [size] * 2 if size is not None and not isinstance(size, list | tuple) else size
    if sizes is None:
        sizes = [math.floor(n * by) for n, by in zip(input.shape[2:], _both(scale_factor), strict=True)]
    high, wide = (_filter(n, out, mode, input.dtype) for n, out in zip(input.shape[2:], sizes, strict=True))
    return high @ input @ wide.T


def _filter(n: Any, out: Any, mode: str, dtype: torch.dtype) -> Tensor:
    """(out, n): what each element has of each."""
    places, wanted = torch.arange(n, dtype=dtype), torch.arange(out, dtype=dtype)
    last = wanted[-1]
    step = torch.where(last > 0, places[-1] / last.clamp(min=1), last)
    apart = ((places + 0.5) - (wanted + 0.5).unsqueeze(1) * step).abs() / step.clamp(min=1)
    if mode == "bicubic":  # Keys' cubic with -0.5
        near = (1.5 * apart - 2.5) * apart * apart + 1
        far = ((apart - 5) * apart + 8) * apart - 4
        share = torch.where(apart < 1, near, torch.where(apart < 2, -0.5 * far, torch.zeros_like(apart)))
    else:
        share = (1 - apart).clamp(min=0)
    return share / share.sum(1, keepdim=True)
