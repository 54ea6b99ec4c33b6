"""Activations that PyTorch has under its own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.from_onnx.layers import (
    Xp,
    all_constant,
    applied,
    as_float32,
    frozen,
    module_path,
    row,
)

PLAIN: Mapping[str, str] = {
    "HardSwish": "F.hardswish",
    "Mish": "F.mish",
    "Relu": "torch.relu",
    "Softsign": "F.softsign",
}
WITH_ALPHA: Mapping[str, str] = {"Celu": "F.celu", "Elu": "F.elu", "LeakyRelu": "F.leaky_relu"}


def _plain(function: str) -> Callable[[Xp, Symbol], Symbol]:
    return lambda xp, x: xp.call(function, x)


def _with_alpha(function: str) -> Callable[..., Symbol]:
    return lambda xp, x, *, alpha: xp.call(function, x, as_float32(alpha))


for _operator, _function in PLAIN.items():
    row(_operator)(_plain(_function))
for _operator, _function in WITH_ALPHA.items():
    row(_operator)(_with_alpha(_function))


@row("PRelu")
def PRelu(xp: Xp, x: Symbol, slope: Symbol) -> Any:
    """A slope for all, or one for each channel; other shapes are written out."""
    slopes = slope.content
    if slopes is None or x.fact.dims is None or not all_constant(slope) or x.dtype != slope.dtype:
        return NotImplemented
    channels = x.fact.dims[1] if x.ndim > 1 else 1
    per_channel = slopes.size == channels and slopes.shape[:1] == (channels,) and slopes.ndim == x.ndim - 1
    if slopes.size != 1 and not per_channel:
        return NotImplemented
    count = [slopes.size] if slopes.size > 1 else []
    weights = {"weight": frozen(slope, slopes.reshape(-1))}
    y = applied(xp, x, "PReLU", *count, at=module_path(xp, slope), weights=weights)
    return NotImplemented if y is None else y


@row("Selu")
def Selu(xp: Xp, x: Symbol, *, alpha: float, gamma: float) -> Any:
    usual = (np.float32(alpha), np.float32(gamma)) == (np.float32(1.6732632), np.float32(1.050701))
    return xp.call("F.selu", x) if usual else NotImplemented


@row("Gelu")
def Gelu(xp: Xp, x: Symbol, *, approximate: str) -> Symbol:
    if approximate not in ("none", "tanh"):
        raise CannotConvert(f"approximate is {approximate!r}, expected 'none' or 'tanh'")
    return xp.call("F.gelu", x, approximate=approximate if approximate != "none" else None)


@row("Swish")
def Swish(xp: Xp, x: Symbol, *, alpha: float) -> Any:
    return xp.call("F.silu", x) if alpha == 1.0 else NotImplemented


@row("Softplus")
def Softplus(xp: Xp, x: Symbol) -> Any:
    """PyTorch's own gives x itself above 20, which float32 cannot tell from the true value; float64 can."""
    return xp.call("F.softplus", x) if x.dtype.itemsize <= 4 else NotImplemented
