"""Sizes as expressions: known ones as numbers, those known only when the model runs as axes of a tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import GraphBuilder, Tensor
from netferry.converters.mxnet.to_onnx.emitter import few
from netferry.converters.signature import Dim


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise CannotConvert(f"axis {axis} is outside of its input with {rank} axes")
    return axis % rank


@dataclass(frozen=True)
class Size:
    """A size that is only known when the model runs: the product of axes of a tensor, divided."""

    axes: tuple[int, ...]
    over: int = field(default=1)

    @property
    def is_axis(self) -> bool:
        return len(self.axes) == 1 and self.over == 1


def size_of(x: Tensor, *axes: int, over: int = 1) -> int | Size:
    """The product of some sizes of ``x`` as a number where they are known, else as an expression."""
    if over < 1:
        raise CannotConvert(f"a size cannot be split by {over}")
    product = 1
    for axis in axes:
        dim: Dim = x.dims[axis] if x.dims is not None else None
        if not isinstance(dim, int):
            return Size(axes, over)
        product *= dim
    if product % over:
        raise CannotConvert(f"a size of {product} cannot be split by {over}")
    return product // over


def shape_tensor(g: GraphBuilder, x: Tensor, sizes: Sequence[int | Size]) -> Tensor:
    """A shape as a tensor: a constant where all sizes are known, else put together at run time."""
    if all(isinstance(size, int) for size in sizes):
        return g.constant(list(sizes), np.int64)
    pieces: list[Tensor] = []
    for size in sizes:
        pieces.append(g.ints(size) if isinstance(size, int) else _at_run_time(g, x, size))
    return pieces[0] if len(pieces) == 1 else g.Concat(*pieces, axis=0)


def _at_run_time(g: GraphBuilder, x: Tensor, size: Size) -> Tensor:
    first, *others = (g.Shape(x, start=axis, end=axis + 1) for axis in size.axes)
    for other in others:
        first = g.Mul(first, other)
    return first if size.over == 1 else g.Div(first, g.ints(size.over))


def shape_of(g: GraphBuilder, x: Tensor) -> Tensor:
    """The sizes of ``x`` as a tensor: a constant where all are known."""
    return shape_tensor(g, x, [size_of(x, axis) for axis in range(x.rank)])


def positions_along(g: GraphBuilder, x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 ... as int64, as many as an axis has positions."""
    count = size_of(x, axis)
    if isinstance(count, int):
        return g.constant(np.arange(few(count)), np.int64)
    end = g.Squeeze(shape_tensor(g, x, [count]), g.ints(0))
    return g.Range(g.constant(0, np.int64), end, g.constant(1, np.int64))


def reshape(g: GraphBuilder, x: Tensor, sizes: Sequence[int | Size]) -> Tensor:
    """Reshape to sizes of which one may be -1; 0 and -1 stand for unknown ones where they can."""
    if x.array is not None and all(isinstance(size, int) for size in sizes):
        return g.constant(
            x.array.reshape([int(size) for size in sizes if isinstance(size, int)]), name=x.name
        )
    if x.dims is not None and tuple(sizes) == tuple(size_of(x, axis) for axis in range(x.rank)):
        return x
    sizes = _without_inference(x, sizes)
    static = [0 if size == Size((position,)) else size for position, size in enumerate(sizes)]
    unknown = [position for position, size in enumerate(static) if isinstance(size, Size)]
    if len(unknown) == 1 and -1 not in static:
        static[unknown[0]] = -1
        unknown = []
    if not unknown:
        return g.Reshape(x, g.constant(static, np.int64))
    y = g.Reshape(x, shape_tensor(g, x, sizes))
    dims = tuple(_dim(x, size) for size in sizes)
    y.value.shape = ir.Shape(dims)
    return replace(y, dims=dims)


def _without_inference(x: Tensor, sizes: Sequence[int | Size]) -> Sequence[int | Size]:
    """Sizes in which -1 is a number, where each unknown axis of ``x`` is kept as it is."""
    kept = sorted(size.axes[0] for size in sizes if isinstance(size, Size) and size.is_axis)
    numbers = [size for size in sizes if isinstance(size, int) and size > 0]
    if x.dims is None or -1 not in sizes or len(kept) + len(numbers) + 1 != len(sizes):
        return sizes
    if kept != [axis for axis, dim in enumerate(x.dims) if not isinstance(dim, int)]:
        return sizes
    whole = math.prod(dim for dim in x.dims if isinstance(dim, int))
    rest, left = divmod(whole, math.prod(numbers))
    return sizes if left else [rest if size == -1 else size for size in sizes]


def _dim(x: Tensor, size: int | Size) -> Dim:
    if isinstance(size, int):
        return size if size > 0 else None
    return x.dims[size.axes[0]] if x.dims is not None and size.is_axis else None


CODES: Mapping[int, str] = {0: "keep", -2: "rest", -3: "join", -4: "split"}
NUMPY_CODES: Mapping[int, str] = {-2: "keep", -3: "drop", -4: "rest", -5: "join", -6: "split"}
"""What the codes of a shape mean; -1 is inferred, and any other number is a size."""


def reshape_sizes(
    x: Tensor, codes: Sequence[int], meanings: Mapping[int, str] = CODES, *, reverse: bool = False
) -> list[int | Size]:
    """MXNet's codes as sizes of ``x``.

    They keep an axis, or all that are left; join two; drop one of size 1; split one into the two sizes that
    follow (of which one may be -1). ``reverse``: axes and codes meet from the right.
    """
    sizes: list[int | Size] = []
    codes, at, axes = list(codes), 0, list(range(x.rank))
    if reverse:
        codes, axes = codes[::-1], axes[::-1]
    while codes:
        code = codes.pop(0)
        meaning = meanings.get(code, "size")
        if (meaning == "size" and code < -1) or (meaning == "split" and reverse):
            raise CannotConvert(f"the shape has no code {code}")
        used = {"join": 2, "rest": x.rank - at}.get(meaning, 1)
        if meaning != "size" and at + used > x.rank:
            raise CannotConvert(f"code {code} of the shape meets no axis of its input")
        if meaning == "size":
            sizes.append(code)
        elif meaning in ("keep", "rest"):
            sizes += [size_of(x, axis) for axis in axes[at : at + used]]
        elif meaning == "join":
            sizes.append(size_of(x, *sorted(axes[at : at + 2])))
        elif meaning == "split":
            sizes += _split_size(x, at, codes)
            del codes[:2]
        elif x.size(at) != 1:
            raise CannotConvert(f"code {code} of the shape meets an axis that is not 1")
        at += used
    return sizes[::-1] if reverse else sizes


def _split_size(x: Tensor, axis: int, codes: Sequence[int]) -> list[int | Size]:
    if len(codes) < 2:
        raise CannotConvert("a code that splits an axis needs two sizes after it")
    first, second = codes[:2]
    if first == -1:
        return [size_of(x, axis, over=second), second]
    return [first, size_of(x, axis, over=first) if second == -1 else second]


def cut(
    g: GraphBuilder,
    x: Tensor,
    axes: Sequence[int],
    begins: Sequence[int | None],
    ends: Sequence[int | None],
    steps: Sequence[int] = (),
) -> Tensor:
    """A slice; None is the end of the axis that the step comes from, or goes to."""
    steps = list(steps) or [1] * len(axes)
    far = np.iinfo(np.int64).max
    starts = [
        begin if begin is not None else (0 if step > 0 else far)
        for begin, step in zip(begins, steps, strict=True)
    ]
    stops = [
        end if end is not None else (far if step > 0 else -far) for end, step in zip(ends, steps, strict=True)
    ]
    return g.Slice(
        x,
        g.ints(*starts),
        g.ints(*stops),
        g.ints(*axes),
        g.ints(*steps) if any(step != 1 for step in steps) else None,
    )


def flipped(g: GraphBuilder, x: Tensor, axes: Sequence[int]) -> Tensor:
    ends = [None] * len(axes)
    return cut(g, x, axes, ends, ends, [-1] * len(axes))


def flattened(g: GraphBuilder, x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """``x`` and an axis of it counted from the front; without an axis, all elements as one."""
    return (reshape(g, x, [-1]), 0) if axis is None else (x, positive(axis, x.rank))


def stacked(g: GraphBuilder, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors side by side along a new axis."""
    return g.Concat(*(g.Unsqueeze(x, g.ints(axis)) for x in tensors), axis=axis)


def matrix_transposed(g: GraphBuilder, x: Tensor) -> Tensor:
    """Each matrix in the last two axes transposed."""
    return g.transpose(x, swapped(x.rank, -1, -2))


def per_channel(g: GraphBuilder, v: Tensor, rank: int) -> Tensor:
    """A vector with one number per channel, shaped to meet (batch, channels, *space)."""
    return v if rank <= 2 else reshape(g, v, [-1, *[1] * (rank - 2)])


def swapped(rank: int, first: int, second: int) -> tuple[int, ...]:
    """The permutation that swaps two axes."""
    order = list(range(rank))
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def moved(rank: int, source: int, target: int) -> tuple[int, ...]:
    """The permutation that moves one axis and keeps the order of the others."""
    order = [axis for axis in range(rank) if axis != source]
    order.insert(target, source)
    return tuple(order)
