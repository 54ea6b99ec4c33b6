"""The table of torch functions, continued: products, reductions and normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import BOOL, arithmetic, reversed_, row, rsqrt
from netferry.converters.pytorch.to_onnx.emitter import Emitter

# ---- products -------------------------------------------------------------------------------------


@row("matmul", "bmm", "mm", "mv", "dot")
def matmul(e: Emitter, input: Tensor, other: Tensor) -> Tensor:
    return e.g.MatMul(e.cast(input, e.dtype), e.cast(other, e.dtype))


row("rmatmul")(reversed_(matmul))


@row("linear")
def linear(e: Emitter, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b; a matrix goes through Gemm with the weight as it is."""
    if weight.rank == 2 and input.rank == 2 and input.dtype.kind == "f":
        return e.g.Gemm(input, weight, bias, transB=1)
    base, wrap = e.beneath(input, trailing=1)
    product = e.g.MatMul(base, e.transpose(weight, (1, 0)) if weight.rank == 2 else weight)
    return wrap(product if bias is None else e.g.Add(product, bias))


@row(torch.einsum)
def einsum(e: Emitter, equation: str, *operands: Any) -> Tensor:
    tensors = operands[0] if isinstance(operands[0], list | tuple) else operands
    return e.g.Einsum(*(e.cast(x, e.dtype) for x in tensors), equation=equation.replace(" ", ""))


@row("outer", "ger")
def outer(e: Emitter, input: Tensor, vec2: Tensor) -> Tensor:
    column = e.g.Unsqueeze(e.cast(input, e.dtype), e.g.ints(1))
    return e.g.Mul(column, e.cast(vec2, e.dtype))


# ---- reductions -----------------------------------------------------------------------------------


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
    """``max(x)``, ``max(x, y)``, or values and places of ``max(x, dim)``."""
    second = dim if isinstance(dim, Tensor) else other
    if second is not None:
        return arithmetic(operator, e, input, second)
    values = reduced(e, f"Reduce{operator}", input, dim, keepdim)
    if dim is None:
        return values
    return values, e.g.op(f"Arg{operator}", input, axis=dim, keepdims=int(keepdim))


row("max")(partial(_extreme, "Max"))
row("min")(partial(_extreme, "Min"))


def _place(operator: str, e: Emitter, input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    if dim is None:
        input, dim = e.g.Reshape(input, e.g.ints(-1)), 0
    return e.g.op(operator, input, axis=dim, keepdims=int(keepdim))


row("argmax")(partial(_place, "ArgMax"))
row("argmin")(partial(_place, "ArgMin"))

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


# ---- normalisation, with weights as arguments -------------------------------------------------------


def _or_constant(e: Emitter, weight: Tensor | None, value: float, size: int, dtype: np.dtype[Any]) -> Tensor:
    return e.g.constant(np.full(size, value, dtype)) if weight is None else weight


@row(F.layer_norm, torch.layer_norm)
def layer_norm(
    e: Emitter,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = False,
) -> Tensor:
    count = len(normalized_shape)
    base, wrap = e.beneath(input, trailing=count)
    if weight is None:
        weight = e.g.constant(np.ones(tuple(normalized_shape), input.dtype))
    return wrap(e.g.LayerNormalization(base, weight, bias, axis=-count, epsilon=float(eps)))


@row(F.rms_norm, torch.rms_norm)
def rms_norm(
    e: Emitter,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight; the operator of this name came to ONNX only with opset 23."""
    base, wrap = e.beneath(input, trailing=len(normalized_shape))
    eps = float(np.finfo(input.dtype).eps) if eps is None else eps
    mean = e.g.ReduceMean(e.g.Mul(base, base), e.g.ints(*range(-len(normalized_shape), 0)), keepdims=1)
    y = e.g.Mul(base, rsqrt(e, e.g.Add(mean, e.tensor(eps, input.dtype))))
    return wrap(y if weight is None else e.g.Mul(y, weight))


@row(F.batch_norm)
def batch_norm(
    e: Emitter,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """ONNX's momentum is the share that the old statistics keep, PyTorch's that of the new ones."""
    if training or running_mean is None or running_var is None:
        raise CannotConvert("it normalises by its batch's own statistics in inference too")
    channels = running_mean.size(0)
    return e.g.BatchNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        running_mean,
        running_var,
        epsilon=float(eps),
        momentum=None if momentum is None else 1 - momentum,
    )


@row(F.group_norm, torch.group_norm)
def group_norm(
    e: Emitter,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = False,
) -> Tensor:
    channels = input.size(1)
    return e.g.GroupNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        num_groups=num_groups,
        epsilon=float(eps),
    )


@row(F.instance_norm)
def instance_norm(
    e: Emitter,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return batch_norm(e, input, running_mean, running_var, weight, bias, False, momentum, eps)
    channels = input.size(1)
    return e.g.InstanceNormalization(
        input,
        _or_constant(e, weight, 1, channels, input.dtype),
        _or_constant(e, bias, 0, channels, input.dtype),
        epsilon=float(eps),
    )


@row(F.embedding)
def embedding(
    e: Emitter,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    *_: Any,
    **__: Any,
) -> Tensor:
    if max_norm is not None:
        raise CannotConvert("an embedding with max_norm rewrites its weights as it runs")
    base = e.beneath(input)[0]
    gathered = e.g.Gather(weight, base, axis=0)
    return gathered if base is input else e.g.transpose(gathered, (*(input.perm or ()), input.rank))
