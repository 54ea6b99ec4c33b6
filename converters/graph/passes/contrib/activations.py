"""Activations, and activations that another operator has swallowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.passes.contrib.table import opens
from netferry.converters.graph.passes.contrib.writer import Maybe, Value, Writer

FUSED: Mapping[str, tuple[str, ...]] = {
    "Celu": ("alpha",),
    "Clip": ("min", "max"),
    "Elu": ("alpha",),
    "Gelu": (),
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "Mish": (),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""Activations that stand in an attribute: their parameters, in the order in which a list holds them."""


def activated(
    g: Writer, name: str | None, x: Value, parameters: Mapping[str, Any] | Sequence[float]
) -> Value:
    """``x`` after the activation that an attribute names; parameters by name, or as a list in their order."""
    if not name:
        return x
    if name not in FUSED:
        raise CannotConvert(f"activation {name!r} is not one that netferry knows: {', '.join(FUSED)}")
    if not isinstance(parameters, Mapping):
        parameters = dict(zip(FUSED[name], parameters, strict=False))
    given = {key: value for key, value in parameters.items() if key in FUSED[name] and value is not None}
    if name == "Clip":
        bounds = (g.scalar(given[key], x) if key in given else None for key in FUSED[name])
        return g.Clip(x, *bounds)
    return g.ops(name, x, outputs=1, **given)[0]


@opens("Gelu")
def gelu(g: Writer, x: Value) -> Value:
    return g.Gelu(x)


@opens("FastGelu")
def fast_gelu(g: Writer, x: Value, bias: Maybe = None) -> Value:
    return g.Gelu(x if bias is None else g.Add(x, bias), approximate="tanh")


@opens("BiasGelu")
def bias_gelu(g: Writer, x: Value, bias: Value) -> Value:
    return g.Gelu(g.Add(x, bias))


@opens("QuickGelu")
def quick_gelu(g: Writer, x: Value, *, alpha: float = 1.702) -> Value:
    return g.Swish(x, alpha=alpha)


@opens("BiasSplitGelu")
def bias_split_gelu(g: Writer, x: Value, bias: Value) -> Value:
    """The first half of the last axis times Gelu of the second, after the bias."""
    half = g.known(bias, -1, "the size of its bias") // 2
    left, right = g.split(g.Add(x, bias), -1, half, half)
    return g.Mul(left, g.Gelu(right))


@opens("BiasAdd")
def bias_add(g: Writer, x: Value, bias: Value, skip: Value) -> Value:
    return g.Add(g.Add(x, bias), skip)


@opens("BiasSoftmax")
def bias_softmax(g: Writer, x: Value, bias: Value, *, is_inner_broadcast: int, axis: int = 1) -> Value:
    """Softmax over all axes from ``axis`` on; the bias repeats along the inner or the outer ones of those before."""
    rank, missing = g.rank(x), g.rank(x) - g.rank(bias)
    if axis % rank != rank - 1:
        raise CannotConvert(f"axis {axis}: netferry supports only the last")
    if not is_inner_broadcast and missing > 0:
        bias = g.unsqueeze(bias, *range(1, 1 + missing))
    return g.Softmax(g.Add(x, bias), axis=-1)


def summed(g: Writer, *parts: Maybe) -> Value:
    """The sum of the parts that are there."""
    there = [part for part in parts if part is not None]
    total = there[0]
    for part in there[1:]:
        total = g.Add(total, part)
    return total


def half_as_single(g: Writer, x: Value) -> Value:
    return g.as_dtype(x, np.float32) if g.dtype(x).itemsize == 2 else x
