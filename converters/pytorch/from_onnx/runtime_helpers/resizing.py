"""ONNX's Resize, in whatever form."""

# mypy: ignore-errors
# ruff: noqa: B905 - the programs read plainer so

from __future__ import annotations

import math

import torch


def resize(
    x,
    axes=None,
    scales=None,
    sizes=None,
    roi=None,
    mode="nearest",
    coordinate_transformation_mode="half_pixel",
    nearest_mode="round_prefer_floor",
    antialias=False,
    exclude_outside=False,
    cubic_coeff_a=-0.75,
    extrapolation_value=0.0,
    keep_aspect_ratio_policy="stretch",
):
    """ONNX's Resize, one axis after the other: each is a matrix, or a picking of places."""
    axes = [axis % x.dim() for axis in (range(x.dim()) if axes is None else axes)]
    have = [x.shape[axis] for axis in axes]
    if scales is not None:
        sizes = [math.floor(size * by * (1 + 1e-7)) for size, by in zip(have, scales)]
    elif keep_aspect_ratio_policy == "stretch":
        scales = [want / size for want, size in zip(sizes, have)]
    else:
        most = min if keep_aspect_ratio_policy == "not_larger" else max
        scales = [most(want / size for want, size in zip(sizes, have))] * len(axes)
        sizes = [int(scale * size + 0.5) for scale, size in zip(scales, have)]
    windows = [(0.0, 1.0)] * len(axes) if roi is None else list(zip(roi[: len(axes)], roi[len(axes) :]))
    for axis, size, out, scale, window in zip(axes, have, sizes, scales, windows):
        if scale == 1 and window == (0.0, 1.0):
            continue
        kind = torch.float32 if mode == "nearest" else torch.float64
        place = resized_places(
            torch.arange(out, dtype=kind, device=x.device),
            size,
            out,
            scale,
            window,
            coordinate_transformation_mode,
        )
        if mode == "nearest":
            half = {
                "round_prefer_floor": lambda v: (v - 0.5).ceil(),
                "round_prefer_ceil": lambda v: (v + 0.5).floor(),
            }
            rounded = half.get(nearest_mode, getattr(torch, nearest_mode, None))(place)
            x = x.index_select(axis, rounded.clamp(0, size - 1).to(torch.int64))
        else:
            stretch = min(scale, 1.0) if antialias else 1.0
            weights = resize_weights(place, size, mode, stretch, exclude_outside, antialias, cubic_coeff_a)
            x = (x.transpose(axis, -1) @ weights.to(x.dtype).T).transpose(axis, -1)
        if coordinate_transformation_mode == "tf_crop_and_resize":
            outside = ((place < 0) | (place > size - 1)).reshape(
                [-1 if a == axis else 1 for a in range(x.dim())]
            )
            x = torch.where(outside, extrapolation_value, x)
    return x


def resized_places(y, size, out, scale, window, mode):
    """Where in an axis of ``size`` places each of ``out`` places looks."""
    span = out - 1
    if mode == "align_corners":
        return y * (size - 1) / span if span else y * 0
    if mode == "asymmetric":
        return y / scale
    if mode == "tf_crop_and_resize":
        start, stop = window
        return (y * (stop - start) / span + start if span else y * 0 + (start + stop) / 2) * (size - 1)
    if mode == "pytorch_half_pixel" and out == 1:
        return y * 0
    offset = size / 2 * (1 - out / (scale * size)) if mode == "half_pixel_symmetric" else 0
    return (y + 0.5) / scale - 0.5 + offset


def resize_weights(place, size, mode, stretch, inside_only, antialias, a):
    """(out, size): how much of each place goes into each output place; R. Keys, 1981, for the cubic kernel."""
    span = math.ceil((2 if mode == "cubic" else 1) / stretch) + 1
    near = place.floor().unsqueeze(1) + torch.arange(-span, span + 1, device=place.device)
    d = (place.unsqueeze(1) - near).abs() * stretch
    if mode == "cubic":
        close, far = ((a + 2) * d - (a + 3)) * d**2 + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        weights = torch.where(d <= 1, close, torch.where(d < 2, far, 0.0))
    else:
        weights = (1 - d).clamp(0, 1)
    if inside_only:
        weights = torch.where((near < 0) | (near >= size), 0.0, weights)
    if antialias or inside_only:
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total == 0, 1.0, total)
    where = near.clamp(0, size - 1).to(torch.int64)
    return torch.zeros(len(place), size, dtype=place.dtype, device=place.device).scatter_add(
        1, where, weights
    )
