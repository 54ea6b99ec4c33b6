"""Rows of operators that move, join and cut: no element changes its value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, few, rows, sized
from netferry.converters.mxnet.to_onnx.sizes import (
    Size,
    cut,
    flattened,
    flipped,
    positive,
    reshape,
    reshape_sizes,
    shape_tensor,
    size_of,
    stacked,
    swapped,
)

# ---- axes ------------------------------------------------------------------------------------------


@ROWS.row("transpose")
def transpose(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axes = a.integers("axes", ()) or tuple(reversed(range(x.rank)))
    order = [positive(axis, x.rank) for axis in axes]
    if sorted(order) != list(range(x.rank)):
        raise CannotConvert(f"axes={axes} is no order of the {x.rank} axes of its input")
    return g.transpose(x, order)


@ROWS.row("SwapAxis")
def swap_axis(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    first, second = (positive(a.integer(name, 0), x.rank) for name in ("dim1", "dim2"))
    return g.transpose(x, swapped(x.rank, first, second))


def axes_of_one(x: Tensor) -> list[int]:
    """The axes of size 1 of an input whose sizes are all known."""
    if x.dims is None or not all(isinstance(dim, int) for dim in x.dims):
        raise CannotConvert(
            "which of its axes have size 1 is known only when the model runs", "Name the axes"
        )
    return [axis for axis, dim in enumerate(x.dims) if dim == 1]


@ROWS.row("squeeze")
def squeeze(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Named axes, or all of size 1; where none would be left MXNet keeps one."""
    named = a.maybe_integers("axis")
    axes = [positive(axis, x.rank) for axis in named] if named else axes_of_one(x)
    return g.Squeeze(x, g.ints(*axes[len(axes) == x.rank :])) if axes else x


@ROWS.row("Reshape")
def reshape_to(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """``target_shape`` is how MXNet 0.7 said it: 0 is inferred, and ``keep_highest`` keeps the first axis."""
    shape, older = a.integers("shape", ()), a.integers("target_shape", ())
    keep = a.flag("keep_highest", False)
    if not shape and not older:
        raise CannotConvert("no shape")
    if x.array is not None and min(shape, default=0) > 0 and math.prod(shape) != x.array.size:
        raise CannotConvert(f"shape={shape} does not fit the {x.array.size} elements of its input")
    if not shape:
        sizes: list[int | Size] = [size or -1 for size in older]
        return reshape(g, x, [size_of(x, 0), *sizes[1:]] if keep else sizes)
    return reshape(g, x, reshape_sizes(x, shape, reverse=a.flag("reverse", False)))


@ROWS.row("reshape_like")
def reshape_like(g: Emitter, a: Attrs, x: Tensor, like: Tensor) -> Tensor:
    """The sizes of ``like``; or those of some of its axes, in the places of some of the axes of ``x``."""
    mine, theirs = _axes_between(a, "lhs", x.rank), _axes_between(a, "rhs", like.rank)
    parts = [(x, range(mine.start)), (like, theirs), (x, range(mine.stop, x.rank))]
    shapes = [
        shape_tensor(g, each, [size_of(each, axis) for axis in axes]) for each, axes in parts if len(axes)
    ]
    known = [each.dims for each, axes in parts if len(axes)]
    dims = tuple(each.dims[axis] for each, axes in parts for axis in axes if each.dims is not None)
    target = shapes[0] if len(shapes) == 1 else g.Concat(*shapes, axis=0)
    return sized(g.Reshape(x, target), None if None in known else dims)


def _axes_between(a: Attrs, side: str, rank: int) -> range:
    begin, end = a.maybe_integer(f"{side}_begin"), a.maybe_integer(f"{side}_end")
    begin, end = (0 if begin is None else begin), (rank if end is None else end)
    return range(begin + rank if begin < 0 else begin, end + rank if end < 0 else end)


@ROWS.row("broadcast_axis")
def broadcast_axis(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    shape = [1] * x.rank
    for axis, size in zip(a.integers("axis", ()), a.integers("size", ()), strict=True):
        shape[positive(axis, x.rank)] = size
    return g.Expand(x, g.ints(*shape))


@ROWS.row("broadcast_like")
def broadcast_like(g: Emitter, a: Attrs, x: Tensor, like: Tensor) -> Tensor:
    """Axes count where both sides name theirs."""
    mine, theirs = a.maybe_integers("lhs_axes"), a.maybe_integers("rhs_axes")
    if mine is None or theirs is None:
        mine = theirs = None
    shape: list[int | Size] = [1] * x.rank
    for axis, source in zip(mine or range(x.rank), theirs or range(like.rank), strict=True):
        shape[positive(axis, x.rank)] = size_of(like, positive(source, like.rank))
    return g.Expand(x, shape_tensor(g, like, shape))


@ROWS.row("tile")
def tile(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    repeats = list(a.integers("reps"))
    if len(repeats) > x.rank:
        x = g.Unsqueeze(x, g.ints(*range(len(repeats) - x.rank)))
    return g.Tile(x, g.ints(*[1] * (x.rank - len(repeats)), *repeats))


@ROWS.row("repeat")
def repeat(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Each element in a row: a new axis behind is tiled and merged."""
    count, axis = a.integer("repeats"), a.maybe_integer("axis")
    x, axis = flattened(g, x, axis)
    tiled = g.Tile(
        g.Unsqueeze(x, g.ints(axis + 1)), g.ints(*[1] * (axis + 1), count, *[1] * (x.rank - axis - 1))
    )
    return reshape(g, tiled, reshape_sizes(tiled, [0] * axis + [-3, -2]))


# ---- joining and cutting ---------------------------------------------------------------------------


@ROWS.row("stack", "_npi_stack")
def stack(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    axis = positive(a.integer("axis", 0), inputs[0].rank + 1)
    return stacked(g, inputs, axis)


def sections(g: Emitter, x: Tensor, axis: int, count: int) -> list[Tensor]:
    """Equal pieces of an axis."""
    if count < 1:
        raise CannotConvert(f"sections of {count} pieces")
    size_of(x, axis, over=count)
    return [x] if count == 1 else list(g.ops("Split", x, outputs=few(count), axis=axis, num_outputs=count))


def _squeezed(g: Emitter, a: Attrs, pieces: Sequence[Tensor], axis: int) -> list[Tensor]:
    if not a.flag("squeeze_axis", False):
        return list(pieces)
    return [g.Squeeze(piece, g.ints(axis)) for piece in pieces]


@ROWS.row("SliceChannel")
def slice_channel(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    axis = positive(a.integer("axis", 1), x.rank)
    return _squeezed(g, a, sections(g, x, axis, a.integer("num_outputs")), axis)


def parted(g: Emitter, a: Attrs, x: Tensor, axis: int) -> list[Tensor]:
    """Into sections, of which the first have one place more where they cannot be equal, or at indices (0 among them)."""
    count, begins = a.integer("sections", 0), a.integers("indices", ())
    whole = size_of(x, axis)
    if count and isinstance(whole, int) and whole % count:
        sizes = [whole // count + (index < whole % count) for index in range(few(count))]
        return list(g.ops("Split", x, g.ints(*sizes), outputs=count, axis=axis))
    if count:
        return sections(g, x, axis, count)
    ends = [*begins[1:], None]
    return [cut(g, x, [axis], [begin], [end]) for begin, end in zip(begins, ends, strict=True)]


@ROWS.row("_split_v2")
def split_v2(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    axis = positive(a.integer("axis", 1), x.rank)
    return _squeezed(g, a, parted(g, a, x, axis), axis)


@ROWS.row("slice")
def slice_(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    begins, ends = a.bounds("begin"), a.bounds("end")
    steps = [step or 1 for step in a.bounds("step", ())]
    return cut(g, x, range(len(begins)), begins, ends, steps + [1] * (len(begins) - len(steps)))


@ROWS.row("slice_axis")
def slice_axis(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axis = positive(a.integer("axis"), x.rank)
    return cut(g, x, [axis], [a.integer("begin")], [a.maybe_integer("end")])


@ROWS.row("slice_like")
def slice_like(g: Emitter, a: Attrs, x: Tensor, like: Tensor) -> Tensor:
    axes = [positive(axis, x.rank) for axis in a.integers("axes", ()) or range(x.rank)]
    ends = shape_tensor(g, like, [size_of(like, axis) for axis in axes])
    return g.Slice(x, g.ints(*[0] * len(axes)), ends, g.ints(*axes))


@ROWS.row("reverse")
def reverse(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axes = [positive(axis, x.rank) for axis in a.integers("axis")]
    return flipped(g, x, axes)


@ROWS.row("Pad")
def pad(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """pad_width: (before, after) of each axis in turn."""
    mode = a.string("mode", "constant", among="constant edge reflect")
    widths = a.integers("pad_width")
    value = g.scalar(a.number("constant_value", 0.0), x)
    return g.Pad(x, g.ints(*widths[::2], *widths[1::2]), value if mode == "constant" else None, mode=mode)


rows(
    {
        "expand_dims": lambda g, a, x: g.Unsqueeze(x, g.ints(positive(a.integer("axis"), x.rank + 1))),
        # (batch, ...) -> (batch, all the rest).
        "Flatten": lambda g, _, x: x if x.rank == 2 else g.Flatten(x, axis=1),
        # 0 keeps an axis; so does 1 in ONNX.
        "broadcast_to": lambda g, a, x: g.Expand(x, g.ints(*(size or 1 for size in a.integers("shape")))),
        "Concat": lambda g, a, *inputs: g.Concat(*inputs, axis=positive(a.integer("dim", 1), inputs[0].rank)),
    }
)
