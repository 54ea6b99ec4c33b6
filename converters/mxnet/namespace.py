"""The words of ``graph/namespace.py`` in MXNet 1.9.1's operators.

Most are MXNet's classic operators. Where those give floats for truth values, or nothing at all, the
numpy-like ones (``_npi_equal``) stand in their place: both kinds live in one symbol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotCarry
from netferry.converters.graph.sizes import Size, known, product
from netferry.converters.graph.symbol import Symbol
from netferry.converters.mxnet.recorder import BOOL, FLOAT32, INT32, INT64, Dims, MxnetRecorder, check_dtype, exact

Number = int | float | bool

_UINT8, _FLOAT64 = np.dtype("u1"), np.dtype("f8")

_FLOATS = "f"
_SIGNED = "fi"
_ANY = "fiub"

ELEMENTWISE: Mapping[str, tuple[str, str]] = {
    "acos": ("arccos", _FLOATS), "acosh": ("arccosh", _FLOATS), "asin": ("arcsin", _FLOATS),
    "asinh": ("arcsinh", _FLOATS), "atan": ("arctan", _FLOATS), "atanh": ("arctanh", _FLOATS),
    "ceil": ("ceil", _FLOATS), "cos": ("cos", _FLOATS), "cosh": ("cosh", _FLOATS), "erf": ("erf", _FLOATS),
    "exp": ("exp", _FLOATS), "expm1": ("expm1", _FLOATS), "floor": ("floor", _FLOATS), "log": ("log", _FLOATS),
    "log1p": ("log1p", _FLOATS), "negative": ("negative", _SIGNED), "reciprocal": ("reciprocal", _FLOATS),
    "round": ("_npi_around", _FLOATS), "rsqrt": ("rsqrt", _FLOATS), "sigmoid": ("sigmoid", _FLOATS),
    "sin": ("sin", _FLOATS), "sinh": ("sinh", _FLOATS), "sqrt": ("sqrt", _FLOATS),
    "square": ("square", _FLOATS), "tan": ("tan", _FLOATS), "tanh": ("tanh", _FLOATS),
    "bitwise_invert": ("_npi_bitwise_not", "iu"),
}  # fmt: skip
"""Word -> (operator, kinds of dtype that it computes rightly)."""

TRUTHS: Mapping[str, tuple[str, str]] = {
    "isnan": ("_npi_isnan", _FLOATS), "isinf": ("_npi_isinf", _FLOATS), "logical_not": ("_npi_logical_not", _ANY),
}  # fmt: skip

BINARY: Mapping[str, tuple[str, str]] = {
    "add": ("broadcast_add", "fiu"), "subtract": ("broadcast_sub", "fiu"), "multiply": ("broadcast_mul", "fiu"),
    "divide": ("broadcast_div", _FLOATS), "trunc_divide": ("broadcast_div", "iu"),
    "pow": ("broadcast_power", _FLOATS),
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
"""Word -> operators for a number on the right and on the left."""

COMPARISONS: Mapping[str, tuple[str, str]] = {
    "equal": ("_npi_equal", "_npi_equal"), "not_equal": ("_npi_not_equal", "_npi_not_equal"),
    "less": ("_npi_less", "_npi_greater"), "less_equal": ("_npi_less_equal", "_npi_greater_equal"),
    "greater": ("_npi_greater", "_npi_less"), "greater_equal": ("_npi_greater_equal", "_npi_less_equal"),
}  # fmt: skip
"""Word -> the operator, and the one that means the same with its sides exchanged."""

LOGICAL: Mapping[str, str] = {
    "logical_and": "_npi_bitwise_and", "logical_or": "_npi_bitwise_or", "logical_xor": "_npi_bitwise_xor",
}  # fmt: skip


class MxnetNamespace(MxnetRecorder):
    """MXNet's words."""

    framework = "mxnet"
    title = "MXNet"

    # ---- making ----------------------------------------------------------------------------------

    def asarray(self, content: Any, dtype: Any = None) -> Symbol:
        return self.constant(np.asarray(content, dtype))

    def full(self, sizes: Sequence[Any], value: Number, dtype: np.dtype[Any]) -> Symbol:
        """A filler; free sizes are taken from a value that has them."""
        dims, fixed = tuple(sizes), tuple(1 if isinstance(size, Size) else size for size in sizes)
        if not math.isfinite(value) or not exact(value):
            raise CannotCarry(f"a constant tensor of {value}")
        made = self.apply("_full", gives=np.dtype(dtype), dims=fixed, shape=fixed or (1,), value=float(value), dtype=dtype)
        return self.broadcast_to(made, dims)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype[Any]) -> Symbol:
        """Numbers; a stop that is a free size is counted along a value that has it."""
        start, stop, step = (_number(bound) for bound in (start, stop, step))
        if start == 0 and step == 1 and isinstance(stop, Size):
            like, axis = self.place_of(stop)
            counted = self.apply("_contrib_arange_like", like, gives=like.dtype, dims=(stop,), axis=axis)
            return self.astype(counted, dtype)
        if not all(isinstance(bound, int | float) for bound in (start, stop, step)):
            raise CannotCarry("a range whose bounds are known only when the model runs")
        return self.constant(np.arange(start, stop, step, dtype))

    def eye(self, rows: Any, columns: Any, k: int, dtype: np.dtype[Any]) -> Symbol:
        if not known((rows, columns)):
            raise CannotCarry("a diagonal matrix whose sizes are known only when the model runs")
        return self.constant(np.eye(rows, columns, k, dtype))

    def shape(self, x: Symbol) -> Symbol:
        return self.apply("shape_array", x, gives=INT64, dims=(x.ndim,))

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
        return self.astype(row(self.astype(x, _UINT8)), BOOL)

    # ---- elementwise -----------------------------------------------------------------------------

    def truncated(self, x: Symbol) -> Symbol:
        """Floats without their fraction: toward zero."""
        return self.apply("trunc", x, dims=x.fact.dims)

    def unary(self, word: str, x: Any) -> Symbol:
        table = ELEMENTWISE if word in ELEMENTWISE else TRUTHS
        op, kinds = table[word]
        x = self._tensor(x)
        self._check_kind(word, kinds, x)
        return self.apply(op, x, gives=BOOL if word in TRUTHS else x.dtype, dims=x.fact.dims)

    def ceil(self, x: Symbol) -> Symbol:
        return self._whole("ceil", x)

    def floor(self, x: Symbol) -> Symbol:
        return self._whole("floor", x)

    def round(self, x: Symbol) -> Symbol:
        return self._whole("round", x)

    def _whole(self, word: str, x: Symbol) -> Symbol:
        """Whole numbers are whole already."""
        return x if x.dtype.kind in "iub" else self.unary(word, x)

    def square(self, x: Symbol) -> Symbol:
        return self.unary("square", x) if x.dtype.kind == "f" else self.multiply(x, x)

    def binary(self, word: str, a: Any, b: Any) -> Symbol:
        """A number, or a constant without axes, becomes an attribute of the operator."""
        op, kinds = BINARY[word]
        left, right = self._scalar(a), self._scalar(b)
        if word in SCALARS and (left is None) != (right is None):
            x, number = (a, right) if right is not None else (b, left)
            self._check_kind(word, kinds, x)
            return self._with_scalar(SCALARS[word][right is None], x, number)
        one, other = self._pair(a, b)
        self._check_kind(word, kinds, one)
        return self.apply(op, one, other, dims=broadcast(one.fact.dims, other.fact.dims))

    def _with_scalar(self, op: str, x: Symbol, number: Any, gives: Any = None) -> Symbol:
        whole = None if x.dtype.kind == "f" else float(number).is_integer()
        return self.apply(op, x, gives=gives, dims=x.fact.dims, scalar=number_text(number, x.dtype), is_int=whole)

    def compare(self, word: str, a: Any, b: Any) -> Symbol:
        """``_npi_less`` gives bool where ``broadcast_lesser`` gives floats."""
        left, right = self._scalar(a), self._scalar(b)
        if (left is None) != (right is None):
            x, number = (a, right) if right is not None else (b, left)
            if x.dtype != BOOL:
                op = COMPARISONS[word][right is None]
                return self._with_scalar(f"{op}_scalar", x, number, gives=BOOL)
        one, other = self._pair(a, b)
        return self.apply(COMPARISONS[word][0], one, other, gives=BOOL, dims=broadcast(one.fact.dims, other.fact.dims))

    def logical(self, word: str, a: Any, b: Any) -> Symbol:
        one, other = self._pair(a, b)
        if one.dtype != BOOL or other.dtype != BOOL:
            raise CannotCarry(f"'{word}' of {one.dtype.name}")
        dims = broadcast(one.fact.dims, other.fact.dims)
        if one.fact.dims == other.fact.dims is not None:
            return self.apply(LOGICAL[word], one, other, dims=dims)
        # bool is not broadcast there
        return self.astype(self.apply(LOGICAL[word], *(self.astype(x, _UINT8) for x in (one, other)), dims=dims), BOOL)

    def abs(self, x: Symbol) -> Symbol:
        """``abs`` takes 64-bit integers through doubles."""
        if x.dtype.kind == "u":
            return x
        self._check_kind("abs", _SIGNED, x)
        return self.maximum(x, self.negative(x)) if x.dtype == INT64 else self.apply("abs", x, dims=x.fact.dims)

    def sign(self, x: Symbol) -> Symbol:
        """Of NaN, NaN: MXNet's own says 0."""
        self._check_kind("sign", "fiu", x)
        made = self.apply("sign", x, dims=x.fact.dims)
        return self.where(self.isnan(x), x, made) if x.dtype.kind == "f" else made

    def floor_divide(self, a: Any, b: Any) -> Symbol:
        one, other = self._pair(a, b)
        if one.dtype.kind == "f":
            return self.floor(self.divide(one, other))
        return self.trunc_divide(self.subtract(one, self.remainder(one, other)), other)

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
        return self.multiply(self.sign(one), self.remainder(self.abs(one), self.abs(other)))

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
            raise CannotCarry(f"its inputs are {one.dtype.name} and {other.dtype.name}")
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
            x, axis = self.place_of(Size.named(name))
            sizes = self.shape(x)
            return self.apply("slice_axis", sizes, dims=(), axis=0, begin=axis, end=axis + 1)

        def call(word: str, a: Symbol, b: Symbol) -> Symbol:
            if word not in _SIZE_WORDS:
                raise CannotCarry(f"'{word}' of sizes that are known only when the model runs")
            return self.binary(_SIZE_WORDS[word], a, b) if word != "//" else self.floor_divide(a, b)

        return self.astype(size.build(named, call, lambda number: self.constant(np.asarray(number, INT64))), dtype)

    def _check_kind(self, word: str, kinds: str, x: Symbol) -> None:
        if x.dtype.kind not in kinds:
            raise CannotCarry(f"MXNet has no '{word}' for {x.dtype.name}")

    # ---- sizes and places --------------------------------------------------------------------------

    def reshape(self, x: Symbol, sizes: Sequence[Any]) -> Symbol:
        """Known sizes as they are; free ones by MXNet's codes: 0 copies a size, -1 is what is left over."""
        dims = completed(tuple(sizes), x.fact.dims)
        if dims is not None and dims == x.fact.dims:
            return x
        codes = codes_for(x.fact.dims, dims, tuple(sizes))
        if codes is None:
            return self._reshape_like(x, dims)
        return self.apply("Reshape", x, dims=dims, shape=codes)

    def _reshape_like(self, x: Symbol, dims: Dims | None) -> Symbol:
        """Leading sizes from a value that begins with them: what reshape's codes cannot say."""
        if dims is None or x.fact.dims is None:
            raise CannotCarry("a reshape to sizes that are known only when the model runs")
        free = [size for size in dims if isinstance(size, Size)]
        like = next((place for size in free for place in [self._places.get(size)] if place), None)
        if like is not None and len(free) == 2:
            source, axis = like
            start = dims.index(free[0])
            run = 2 if dims[start : start + 2] == (source.shape[axis : axis + 2]) else 0
            rest = (*dims[:start], *dims[start + 2 :])
            if run and known(rest) and start == 0:
                flat = self.reshape(x, (product(free), *rest))
                return self.apply(
                    "reshape_like", flat, source, dims=dims,
                    lhs_begin=0, lhs_end=1, rhs_begin=axis, rhs_end=axis + 2,
                )  # fmt: skip
        raise CannotCarry(
            f"MXNet's reshape cannot say {shown(x.fact.dims)} to {shown(dims)}", "Give the source model fixed sizes"
        )

    def broadcast_to(self, x: Symbol, sizes: Sequence[Any]) -> Symbol:
        dims = tuple(sizes)
        if x.fact.dims == dims:
            return x
        have = x.shape
        if len(have) < len(dims):
            have = (1,) * (len(dims) - len(have)) + have
            x = self.reshape(x, have)
        for axis, (old, new) in enumerate(zip(have, dims, strict=True)):
            if isinstance(new, Size) and old != new:
                if isinstance(old, Size):
                    raise CannotCarry(f"it cannot be told whether {old} is {new}")
                like, place = self.place_of(new)
                have = (*have[:axis], new, *have[axis + 1 :])
                x = self.apply("broadcast_like", x, like, dims=have, lhs_axes=(axis,), rhs_axes=(place,))
        if have == dims:
            return x
        shape = tuple(0 if old == new else new for old, new in zip(have, dims, strict=True))
        return self.apply("broadcast_to", x, dims=dims, shape=shape)

    def permute_dims(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        if tuple(axes) == tuple(range(len(axes))):
            return x
        dims = None if x.fact.dims is None else tuple(x.fact.dims[axis] for axis in axes)
        return self.as_bytes(x, lambda y: self.apply("transpose", y, dims=dims, axes=tuple(axes)))

    def expand_dims(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        dims = None if x.fact.dims is None else expanded(x.fact.dims, axes)
        if x.fact.dims == ():
            return self.reshape(x, (1,) * len(axes))
        for axis in sorted(axes):
            have = x.fact.dims
            x = self.apply("expand_dims", x, dims=None if have is None else expanded(have, (axis,)), axis=axis)
        return Symbol(self, x.fact, x.expr) if dims is None else x

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        gone = set(axes)
        if not gone:
            return x
        dims = None if x.fact.dims is None else tuple(s for axis, s in enumerate(x.fact.dims) if axis not in gone)
        if dims == ():
            return self.apply("Reshape", x, dims=(), shape=(1,))
        return self.apply("squeeze", x, dims=dims, axis=tuple(sorted(gone)))

    def concat(self, xs: Sequence[Symbol], axis: int) -> Symbol:
        if len(xs) == 1:
            return xs[0]
        shapes = [x.fact.dims for x in xs]
        dims = None
        if all(shape is not None for shape in shapes):
            first = shapes[0] or ()
            total = sum((shape[axis] for shape in shapes[1:] if shape is not None), first[axis])
            dims = (*first[:axis], total, *first[axis + 1 :])
        truths = xs[0].dtype == BOOL
        parts = [self.astype(x, _UINT8) for x in xs] if truths else list(map(self._tensor, xs))
        joined = self.apply("Concat", *parts, dims=dims, dim=axis, num_args=len(parts))
        return self.astype(joined, BOOL) if truths else joined

    def stack(self, xs: Sequence[Symbol], axis: int) -> Symbol:
        dims = None if xs[0].fact.dims is None else expanded(xs[0].fact.dims, (axis,))
        if dims is not None:
            dims = (*dims[:axis], len(xs), *dims[axis + 1 :])
        if xs[0].fact.dims == ():
            return self.concat([self._with_dims(x, (1,)) for x in xs], 0)
        return self.apply("stack", *map(self._tensor, xs), dims=dims, axis=axis, num_args=len(xs))

    def _with_dims(self, x: Symbol, dims: Dims) -> Symbol:
        """The same entry, seen with other sizes."""
        place, output = x.expr
        return self.entry(place, output, x.dtype, dims)

    def unstack(self, x: Symbol, axis: int) -> tuple[Symbol, ...]:
        return tuple(self.squeeze(part, (axis,)) for part in self.split(x, (1,) * x.size(axis), axis))

    def split(self, x: Symbol, lengths: Sequence[Any], axis: int) -> tuple[Symbol, ...]:
        if not known(lengths):
            raise CannotCarry("a split into lengths that are known only when the model runs")
        if len(lengths) == 1:
            return (x,)
        shapes = [None if x.fact.dims is None else (*x.fact.dims[:axis], n, *x.fact.dims[axis + 1 :]) for n in lengths]
        if len(set(lengths)) == 1 and x.dtype != BOOL:
            place = self.node_of("SliceChannel", x, num_outputs=len(lengths), axis=axis)
            return tuple(self.entry(place, i, x.dtype, dims) for i, dims in enumerate(shapes))
        parts, at = [], 0
        for length, dims in zip(lengths, shapes, strict=True):
            parts.append(self.apply("slice_axis", x, dims=dims, axis=axis, begin=at, end=at + length))
            at += length
        return tuple(parts)

    def flip(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        return self.as_bytes(x, lambda y: self.apply("reverse", y, dims=y.fact.dims, axis=tuple(axes)))

    def tile(self, x: Symbol, repeats: Sequence[Any]) -> Symbol:
        if not known(repeats):
            raise CannotCarry("repetitions that are known only when the model runs")
        if any(n == 0 for n in repeats):
            raise CannotCarry("MXNet has no empty tensors")
        for axis, n in enumerate(repeats):  # at once MXNet would need two axes for each
            if n != 1:
                dims = None if x.fact.dims is None else (*x.fact.dims[:axis], x.fact.dims[axis] * n, *x.fact.dims[axis + 1 :])
                x = self.apply("tile", x, dims=dims, reps=tuple(n if i == axis else 1 for i in range(len(repeats))))
        return x

    def roll(self, x: Symbol, shift: int, axis: int) -> Symbol:
        size = x.size(axis)
        shift = shift % size
        if not shift:
            return x
        last, first = self.split(x, (size - shift, shift), axis)
        return self.concat([first, last], axis)

    def slice(self, x: Symbol, places: Mapping[int, tuple[Any, Any, Any]]) -> Symbol:
        """Python's meaning. Bounds on an axis of free size count from whichever end says them."""
        dims = list(x.shape)
        begin: list[Any] = [None] * len(dims)
        end: list[Any] = [None] * len(dims)
        step: list[Any] = [None] * len(dims)
        for axis, bounds in places.items():
            cut = _Cut.of(dims[axis], *bounds)
            if cut.like is not None:
                x = self._cut_like(x, axis, cut.like)
            begin[axis], end[axis], step[axis], dims[axis] = cut.begin, cut.end, cut.step, cut.size
        if begin == end == step == [None] * len(dims):
            return x
        steps = tuple(step) if any(step) else None
        return self.apply("slice", x, dims=tuple(dims), begin=tuple(begin), end=tuple(end), step=steps)

    def _cut_like(self, x: Symbol, axis: int, size: Size) -> Symbol:
        """The first ``size`` elements of an axis: as many as another value has."""
        like, place = self.place_of(size)
        if like.ndim <= place:
            raise CannotCarry(f"the size {size} has no axis")
        count = self.apply("slice_axis", self.shape(like), dims=(1,), axis=0, begin=place, end=place + 1)
        del count
        if place != axis:
            order = [place if i == axis else axis if i == place else i for i in range(like.ndim)]
            if max(order) >= like.ndim or axis >= like.ndim:
                raise CannotCarry(f"no value has the size {size} on axis {axis}")
            like = self.permute_dims(like, order)
        dims = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        return self.apply("slice_like", x, like, dims=dims, axes=(axis,))

    def pad(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str, value: Any) -> Symbol:
        """``_npi_pad``; a negative pad cuts."""
        if not known(size for pair in pairs for size in pair):
            raise CannotCarry("pads that are known only when the model runs")
        cuts = {
            axis: (max(-before, 0), -max(-after, 0) or None, 1)
            for axis, (before, after) in enumerate(pairs)
            if before < 0 or after < 0
        }
        if cuts:
            x = self.slice(x, cuts)
        width = tuple((max(before, 0), max(after, 0)) for before, after in pairs)
        if not any(any(pair) for pair in width):
            return x
        if mode == "wrap":
            return self._wrapped(x, width)
        if x.ndim == 1:  # MXNet's needs two axes
            wide = self.pad(self.expand_dims(x, (0,)), [(0, 0), *width], mode, value)
            return self.squeeze(wide, (0,))
        have = x.shape
        if mode == "reflect":
            for size, pair in zip(have, width, strict=True):
                if any(pair) and (isinstance(size, Size) or max(pair) >= size):
                    raise CannotCarry("reflecting pads that may be longer than the axis")
        dims = tuple(size + before + after for size, (before, after) in zip(have, width, strict=True))
        if mode == "constant":
            number = self._scalar(value)
            if number is None:
                raise CannotCarry("padding with a value that is known only when the model runs, or not finite")
            if len(have) in (4, 5) and x.dtype.kind == "f" and width[:2] == ((0, 0), (0, 0)):
                flat = tuple(size for pair in width for size in pair)
                return self.apply("Pad", x, dims=dims, mode=mode, pad_width=flat, constant_value=float(number))
            return self.as_bytes(
                x, lambda y: self.apply("_npi_pad", y, dims=dims, mode=mode, pad_width=width, constant_value=float(number))
            )
        return self.as_bytes(x, lambda y: self.apply("_npi_pad", y, dims=dims, mode=mode, pad_width=width))

    def _wrapped(self, x: Symbol, width: Sequence[tuple[int, int]]) -> Symbol:
        for axis, (before, after) in enumerate(width):
            size = x.shape[axis]
            if not (before or after):
                continue
            if isinstance(size, Size) or before > size or after > size:
                raise CannotCarry("wrapping pads that may be longer than the axis")
            parts = [self.slice(x, {axis: (size - before, size, 1)})] if before else []
            parts += [x, *([self.slice(x, {axis: (0, after, 1)})] if after else [])]
            x = self.concat(parts, axis)
        return x

    def diagonal(self, x: Symbol, axis1: int, axis2: int) -> Symbol:
        dims = [size for axis, size in enumerate(x.shape) if axis not in (axis1, axis2)]
        shorter = min(x.size(axis1), x.size(axis2))
        return self.as_bytes(
            x, lambda y: self.apply("diag", y, dims=(*dims, shorter), k=0, axis1=axis1, axis2=axis2)
        )

    # ---- picking -----------------------------------------------------------------------------------

    def where(self, condition: Symbol, x: Any, y: Any) -> Symbol:
        one, other = self._pair(x, y)
        condition = self._tensor(condition)
        dims = broadcast(broadcast(condition.fact.dims, one.fact.dims), other.fact.dims)
        return self.apply("_npi_where", condition, one, other, gives=one.dtype, dims=dims)

    def take(self, x: Symbol, indices: Any, axis: int) -> Symbol:
        """Mode ``wrap`` counts negative indices from the end; the default would clip them."""
        indices = self._tensor(indices, INT64)
        have, wanted = x.shape, indices.shape
        dims = (*have[:axis], *wanted, *have[axis + 1 :])
        taken = self.apply("take", self._tensor(x), self._index(indices), dims=(*have[:axis], *(wanted or (1,)), *have[axis + 1 :]), axis=axis, mode="wrap")
        return taken if wanted else self.squeeze(taken, (axis,)) if dims else self._with_dims(taken, ())

    def _index(self, indices: Symbol) -> Symbol:
        return self.astype(indices, INT64) if indices.dtype == BOOL else indices

    def take_along_axis(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        return self.apply("gather_nd", self._tensor(x), self._grid(x, indices, axis), dims=indices.shape)

    def _grid(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        """Places as ``gather_nd`` wants them, (rank, *sizes): each index with the place where it stands."""
        indices = self._tensor(indices)
        sizes = indices.shape
        places = []
        for i in range(len(sizes)):
            if i == axis:
                places.append(self.modulo_size(self.astype(indices, INT64), x.shape[i]))
                continue
            count = self.arange(0, sizes[i], 1, INT64)
            spread = self.reshape(count, tuple(size if i == j else 1 for j, size in enumerate(sizes)))
            places.append(self.broadcast_to(spread, sizes))
        return self.stack(places, 0)

    def gather_nd(self, x: Symbol, indices: Symbol, batch_dims: int) -> Symbol:
        """MXNet wants the coordinates first: (depth, *sizes)."""
        places = self._coordinates(x, indices, batch_dims)
        depth = batch_dims + indices.size(indices.ndim - 1)
        dims = (*indices.shape[:-1], *x.shape[depth:])
        return self.apply("gather_nd", self._tensor(x), places, dims=dims)

    def _coordinates(self, x: Symbol, indices: Symbol, batch_dims: int) -> Symbol:
        indices = self.astype(self._tensor(indices), INT64)
        last = indices.ndim - 1
        parts = []
        sizes = indices.shape[:-1]
        for i in range(batch_dims):
            count = self.arange(0, sizes[i], 1, INT64)
            spread = self.reshape(count, tuple(size if i == j else 1 for j, size in enumerate(sizes)))
            parts.append(self.broadcast_to(spread, sizes))
        for i, part in enumerate(self.unstack(indices, last)):
            parts.append(self.modulo_size(part, x.shape[batch_dims + i]))
        return self.stack(parts, 0)

    def scatter_nd(self, x: Symbol, indices: Symbol, updates: Symbol, reduction: str) -> Symbol:
        return self._scatter(x, self._coordinates(x, indices, 0), updates, reduction)

    def scatter_along_axis(self, x: Symbol, indices: Symbol, updates: Symbol, axis: int, reduction: str) -> Symbol:
        return self._scatter(x, self._grid(x, indices, axis), updates, reduction)

    def _scatter(self, x: Symbol, places: Symbol, updates: Symbol, reduction: str) -> Symbol:
        if reduction != "none":
            raise CannotCarry(f"MXNet has no scatter with reduction '{reduction}'")
        if not known(x.shape):
            raise CannotCarry("a scatter into sizes that are known only when the model runs")
        if x.dtype == BOOL:
            back = self._scatter(self.astype(x, _UINT8), places, self.astype(updates, _UINT8), reduction)
            return self.astype(back, BOOL)
        old = self._tensor(x)
        marks = self.full(updates.shape, 1, x.dtype)
        hit = self.apply("scatter_nd", marks, places, dims=x.shape, shape=x.shape)
        new = self.apply("scatter_nd", self._tensor(updates), places, dims=x.shape, shape=x.shape)
        return self.where(self.greater(hit, 0), new, old)

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Symbol, Symbol]:
        if isinstance(k, Size):
            raise CannotCarry("how many to keep is known only when the model runs")
        if k == 0:
            raise CannotCarry("MXNet has no empty tensors")
        dims = (*x.shape[:axis], k, *x.shape[axis + 1 :])
        if x.dtype == BOOL:
            raise CannotCarry("MXNet has no 'topk' for bool")
        place = self.node_of(
            "topk", self._tensor(x), axis=axis, k=k, ret_typ="both", is_ascend=not largest, dtype=INT64
        )
        values, indices = self.entry(place, 0, x.dtype, dims), self.entry(place, 1, INT64, dims)
        return values, self._stable(x, values, axis) if self.wanted(1) else indices

    def _stable(self, x: Symbol, values: Symbol, axis: int) -> Symbol:
        """Where the values stand, the first place first among equals: MXNet's sorting does not keep their order.

        The n-th of equal values stands where the n-th equal element is.
        """
        wide = self.expand_dims(values, (axis + 1,))  # (..., k, 1, ...)
        earlier = self.equal(wide, self.expand_dims(values, (axis,)))
        order = self.tril(self.astype(self._axes_last(earlier, axis), INT32), -1)
        nth = self.add(self.sum(order, (order.ndim - 1,), False), 1)  # (..., k)
        same = self._axes_last(self.equal(wide, self.expand_dims(x, (axis,))), axis)  # (..., k, n)
        counts = self.cumulative_sum(self.astype(same, INT32), same.ndim - 1)
        hit = self.logical_and(same, self.equal(counts, self.expand_dims(nth, (nth.ndim,))))
        found = self.argmax(self.astype(hit, INT32), hit.ndim - 1, False)
        back = list(range(found.ndim - 1))
        back.insert(axis, found.ndim - 1)
        return self.permute_dims(found, back)

    def _axes_last(self, x: Symbol, axis: int) -> Symbol:
        """``axis`` and the one after it, moved to the end."""
        rest = [i for i in range(x.ndim) if i not in (axis, axis + 1)]
        return self.permute_dims(x, (*rest, axis, axis + 1))

    def tril(self, x: Symbol, k: int) -> Symbol:
        return self._triangle(x, np.tril, k)

    def triu(self, x: Symbol, k: int) -> Symbol:
        return self._triangle(x, np.triu, k)

    def _triangle(self, x: Symbol, cut: Callable[..., Any], k: int) -> Symbol:
        rows, columns = x.shape[-2:]
        if not known((rows, columns)):
            if cut is np.tril:
                return self.apply("_npi_tril", x, dims=x.shape, k=k)
            mask = self.apply("_npi_tril", self.apply("ones_like", x, dims=x.shape), dims=x.shape, k=k - 1)
            return self.where(self.greater(mask, 0), self._zero(x.dtype), x)
        mask = self.constant(cut(np.ones((rows, columns), np.uint8), k).astype(bool))
        return self.where(mask, x, self._zero(x.dtype))

    def _zero(self, dtype: np.dtype[Any]) -> Symbol:
        return self.full((1,), 0, dtype)

    # ---- along axes --------------------------------------------------------------------------------

    def sum(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._reduce("sum", x, axes, keepdims)

    def mean(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        self._check_kind("mean", _FLOATS, x)
        return self._reduce("mean", x, axes, keepdims)

    def prod(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._reduce("prod", x, axes, keepdims)

    def max(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self.as_bytes(x, lambda y: self._reduce("max", y, axes, keepdims))

    def min(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self.as_bytes(x, lambda y: self._reduce("min", y, axes, keepdims))

    def _reduce(self, op: str, x: Symbol, axes: Sequence[int], keepdims: bool, **attrs: Any) -> Symbol:
        if not x.ndim or not axes:
            return x
        dims = reduced(x.shape, axes, keepdims)
        return self.apply(op, self._tensor(x), dims=dims, axis=tuple(axes), keepdims=keepdims, **attrs)

    def argmax(self, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        return self._arg("_npi_argmax", x, axis, keepdims)

    def argmin(self, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        return self._arg("_npi_argmin", x, axis, keepdims)

    def _arg(self, op: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        """``_npi_argmax`` gives int64 where ``argmax`` gives float32."""
        dims = reduced(x.shape, (axis,), True)
        found = self.apply(op, self._tensor(x), gives=INT64, dims=dims, axis=axis, keepdims=True)
        return found if keepdims else self.squeeze(found, (axis,))

    def cumulative_sum(self, x: Symbol, axis: int) -> Symbol:
        if x.dtype == _UINT8:
            return self.astype(self.cumulative_sum(self.astype(x, INT32), axis), _UINT8)
        self._check_kind("cumulative_sum", _SIGNED, x)
        return self.apply("_np_cumsum", self._tensor(x), dims=x.fact.dims, axis=axis, dtype=x.dtype)

    def logsumexp(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        top = self.max(x, axes, True)
        total = self.log(self.sum(self.exp(self.subtract(x, top)), axes, True))
        result = self.add(total, top)
        return result if keepdims else self.squeeze(result, axes)

    def softmax(self, x: Symbol, axis: int) -> Symbol:
        self._check_kind("softmax", _FLOATS, x)
        return self.apply("softmax", x, dims=x.fact.dims, axis=axis)

    def log_softmax(self, x: Symbol, axis: int) -> Symbol:
        self._check_kind("log_softmax", _FLOATS, x)
        return self.apply("log_softmax", x, dims=x.fact.dims, axis=axis)

    # ---- algebra -----------------------------------------------------------------------------------

    def matmul(self, a: Symbol, b: Symbol) -> Symbol:
        """``_npi_matmul`` broadcasts as NumPy does."""
        one, other = self._pair(a, b)
        if one.dtype not in (FLOAT32, _FLOAT64):
            raise CannotCarry(f"MXNet has no matrix product for {one.dtype.name}")
        dims = multiplied(one.fact.dims, other.fact.dims)
        if dims == ():
            product_ = self.matmul(self.reshape(one, (1, -1)), self.reshape(other, (-1, 1)))
            return self.squeeze(product_, (0, 1))
        return self.apply("_npi_matmul", one, other, dims=dims)

    def einsum(self, equation: str, *xs: Symbol) -> Symbol:
        if "..." in equation or any(x.dtype.kind != "f" for x in xs):
            raise CannotCarry(f"einsum {equation!r} over {xs[0].dtype.name}")
        return self.apply("_npi_einsum", *xs, dims=None, subscripts=equation.replace(" ", ""), num_args=len(xs))

    def det(self, x: Symbol) -> Symbol:
        return self.apply("_linalg_det", x, dims=x.shape[:-2])


_SIZE_WORDS: Mapping[str, str] = {"+": "add", "-": "subtract", "*": "multiply", "%": "remainder", "max": "maximum", "min": "minimum", "//": "floor_divide"}


def _add_words() -> None:
    """The words that are rows of the tables above."""

    def method(how: str, word: str) -> Callable[..., Symbol]:
        def say(self: MxnetNamespace, *operands: Any) -> Symbol:
            return getattr(self, how)(word, *operands)  # type: ignore[no-any-return]

        say.__name__ = word
        return say

    for how, words in (
        ("unary", [*ELEMENTWISE, *TRUTHS]), ("binary", BINARY), ("compare", COMPARISONS), ("logical", LOGICAL),
    ):  # fmt: skip
        for word in words:
            if word not in vars(MxnetNamespace):
                setattr(MxnetNamespace, word, method(how, word))


_add_words()


# ---- arithmetic of sizes -----------------------------------------------------------------------------


def broadcast(one: Dims | None, other: Dims | None) -> Dims | None:
    """The sizes of two tensors broadcast against each other, as far as they are known."""
    if one is None or other is None:
        return None
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    shorter = (1,) * (len(longer) - len(shorter)) + shorter
    return tuple(_broadcast_size(a, b) for a, b in zip(longer, shorter, strict=True))


def _broadcast_size(a: Any, b: Any) -> Any:
    if a == b or b == 1:
        return a
    if a == 1 or isinstance(a, Size) and not isinstance(b, Size):
        return b
    if isinstance(b, Size) and not isinstance(a, Size):
        return a
    raise CannotCarry(f"it cannot be told whether the sizes {a} and {b} fit")


def expanded(dims: Dims, axes: Sequence[int]) -> Dims:
    """Sizes with an axis of 1 at each of ``axes``, which count in the result."""
    rest = iter(dims)
    return tuple(1 if axis in axes else next(rest) for axis in range(len(dims) + len(axes)))


def reduced(dims: Dims, axes: Sequence[int], keepdims: bool) -> Dims:
    """The sizes that a reduction over ``axes`` leaves."""
    gone = set(axes)
    return tuple(1 if axis in gone else size for axis, size in enumerate(dims) if keepdims or axis not in gone)


def multiplied(a: Dims | None, b: Dims | None) -> Dims | None:
    """The sizes of a matrix product."""
    if a is None or b is None:
        return None
    rows = a[-2:-1] if len(a) > 1 else ()
    columns = b[-1:] if len(b) > 1 else ()
    return (*(broadcast(a[:-2], b[:-2]) or ()), *rows, *columns)


def completed(sizes: Dims, have: Dims | None) -> Dims | None:
    """Sizes in which -1 is what is left over; None where that is not known."""
    if -1 not in sizes:
        return sizes
    if have is None:
        return None
    rest = product(size for size in sizes if size != -1)
    total = product(have)
    left = total // rest if isinstance(total, Size) or isinstance(rest, Size) or rest else 0
    return tuple(left if size == -1 else size for size in sizes)


def codes_for(have: Dims | None, dims: Dims | None, sizes: Dims) -> tuple[int, ...] | None:
    """MXNet's reshape codes: leading sizes that stay are 0, one other free size is -1; None where two are left."""
    if dims is None or have is None:
        return tuple(sizes) if known(sizes) else None
    if known(dims):
        return tuple(dims) or (1,)
    same = 0
    while same < min(len(have), len(dims)) and have[same] == dims[same]:
        same += 1
    rest = dims[same:]
    if sum(isinstance(size, Size) for size in rest) > 1:
        return None
    head = tuple(0 if isinstance(size, Size) else size for size in dims[:same])
    return head + tuple(-1 if isinstance(size, Size) else size for size in rest)


class _Cut:
    """One axis of a slice in MXNet's words."""

    def __init__(self, begin: Any, end: Any, step: Any, size: Any, like: Size | None = None) -> None:
        self.begin, self.end, self.step, self.size, self.like = begin, end, step, size, like

    @classmethod
    def of(cls, size: Any, start: Any, stop: Any, step: Any) -> _Cut:
        step = 1 if step is None else step
        if isinstance(step, Size):
            raise CannotCarry("a step that is known only when the model runs")
        if not isinstance(size, Size) and not isinstance(start, Size) and not isinstance(stop, Size):
            return cls._known(size, range(*slice(start, stop, step).indices(size)), step)
        return cls._free(size, start, stop, step)

    @classmethod
    def _known(cls, size: int, places: range, step: int) -> _Cut:
        if not len(places):
            raise CannotCarry("MXNet has no empty tensors")
        if places == range(size):
            return cls(None, None, None, size)
        if step > 0:
            return cls(places.start, places[-1] + 1, step if step != 1 else None, len(places))
        return cls(places.start, None if places[-1] == 0 else places[-1] - 1, step, len(places))

    @classmethod
    def _free(cls, size: Any, start: Any, stop: Any, step: int) -> _Cut:
        """Bounds that hold whatever the size is."""
        if step == -1 and start in (None, -1) and stop is None:
            return cls(None, None, -1, size)
        if step != 1 or not isinstance(size, Size):
            raise CannotCarry(f"the slice {start}:{stop}:{step} of an axis of size {size}")
        begin, end = (_from_an_end(size, bound) for bound in (start, stop))
        begin = begin or None
        if isinstance(begin, Size):
            raise CannotCarry(f"a slice that starts at {begin}, which is known only when the model runs")
        if isinstance(end, Size):
            if begin is not None:
                raise CannotCarry(f"the slice {start}:{stop} of an axis of size {size}")
            return cls(None, None, None, end, end)
        if begin is None and end is None:
            return cls(None, None, None, size)
        first = 0 if begin is None else begin
        if end is None:
            return cls(begin, None, None, size - first if first >= 0 else -first)
        if first >= 0 and end < 0:
            return cls(begin, end, None, size + end - first)
        if (first >= 0) == (end >= 0) and end > first:
            return cls(begin, end, None, end - first)
        raise CannotCarry(f"the slice {start}:{stop} of an axis of size {size}")


def _from_an_end(size: Size, bound: Any) -> Any:
    """A bound as a number from the front or, negative, from the end; None is the end."""
    if bound is None or isinstance(bound, int) and bound >= _FAR:
        return None
    if isinstance(bound, Size):
        distance = bound - size
        if distance == 0:
            return None
        return distance if not isinstance(distance, Size) and distance < 0 else bound
    return bound


_FAR = 2**31 - 1


def _number(bound: Any) -> Any:
    if isinstance(bound, Symbol):
        return bound.content.item() if bound.content is not None else bound
    if isinstance(bound, np.generic | np.ndarray):
        return bound.item()
    return bound


def number_text(number: Any, dtype: np.dtype[Any]) -> str:
    """A scalar attribute: MXNet reads a double."""
    if dtype.kind in "iu" and float(number).is_integer():
        return str(int(number))
    return repr(float(number))


def shown(dims: Any) -> str:
    return "[?]" if dims is None else f"[{', '.join(map(str, dims))}]"
