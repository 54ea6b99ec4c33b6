"""The table of torch functions, what reduces along axes, counts along them, or sorts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import arithmetic
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import BOOL, row
from netferry.converters.pytorch.to_onnx.tracer.places import SETTLED, unsettled_place


def _axes(dim: Any) -> list[int]:
    """Axes as PyTorch gives them; none stands for all."""
    if dim is None:
        return []
    return [dim] if isinstance(dim, int) else list(dim)


def reduced(e: Emitter, operator: str, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    axes = _axes(dim)
    if x.rank == 0:
        return x
    return e.g.op(operator, x, e.g.ints(*axes) if axes else None, keepdims=int(keepdim))


def _reduction(
    operator: str, e: Emitter, input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    return reduced(e, operator, e.cast(input, e.dtype), dim, keepdim)


for _operator, _names in {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceProd": "prod",
    "ReduceMax": "amax",
    "ReduceMin": "amin",
    "ReduceLogSumExp": "logsumexp",
}.items():
    row(_names)(partial(_reduction, _operator))


def _truth(operator: str, e: Emitter, input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """``any`` and ``all``: the largest and the smallest of 0 and 1."""
    bits = e.cast(e.cast(input, BOOL), np.dtype(np.int32))
    return e.cast(reduced(e, operator, bits, dim, keepdim), BOOL)


row("any")(partial(_truth, "ReduceMax"))
row("all")(partial(_truth, "ReduceMin"))


def _extreme(
    operator: str, e: Emitter, input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None
) -> Any:
    """``max(x)``, ``max(x, y)``, or values and indices of ``max(x, dim)``."""
    second = dim if isinstance(dim, Tensor) else other
    if second is not None:
        return arithmetic(operator, e, input, second)
    values = reduced(e, f"Reduce{operator}", input, dim, keepdim)
    if dim is None:
        return values
    return values, e.g.op(f"Arg{operator}", input, axis=dim, keepdims=int(keepdim))


row("max")(partial(_extreme, "Max"))
row("min")(partial(_extreme, "Min"))


def _index_of_extreme(
    operator: str, e: Emitter, input: Tensor, dim: int | None = None, keepdim: bool = False
) -> Tensor:
    if dim is None:
        input, dim = e.g.Reshape(input, e.g.ints(-1)), 0
    return e.g.op(operator, input, axis=dim, keepdims=int(keepdim))


row("argmax")(partial(_index_of_extreme, "ArgMax"))
row("argmin")(partial(_index_of_extreme, "ArgMin"))

_NORMS = {1: "ReduceL1", 2: "ReduceL2", "fro": "ReduceL2", None: "ReduceL2"}


@row("norm", torch.linalg.vector_norm)
def norm(
    e: Emitter,
    input: Tensor,
    p: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    ord: Any = None,
    dtype: Any = None,
) -> Tensor:
    order = p if ord is None else ord
    x = e.cast(input, e.dtype)
    if order in _NORMS:
        return reduced(e, _NORMS[order], x, dim, keepdim)
    if order in (math.inf, -math.inf):
        return reduced(e, "ReduceMax" if order > 0 else "ReduceMin", e.g.Abs(x), dim, keepdim)
    if order == 0:
        there = e.cast(e.g.Not(e.g.Equal(x, e.tensor(0, e.dtype))), e.dtype)
        return reduced(e, "ReduceSum", there, dim, keepdim)
    powers = reduced(e, "ReduceSum", e.g.Pow(e.g.Abs(x), e.tensor(order, e.dtype)), dim, keepdim)
    return e.g.Pow(powers, e.tensor(1 / order, e.dtype))


@row("cumsum")
def cumsum(e: Emitter, input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    base, axis, wrap = e.along(e.cast(input, e.dtype), dim)
    return wrap(e.g.CumSum(base, e.g.constant(axis, np.int64)))


@row("topk")
def topk(
    e: Emitter,
    input: Tensor,
    k: Any,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
) -> Sequence[Tensor]:
    return e.g.ops("TopK", input, e.size(k), outputs=2, axis=dim, largest=int(largest), sorted=int(sorted))


@row("sort")
def sort(
    e: Emitter, input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> Sequence[Tensor]:
    return topk(e, input, e.size_of(input, dim), dim, largest=descending)


@row("argsort")
def argsort(
    e: Emitter, input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False
) -> Tensor:
    return topk(e, input, e.size_of(input, dim), dim, largest=descending)[1]


@row(unsettled_place)
def _unsettled_place(e: Emitter, input: Tensor, value: Tensor) -> Tensor:
    raise CannotConvert(
        f"where 'mode' finds its value is settled along axes of at most {SETTLED}; of longer or free ones, PyTorch's sort "
        "gives any of its places. Use its values alone"
    )
