"""Random numbers, and Dropout, which draws them in training alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import dtype_of
from netferry.converters.tensorflow.from_onnx.control_flow import in_function
from netferry.converters.tensorflow.from_onnx.layout import Tensor, perm_of
from netferry.converters.tensorflow.from_onnx.namespace import TensorflowNamespace
from netferry.converters.tensorflow.from_onnx.table import NATIVE


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
    base = x.base if isinstance(x, Tensor) and x.deferred is None else x.expr
    layer = xp.layer("Dropout", {}, (None,) * x.ndim, float(rate), dtype=x.dtype)
    return Tensor(xp, Fact(x.dtype, x.shape), xp.call_expr(layer, base), perm_of(x))


@NATIVE.row("RandomNormal")
def RandomNormal(
    xp: TensorflowNamespace,
    *,
    shape: Sequence[int],
    dtype: int,
    seed: float | None,
    mean: float,
    scale: float,
) -> Any:
    return _random(xp, "normal", shape, dtype_of(dtype), mean, scale)


@NATIVE.row("RandomUniform")
def RandomUniform(
    xp: TensorflowNamespace, *, shape: Sequence[int], dtype: int, seed: float | None, low: float, high: float
) -> Any:
    return _random(xp, "uniform", shape, dtype_of(dtype), low, high)


@NATIVE.row("RandomNormalLike")
def RandomNormalLike(
    xp: TensorflowNamespace, x: Symbol, *, dtype: int | None, seed: float | None, mean: float, scale: float
) -> Any:
    return _random(xp, "normal", x.shape, x.dtype if dtype is None else dtype_of(dtype), mean, scale)


@NATIVE.row("RandomUniformLike")
def RandomUniformLike(
    xp: TensorflowNamespace, x: Symbol, *, dtype: int | None, seed: float | None, low: float, high: float
) -> Any:
    return _random(xp, "uniform", x.shape, x.dtype if dtype is None else dtype_of(dtype), low, high)


def _random(
    xp: TensorflowNamespace, kind: str, shape: Sequence[Any], dtype: np.dtype[Any], *limits: float
) -> Any:
    f = in_function(xp)
    return f.made(f.call_expr(dotted(f"tf.random.{kind}"), list(shape), *limits, dtype), dtype=dtype)


@NATIVE.row("Bernoulli")
def Bernoulli(xp: TensorflowNamespace, x: Symbol, *, dtype: int | None, seed: float | None) -> Any:
    drawn = _random(xp, "uniform", x.shape, x.dtype, 0.0, 1.0)
    return xp.astype(xp.less(drawn, x), x.dtype if dtype is None else dtype_of(dtype))
