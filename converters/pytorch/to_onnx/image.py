"""The table of torch functions: resizing and sampling images."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.convolution import batched, each
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.pooling import adaptive_pool
from netferry.converters.pytorch.to_onnx.table import row

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
        return adaptive_pool("AveragePool", axes, e, input, list(e.out.dims[2:]))
    kind: dict[str, Any] = _resize_kind(mode, bool(align_corners))
    if antialias:
        kind |= {"antialias": 1, "exclude_outside": 1}
        kind |= {"cubic_coeff_a": -0.5} if mode == "bicubic" else {}
    if size is None and not recompute_scale_factor and not align_corners:
        scales = e.g.constant([1.0, 1.0, *map(float, each(scale_factor, axes))], np.float32)
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
    """The grid's coordinates go from -1 to 1 in both; PyTorch's bicubic and ONNX's cubic have the same -0.75."""
    return e.g.GridSample(
        input, grid, mode=_SAMPLING[mode], padding_mode=padding_mode, align_corners=int(bool(align_corners))
    )


@row("pixel_shuffle")
def pixel_shuffle(e: Emitter, input: Tensor, upscale_factor: int) -> Tensor:
    return batched(e, input, 2, lambda x: e.g.DepthToSpace(x, blocksize=upscale_factor, mode="CRD"))


@row("pixel_unshuffle")
def pixel_unshuffle(e: Emitter, input: Tensor, downscale_factor: int) -> Tensor:
    """(..., c, h r, w r) -> (..., c r r, h, w): the positions in a block vary slowest behind the channels."""
    *front, c, _, _ = e.sizes_of(input)
    r, n = downscale_factor, len(front)
    split = e.reshape(input, [*front, c, e.out.dims[-2], r, e.out.dims[-1], r])
    order = [*range(n), n, n + 2, n + 4, n + 1, n + 3]
    return e.reshape(e.g.transpose(split, order), e.out.dims)
