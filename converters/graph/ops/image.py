"""Images: resizing, sampling grids, and columns put back into an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import INT64, Sizes, ints, op
from netferry.converters.graph.schema.windows import Windows
from netferry.converters.signature import Array


@op
def AffineGrid(xp: Any, theta: Symbol, size: Sizes, *, align_corners: int) -> Any:
    """Where each place of the output looks, in [-1, 1]: ``theta`` times its own coordinates, x first.

    ``theta``: (batch, d, d + 1); the result: (batch, *space, d).
    """
    space = ints(size[2:], "sizes")
    budget.make(product(space) * (len(space) + 1))
    axes = [_centres(length, bool(align_corners)) for length in space]
    mesh = np.meshgrid(*axes, indexing="ij")
    points = np.stack([*mesh[::-1], np.ones(space)], -1).reshape(-1, len(space) + 1)
    grid = xp.matmul(xp.asarray(points, theta.dtype), xp.permute_dims(theta, (0, 2, 1)))
    return xp.reshape(grid, (theta.shape[0], *space, len(space)))


def _centres(length: int, corners: bool) -> Array:
    """The places of one axis in [-1, 1]: from corner to corner, or the centres of its cells."""
    if corners:
        return np.linspace(-1, 1, length) if length > 1 else np.array([-1.0])
    return (np.arange(length) * 2 + 1) / length - 1


@op
def Col2Im(
    xp: Any,
    x: Symbol,
    image_shape: Sizes,
    block_shape: Sizes,
    *,
    dilations: Any,
    pads: Any,
    strides: Any,
) -> Any:
    """The blocks of an image, (batch, channels * block, places), added up where they overlap."""
    block, image = ints(block_shape, "block sizes"), ints(image_shape, "image sizes")
    rank = len(block)
    pads = pads or [0] * (2 * rank)
    padded = [size + pads[i] + pads[rank + i] for i, size in enumerate(image)]
    positions = _block_positions(padded, block, strides or [1] * rank, dilations or [1] * rank)
    batch, channels = x.shape[0], x.shape[1] // product(block)
    columns = xp.reshape(x, (batch, channels, positions.size))
    index = xp.broadcast_to(xp.asarray(positions.reshape(1, 1, -1), INT64), (batch, channels, positions.size))
    flat = xp.scatter_along_axis(
        xp.full((batch, channels, product(padded)), 0, x.dtype), index, columns, 2, "add"
    )
    whole = xp.reshape(flat, (batch, channels, *padded))
    return xp.slice(whole, {2 + i: (pads[i], pads[i] + size, 1) for i, size in enumerate(image)})


def _block_positions(padded: list[int], block: Sizes, strides: list[int], dilations: list[int]) -> Array:
    """(block, places): the flat index in the padded image of each element of each block."""
    flat = np.zeros((1, 1), np.int64)
    budget.make(product(block) * product(padded))
    for size, length, stride, dilation in zip(padded, block, strides, dilations, strict=True):
        inside = np.arange(length) * dilation
        starts = np.arange(0, size - dilation * (length - 1), stride)
        positions = inside[:, None] + starts[None, :]
        outer = flat[:, None, :, None] * size + positions[None, :, None, :]
        flat = outer.reshape(flat.shape[0] * length, flat.shape[1] * len(starts))
    return flat


@op
def MaxUnpool(
    xp: Any, x: Symbol, indices: Symbol, output_shape: Sizes | None = None, *, windows: Windows
) -> Any:
    """Each element back at the flat index it came from; zeros elsewhere, and behind, up to ``output_shape``."""
    settings = zip(x.shape[2:], windows.strides, windows.kernel, windows.listed, strict=True)
    space = [
        (size - 1) * stride - before - after + kernel for size, stride, kernel, (before, after) in settings
    ]
    sizes = (*x.shape[:2], *space)
    empty = xp.full((product(sizes),), 0, x.dtype)
    flat = xp.scatter_along_axis(empty, xp.reshape(indices, (-1,)), xp.reshape(x, (-1,)), 0, "none")
    whole = xp.reshape(flat, sizes)
    if output_shape is None:
        return whole
    more = tuple((0, want - have) for want, have in zip(output_shape, sizes, strict=True))
    return xp.pad(whole, more, "constant", 0) if any(isinstance(m, Size) or m for _, m in more) else whole
