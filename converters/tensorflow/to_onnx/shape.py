"""Operations of ``keras.ops`` that make, reorder and pick: what they give is what they were given, elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import onnx_pads
from netferry.converters.tensorflow.runtime import core_ops as core, keras, math_ops as math, numpy_ops as kn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, axes_of, refuse_unless
from netferry.converters.tensorflow.to_onnx.layers import concatenate
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import sizes

END = int(np.iinfo(np.int64).max)
"""Up to and with the last element, as an end of Slice."""


# ---- shape ----------------------------------------------------------------------------------


@ROWS.row(kn.Reshape)
def reshape(g: Emitter, op: Any, x: Tensor) -> Tensor:
    shape = sizes(op.newshape)
    refuse_unless(0 not in [size for size in shape if isinstance(size, int)], "a size of zero")
    return g.reshaped(x, shape)


@ROWS.row(kn.Ravel)
def ravel(g: Emitter, op: Any, x: Tensor) -> Tensor:
    return g.Reshape(x, g.ints(-1))


@ROWS.row(kn.Transpose)
def transpose(g: Emitter, op: Any, x: Tensor) -> Tensor:
    axes = range(x.rank)[::-1] if op.axes is None else op.axes
    return g.transpose(x, [axis % x.rank for axis in axes])


@ROWS.row(kn.Swapaxes)
def swapaxes(g: Emitter, op: Any, x: Tensor) -> Tensor:
    perm = np.arange(x.rank)
    perm[[op.axis1, op.axis2]] = perm[[op.axis2, op.axis1]]
    return g.transpose(x, perm.tolist())


@ROWS.row(kn.Moveaxis)
def moveaxis(g: Emitter, op: Any, x: Tensor) -> Tensor:
    shape = np.moveaxis(np.empty(range(x.rank)), op.source, op.destination).shape
    return g.transpose(x, shape)


@ROWS.row(kn.ExpandDims)
def expand_dims(g: Emitter, op: Any, x: Tensor) -> Tensor:
    axes = op.axis if isinstance(op.axis, list | tuple) else [op.axis]
    return g.Unsqueeze(x, g.ints(*axes))


@ROWS.row(kn.Squeeze)
def squeeze(g: Emitter, op: Any, x: Tensor) -> Tensor:
    axes = axes_of(op.axis, x.rank)
    if op.axis is None:
        refuse_unless(x.dims is not None and None not in x.dims, "the sizes of its input are not known")
        axes = [axis for axis in axes if x.dims is not None and x.dims[axis] == 1]
    return g.Squeeze(x, g.ints(*axes))


@ROWS.row(kn.Concatenate)
def concatenate_(g: Emitter, op: Any, xs: Sequence[Any]) -> Tensor:
    return concatenate(g, g.promoted(*xs), op.axis)


@ROWS.row(kn.Append)
def append(g: Emitter, op: Any, x1: Any, x2: Any) -> Tensor:
    a, b = g.promoted(x1, x2)
    if op.axis is None:
        a, b = (g.Reshape(x, g.ints(-1)) for x in (a, b))
    return concatenate(g, [a, b], op.axis or 0)


@ROWS.row(kn.Hstack, kn.Vstack)
def stack_in_line(g: Emitter, op: Any, xs: Sequence[Any]) -> Tensor:
    tensors = g.promoted(*xs)
    if isinstance(op, kn.Hstack):
        return concatenate(g, tensors, 0 if tensors[0].rank == 1 else 1)
    return concatenate(g, [g.Unsqueeze(x, g.ints(0)) if x.rank == 1 else x for x in tensors], 0)


@ROWS.row(kn.Stack)
def stack(g: Emitter, op: Any, x: Sequence[Any]) -> Tensor:
    tensors = g.promoted(*x)
    axis = op.axis % (tensors[0].rank + 1)
    return g.Concat(*(g.Unsqueeze(tensor, g.ints(axis)) for tensor in tensors), axis=axis)


@ROWS.row(kn.Split)
def split(g: Emitter, op: Any, x: Tensor) -> Sequence[Tensor]:
    """Into equal parts, or at the given places."""
    axis = op.axis % x.rank
    if isinstance(op.indices_or_sections, int):
        count = op.indices_or_sections
        return g.ops("Split", x, axis=axis, num_outputs=count, outputs=count)
    edges = [0, *op.indices_or_sections, x.size(axis)]
    return g.ops("Split", x, g.ints(*np.diff(edges).tolist()), axis=axis, outputs=len(edges) - 1)


@ROWS.row(core.Unstack)
def unstack(g: Emitter, op: Any, x: Tensor) -> Sequence[Tensor]:
    axis = op.axis % x.rank
    count = x.size(axis)
    parts = g.ops("Split", x, axis=axis, num_outputs=count, outputs=count)
    return [g.Squeeze(part, g.ints(axis)) for part in parts]


@ROWS.row(kn.Flip)
def flip(g: Emitter, op: Any, x: Tensor) -> Tensor:
    axes = axes_of(op.axis, x.rank)
    count = len(axes)
    return g.Slice(
        x, g.ints(*[-1] * count), g.ints(*[-END - 1] * count), g.ints(*axes), g.ints(*[-1] * count)
    )


@ROWS.row(kn.Fliplr, kn.Flipud)
def flip_of_one_axis(g: Emitter, op: Any, x: Tensor) -> Tensor:
    axis = 1 if isinstance(op, kn.Fliplr) else 0
    return g.Slice(x, g.ints(-1), g.ints(-END - 1), g.ints(axis), g.ints(-1))


@ROWS.row(kn.Tile)
def tile(g: Emitter, op: Any, x: Tensor) -> Tensor:
    repeats = sizes(op.repeats)
    more = len(repeats) - x.rank
    x = g.Unsqueeze(x, g.ints(*range(more))) if more > 0 else x
    return g.Tile(x, g.vector([*[1] * -more, *repeats]))


@ROWS.row(kn.Repeat)
def repeat(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """Each element as often as is said, beside itself: a new axis behind its own, folded into it."""
    repeats = sizes(op.repeats)
    refuse_unless(len(repeats) == 1, "each element is repeated a number of times of its own")
    x, axis = (g.Reshape(x, g.ints(-1)), 0) if op.axis is None else (x, op.axis % x.rank)
    wide = g.Unsqueeze(x, g.ints(axis + 1))
    copied = g.Tile(wide, g.vector([1] * (axis + 1) + repeats + [1] * (x.rank - axis - 1)))
    behind = [g.dim(x, other) for other in range(axis + 1, x.rank)]
    return g.Reshape(copied, g.vector([0] * axis + [-1] + behind))


@ROWS.row(kn.BroadcastTo)
def broadcast_to(g: Emitter, op: Any, x: Any) -> Tensor:
    """A size that is left open broadcasts as it is."""
    wanted = [1 if isinstance(size, int) and size == -1 else size for size in sizes(op.shape)]
    return g.Expand(g.lift(x), g.vector(wanted))


@ROWS.row(kn.Roll)
def roll(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """What leaves at one end comes in at the other."""
    if op.axis is None:
        shape = [g.dim(x, axis) for axis in range(x.rank)]
        return g.Reshape(_rolled(g, g.Reshape(x, g.ints(-1)), 0, op.shift), g.vector(shape))
    axes = op.axis if isinstance(op.axis, list | tuple) else [op.axis]
    shifts = op.shift if isinstance(op.shift, list | tuple) else [op.shift] * len(axes)
    for axis, shift in zip(axes, shifts, strict=True):
        x = _rolled(g, x, axis % x.rank, shift)
    return x


def _rolled(g: Emitter, x: Tensor, axis: int, shift: int) -> Tensor:
    known = x.dims[axis] if x.dims is not None else None
    shift = shift % known if isinstance(known, int) else shift
    refuse_unless(
        isinstance(known, int) or abs(shift) <= 1, "it rolls an axis of a free size by more than one"
    )
    if shift == 0:
        return x
    head = g.Slice(x, g.ints(-shift), g.ints(END), g.ints(axis))
    return g.Concat(head, g.Slice(x, g.ints(0), g.ints(-shift), g.ints(axis)), axis=axis)


@ROWS.row(kn.Tril, kn.Triu)
def triangle(g: Emitter, op: Any, x: Tensor) -> Tensor:
    k = None if op.k == 0 else g.constant(op.k, np.int64)
    if x.dtype == np.bool_:
        return g.cast(g.Trilu(g.cast(x, np.int32), k, upper=int(isinstance(op, kn.Triu))), np.bool_)
    return g.Trilu(x, k, upper=int(isinstance(op, kn.Triu)))


@ROWS.row(kn.Diff)
def diff(g: Emitter, op: Any, a: Tensor) -> Tensor:
    axis = op.axis % a.rank
    for _ in range(op.n):
        after = g.Slice(a, g.ints(1), g.ints(END), g.ints(axis))
        a = g.Sub(after, g.Slice(a, g.ints(0), g.ints(-1), g.ints(axis)))
    return a


@ROWS.row(kn.Meshgrid)
def meshgrid(g: Emitter, op: Any, *xs: Any) -> Sequence[Tensor]:
    vectors = g.promoted(*xs)
    refuse_unless(all(x.rank == 1 for x in vectors), "what is not a vector")
    count = len(vectors)
    order = [1, 0, *range(2, count)] if op.indexing == "xy" and count > 1 else list(range(count))
    shape = g.Concat(*(g.Shape(vectors[place]) for place in order), axis=0)
    alone = []
    for place, x in enumerate(vectors):
        others = [axis for axis in range(count) if order[axis] != place]
        alone.append(g.Unsqueeze(x, g.ints(*others)) if others else x)
    return [g.Expand(x, shape) for x in alone]


@ROWS.row(kn.Pad)
def pad(g: Emitter, op: Any, x: Tensor, *, constant_values: Any = None) -> Tensor:
    refuse_unless(op.mode in ("constant", "reflect"), f"its mode '{op.mode}' is not one that ONNX has")
    pairs = list(op.pad_width) * (x.rank if len(op.pad_width) == 1 else 1)
    value = None if not constant_values else g.scalar(constant_values, x)
    mode = None if op.mode == "constant" else op.mode

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        back = layout.inverse(place)
        return g.Pad(
            base, g.ints(*onnx_pads([pairs[back[axis]] for axis in range(x.rank)])), value, mode=mode
        )

    return g.along(write, x)


# ---- making ---------------------------------------------------------------------------------


@ROWS.row(kn.ZerosLike, kn.OnesLike)
def like(g: Emitter, op: Any, x: Any) -> Tensor:
    x = g.lift(x)
    fill = g.constant(int(isinstance(op, kn.OnesLike)), op.dtype or x.dtype)
    return g.Expand(fill, g.Shape(x))


@ROWS.row(kn.FullLike)
def full_like(g: Emitter, op: Any, x: Any, fill_value: Any) -> Tensor:
    x = g.lift(x)
    return g.Expand(g.cast(g.lift(fill_value), op.dtype or x.dtype), g.Shape(x))


@ROWS.row(kn.Full)
def full(g: Emitter, op: Any, fill_value: Any) -> Tensor:
    fill = g.cast(g.lift(fill_value), op.dtype or keras.config.floatx())
    return g.Expand(fill, g.vector(sizes(op.shape)))


@ROWS.row(kn.Arange)
def arange(g: Emitter, op: Any, start: Any, stop: Any = None, step: Any = None) -> Tensor:
    start, stop = (0, start) if stop is None else (start, stop)
    ends = g.promoted(start, stop, 1 if step is None else step)
    return g.Range(*(g.cast(end, op.dtype or ends[0].dtype) for end in ends))


# ---- picking --------------------------------------------------------------------------------


@ROWS.row(kn.GetItem)
def getitem(g: Emitter, op: Any, x: Any, key: Any) -> Tensor:
    """Numbers, slices, ``...`` and None; ends and numbers may be tensors, what several tensors pick is not carried."""
    x = g.lift(x)
    keys = _spread(list(key) if isinstance(key, tuple | list) else [key], x.rank)
    plain = all(k is None or isinstance(k, int | np.integer | slice) or _is_number(k) for k in keys)
    if not plain:
        return _picked(g, x, keys)
    axes = [k for k in keys if k is not None]
    dropped = [axis for axis, k in enumerate(axes) if not isinstance(k, slice)]
    added = [
        place for place, k in enumerate(k for k in keys if k is None or isinstance(k, slice)) if k is None
    ]
    y = _sliced(g, x, [_Range.of(axis, k) for axis, k in enumerate(axes) if k != slice(None)])
    y = g.Squeeze(y, g.ints(*dropped)) if dropped else y
    return g.Unsqueeze(y, g.ints(*added)) if added else y


def _is_number(key: Any) -> bool:
    return isinstance(key, Tensor) and key.rank == 0 and key.dtype.kind in "iu" and key.array is None


def _picked(g: Emitter, x: Tensor, keys: Sequence[Any]) -> Tensor:
    """One tensor of integers among full slices: what it names along its axis."""
    places = [axis for axis, k in enumerate(keys) if isinstance(k, Tensor | np.ndarray)]
    rest = [k for axis, k in enumerate(keys) if axis not in places]
    single = len(places) == 1 and all(isinstance(k, slice) and k == slice(None) for k in rest)
    refuse_unless(single, "it picks by several tensors", "Pick with keras.ops.take")
    indices = g.lift(keys[places[0]])
    refuse_unless(indices.dtype.kind in "iu", "it picks by a mask", "Use keras.ops.where")
    return g.Gather(x, g.cast(indices, np.int64), axis=places[0])


Bound = int | Tensor
"""An end of a slice, known now or when the model runs."""


class _Range(NamedTuple):
    """What is kept of one axis, as Slice takes it."""

    axis: int
    start: Bound
    end: Bound
    step: int

    @classmethod
    def of(cls, axis: int, key: int | slice | Tensor) -> _Range:
        if isinstance(key, Tensor):
            return cls(axis, key, END, 1)
        if not isinstance(key, slice):
            return cls(axis, int(key), int(key) + 1 if key != -1 else END, 1)
        step = 1 if key.step is None else int(key.step)
        start = (0 if step > 0 else -1) if key.start is None else key.start
        end = (END if step > 0 else -END - 1) if key.stop is None else key.stop
        return cls(axis, start, end, step)


def _spread(keys: list[Any], rank: int) -> list[Any]:
    """``...`` written out as full slices; without one it stands at the end."""
    keys = keys if Ellipsis in keys else [*keys, Ellipsis]
    at = keys.index(Ellipsis)
    missing = rank - sum(key is not None and key is not Ellipsis for key in keys)
    return [*keys[:at], *[slice(None)] * missing, *keys[at + 1 :]]


def _sliced(g: Emitter, x: Tensor, ranges: Sequence[_Range]) -> Tensor:
    """Slice, after what a tensor picks alone along an axis was gathered."""
    for one in [r for r in ranges if isinstance(r.start, Tensor) and r.end is END]:
        x = g.Gather(x, g.cast(g.Reshape(one.start, g.ints(1)), np.int64), axis=one.axis)
    ranges = [r for r in ranges if not (isinstance(r.start, Tensor) and r.end is END)]
    if not ranges:
        return x

    def write(base: Tensor, place: layout.Perm) -> Tensor:
        axes, starts, ends, steps = zip(*ranges, strict=True)
        stride = None if all(step == 1 for step in steps) else g.ints(*steps)
        return g.Slice(
            base, g.vector(starts), g.vector(ends), g.ints(*(place[axis] for axis in axes)), stride
        )

    return g.along(write, x)


@ROWS.row(kn.TakeAlongAxis)
def take_along_axis(g: Emitter, op: Any, x: Any, indices: Any) -> Tensor:
    source, picked = g.lift(x), g.cast(g.lift(indices), np.int64)
    refuse_unless(op.axis is not None, "it takes along all axes at once")
    return g.GatherElements(source, picked, axis=op.axis % source.rank)


@ROWS.row(kn.Sort, kn.Argsort)
def sort(g: Emitter, op: Any, x: Tensor) -> Tensor:
    """Upwards, as TopK of all; of equal ones the first comes first."""
    refuse_unless(op.axis is not None, "it sorts along all axes at once")
    axis = op.axis % x.rank
    count = g.Shape(x, start=axis, end=axis + 1)
    values, indices = g.ops("TopK", x, count, axis=axis, largest=0, outputs=2)
    return values if isinstance(op, kn.Sort) else g.cast(indices, np.int32)


@ROWS.row(math.TopK)
def top_k(g: Emitter, op: Any, x: Tensor) -> Sequence[Tensor]:
    values, indices = g.ops("TopK", x, g.ints(op.k), outputs=2)
    return [values, g.cast(indices, np.int32)]


@ROWS.row(core.Slice)
def slice_(g: Emitter, op: Any, inputs: Any, start_indices: Any) -> Tensor:
    x = g.lift(inputs)
    given = isinstance(start_indices, Tensor)
    starts = g.cast(start_indices, np.int64) if given else g.vector(sizes(start_indices))
    return g.Slice(x, starts, g.Add(starts, g.vector(sizes(op.shape))), g.ints(*range(x.rank)))


@ROWS.row(kn.Take)
def take(g: Emitter, op: Any, x: Any, indices: Any) -> Tensor:
    picked = g.lift(indices)
    refuse_unless(picked.dtype.kind in "iu", "its indices are not integers")
    source = g.lift(x)
    if op.axis is None:
        source = g.Reshape(source, g.ints(-1))
    return g.Gather(source, g.cast(picked, np.int64), axis=(op.axis or 0) % source.rank)
