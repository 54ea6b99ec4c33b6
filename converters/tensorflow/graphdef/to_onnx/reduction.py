"""Rows of operators that reduce axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.tensorflow.graphdef.to_onnx.emitter import ROWS, Attrs, Emitter, Row

_REDUCTIONS = {
    "Sum": "ReduceSum", "Mean": "ReduceMean", "Max": "ReduceMax", "Min": "ReduceMin", "Prod": "ReduceProd",
    "EuclideanNorm": "ReduceL2",
}  # fmt: skip


def _axes(g: Emitter, x: Tensor, axes: Tensor) -> tuple[Tensor, bool]:
    """The axes as ONNX takes them, and whether there are none, which leaves a tensor as it is."""
    known = g.content(axes)
    if known is None:
        return g.index(axes), False
    return g.ints(*g.flat_axes(x, [int(each) for each in np.asarray(known).reshape(-1)])), not known.size


def _reduction(operator: str) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor, axes: Tensor) -> Tensor:
        given, none = _axes(g, x, axes)
        return x if none else g.op(operator, x, given, keepdims=int(a.flag("keep_dims")))

    return row


for _name, _operator in _REDUCTIONS.items():
    ROWS.row(_name)(_reduction(_operator))


def _logical(operator: str) -> Row:
    def row(g: Emitter, a: Attrs, x: Tensor, axes: Tensor) -> Tensor:
        given, none = _axes(g, x, axes)
        if none:
            return x
        return g.cast(g.op(operator, g.cast(x, np.int32), given, keepdims=int(a.flag("keep_dims"))), np.bool_)

    return row


ROWS.row("All")(_logical("ReduceMin"))
ROWS.row("Any")(_logical("ReduceMax"))


def _arg(operator: str) -> Callable[..., Tensor]:
    def row(g: Emitter, a: Attrs, x: Tensor, axis: Tensor) -> Tensor:
        (along,) = g.numbers(axis, "axis")
        return g.cast(g.op(operator, x, axis=along, keepdims=0), a.dtype("output_type", np.int64))

    return row


ROWS.row("ArgMax")(_arg("ArgMax"))
ROWS.row("ArgMin")(_arg("ArgMin"))


@ROWS.row("Cumsum")
def cumsum(g: Emitter, a: Attrs, x: Tensor, axis: Tensor) -> Tensor:
    (along,) = g.numbers(axis, "axis")
    return g.CumSum(
        x, g.constant(along, np.int64), exclusive=int(a.flag("exclusive")), reverse=int(a.flag("reverse"))
    )


@ROWS.row("TopKV2", "TopK")
def top_k(g: Emitter, a: Attrs, x: Tensor, k: Tensor | None = None) -> list[Tensor]:
    count = g.ints(a.integer("k")) if k is None else g.Reshape(g.index(k), g.ints(1))
    values, indices = g.ops("TopK", x, count, outputs=2, axis=-1, sorted=1)
    return [values, g.cast(indices, a.dtype("index_type", np.int32))]
