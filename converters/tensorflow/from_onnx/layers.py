"""Dense, Embedding, PReLU and Dropout: layers of one weight or none, where ONNX has Linear, Gather and the like."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.names import Weight
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


def weight(x: Symbol, content: Any = None) -> Weight:
    """What a constant input holds, or what it has become, under its own name."""
    held = x.content if content is None else content
    assert held is not None
    return Weight(held, (x.fact.name,) if x.fact.name else ())


def called(
    xp: TensorflowNamespace,
    layer: Any,
    x: Any,
    like: Symbol,
    *,
    dims: Any = None,
    perm: Any = None,
    **kwargs: Any,
) -> Tensor:
    """``layer(x)``"""
    return xp.made(xp.call_expr(layer, x, **kwargs), dtype=like.dtype, dims=dims, perm=perm)


@NATIVE.row("Linear")
def Linear(xp: TensorflowNamespace, x: Symbol, w: Symbol, b: Symbol | None = None) -> Any:
    """A Dense layer; where ``x`` is a flattened image that lies channels-last, the kernel's rows move instead."""
    if w.content is None or (b is not None and b.content is None) or not is_float(x.dtype) or x.ndim < 2:
        return NotImplemented
    rank, kernel, perm = x.ndim, w.content, perm_of(x)
    base, left = x.expr, None
    if isinstance(x, Tensor) and x.order is not None:
        kernel, base = _moved(kernel, x.order), x.base
    elif perm is not None and perm[-1] == rank - 1 and isinstance(x, Tensor):
        base, left = x.base, perm
    weights = {"kernel": weight(w, kernel)}
    if b is not None:
        weights["bias"] = weight(b)
    units = kernel.shape[1]
    layer = xp.layer(
        "Dense",
        weights,
        (*(None,) * (rank - 1), kernel.shape[0]),
        units,
        dtype=x.dtype,
        use_bias=None if b is not None else False,
    )
    return called(xp, layer, base, x, dims=(*x.shape[:-1], units), perm=left)


def _moved(kernel: Any, order: Any) -> Any:
    """Rows where their features lie: feature ``i`` is read from place ``order[i]``."""
    moved = np.empty_like(kernel)
    moved[order] = kernel
    return moved


@NATIVE.row("Gather")
def Gather(xp: TensorflowNamespace, data: Symbol, indices: Symbol, *, axis: int) -> Any:
    """An Embedding where a trained table is read by its rows."""
    table = data.content
    if (
        table is None
        or not data.fact.trainable
        or table.ndim != 2
        or axis not in (0, -2)
        or indices.content is not None
    ):
        return NotImplemented
    rows, width = table.shape
    layer = xp.layer(
        "Embedding",
        {"embeddings": weight(data)},
        (None,),
        rows,
        width,
        dtype=data.dtype,
        embeddings_initializer="zeros",
    )
    return called(xp, layer, indices, data, dims=(*indices.shape, width))


@NATIVE.row("PRelu")
def PRelu(xp: TensorflowNamespace, x: Symbol, slope: Symbol) -> Any:
    """A PReLU whose slopes are shared along the axes where there is one of them."""
    content, rank = slope.content, x.ndim
    if content is None or not slope.fact.trainable or content.ndim > rank or rank < 2:
        return NotImplemented
    perm = perm_of(x) or layout.identity(rank)
    based = content.reshape((1,) * (rank - content.ndim) + content.shape).transpose(layout.inverse(perm))
    if based.shape[0] != 1:
        return NotImplemented
    shared = [axis for axis in range(1, rank) if based.shape[axis] == 1]
    build = tuple(None if size == 1 else size for size in based.shape)
    known = tuple(x.shape[axis] for axis in layout.inverse(perm))
    if any(not isinstance(size, int) for axis, size in enumerate(known) if axis and axis not in shared):
        return NotImplemented
    layer = xp.layer(
        "PReLU", {"alpha": weight(slope, based[0])}, build, dtype=x.dtype, shared_axes=shared or None
    )
    base = x.base if isinstance(x, Tensor) and x.late is None else x.expr
    return called(xp, layer, base, x, dims=x.shape, perm=perm_of(x))


@NATIVE.row("Dropout")
def Dropout(
    xp: TensorflowNamespace,
    x: Symbol,
    ratio: Symbol | None = None,
    training: Symbol | None = None,
    *,
    seed: int | None,
) -> Any:
    """A Dropout layer, which does nothing but in training."""
    rate = 0.5 if ratio is None else ratio.content
    trains = training is not None and (training.content is None or bool(training.content))
    if rate is None or trains or xp.wanted(1) or not is_float(x.dtype):
        return NotImplemented
    base = x.base if isinstance(x, Tensor) and x.late is None else x.expr
    layer = xp.layer("Dropout", {}, (None,) * x.ndim, float(rate), dtype=x.dtype)
    return Tensor(xp, Fact(x.dtype, x.shape), xp.call_expr(layer, base), perm_of(x))
