"""Rows of operators that work element by element: of one tensor, of two, with a number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    FLOAT32,
    ROWS,
    Emitter,
    Row,
    cast,
    dtype_named,
    rows,
)

# ---- one tensor, element by element ----------------------------------------------------------------

PLAIN: Mapping[str, str] = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "abs": "Abs", "sign": "Sign", "negative": "Neg", "floor": "Floor", "ceil": "Ceil", "erf": "Erf",
    "reciprocal": "Reciprocal", "softsign": "Softsign", "sin": "Sin", "cos": "Cos", "tan": "Tan",
    "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh",
}  # fmt: skip
"""Operators that ONNX has under another name."""

Unary = Callable[[Emitter, Tensor], Tensor]


def named(name: str) -> Callable[..., Tensor]:
    return lambda g, *inputs: g.op(name, *inputs)


def _scaled(name: str, factor: float) -> Unary:
    return lambda g, x: g.Mul(g.op(name, x) if name else x, g.scalar(factor, x))


def _trunc(g: Emitter, x: Tensor) -> Tensor:
    return g.Mul(g.Sign(x), g.Floor(g.Abs(x)))


def _round(g: Emitter, x: Tensor) -> Tensor:
    """Halves away from zero (ONNX's Round takes them to the even)."""
    size = g.Abs(x)
    below = g.Floor(size)
    up = cast(g, g.GreaterOrEqual(g.Sub(size, below), g.scalar(0.5, x)), x.dtype)
    return g.Mul(g.Sign(x), g.Add(below, up))


def _rint(g: Emitter, x: Tensor) -> Tensor:
    """The nearer integer; MXNet takes the lower one of two that are as near."""
    below, above = g.Floor(x), g.Ceil(x)
    return g.Where(g.LessOrEqual(g.Sub(x, below), g.Sub(above, x)), below, above)


def _log1p(g: Emitter, x: Tensor) -> Tensor:
    """log(u) with u = 1 + x, and near zero what the rounding of u lost."""
    one = g.scalar(1, x)
    u = g.Add(x, one)
    plain = g.Log(u)
    exact = g.Sub(plain, g.Div(g.Sub(g.Sub(u, one), x), u))
    return g.Where(g.Less(g.Abs(x), g.scalar(0.5, x)), exact, plain)


def _expm1(g: Emitter, x: Tensor) -> Tensor:
    """exp(x) - 1 = tanh(x / 2) * (exp(x) + 1), exact near zero too."""
    return g.Mul(g.Tanh(g.Mul(x, g.scalar(0.5, x))), g.Add(g.Exp(x), g.scalar(1, x)))


def _cube_root(g: Emitter, x: Tensor) -> Tensor:
    return g.Mul(g.Sign(x), g.Pow(g.Abs(x), g.scalar(1 / 3, x)))


def _logical_not(g: Emitter, x: Tensor) -> Tensor:
    return cast(g, g.Not(cast(g, x, np.bool_)), x.dtype)


COMPOSED: Mapping[str, Unary] = {
    "square": lambda g, x: g.Mul(x, x),
    "rsqrt": lambda g, x: g.Reciprocal(g.Sqrt(x)),
    "log2": _scaled("Log", 1 / math.log(2)),
    "log10": _scaled("Log", 1 / math.log(10)),
    "degrees": _scaled("", 180 / math.pi),
    "radians": _scaled("", math.pi / 180),
    "trunc": _trunc,
    "fix": _trunc,
    "_contrib_round_ste": _round,
    "_contrib_sign_ste": lambda g, x: g.Sign(x),
    "round": _round,
    "rint": _rint,
    "log1p": _log1p,
    "expm1": _expm1,
    "cbrt": _cube_root,
    "rcbrt": lambda g, x: g.Reciprocal(_cube_root(g, x)),
    "logical_not": _logical_not,
    "_contrib_div_sqrt_dim": lambda g, x: g.Mul(x, g.scalar(1 / math.sqrt(x.size(-1)), x)),
}


UNARY: Mapping[str, Unary] = {**{name: named(onnx_name) for name, onnx_name in PLAIN.items()}, **COMPOSED}


def of_one(function: Unary) -> Row:
    return lambda g, _, x: function(g, x)


rows({name: of_one(function) for name, function in UNARY.items()})


@ROWS.row("_contrib_quadratic")
def quadratic(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """(a x + b) x + c."""
    first, second, third = (g.scalar(a.number(name, 0.0), x) for name in "abc")
    return g.Add(g.Mul(g.Add(g.Mul(x, first), second), x), third)


# ---- two tensors, element by element ---------------------------------------------------------------

Binary = Callable[[Emitter, Tensor, Tensor], Tensor]


def _mod(g: Emitter, x: Tensor, y: Tensor) -> Tensor:
    """The remainder with the sign of the divisor; 0 where the divisor is 0."""
    zero = g.scalar(0, x)
    rest = g.Mod(x, y, fmod=1)
    across = g.Less(g.Mul(g.Sign(rest), g.Sign(y)), zero)
    wrapped = g.Where(across, g.Add(rest, y), rest)
    if y.array is not None and np.all(y.array):
        return wrapped
    return g.Where(g.Equal(y, zero), zero, wrapped)


def _truth(function: Binary) -> Binary:
    """A comparison gives 0 and 1 in the dtype of what was compared."""
    return lambda g, x, y: cast(g, function(g, x, y), x.dtype)


def _logical(name: str) -> Binary:
    return lambda g, x, y: g.op(name, cast(g, x, np.bool_), cast(g, y, np.bool_))


RELATIONS: Mapping[str, Binary] = {
    "equal": lambda g, x, y: g.Equal(x, y),
    "not_equal": lambda g, x, y: g.Not(g.Equal(x, y)),
    "greater": lambda g, x, y: g.Greater(x, y),
    "greater_equal": lambda g, x, y: g.GreaterOrEqual(x, y),
    "lesser": lambda g, x, y: g.Less(x, y),
    "lesser_equal": lambda g, x, y: g.LessOrEqual(x, y),
    "logical_and": _logical("And"),
    "logical_or": _logical("Or"),
    "logical_xor": _logical("Xor"),
}
"""What is true of two tensors, as bools."""

FAMILIES: Mapping[str, tuple[Binary, str]] = {
    "add": (lambda g, x, y: g.Add(x, y), "elemwise_add broadcast_add _plus_scalar _scatter_plus_scalar"),
    "sub": (
        lambda g, x, y: g.Sub(x, y),
        "elemwise_sub broadcast_sub _minus_scalar _rminus_scalar _scatter_minus_scalar",
    ),
    "mul": (lambda g, x, y: g.Mul(x, y), "elemwise_mul broadcast_mul _mul_scalar"),
    "div": (
        lambda g, x, y: g.Div(x, y),
        "elemwise_div broadcast_div _div_scalar _rdiv_scalar _scatter_elemwise_div",
    ),
    "mod": (_mod, "_mod broadcast_mod _mod_scalar _rmod_scalar"),
    "power": (lambda g, x, y: g.Pow(x, y), "_power broadcast_power _power_scalar _rpower_scalar"),
    "maximum": (lambda g, x, y: g.Max(x, y), "_maximum broadcast_maximum _maximum_scalar"),
    "minimum": (lambda g, x, y: g.Min(x, y), "_minimum broadcast_minimum _minimum_scalar"),
    "hypot": (
        lambda g, x, y: g.Sqrt(g.Add(g.Mul(x, x), g.Mul(y, y))),
        "_hypot broadcast_hypot _hypot_scalar",
    ),
    **{
        name: (_truth(relation), f"_{name} broadcast_{name} _{name}_scalar")
        for name, relation in RELATIONS.items()
    },
}
"""What is computed, and MXNet's names for it: of two tensors, and with a number (``_r``: number first)."""


def _as_given(_g: Emitter, _a: Attrs, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


def _with_number(g: Emitter, a: Attrs, x: Tensor) -> tuple[Tensor, Tensor]:
    value = a.number("scalar", 1.0)
    if x.dtype.kind in "iu" and not value.is_integer():
        raise CannotConvert(f"the number {value} meets {x.dtype.name}", "Cast the tensor to float32 first")
    return x, g.scalar(int(value) if x.dtype.kind in "iu" else value, x)


def of_two(function: Binary, operands: Callable[..., tuple[Tensor, Tensor]], *, reverse: bool = False) -> Row:
    """A row of two operands, which ``operands`` makes of a node's attributes and inputs."""
    return lambda g, a, *inputs: function(g, *operands(g, a, *inputs)[:: -1 if reverse else 1])


rows(
    {
        name: of_two(
            function,
            _with_number if name.endswith("_scalar") else _as_given,
            reverse=name.startswith("_r"),
        )
        for function, names in FAMILIES.values()
        for name in names.split()
    }
)


POINTWISE = frozenset(
    [*UNARY, *(name for _, names in FAMILIES.values() for name in names.split())]
) | {"hard_sigmoid", "smooth_l1", "clip", "Cast", "amp_cast", "add_n"}  # fmt: skip
"""Operators whose result has the sizes of their inputs, broadcast."""


@ROWS.row("where")
def where(g: Emitter, a: Attrs, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The condition has the sizes of x, or is one number per row of it."""
    truth = cast(g, condition, np.bool_)
    if condition.rank == 1 and x.rank > 1:
        truth = g.Unsqueeze(truth, g.ints(*range(1, x.rank)))
    return g.Where(truth, x, y)


# ---- the same element -------------------------------------------------------------------------------


@ROWS.row("_contrib_gradientmultiplier", "cast_storage")
def as_it_is_in_inference(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    a.ignore("scalar", "stype")
    return x


@ROWS.row("amp_multicast")
def amp_multicast(g: Emitter, a: Attrs, *inputs: Tensor) -> list[Tensor]:
    """All inputs, halves and singles, in the wider or the narrower of the two."""
    if not {x.dtype for x in inputs} <= {FLOAT32, _FLOAT16}:
        raise CannotConvert("inputs other than float16 and float32")
    choose = min if a.flag("cast_narrow", False) else max
    dtype = choose((x.dtype for x in inputs), key=lambda dtype: dtype.itemsize, default=FLOAT32)
    return [cast(g, x, dtype) for x in inputs]


_FLOAT16 = np.dtype(np.float16)


rows(
    {
        "clip": lambda g, a, x: g.Clip(x, g.scalar(a.number("a_min"), x), g.scalar(a.number("a_max"), x)),
        "Cast amp_cast": lambda g, a, x: cast(g, x, dtype_named(a.string("dtype"))),
        "add_n": lambda g, _, *inputs: g.Add(*inputs) if len(inputs) == 2 else g.Sum(*inputs),
        "_copy _identity_with_attr_like_rhs IdentityAttachKLSparseReg": lambda _g, _, x, _like=None: x,
    }
)


# ---- special functions, which ONNX lacks: composed in float64, so that the result is float32's own ----------------

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


def log_gamma(g: Emitter, x: Tensor) -> Tensor:
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


rows({"gamma": of_one(_gamma), "gammaln": of_one(log_gamma), "erfinv": of_one(_inverse_erf)})
