"""What the operator tables share: the table itself, the pen, dtypes, and sizes as expressions.

A row is ``row(g, a, *inputs)``: it writes an operator's ONNX nodes with the pen ``g``, reads its
attributes from ``a``, and returns one tensor, or as many as the operator has outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import helper

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import GraphBuilder, Tensor
from netferry.converters.graph.registry import Table
from netferry.converters.mxnet.files import DTYPES
from netferry.converters.mxnet.symbol import Symbol
from netferry.converters.signature import Dim

Row = Callable[..., "Tensor | Sequence[Tensor]"]
ROWS: Table[str, Row] = Table("mxnet")

FLOAT32 = np.dtype(np.float32)
MOST = 2**24
"""The most elements of a constant that is made of attributes alone."""

_BY_NAME = {dtype.name: dtype for dtype in DTYPES}


class Emitter(GraphBuilder):
    """A GraphBuilder that also keeps what became of the source's weights.

    ``parts``: of a packed parameter vector, the names it was put together from, by the vector's name.
    ``made_of``: of an initializer, the source's weights that it was made of, where they differ.
    ``demands``: weights that fix how large a picture is, whose size the graph was not told: (the node, how
    many numbers it takes).
    ``inline``: writes a graph inside of the graph once, its variables bound in order.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.parts: dict[str, tuple[str, ...]] = {}
        self.made_of: dict[str, tuple[str, ...]] = {}
        self.demands: list[tuple[str, int]] = []
        self.inline: Callable[[Symbol, Sequence[Tensor | None]], list[Tensor]]

    @property
    def place(self) -> str:
        """The name of the node that is being written."""
        return self._scope


# ---- dtypes --------------------------------------------------------------------------------------


def dtype_named(word: str) -> np.dtype[Any]:
    if word not in _BY_NAME:
        raise CannotConvert(f"dtype {word!r} is not one netferry knows", f"Known: {', '.join(_BY_NAME)}")
    return _BY_NAME[word]


def cast(g: GraphBuilder, x: Tensor, dtype: Any) -> Tensor:
    """``x`` as ``dtype``; no node where it is that already."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    return g.Cast(x, to=helper.np_dtype_to_tensor_dtype(dtype))


def few(count: float) -> int:
    """A number of elements that an attribute asks for; it must not be gigabytes."""
    if not count <= MOST:
        raise CannotConvert(f"a constant of {count:.0f} elements", f"At most {MOST} are written out")
    budget.make(count)
    return int(count)


def known(x: Tensor, what: str) -> Any:
    """The content of a tensor that must be a constant."""
    if x.array is None:
        raise CannotConvert(
            f"its {what} is computed while the model runs", "Only constants can be carried here"
        )
    return x.array


def sized_like(y: Tensor, x: Tensor) -> Tensor:
    """``y`` with the sizes of ``x``, where ONNX's own inference does not find them."""
    y.value.shape = None if x.dims is None else ir.Shape(x.dims)
    return replace(y, dims=x.dims)


# ---- axes and sizes ------------------------------------------------------------------------------


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


def places_along(g: GraphBuilder, x: Tensor, axis: int) -> Tensor:
    """0, 1, 2 ... as int64, as many as an axis has places."""
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
    static = [0 if size == Size((place,)) else size for place, size in enumerate(sizes)]
    unknown = [place for place, size in enumerate(static) if isinstance(size, Size)]
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


def reshape_sizes(x: Tensor, codes: Sequence[int], *, reverse: bool = False) -> list[int | Size]:
    """MXNet's codes as sizes of ``x``.

    0 keeps an axis, -1 is inferred, -2 keeps all that are left, -3 joins two, -4 splits one into the two
    sizes that follow (of which one may be -1). ``reverse``: axes and codes meet from the right.
    """
    sizes: list[int | Size] = []
    codes, at, axes = list(codes), 0, list(range(x.rank))
    if reverse:
        codes, axes = codes[::-1], axes[::-1]
    while codes:
        code = codes.pop(0)
        used = {-3: 2, -2: x.rank - at}.get(code, 1)
        if code <= 0 and code != -1 and at + used > x.rank:
            raise CannotConvert(f"code {code} of shape meets no axis of its input")
        if code in (0, -2):
            sizes += [size_of(x, axis) for axis in axes[at : at + used]]
        elif code == -3:
            sizes.append(size_of(x, *sorted(axes[at : at + 2])))
        elif code == -4 and not reverse:
            sizes += _split_size(x, at, codes)
            del codes[:2]
        elif code >= -1:
            sizes.append(code)
        else:
            raise CannotConvert(f"shape has no code {code}")
        at += used
    return sizes[::-1] if reverse else sizes


def _split_size(x: Tensor, axis: int, codes: Sequence[int]) -> list[int | Size]:
    if len(codes) < 2:
        raise CannotConvert("code -4 of shape needs two sizes after it")
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
