"""Blocks of pixels as channels, channels as blocks of pixels, and pixels as blocks of themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE, computed
from netferry.converters.mxnet.from_onnx.writer import FLOAT32


@NATIVE.row("DepthToSpace")
def depth_to_space(xp: MxnetNamespace, x: Symbol, *, blocksize: int, mode: str) -> Any:
    if mode != "DCR" or not known(x.shape[1:]) or not computed(x):
        return NotImplemented
    n, c, h, w = x.shape
    dims = (n, c // blocksize**2, h * blocksize, w * blocksize)
    return xp.apply("depth_to_space", x, dims=dims, block_size=blocksize)


@NATIVE.row("SpaceToDepth")
def space_to_depth(xp: MxnetNamespace, x: Symbol, *, blocksize: int) -> Any:
    if not known(x.shape[1:]) or not computed(x):
        return NotImplemented
    n, c, h, w = x.shape
    dims = (n, c * blocksize**2, h // blocksize, w // blocksize)
    return xp.apply("space_to_depth", x, dims=dims, block_size=blocksize)


@NATIVE.row("MaxRoiPool")
def max_roi_pool(
    xp: MxnetNamespace, x: Symbol, rois: Symbol, *, pooled_shape: Sequence[int], spatial_scale: float
) -> Any:
    if x.dtype != FLOAT32 or not computed(x):
        return NotImplemented
    dims = (rois.shape[0], x.shape[1], *pooled_shape)
    return xp.apply(
        "ROIPooling", x, rois, dims=dims, pooled_size=tuple(pooled_shape), spatial_scale=spatial_scale
    )


@NATIVE.row("Resize")
def resize(
    xp: MxnetNamespace,
    x: Symbol,
    roi: Symbol | None = None,
    scales: Symbol | None = None,
    sizes: Any = None,
    *,
    coordinate_transformation_mode: str,
    mode: str,
    nearest_mode: str,
) -> Any:
    """Images of free sizes that grow by a whole factor to the nearest pixel; others are tables of indices."""
    factors = None if scales is None or scales.content is None else scales.content.reshape(-1).tolist()
    plain = (mode, coordinate_transformation_mode, nearest_mode) == ("nearest", "asymmetric", "floor")
    if (
        not plain
        or sizes is not None
        or factors is None
        or len(factors) != 4
        or known(x.shape)
        or not computed(x)
    ):
        return NotImplemented
    factor = factors[2]
    if factors[:2] != [1, 1] or factor != factors[3] or factor != int(factor) or x.dtype != FLOAT32:
        return NotImplemented
    n, c, h, w = x.shape
    dims = (n, c, h * int(factor), w * int(factor))
    return xp.apply("UpSampling", x, dims=dims, scale=int(factor), sample_type="nearest", num_args=1)
