"""Rows of ``random_pdf_*``: densities of distributions at given points. What draws is refused; this draws nothing.

The parameters' axes are the first of the points': a parameter stands for all that lies behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.elementwise import log_gamma
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, rows

Log = Callable[..., Tensor]


def _behind(g: Emitter, parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter with an axis of 1 for each that the points have besides its own."""
    added = range(parameter.rank, x.rank)
    return g.Unsqueeze(parameter, g.ints(*added)) if added else parameter


def _one(g: Emitter, x: Tensor) -> Tensor:
    return g.scalar(1, x)


def _uniform(g: Emitter, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """-log(high - low), wherever the point lies."""
    return g.Add(g.Mul(x, g.scalar(0, x)), g.Neg(g.Log(g.Sub(high, low))))


def _normal(g: Emitter, x: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    z = g.Div(g.Sub(x, mean), deviation)
    exponent = g.Mul(g.Mul(z, z), g.scalar(-0.5, x))
    return g.Sub(exponent, g.Log(g.Mul(deviation, g.scalar(math.sqrt(2 * math.pi), x))))


def _exponential(g: Emitter, x: Tensor, rate: Tensor) -> Tensor:
    return g.Sub(g.Log(rate), g.Mul(rate, x))


def _gamma(g: Emitter, x: Tensor, shape: Tensor, rate: Tensor) -> Tensor:
    power = g.Mul(g.Sub(shape, _one(g, x)), g.Log(x))
    return g.Sub(g.Sub(g.Add(g.Mul(shape, g.Log(rate)), power), g.Mul(rate, x)), log_gamma(g, shape))


def _poisson(g: Emitter, x: Tensor, rate: Tensor) -> Tensor:
    return g.Sub(g.Sub(g.Mul(x, g.Log(rate)), log_gamma(g, g.Add(x, _one(g, x)))), rate)


def _negative_binomial(g: Emitter, x: Tensor, failures: Tensor, chance: Tensor) -> Tensor:
    ways = g.Sub(log_gamma(g, g.Add(x, failures)), log_gamma(g, g.Add(x, _one(g, x))))
    ways = g.Sub(ways, log_gamma(g, failures))
    other = g.Log(g.Sub(_one(g, x), chance))
    return g.Add(g.Add(ways, g.Mul(failures, g.Log(chance))), g.Mul(x, other))


def _generalized(g: Emitter, x: Tensor, mean: Tensor, dispersion: Tensor) -> Tensor:
    """A negative binomial distribution by its mean and its dispersion."""
    chance = g.Div(_one(g, x), g.Add(g.Mul(mean, dispersion), _one(g, x)))
    return _negative_binomial(g, x, g.Div(_one(g, x), dispersion), chance)


def _row(log: Log) -> Callable[..., Tensor]:
    def row(g: Emitter, a: Attrs, x: Tensor, *parameters: Tensor) -> Tensor:
        value = log(g, x, *(_behind(g, parameter, x) for parameter in parameters))
        return value if a.flag("is_log", False) else g.Exp(value)

    return row


@ROWS.row("_random_pdf_dirichlet")
def dirichlet(g: Emitter, a: Attrs, x: Tensor, shape: Tensor) -> Tensor:
    """x: (..., points, parts), shape: (..., parts); one number for each point."""
    missing = range(shape.rank - 1, x.rank - 1)
    shape = g.Unsqueeze(shape, g.ints(*missing)) if missing else shape
    last = g.ints(-1)
    power = g.ReduceSum(g.Mul(g.Sub(shape, _one(g, x)), g.Log(x)), last, keepdims=0)
    whole = log_gamma(g, g.ReduceSum(shape, last, keepdims=0))
    value = g.Add(power, g.Sub(whole, g.ReduceSum(log_gamma(g, shape), last, keepdims=0)))
    return value if a.flag("is_log", False) else g.Exp(value)


_LOGS: dict[str, Log] = {
    "uniform": _uniform,
    "normal": _normal,
    "exponential": _exponential,
    "gamma": _gamma,
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
    "generalized_negative_binomial": _generalized,
}

rows({f"_random_pdf_{name}": _row(log) for name, log in _LOGS.items()})
