"""Rows of special functions, which ONNX lacks: composed in float64, so that the result is float32's own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.to_onnx.elementwise import of_one
from netferry.converters.mxnet.to_onnx.emitter import Emitter, cast, rows

_LANCZOS = (
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
)  # fmt: skip
"""Lanczos' series for g = 7 (Godfrey 2001): good to 1e-15."""

_CENTRAL = (
    (-3.969683028665376e1, 2.209460984245205e2, -2.759285104469687e2, 1.383577518672690e2, -3.066479806614716e1,
     2.506628277459239),
    (-5.447609879822406e1, 1.615858368580409e2, -1.556989798598866e2, 6.680131188771972e1, -1.328068155288572e1, 1.0),
)  # fmt: skip
_TAIL = (
    (-7.784894002430293e-3, -3.223964580411365e-1, -2.400758277161838, -2.549732539343734, 4.374664141464968,
     2.938163982698783),
    (7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0),
)  # fmt: skip
_LOW = 0.02425
"""Acklam's rational functions for the normal distribution's quantiles: good to 1.2e-9. Below this share, the tail's."""


def _wide(g: Emitter, x: Tensor) -> Tensor:
    return cast(g, x, np.float64)


def _polynomial(g: Emitter, factors: Sequence[float], x: Tensor) -> Tensor:
    """By Horner's rule, the highest power first."""
    y = g.scalar(factors[0], x)
    for factor in factors[1:]:
        y = g.Add(g.Mul(y, x), g.scalar(factor, x))
    return y


def _log_gamma_above_half(g: Emitter, x: Tensor) -> Tensor:
    """log(gamma(x)) for x of 0.5 and more."""
    z = g.Sub(x, g.scalar(1, x))
    series = g.scalar(_LANCZOS[0], x)
    for k, factor in enumerate(_LANCZOS[1:], 1):
        series = g.Add(series, g.Div(g.scalar(factor, x), g.Add(z, g.scalar(k, x))))
    t = g.Add(z, g.scalar(7.5, x))
    power = g.Sub(g.Mul(g.Add(z, g.scalar(0.5, x)), g.Log(t)), t)
    return g.Add(g.Add(power, g.Log(series)), g.scalar(0.5 * math.log(2 * math.pi), x))


def _parts(g: Emitter, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether x lies below 0.5, log(gamma) of it or of its mirror image 1 - x, and sin(pi x), exact near whole numbers."""
    below = g.Less(x, g.scalar(0.5, x))
    mirrored = g.Where(below, g.Sub(g.scalar(1, x), x), x)
    whole = g.Round(x)
    odd = g.Mod(whole, g.scalar(2, x), fmod=1)
    sign = g.Sub(g.scalar(1, x), g.Mul(g.scalar(2, x), g.Abs(odd)))
    sine = g.Mul(sign, g.Sin(g.Mul(g.Sub(x, whole), g.scalar(math.pi, x))))
    return below, _log_gamma_above_half(g, mirrored), sine


def _gamma_log(g: Emitter, x: Tensor) -> Tensor:
    below, log, sine = _parts(g, wide := _wide(g, x))
    reflected = g.Sub(g.Sub(g.scalar(math.log(math.pi), wide), g.Log(g.Abs(sine))), log)
    return cast(g, g.Where(below, reflected, log), x.dtype)


def _gamma(g: Emitter, x: Tensor) -> Tensor:
    below, log, sine = _parts(g, wide := _wide(g, x))
    value = g.Exp(log)
    return cast(g, g.Where(below, g.Div(g.scalar(math.pi, wide), g.Mul(sine, value)), value), x.dtype)


def _inverse_erf(g: Emitter, x: Tensor) -> Tensor:
    """The normal distribution's quantile at (x + 1) / 2, over the root of 2."""
    wide = _wide(g, x)
    half = g.Mul(wide, g.scalar(0.5, wide))
    square = g.Mul(half, half)
    middle = g.Mul(half, g.Div(_polynomial(g, _CENTRAL[0], square), _polynomial(g, _CENTRAL[1], square)))
    share = g.Mul(g.Sub(g.scalar(1, wide), g.Abs(wide)), g.scalar(0.5, wide))
    t = g.Sqrt(g.Mul(g.Log(share), g.scalar(-2, wide)))
    far = g.Neg(g.Div(_polynomial(g, _TAIL[0], t), _polynomial(g, _TAIL[1], t)))
    far = g.Where(g.Equal(share, g.scalar(0, wide)), g.scalar(math.inf, wide), far)
    found = g.Where(g.Less(share, g.scalar(_LOW, wide)), g.Mul(g.Sign(wide), far), middle)
    return cast(g, g.Mul(found, g.scalar(1 / math.sqrt(2), wide)), x.dtype)


rows({"gamma": of_one(_gamma), "gammaln": of_one(_gamma_log), "erfinv": of_one(_inverse_erf)})
