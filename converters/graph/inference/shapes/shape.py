"""Sizes of what moves, joins, repeats and pads elements, and of what is made of sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.inference.dims import SHAPES, Dims, at_least, axes_of, broadcast, ints, ranked
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.sizes import Size, ceil_div, largest, product, total


@SHAPES.row("Transpose")
@ranked
def transpose(x: Any, *, perm: Sequence[int] | None = None) -> Dims:
    order = range(len(x.dims))[::-1] if perm is None else perm
    return tuple(x.dims[axis] for axis in order)


@SHAPES.row("Reshape")
def reshape(x: Fact, shape: Fact, *, allowzero: int = 0) -> Dims:
    sizes = ints(shape)
    if sizes is None:
        rank = shape.dims[0] if shape.dims else None
        return (None,) * rank if isinstance(rank, int) else None
    have = x.dims
    dims: list[Any] = list(sizes)
    for axis, size in enumerate(sizes):
        if not isinstance(size, Size) and size == 0 and not allowzero:
            dims[axis] = have[axis] if have is not None else None
    if -1 in dims:
        rest = [dim for dim in dims if isinstance(dim, Size) or dim != -1]
        dims[dims.index(-1)] = None if have is None or None in rest else left_over(have, rest)
    return tuple(dims)


def left_over(have: Sequence[Any], taken: Sequence[Any]) -> Any:
    """What -1 stands for when sizes ``have`` are reshaped; sizes on both sides are cancelled first."""
    above, below = list(have), []
    for size in taken:
        if size in above:
            above.remove(size)
        else:
            below.append(size)
    total, by = product(above), product(below)
    return None if not isinstance(by, Size) and by == 0 else total // by


@SHAPES.row("Flatten")
@ranked
def flatten(x: Any, *, axis: int = 1) -> Dims:
    axis = axis + len(x.dims) if axis < 0 else axis
    return (product(x.dims[:axis]), product(x.dims[axis:]))


@SHAPES.row("Squeeze")
@ranked
def squeeze(x: Any, axes: Fact | None = None) -> Dims:
    rank = len(x.dims)
    if axes is None and any(isinstance(dim, Size) for dim in x.dims):
        return None
    drop = axes_of(axes, rank, [a for a, dim in enumerate(x.dims) if dim == 1])
    return None if drop is None else tuple(dim for axis, dim in enumerate(x.dims) if axis not in drop)


@SHAPES.row("Unsqueeze")
@ranked
def unsqueeze(x: Any, axes: Fact) -> Dims:
    count = ints(axes)
    if count is None:
        return None
    rank = len(x.dims) + len(count)
    positions = {a % rank for a in count}
    rest = iter(x.dims)
    return tuple(1 if axis in positions else next(rest) for axis in range(rank))


@SHAPES.row("Concat")
def concat(*inputs: Fact, axis: int = 0) -> Dims:
    if any(x.dims is None for x in inputs):
        return None
    shapes: list[Any] = [x.dims for x in inputs]
    axis %= len(shapes[0])
    return tuple(
        total(dims[position] for dims in shapes)
        if position == axis
        else _known_first([dims[position] for dims in shapes])
        for position in range(len(shapes[0]))
    )


def _known_first(dims: Sequence[Any]) -> Any:
    """Of sizes that must be equal, the one that says most."""
    return next((dim for dim in dims if not isinstance(dim, Size)), dims[0])


@SHAPES.row("Split")
@ranked
def split(
    x: Any, lengths: Fact | None = None, *, axis: int = 0, num_outputs: int = 0, outputs: int = 0
) -> list[Dims]:
    axis %= len(x.dims)
    sizes: Any = ints(lengths)
    if lengths is None:
        count = num_outputs or outputs
        part = ceil_div(x.dims[axis], count)
        last = x.dims[axis] - part * (count - 1)
        sizes = [part] * (count - 1) + [last]
    elif sizes is None:
        sizes = [None] * outputs
    return [(*x.dims[:axis], size, *x.dims[axis + 1 :]) for size in sizes]


@SHAPES.row("Expand")
@ranked
def expand(x: Any, shape: Fact) -> Dims:
    sizes = ints(shape)
    if sizes is not None:
        return broadcast(x.dims, sizes)
    rank = shape.dims[0] if shape.dims else None
    return broadcast(x.dims, (None,) * rank) if isinstance(rank, int) else None


@SHAPES.row("Tile")
@ranked
def tile(x: Any, repeats: Fact) -> Dims:
    times = ints(repeats)
    return (
        (None,) * len(x.dims) if times is None else tuple(a * b for a, b in zip(x.dims, times, strict=True))
    )


@SHAPES.row("Pad")
@ranked
def pad(x: Any, pads: Fact, value: Any = None, axes: Fact | None = None, *, mode: str = "constant") -> Dims:
    amounts, positions = ints(pads), axes_of(axes, len(x.dims), range(len(x.dims)))
    if amounts is None or positions is None:
        return (None,) * len(x.dims)
    dims = list(x.dims)
    for index, axis in enumerate(positions):
        dims[axis] = dims[axis] + amounts[index] + amounts[index + len(positions)]
    return tuple(dims)


@SHAPES.row("DepthToSpace")
@ranked
def depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Dims:
    n, c, *space = x.dims
    return (n, c // blocksize ** len(space), *(dim * blocksize for dim in space))


@SHAPES.row("SpaceToDepth")
@ranked
def space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Dims:
    n, c, *space = x.dims
    return (n, c * blocksize ** len(space), *(dim // blocksize for dim in space))


@SHAPES.row("Shape")
@ranked
def shape_of(x: Any, *, start: int = 0, end: int | None = None) -> Dims:
    return (len(x.dims[start:end]),)


@SHAPES.row("Size")
def size_of(x: Fact) -> Dims:
    return ()


@SHAPES.row("ConstantOfShape")
def constant_of_shape(shape: Fact, *, value: Any = None) -> Dims:
    sizes = ints(shape)
    if sizes is not None:
        return sizes
    rank = shape.dims[0] if shape.dims else None
    return (None,) * rank if isinstance(rank, int) else None


@SHAPES.row("Range")
def range_of(start: Fact, limit: Fact, delta: Fact, **_: Any) -> Dims:
    if start.dtype is not None and start.dtype.kind in "iu":
        first, last, step = ints(start), ints(limit), ints(delta)
        if first and last and step and not isinstance(step[0], Size):
            span = last[0] - first[0]
            count = ceil_div(span, step[0]) if step[0] > 0 else ceil_div(-1 * span, -step[0])
            return (count if at_least(count) >= 0 else largest(count, 0),)
    numbers = [float(x.constant.reshape(-1)[0]) for x in (start, limit, delta) if x.constant is not None]
    if len(numbers) == 3:
        a, b, c = numbers
        return (max(math.ceil((b - a) / c), 0),)
    return (None,)


@SHAPES.row("StringNormalizer")
@ranked
def string_normalizer(x: Any, **_: Any) -> Dims:
    """The last axis loses its stop words; ONNX's inference refuses one that is free."""
    return (*x.dims[:-1], None)
