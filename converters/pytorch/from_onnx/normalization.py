"""Normalisations as PyTorch's layers; those that do not mean the same are left to the shared rows."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import numpy as np

from netferry.converters.graph.ir.sizes import known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.from_onnx.convolution import unless
from netferry.converters.pytorch.from_onnx.layers import (
    Xp,
    all_constant,
    applied,
    as_float32,
    frozen,
    module_path,
    row,
    weight_and_bias,
)
from netferry.converters.pytorch.from_onnx.state import Weight


def _dimensions(x: Symbol) -> int:
    """How many spatial axes a batch-first, channels-second tensor has, as layers count them (1 to 3)."""
    return max(x.ndim - 2, 1)


@row("BatchNormalization")
def BatchNormalization(
    xp: Xp, x: Symbol, scale: Symbol, b: Symbol, mean: Symbol, var: Symbol, *,
    epsilon: float, momentum: float, training_mode: int,
) -> Any:  # fmt: skip
    """PyTorch's momentum is the weight of the new value, ONNX's that of the old one."""
    if training_mode:
        return _batch_norm_of_this_batch(xp, x, scale, b, mean, var, epsilon=epsilon, momentum=momentum)
    mixed = len({part.dtype for part in (x, scale, b, mean, var)}) > 1
    if mixed or x.ndim < 2:
        return NotImplemented
    eps, new = as_float32(epsilon), round(1 - as_float32(momentum), 7)
    y = None
    if all_constant(scale, b, mean, var) and x.ndim <= 5:
        weights = weight_and_bias(scale, b) | {
            "running_mean": replace(frozen(mean), parameter=False),
            "running_var": replace(frozen(var), parameter=False),
            "num_batches_tracked": Weight(np.asarray(0, np.int64), parameter=False),
        }
        y = applied(xp, x, f"BatchNorm{_dimensions(x)}d", scale.size(0), eps=unless(eps, 1e-5), momentum=unless(new, 0.1),
                    at=module_path(xp, scale, b, mean), weights=weights)  # fmt: skip
    return NotImplemented if y is None else y  # ``F.batch_norm`` has no gradient of its statistics


def _batch_norm_of_this_batch(
    xp: Xp, x: Symbol, scale: Symbol, b: Symbol, mean: Symbol, var: Symbol, *, epsilon: float, momentum: float
) -> Any:
    """With training_mode the statistics are the batch's own; the new running ones are further outputs.

    Both are ONNX's: the variance is the biased one also in the running statistics.
    """
    y = xp.call("F.batch_norm", x, None, None, scale, b, training=True, eps=as_float32(epsilon))
    if not xp.wanted(1) and not xp.wanted(2):
        return y
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    now = xp.mean(x, axes, False)
    old = as_float32(momentum)
    spread = xp.made(xp.call_expr(ast.Attribute(x.expr, "var", ast.Load()), axes, correction=0), x)
    new = round(1 - old, 7)
    return (
        y,
        xp.add(mean * old, xp.astype(now, mean.dtype) * new),
        xp.add(var * old, xp.astype(spread, var.dtype) * new),
    )


def _as_pytorch(stash_type: int, x: Symbol, *weights: Symbol | None) -> bool:
    """Whether all are of one dtype, in which PyTorch computes as ONNX asks for."""
    alike = all(weight is None or weight.dtype == x.dtype for weight in weights)
    return alike and stash_type == 1 and x.dtype.itemsize <= 4


@row("LayerNormalization")
def LayerNormalization(
    xp: Xp, x: Symbol, scale: Symbol, b: Symbol | None = None, *, axis: int, epsilon: float, stash_type: int
) -> Any:
    if xp.wanted(1) or xp.wanted(2) or not _as_pytorch(stash_type, x, scale, b):
        return NotImplemented
    return _over_last_axes(
        xp, "LayerNorm", "layer_norm", x, scale, b, axis, as_float32(epsilon), default=1e-5
    )


@row("RMSNormalization")
def RMSNormalization(xp: Xp, x: Symbol, scale: Symbol, *, axis: int, epsilon: float, stash_type: int) -> Any:
    if not _as_pytorch(stash_type, x, scale):
        return NotImplemented
    return _over_last_axes(xp, "RMSNorm", "rms_norm", x, scale, None, axis, as_float32(epsilon), default=None)


def _over_last_axes(
    xp: Xp, kind: str, function: str, x: Symbol, scale: Symbol, b: Symbol | None, axis: int, eps: float, default: Any
) -> Any:  # fmt: skip
    sizes = x.shape[axis:] if x.fact.dims is not None else ()
    if not known(sizes) or not sizes or scale.fact.dims != sizes or not (b is None or b.fact.dims == sizes):
        return NotImplemented
    y = None
    if all_constant(scale, b):
        y = applied(xp, x, kind, sizes[0] if len(sizes) == 1 else tuple(sizes), eps=unless(eps, default),
                    bias=False if b is None and kind == "LayerNorm" else None,
                    at=module_path(xp, scale, b), weights=weight_and_bias(scale, b))  # fmt: skip
    if y is not None:
        return y
    if b is None:
        return xp.call(f"F.{function}", x, tuple(sizes), weight=scale, eps=eps)
    return xp.call(f"F.{function}", x, tuple(sizes), scale, b, eps=eps)


@row("GroupNormalization")
def GroupNormalization(
    xp: Xp, x: Symbol, scale: Symbol, bias: Symbol, *, num_groups: int, epsilon: float, stash_type: int
) -> Any:
    if not _as_pytorch(stash_type, x, scale, bias):
        return NotImplemented
    eps, y = as_float32(epsilon), None
    if all_constant(scale, bias):
        y = applied(xp, x, "GroupNorm", num_groups, scale.size(0), eps=unless(eps, 1e-5),
                    at=module_path(xp, scale, bias), weights=weight_and_bias(scale, bias))  # fmt: skip
    return xp.call("F.group_norm", x, num_groups, scale, bias, eps=eps) if y is None else y


@row("InstanceNormalization")
def InstanceNormalization(xp: Xp, x: Symbol, scale: Symbol, b: Symbol, *, epsilon: float) -> Any:
    if not x.dtype == scale.dtype == b.dtype:
        return NotImplemented
    eps, y = as_float32(epsilon), None
    if all_constant(scale, b) and 3 <= x.ndim <= 5:
        y = applied(xp, x, f"InstanceNorm{_dimensions(x)}d", scale.size(0), eps=unless(eps, 1e-5), affine=True,
                    at=module_path(xp, scale, b), weights=weight_and_bias(scale, b))  # fmt: skip
    return xp.call("F.instance_norm", x, weight=scale, bias=b, eps=eps) if y is None else y


@row("LRN")
def LRN(xp: Xp, x: Symbol, *, alpha: float, beta: float, bias: float, size: int) -> Any:
    """PyTorch's own looks at one channel more before than behind where ``size`` is even, ONNX the other way."""
    if size % 2 == 0 or x.ndim < 3:
        return NotImplemented
    options = {"alpha": as_float32(alpha), "beta": as_float32(beta), "k": as_float32(bias)}
    return xp.call("F.local_response_norm", x, size, **options)
