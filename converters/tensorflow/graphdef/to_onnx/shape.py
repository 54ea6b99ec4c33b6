"""Rows of operators that rearrange elements, and of those that compute with sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.sizes import Size, product
from netferry.converters.signature import Array
from netferry.converters.tensorflow.graphdef.to_onnx import recurrent
from netferry.converters.tensorflow.graphdef.to_onnx.dilation import with_one_axis
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter


@ROWS.row("Shape")
def shape(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.cast(g.shape(x), a.dtype("out_type", np.int32))


@ROWS.row("ShapeN")
def shapes(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    return [shape(g, a, x) for x in inputs]


@ROWS.row("Size")
def size(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.cast(g.Size(x), a.dtype("out_type", np.int32))


@ROWS.row("Rank")
def rank(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.constant(x.rank, np.int32)


@ROWS.row("Reshape")
def reshape(g: Emitter, a: Attrs, x: Tensor, wanted: Tensor) -> Tensor:
    """To sizes of which at most one is -1; what is the tensor's own size on that axis is written as 0."""
    known = g.content(wanted)
    if known is None:
        return g.Reshape(x, g.index(wanted))
    if x.value in g.weights and x.array is not None and all(not isinstance(each, Size) for each in known):
        return g.weight(x.array.reshape([int(each) for each in known]), g.title(x))
    sizes = _completed(g, x, known)
    own = g.sizes_of(x) if x.dims is not None else []
    written = [
        0 if axis < len(own) and isinstance(each, Size) and each == own[axis] else each
        for axis, each in enumerate(known)
    ]
    free = [axis for axis, each in enumerate(written) if isinstance(each, Size) or each == -1]
    if any(
        isinstance(each, int | np.integer) and each == 0 and not isinstance(known[axis], Size)
        for axis, each in enumerate(written)
    ):
        return g.sized(g.Reshape(x, g.index(wanted), allowzero=1), sizes)
    if len(free) > 1:
        return g.sized(g.Reshape(x, g.index(wanted)), sizes)
    target = g.ints(*(-1 if axis in free else int(each) for axis, each in enumerate(written)))
    return g.sized(g.Reshape(x, target), sizes)


def _completed(g: Emitter, x: Tensor, wanted: Array) -> list[Any]:
    """The sizes, -1 counted out where that can be."""
    sizes: list[Any] = [each if isinstance(each, Size) else int(each) for each in wanted]
    open_ = [axis for axis, each in enumerate(sizes) if not isinstance(each, Size) and each < 0]
    if not open_ or x.dims is None:
        return sizes
    others = product(each for axis, each in enumerate(sizes) if axis not in open_)
    whole = product(g.sizes_of(x))
    sizes[open_[0]] = whole // others if isinstance(others, Size) or others else None
    return sizes


@ROWS.row("ExpandDims")
def expand_dims(g: Emitter, a: Attrs, x: Tensor, axis: Tensor) -> Tensor:
    (along,) = g.numbers(axis, "axis")
    if x.dims is None:
        return g.Unsqueeze(x, g.ints(along))
    along = along % (x.rank + 1)
    if x.value in g.weights and x.array is not None:
        return g.weight(np.expand_dims(x.array, along), g.title(x))
    return g.sized(g.Unsqueeze(x, g.ints(along)), [*g.sizes_of(x)[:along], 1, *g.sizes_of(x)[along:]])


@ROWS.row("Squeeze")
def squeeze(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axes = a.integers("squeeze_dims") or a.integers("axis")
    if not axes:
        axes = [axis for axis in range(x.rank) if (x.dims or ())[axis] == 1]
        if any(not isinstance(dim, int) for dim in x.dims or ()):
            raise CannotConvert(
                "it drops the axes of size 1, and which these are is not known", "Say the input's sizes"
            )
    along = g.flat_axes(x, axes)
    if x.value in g.weights and x.array is not None:
        return g.weight(np.squeeze(x.array, tuple(along)), g.title(x))
    if len(along) == 1 and (narrow := with_one_axis(g, x, along[0])) is not None:
        return narrow
    y = g.Squeeze(x, g.ints(*along)) if along else x
    return (
        y if x.dims is None else g.sized(y, [s for axis, s in enumerate(g.sizes_of(x)) if axis not in along])
    )


@ROWS.row("Transpose")
def transpose(g: Emitter, a: Attrs, x: Tensor, perm: Tensor) -> Tensor:
    axes = g.numbers(perm, "permutation")
    return g.transpose(x, [axis % len(axes) for axis in axes])


@ROWS.row("ConcatV2")
def concat(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    *parts, axis = inputs
    (along,) = g.numbers(axis, "axis")
    return _joined(g, parts, along)


@ROWS.row("Concat")
def concat_v1(g: Emitter, a: Attrs, axis: Tensor, *parts: Tensor) -> Tensor:
    (along,) = g.numbers(axis, "axis")
    return _joined(g, parts, along)


def _joined(g: Emitter, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Parts without elements, of which a constant may have another rank in TensorFlow 1, add nothing."""
    if len(parts) == 1:
        return parts[0]
    if (both := recurrent.joined(g, parts, axis)) is not None:
        return both
    perms = {part.perm for part in parts}
    if len(perms) == 1 and (perm := perms.pop()) is not None:
        back = [perm.index(position) for position in range(len(perm))]
        base = g.Concat(*(g.transpose(part, back) for part in parts), axis=perm[axis % len(perm)])
        return g.transpose(base, perm)
    return g.Concat(*parts, axis=axis)


@ROWS.row("Pack")
def pack(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    axis = a.integer("axis")
    return g.Concat(*(g.Unsqueeze(x, g.ints(axis)) for x in inputs), axis=axis)


@ROWS.row("Unpack")
def unpack(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    axis, count = a.integer("axis"), a.integer("num")
    if x.value in g.weights and x.array is not None:
        return [g.weight(each, g.title(x)) for each in np.moveaxis(x.array, axis, 0)]
    if count == 1:
        return [g.Squeeze(x, g.ints(axis))]
    return [
        g.Squeeze(y, g.ints(axis)) for y in g.ops("Split", x, outputs=count, axis=axis, num_outputs=count)
    ]


@ROWS.row("Split")
def split(g: Emitter, a: Attrs, axis: Tensor, x: Tensor) -> Sequence[Tensor]:
    (along,) = g.numbers(axis, "axis")
    count = a.integer("num_split", 1)
    if x.value in g.weights and x.array is not None:
        return [g.weight(each, g.title(x)) for each in np.split(x.array, count, axis=along)]
    return [x] if count == 1 else g.ops("Split", x, outputs=count, axis=along, num_outputs=count)


@ROWS.row("SplitV")
def split_v(g: Emitter, a: Attrs, x: Tensor, sizes: Tensor, axis: Tensor) -> Sequence[Tensor]:
    (along,) = g.numbers(axis, "axis")
    parts = g.numbers(sizes, "sizes")
    if -1 in parts:
        parts[parts.index(-1)] = x.size(along) - sum(parts) - 1
    return [x] if len(parts) == 1 else g.ops("Split", x, g.ints(*parts), outputs=len(parts), axis=along)


@ROWS.row("Fill")
def fill(g: Emitter, a: Attrs, sizes: Tensor, value: Tensor) -> Tensor:
    return broadcast_to(g, a, value, sizes)


@ROWS.row("Empty")
def empty(g: Emitter, a: Attrs, sizes: Tensor) -> Tensor:
    return fill(g, a, sizes, g.constant(np.zeros((), a.dtype("dtype", np.float32))))


@ROWS.row("BroadcastTo")
def broadcast_to(g: Emitter, a: Attrs, x: Tensor, sizes: Tensor) -> Tensor:
    known = g.content(sizes)
    y = g.Expand(x, g.index(sizes))
    return y if known is None else g.sized(y, list(known))


@ROWS.row("EnsureShape")
def ensure_shape(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    declared = a.raw("shape")
    if declared is None or declared.shape.unknown:
        return x
    return g.sized(x, [dim.size if dim.size >= 0 else None for dim in declared.shape.dims])


@ROWS.row("Tile")
def tile(g: Emitter, a: Attrs, x: Tensor, times: Tensor) -> Tensor:
    known = g.content(times)
    y = g.Tile(x, g.index(times))
    if known is None or x.dims is None:
        return y
    return g.sized(y, [own * each for own, each in zip(g.sizes_of(x), known, strict=True)])


@ROWS.row("Range")
def range_(g: Emitter, a: Attrs, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    y = g.Range(start, limit, delta)
    known = [g.content(each) for each in (start, limit, delta)]
    if any(each is None for each in known) or y.dtype.kind == "f":
        return y
    first, last, step = (each.reshape(-1)[0] for each in known if each is not None)
    return y if isinstance(step, Size) or step != 1 else g.sized(y, [last - first])


@ROWS.row("LinSpace")
def linspace(g: Emitter, a: Attrs, start: Tensor, stop: Tensor, count: Tensor) -> Tensor:
    (number,) = g.numbers(count, "number of places")
    budget.make(number)
    if start.array is not None and stop.array is not None:
        return g.constant(np.linspace(start.array, stop.array, number).astype(start.dtype))
    steps = g.constant((np.arange(number) / max(number - 1, 1)).astype(start.dtype))
    return g.Add(start, g.Mul(g.Sub(stop, start), steps))


@ROWS.row("Pad", "PadV2", "MirrorPad")
def pad(g: Emitter, a: Attrs, x: Tensor, amounts: Tensor, value: Tensor | None = None) -> Tensor:
    """amounts: (axes, 2), before and after."""
    mode = a.text("mode", "").lower() or "constant"
    if mode == "symmetric":
        return _mirrored(g, x, amounts)
    known = g.content(amounts)
    numbers = known is not None and not any(isinstance(each, Size) for each in known.reshape(-1))
    if not numbers:
        flat = g.Reshape(g.Transpose(g.index(amounts), perm=[1, 0]), g.ints(-1))
        return g.Pad(x, flat, value, mode=mode)
    assert known is not None
    pairs = known.astype(np.int64)
    if not pairs.any():
        return x
    order = list(range(x.rank)) if x.perm is None else [x.perm.index(axis) for axis in range(x.rank)]
    base = g.transpose(x, order)
    placed = pairs[order]
    y = g.Pad(base, g.ints(*placed[:, 0], *placed[:, 1]), value, mode=mode)
    y = g.sized(y, [own + int(sum(pair)) for own, pair in zip(g.sizes_of(base), placed, strict=True)])
    return y if x.perm is None else g.transpose(y, x.perm)


def _mirrored(g: Emitter, x: Tensor, amounts: Tensor) -> Tensor:
    """The edge itself is repeated, which ONNX's modes do not do: by indices."""
    pairs = np.asarray(g.numbers(amounts, "padding")).reshape(-1, 2)
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            size = x.size(axis)
            places = [*reversed(range(before)), *range(size), *reversed(range(size - after, size))]
            x = g.Gather(x, g.ints(*places), axis=axis)
    return x


@ROWS.row("ReverseV2")
def reverse(g: Emitter, a: Attrs, x: Tensor, axes: Tensor) -> Tensor:
    along = g.flat_axes(x, g.numbers(axes, "axes"))
    if not along:
        return x
    if len(along) == 1:
        return g.reversed(x, along[0])
    count = len(along)
    y = g.Slice(x, g.ints(*[-1] * count), g.ints(*[-(2**62)] * count), g.ints(*along), g.ints(*[-1] * count))
    return g.sized(y, None if x.dims is None else g.sizes_of(x))


@ROWS.row("Roll")
def roll(g: Emitter, a: Attrs, x: Tensor, shift: Tensor, axis: Tensor) -> Tensor:
    for by, along in zip(g.numbers(shift, "shift"), g.numbers(axis, "axis"), strict=True):
        size = x.dims[along] if x.dims is not None else None
        by = by % size if isinstance(size, int) else by
        if not by:
            continue
        head = g.Slice(x, g.ints(-by), g.ints(2**62), g.ints(along))
        tail = g.Slice(x, g.ints(0), g.ints(-by), g.ints(along))
        x = g.sized(g.Concat(head, tail, axis=along), g.sizes_of(x))
    return x


@ROWS.row("DepthToSpace")
def depth_to_space(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _blocks(g, a, x, "DepthToSpace")


@ROWS.row("SpaceToDepth")
def space_to_depth(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """TensorFlow has the place within a block before the channel, as ONNX has it."""
    return _blocks(g, a, x, "SpaceToDepth")


def _blocks(g: Emitter, a: Attrs, x: Tensor, operator: str) -> Tensor:
    first = a.among("data_format", "NHWC NCHW", "NHWC") == "NCHW"
    with_first = x if first else g.transpose(x, (0, 3, 1, 2))
    y = g.op(operator, with_first, blocksize=a.integer("block_size"))
    return y if first else g.transpose(y, (0, 2, 3, 1))


@ROWS.row("InvertPermutation")
def invert_permutation(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    count = g.Shape(x)
    steps = g.Range(g.constant(0, np.int64), g.Squeeze(count, g.ints(0)), g.constant(1, np.int64))
    return g.cast(g.ScatterElements(steps, g.index(x), steps), x.dtype)


@ROWS.row("BroadcastArgs")
def broadcast_args(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    one = g.constant(np.ones(1, np.int32))
    both = (g.Expand(one, g.index(each)) for each in (x, y))
    return g.cast(g.Shape(g.Add(*both)), x.dtype)


@ROWS.row("MatrixBandPart")
def band(g: Emitter, a: Attrs, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """x: (..., rows, columns); a negative number keeps the whole triangle."""
    if any(
        known is None or isinstance(known.reshape(-1)[0], Size) for known in map(g.content, (lower, upper))
    ):
        return _band_as_asked(g, x, g.index(lower), g.index(upper))
    (below,), (above,) = (g.numbers(each, "width") for each in (lower, upper))
    if above >= 0:
        x = g.Trilu(x, g.constant(above, np.int64), upper=0)
    return g.Trilu(x, g.constant(-below, np.int64), upper=1) if below >= 0 else x


def _band_as_asked(g: Emitter, x: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """A band whose widths are known only when the model runs."""
    zero, one = g.constant(0, np.int64), g.constant(1, np.int64)
    rows, columns = (
        g.Range(zero, g.Squeeze(g.vector([g.size(x, axis)]), g.ints(0)), one)
        for axis in (x.rank - 2, x.rank - 1)
    )
    below = g.Sub(g.Unsqueeze(rows, g.ints(1)), g.Unsqueeze(columns, g.ints(0)))
    kept = g.And(
        g.Or(g.Less(lower, zero), g.LessOrEqual(below, lower)),
        g.Or(g.Less(upper, zero), g.LessOrEqual(g.Neg(below), upper)),
    )
    return g.And(kept, x) if x.dtype == np.bool_ else g.Where(kept, x, g.like(0, x))


@ROWS.row("BroadcastGradientArgs")
def sums_of_gradient(g: Emitter, a: Attrs, one: Tensor, other: Tensor) -> Tensor:
    """Arithmetic on sizes, which ``contents`` does; what it cannot compare is not known before the model runs."""
    raise CannotConvert("its sizes are compared while the model runs")
