"""Functions of one and two operands, each element from the elements at its own position.

Most are MXNet's classic operators. Where those give floats for truth values, or nothing at all, the
numpy-like ones (``_npi_equal``) stand in for them: both kinds live in one symbol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.sizes import Size
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.sizes import broadcast
from netferry.converters.mxnet.from_onnx.writer import BOOL, FLOAT32, INT64, SymbolWriter, check_dtype, exact

Number = int | float | bool

UINT8 = np.dtype("u1")
FLOATS, SIGNED, _ANY = "f", "fi", "fiub"
"""Kinds of dtype."""

ELEMENTWISE: Mapping[str, tuple[str, str]] = {
    "acos": ("arccos", FLOATS), "acosh": ("arccosh", FLOATS), "asin": ("arcsin", FLOATS),
    "asinh": ("arcsinh", FLOATS), "atan": ("arctan", FLOATS), "atanh": ("arctanh", FLOATS),
    "ceil": ("ceil", FLOATS), "cos": ("cos", FLOATS), "cosh": ("cosh", FLOATS), "erf": ("erf", FLOATS),
    "exp": ("exp", FLOATS), "expm1": ("expm1", FLOATS), "floor": ("floor", FLOATS), "log": ("log", FLOATS),
    "log1p": ("log1p", FLOATS), "negative": ("negative", SIGNED), "reciprocal": ("reciprocal", FLOATS),
    "round": ("_npi_around", FLOATS), "rsqrt": ("rsqrt", FLOATS), "sigmoid": ("sigmoid", FLOATS),
    "sin": ("sin", FLOATS), "sinh": ("sinh", FLOATS), "sqrt": ("sqrt", FLOATS),
    "square": ("square", FLOATS), "tan": ("tan", FLOATS), "tanh": ("tanh", FLOATS),
    "bitwise_invert": ("_npi_bitwise_not", "iu"),
}  # fmt: skip
"""Function -> (operator, kinds of dtype that it computes rightly)."""

TRUTHS: Mapping[str, tuple[str, str]] = {
    "isnan": ("_npi_isnan", FLOATS), "isinf": ("_npi_isinf", FLOATS), "logical_not": ("_npi_logical_not", _ANY),
}  # fmt: skip

BINARY: Mapping[str, tuple[str, str]] = {
    "add": ("broadcast_add", "fiu"), "subtract": ("broadcast_sub", "fiu"), "multiply": ("broadcast_mul", "fiu"),
    "divide": ("broadcast_div", FLOATS), "trunc_divide": ("broadcast_div", "iu"),
    "pow": ("broadcast_power", FLOATS),
    "maximum": ("broadcast_maximum", "fiu"), "minimum": ("broadcast_minimum", "fiu"),
    "bitwise_and": ("_npi_bitwise_and", "iub"), "bitwise_or": ("_npi_bitwise_or", "iub"),
    "bitwise_xor": ("_npi_bitwise_xor", "iub"),
}  # fmt: skip

SCALARS: Mapping[str, tuple[str, str]] = {
    "add": ("_plus_scalar", "_plus_scalar"), "subtract": ("_minus_scalar", "_rminus_scalar"),
    "multiply": ("_mul_scalar", "_mul_scalar"), "divide": ("_div_scalar", "_rdiv_scalar"),
    "pow": ("_power_scalar", "_rpower_scalar"), "maximum": ("_maximum_scalar", "_maximum_scalar"),
    "minimum": ("_minimum_scalar", "_minimum_scalar"),
}  # fmt: skip
"""Function -> operators for a number on the right and on the left."""

COMPARISONS: Mapping[str, tuple[str, str]] = {
    "equal": ("_npi_equal", "_npi_equal"), "not_equal": ("_npi_not_equal", "_npi_not_equal"),
    "less": ("_npi_less", "_npi_greater"), "less_equal": ("_npi_less_equal", "_npi_greater_equal"),
    "greater": ("_npi_greater", "_npi_less"), "greater_equal": ("_npi_greater_equal", "_npi_less_equal"),
}  # fmt: skip
"""Function -> the operator, and the one that means the same with its sides exchanged."""

LOGICAL: Mapping[str, str] = {
    "logical_and": "_npi_bitwise_and", "logical_or": "_npi_bitwise_or", "logical_xor": "_npi_bitwise_xor",
}  # fmt: skip


class Elementwise(SymbolWriter):
    """The functions that know no axis."""

    # ---- dtype -----------------------------------------------------------------------------------

    def astype(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        dtype = check_dtype(np.dtype(dtype))
        if x.dtype == dtype:
            return x
        return self.apply("Cast", x, gives=dtype, dims=x.fact.dims, dtype=dtype)

    def as_bytes(self, x: Symbol, row: Callable[[Symbol], Symbol]) -> Symbol:
        """For operators that do not take truth values: there as 0 and 1, and back."""
        if x.dtype != BOOL:
            return row(x)
        return self.astype(row(self.astype(x, UINT8)), BOOL)

    def where(self, condition: Symbol, x: Any, y: Any) -> Symbol:
        one, other = self._pair(x, y)
        condition = self._tensor(condition)
        dims = broadcast(broadcast(condition.fact.dims, one.fact.dims), other.fact.dims)
        return self.apply("_npi_where", condition, one, other, gives=one.dtype, dims=dims)

    # ---- elementwise -----------------------------------------------------------------------------

    def unary(self, name: str, x: Any) -> Symbol:
        table = ELEMENTWISE if name in ELEMENTWISE else TRUTHS
        op, kinds = table[name]
        x = self._tensor(x)
        self._check_kind(name, kinds, x)
        return self.apply(op, x, gives=BOOL if name in TRUTHS else x.dtype, dims=x.fact.dims)

    def _whole(self, name: str, x: Symbol) -> Symbol:
        """Whole numbers are whole already; ``_npi_around`` knows no half floats."""
        if x.dtype == np.float16:
            return self.astype(self.unary(name, self.astype(x, FLOAT32)), x.dtype)
        return x if x.dtype.kind in "iub" else self.unary(name, x)

    def erf(self, x: Symbol) -> Symbol:
        if x.dtype == np.float64:
            raise CannotConvert("MXNet computes erf of float64 as float32")
        return self.unary("erf", x)

    def square(self, x: Symbol) -> Symbol:
        return self.unary("square", x) if x.dtype.kind == "f" else self.multiply(x, x)

    def binary(self, name: str, a: Any, b: Any) -> Symbol:
        """A number, or a constant without axes, becomes an attribute of the operator."""
        op, kinds = BINARY[name]
        left, right = self._scalar(a), self._scalar(b)
        if name in SCALARS and (left is None) != (right is None):
            x, number = (a, right) if right is not None else (b, left)
            self._check_kind(name, kinds, x)
            return self._with_scalar(SCALARS[name][right is None], x, number)
        one, other = self._pair(a, b)
        self._check_kind(name, kinds, one)
        return self.apply(op, one, other, dims=broadcast(one.fact.dims, other.fact.dims))

    def _with_scalar(self, op: str, x: Symbol, number: Any, gives: Any = None) -> Symbol:
        whole = None if x.dtype.kind == "f" else float(number).is_integer()
        if whole is False:
            raise CannotConvert(f"{number} with {x.dtype.name}")
        return self.apply(
            op, x, gives=gives, dims=x.fact.dims, scalar=number_text(number, x.dtype), is_int=whole
        )

    def compare(self, name: str, a: Any, b: Any) -> Symbol:
        """``_npi_less`` gives bool where ``broadcast_lesser`` gives floats."""
        left, right = self._scalar(a), self._scalar(b)
        if (left is None) != (right is None):
            x, number = (a, right) if right is not None else (b, left)
            if x.dtype != BOOL:
                op = COMPARISONS[name][right is None]
                return self._with_scalar(f"{op}_scalar", x, number, gives=BOOL)
        one, other = self._pair(a, b)
        return self.apply(
            COMPARISONS[name][0], one, other, gives=BOOL, dims=broadcast(one.fact.dims, other.fact.dims)
        )

    def logical(self, name: str, a: Any, b: Any) -> Symbol:
        one, other = self._pair(a, b)
        if one.dtype != BOOL or other.dtype != BOOL:
            raise CannotConvert(f"'{name}' of {one.dtype.name}")
        dims = broadcast(one.fact.dims, other.fact.dims)
        if one.fact.dims == other.fact.dims is not None:
            return self.apply(LOGICAL[name], one, other, dims=dims)
        # bool is not broadcast there
        return self.astype(
            self.apply(LOGICAL[name], *(self.astype(x, UINT8) for x in (one, other)), dims=dims), BOOL
        )

    def abs(self, x: Symbol) -> Symbol:
        """``abs`` takes 64-bit integers through doubles."""
        if x.dtype.kind == "u":
            return x
        self._check_kind("abs", SIGNED, x)
        return (
            self.maximum(x, self.negative(x)) if x.dtype == INT64 else self.apply("abs", x, dims=x.fact.dims)
        )

    def sign(self, x: Symbol) -> Symbol:
        """Of NaN, NaN: MXNet's own says 0."""
        self._check_kind("sign", "fiu", x)
        made = self.apply("sign", x, dims=x.fact.dims)
        return self.where(self.isnan(x), x, made) if x.dtype.kind == "f" else made

    def floor_divide(self, a: Any, b: Any) -> Symbol:
        one, other = self._pair(a, b)
        if one.dtype.kind == "f":
            return self._whole("floor", self.divide(one, other))
        return self.binary("trunc_divide", self.subtract(one, self.remainder(one, other)), other)

    def remainder(self, a: Any, b: Any) -> Symbol:
        """The sign is the divisor's. MXNet's own takes 64-bit integers through doubles, and calls x % 0 zero."""
        number = self._scalar(b)
        if isinstance(a, Symbol) and number and a.dtype != INT64:
            self._check_kind("remainder", "fiu", a)
            return self._with_scalar("_mod_scalar", a, number)
        one, other = self._pair(a, b)
        self._check_kind("remainder", "fiu", one)
        if one.dtype == INT64:
            rest = self.subtract(one, self.multiply(self.trunc_divide(one, other), other))
            crossed = self.less(self.multiply(self.sign(rest), self.sign(other)), 0)
            return self.where(crossed, self.add(rest, other), rest)
        rest = self.apply("broadcast_mod", one, other, dims=broadcast(one.fact.dims, other.fact.dims))
        if one.dtype.kind != "f":
            return rest
        return self.where(self.equal(other, 0), self.multiply(self.divide(one, other), 0), rest)

    def fmod(self, a: Any, b: Any) -> Symbol:
        """|a| % |b| with the sign of a."""
        one, other = self._pair(a, b)
        if one.dtype.kind == "u":
            return self.remainder(one, other)
        return self.binary("multiply", self.sign(one), self.remainder(self.abs(one), self.abs(other)))

    def modulo_size(self, indices: Symbol, size: Any) -> Symbol:
        """Indices that count from the end brought to the front; they are small, so doubles hold them."""
        if isinstance(size, Size):
            return self.remainder(indices, size)
        return self._with_scalar("_mod_scalar", indices, size)

    def _scalar(self, value: Any) -> Number | None:
        """The number that a Python number, or a constant without axes, is; None for a tensor."""
        if isinstance(value, Symbol):
            content = value.content
            if content is None or content.ndim or value.fact.trainable or content.dtype == BOOL:
                return None
            number = content.item()
            return number if math.isfinite(number) and exact(number) else None
        if isinstance(value, Size):
            return None
        number = value.item() if isinstance(value, np.generic | np.ndarray) else value
        return number if isinstance(number, int | float) and math.isfinite(number) and exact(number) else None

    def _pair(self, a: Any, b: Any) -> tuple[Symbol, Symbol]:
        dtype = a.dtype if isinstance(a, Symbol) else b.dtype
        one, other = (self._tensor(side, dtype) for side in (a, b))
        if one.dtype != other.dtype:
            raise CannotConvert(f"its inputs are {one.dtype.name} and {other.dtype.name}")
        return one, other

    def _tensor(self, value: Any, dtype: Any = None) -> Symbol:
        if isinstance(value, Symbol):
            check_dtype(value.dtype)
            return value
        if isinstance(value, Size):
            return self.size_tensor(value, dtype or INT64)
        return self.constant(np.asarray(value, dtype))

    def size_tensor(self, size: Size, dtype: np.dtype[Any]) -> Symbol:
        """A free size as a number of the program."""

        def named(name: str) -> Symbol:
            x, axis = self.source_of(Size.named(name))
            sizes = self.shape(x)
            return self.apply("slice_axis", sizes, dims=(), axis=0, begin=axis, end=axis + 1)

        def call(name: str, a: Symbol, b: Symbol) -> Symbol:
            if name not in _SIZE_FUNCTIONS:
                raise CannotConvert(f"'{name}' of sizes that are known only when the model runs")
            made: Symbol = getattr(self, _SIZE_FUNCTIONS[name])(a, b)
            return made

        return self.astype(
            size.build(named, call, lambda number: self.constant(np.asarray(number, INT64))), dtype
        )

    def _check_kind(self, name: str, kinds: str, x: Symbol) -> None:
        if x.dtype.kind not in kinds:
            raise CannotConvert(f"MXNet has no '{name}' for {x.dtype.name}")


_SIZE_FUNCTIONS: Mapping[str, str] = {
    "+": "add",
    "-": "subtract",
    "*": "multiply",
    "%": "remainder",
    "max": "maximum",
    "min": "minimum",
    "//": "floor_divide",
}


def _add_functions() -> None:
    """The functions that are rows of the tables above."""

    def method(how: str, name: str) -> Callable[..., Symbol]:
        def function(self: Elementwise, *operands: Any) -> Symbol:
            return getattr(self, how)(name, *operands)  # type: ignore[no-any-return]

        function.__name__ = name
        return function

    for how, names in (
        ("_whole", ("ceil", "floor", "round")), ("unary", [*ELEMENTWISE, *TRUTHS]), ("binary", BINARY), ("compare", COMPARISONS), ("logical", LOGICAL),
    ):  # fmt: skip
        for name in names:
            if name not in vars(Elementwise):
                setattr(Elementwise, name, method(how, name))


_add_functions()


def number_text(number: Any, dtype: np.dtype[Any]) -> str:
    """A scalar attribute: MXNet reads a double."""
    if dtype.kind in "iu" and float(number).is_integer():
        return str(int(number))
    return repr(float(number))
