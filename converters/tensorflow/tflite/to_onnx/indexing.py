"""Rows of operators that take elements by their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.graph import Ref
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter
from netferry.converters.tensorflow.tflite.graph import Writer
from netferry.converters.tensorflow.tflite.model import Operation
from netferry.converters.tensorflow.tflite.to_onnx.straight import moving, numbers, straight

straight({"GATHER_ND": "GatherNd", "SLICE": "Slice"}, moving=True)
straight({"SCATTER_ND": "ScatterNd", "WHERE": "Where"})
straight({"ONE_HOT": "OneHot"}, numbers(axis="axis"))
straight(
    {"REVERSE_SEQUENCE": "ReverseSequence"}, numbers(seq_dim="seq_dim", batch_dim="batch_dim"), moving=True
)
straight({"DYNAMIC_UPDATE_SLICE": "lite.DynamicUpdateSlice"}, moving=True)
straight(
    {"BUCKETIZE": "lite.Bucketize"},
    lambda _, op: {"boundaries": np.asarray(op.option("boundaries", ()), np.float32)},
)

_MASKS = {
    name: name for name in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
}


@moving("STRIDED_SLICE")
def strided_slice(w: Writer, op: Operation) -> Ref:
    x, begin, end, strides = w.all(op)
    if op.option("offset"):  # the end is counted from where it begins
        end = w.node("AddV2", begin, end)
    return w.node("StridedSlice", x, begin, end, strides, **numbers(**_MASKS)(w, op))


@moving("GATHER")
def gather(w: Writer, op: Operation) -> Ref:
    return w.node(
        "GatherV2", w.x(op), w.x(op, 1), w.constant(op.option("axis")), batch_dims=op.option("batch_dims")
    )


@moving("EMBEDDING_LOOKUP")
def embedding_lookup(w: Writer, op: Operation) -> Ref:
    return w.node("GatherV2", w.x(op, 1), w.x(op), w.constant(0))


@moving("SPARSE_TO_DENSE")
def sparse_to_dense(w: Writer, op: Operation) -> Ref:
    """Values at places, which are numbers, a vector of them, or rows of one for each axis."""
    places, sizes, values, default = w.all(op)
    tensor = w.tensor(op, 0)
    rank = None if tensor is None or tensor.dims is None else len(tensor.dims)
    places = {
        0: lambda: w.node("Reshape", places, w.constant([1, 1])),
        1: lambda: w.node("ExpandDims", places, w.constant(1)),
    }.get(rank or 0 if rank is not None else 2, lambda: places)()
    of_one = w.tensor(op, 2)
    if of_one is not None and of_one.dims == ():
        raise CannotConvert("it writes one value at all places")
    return w.node("TensorScatterUpdate", w.node("Fill", sizes, default), places, values)


@ROWS.row("lite.Bucketize")
def bucketize(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """In which of the intervals between the boundaries each number lies."""
    above = g.GreaterOrEqual(g.Unsqueeze(g.cast(x, np.float32), g.ints(-1)), g.constant(a.raw("boundaries")))
    return g.ReduceSum(g.cast(above, np.int32), g.ints(-1), keepdims=0)


@ROWS.row("lite.DynamicUpdateSlice")
def dynamic_update_slice(g: Emitter, a: Attrs, x: Tensor, update: Tensor, start: Tensor) -> Tensor:
    """``update`` written into ``x`` from ``start`` on, which is moved so far that all of it fits."""
    sizes, parts = _known(x), _known(update)
    grid = np.stack(np.meshgrid(*(np.arange(count) for count in parts), indexing="ij"), -1).astype(np.int64)
    room = g.ints(*(size - count for size, count in zip(sizes, parts, strict=True)))
    first = g.Min(g.Max(g.index(start), g.constant(0, np.int64)), room)
    return g.sized(g.ScatterND(x, g.Add(g.constant(grid), first), update), sizes)


def _known(x: Tensor) -> Sequence[int]:
    if x.dims is None or not all(isinstance(size, int) for size in x.dims):
        raise CannotConvert("it writes into a tensor of free sizes", "Fix the input's sizes")
    return [size for size in x.dims if isinstance(size, int)]
