"""Rows of MXNet's numpy interface: ``_np_*``, ``_npi_*`` and ``_npx_*``, as blocks under ``npx.set_np`` write them.

Unlike the older operators they know tensors without axes, give bools for comparisons, let integers meet
floats, and count 0 as a size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.symbol import Attrs
from netferry.converters.mxnet.to_onnx.elementwise import COMPOSED, FAMILIES, PLAIN, RELATIONS, Binary, Unary
from netferry.converters.mxnet.to_onnx.emitter import (
    FLOAT32,
    ROWS,
    Emitter,
    cast,
    cut,
    dtype_named,
    few,
    positive,
    reshape,
    size_of,
)

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


def _float(g: Emitter, x: Tensor) -> Tensor:
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


def _register_unary() -> None:
    def math_row(name: str, function: Unary) -> Callable[..., Tensor]:
        def checked(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
            if x.dtype.kind != "f" and name not in _KEEPS_INTEGERS:
                raise CannotConvert(f"{name} of {x.dtype.name}", "Cast it to float32 first")
            return function(g, x)

        return checked

    def row(function: Unary) -> Callable[..., Tensor]:
        return lambda g, _, x: function(g, x)

    for name, older in _UNARY.items():
        onnx_name = PLAIN.get(older)
        function = COMPOSED[older] if onnx_name is None else _named(onnx_name)
        ROWS.row(f"_npi_{name}")(math_row(name, function))
    for name, function in TESTS.items():
        ROWS.row(f"_npi_{name}")(row(function))
    ROWS.row("_npx_relu")(row(_named("Relu")))
    ROWS.row("_npx_sigmoid")(row(_named("Sigmoid")))


def _named(name: str) -> Unary:
    return lambda g, x: g.op(name, x)


_register_unary()


@ROWS.row("_npi_bitwise_not")
def bitwise_not(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Not(x) if x.dtype.kind == "b" else g.BitwiseNot(x)


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


def _alike(g: Emitter, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
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
    """The angle of (x, y): that of the half plane x > 0, turned by half a circle where x < 0."""
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
    "true_divide": lambda g, x, y: g.Div(_float(g, x), _float(g, y)), "mod": FAMILIES["mod"][0], "power": FAMILIES["power"][0],
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
        x = _float(g, x)
    if x.dtype.kind != "f" and not value.is_integer():
        x = cast(g, x, np.float64)
    return x, g.scalar(int(value) if x.dtype.kind in "iu" else value, x)


def _register_binary() -> None:
    def of_two(function: Binary) -> Callable[..., Tensor]:
        return lambda g, _, x, y: function(g, *_alike(g, x, y))

    def with_number(function: Binary, name: str) -> Callable[..., Tensor]:
        return lambda g, a, x: function(g, *_with_number(g, a, x, name))

    def number_first(function: Binary, name: str) -> Callable[..., Tensor]:
        return lambda g, a, x: function(g, *reversed(_with_number(g, a, x, name)))

    for name, function in BINARY.items():
        ROWS.row(f"_npi_{name}")(of_two(function))
        if name != "hypot":
            ROWS.row(f"_npi_{name}_scalar")(with_number(function, name))
    for name, plain in _REVERSED.items():
        ROWS.row(f"_npi_{name}_scalar")(number_first(BINARY[plain], plain))


_register_binary()


@ROWS.row("_npi_where")
def where(g: Emitter, a: Attrs, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return g.Where(cast(g, condition, np.bool_), *_alike(g, x, y))


@ROWS.row("_npi_where_lscalar")
def where_else_tensor(g: Emitter, a: Attrs, condition: Tensor, x: Tensor) -> Tensor:
    """The number where the condition holds."""
    return g.Where(cast(g, condition, np.bool_), g.scalar(a.number("scalar"), x), x)


@ROWS.row("_npi_where_rscalar")
def where_else_number(g: Emitter, a: Attrs, condition: Tensor, x: Tensor) -> Tensor:
    return g.Where(cast(g, condition, np.bool_), x, g.scalar(a.number("scalar"), x))


@ROWS.row("_npi_where_scalar2")
def where_numbers(g: Emitter, a: Attrs, condition: Tensor) -> Tensor:
    x, y = (g.constant(a.number(name), FLOAT32) for name in "xy")
    return g.Where(cast(g, condition, np.bool_), x, y)


# ---- reductions --------------------------------------------------------------------------------------


def named_axes(a: Attrs, rank: int) -> list[int]:
    named = a.maybe_integers("axis")
    return list(range(rank)) if named is None else sorted(positive(axis, rank) for axis in named)


def _as_dtype(g: Emitter, a: Attrs, x: Tensor, *, counts: bool) -> Tensor:
    """What a sum or a mean adds up in: ``dtype``, else int64 for a sum of bools, float32 for a mean."""
    word = a.maybe_word("dtype")
    if word is not None:
        return cast(g, x, dtype_named(word))
    if counts:
        return cast(g, x, np.int64) if x.dtype.kind == "b" else x
    return _float(g, x)


_INITIAL: Mapping[str, tuple[str, Binary]] = {
    "ReduceSum": ("_np_sum", FAMILIES["add"][0]),
    "ReduceProd": ("_np_prod", FAMILIES["mul"][0]),
    "ReduceMax": ("_np_max", FAMILIES["maximum"][0]),
    "ReduceMin": ("_np_min", FAMILIES["minimum"][0]),
}
"""Reductions, and how the initial value joins them."""


def _register_reductions() -> None:
    def row(name: str, join: Binary) -> Callable[..., Tensor]:
        def reduced(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
            if name in ("ReduceSum", "ReduceProd"):
                x = _as_dtype(g, a, x, counts=True)
            y = g.op(name, x, g.ints(*named_axes(a, x.rank)), keepdims=a.flag("keepdims", False))
            initial = a.maybe_number("initial")
            return y if initial is None else join(g, y, g.scalar(initial, y))

        return reduced

    for name, (numpy_name, join) in _INITIAL.items():
        ROWS.row(numpy_name)(row(name, join))
    for numpy_name, name in {"_np_all": "ReduceMin", "_np_any": "ReduceMax"}.items():
        ROWS.row(numpy_name)(_every(name))


def _every(name: str) -> Callable[..., Tensor]:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        truth = cast(g, cast(g, x, np.bool_), np.uint8)
        found = g.op(name, truth, g.ints(*named_axes(a, x.rank)), keepdims=a.flag("keepdims", False))
        return cast(g, found, np.bool_)

    return row


_register_reductions()


@ROWS.row("_npi_mean")
def mean(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    x = _as_dtype(g, a, x, counts=False)
    if a.maybe_number("initial") is not None:
        raise CannotConvert("an initial value of a mean")
    return g.ReduceMean(x, g.ints(*named_axes(a, x.rank)), keepdims=a.flag("keepdims", False))


def _variance(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The mean of squared distances from the mean, over n - ddof."""
    x = _as_dtype(g, a, x, counts=False)
    axes, ddof = g.ints(*named_axes(a, x.rank)), a.integer("ddof", 0)
    centred = g.Sub(x, g.ReduceMean(x, axes, keepdims=1))
    mean = g.ReduceMean(g.Mul(centred, centred), axes, keepdims=a.flag("keepdims", False))
    if not ddof:
        return mean
    count = size_of(x, *named_axes(a, x.rank))
    if not isinstance(count, int):
        raise CannotConvert("ddof over an axis whose size is not known")
    return g.Mul(mean, g.scalar(count / (count - ddof), x))


@ROWS.row("_npi_var")
def variance(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _variance(g, a, x)


@ROWS.row("_npi_std")
def deviation(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.Sqrt(_variance(g, a, x))


@ROWS.row("_npi_average")
def average(g: Emitter, a: Attrs, x: Tensor, weights: Tensor | None = None) -> Tensor | list[Tensor]:
    """With weights of the size of x, or one for each place of the one axis."""
    axes = named_axes(a, x.rank)
    if a.flag("returned", False):
        raise CannotConvert("returned: the sum of the weights too")
    if not a.flag("weighted", True) or weights is None:
        return g.ReduceMean(x, g.ints(*axes), keepdims=0)
    if weights.rank < x.rank:
        weights = reshape(g, weights, [-1 if axis == axes[0] else 1 for axis in range(x.rank)])
    total = g.ReduceSum(weights, g.ints(*axes), keepdims=0)
    return g.Div(g.ReduceSum(g.Mul(x, weights), g.ints(*axes), keepdims=0), total)


def _arg(name: str) -> Callable[..., Tensor]:
    def row(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
        axis, keep = a.maybe_integer("axis"), a.flag("keepdims", False)
        if axis is not None:
            return g.op(name, x, axis=positive(axis, x.rank), keepdims=keep)
        found = g.op(name, reshape(g, x, [-1]), axis=0, keepdims=0)
        return g.Reshape(found, g.ints(*[1] * x.rank)) if keep else found

    return row


ROWS.row("_npi_argmax")(_arg("ArgMax"))
ROWS.row("_npi_argmin")(_arg("ArgMin"))


@ROWS.row("_np_cumsum")
def cumsum(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axis, word = a.maybe_integer("axis"), a.maybe_word("dtype")
    if word is not None:
        x = cast(g, x, dtype_named(word))
    if axis is None:
        x, axis = reshape(g, x, [-1]), 0
    return g.CumSum(x, g.constant(positive(axis, x.rank), np.int64))


@ROWS.row("_npi_diff")
def diff(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    axis = positive(a.integer("axis", -1), x.rank)
    for _ in range(few(a.integer("n", 1))):
        x = g.Sub(cut(g, x, [axis], [1], [None]), cut(g, x, [axis], [0], [-1]))
    return x


# ---- products ----------------------------------------------------------------------------------------


@ROWS.row("_npi_matmul")
def matmul(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return g.MatMul(*_alike(g, x, y))


@ROWS.row("_np_dot")
def dot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The last axis of x with the last but one of y, all other axes kept."""
    x, y = _alike(g, x, y)
    if x.rank == 0 or y.rank == 0:
        return g.Mul(x, y)
    return g.MatMul(x, y) if y.rank <= 2 else _contracted(g, x, y, [x.rank - 1], [y.rank - 2])


@ROWS.row("_npi_tensordot_int_axes")
def tensordot_count(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    count = a.integer("axes")
    return _contracted(g, x, y, range(x.rank - count, x.rank), range(count))


@ROWS.row("_npi_tensordot")
def tensordot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    mine = [positive(axis, x.rank) for axis in a.integers("a_axes_summed")]
    theirs = [positive(axis, y.rank) for axis in a.integers("b_axes_summed")]
    return _contracted(g, x, y, mine, theirs)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _contracted(g: Emitter, x: Tensor, y: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
    """Products summed over pairs of axes; the others of x, then the others of y, are left."""
    first = list(_LETTERS[: x.rank])
    second = list(_LETTERS[x.rank : x.rank + y.rank])
    for left, right in zip(mine, theirs, strict=True):
        second[right] = first[left]
    kept = [letter for letter in (*first, *second) if (letter in first) != (letter in second)]
    return g.Einsum(x, y, equation=f"{''.join(first)},{''.join(second)}->{''.join(kept)}")


@ROWS.row("_npi_einsum")
def einsum(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    a.ignore("optimize")
    return g.Einsum(*inputs, equation=a.word("subscripts"))


@ROWS.row("_npi_polyval")
def polyval(g: Emitter, a: Attrs, p: Tensor, x: Tensor) -> Tensor:
    """Horner's rule; p: the coefficients, the highest power first."""
    terms = [g.Gather(p, g.constant(i, np.int64), axis=0) for i in range(few(p.size(0)))]
    y = g.Add(g.Mul(x, g.scalar(0, x)), terms[0])
    for term in terms[1:]:
        y = g.Add(g.Mul(y, x), term)
    return y
