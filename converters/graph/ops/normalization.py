"""Normalisations, composed; a target has layers for most of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netferry.converters.graph.ir.sizes import product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import along, as_dtype, choice, dtype_of, op, others, per_channel


def _standardised(xp: Any, x: Any, axes: tuple[int, ...], epsilon: float) -> tuple[Any, Any, Any]:
    """``x`` with mean 0 and (biased) variance 1 over ``axes``; the mean; 1 / standard deviation."""
    mean = xp.mean(x, axes, True)
    centered = x - mean
    scale = xp.rsqrt(xp.mean(xp.square(centered), axes, True) + epsilon)
    return centered * scale, mean, scale


@op
def LayerNormalization(
    xp: Any,
    x: Symbol,
    scale: Symbol,
    b: Symbol | None = None,
    *,
    axis: int,
    epsilon: float,
    stash_type: int,
) -> Any:
    axes = tuple(range(along(axis, x.ndim), x.ndim))
    wide = as_dtype(xp, x, dtype_of(stash_type))
    y, mean, inverse = _standardised(xp, wide, axes, epsilon)
    y = as_dtype(xp, y, x.dtype) * scale
    return y if b is None else y + b, mean, inverse


@op
def RMSNormalization(xp: Any, x: Symbol, scale: Symbol, *, axis: int, epsilon: float, stash_type: int) -> Any:
    axes = tuple(range(along(axis, x.ndim), x.ndim))
    wide = as_dtype(xp, x, dtype_of(stash_type))
    y = wide * xp.rsqrt(xp.mean(xp.square(wide), axes, True) + epsilon)
    return as_dtype(xp, y, x.dtype) * scale


@op
def InstanceNormalization(xp: Any, x: Symbol, scale: Symbol, b: Symbol, *, epsilon: float) -> Any:
    y, *_ = _standardised(xp, x, tuple(range(2, x.ndim)), epsilon)
    return y * per_channel(xp, scale, x.ndim) + per_channel(xp, b, x.ndim)


@op
def GroupNormalization(
    xp: Any,
    x: Symbol,
    scale: Symbol,
    bias: Symbol,
    *,
    num_groups: int,
    epsilon: float,
    stash_type: int,
) -> Any:
    """``scale`` and ``bias`` are per channel."""
    batch, channels, *space = x.shape
    wide = as_dtype(xp, x, dtype_of(stash_type))
    groups = xp.reshape(wide, (batch, num_groups, channels // num_groups * product(space)))
    y, *_ = _standardised(xp, groups, (2,), epsilon)
    y = as_dtype(xp, xp.reshape(y, x.shape), x.dtype)
    return y * per_channel(xp, scale, x.ndim) + per_channel(xp, bias, x.ndim)


@op
def BatchNormalization(
    xp: Any,
    x: Symbol,
    scale: Symbol,
    b: Symbol,
    mean: Symbol,
    var: Symbol,
    *,
    epsilon: float,
    momentum: float,
    training_mode: int,
) -> Any:
    """In training mode the batch's own (biased) statistics, and the running ones moved toward them."""
    running: tuple[Any, ...] = ()
    if training_mode:
        axes = others(x.ndim, 1)
        own = xp.mean(x, axes, False)
        spread = xp.mean(xp.square(x - per_channel(xp, own, x.ndim)), axes, False)
        pairs = ((mean, as_dtype(xp, own, mean.dtype)), (var, as_dtype(xp, spread, var.dtype)))
        running = tuple(old * momentum + new * (1 - momentum) for old, new in pairs)
        mean, var = own, spread
    mean, var, scale, b = (as_dtype(xp, part, x.dtype) for part in (mean, var, scale, b))
    factor = scale * xp.rsqrt(var + epsilon)
    y = (x - per_channel(xp, mean, x.ndim)) * per_channel(xp, factor, x.ndim) + per_channel(xp, b, x.ndim)
    return (y, *running)


@op
def MeanVarianceNormalization(xp: Any, x: Symbol, *, axes: Sequence[int]) -> Any:
    """(x - mean) / (standard deviation + 1e-9), as the schema's function body has it."""
    positions = tuple(along(axis, x.ndim) for axis in axes)
    mean = xp.mean(x, positions, True)
    spread = xp.mean(xp.square(x), positions, True) - xp.square(mean)
    return (x - mean) / (xp.sqrt(spread) + 1e-9)


@op
def LpNormalization(xp: Any, x: Symbol, *, axis: int, p: int) -> Any:
    """A vector of zeros stays one."""
    axes = (along(axis, x.ndim),)
    if choice(p, (1, 2), "p") == 1:
        norm = xp.sum(xp.abs(x), axes, True)
    else:
        norm = xp.sqrt(xp.sum(xp.square(x), axes, True))
    return xp.where(xp.equal(norm, 0), 0, x / norm)


@op
def LRN(xp: Any, x: Symbol, *, size: int, alpha: float, beta: float, bias: float) -> Any:
    """x / (bias + alpha / size * the squares of ``size`` channels around) ** beta."""
    before = (size - 1) // 2
    pairs = tuple((before, size - 1 - before) if axis == 1 else (0, 0) for axis in range(x.ndim))
    padded = xp.pad(xp.square(x), pairs, "constant", 0)
    windows = [xp.slice(padded, {1: (first, first + x.shape[1], 1)}) for first in range(size)]
    squares = sum(windows[1:], start=windows[0])
    return x / (squares * (alpha / size) + bias) ** beta


@op
def GlobalAveragePool(xp: Any, x: Symbol) -> Any:
    return xp.mean(x, tuple(range(2, x.ndim)), True)


@op
def GlobalMaxPool(xp: Any, x: Symbol) -> Any:
    return xp.max(x, tuple(range(2, x.ndim)), True)


@op
def GlobalLpPool(xp: Any, x: Symbol, *, p: int) -> Any:
    return xp.sum(xp.abs(x) ** p, tuple(range(2, x.ndim)), True) ** (1 / p)
