"""Blocks of pixels as channels, and channels as blocks of pixels."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE, computed


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
