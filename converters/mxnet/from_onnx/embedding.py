"""Vectors picked from a table, as MXNet's Embedding."""

from __future__ import annotations

from typing import Any

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.namespace import MxnetNamespace
from netferry.converters.mxnet.from_onnx.table import NATIVE, weight


@NATIVE.row("Gather")
def gather(xp: MxnetNamespace, x: Symbol, indices: Any, *, axis: int) -> Symbol:
    """A table of vectors is an Embedding; any other a ``take``."""
    axis = axis % x.ndim
    table = (
        x.content is not None and x.fact.trainable and x.ndim == 2 and axis == 0 and indices.content is None
    )
    if not table or not indices.ndim:
        return xp.take(x, indices, axis)
    rows, width = x.size(0), x.size(1)
    if not _clipped(xp, rows):
        indices = xp.modulo_size(indices, rows)  # MXNet clips where ONNX counts from the end
    dims = (*indices.shape, width)
    return xp.apply(
        "Embedding",
        indices,
        weight(xp, x),
        gives=x.dtype,
        dims=dims,
        input_dim=rows,
        output_dim=width,
        dtype=x.dtype,
    )


def _clipped(xp: MxnetNamespace, rows: int) -> bool:
    """Whether the indices come out of a Clip to the table's rows, as MXNet's own Embedding leaves them."""
    source = xp.node.inputs[1]
    clip = None if source is None else source.producer()
    if clip is None or clip.op_type != "Clip" or len(clip.inputs) != 3:
        return False
    bounds = [None if bound is None else xp.plan.fact(bound).constant for bound in clip.inputs[1:]]
    return all(bound is not None for bound in bounds) and [int(b) for b in bounds if b is not None] == [
        0,
        rows - 1,
    ]
