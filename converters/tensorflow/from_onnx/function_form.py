"""The function form: operations of ``tf`` in the ``call`` of a model with its own source.

It holds whatever a graph may ask: sizes that are known only when it runs, branches and loops.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import partialmethod
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.codegen.writer import dotted
from netferry.converters.graph.ir.facts import Fact, is_float
from netferry.converters.graph.ir.sizes import Size, known, largest
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.ops.table import ints
from netferry.converters.tensorflow.from_onnx.function_names import INT32, INT64
from netferry.converters.tensorflow.from_onnx.function_writer import SMALL_FLOATS, FunctionWriter
from netferry.converters.tensorflow.from_onnx.layout import Tensor
from netferry.converters.tensorflow.from_onnx.table import NATIVE

_WIDER: Mapping[str, np.dtype[Any]] = {
    "int8": INT32, "int16": INT32, "uint8": INT32, "uint16": INT32, "uint32": INT64, "uint64": INT64,
}  # fmt: skip
_WIDENED = frozenset({"sign", "matmul", "einsum", "sum", "prod", "mean", "max", "min", "pow", "negative", "truncatediv",
                         "cumulative_sum", "cumulative_prod", "abs", "fmod", "remainder", "trunc_divide", "floor_divide"})  # fmt: skip
"""Functions for which TensorFlow lacks kernels of small and unsigned integers: a wider one computes the same, wrapped."""


_NARROW = frozenset({"float16", "bfloat16"})


class Function(FunctionWriter):
    """The array namespace in ``tf``, where that means something else than NumPy."""

    rows = NATIVE

    # ---- where TensorFlow means something else ---------------------------------------------------------------

    def write_call(
        self, operation: str, *args: Any, dtype: Any = None, dims: Any = None, perm: Any = None, **kwargs: Any
    ) -> Tensor:
        if dtype is None:
            dtype = next((x.fact.dtype for x in _symbols(args)), None)
        wide = _WIDER.get(dtype.name) if operation in _WIDENED and dtype is not None else None
        if wide is None:
            return super().write_call(operation, *args, dtype=dtype, dims=dims, perm=perm, **kwargs)
        widened = [self._widened(x, wide) for x in args]
        made = super().write_call(operation, *widened, dtype=wide, dims=dims, perm=perm, **kwargs)
        return super().write_call("astype", made.base, dtype, dtype=dtype, dims=dims, perm=perm)

    def _widened(self, x: Any, wide: np.dtype[Any]) -> Any:
        if isinstance(x, Symbol):
            x = x.expr
        return self.call_expr(dotted("tf.cast"), x, wide) if isinstance(x, ast.expr) else x

    def astype(self, x: Any, dtype: np.dtype[Any]) -> Tensor:
        """Also to and from the small floats, by way of float32, where what is too large becomes the largest."""
        largest_one, wide = SMALL_FLOATS.get(dtype.name), np.dtype(np.float32)
        if x.dtype.name in SMALL_FLOATS and dtype != wide:
            x = super().astype(x, wide)
        if largest_one is None:
            return super().astype(x, dtype)
        single = super().astype(x, wide)
        return super().astype(self.minimum(self.maximum(single, -largest_one), largest_one), dtype)

    def fmod(self, a: Any, b: Any) -> Tensor:
        """TensorFlow has no kernel for half floats: what float32 gives is exact in them too."""
        dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
        if dtype.name not in _NARROW:
            return self._binary("fmod", a, b)
        wide = np.dtype(np.float32)
        return self.astype(
            self._binary("fmod", *(self.astype(x, wide) if isinstance(x, Symbol) else x for x in (a, b))),
            dtype,
        )

    def _shift(self, operation: str, a: Any, b: Any) -> Tensor:
        """By no bit or by all of them is 0, or the sign: TensorFlow's own answer depends on the machine."""
        dtype = next(x.dtype for x in (a, b) if isinstance(x, Symbol))
        bits = 8 * dtype.itemsize
        positions = b if not isinstance(b, Symbol) else b.content
        if positions is not None and np.all((np.asarray(positions) >= 0) & (np.asarray(positions) < bits)):
            return self._binary(operation, a, b)
        top = self.asarray(bits - 1, dtype)
        inside = self.logical_and(self.greater_equal(b, 0), self.less_equal(b, top))
        shifted = self._binary(operation, a, self.where(inside, b, top))
        signed = operation == "right_shift" and dtype.kind == "i"
        return shifted if signed else self.where(inside, shifted, self.asarray(0, dtype))

    left_shift = partialmethod(_shift, "left_shift")
    right_shift = partialmethod(_shift, "right_shift")

    def pad(
        self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str = "constant", value: Any = 0
    ) -> Tensor:
        """A pad that is known only when the model runs may cut as well."""
        free = {axis: pair for axis, pair in enumerate(pairs) if not known(pair)}
        if mode != "constant" or not free:
            return super().pad(x, pairs, mode, value)
        grown = [
            tuple(self._positive(n) for n in pair) if axis in free else pair
            for axis, pair in enumerate(pairs)
        ]
        whole = self.let(super().pad(x, grown, mode, value), "padded")
        cuts = []
        for axis in range(max(free) + 1):
            before, after = (self._positive(-n) for n in free.get(axis, (0, 0)))
            end = self.call_expr_index("tf.shape", whole.expr, axis)
            cuts.append(
                slice(before, ast.BinOp(end, ast.Sub(), self.to_expr(after))) if axis in free else slice(None)
            )
        return Tensor(self, Fact(x.dtype), self.index(whole, *cuts).expr)

    def _positive(self, size: Any) -> Any:
        return largest(size, 0) if isinstance(size, Size) else max(size, 0)

    def _reduce(self, operation: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Tensor:
        if x.dtype.kind == "b":
            operation = {"max": "any", "min": "all"}.get(operation, operation)
        return super()._reduce(operation, x, axes, keepdims)

    def matmul(self, a: Symbol, b: Symbol) -> Tensor:
        """Vectors become a row and a column; TensorFlow multiplies matrices alone."""
        rows, columns = a.ndim == 1, b.ndim == 1
        left = self.expand_dims(a, (0,)) if rows else a
        right = self.expand_dims(b, (1,)) if columns else b
        whole: Tensor = super().matmul(left, right)
        rank = max(left.ndim, right.ndim)
        gone = ((rank - 2,) if rows else ()) + ((rank - 1,) if columns else ())
        return self.squeeze(whole, gone) if gone else whole

    def permuted(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        """A transposition that is written at once."""
        expr = self.transposed(x.expr, tuple(axes))
        return Tensor(self, Fact(x.fact.dtype), expr)

    def bitcast(self, x: Symbol, dtype: np.dtype[Any]) -> Tensor:
        bits = self.astype(x, np.dtype(np.uint8)) if x.dtype.kind == "b" else x
        return self.call("tf.bitcast", bits, dtype, dtype=dtype)

    def take(self, x: Symbol, indices: Any, axis: int) -> Tensor:
        return self.read_at(x, self.counted_up(x, indices, axis), axis)

    def counted_up(self, x: Symbol, indices: Any, axis: int) -> Any:
        """Indices counted from 0: negative ones count from the end."""
        content = indices.content
        if content is not None and (content >= 0).all():
            return indices
        size = x.fact.dims[axis] if x.fact.dims is not None else None
        if content is not None and isinstance(size, int):
            return Tensor(
                self, Fact(indices.dtype, content.shape, np.where(content < 0, content + size, content))
            )
        total = self.size_of(x, axis) if size is None else self.to_expr(size)
        counted = self.call("tf.cast", total, indices.dtype, dtype=indices.dtype, dims=())
        return self.where(self.less(indices, 0), self.add(indices, counted), indices)

    def _argument(self, operation: str, x: Symbol, axis: int, keepdims: bool) -> Tensor:
        position: Tensor = self.call(f"tf.{operation}", x, axis=axis, dtype=INT64)
        return self.expand_dims(position, (axis,)) if keepdims else position

    argmax = partialmethod(_argument, "argmax")
    argmin = partialmethod(_argument, "argmin")

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Tensor, ...]:
        """Of the last axis; for the smallest, of what falls where ``x`` rises (-1 - x of integers: no overflow)."""
        last = x.ndim - 1
        order = tuple(last if i == axis else axis if i == last else i for i in range(x.ndim))
        falls = "negative" if is_float(x.dtype) else "bitwise_invert"
        ordered = self.permute_dims(x if largest else self._unary(falls, x), order)
        whole = self.call("tf.math.top_k", ordered, k, dtype=x.dtype)
        values, positions = self.unpack(whole, 2, [x.dtype, INT32])
        found = values if largest else self._unary(falls, values)
        return tuple(self.permute_dims(part, order) for part in (found, self.astype(positions, INT64)))

    def diagonal(self, x: Symbol, axis1: int, axis2: int) -> Tensor:
        order = (*(i for i in range(x.ndim) if i not in (axis1, axis2)), axis1, axis2)
        return self.call("tf.linalg.diag_part", self.permute_dims(x, order), dtype=x.dtype)

    def tril(self, x: Symbol, k: int) -> Tensor:
        return self._triangle(x, lambda rows, columns: self.less_equal(columns, rows + k))

    def triu(self, x: Symbol, k: int) -> Tensor:
        return self._triangle(x, lambda rows, columns: self.greater_equal(columns, rows + k))

    def _triangle(self, x: Symbol, keep: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        rows, columns = (self.expand_dims(self.arange(0, x.shape[axis], 1, INT64), (side,))
                         for axis, side in ((-2, 1), (-1, 0)))  # fmt: skip
        return self.where(keep(rows, columns), x, self.asarray(0, x.dtype))

    # ---- picking ---------------------------------------------------------------------------------------------

    def take_along_axis(self, x: Symbol, indices: Symbol, axis: int) -> Tensor:
        return self.call("tf.gather_nd", x, self._coordinates(x, indices, axis), dtype=x.dtype)

    def _coordinates(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        """For each element of ``indices`` its place in ``x``, (..., rank): its own, but along ``axis``."""
        positions: Any = self.counted_up(x, indices, axis)
        if x.ndim == 1:
            return self.expand_dims(positions, (1,))
        ranges = [self.arange(0, size, 1, indices.dtype) for size in indices.shape]
        grid = self.unpack(self.call("tf.meshgrid", *ranges, indexing="ij", dtype=indices.dtype), x.ndim)
        return self.stack([positions if i == axis else part for i, part in enumerate(grid)], x.ndim)

    def _positive_nd(self, x: Symbol, indices: Symbol, batch_dims: int) -> Symbol:
        """Coordinates counted from 0."""
        if indices.content is not None and (indices.content >= 0).all():
            return indices
        depth = indices.size(indices.ndim - 1)
        sizes = self.call(
            "tf.cast",
            [*x.shape[batch_dims : batch_dims + depth]],
            indices.dtype,
            dtype=indices.dtype,
            dims=(depth,),
        )
        return self.where(self.less(indices, 0), self.add(indices, sizes), indices)

    def gather_nd(self, x: Symbol, indices: Symbol, batch_dims: int = 0) -> Tensor:
        positions = self._positive_nd(x, indices, batch_dims)
        return self.call("tf.gather_nd", x, positions, batch_dims=batch_dims or None, dtype=x.dtype)

    def scatter_nd(self, x: Symbol, indices: Symbol, updates: Symbol, reduction: str) -> Tensor:
        return self._scattered(x, self._positive_nd(x, indices, 0), updates, reduction)

    def scatter_along_axis(
        self, x: Symbol, indices: Symbol, updates: Symbol, axis: int, reduction: str
    ) -> Tensor:
        return self._scattered(x, self._coordinates(x, indices, axis), updates, reduction)

    def _scattered(self, x: Symbol, positions: Symbol, updates: Symbol, reduction: str) -> Tensor:
        if reduction == "mul":
            return self._scattered_product(x, positions, updates)
        operation = {"none": "update", "add": "add", "max": "max", "min": "min"}[reduction]
        return self.call(f"tf.tensor_scatter_nd_{operation}", x, positions, updates, dtype=x.dtype)

    def _scattered_product(self, x: Symbol, positions: Symbol, updates: Symbol) -> Tensor:
        """Each element, or each slice that a position names, times the product of its updates."""
        (depth,) = (x.ndim,) if positions.fact.dims is None else ints(positions.shape[-1:], "positions")
        head = (
            self.shape(x) if depth == x.ndim else self.index(self.shape(x), slice(None, depth), dims=(depth,))
        )
        strides = self.call("tf.math.cumprod", head, exclusive=True, reverse=True, dtype=INT64, dims=(depth,))
        flat = self.call(
            "tf.reduce_sum", self.multiply(self.astype(positions, INT64), strides), axis=-1, dtype=INT64
        )
        line = self.call("tf.reshape", flat, (-1,), dtype=INT64)
        changes = self.call("tf.reshape", updates, (-1, *x.shape[depth:]), dtype=x.dtype)
        total = self.call("tf.reduce_prod", head, dtype=INT64)
        factors = self.call("tf.math.unsorted_segment_prod", changes, line, total, dtype=x.dtype)
        product = self.call(
            "tf.reshape", factors, self.call("tf.shape", x, dtype=INT32), dtype=x.dtype, dims=x.fact.dims
        )
        return self._binary("multiply", x, product)

    def nonzero(self, x: Symbol) -> Tensor:
        test = x if x.dtype.kind == "b" else self.not_equal(x, self.asarray(0, x.dtype))
        return self.permuted(self.call("tf.where", test, dtype=INT64), (1, 0))

    def compress(self, x: Symbol, condition: Symbol, axis: int) -> Tensor:
        kept = self.call("tf.reshape", self.call("tf.where", condition, dtype=INT64), (-1,), dtype=INT64)
        return self.call("tf.gather", x, kept, axis=axis, dtype=x.dtype)

    def unique(self, x: Symbol, axis: int | None, sorted: bool) -> tuple[Tensor, ...]:  # noqa: A002
        """The values in the order of their first place, then sorted where that is asked for."""
        flat = self.call("tf.reshape", x, (-1,), dtype=x.dtype) if axis is None else x
        whole = self.call(
            "tf.raw_ops.UniqueWithCountsV2",
            x=flat,
            axis=[axis or 0],
            out_idx=dotted("tf.int64"),
            dtype=x.dtype,
        )
        values, inverse, counts = self.unpack(whole, 3, [x.dtype, INT64, INT64])
        total = self.call("tf.size", counts, dtype=INT32)
        length = self.call("tf.size", inverse, out_type=dotted("tf.int64"), dtype=INT64)
        first = self.call(
            "tf.math.unsorted_segment_min",
            self.call("tf.range", length, dtype=INT64),
            inverse,
            total,
            dtype=INT64,
        )
        if not sorted:
            return tuple(Tensor(self, part.fact, part.expr) for part in (values, first, inverse, counts))
        order = self.let(self._order(values, axis), "order")
        ranks = self.call("tf.argsort", order, dtype=INT32)
        picked = [self.call("tf.gather", part, order, axis=position, dtype=part.dtype)
                  for part, position in ((values, axis or 0), (first, 0), (counts, 0))]  # fmt: skip
        back = self.astype(self.call("tf.gather", ranks, inverse, dtype=INT32), INT64)
        values, first, counts = picked
        return values, first, back, counts

    def _order(self, values: Symbol, axis: int | None) -> Tensor:
        if axis is not None:
            raise CannotConvert("TensorFlow sorts single values only, not slices")
        return self.call("tf.argsort", values, stable=True, dtype=INT32)

    # ---- algebra ------------------------------------------------------------------------------------------------

    def dft(self, x: Symbol, axis: int, length: Any, inverse: bool, onesided: bool) -> Tensor:
        """By TensorFlow's complex transform of the last axis, in complex128."""
        rank = x.ndim - 1
        wide = self.astype(x, FLOAT64)
        real = self.index(wide, ..., 0)
        imaginary = self.index(wide, ..., 1) if x.size(rank) == 2 else self.call("tf.zeros_like", real)
        order = tuple(rank - 1 if i == axis else axis if i == rank - 1 else i for i in range(rank))
        line = self.call("tf.transpose", self.call("tf.complex", real, imaginary), order)
        have = x.shape[axis]
        size = have if length is None or (inverse and onesided) else length
        if size != have:
            more = self.call_expr(dotted("tf.maximum"), self.to_expr(size - have), 0)
            line = self.call("tf.pad", line, [[0, 0]] * (rank - 1) + [[0, more]])
            line = self.index(line, ..., slice(None, size))
        if inverse and onesided:
            whole = self.call(
                "tf.signal.irfft", line, [2 * (have - 1) if length is None else length], dtype=FLOAT64
            )
            return self.astype(
                self.write_call("expand_dims", self.call("tf.transpose", whole, order), -1, dtype=FLOAT64),
                x.dtype,
            )
        made = self.call("tf.signal.ifft" if inverse else "tf.signal.fft", line)
        if onesided:
            made = self.index(made, ..., slice(None, size // 2 + 1))
        back = self.let(self.call("tf.transpose", made, order), "spectrum")
        halves = [self.call(f"tf.math.{part}", back, dtype=FLOAT64) for part in ("real", "imag")]
        return self.astype(self.write_call("stack", halves, -1, dtype=FLOAT64), x.dtype)


FLOAT64 = np.dtype(np.float64)


def _symbols(values: Any) -> Any:
    for value in values:
        if isinstance(value, Symbol):
            yield value
        elif isinstance(value, list | tuple):
            yield from _symbols(value)
