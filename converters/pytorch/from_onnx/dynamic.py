"""Operators whose axes, scales or lengths are known only when the model runs: the program decides there.

What is known before is written by the shared rows; the rest is a call of a runtime helper.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import FLOAT64, INT64
from netferry.converters.pytorch.from_onnx.layers import Sizes, Xp, row
from netferry.converters.pytorch.from_onnx.writer import is_number, plain

REDUCTIONS = {
    "ReduceL1": ("abs", "sum", ""),
    "ReduceL2": ("square", "sum", "sqrt"),
    "ReduceLogSum": ("", "sum", "log"),
    "ReduceLogSumExp": ("", "logsumexp", ""),
    "ReduceMax": ("", "amax", ""),
    "ReduceMean": ("", "mean", ""),
    "ReduceMin": ("", "amin", ""),
    "ReduceProd": ("", "prod", ""),
    "ReduceSum": ("", "sum", ""),
    "ReduceSumSquare": ("square", "sum", ""),
}
"""A step before, PyTorch's reduction, a step after."""
_FRACTIONAL = ("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean")


def _reduction(operator: str) -> Callable[..., Any]:
    before, word, after = REDUCTIONS[operator]

    def reduce(
        xp: Xp, x: Symbol, axes: Sizes | None = None, *, keepdims: int, noop_with_empty_axes: int
    ) -> Any:
        if axes is None or known(axes):
            return NotImplemented
        y = xp.ordered(x) if word in ("amax", "amin") else xp.widened(x)
        if operator in _FRACTIONAL and x.dtype.kind in "iu":
            y = xp.astype(x, FLOAT64)
        y = getattr(xp, before)(y) if before else y
        y = xp.helper("reduce_axes", y, word, tuple(axes), bool(keepdims), dtype=y.dtype)
        y = getattr(xp, after)(y) if after else y
        return xp.unordered(y, x.dtype) if word in ("amax", "amin") else xp.astype(y, x.dtype)

    return reduce


for _operator in REDUCTIONS:
    row(_operator)(_reduction(_operator))


def _cumulation(operator: str, word: str) -> Callable[..., Any]:
    def cumulate(xp: Xp, x: Symbol, axis: Sizes, *, exclusive: int, reverse: int) -> Any:
        if known(axis):
            return NotImplemented
        y = xp.widened(x)
        options = {"exclusive": True if exclusive else None, "reverse": True if reverse else None}
        return xp.astype(xp.helper("cumulate", y, word, axis[0], **options, dtype=y.dtype), x.dtype)

    return cumulate


row("CumSum")(_cumulation("CumSum", "cumsum"))
row("CumProd")(_cumulation("CumProd", "cumprod"))


@row("Trilu")
def Trilu(xp: Xp, x: Symbol, k: Sizes | None = None, *, upper: int) -> Any:
    diagonal = 0 if k is None else k[0]
    return xp.triu(x, diagonal) if upper else xp.tril(x, diagonal)


@row("Squeeze")
def Squeeze(xp: Xp, data: Symbol, axes: Sizes | None = None) -> Any:
    if axes is None and data.fact.dims is not None and known(data.fact.dims):
        return NotImplemented
    if axes is None or not known(axes):
        return xp.method(data, "squeeze", *([] if axes is None else [tuple(axes)]))
    return NotImplemented


@row("Unsqueeze")
def Unsqueeze(xp: Xp, data: Symbol, axes: Sizes) -> Any:
    if not known(axes):
        return xp.helper("unsqueeze", data, tuple(axes))
    if data.fact.dims is None and len(axes) == 1:
        return xp.method(data, "unsqueeze", axes[0])
    return NotImplemented


@row("Slice")
def Slice(
    xp: Xp, data: Symbol, starts: Sizes, ends: Sizes, axes: Sizes | None = None, steps: Sizes | None = None
) -> Any:
    if known(axes or ()) and known(steps or ()):
        return NotImplemented
    where = tuple(range(len(starts))) if axes is None else tuple(axes)
    strides = (1,) * len(starts) if steps is None else tuple(steps)
    return xp.helper("slice_axes", data, tuple(starts), tuple(ends), where, strides)


@row("Pad")
def Pad(
    xp: Xp,
    data: Symbol,
    pads: Sizes,
    value: Symbol | None = None,
    axes: Sizes | None = None,
    *,
    mode: str,
) -> Any:
    if known(axes or ()):
        return NotImplemented
    number: Any = 0 if value is None else plain(value, data.dtype) if is_number(value, data) else value
    return xp.helper("pad_axes", data, tuple(pads), tuple(axes or ()), mode, number)


@row("DFT")
def DFT(
    xp: Xp,
    x: Symbol,
    dft_length: Sizes | None = None,
    axis: Sizes | None = None,
    *,
    inverse: int,
    onesided: int,
) -> Any:
    if axis is None or known(axis):
        return NotImplemented
    return xp.dft(x, axis[0], None if dft_length is None else dft_length[0], bool(inverse), bool(onesided))  # type: ignore[arg-type]


@row("Shape")
def Shape(xp: Xp, x: Symbol, *, start: int, end: int | None) -> Any:
    if x.fact.dims is not None:
        return NotImplemented
    shape = ast.Attribute(x.expr, "shape", ast.Load())
    if start or end is not None:
        shape = ast.Subscript(shape, xp.to_expr(slice(start or None, end)), ast.Load())  # type: ignore[assignment]
    return xp.make("torch.tensor", shape, dtype=INT64)


@row("Reshape")
def Reshape(xp: Xp, data: Symbol, shape: Sizes, *, allowzero: int) -> Any:
    if data.fact.dims is not None:
        return NotImplemented
    certain = allowzero or all(not isinstance(size, Size) and size != 0 for size in shape)
    return xp.reshape(data, tuple(shape)) if certain else xp.helper("reshape", data, tuple(shape))
