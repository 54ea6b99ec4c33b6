"""Operations of ``keras.ops`` that pick elements: indexing, slices, sorting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.ir.placed import placed
from netferry.converters.tensorflow.runtime import core_ops as core, math_ops as math, numpy_ops as kn
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, refuse_unless
from netferry.converters.tensorflow.to_onnx.symbolic_tensor import sizes

END = int(np.iinfo(np.int64).max)
"""Up to and with the last element, as an end of Slice."""


@ROWS.row(kn.GetItem)
def getitem(g: Emitter, op: Any, x: Any, key: Any) -> Tensor:
    """Numbers, slices, ``...`` and None; ends and numbers may be tensors, what several tensors pick is not supported."""
    x = g.lift(x)
    keys = _spread(list(key) if isinstance(key, tuple | list) else [key], x.rank)
    plain = all(k is None or isinstance(k, int | np.integer | slice) or _is_number(k) for k in keys)
    if not plain:
        return _picked(g, x, keys)
    axes = [k for k in keys if k is not None]
    dropped = [axis for axis, k in enumerate(axes) if not isinstance(k, slice)]
    added = [
        position
        for position, k in enumerate(k for k in keys if k is None or isinstance(k, slice))
        if k is None
    ]
    y = _sliced(g, x, [_Range.of(axis, k) for axis, k in enumerate(axes) if k != slice(None)])
    y = g.Squeeze(y, g.ints(*dropped)) if dropped else y
    return g.Unsqueeze(y, g.ints(*added)) if added else y


def _is_number(key: Any) -> bool:
    return isinstance(key, Tensor) and key.rank == 0 and key.dtype.kind in "iu" and key.array is None


def _picked(g: Emitter, x: Tensor, keys: Sequence[Any]) -> Tensor:
    """One tensor of integers among full slices: what it names along its axis."""
    positions = [axis for axis, k in enumerate(keys) if isinstance(k, Tensor | np.ndarray)]
    rest = [k for axis, k in enumerate(keys) if axis not in positions]
    single = len(positions) == 1 and all(isinstance(k, slice) and k == slice(None) for k in rest)
    refuse_unless(single, "it picks by several tensors", "Pick with keras.ops.take")
    indices = g.lift(keys[positions[0]])
    refuse_unless(indices.dtype.kind in "iu", "it picks by a mask", "Use keras.ops.where")
    return g.Gather(x, g.cast(indices, np.int64), axis=positions[0])


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

    def write(base: Tensor, position: layout.Perm) -> Tensor:
        axes, starts, ends, steps = zip(*ranges, strict=True)
        stride = None if all(step == 1 for step in steps) else g.ints(*steps)
        return g.Slice(
            base, g.vector(starts), g.vector(ends), g.ints(*(position[axis] for axis in axes)), stride
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


@ROWS.row(core.ScatterUpdate)
def scatter_update(g: Emitter, op: Any, inputs: Any, indices: Any, updates: Any) -> Tensor:
    x = g.lift(inputs)
    places, values = g.cast(g.lift(indices), np.int64), g.cast(g.lift(updates), x.dtype)
    return g.ScatterND(x, places, values, reduction=op.reduction)


@ROWS.row(core.SliceUpdate)
def slice_update(g: Emitter, op: Any, inputs: Any, start_indices: Any, updates: Any) -> Tensor:
    given = isinstance(start_indices, Tensor)
    starts = g.cast(start_indices, np.int64) if given else g.vector(sizes(start_indices))
    x = g.lift(inputs)
    return placed(g, x, g.cast(g.lift(updates), x.dtype), starts)
