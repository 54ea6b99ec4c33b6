"""Functions of the namespace that move elements: reshapes, slices, pads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.sizes import Size, known, product, total
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.mxnet.from_onnx.elementwise import UINT8, Elementwise, Number
from netferry.converters.mxnet.from_onnx.sizes import Cut, codes_for, completed, expanded, runs
from netferry.converters.mxnet.from_onnx.writer import BOOL, FLOAT32, INT64, Dims, exact, never_empty
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
        dims = completed(never_empty(tuple(sizes)), x.fact.dims)
        if dims is not None and dims == x.fact.dims:
            return x
        codes = codes_for(x.fact.dims, dims, tuple(sizes))
        if codes is None:
            return self._reshape_like(x, dims)
        return self.apply("Reshape", x, dims=dims, shape=codes)

    def _reshape_like(self, x: Symbol, dims: Dims | None) -> Symbol:
        """What one list of codes does not express: run by run, whose axes are merged, then split."""
        if dims is None or x.fact.dims is None:
            raise CannotConvert("a reshape to sizes that are known only when the model runs")
        at = 0
        for count, run in runs(x.fact.dims, dims):
            for _ in range(count - 1):
                have = x.shape
                merged = (*have[:at], have[at] * have[at + 1], *have[at + 2 :])
                x = self.apply("Reshape", x, dims=merged, shape=(*(0,) * at, -3, -2))
            x = self._split_axis(x, at, run)
            at += len(run)
        return x

    def _split_axis(self, x: Symbol, at: int, run: Dims) -> Symbol:
        """An axis in several, of which more than one may be free."""
        before, behind = x.shape[:at], x.shape[at + 1 :]
        if sum(isinstance(size, Size) for size in run) > 1:
            like, axis = self._having(run)
            return self.apply(
                "reshape_like", x, like, dims=(*before, *run, *behind),
                lhs_begin=at, lhs_end=at + 1, rhs_begin=axis, rhs_end=axis + len(run),
            )  # fmt: skip
        for place, size in enumerate(run[:-1]):
            rest = product(run[place + 1 :])
            cut = (-1, rest) if isinstance(size, Size) else (size, -1)
            have = (*before, *run[: place + 1], rest, *behind)
            x = self.apply("Reshape", x, dims=have, shape=(*(0,) * (at + place), -4, *cut, -2))
        return x

    def _having(self, dims: Dims) -> tuple[Symbol, int]:
        """A value, and the axis at which it has these sizes side by side."""
        if isinstance(dims[0], Size):
            like, axis = self.source_of(dims[0])
            if like.shape[axis : axis + len(dims)] == dims:
                return like, axis
        rows = (
            self.row_of(size) if isinstance(size, Size) else self.full((size,), 0, UINT8) for size in dims
        )
        return reduce(self.laid_out, rows), 0

    def row_of(self, size: Size) -> Symbol:
        """Bytes in one axis of this size: as many as a value has along an axis, or as a formula of such sizes says."""
        source = self._size_sources.get(size)
        if source is not None:
            like, axis = source
            counting = self.astype(like, FLOAT32) if like.dtype.itemsize < 4 else like
            row = self.apply("_contrib_arange_like", counting, dims=(size,), axis=axis)
            return self.astype(row, UINT8)

        refused = CannotConvert(
            f"the size {size} is known only when the model runs, and no axis of a value has it",
            "Give the source model fixed sizes",
        )

        def named(name: str) -> Symbol:
            if Size.named(name) not in self._size_sources:
                raise refused
            return self.row_of(Size.named(name))

        def called(word: str, a: Any, b: Any) -> Any:
            if isinstance(a, int) and word in ("+", "*"):
                a, b = b, a
            if not isinstance(a, Symbol) or (word, type(b)) not in _ROWS or (isinstance(b, int) and b < 1):
                raise refused
            return _ROWS[word, type(b)](self, a, b)

        return self._with_dims(size.build(named, called, int), (size,))

    def laid_out(self, x: Symbol, row: Symbol) -> Symbol:
        """A grid, with another axis behind."""
        dims = (*x.shape, *row.shape)
        return self.apply("broadcast_add", self.expand_dims(x, (x.ndim,)), row, dims=dims)

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
            like = self.expand_dims(self.row_of(size), tuple(range(axis)))
        dims = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        return self.apply("slice_like", x, like, dims=dims, axes=(axis,))

    def pad(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str, value: Any) -> Symbol:
        """Of MXNet's two paddings the one that has a gradient here; a negative pad cuts."""
        pairs = list(pairs)
        for axis, (before, after) in enumerate(pairs):
            whole = x.shape[axis] + after
            if before == 0 and isinstance(after, Size) and isinstance(whole, int) and mode == "constant":
                x, pairs[axis] = self._filled(x, axis, whole, value), (0, 0)
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
        have = x.shape
        if mode == "reflect" and any(
            not isinstance(size, Size) and max(pair) >= size for size, pair in zip(have, width, strict=True)
        ):
            raise CannotConvert("reflecting pads that are longer than the axis")
        number = self._scalar(value) if mode == "constant" else 0
        if number is None:
            raise CannotConvert("padding with a value that is known only when the model runs, or not finite")
        fill = {"constant_value": float(number)} if mode == "constant" else {}
        lead = max(2 - next(axis for axis, pair in enumerate(width) if any(pair)), 4 - len(have), 0)
        if x.dtype.kind == "f" and lead + len(have) <= 5 and (mode != "constant" or not lead):
            return self._padded("Pad", x, lead, width, mode=mode, **fill)
        lead = int(len(have) == 1)
        return self.as_bytes(x, lambda y: self._padded("_npi_pad", y, lead, width, mode=mode, **fill))

    def _filled(self, x: Symbol, axis: int, whole: int, value: Any) -> Symbol:
        """An axis of free size filled up to a known one: as much is put behind as is always enough, and the rest cut."""
        number = self._scalar(value)
        if number is None:
            raise CannotConvert("padding with a value that is known only when the model runs, or not finite")
        more = self.full((*x.shape[:axis], whole, *x.shape[axis + 1 :]), number, x.dtype)
        return self.slice(self.concat([x, more], axis), {axis: (0, whole, 1)})

    def _padded(
        self, op: str, x: Symbol, lead: int, width: Sequence[tuple[int, int]], **attrs: Any
    ) -> Symbol:
        """One padding, with ``lead`` axes of size 1 in front of those that it needs.

        ``Pad`` leaves two leading axes of four or five alone; ``_npi_pad`` needs two axes, pads whole numbers too, and has a
        gradient where it pads with a number.
        """
        leading = tuple(range(lead))
        wide = self.expand_dims(x, leading) if lead else x
        pairs = ((0, 0),) * lead + tuple(width)
        dims = tuple(size + sum(pair) for size, pair in zip(wide.shape, pairs, strict=True))
        widths = tuple(size for pair in pairs for size in pair) if op == "Pad" else pairs
        made = self.apply(op, wide, dims=dims, pad_width=widths, **attrs)
        return self.squeeze(made, leading) if lead else made

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


_ROWS: Mapping[tuple[str, type], Callable[[Shapes, Symbol, Any], Symbol]] = {
    ("+", int): lambda xp, row, more: xp.concat([row, xp.full((more,), 0, UINT8)], 0),
    ("+", Symbol): lambda xp, row, other: xp.concat([row, other], 0),
    ("-", int): lambda xp, row, fewer: xp.slice(row, {0: (0, -fewer, 1)}),
    ("*", int): lambda xp, row, times: xp.tile(row, (times,)),
    ("*", Symbol): lambda xp, row, other: xp.reshape(xp.laid_out(row, other), (-1,)),
    ("//", int): lambda xp, row, part: xp.slice(row, {0: (part - 1, None, part)}),
}
"""How a row is made as long as a function of the lengths of one or two says; no row is empty."""
