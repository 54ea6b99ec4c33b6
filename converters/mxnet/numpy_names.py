"""Rows of MXNet's numpy interface: ``_np_*``, ``_npi_*`` and ``_npx_*``, as blocks under ``npx.set_np`` write them.

Unlike the older operators they know tensors without axes, give bools for comparisons, let integers meet
floats, and count 0 as a size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotCarry
from netferry.converters.graph.build import Tensor
from netferry.converters.mxnet.elementwise import COMPOSED, FAMILIES, PLAIN, RELATIONS, Binary, Unary
from netferry.converters.mxnet.linear_algebra import on_diagonal, spread_on_diagonal
from netferry.converters.mxnet.rows import (
    FLOAT32,
    ROWS,
    Pen,
    Size,
    cast,
    cut,
    dtype_named,
    few,
    positive,
    reshape,
    shape_tensor,
    size_of,
)
from netferry.converters.mxnet.symbol import Attrs

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


def _float(g: Pen, x: Tensor) -> Tensor:
    return x if x.dtype.kind == "f" else cast(g, x, FLOAT32)


def _is_finite(g: Pen, x: Tensor) -> Tensor:
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
        def checked(g: Pen, a: Attrs, x: Tensor) -> Tensor:
            if x.dtype.kind != "f" and name not in _KEEPS_INTEGERS:
                raise CannotCarry(f"{name} of {x.dtype.name}", "Cast it to float32 first")
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
def bitwise_not(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return g.Not(x) if x.dtype.kind == "b" else g.BitwiseNot(x)


@ROWS.row("_npi_around")
def around(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """Halves to the even, at a number of decimals."""
    decimals = a.integer("decimals", 0)
    if not decimals:
        return g.Round(x)
    scale = g.scalar(10.0**decimals, x)
    return g.Div(g.Round(g.Mul(x, scale)), scale)


@ROWS.row("_npi_nan_to_num")
def nan_to_num(g: Pen, a: Attrs, x: Tensor) -> Tensor:
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


def _alike(g: Pen, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of one dtype: integers and bools that meet floats become floats, the wider one wins."""
    if x.dtype == y.dtype:
        return x, y
    floats = [each.dtype for each in (x, y) if each.dtype.kind == "f"]
    if not floats and "b" not in (x.dtype.kind, y.dtype.kind):
        raise CannotCarry(f"{x.dtype.name} meets {y.dtype.name}", "Cast one of them first")
    wider = max(floats or [x.dtype, y.dtype], key=lambda dtype: dtype.itemsize)
    return cast(g, x, wider), cast(g, y, wider)


def _divided(g: Pen, x: Tensor, y: Tensor) -> Tensor:
    return g.Div(_float(g, x), _float(g, y))


def _copysign(g: Pen, x: Tensor, y: Tensor) -> Tensor:
    """|x| with the sign of y; that of a zero shows in its reciprocal."""
    zero = g.scalar(0, y)
    size = g.Abs(x)
    return g.Where(g.Or(g.Less(y, zero), g.Less(g.Reciprocal(y), zero)), g.Neg(size), size)


def _arctan2(g: Pen, y: Tensor, x: Tensor) -> Tensor:
    """The angle of (x, y): that of the half plane x > 0, turned by half a circle where x < 0."""
    zero, half = g.scalar(0, x), g.scalar(math.pi, x)
    plain = g.Atan(g.Div(y, x))
    still = g.Where(g.And(g.Equal(x, zero), g.Equal(y, zero)), zero, plain)
    return g.Where(g.Less(x, zero), g.Add(still, _copysign(g, half, y)), still)


BINARY: Mapping[str, Binary] = {
    "add": FAMILIES["add"][0], "subtract": FAMILIES["sub"][0], "multiply": FAMILIES["mul"][0],
    "true_divide": _divided, "mod": FAMILIES["mod"][0], "power": FAMILIES["power"][0],
    "hypot": FAMILIES["hypot"][0], "copysign": _copysign, "arctan2": _arctan2,
    "ldexp": lambda g, x, y: g.Mul(x, g.Pow(g.scalar(2, x), y)),
    "bitwise_and": lambda g, x, y: g.And(x, y) if x.dtype.kind == "b" else g.BitwiseAnd(x, y),
    "bitwise_or": lambda g, x, y: g.Or(x, y) if x.dtype.kind == "b" else g.BitwiseOr(x, y),
    "bitwise_xor": lambda g, x, y: g.Xor(x, y) if x.dtype.kind == "b" else g.BitwiseXor(x, y),
    "equal": RELATIONS["equal"], "not_equal": RELATIONS["not_equal"], "greater": RELATIONS["greater"],
    "greater_equal": RELATIONS["greater_equal"], "less": RELATIONS["lesser"],
    "less_equal": RELATIONS["lesser_equal"],
}  # fmt: skip

_REVERSED = {"rsubtract": "subtract", "rtrue_divide": "true_divide", "rmod": "mod", "rpower": "power",
             "rcopysign": "copysign", "rarctan2": "arctan2", "rldexp": "ldexp"}  # fmt: skip
"""With a number first."""


def _with_number(g: Pen, a: Attrs, x: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor and a number; integers that meet a fraction become float32."""
    value = a.number("scalar", 1.0)
    whole = a.flag("is_int", True) or (value.is_integer() and x.dtype.kind in "iu")
    if x.dtype.kind != "f" and not whole:
        x = cast(g, x, FLOAT32)
    return x, g.scalar(int(value) if x.dtype.kind in "iu" else value, x)


def _register_binary() -> None:
    def of_two(function: Binary) -> Callable[..., Tensor]:
        return lambda g, _, x, y: function(g, *_alike(g, x, y))

    def with_number(function: Binary) -> Callable[..., Tensor]:
        return lambda g, a, x: function(g, *_with_number(g, a, x))

    def number_first(function: Binary) -> Callable[..., Tensor]:
        return lambda g, a, x: function(g, *reversed(_with_number(g, a, x)))

    for name, function in BINARY.items():
        ROWS.row(f"_npi_{name}")(of_two(function))
        if name != "hypot":
            ROWS.row(f"_npi_{name}_scalar")(with_number(function))
    for name, plain in _REVERSED.items():
        ROWS.row(f"_npi_{name}_scalar")(number_first(BINARY[plain]))


_register_binary()


@ROWS.row("_npi_where")
def where(g: Pen, a: Attrs, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return g.Where(cast(g, condition, np.bool_), *_alike(g, x, y))


@ROWS.row("_npi_where_lscalar")
def where_else_tensor(g: Pen, a: Attrs, condition: Tensor, x: Tensor) -> Tensor:
    """The number where the condition holds."""
    return g.Where(cast(g, condition, np.bool_), g.scalar(a.number("scalar"), x), x)


@ROWS.row("_npi_where_rscalar")
def where_else_number(g: Pen, a: Attrs, condition: Tensor, x: Tensor) -> Tensor:
    return g.Where(cast(g, condition, np.bool_), x, g.scalar(a.number("scalar"), x))


@ROWS.row("_npi_where_scalar2")
def where_numbers(g: Pen, a: Attrs, condition: Tensor) -> Tensor:
    x, y = (g.constant(a.number(name), FLOAT32) for name in "xy")
    return g.Where(cast(g, condition, np.bool_), x, y)


# ---- reductions --------------------------------------------------------------------------------------


def _axes(a: Attrs, rank: int) -> list[int]:
    named = a.maybe_integers("axis")
    return list(range(rank)) if named is None else sorted(positive(axis, rank) for axis in named)


def _as_dtype(g: Pen, a: Attrs, x: Tensor, *, counts: bool) -> Tensor:
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
        def reduced(g: Pen, a: Attrs, x: Tensor) -> Tensor:
            if name in ("ReduceSum", "ReduceProd"):
                x = _as_dtype(g, a, x, counts=True)
            y = g.op(name, x, g.ints(*_axes(a, x.rank)), keepdims=a.flag("keepdims", False))
            initial = a.maybe_number("initial")
            return y if initial is None else join(g, y, g.scalar(initial, y))

        return reduced

    for name, (numpy_name, join) in _INITIAL.items():
        ROWS.row(numpy_name)(row(name, join))
    for numpy_name, name in {"_np_all": "ReduceMin", "_np_any": "ReduceMax"}.items():
        ROWS.row(numpy_name)(_every(name))


def _every(name: str) -> Callable[..., Tensor]:
    def row(g: Pen, a: Attrs, x: Tensor) -> Tensor:
        truth = cast(g, cast(g, x, np.bool_), np.uint8)
        found = g.op(name, truth, g.ints(*_axes(a, x.rank)), keepdims=a.flag("keepdims", False))
        return cast(g, found, np.bool_)

    return row


_register_reductions()


@ROWS.row("_npi_mean")
def mean(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    x = _as_dtype(g, a, x, counts=False)
    if a.maybe_number("initial") is not None:
        raise CannotCarry("an initial value of a mean")
    return g.ReduceMean(x, g.ints(*_axes(a, x.rank)), keepdims=a.flag("keepdims", False))


def _variance(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """The mean of squared distances from the mean, over n - ddof."""
    x = _as_dtype(g, a, x, counts=False)
    axes, ddof = g.ints(*_axes(a, x.rank)), a.integer("ddof", 0)
    centred = g.Sub(x, g.ReduceMean(x, axes, keepdims=1))
    mean = g.ReduceMean(g.Mul(centred, centred), axes, keepdims=a.flag("keepdims", False))
    if not ddof:
        return mean
    count = size_of(x, *_axes(a, x.rank))
    if not isinstance(count, int):
        raise CannotCarry("ddof over an axis whose size is not known")
    return g.Mul(mean, g.scalar(count / (count - ddof), x))


@ROWS.row("_npi_var")
def variance(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return _variance(g, a, x)


@ROWS.row("_npi_std")
def deviation(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return g.Sqrt(_variance(g, a, x))


@ROWS.row("_npi_average")
def average(g: Pen, a: Attrs, x: Tensor, weights: Tensor | None = None) -> Tensor | list[Tensor]:
    """With weights of the size of x, or one for each place of the one axis."""
    axes = _axes(a, x.rank)
    if a.flag("returned", False):
        raise CannotCarry("returned: the sum of the weights too")
    if not a.flag("weighted", True) or weights is None:
        return g.ReduceMean(x, g.ints(*axes), keepdims=0)
    if weights.rank < x.rank:
        weights = reshape(g, weights, [-1 if axis == axes[0] else 1 for axis in range(x.rank)])
    total = g.ReduceSum(weights, g.ints(*axes), keepdims=0)
    return g.Div(g.ReduceSum(g.Mul(x, weights), g.ints(*axes), keepdims=0), total)


def _arg(name: str) -> Callable[..., Tensor]:
    def row(g: Pen, a: Attrs, x: Tensor) -> Tensor:
        axis, keep = a.maybe_integer("axis"), a.flag("keepdims", False)
        if axis is not None:
            return g.op(name, x, axis=positive(axis, x.rank), keepdims=keep)
        found = g.op(name, reshape(g, x, [-1]), axis=0, keepdims=0)
        return g.Reshape(found, g.ints(*[1] * x.rank)) if keep else found

    return row


ROWS.row("_npi_argmax")(_arg("ArgMax"))
ROWS.row("_npi_argmin")(_arg("ArgMin"))


@ROWS.row("_np_cumsum")
def cumsum(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    axis, word = a.maybe_integer("axis"), a.maybe_word("dtype")
    if word is not None:
        x = cast(g, x, dtype_named(word))
    if axis is None:
        x, axis = reshape(g, x, [-1]), 0
    return g.CumSum(x, g.constant(positive(axis, x.rank), np.int64))


@ROWS.row("_npi_diff")
def diff(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    axis = positive(a.integer("axis", -1), x.rank)
    for _ in range(few(a.integer("n", 1))):
        x = g.Sub(cut(g, x, [axis], [1], [None]), cut(g, x, [axis], [0], [-1]))
    return x


# ---- products ----------------------------------------------------------------------------------------


@ROWS.row("_npi_matmul")
def matmul(g: Pen, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return g.MatMul(*_alike(g, x, y))


@ROWS.row("_np_dot")
def dot(g: Pen, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The last axis of x with the last but one of y, all other axes kept."""
    x, y = _alike(g, x, y)
    if x.rank == 0 or y.rank == 0:
        return g.Mul(x, y)
    return g.MatMul(x, y) if y.rank <= 2 else _contracted(g, x, y, [x.rank - 1], [y.rank - 2])


@ROWS.row("_npi_tensordot_int_axes")
def tensordot_count(g: Pen, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    count = a.integer("axes")
    return _contracted(g, x, y, range(x.rank - count, x.rank), range(count))


@ROWS.row("_npi_tensordot")
def tensordot(g: Pen, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    mine = [positive(axis, x.rank) for axis in a.integers("a_axes_summed")]
    theirs = [positive(axis, y.rank) for axis in a.integers("b_axes_summed")]
    return _contracted(g, x, y, mine, theirs)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _contracted(g: Pen, x: Tensor, y: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
    """Products summed over pairs of axes; the others of x, then the others of y, are left."""
    first = list(_LETTERS[: x.rank])
    second = list(_LETTERS[x.rank : x.rank + y.rank])
    for left, right in zip(mine, theirs, strict=True):
        second[right] = first[left]
    kept = [letter for letter in (*first, *second) if (letter in first) != (letter in second)]
    return g.Einsum(x, y, equation=f"{''.join(first)},{''.join(second)}->{''.join(kept)}")


@ROWS.row("_npi_einsum")
def einsum(g: Pen, a: Attrs, *inputs: Tensor) -> Tensor:
    a.ignore("optimize")
    return g.Einsum(*inputs, equation=a.word("subscripts"))


@ROWS.row("_npi_polyval")
def polyval(g: Pen, a: Attrs, p: Tensor, x: Tensor) -> Tensor:
    """Horner's rule; p: the coefficients, the highest power first."""
    terms = [g.Gather(p, g.constant(i, np.int64), axis=0) for i in range(few(p.size(0)))]
    y = g.Add(g.Mul(x, g.scalar(0, x)), terms[0])
    for term in terms[1:]:
        y = g.Add(g.Mul(y, x), term)
    return y


# ---- axes and sizes ----------------------------------------------------------------------------------


@ROWS.row("_np_transpose")
def transpose(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    axes = a.maybe_integers("axes") or tuple(reversed(range(x.rank)))
    return g.transpose(x, [positive(axis, x.rank) for axis in axes])


@ROWS.row("_np_moveaxis")
def moveaxis(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    sources = [positive(axis, x.rank) for axis in a.integers("source")]
    targets = [positive(axis, x.rank) for axis in a.integers("destination")]
    order = [axis for axis in range(x.rank) if axis not in sources]
    for target, source in sorted(zip(targets, sources, strict=True)):
        order.insert(target, source)
    return g.transpose(x, order)


@ROWS.row("_np_squeeze")
def squeeze(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    named = a.maybe_integers("axis")
    if named is not None:
        return g.Squeeze(x, g.ints(*(positive(axis, x.rank) for axis in named)))
    if x.dims is None or not all(isinstance(dim, int) for dim in x.dims):
        raise CannotCarry("axes of size 1 cannot be told among sizes that are not known", "Name the axes")
    return g.Squeeze(x, g.ints(*(axis for axis, dim in enumerate(x.dims) if dim == 1)))


def _in_c_order(a: Attrs) -> None:
    if a.word("order", "C") != "C":
        raise CannotCarry("order other than C")


@ROWS.row("_np_reshape")
def reshape_plain(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """A number for each axis, of which one may be -1."""
    _in_c_order(a)
    return g.Reshape(x, g.ints(*a.integers("newshape")), allowzero=1 if 0 in a.integers("newshape") else None)


@ROWS.row("_npx_reshape")
def reshape_by_codes(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """-1 is inferred, -2 keeps an axis, -3 drops one of size 1, -4 keeps all that are left, -5 joins two,
    -6 splits one into the two sizes that follow."""
    _in_c_order(a)
    if a.flag("reverse", False):
        raise CannotCarry("a shape that is read from the right")
    sizes: list[int | Size] = []
    codes, at = list(a.integers("newshape")), 0
    while codes:
        code = codes.pop(0)
        used = {-4: x.rank - at, -5: 2}.get(code, 1)
        if code < -1 and at + used > x.rank:
            raise CannotCarry(f"code {code} of newshape meets no axis of its input")
        if code in (-2, -4):
            sizes += [size_of(x, axis) for axis in range(at, at + used)]
        elif code == -5:
            sizes.append(size_of(x, at, at + 1))
        elif code == -6:
            sizes += _halves(x, at, codes)
            del codes[:2]
        elif code == -3 and x.size(at) != 1:
            raise CannotCarry("code -3 of newshape meets an axis that is not 1")
        elif code < -6:
            raise CannotCarry(f"newshape has no code {code}")
        elif code >= -1:
            sizes.append(code)
        at += used
    return reshape(g, x, sizes)


def _halves(x: Tensor, axis: int, codes: Sequence[int]) -> list[int | Size]:
    first, second = codes[:2]
    if first == -1:
        return [size_of(x, axis, over=second), second]
    return [first, size_of(x, axis, over=first) if second == -1 else second]


@ROWS.row("_npi_broadcast_to")
def broadcast_to(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """-2 (in MXNet 1.9, else -1) keeps an axis."""
    return g.Expand(x, g.ints(*(1 if size < 0 else size for size in a.integers("shape"))))


@ROWS.row("_np_copy", "_npi_share_memory")
def copy(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return x


def _at_least(rank: int) -> Callable[..., list[Tensor]]:
    """New axes of size 1, where numpy puts them: of three, a vector stands in the middle."""

    def row(g: Pen, a: Attrs, *inputs: Tensor) -> list[Tensor]:
        front = {1: (0,), 2: (0,), 3: (0, 1)}[rank]
        places = {
            0: tuple(range(rank)), 1: (0,) if rank == 2 else (0, 2), 2: (2,),
        }  # fmt: skip
        assert front
        return [x if x.rank >= rank else g.Unsqueeze(x, g.ints(*places[x.rank])) for x in inputs]

    return row


for _rank in (1, 2, 3):
    ROWS.row(f"_np_atleast_{_rank}d")(_at_least(_rank))


@ROWS.row("_np_roll")
def roll(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """What leaves at one end comes back at the other."""
    shifts, named = a.integers("shift"), a.maybe_integers("axis")
    if named is None:
        flat = _rolled(g, reshape(g, x, [-1]), 0, sum(shifts))
        return g.Reshape(flat, shape_tensor(g, x, [size_of(x, axis) for axis in range(x.rank)]))
    for shift, axis in zip(shifts * (len(named) // len(shifts)), named, strict=True):
        x = _rolled(g, x, positive(axis, x.rank), shift)
    return x


def _rolled(g: Pen, x: Tensor, axis: int, shift: int) -> Tensor:
    size = size_of(x, axis)
    if not isinstance(size, int):
        raise CannotCarry("a roll along an axis whose size is not known")
    shift %= size
    if not shift:
        return x
    return g.Concat(cut(g, x, [axis], [-shift], [None]), cut(g, x, [axis], [0], [-shift]), axis=axis)


@ROWS.row("_npi_flip")
def flip(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    axes = _axes(a, x.rank)
    return cut(g, x, axes, [None] * len(axes), [None] * len(axes), [-1] * len(axes))


@ROWS.row("_npi_rot90")
def rot90(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """Quarter turns from the first axis to the second."""
    first, second = (positive(axis, x.rank) for axis in a.maybe_integers("axes") or (0, 1))
    order = list(range(x.rank))
    order[first], order[second] = second, first
    turns = a.integer("k", 1) % 4

    def turned(y: Tensor, *axes: int) -> Tensor:
        return cut(g, y, axes, [None] * len(axes), [None] * len(axes), [-1] * len(axes))

    if turns == 0:
        return x
    if turns == 2:
        return turned(x, first, second)
    return g.transpose(turned(x, second), order) if turns == 1 else turned(g.transpose(x, order), second)


# ---- joining and cutting -----------------------------------------------------------------------------


@ROWS.row("_npi_concatenate")
def concatenate(g: Pen, a: Attrs, *inputs: Tensor) -> Tensor:
    axis = a.maybe_integer("axis", 0) if a.maybe_integer("dim") is None else a.integer("dim", 0)
    if axis is None:
        return g.Concat(*(reshape(g, x, [-1]) for x in inputs), axis=0)
    return g.Concat(*inputs, axis=positive(axis, inputs[0].rank))


@ROWS.row("_npi_stack")
def stack(g: Pen, a: Attrs, *inputs: Tensor) -> Tensor:
    axis = positive(a.integer("axis", 0), inputs[0].rank + 1)
    return g.Concat(*(g.Unsqueeze(x, g.ints(axis)) for x in inputs), axis=axis)


def _joined(rank: int, axis: int) -> Callable[..., Tensor]:
    def row(g: Pen, a: Attrs, *inputs: Tensor) -> Tensor:
        a.ignore("dim")
        raised = _at_least(rank)(g, a, *inputs)
        return g.Concat(*raised, axis=0 if raised[0].rank == 1 else axis)

    return row


ROWS.row("_npi_vstack")(_joined(2, 0))
ROWS.row("_npi_hstack")(_joined(1, 1))
ROWS.row("_npi_dstack")(_joined(3, 2))


@ROWS.row("_npi_column_stack")
def column_stack(g: Pen, a: Attrs, *inputs: Tensor) -> Tensor:
    return g.Concat(*(g.Unsqueeze(x, g.ints(1)) if x.rank == 1 else x for x in inputs), axis=1)


def _split_along(axis: int) -> Callable[..., list[Tensor]]:
    """Into equal sections, or at places (of which MXNet writes the first, 0, too)."""

    def row(g: Pen, a: Attrs, x: Tensor) -> list[Tensor]:
        a.ignore("axis", "squeeze_axis")
        sections, places = a.integer("sections", 0), a.integers("indices", ())
        if sections:
            return list(g.ops("Split", x, outputs=few(sections), axis=axis, num_outputs=sections))
        ends = [*places[1:], None]
        return [cut(g, x, [axis], [at], [end]) for at, end in zip(places, ends, strict=True)]

    return row


ROWS.row("_npi_hsplit")(_split_along(1))
ROWS.row("_npi_dsplit")(_split_along(2))


@ROWS.row("_npi_delete")
def delete(g: Pen, a: Attrs, x: Tensor, *others: Tensor) -> Tensor:
    """Without one place, or a slice of places, of an axis."""
    if others:
        raise CannotCarry("places that are computed")
    axis = a.maybe_integer("axis")
    if axis is None:
        x, axis = reshape(g, x, [-1]), 0
    axis = positive(axis, x.rank)
    place = a.maybe_integer("int_ind")
    bounds = [a.maybe_integer(name) for name in ("start", "stop", "step")]
    gone = range(x.size(axis))[slice(*bounds)] if place is None else [place % x.size(axis)]
    kept = [index for index in range(x.size(axis)) if index not in gone]
    return g.Gather(x, g.ints(*kept), axis=axis)


_PAD_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect"}


@ROWS.row("_npi_pad")
def pad(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    """pad_width: (before, after) of each axis."""
    mode = _PAD_MODES[a.word("mode", "constant", among=" ".join(_PAD_MODES))]
    if a.word("reflect_type", "even") != "even":
        raise CannotCarry("reflect_type other than even")
    widths = a.pairs("pad_width")
    value = g.scalar(a.number("constant_value", 0.0), x) if mode == "constant" else None
    return g.Pad(x, g.ints(*(w[0] for w in widths), *(w[1] for w in widths)), value, mode=mode)


# ---- diagonals ---------------------------------------------------------------------------------------


@ROWS.row("_np_diagonal")
def diagonal(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return on_diagonal(g, x, a.integer("offset", 0), a.integer("axis1", 0), a.integer("axis2", 1))


@ROWS.row("_np_trace")
def trace(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return g.ReduceSum(diagonal(g, a, x), g.ints(-1), keepdims=0)


@ROWS.row("_np_diag")
def diag(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    offset = a.integer("k", 0)
    return spread_on_diagonal(g, x, offset) if x.rank == 1 else on_diagonal(g, x, offset, 0, 1)


@ROWS.row("_np_diagflat")
def diagflat(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    return spread_on_diagonal(g, reshape(g, x, [-1]), a.integer("k", 0))


@ROWS.row("_npi_tril")
def tril(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    if x.rank == 1:
        x = g.Expand(x, g.ints(x.size(0), x.size(0)))
    return g.Trilu(x, g.constant(a.integer("k", 0), np.int64), upper=0)


# ---- constants ---------------------------------------------------------------------------------------


def _made(g: Pen, a: Attrs, array: Any) -> Tensor:
    return g.constant(array, dtype_named(a.word("dtype", "float32")))


def _filled(value: float) -> Callable[..., Tensor]:
    def row(g: Pen, a: Attrs) -> Tensor:
        shape = a.integers("shape", ())
        few(math.prod(shape))
        return _made(g, a, np.full(shape, value))

    return row


ROWS.row("_npi_zeros")(_filled(0.0))
ROWS.row("_npi_ones")(_filled(1.0))


@ROWS.row("_npi_full_like")
def full_like(g: Pen, a: Attrs, x: Tensor) -> Tensor:
    word = a.maybe_word("dtype")
    value = g.constant(a.number("fill_value"), x.dtype if word is None else dtype_named(word))
    return g.Expand(value, shape_tensor(g, x, [size_of(x, axis) for axis in range(x.rank)]))


@ROWS.row("_npi_identity")
def identity(g: Pen, a: Attrs) -> Tensor:
    rows = a.integers("shape")
    few(math.prod(rows))
    return _made(g, a, np.eye(*rows))


@ROWS.row("_npi_eye", "_eye")
def eye(g: Pen, a: Attrs) -> Tensor:
    rows = a.integer("N")
    columns = a.maybe_integer("M") or rows
    few(rows * columns)
    return _made(g, a, np.eye(rows, columns, a.integer("k", 0)))


@ROWS.row("_npi_indices")
def indices(g: Pen, a: Attrs) -> Tensor:
    sizes = a.integers("dimensions")
    few(math.prod(sizes) * len(sizes))
    return g.constant(np.indices(sizes), dtype_named(a.word("dtype", "int32")))


@ROWS.row("_npi_arange")
def arange(g: Pen, a: Attrs) -> Tensor:
    start, stop, step = a.number("start"), a.maybe_number("stop"), a.number("step", 1.0)
    if a.flag("infer_range", False) or a.integer("repeat", 1) != 1:
        raise CannotCarry("a range whose end is inferred, or that repeats")
    start, stop = (0.0, start) if stop is None else (start, stop)
    few((stop - start) / step)
    return _made(g, a, np.arange(start, stop, step))


@ROWS.row("_linspace")
def linspace(g: Pen, a: Attrs) -> Tensor:
    count = few(a.integer("num"))
    return _made(g, a, np.linspace(a.number("start"), a.number("stop"), count, a.flag("endpoint", True)))


@ROWS.row("_npi_logspace")
def logspace(g: Pen, a: Attrs) -> Tensor:
    count = few(a.integer("num"))
    ends, base = (a.number("start"), a.number("stop")), a.number("base", 10.0)
    return _made(g, a, np.logspace(*ends, count, endpoint=a.flag("endpoint", True), base=base))


def _window(function: Callable[[int], Any]) -> Callable[..., Tensor]:
    return lambda g, a: _made(g, a, function(few(a.integer("M"))))


for _name, _function in {"blackman": np.blackman, "hamming": np.hamming, "hanning": np.hanning}.items():
    ROWS.row(f"_npi_{_name}")(_window(_function))


@ROWS.row("_npi_boolean_mask_assign_scalar")
def assign_where(g: Pen, a: Attrs, x: Tensor, mask: Tensor) -> Tensor:
    """The number where the mask holds, which covers the axes from ``start_axis`` on."""
    start = a.integer("start_axis", 0)
    truth = cast(g, mask, np.bool_)
    behind = x.rank - start - mask.rank
    if behind:
        truth = g.Unsqueeze(truth, g.ints(*range(mask.rank, mask.rank + behind)))
    return g.Where(truth, g.scalar(a.number("value"), x), x)
