"""Random numbers: the same distributions. The numbers themselves differ, and a node's own seed is not kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.from_onnx.layers import Xp, row, short


def _dtype(number: int | None, like: Any = None) -> Any:
    return like if number is None else ir.DataType(number).numpy()


def _stretched(xp: Xp, x: Symbol, by: float, shift: float) -> Any:
    made = x if by == 1.0 else xp.multiply(x, by)
    return made if shift == 0.0 else xp.add(made, shift)


@row("RandomNormal")
def RandomNormal(
    xp: Xp, *, dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: Any = None, shape: Any
) -> Any:
    made = xp.make("torch.randn", tuple(shape), dtype=_dtype(dtype))
    return _stretched(xp, made, short(scale), short(mean))


@row("RandomNormalLike")
def RandomNormalLike(
    xp: Xp, x: Symbol, *, dtype: Any = None, mean: float = 0.0, scale: float = 1.0, seed: Any = None
) -> Any:
    made = xp.like("torch.randn_like", x, _dtype(dtype, x.dtype))
    return _stretched(xp, made, short(scale), short(mean))


@row("RandomUniform")
def RandomUniform(
    xp: Xp, *, dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: Any = None, shape: Any
) -> Any:
    made = xp.make("torch.rand", tuple(shape), dtype=_dtype(dtype))
    return _stretched(xp, made, short(high) - short(low), short(low))


@row("RandomUniformLike")
def RandomUniformLike(
    xp: Xp, x: Symbol, *, dtype: Any = None, high: float = 1.0, low: float = 0.0, seed: Any = None
) -> Any:
    made = xp.like("torch.rand_like", x, _dtype(dtype, x.dtype))
    return _stretched(xp, made, short(high) - short(low), short(low))


@row("Bernoulli")
def Bernoulli(xp: Xp, x: Symbol, *, dtype: Any = None, seed: Any = None) -> Any:
    return xp.astype(xp.call("torch.bernoulli", x), _dtype(dtype, x.dtype))


@row("Multinomial")
def Multinomial(xp: Xp, x: Symbol, *, dtype: int = 6, sample_size: int = 1, seed: Any = None) -> Any:
    """x holds logarithms of probabilities; drawn with replacement."""
    chances = xp.softmax(x, 1)
    made = xp.call("torch.multinomial", chances, sample_size, replacement=True, dtype=np.dtype(np.int64))
    return xp.astype(made, _dtype(dtype))
