"""Functions that are decomposed into others: arithmetic, element by element."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed


def _as_float(input: Tensor) -> Tensor:
    return input if input.dtype.is_floating_point else input.to(torch.get_default_dtype())


def _scaled(by: float, input: Tensor) -> Tensor:
    return _as_float(input) * by


decomposed("deg2rad")(partial(_scaled, math.pi / 180))
decomposed("rad2deg")(partial(_scaled, 180 / math.pi))


@decomposed("positive", "real", "conj", "conj_physical", "resolve_conj", "resolve_neg")
def _same(input: Tensor) -> Tensor:
    """Of what is real."""
    return input


@decomposed("angle")
def _angle(input: Tensor) -> Tensor:
    """Of what is real: a half turn below zero."""
    x = _as_float(input)
    return torch.where(x.isnan(), x, torch.where(x < 0, math.pi, 0.0))


@decomposed("frac")
def _frac(input: Tensor) -> Tensor:
    return input - input.trunc()


@decomposed("logit")
def _logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)) of x kept ``eps`` away from 0 and 1."""
    x = _as_float(input)
    x = x if eps is None else x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))


@decomposed("entr")
def _entr(input: Tensor) -> Tensor:
    """-x log(x), 0 at 0 and minus infinity below."""
    x = _as_float(input)
    inside = torch.where(x > 0, x, 1.0)
    return torch.where(x < 0, -math.inf, torch.where(x.isnan(), x, -inside * inside.log()))


@decomposed("ndtr")
def _ndtr(input: Tensor) -> Tensor:
    """The normal distribution's share below x; by erfc on the left, where 1 + erf would lose its digits."""
    x = _as_float(input) * math.sqrt(0.5)
    return torch.where(x < 1, 0.5 * torch.erfc(-x), 0.5 + 0.5 * torch.erf(x))


@decomposed("sinc")
def _sinc(input: Tensor) -> Tensor:
    x = _as_float(input) * math.pi
    apart = torch.where(x == 0, 1.0, x)
    return torch.where(x == 0, 1.0, apart.sin() / apart)


def _times_log(shift: bool, input: Any, other: Any) -> Tensor:
    """x log(y), or x log(1 + y); 0 where x is 0, whatever y is but no number."""
    y = other if isinstance(other, Tensor) else torch.tensor(float(other))
    logs = torch.log1p(y) if shift else torch.log(y)
    x = input if isinstance(input, Tensor) else torch.tensor(float(input))
    return torch.where(y.isnan(), y, torch.where(x == 0, 0.0, x * logs))


decomposed("xlogy")(partial(_times_log, False))
decomposed("xlog1py")(partial(_times_log, True))


@decomposed("signbit")
def _signbit(input: Tensor) -> Tensor:
    """Whether it is below zero, or the zero that is."""
    if not input.dtype.is_floating_point:
        return input < 0
    return (input < 0) | ((input == 0) & (1 / input < 0))


@decomposed("copysign")
def _copysign(input: Tensor, other: Any) -> Tensor:
    size = _as_float(input).abs()
    if not isinstance(other, Tensor):
        return -size if math.copysign(1, other) < 0 else size
    return torch.where(_signbit(other), -size, size)


@decomposed("atan2", "arctan2")
def _atan2(input: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, input), by the arc tangent of its smaller side over its larger one."""
    y, x = _as_float(input), _as_float(other)
    high, wide = y.abs(), x.abs()
    steep = high > wide
    larger = torch.where(steep, high, wide)
    share = torch.where(steep, wide, high) / torch.where(larger == 0, 1.0, larger)
    share = torch.where(high.isinf() & wide.isinf(), 1.0, share)
    angle = share.atan()
    angle = torch.where(steep, math.pi / 2 - angle, angle)
    return _copysign(torch.where(_signbit(x), math.pi - angle, angle), y)


@decomposed("isneginf")
def _isneginf(input: Tensor) -> Tensor:
    return input == -math.inf


@decomposed("isposinf")
def _isposinf(input: Tensor) -> Tensor:
    return input == math.inf


@decomposed("isreal")
def _isreal(input: Tensor) -> Tensor:
    return torch.ones_like(input, dtype=torch.bool)


@decomposed("heaviside")
def _heaviside(input: Tensor, values: Tensor) -> Tensor:
    steps = torch.where(input > 0, 1, torch.where(input == 0, values, 0)).to(input.dtype)
    return torch.where(input.isnan(), input, steps) if input.dtype.is_floating_point else steps


@decomposed("isclose")
def _isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    near = (input - other).abs() <= atol + rtol * other.abs()
    found = (input == other) | (near & other.isfinite())
    return found | (input.isnan() & other.isnan()) if equal_nan else found


@decomposed("isin")
def _isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:  # fmt: skip
    among = test_elements if isinstance(test_elements, Tensor) else torch.tensor([test_elements])
    x = elements if isinstance(elements, Tensor) else torch.tensor(elements)
    found = (x.unsqueeze(-1) == among.flatten()).any(-1)
    return found.logical_not() if invert else found


@decomposed("logaddexp2")
def _logaddexp2(input: Tensor, other: Tensor) -> Tensor:
    highest, apart = torch.maximum(input, other), (input - other).abs()
    return torch.where(apart == 0, highest + 1, highest + torch.log1p(torch.exp2(-apart)) / math.log(2))


@decomposed("ldexp")
def _ldexp(input: Tensor, other: Tensor) -> Tensor:
    x: Tensor = _as_float(input) * torch.exp2(_as_float(other))
    return x


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    """The highest power's coefficient first."""
    found = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        found = found * x + coefficient
    return found


@decomposed("erfinv")
def _erfinv(input: Tensor) -> Tensor:
    """M. Giles' approximation (2010), and two of Newton's steps."""
    x = _as_float(input)
    w = -torch.log((1 - x) * (1 + x))
    middle = _polynomial(
        w - 2.5, [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941]
    )  # fmt: skip
    tail = _polynomial(
        w.clamp(min=5).sqrt() - 3, [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682]
    )  # fmt: skip
    y = torch.where(w < 5, middle, tail) * x
    for _ in range(2):
        step = (torch.erf(y) - x) * (math.sqrt(math.pi) / 2) * torch.exp(y * y)
        y = torch.where(x.abs() < 0.99, y - step, y)
    return torch.where(x.abs() == 1, x * math.inf, y)


_LANCZOS = [
    676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
]  # fmt: skip
"""C. Lanczos' coefficients for g = 7."""


@decomposed("lgamma", "gammaln")
def _lgamma(input: Tensor) -> Tensor:
    """Lanczos' sum, of 1 - x where x is below a half (Euler's reflection)."""
    x = _as_float(input)
    left = x < 0.5
    z = torch.where(left, 1 - x, x) - 1
    total = torch.full_like(z, 0.99999999999980993)
    for position, coefficient in enumerate(_LANCZOS, 1):
        total = total + coefficient / (z + position)
    t = z + 7.5
    found = 0.5 * math.log(2 * math.pi) + (z + 0.5) * t.log() - t + total.log()
    reflected = math.log(math.pi) - torch.sin(math.pi * (x - x.floor())).abs().log() - found
    return torch.where(left, reflected, found)


@decomposed("digamma", "psi")
def _digamma(input: Tensor) -> Tensor:
    """Six steps up, then the asymptotic series; of 1 - x where x is below zero."""
    x = _as_float(input)
    left = x < 0
    z = torch.where(left, 1 - x, x)
    steps = 1 / z
    for step in range(1, 6):
        steps = steps + 1 / (z + step)
    t = z + 6
    square = 1 / (t * t)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    found = t.log() - 0.5 / t - series - steps
    turn = x - x.floor()
    return torch.where(left, found - math.pi / torch.tan(math.pi * turn), found)


@decomposed("lshift", "bitwise_left_shift")
def _left_shift(input: Any, other: Any) -> Any:
    return input * 2**other


@decomposed("rshift", "bitwise_right_shift")
def _right_shift(input: Any, other: Any) -> Any:
    """Rounded down, as the sign stays in front."""
    return input // 2**other
