"""Along axes: reductions, cumulations, products of matrices, softmax and losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import (
    BOOL,
    FLOAT64,
    OPS,
    Row,
    Sizes,
    all_along,
    along,
    as_dtype,
    choice,
    ints,
    op,
)

# ---- reductions ----------------------------------------------------------------------------------------------


def _reduce(word: str, before: str = "", after: str = "", *, exact: bool = True) -> Row:
    """A reduction with a function of the namespace before and after it.

    One over no axes does these alone. ``exact`` false: what they give is not an integer, so that integers are
    computed in float64 and cut toward zero, as ONNX's reference does. Booleans, of which ONNX takes the largest and
    the least, are compared as numbers: False is less than True.
    """

    def row(
        xp: Any, data: Symbol, axes: Sizes | None = None, *, keepdims: int, noop_with_empty_axes: int
    ) -> Any:
        positions = all_along(ints(axes or (), "axes"), data.ndim)
        if not positions and not noop_with_empty_axes:
            positions = tuple(range(data.ndim))
        x = data if exact or is_float(data.dtype) else xp.astype(data, FLOAT64)
        x = xp.astype(data, np.dtype(np.uint8)) if data.dtype == BOOL else x
        x = getattr(xp, before)(x) if before else x
        x = getattr(xp, word)(x, positions, bool(keepdims)) if positions else x
        return as_dtype(xp, getattr(xp, after)(x) if after else x, data.dtype)

    return row


def _cumulate(word: str, neutral: int) -> Row:
    """An exclusive one is that of the input moved on by one position, the neutral element first."""

    def row(xp: Any, x: Symbol, axis: Sizes, *, exclusive: int, reverse: int) -> Any:
        (along_axis,) = all_along(ints(axis, "axis"), x.ndim)
        y = xp.flip(x, (along_axis,)) if reverse else x
        if exclusive:
            pairs = tuple((1, -1) if i == along_axis else (0, 0) for i in range(x.ndim))
            y = xp.pad(y, pairs, "constant", neutral)
        y = getattr(xp, word)(y, along_axis)
        return xp.flip(y, (along_axis,)) if reverse else y

    return row


for _operator, _row in {
    "ReduceSum": _reduce("sum"),
    "ReduceMean": _reduce("mean", exact=False),
    "ReduceProd": _reduce("prod"),
    "ReduceMax": _reduce("max"),
    "ReduceMin": _reduce("min"),
    "ReduceL1": _reduce("sum", "abs"),
    "ReduceL2": _reduce("sum", "square", "sqrt", exact=False),
    "ReduceSumSquare": _reduce("sum", "square"),
    "ReduceLogSum": _reduce("sum", after="log", exact=False),
    "ReduceLogSumExp": _reduce("logsumexp", exact=False),
    "CumSum": _cumulate("cumulative_sum", 0),
    "CumProd": _cumulate("cumulative_prod", 1),
}.items():
    OPS.row(_operator)(_row)


# ---- products of matrices ----------------------------------------------------------------------------------------


@op
def MatMul(xp: Any, a: Symbol, b: Symbol) -> Any:
    return xp.matmul(a, b)


@op
def Gemm(
    xp: Any,
    a: Symbol,
    b: Symbol,
    c: Symbol | None = None,
    *,
    alpha: float,
    beta: float,
    transA: int,  # noqa: N803
    transB: int,  # noqa: N803
) -> Any:
    left = xp.permute_dims(a, (1, 0)) if transA else a
    right = xp.permute_dims(b, (1, 0)) if transB else b
    product = _times(xp, alpha, xp.matmul(left, right))
    return product if c is None else product + _times(xp, beta, c)


def _times(xp: Any, factor: float, x: Any) -> Any:
    """``factor * x``; the factor of an integer tensor must be an integer."""
    if factor == 1:
        return x
    if not is_float(x.dtype) and factor != int(factor):
        raise CannotConvert(f"it multiplies {x.dtype.name} by {factor}", "Cast its inputs to float")
    return xp.multiply(x, factor if is_float(x.dtype) else int(factor))


@op
def Linear(xp: Any, x: Symbol, w: Symbol, b: Symbol | None = None) -> Any:
    """Ours: ``x`` (..., in) times ``w`` (in, out) plus ``b`` (out)."""
    return xp.matmul(x, w) if b is None else xp.matmul(x, w) + b


@op
def Einsum(xp: Any, *inputs: Symbol, equation: str) -> Any:
    return xp.einsum(equation.replace(" ", ""), *inputs)


# ---- softmax and losses --------------------------------------------------------------------------------------------


@op
def Softmax(xp: Any, x: Symbol, *, axis: int) -> Any:
    return xp.softmax(x, along(axis, x.ndim))


@op
def LogSoftmax(xp: Any, x: Symbol, *, axis: int) -> Any:
    return xp.log_softmax(x, along(axis, x.ndim))


@op
def SoftmaxCrossEntropyLoss(
    xp: Any,
    scores: Symbol,
    labels: Symbol,
    weights: Symbol | None = None,
    *,
    ignore_index: int | None,
    reduction: str,
) -> Any:
    logs = xp.log_softmax(scores, 1)
    loss = NegativeLogLikelihoodLoss(
        xp, logs, labels, weights, ignore_index=ignore_index, reduction=reduction
    )
    return loss, logs


@op
def NegativeLogLikelihoodLoss(
    xp: Any,
    x: Symbol,
    target: Symbol,
    weight: Symbol | None = None,
    *,
    ignore_index: int | None,
    reduction: str,
) -> Any:
    """``-weight[target] * x[target]``, ``x``: (batch, classes, *space), ``target``: (batch, *space).

    A mean is over the weights, and an ignored target weighs nothing.
    """
    choice(reduction, ("none", "mean", "sum"), "reduction")
    counts = None if ignore_index is None else xp.not_equal(target, ignore_index)
    classes = target if counts is None else xp.where(counts, target, 0)
    loss = -xp.squeeze(xp.take_along_axis(x, xp.expand_dims(classes, (1,)), 1), (1,))
    weighs = None if weight is None else xp.take(weight, classes, 0)
    if counts is not None:
        weighs = xp.astype(counts, x.dtype) if weighs is None else xp.where(counts, weighs, 0)
    loss = loss if weighs is None else loss * weighs
    axes = tuple(range(target.ndim))
    if reduction == "none":
        return loss
    if reduction == "sum" or weighs is not None:
        total = xp.sum(loss, axes, False)
        return total if reduction == "sum" else total / xp.sum(weighs, axes, False)
    return xp.mean(loss, axes, False)
