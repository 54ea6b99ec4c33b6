"""The namespace in MXNet 1.9.1's operators.

``elementwise.py`` has the functions that know no axis, ``shape.py`` those that move elements; here are
those that pick, reduce and multiply.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.facts import is_float
from netferry.converters.graph.ir.sizes import Size, known
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.graph.numpy import namespace as numbers
from netferry.converters.mxnet.from_onnx.elementwise import FLOATS, SIGNED, UINT8
from netferry.converters.mxnet.from_onnx.shape import Shapes
from netferry.converters.mxnet.from_onnx.sizes import multiplied, reduced
from netferry.converters.mxnet.from_onnx.writer import BOOL, FLOAT32, INT32, INT64

FLOAT16 = np.dtype("f2")

_MOST_SCATTERED = 1 << 24
"""Places times updates of a scatter with a reduction."""

_REDUCTIONS: Mapping[str, tuple[str, str, float | None]] = {
    "add": ("sum", "add", 0),
    "mul": ("prod", "multiply", 1),
    "max": ("max", "maximum", None),
    "min": ("min", "minimum", None),
}
"""Of a scatter: how updates of one place meet, how they meet what stands there, and what changes nothing (None: the end of
the dtype's range)."""


def _least(dtype: np.dtype[Any]) -> Any:
    return -np.inf if is_float(dtype) else np.iinfo(dtype).min


def _most(dtype: np.dtype[Any]) -> Any:
    return np.inf if is_float(dtype) else np.iinfo(dtype).max


_MULTIPLIED = (FLOAT32, np.dtype("f8"))


class MxnetNamespace(Shapes):
    """The namespace that writes a symbol."""

    framework = "mxnet"
    title = "MXNet"

    # ---- picking -----------------------------------------------------------------------------------

    def take(self, x: Symbol, indices: Any, axis: int) -> Symbol:
        """Mode ``wrap`` counts negative indices from the end; the default would clip them."""
        number = self._scalar(indices)
        if number is not None and x.ndim:
            position = int(number)
            cut = self.slice(x, {axis: (position, position + 1 if position != -1 else None, 1)})
            return self.squeeze(cut, (axis,))
        indices = self._tensor(indices, INT64)
        have, wanted = x.shape, indices.shape
        dims = (*have[:axis], *wanted, *have[axis + 1 :])
        taken = self.apply(
            "take",
            self._tensor(x),
            self._index(indices),
            dims=(*have[:axis], *(wanted or (1,)), *have[axis + 1 :]),
            axis=axis,
            mode="wrap",
        )
        return taken if wanted else self.squeeze(taken, (axis,)) if dims else self._with_dims(taken, ())

    def _index(self, indices: Symbol) -> Symbol:
        return self.astype(indices, INT64) if indices.dtype == BOOL else indices

    def take_along_axis(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        return self.apply("gather_nd", self._tensor(x), self._grid(x, indices, axis), dims=indices.shape)

    def _grid(self, x: Symbol, indices: Symbol, axis: int) -> Symbol:
        """Places as ``gather_nd`` wants them, (rank, *sizes): each index with the position where it stands."""
        indices = self._tensor(indices)
        sizes = indices.shape
        positions = []
        for i in range(len(sizes)):
            if i == axis:
                positions.append(self.modulo_size(self.astype(indices, INT64), x.shape[i]))
                continue
            count = self.arange(0, sizes[i], 1, INT64)
            spread = self.reshape(count, tuple(size if i == j else 1 for j, size in enumerate(sizes)))
            positions.append(self.broadcast_to(spread, sizes))
        return self.stack(positions, 0)

    def gather_nd(self, x: Symbol, indices: Symbol, batch_dims: int) -> Symbol:
        """MXNet wants the coordinates first: (depth, *sizes)."""
        positions = self._coordinates(x, indices, batch_dims)
        depth = batch_dims + indices.size(indices.ndim - 1)
        dims = (*indices.shape[:-1], *x.shape[depth:])
        return self.apply("gather_nd", self._tensor(x), positions, dims=dims)

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

    def scatter_along_axis(
        self, x: Symbol, indices: Symbol, updates: Symbol, axis: int, reduction: str
    ) -> Symbol:
        return self._scatter(x, self._grid(x, indices, axis), updates, reduction)

    def _scatter(self, x: Symbol, positions: Symbol, updates: Symbol, reduction: str) -> Symbol:
        if reduction != "none":
            return self._scattered(x, positions, updates, reduction)
        if not known(x.shape):
            raise CannotConvert("a scatter into sizes that are known only when the model runs")
        if x.dtype == BOOL:
            back = self._scatter(self.astype(x, UINT8), positions, self.astype(updates, UINT8), reduction)
            return self.astype(back, BOOL)
        old = self._tensor(x)
        marks = self.full(updates.shape, 1, x.dtype)
        hit = self.apply("scatter_nd", marks, positions, dims=x.shape, shape=x.shape)
        new = self.apply("scatter_nd", self._tensor(updates), positions, dims=x.shape, shape=x.shape)
        return self.where(self.greater(hit, 0), new, old)

    def _scattered(self, x: Symbol, positions: Symbol, updates: Symbol, reduction: str) -> Symbol:
        """MXNet's scatter keeps one of several updates of a place. So all places are held against all updates, (updates,
        places, rest), and what is not meant is the neutral element.
        """
        word, combine, neutral = _REDUCTIONS[reduction]
        if not known((*x.shape, *updates.shape)):
            raise CannotConvert("a scatter into sizes that are known only when the model runs")
        depth = int(positions.fact.dims[0]) if positions.fact.dims else 0  # type: ignore[arg-type]
        sizes = [size for size in x.shape if isinstance(size, int)]
        places, rest = math.prod(sizes[:depth]), math.prod(sizes[depth:])
        count = math.prod(size for size in updates.shape if isinstance(size, int)) // max(rest, 1)
        if x.dtype == BOOL or places * rest * count > _MOST_SCATTERED:
            raise CannotConvert(f"MXNet has no scatter with reduction '{reduction}' of {count} into {places}")
        strides = [math.prod(sizes[i + 1 : depth]) for i in range(depth)]
        parts = [
            self.multiply(part, stride)
            for part, stride in zip(self.unstack(positions, 0), strides, strict=True)
        ]
        where = parts[0]
        for part in parts[1:]:
            where = self.add(where, part)
        meant = self.equal(
            self.reshape(where, (count, 1, 1)), self.constant(np.arange(places).reshape(1, -1, 1))
        )
        each = self.reshape(self._tensor(updates), (count, 1, rest))
        edge = neutral if neutral is not None else _least(x.dtype) if word == "max" else _most(x.dtype)
        wide = self.where(meant, each, self.full((1,), edge, x.dtype))
        new = self.reshape(getattr(self, word)(wide, (0,), False), x.shape)
        made: Symbol = getattr(self, combine)(self._tensor(x), new)
        return made

    def topk(self, x: Symbol, k: Any, axis: int, largest: bool) -> tuple[Symbol, Symbol]:
        if isinstance(k, Size):
            raise CannotConvert("how many to keep is known only when the model runs")
        if k == 0:
            raise CannotConvert("MXNet has no empty tensors")
        dims = (*x.shape[:axis], k, *x.shape[axis + 1 :])
        if x.dtype == BOOL:
            raise CannotConvert("MXNet has no 'topk' for bool")
        position = self.node_of(
            "topk", self._tensor(x), axis=axis, k=k, ret_typ="both", is_ascend=not largest, dtype=INT64
        )
        values, indices = self.entry(position, 0, x.dtype, dims), self.entry(position, 1, INT64, dims)
        asked = self.node.op_type != "TopK" or self.wanted(1)
        return values, self._stable(x, values, axis) if asked else indices

    def _stable(self, x: Symbol, values: Symbol, axis: int) -> Symbol:
        """Where the values stand, the first position first among equals: MXNet's sorting does not keep their order.

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
        if 0 in x.shape:
            raise CannotConvert("MXNet has no empty tensors")
        if not known((rows, columns)):
            if cut is np.tril:
                return self.apply("_npi_tril", x, dims=x.shape, k=k)
            mask = self.apply("_npi_tril", self.apply("ones_like", x, dims=x.shape), dims=x.shape, k=k - 1)
            none = self.apply(
                "zeros_like", self._tensor(x), dims=x.shape
            )  # of one number, MXNet would make something of nothing
            return self.where(self.greater(mask, 0), none, x)
        budget.make(rows * columns)
        mask = self.constant(cut(np.ones((rows, columns), np.uint8), k).astype(bool))
        return self.where(mask, x, self._zero(x.dtype))

    def _zero(self, dtype: np.dtype[Any]) -> Symbol:
        return self.full((1,), 0, dtype)

    # ---- along axes --------------------------------------------------------------------------------

    def sum(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._reduce("sum", x, axes, keepdims)

    def mean(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        self._check_kind("mean", FLOATS, x)
        return self._reduce("mean", x, axes, keepdims)

    def prod(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self._reduce("prod", x, axes, keepdims)

    def max(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self.as_bytes(x, lambda y: self._extreme("max", y, axes, keepdims))

    def min(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        return self.as_bytes(x, lambda y: self._extreme("min", y, axes, keepdims))

    def _extreme(self, op: str, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        """Of nothing, it is what changes no other number; MXNet's own kernel raises."""
        dims = x.fact.dims or ()
        if 0 in [dims[axis] for axis in axes]:
            return self.full(
                reduced(dims, axes, keepdims), _least(x.dtype) if op == "max" else _most(x.dtype), x.dtype
            )
        return self._reduce(op, x, axes, keepdims)

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
        if x.dtype == UINT8:
            return self.astype(self.cumulative_sum(self.astype(x, INT32), axis), UINT8)
        self._check_kind("cumulative_sum", SIGNED, x)
        return self.apply("_np_cumsum", self._tensor(x), dims=x.fact.dims, axis=axis, dtype=x.dtype)

    def cumulative_prod(self, x: Symbol, axis: int) -> Symbol:
        """Of each place the product of all up to it: MXNet's own has sums alone."""
        size = x.shape[axis]
        if not isinstance(size, int):
            raise CannotConvert(
                "a running product along an axis whose size is known only when the model runs"
            )
        budget.make(size * size)
        upto = np.tril(np.ones((size, size), bool)).reshape(size, size, *[1] * (x.ndim - axis - 1))
        wide = self.where(self.constant(upto), self.expand_dims(x, (axis,)), self.full((1,), 1, x.dtype))
        return self.prod(wide, (axis + 1,), False)

    def compress(self, x: Symbol, condition: Symbol, axis: int) -> Symbol:
        if condition.fact.constant is None:
            raise CannotConvert("which elements it keeps is known only when the model runs")
        kept = np.flatnonzero(condition.fact.constant[: x.size(axis)] if condition.fact.constant.size else [])
        if not kept.size:
            raise CannotConvert("MXNet has no empty tensors")
        return self.take(x, self.constant(kept.astype(np.int64)), axis)

    def logsumexp(self, x: Symbol, axes: Sequence[int], keepdims: bool) -> Symbol:
        top = self.max(x, axes, True)
        total = self.log(self.sum(self.exp(self.subtract(x, top)), axes, True))
        result = self.add(total, top)
        return result if keepdims else self.squeeze(result, axes)

    def softmax(self, x: Symbol, axis: int) -> Symbol:
        return self._normalised("softmax", x, axis)

    def log_softmax(self, x: Symbol, axis: int) -> Symbol:
        return self._normalised("log_softmax", x, axis)

    def _normalised(self, name: str, x: Symbol, axis: int) -> Symbol:
        """MXNet adds halves up as halves: their sums belong in float32."""
        self._check_kind(name, FLOATS, x)
        if x.dtype == FLOAT16:
            return self.astype(self._normalised(name, self.astype(x, FLOAT32), axis), FLOAT16)
        return self.apply(name, x, dims=x.fact.dims, axis=axis)

    # ---- algebra -----------------------------------------------------------------------------------

    def matmul(self, a: Symbol, b: Symbol) -> Symbol:
        """``_npi_matmul`` broadcasts as NumPy does."""
        one, other = self._pair(a, b)
        if one.dtype == FLOAT16:  # no kernel, and sums belong in float32 anyway
            wide = self.matmul(self.astype(one, FLOAT32), self.astype(other, FLOAT32))
            return self.astype(wide, FLOAT16)
        if one.dtype not in _MULTIPLIED:
            raise CannotConvert(f"MXNet has no matrix product for {one.dtype.name}")
        dims = multiplied(one.fact.dims, other.fact.dims)
        if dims == ():
            product_ = self.matmul(self.reshape(one, (1, -1)), self.reshape(other, (-1, 1)))
            return self.squeeze(product_, (0, 1))
        return self.apply("_npi_matmul", one, other, dims=dims)

    def einsum(self, equation: str, *xs: Symbol) -> Symbol:
        if "..." in equation or any(x.dtype.kind != "f" for x in xs):
            raise CannotConvert(f"einsum {equation!r} over {xs[0].dtype.name}")
        return self.apply(
            "_npi_einsum", *xs, dims=None, subscripts=equation.replace(" ", ""), num_args=len(xs)
        )

    def det(self, x: Symbol) -> Symbol:
        return self.apply("_linalg_det", x, dims=x.shape[:-2])

    def inv(self, x: Symbol) -> Symbol:
        return self.apply("_linalg_inverse", x, dims=x.shape)

    def dft(self, x: Symbol, axis: int, length: Any, inverse: bool, onesided: bool) -> Symbol:
        """By the matrix of what the transform makes of each unit vector: MXNet's own runs on GPUs alone."""
        line = self.permute_dims(
            x, [i for i in range(x.ndim) if i != axis and i < x.ndim - 1] + [axis, x.ndim - 1]
        )
        size, parts = line.shape[-2:]
        if not known((size, length)):
            raise CannotConvert(
                "a Fourier transform of an axis whose size is known only when the model runs",
                "Give the source model fixed sizes",
            )
        budget.make(2 * size * parts * length)
        units = np.eye(size * parts).reshape(-1, size, parts)
        made = numbers.dft(units, 1, length, inverse, onesided)
        table = self.constant(made.reshape(size * parts, -1).astype(x.dtype))
        rows = self.reshape(line, (*line.shape[:-2], size * parts))
        moved = self.reshape(self.matmul(rows, table), (*line.shape[:-2], *made.shape[1:]))
        order = list(range(x.ndim - 2))
        return self.permute_dims(moved, [*order[:axis], x.ndim - 2, *order[axis:], x.ndim - 1])
