"""Random numbers: the same distributions. The numbers themselves differ, and a node's own seed is not kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import FLOAT32
from netferry.converters.pytorch.from_onnx.layers import Xp, applied, as_float32, module_path, row
from netferry.converters.pytorch.from_onnx.writer import plain


def _dtype(number: int | None, like: Any = None) -> Any:
    return like if number is None else ir.DataType(number).numpy()


def _stretched(xp: Xp, x: Symbol, by: float, shift: float) -> Any:
    made = x if by == 1.0 else xp.multiply(x, by)
    return made if shift == 0.0 else xp.add(made, shift)


@row("RandomNormal")
def RandomNormal(xp: Xp, *, dtype: int, mean: float, scale: float, seed: Any, shape: Any) -> Any:
    made = xp.make("torch.randn", tuple(shape), dtype=_dtype(dtype))
    return _stretched(xp, made, as_float32(scale), as_float32(mean))


@row("RandomNormalLike")
def RandomNormalLike(xp: Xp, x: Symbol, *, dtype: Any, mean: float, scale: float, seed: Any) -> Any:
    made = xp.like("torch.randn_like", x, _dtype(dtype, x.dtype))
    return _stretched(xp, made, as_float32(scale), as_float32(mean))


@row("RandomUniform")
def RandomUniform(xp: Xp, *, dtype: int, high: float, low: float, seed: Any, shape: Any) -> Any:
    made = xp.make("torch.rand", tuple(shape), dtype=_dtype(dtype))
    return _stretched(xp, made, as_float32(high) - as_float32(low), as_float32(low))


@row("RandomUniformLike")
def RandomUniformLike(xp: Xp, x: Symbol, *, dtype: Any, high: float, low: float, seed: Any) -> Any:
    made = xp.like("torch.rand_like", x, _dtype(dtype, x.dtype))
    return _stretched(xp, made, as_float32(high) - as_float32(low), as_float32(low))


@row("Bernoulli")
def Bernoulli(xp: Xp, x: Symbol, *, dtype: Any, seed: Any) -> Any:
    return xp.astype(xp.call("torch.bernoulli", x), _dtype(dtype, x.dtype))


@row("Multinomial")
def Multinomial(xp: Xp, x: Symbol, *, dtype: int, sample_size: int, seed: Any) -> Any:
    """x holds logarithms of probabilities; drawn with replacement."""
    chances = xp.softmax(x, 1)
    made = xp.call("torch.multinomial", chances, sample_size, replacement=True, dtype=np.dtype(np.int64))
    return xp.astype(made, _dtype(dtype))


@row("Dropout")
def Dropout(
    xp: Xp,
    x: Symbol,
    ratio: Symbol | None = None,
    training_mode: Symbol | None = None,
    *,
    seed: Any,
) -> Any:
    """Asleep in a trained model: ``train()`` wakes it. With training_mode set it always drops."""
    p = 0.5 if ratio is None else None if ratio.content is None else plain(ratio, FLOAT32)
    awake: bool | None = False
    if training_mode is not None:
        awake = None if training_mode.content is None else bool(plain(training_mode, None))
    if p is None or awake is None:
        given = 0.5 if ratio is None else ratio, False if training_mode is None else training_mode
        return xp.unpack(xp.helper("dropout", x, *given, dtype=x.dtype), 2, [x.dtype, np.dtype(bool)])
    if awake:
        kept = xp.call("F.dropout", xp.call("torch.ones_like", x), p)
        return xp.multiply(x, kept), xp.not_equal(kept, 0)
    y = applied(xp, x, "Dropout", p, at=module_path(xp), weights={})
    return (y, xp.like("torch.ones_like", x, bool)) if xp.wanted(1) else y
