"""The words of ``graph/namespace.py`` in PyTorch's own: each writes a piece of Python, torch is not imported.

Where a word has no counterpart, the program brings a function of ``prelude.py`` along.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.namespace import ELEMENTWISE
from netferry.converters.graph.ir.sizes import Size, known, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.schema.attributes import Operators
from netferry.converters.pytorch.dtypes import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT32,
    INT64,
    MOVED_AS_BITS,
    UINT64,
    WIDER,
)
from netferry.converters.pytorch.from_onnx.writer import (
    PytorchWriter,
    broadcast,
    dtype_of,
    expr_of,
    is_number,
    is_size,
    plain,
)

LAYERS = Operators("ONNX to PyTorch")
"""The target's own rows, filled by the files beside this one; what they decline, the shared rows write."""
_SIGNED_WORDS: Mapping[str, str] = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "pow": "**", "matmul": "@",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<",
    "logical_and": "&", "logical_or": "|", "logical_xor": "^",
}  # fmt: skip
"""Words whose bits come out alike in a wider signed type."""
_COMPARISONS: Mapping[str, str] = {"less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">="}
_REDUCES: Mapping[str, str] = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


class TorchNamespace(PytorchWriter):
    """Every word of the array namespace."""

    rows = LAYERS

    # ---- one and two operands ------------------------------------------------------------------

    def equal(self, x: Any, y: Any) -> Symbol:
        return self._known(self.binary("==", *self.pair(x, y)), broadcast(x, y))

    def not_equal(self, x: Any, y: Any) -> Symbol:
        return self._known(self.binary("!=", *self.pair(x, y)), broadcast(x, y))

    def negative(self, x: Symbol) -> Symbol:
        return self._known(self.astype(self.unary("-", self.widened(x)), x.dtype), x.fact.dims)

    def logical_not(self, x: Symbol) -> Symbol:
        return self._known(self.unary("~", x), x.fact.dims)

    def bitwise_invert(self, x: Symbol) -> Symbol:
        return self._known(self.astype(self.unary("~", self.widened(x)), x.dtype), x.fact.dims)

    def abs(self, x: Symbol) -> Symbol:
        return x if x.dtype.kind == "u" else self.call("torch.abs", x, dims=x.fact.dims)

    def sign(self, x: Symbol) -> Symbol:
        if x.dtype.kind == "u":
            return self.astype(self.not_equal(x, 0), x.dtype)
        made = self.call("torch.sign", x, dims=x.fact.dims)
        return made if x.dtype.kind == "i" else self.where(self.isnan(x), x, made)

    def isinf(self, x: Symbol) -> Symbol:
        wide = self.astype(x, FLOAT32) if x.dtype in MOVED_AS_BITS else x
        return self.call("torch.isinf", wide, dtype=BOOL, dims=x.fact.dims)

    def isnan(self, x: Symbol) -> Symbol:
        return self.call("torch.isnan", x, dtype=BOOL, dims=x.fact.dims)

    def floor_divide(self, x: Any, y: Any) -> Symbol:
        return self._divide("floor", x, y)

    def trunc_divide(self, x: Any, y: Any) -> Symbol:
        return self._divide("trunc", x, y)

    def _divide(self, rounding: str, x: Any, y: Any) -> Symbol:
        dtype = dtype_of(x, y)
        if dtype == UINT64:
            return self.helper("unsigned_divide", *self.pair(x, y), dtype=dtype, dims=broadcast(x, y))
        a, b = self._two(x, y, self.widened)
        made = self.call("torch.div", a, b, rounding_mode=rounding, dtype=WIDER.get(dtype, dtype))
        return self._known(self.astype(made, dtype), broadcast(x, y))

    def remainder(self, x: Any, y: Any) -> Symbol:
        if dtype_of(x, y) == UINT64:
            x = self.tensor(x, UINT64)
            return self._binary("-", x, self._binary("*", self._divide("trunc", x, y), y))
        return self._binary("%", x, y)

    def fmod(self, x: Any, y: Any) -> Symbol:
        dtype = dtype_of(x, y)
        if dtype == UINT64:
            return self.remainder(x, y)
        a, b = self._two(x, y, self.widened)
        made = self.call("torch.fmod", a, b, dtype=WIDER.get(dtype, dtype))
        return self._known(self.astype(made, dtype), broadcast(x, y))

    def right_shift(self, x: Any, y: Any) -> Symbol:
        if dtype_of(x, y) == UINT64:
            return self.helper("unsigned_shift", *self.pair(x, y), dtype=UINT64, dims=broadcast(x, y))
        return self._binary(">>", x, y)

    def maximum(self, x: Any, y: Any) -> Symbol:
        return self._extreme("torch.maximum", "min", x, y)

    def minimum(self, x: Any, y: Any) -> Symbol:
        return self._extreme("torch.minimum", "max", x, y)

    def _extreme(self, function: str, bound: str, x: Any, y: Any) -> Symbol:
        dtype, dims = dtype_of(x, y), broadcast(x, y)
        a, b = self._two(x, y, self.ordered)
        if not isinstance(a, Symbol):
            a, b = b, a
        if isinstance(b, Symbol):
            return self._known(self.unordered(self.call(function, a, b), dtype), dims)
        return self.method(a, "clamp", **{bound: b}, dims=dims)

    def where(self, condition: Symbol, x: Any, y: Any) -> Symbol:
        dtype = dtype_of(x, y)
        dims = broadcast(condition, self.made(ast.Constant(0), dtype=dtype, dims=broadcast(x, y)))
        x, y = self.pair(x, y) if isinstance(x, Symbol) or isinstance(y, Symbol) else (x, y)
        if dtype == BOOL:  # a plain bool would do, a plain int would not: both as tensors
            x, y = self.tensor(x, dtype), self.tensor(y, dtype)
        return self.call("torch.where", condition, x, y, dtype=dtype, dims=dims)

    # ---- making --------------------------------------------------------------------------------

    def arange(self, start: Any, stop: Any, step: Any, dtype: Any) -> Symbol:
        dtype = np.dtype(dtype)
        ends = [
            plain(end, dtype) if is_number(end, None) else self.method(end, "item").expr
            for end in (start, stop, step)
        ]
        made = self.make("torch.arange", *_range_words(ends), dtype=WIDER.get(dtype, dtype))
        return self.astype(made, dtype)

    def eye(self, rows: Any, columns: Any, k: int, dtype: Any) -> Symbol:
        dtype, dims = np.dtype(dtype), (rows, columns)
        if k == 0:
            made = self.make("torch.eye", rows, columns, dtype=BOOL if dtype in WIDER else dtype, dims=dims)
            return self.astype(made, dtype)
        down = self.expand_dims(self.arange(k, rows + k, 1, INT64), (1,))
        return self._known(self.astype(self.equal(down, self.arange(0, columns, 1, INT64)), dtype), dims)

    def shape(self, x: Symbol) -> Symbol:
        if x.fact.dims is not None:
            return self.make("torch.tensor", list(x.fact.dims), dtype=INT64, dims=(len(x.fact.dims),))
        return self.make("torch.tensor", ast.Attribute(x.expr, "shape", ast.Load()), dtype=INT64)

    # ---- sizes and places ----------------------------------------------------------------------

    def reshape(self, x: Symbol, sizes: Sequence[Any]) -> Symbol:
        if x.fact.dims == tuple(sizes):
            return x
        return self.method(x, "reshape", *(sizes or [()]), dims=_reshaped(x.fact.dims, sizes))

    def broadcast_to(self, x: Symbol, sizes: Sequence[Any]) -> Symbol:
        if x.fact.dims == tuple(sizes):
            return x
        return self.method(x, "expand", *(sizes or [()]), dims=tuple(sizes))

    def permute_dims(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        if tuple(axes) == tuple(range(len(axes))):
            return x
        dims = None if x.fact.dims is None else tuple(x.fact.dims[axis] for axis in axes)
        return self.method(x, "permute", *axes, dims=dims)

    def expand_dims(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        for axis in sorted(axes):
            dims = None if x.fact.dims is None else (*x.fact.dims[:axis], 1, *x.fact.dims[axis:])
            x = self.method(x, "unsqueeze", axis, dims=dims)
        return x

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        if not axes:
            return x
        dims = None if x.fact.dims is None else _without(x.fact.dims, axes)
        return self.method(x, "squeeze", axes[0] if len(axes) == 1 else tuple(axes), dims=dims)

    def concat(self, xs: Sequence[Symbol], axis: int) -> Symbol:
        return self.call("torch.cat", list(xs), axis) if len(xs) > 1 else xs[0]

    def stack(self, xs: Sequence[Symbol], axis: int) -> Symbol:
        return self.call("torch.stack", list(xs), axis)

    def unstack(self, x: Symbol, axis: int) -> tuple[Symbol, ...]:
        return self.unpack(self.method(x, "unbind", axis), x.size(axis))

    def split(self, x: Symbol, lengths: Sequence[Any], axis: int) -> tuple[Symbol, ...]:
        return self.unpack(self.method(x, "split", list(lengths), axis), len(lengths))

    def flip(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        return self.method(x, "flip", tuple(axes), dims=x.fact.dims)

    def tile(self, x: Symbol, repeats: Sequence[Any]) -> Symbol:
        return self.method(x, "repeat", *(repeats or [()]))

    def roll(self, x: Symbol, shift: int, axis: int) -> Symbol:
        return self.method(x, "roll", shift, axis, dims=x.fact.dims)

    def slice(self, x: Symbol, places: Mapping[int, tuple[Any, Any, int]]) -> Symbol:
        """A negative step is a flip first: place i counted from the other end is -(i + 1)."""
        turned = [axis for axis, (_, _, step) in places.items() if step < 0]
        if turned:
            x = self.flip(x, turned)
        cuts: list[Any] = [slice(None)] * (max(places, default=-1) + 1)
        for axis, (start, stop, step) in places.items():
            ends = (start, stop)
            if step < 0:
                ends = tuple(None if end is None else -1 - end for end in ends)  # type: ignore[assignment]
            first, last = (None if is_size(ends[0], 0) else ends[0]), ends[1]
            cuts[axis] = slice(first, last, None if abs(step) == 1 else abs(step))
        cuts = [slice(None) if cut == slice(None) else cut for cut in cuts]
        return x if all(cut == slice(None) for cut in cuts) else self.index(x, *cuts)

    def pad(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str, value: Any) -> Symbol:
        ends = [end for pair in reversed(_trimmed(pairs)) for end in pair]
        if not ends:
            return x
        dims = None
        if x.fact.dims is not None:
            dims = tuple(
                size + before + after for size, (before, after) in zip(x.fact.dims, pairs, strict=True)
            )
        if mode != "constant":
            made = self.helper("pad_by_index", self._as_bits(x), list(pairs), mode)
            return self._known(self._from_bits(made, x.dtype), dims)
        if isinstance(value, Symbol) and not is_number(value, x):
            inside = self.call("F.pad", self.like("torch.ones_like", x, BOOL), ends, dtype=BOOL, dims=dims)
            return self.where(inside, self.call("F.pad", x, ends, dims=dims), value)
        number = plain(value, x.dtype)
        return self.call("F.pad", x, ends, value=number if number else None, dims=dims)

    def _from_bits(self, x: Symbol, dtype: np.dtype[Any]) -> Symbol:
        return self.bitcast(x, dtype) if x.dtype != dtype else x

    def diagonal(self, x: Symbol, axis1: int, axis2: int) -> Symbol:
        return self.method(x, "diagonal", dim1=axis1, dim2=axis2)

    # ---- picking -------------------------------------------------------------------------------

    def _places(self, indices: Symbol) -> Symbol:
        return indices if indices.dtype == INT64 else self.astype(indices, INT64)

    def take(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        fixed = plain(indices, INT64) if is_number(indices, None) else self._places(indices)
        return self.index(x, *[slice(None)] * axis, fixed, dims=_taken_dims(x, indices, axis))

    def _counted_from_start(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        """Indices without negative ones."""
        content = indices.content
        if content is not None:
            if (content >= 0).all():
                return self._places(indices)
            if x.fact.dims is not None and not isinstance(x.fact.dims[axis], Size):
                return self.asarray(np.where(content < 0, content + x.fact.dims[axis], content), INT64)
        indices = self._places(indices)
        size = self.size_of(x, axis)
        return self.where(self.less(indices, 0), self.binary("+", indices, size), indices)

    def take_along_axis(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        places = self._counted_from_start(x, indices, axis)
        made = self.method(self._as_bits(x), "gather", axis, places, dims=indices.fact.dims)
        return self._from_bits(made, x.dtype)

    def gather_nd(self, x: Symbol, indices: Symbol, batch_dims: int) -> Symbol:
        if batch_dims == 0:
            return self.index(x, self._point(indices))
        return self.helper("gather_nd", x, self._places(indices), batch_dims)

    def _point(self, indices: Symbol) -> ast.expr:
        """A tuple of index tensors from the last axis."""
        return expr_of(self.call("tuple", self.method(self._places(indices), "unbind", -1)))

    def scatter_nd(self, x: Symbol, indices: Symbol, updates: Symbol, reduction: str) -> Symbol:
        if reduction in ("none", "add"):
            turn = self._as_bits if reduction == "none" else self.widened
            more = {"accumulate": True} if reduction == "add" else {}
            made = self.method(
                turn(x), "index_put", self._point(indices), turn(updates), dims=x.fact.dims, **more
            )
            return self._from_bits(made, x.dtype) if reduction == "none" else self.astype(made, x.dtype)
        wide, values = self.ordered(x), self.ordered(updates)
        self._known_reduction(reduction)
        made = self.helper("scatter_nd", wide, self._places(indices), values, _REDUCES[reduction])
        return self._known(self.unordered(made, x.dtype), x.fact.dims)

    def scatter_along_axis(
        self, x: Symbol, indices: Symbol, updates: Symbol, axis: int, reduction: str
    ) -> Symbol:
        places = self._counted_from_start(x, indices, axis)
        if reduction == "none":
            made = self.method(self._as_bits(x), "scatter", axis, places, self._as_bits(updates))
            return self._known(self._from_bits(made, x.dtype), x.fact.dims)
        self._known_reduction(reduction)
        turn = self.ordered if reduction in ("max", "min") else self.widened
        made = self.method(turn(x), "scatter_reduce", axis, places, turn(updates), _REDUCES[reduction])
        back = self.unordered if reduction in ("max", "min") else self.astype
        return self._known(back(made, x.dtype), x.fact.dims)

    def _known_reduction(self, reduction: str) -> None:
        if reduction not in _REDUCES:
            raise CannotConvert(f"the reduction '{reduction}' is not known")

    def nonzero(self, x: Symbol) -> Symbol:
        told = self.not_equal(x, 0) if x.dtype in WIDER else x
        return self.made(ast.Attribute(self.method(told, "nonzero").expr, "T", ast.Load()), dtype=INT64)

    def compress(self, x: Symbol, condition: Symbol, axis: int | None) -> Symbol:
        if axis is None:
            x, axis = self.reshape(x, (-1,)), 0
        places = self.method(self.method(condition, "nonzero", dtype=INT64), "squeeze", 1)
        return self.method(x, "index_select", axis, places)

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Symbol, Symbol]:
        """By a stable sort: ``torch.topk`` does not say which of equals comes first."""
        found = self.method(x, "sort", dim=axis, descending=bool(largest), stable=True)
        values, places = self.unpack(found, 2, [x.dtype, INT64])
        cut = {axis: (0, k, 1)}
        return self.slice(values, cut), self.slice(places, cut)

    def unique(self, x: Symbol, axis: int | None, sorted: bool) -> tuple[Symbol, ...]:
        made = self.helper("unique", x, axis, sorted=bool(sorted), dtype=x.dtype)
        return self.unpack(made, 4, [x.dtype, INT64, INT64, INT64])

    def tril(self, x: Symbol, k: Any) -> Symbol:
        return self._triangle("tril", x, k)

    def triu(self, x: Symbol, k: Any) -> Symbol:
        return self._triangle("triu", x, k)

    def _triangle(self, name: str, x: Symbol, k: Any) -> Symbol:
        made = self.method(self._as_bits(x), name, *([] if is_size(k, 0) else [k]), dims=x.fact.dims)
        return self._from_bits(made, x.dtype)

    # ---- along axes ----------------------------------------------------------------------------

    def sum(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        wide = self.widened(x)
        kind = wide.dtype if wide.dtype.kind in "iu" else None
        return self.astype(self._reduce("sum", wide, axes, keepdims, kind), x.dtype)

    def mean(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        if x.dtype.kind in "iu":
            return self.astype(self._reduce("mean", self.astype(x, FLOAT64), axes, keepdims), x.dtype)
        return self._reduce("mean", x, axes, keepdims)

    def prod(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        """One axis after the other: ``torch.prod`` takes no more."""
        made = self.widened(x)
        for axis in sorted(axes, reverse=True):
            kind = made.dtype if made.dtype.kind in "iu" else None
            made = self._reduce("prod", made, (axis,), keepdims, kind)
        return self.astype(made, x.dtype)

    def max(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._most("amax", x, axes, keepdims)

    def min(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._most("amin", x, axes, keepdims)

    def _most(self, name: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        dims = reduced(x, axes, keepdims)
        if (
            dims is not None
            and x.fact.dims is not None
            and any(is_size(x.fact.dims[axis], 0) for axis in axes)
        ):
            return self.full(dims, _least(x.dtype) if name == "amax" else _greatest(x.dtype), x.dtype)
        made = self._reduce(name, self.ordered(x), axes, keepdims)
        return self._known(self.unordered(made, x.dtype), dims)

    def _reduce(self, name: str, x: Symbol, axes: Sequence[int], keepdims: bool, kind: Any = None) -> Symbol:
        where = axes[0] if len(axes) == 1 else tuple(axes)
        function = ast.Attribute(x.expr, name, ast.Load())
        made = self.call_expr(function, where, keepdim=True if keepdims else None, dtype=kind)
        return self.made(made, x, dims=reduced(x, axes, keepdims))

    def argmax(self, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        return self._place_of("argmax", x, axis, keepdims)

    def argmin(self, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        return self._place_of("argmin", x, axis, keepdims)

    def _place_of(self, name: str, x: Symbol, axis: int, keepdims: bool) -> Symbol:
        told = self.astype(x, INT32) if x.dtype == BOOL else self.ordered(x)
        return self._known(self.astype(self._as(self._reduce(name, told, (axis,), keepdims), INT64), INT64),
                           reduced(x, (axis,), keepdims))  # fmt: skip

    def _as(self, x: Symbol, dtype: Any) -> Symbol:
        """The same expression, known to have another dtype than its operand."""
        return self.made(x.expr, dtype=dtype, dims=x.fact.dims)

    def cumulative_sum(self, x: Symbol, axis: int) -> Symbol:
        return self._running("cumsum", x, axis)

    def cumulative_prod(self, x: Symbol, axis: int) -> Symbol:
        return self._running("cumprod", x, axis)

    def _running(self, name: str, x: Symbol, axis: int) -> Symbol:
        wide = self.widened(x)
        function = ast.Attribute(wide.expr, name, ast.Load())
        made = self.call_expr(function, axis, dtype=wide.dtype if wide.dtype.kind in "iu" else None)
        return self.astype(self.made(made, wide, dims=x.fact.dims), x.dtype)

    def logsumexp(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._reduce("logsumexp", x, axes, keepdims)

    def softmax(self, x: Symbol, axis: int) -> Symbol:
        return self.call("torch.softmax", x, axis, dims=x.fact.dims)

    def log_softmax(self, x: Symbol, axis: int) -> Symbol:
        return self.call("torch.log_softmax", x, axis, dims=x.fact.dims)

    # ---- algebra -------------------------------------------------------------------------------

    def matmul(self, a: Symbol, b: Symbol) -> Symbol:
        made = self.binary("@", self.widened(a), self.widened(b))
        return self.astype(made, a.dtype)

    def einsum(self, equation: str, *xs: Symbol) -> Symbol:
        made = self.call("torch.einsum", equation, *(self.widened(x) for x in xs))
        return self.astype(made, xs[0].dtype)

    def det(self, x: Symbol) -> Symbol:
        wide = self.astype(x, FLOAT32) if x.dtype.itemsize < 4 else x
        return self.astype(self.call("torch.linalg.det", wide), x.dtype)

    def dft(self, x: Symbol, axis: int, length: Any, inverse: bool, onesided: bool) -> Symbol:
        """Half types through float32; one half of the spectrum is ``rfft``'s, or cut off a whole one."""
        wide = self.astype(x, FLOAT32) if x.dtype.itemsize < 4 else x
        options = {"inverse": True if inverse else None, "onesided": True if onesided else None}
        return self.astype(self.helper("dft", wide, axis, length, **options, dtype=wide.dtype), x.dtype)


def _elementwise(function: str) -> Callable[[TorchNamespace, Symbol], Symbol]:
    def word(self: TorchNamespace, x: Symbol) -> Symbol:
        made = self.call(function, self.widened(x), dims=x.fact.dims)
        return self.astype(made, x.dtype)

    return word


def _signed(sign: str) -> Callable[[TorchNamespace, Any, Any], Symbol]:
    return lambda self, x, y: self._binary(sign, x, y)


def _comparing(sign: str) -> Callable[[TorchNamespace, Any, Any], Symbol]:
    return lambda self, x, y: self._compare(sign, x, y)


for _word in ELEMENTWISE:
    if _word not in vars(TorchNamespace):
        setattr(TorchNamespace, _word, _elementwise(f"torch.{_word}"))
for _word, _sign in _SIGNED_WORDS.items():
    if _word not in vars(TorchNamespace):
        setattr(TorchNamespace, _word, _signed(_sign))
for _word, _sign in _COMPARISONS.items():
    setattr(TorchNamespace, _word, _comparing(_sign))


def reduced(x: Symbol, axes: Sequence[int], keepdims: bool) -> Any:
    """The sizes that are left after a reduction."""
    if x.fact.dims is None:
        return None
    if keepdims:
        return tuple(1 if axis in axes else size for axis, size in enumerate(x.fact.dims))
    return _without(x.fact.dims, axes)


def _without(dims: Sequence[Any], axes: Sequence[int]) -> tuple[Any, ...]:
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)


def _taken_dims(x: Symbol, indices: Symbol, axis: int) -> Any:
    if x.fact.dims is None or indices.fact.dims is None:
        return None
    return (*x.fact.dims[:axis], *indices.fact.dims, *x.fact.dims[axis + 1 :])


def _reshaped(dims: Sequence[Any] | None, sizes: Sequence[Any]) -> Any:
    """The sizes after a reshape; what -1 stands for where all others are numbers."""
    if not any(is_size(size, -1) for size in sizes):
        return tuple(sizes)
    if dims is None or not known((*dims, *sizes)) or 0 in sizes:
        return None
    rest = product(dims) // -product(sizes)
    return tuple(rest if size == -1 else size for size in sizes)


def _trimmed(pairs: Sequence[tuple[Any, Any]]) -> Sequence[tuple[Any, Any]]:
    """Without the leading axes that get nothing: ``F.pad`` counts from the last."""
    first = next((i for i, pair in enumerate(pairs) if not all(is_size(end, 0) for end in pair)), len(pairs))
    return pairs[first:]


def _range_words(ends: Sequence[Any]) -> Sequence[Any]:
    """``range(n)``, ``range(a, n)`` or all three."""
    start, stop, step = ends
    if not _is_one(step, 1):
        return ends
    return [stop] if _is_one(start, 0) else [start, stop]


def _is_one(end: Any, number: int) -> bool:
    return isinstance(end, int | float) and end == number


def _least(dtype: np.dtype[Any]) -> Any:
    return False if dtype == BOOL else int(np.iinfo(dtype).min) if dtype.kind in "iu" else float("-inf")


def _greatest(dtype: np.dtype[Any]) -> Any:
    return True if dtype == BOOL else int(np.iinfo(dtype).max) if dtype.kind in "iu" else float("inf")
