"""Layers and operations that reshape, reorder, pad and make tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.padding import onnx_pads
from netferry.converters.tensorflow.runtime import core_ops as core, keras, numpy_ops as kn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, axes_of, refuse_unless
from netferry.converters.tensorflow.to_onnx.indexing import END
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import sizes

layers = keras.layers


# ---- operations of keras.ops ----------------------------------------------------------------------


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
    """Into equal parts, or at the given positions."""
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
    """Each element as often as is asked, beside itself: a new axis behind its own, folded into it."""
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
    shape = g.Concat(*(g.Shape(vectors[position]) for position in order), axis=0)
    alone = []
    for position, x in enumerate(vectors):
        others = [axis for axis in range(count) if order[axis] != position]
        alone.append(g.Unsqueeze(x, g.ints(*others)) if others else x)
    return [g.Expand(x, shape) for x in alone]


@ROWS.row(kn.Pad)
def pad(g: Emitter, op: Any, x: Tensor, *, constant_values: Any = None) -> Tensor:
    refuse_unless(op.mode in ("constant", "reflect"), f"its mode '{op.mode}' is not one that ONNX has")
    pairs = list(op.pad_width) * (x.rank if len(op.pad_width) == 1 else 1)
    value = None if not constant_values else g.scalar(constant_values, x)
    mode = None if op.mode == "constant" else op.mode

    def write(base: Tensor, position: layout.Perm) -> Tensor:
        back = layout.inverse(position)
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


# ---- layers ---------------------------------------------------------------------------------------


@ROWS.row(layers.Flatten)
def flatten_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    if x.rank == 1:
        return g.Unsqueeze(x, g.ints(1))
    if layer.data_format == "channels_first":
        x = g.transpose(x, layout.channels_last(x.rank))
    return x if x.rank == 2 else g.Flatten(x)


@ROWS.row(layers.Reshape)
def reshape_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    """(batch, channels) -> (batch, 1, ..., channels), as before a gate, with the channels first at once."""
    target = [-1 if size is None else size for size in layer.target_shape]
    if x.rank == 2 and len(target) > 1 and set(target[:-1]) == {1}:
        y = g.Reshape(x, g.ints(0, target[-1], *target[:-1]))
        return g.transpose(y, layout.channels_last(y.rank))
    return g.Reshape(x, g.ints(0, *target))


@ROWS.row(layers.Permute)
def permute_layer(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.transpose(x, (0, *layer.dims))


@ROWS.row(layers.RepeatVector)
def repeat_vector(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    return g.Tile(g.Unsqueeze(x, g.ints(1)), g.ints(1, layer.n, 1))


@ROWS.row(layers.Concatenate)
def concatenate_layer(g: Emitter, layer: Any, inputs: Sequence[Any]) -> Tensor:
    return concatenate(g, [g.lift(x) for x in inputs], layer.axis)


def concatenate(g: Emitter, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """In the layout that all of them lie in, where that is one."""
    if len(tensors) == 1:
        return tensors[0]
    first, position = tensors[0], axis % tensors[0].rank
    if first.perm is None or any(x.perm != first.perm for x in tensors):
        return g.Concat(*tensors, axis=position)
    back = layout.inverse(first.perm)
    joined = g.Concat(*(g.transpose(x, back) for x in tensors), axis=first.perm[position])
    return g.transpose(joined, first.perm)


def _spatial_axes(layer: Any, rank: int) -> list[int]:
    """The axes of space as the layer counts them."""
    return list(
        range(2, rank) if getattr(layer, "data_format", "") == "channels_first" else range(1, rank - 1)
    )


def _pairs(setting: Any) -> list[tuple[int, int]]:
    """(before, after) of each axis of space; a layer of one axis holds one bare pair."""
    return [tuple(pair) for pair in (setting if isinstance(setting[0], tuple | list) else [setting])]


@ROWS.row(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
def zero_padding(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    pairs = dict(zip(_spatial_axes(layer, x.rank), _pairs(layer.padding), strict=True))

    def write(base: Tensor, position: layout.Perm) -> Tensor:
        back = layout.inverse(position)
        return g.Pad(base, g.ints(*onnx_pads([pairs.get(back[axis], (0, 0)) for axis in range(base.rank)])))

    return g.along(write, x)


@ROWS.row(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D)
def cropping(g: Emitter, layer: Any, x: Tensor) -> Tensor:
    axes, pairs = _spatial_axes(layer, x.rank), _pairs(layer.cropping)
    ends = [-after or np.iinfo(np.int64).max for _, after in pairs]

    def write(base: Tensor, position: layout.Perm) -> Tensor:
        starts = g.ints(*(before for before, _ in pairs))
        return g.Slice(base, starts, g.ints(*ends), g.ints(*(position[axis] for axis in axes)))

    return g.along(write, x)
