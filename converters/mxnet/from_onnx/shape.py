"""Functions of the namespace that move elements: reshapes, slices, pads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size, known, product, total
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.elementwise import UINT8, Elementwise, Number
from netferry.converters.mxnet.from_onnx.sizes import Cut, codes_for, completed, expanded, shown
from netferry.converters.mxnet.from_onnx.writer import BOOL, FLOAT32, INT64, Dims, exact
from netferry.converters.signature import Array


class Shapes(Elementwise):
    """Making tensors, and where their elements stand."""

    # ---- making ----------------------------------------------------------------------------------

    def asarray(self, content: Any, dtype: Any = None) -> Symbol:
        return self.constant(np.asarray(content, dtype))

    def full(self, sizes: Sequence[Any], value: Number, dtype: np.dtype[Any]) -> Symbol:
        """A filler; free sizes are taken from a value that has them."""
        dims, fixed = tuple(sizes), tuple(1 if isinstance(size, Size) else size for size in sizes)
        if math.isfinite(value) and exact(value):
            made = self.apply(
                "_full",
                gives=np.dtype(dtype),
                dims=fixed,
                shape=fixed or (1,),
                value=float(value),
                dtype=dtype,
            )
        else:  # no attribute holds it
            made = self.constant(np.full((1,) * len(fixed), value, dtype))
        return self.broadcast_to(made, dims)

    def arange(self, start: Any, stop: Any, step: Any, dtype: np.dtype[Any]) -> Symbol:
        """Numbers; a stop that is a free size is counted along a value that has it."""
        start, stop, step = (_number(bound) for bound in (start, stop, step))
        if isinstance(start, int) and isinstance(stop, Size) and step == 1:
            like, axis = self.source_of(stop - start)
            like = (
                like if like.dtype.itemsize >= 4 else self.astype(like, FLOAT32)
            )  # it counts in its own dtype
            counted = self.apply(
                "_contrib_arange_like",
                like,
                gives=like.dtype,
                dims=(stop - start,),
                axis=axis,
                start=start or None,
            )
            return self.astype(counted, dtype)
        if not all(isinstance(bound, int | float) for bound in (start, stop, step)):
            raise CannotConvert("a range whose bounds are known only when the model runs")
        budget.make(max((stop - start) / step, 0))
        return self.constant(np.arange(start, stop, step, dtype))

    def eye(self, rows: Any, columns: Any, k: int, dtype: np.dtype[Any]) -> Symbol:
        if not known((rows, columns)):
            raise CannotConvert("a diagonal matrix whose sizes are known only when the model runs")
        budget.make(rows * columns)
        return self.constant(np.eye(rows, columns, k, dtype))

    def of_sizes(self, content: Array, dtype: np.dtype[Any]) -> Symbol:
        """Free sizes are read where a value has them."""
        numbers = [
            self.size_tensor(item, dtype) if isinstance(item, Size) else self.full((), item, dtype)
            for item in content.reshape(-1)
        ]
        row = self.concat([self._with_dims(number, (1,)) for number in numbers], 0)
        return self.reshape(row, content.shape) if content.ndim != 1 else row

    def shape(self, x: Symbol) -> Symbol:
        return self.apply("shape_array", x, gives=INT64, dims=(x.ndim,))

    # ---- sizes and positions --------------------------------------------------------------------------

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
        """Leading sizes from a value that begins with them: what reshape's codes do not express."""
        if dims is None or x.fact.dims is None:
            raise CannotConvert("a reshape to sizes that are known only when the model runs")
        free = [size for size in dims if isinstance(size, Size)]
        like = next(
            (position for size in free for position in [self._size_sources.get(size)] if position), None
        )
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
        raise CannotConvert(
            f"MXNet's reshape has no codes for {shown(x.fact.dims)} to {shown(dims)}",
            "Give the source model fixed sizes",
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
                    raise CannotConvert(f"it is not known whether {old} is {new}")
                like, position = self.source_of(new)
                have = (*have[:axis], new, *have[axis + 1 :])
                x = self.apply("broadcast_like", x, like, dims=have, lhs_axes=(axis,), rhs_axes=(position,))
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
            x = self.apply(
                "expand_dims", x, dims=None if have is None else expanded(have, (axis,)), axis=axis
            )
        return Symbol(self, x.fact, x.expr) if dims is None else x

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        gone = set(axes)
        if not gone:
            return x
        dims = (
            None
            if x.fact.dims is None
            else tuple(s for axis, s in enumerate(x.fact.dims) if axis not in gone)
        )
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
            whole = total(shape[axis] for shape in (first, *shapes[1:]) if shape is not None)
            dims = (*first[:axis], whole, *first[axis + 1 :])
        truths = xs[0].dtype == BOOL
        parts = [self.astype(x, UINT8) for x in xs] if truths else list(map(self._tensor, xs))
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
        position, output = x.expr
        return self.entry(position, output, x.dtype, dims)

    def unstack(self, x: Symbol, axis: int) -> tuple[Symbol, ...]:
        return tuple(self.squeeze(part, (axis,)) for part in self.split(x, (1,) * x.size(axis), axis))

    def split(self, x: Symbol, lengths: Sequence[Any], axis: int) -> tuple[Symbol, ...]:
        if not known(lengths):
            raise CannotConvert("a split into lengths that are known only when the model runs")
        if len(lengths) == 1:
            return (x,)
        shapes = [
            None if x.fact.dims is None else (*x.fact.dims[:axis], n, *x.fact.dims[axis + 1 :])
            for n in lengths
        ]
        if len(set(lengths)) == 1 and x.dtype != BOOL:
            position = self.node_of("SliceChannel", x, num_outputs=len(lengths), axis=axis)
            return tuple(self.entry(position, i, x.dtype, dims) for i, dims in enumerate(shapes))
        parts, at = [], 0
        for length, dims in zip(lengths, shapes, strict=True):
            parts.append(self.apply("slice_axis", x, dims=dims, axis=axis, begin=at, end=at + length))
            at += length
        return tuple(parts)

    def flip(self, x: Symbol, axes: Sequence[int]) -> Symbol:
        return self.as_bytes(x, lambda y: self.apply("reverse", y, dims=y.fact.dims, axis=tuple(axes)))

    def tile(self, x: Symbol, repeats: Sequence[Any]) -> Symbol:
        if not known(repeats):
            raise CannotConvert("repetitions that are known only when the model runs")
        if any(n == 0 for n in repeats):
            raise CannotConvert("MXNet has no empty tensors")
        for axis, n in enumerate(repeats):  # at once MXNet would need two axes for each
            if n != 1:
                dims = (
                    None
                    if x.fact.dims is None
                    else (*x.fact.dims[:axis], x.fact.dims[axis] * n, *x.fact.dims[axis + 1 :])
                )
                x = self.apply(
                    "tile", x, dims=dims, reps=tuple(n if i == axis else 1 for i in range(len(repeats)))
                )
        return x

    def roll(self, x: Symbol, shift: int, axis: int) -> Symbol:
        size = x.size(axis)
        shift = shift % size
        if not shift:
            return x
        last, first = self.split(x, (size - shift, shift), axis)
        return self.concat([first, last], axis)

    def slice(self, x: Symbol, positions: Mapping[int, tuple[Any, Any, Any]]) -> Symbol:
        """Python's meaning. Bounds on an axis of free size count from whichever end they are given."""
        dims = list(x.shape)
        begin: list[Any] = [None] * len(dims)
        end: list[Any] = [None] * len(dims)
        step: list[Any] = [None] * len(dims)
        for axis, bounds in positions.items():
            cut = Cut.of(dims[axis], *bounds)
            if cut.like is not None:
                x = self._cut_like(x, axis, cut.like)
            begin[axis], end[axis], step[axis], dims[axis] = cut.begin, cut.end, cut.step, cut.size
        if begin == end == step == [None] * len(dims):
            return x
        steps = tuple(step) if any(step) else None
        return self.apply("slice", x, dims=tuple(dims), begin=tuple(begin), end=tuple(end), step=steps)

    def _cut_like(self, x: Symbol, axis: int, size: Size) -> Symbol:
        """The first ``size`` elements of an axis: as many as another value has."""
        like, position = self.source_of(size)
        if position != axis:
            order = [position if i == axis else axis if i == position else i for i in range(like.ndim)]
            if max(order) >= like.ndim or axis >= like.ndim:
                raise CannotConvert(f"no value has the size {size} on axis {axis}")
            like = self.permute_dims(like, order)
        dims = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        return self.apply("slice_like", x, like, dims=dims, axes=(axis,))

    def pad(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str, value: Any) -> Symbol:
        """``_npi_pad``; a negative pad cuts."""
        if not known(size for pair in pairs for size in pair):
            raise CannotConvert("pads that are known only when the model runs")
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
                    raise CannotConvert("reflecting pads that may be longer than the axis")
        dims = tuple(size + before + after for size, (before, after) in zip(have, width, strict=True))
        if mode == "constant":
            number = self._scalar(value)
            if number is None:
                raise CannotConvert(
                    "padding with a value that is known only when the model runs, or not finite"
                )
            if len(have) in (4, 5) and x.dtype.kind == "f" and width[:2] == ((0, 0), (0, 0)):
                flat = tuple(size for pair in width for size in pair)
                return self.apply(
                    "Pad", x, dims=dims, mode=mode, pad_width=flat, constant_value=float(number)
                )
            return self.as_bytes(
                x,
                lambda y: self.apply(
                    "_npi_pad", y, dims=dims, mode=mode, pad_width=width, constant_value=float(number)
                ),
            )
        return self.as_bytes(x, lambda y: self.apply("_npi_pad", y, dims=dims, mode=mode, pad_width=width))

    def _wrapped(self, x: Symbol, width: Sequence[tuple[int, int]]) -> Symbol:
        for axis, (before, after) in enumerate(width):
            size = x.shape[axis]
            if not (before or after):
                continue
            if isinstance(size, Size) or before > size or after > size:
                raise CannotConvert("wrapping pads that may be longer than the axis")
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


def _number(bound: Any) -> Any:
    if isinstance(bound, Symbol):
        return bound if bound.fact.content is None else bound.fact.content.item()
    if isinstance(bound, np.generic | np.ndarray):
        return bound.item()
    return bound
