"""The functions of the array namespace that make tensors and arrange their elements, in PyTorch's own."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.graph.ir.sizes import known, product
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.pytorch.dtypes import (
    BOOL,
    INT64,
    WIDER,
)
from netferry.converters.pytorch.from_onnx.namespace_elementwise import ElementwiseNamespace
from netferry.converters.pytorch.from_onnx.writer import (
    is_number,
    is_size,
    plain,
)


class ShapeNamespace(ElementwiseNamespace):
    """Making, sizes and axes."""

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

    # ---- sizes and axes ------------------------------------------------------------------------

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
        dims = None if x.fact.dims is None else without(x.fact.dims, axes)
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

    def slice(self, x: Symbol, positions: Mapping[int, tuple[Any, Any, int]]) -> Symbol:
        """A negative step is a flip first: index i counted from the other end is -(i + 1)."""
        turned = [axis for axis, (_, _, step) in positions.items() if step < 0]
        if turned:
            x = self.flip(x, turned)
        cuts: list[Any] = [slice(None)] * (max(positions, default=-1) + 1)
        for axis, (start, stop, step) in positions.items():
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


def without(dims: Sequence[Any], axes: Sequence[int]) -> tuple[Any, ...]:
    return tuple(size for axis, size in enumerate(dims) if axis not in axes)


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
