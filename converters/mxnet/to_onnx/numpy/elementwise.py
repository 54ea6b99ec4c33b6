"""Rows of MXNet's numpy interface: ``_np_*``, ``_npi_*`` and ``_npx_*``, as blocks under ``npx.set_np`` write them.

Unlike the older operators they know tensors without axes, give bools for comparisons, let integers meet
floats, and count 0 as a size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.elementwise import (
    FAMILIES,
    RELATIONS,
    UNARY,
    Binary,
    Unary,
    named,
    of_one,
    of_two,
)
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, Row, cast, rows

# ---- one tensor ------------------------------------------------------------------------------------

_UNARY = {
    **{name: name for name in (
        "arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees exp expm1 fix floor log log10"
        " log1p log2 negative radians reciprocal rint sign sin sinh sqrt square tan tanh trunc"
    ).split()},
    "absolute": "abs",
}  # fmt: skip
"""numpy's name and the older operator that computes the same."""

_KEEPS_INTEGERS = frozenset({"absolute", "negative", "sign", "square"})


def as_float(g: Emitter, x: Tensor) -> Tensor:
    return x if x.dtype.kind == "f" else cast(g, x, FLOAT32)


def _is_finite(g: Emitter, x: Tensor) -> Tensor:
    return g.Not(g.Or(g.IsNaN(x), g.IsInf(x)))


TESTS: Mapping[str, Unary] = {
    "isnan": lambda g, x: g.IsNaN(x),
    "isinf": lambda g, x: g.IsInf(x),
    "isfinite": _is_finite,
    "isposinf": lambda g, x: g.IsInf(x, detect_negative=0),
    "isneginf": lambda g, x: g.IsInf(x, detect_positive=0),
    "logical_not": lambda g, x: g.Not(cast(g, x, np.bool_)),
}
"""What is true of one tensor, as bools."""


def _of_floats(name: str, function: Unary) -> Row:
    def row(g: Emitter, _: Attrs, x: Tensor) -> Tensor:
        if x.dtype.kind != "f" and name not in _KEEPS_INTEGERS:
            raise CannotConvert(f"{name} of {x.dtype.name}", "Cast it to float32 first")
        return function(g, x)

    return row


rows(
    {
        **{f"_npi_{name}": _of_floats(name, UNARY[older]) for name, older in _UNARY.items()},
        **{f"_npi_{name}": of_one(function) for name, function in TESTS.items()},
        "_npx_relu": of_one(named("Relu")),
        "_npx_sigmoid": of_one(named("Sigmoid")),
    }
)


@ROWS.row("_npi_around")
def around(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Halves to the even, at a number of decimals."""
    decimals = a.integer("decimals", 0)
    if not decimals:
        return g.Round(x)
    scale = g.scalar(10.0**decimals, x)
    return g.Div(g.Round(g.Mul(x, scale)), scale)


@ROWS.row("_npi_nan_to_num")
def nan_to_num(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    a.ignore("copy")
    most = float(np.finfo(x.dtype).max)
    ends = (
        most if high is None else high
        for high in (a.maybe_number("posinf"), _negated(a.maybe_number("neginf")))
    )
    high, low = ends
    x = g.Where(g.IsNaN(x), g.scalar(a.number("nan", 0.0), x), x)
    x = g.Where(g.IsInf(x, detect_negative=0), g.scalar(high, x), x)
    return g.Where(g.IsInf(x, detect_positive=0), g.scalar(-low, x), x)


def _negated(value: float | None) -> float | None:
    return None if value is None else -value


# ---- two tensors, and a tensor with a number ---------------------------------------------------------


def alike(g: Emitter, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of one dtype: integers and bools that meet floats become floats, the wider one wins."""
    if x.dtype == y.dtype:
        return x, y
    floats = [each.dtype for each in (x, y) if each.dtype.kind == "f"]
    if not floats and "b" not in (x.dtype.kind, y.dtype.kind):
        raise CannotConvert(f"{x.dtype.name} meets {y.dtype.name}", "Cast one of them first")
    wider = max(floats or [x.dtype, y.dtype], key=lambda dtype: dtype.itemsize)
    return cast(g, x, wider), cast(g, y, wider)


def _copysign(g: Emitter, x: Tensor, y: Tensor) -> Tensor:
    """|x| with the sign of y; that of a zero shows in its reciprocal."""
    zero = g.scalar(0, y)
    size = g.Abs(x)
    return g.Where(g.Or(g.Less(y, zero), g.Less(g.Reciprocal(y), zero)), g.Neg(size), size)


def _arctan2(g: Emitter, y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y): that of the half plane x > 0, rotated by half a circle where x < 0."""
    zero, half = g.scalar(0, x), g.scalar(math.pi, x)
    plain = g.Atan(g.Div(y, x))
    still = g.Where(g.And(g.Equal(x, zero), g.Equal(y, zero)), zero, plain)
    return g.Where(g.Less(x, zero), g.Add(still, _copysign(g, half, y)), still)


def _bitwise(name: str) -> Binary:
    def row(g: Emitter, x: Tensor, y: Tensor) -> Tensor:
        if x.dtype.kind == "f":
            raise CannotConvert(f"the bits of {x.dtype.name}")
        return g.op(name if x.dtype.kind == "b" else f"Bitwise{name}", x, y)

    return row


BINARY: Mapping[str, Binary] = {
    "add": FAMILIES["add"][0], "subtract": FAMILIES["sub"][0], "multiply": FAMILIES["mul"][0],
    "true_divide": lambda g, x, y: g.Div(as_float(g, x), as_float(g, y)), "mod": FAMILIES["mod"][0], "power": FAMILIES["power"][0],
    "hypot": FAMILIES["hypot"][0], "copysign": _copysign, "arctan2": _arctan2,
    "ldexp": lambda g, x, y: g.Mul(x, g.Pow(g.scalar(2, x), y)),
    "bitwise_and": _bitwise("And"), "bitwise_or": _bitwise("Or"), "bitwise_xor": _bitwise("Xor"),
    "equal": RELATIONS["equal"], "not_equal": RELATIONS["not_equal"], "greater": RELATIONS["greater"],
    "greater_equal": RELATIONS["greater_equal"], "less": RELATIONS["lesser"],
    "less_equal": RELATIONS["lesser_equal"],
}  # fmt: skip

_REVERSED = {"rsubtract": "subtract", "rtrue_divide": "true_divide", "rmod": "mod", "rpower": "power",
             "rcopysign": "copysign", "rarctan2": "arctan2", "rldexp": "ldexp"}  # fmt: skip
"""With a number first."""


def _with_number(g: Emitter, a: Attrs, x: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """A tensor and a number; integers that meet a fraction become float64, and float32 where they are divided."""
    value = a.number("scalar", 1.0)
    a.ignore("is_int")
    if name == "true_divide":
        x = as_float(g, x)
    if name.startswith("bitwise") and x.dtype.kind in "iu":
        value = float(int(value))
    if x.dtype.kind != "f" and not value.is_integer():
        x = cast(g, x, np.float64)
    return x, g.scalar(int(value) if x.dtype.kind in "iu" else value, x)


def _alike_operands(g: Emitter, _: Attrs, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return alike(g, x, y)


rows({f"_npi_{name}": of_two(function, _alike_operands) for name, function in BINARY.items()})
rows(
    {
        f"_npi_{name}_scalar": of_two(function, partial(_with_number, name=name))
        for name, function in BINARY.items()
        if name != "hypot"
    }
)
rows(
    {
        f"_npi_{name}_scalar": of_two(BINARY[plain], partial(_with_number, name=plain), reverse=True)
        for name, plain in _REVERSED.items()
    }
)


rows(
    {
        "_npi_bitwise_not": lambda g, _, x: g.Not(x) if x.dtype.kind == "b" else g.BitwiseNot(x),
        "_npi_where": lambda g, _, condition, x, y: g.Where(cast(g, condition, np.bool_), *alike(g, x, y)),
        # The number where the condition holds.
        "_npi_where_lscalar": lambda g, a, condition, x: g.Where(
            cast(g, condition, np.bool_), g.scalar(a.number("scalar"), x), x
        ),
        "_npi_where_rscalar": lambda g, a, condition, x: g.Where(
            cast(g, condition, np.bool_), x, g.scalar(a.number("scalar"), x)
        ),
        "_npi_where_scalar2": lambda g, a, condition: g.Where(
            cast(g, condition, np.bool_), *(g.constant(a.number(name), FLOAT32) for name in "xy")
        ),
    }
)
