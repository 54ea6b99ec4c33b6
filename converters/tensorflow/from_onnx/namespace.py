"""The array namespace in TensorFlow, in two forms that share one table.

*Functional*: operations of ``keras.ops`` between the layers of a ``keras.Model`` (``functional_form.py``).
*Function*: operations of ``tf`` in the ``call`` of a model with its own source (``function_form.py``).
Neither Keras nor TensorFlow is imported to write a program.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget, layout
from netferry.converters.graph.ir.facts import Fact
from netferry.converters.graph.ir.layout import Perm
from netferry.converters.graph.ir.sizes import Size, known, largest, product, total
from netferry.converters.graph.ir.symbol import Symbol
from netferry.converters.tensorflow.from_onnx.elementwise import ElementwiseNamespace
from netferry.converters.tensorflow.from_onnx.function_names import INT64
from netferry.converters.tensorflow.from_onnx.layout import (
    Tensor,
    base_axes,
    broadcast,
    flattened_order,
    keeps_order,
    numbers,
    perm_of,
    reduced,
    with_axis,
    without,
)


class TensorflowNamespace(ElementwiseNamespace):
    """The array namespace of both forms: sizes, slices, pads and products."""

    # ---- sizes and axes -------------------------------------------------------------------------------

    def permute_dims(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        axes = tuple(axes)
        content = x.content
        if content is not None:
            return Tensor(self, self._frozen(x.fact, content.transpose(axes)))
        have = perm_of(x) or layout.identity(len(axes))
        dims = None if x.fact.dims is None else tuple(x.fact.dims[axis] for axis in axes)
        fact = Fact(x.fact.dtype, dims)
        return Tensor(self, fact, self._base(x), layout.compose(have, axes))

    def expand_dims(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        """The axes are counted in the result."""
        content = x.content
        if content is not None:
            return Tensor(self, self._frozen(x.fact, np.expand_dims(content, tuple(axes))))
        base, perm, dims = self._base(x), perm_of(x), x.fact.dims
        for axis in sorted(axes):
            position = axis
            if perm is not None:
                perm, position = with_axis(perm, axis)
            base = self.write_call("expand_dims", base, position, dtype=x.fact.dtype).base
            dims = None if dims is None else (*dims[:axis], 1, *dims[axis:])
        return Tensor(self, Fact(x.fact.dtype, dims), base, perm)

    def squeeze(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        perm = perm_of(x)
        inner = base_axes(perm, axes)
        if not inner:
            return Tensor(self, Fact(x.fact.dtype, x.fact.dims), self._base(x), perm)
        dims = reduced(x.fact.dims, axes, False)
        return self.write_call(
            "squeeze",
            self._base(x),
            axis=inner[0] if len(inner) == 1 else inner,
            dtype=x.fact.dtype,
            dims=dims,
            perm=without(perm, axes),
        )

    def reshape(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        perm, dims, sizes = perm_of(x), x.fact.dims, tuple(sizes)
        if dims is not None and sizes == tuple(dims):
            return Tensor(self, x.fact, self._base(x), perm)
        content = x.content
        if content is not None and known(sizes):
            return Tensor(self, self._frozen(x.fact, content.reshape(sizes)))
        if perm is None or dims is None:
            return self._resized(x, sizes)
        if keeps_order(perm, dims):
            based = Fact(x.fact.dtype, tuple(dims[axis] for axis in layout.inverse(perm)))
            made = self.reshaped(self._base(x), based, sizes)
            return Tensor(self, Fact(x.fact.dtype, filled(dims, sizes)), made.base)
        if len(sizes) == 2 and perm[0] == 0 and numbers(dims[1:]) and sizes[1] in (-1, product(dims[1:])):
            return self._flattened(x, perm, dims, sizes)
        return self._resized(x, sizes)

    def _resized(self, x: Symbol, sizes: Sequence[Any]) -> Tensor:
        """``x`` as its reader sees it in other sizes; what is left over is computed where it can be."""
        made = self.reshaped(x.expr, x.fact, sizes)
        return Tensor(self, Fact(x.fact.dtype, filled(x.fact.dims, sizes)), made.base)

    def _flattened(self, x: Symbol, perm: Perm, dims: Sequence[Any], sizes: Sequence[Any]) -> Tensor:
        """All axes but the first merged, as they lie: who reads it as a matrix turns his weights instead."""
        features = int(np.prod(dims[1:]))
        fact = Fact(x.fact.dtype, (dims[0], features))
        lying = self.reshaped(self._base(x), fact, (sizes[0], features))
        return Tensor(
            self,
            fact,
            lying.base,
            order=flattened_order(perm, dims[1:]),
            deferred=lambda: self.reshaped(x.expr, fact, sizes),
        )

    def reshaped(self, base: ast.expr, fact: Fact, sizes: Sequence[Any]) -> Tensor:
        """``base``, whose sizes ``fact`` knows, in other sizes."""
        raise NotImplementedError

    def concat(self, xs: Sequence[Symbol], axis: int) -> Tensor:
        perm, exprs = self._alike(xs)
        inner = base_axes(perm, (axis,))[0]
        dims = None
        if all(x.fact.dims is not None for x in xs):
            first = xs[0].shape
            dims = (*first[:axis], total(x.shape[axis] for x in xs), *first[axis + 1 :])
        return self.write_call("concat", exprs, inner, dtype=xs[0].fact.dtype, dims=dims, perm=perm)

    def stack(self, xs: Sequence[Symbol], axis: int) -> Tensor:
        one = xs[0].fact.dims
        dims = None if one is None else (*one[:axis], len(xs), *one[axis:])
        return self.write_call("stack", [x.expr for x in xs], axis, dtype=xs[0].fact.dtype, dims=dims)

    def _alike(self, xs: Sequence[Symbol]) -> tuple[Perm | None, list[Any]]:
        """Tensors of one rank in the arrangement of the first that is pending."""
        perm = next((perm_of(x) for x in xs if perm_of(x) is not None), None)
        if perm is None:
            return None, [x.expr for x in xs]
        return perm, [self.arranged(x, perm) for x in xs]

    def unstack(self, x: Symbol, axis: int) -> tuple[Symbol, ...]:
        count = x.size(axis)
        perm = perm_of(x)
        whole = self.write_call(
            "unstack", self._base(x), num=count, axis=base_axes(perm, (axis,))[0], dtype=x.fact.dtype
        )
        left = without(perm, (axis,))
        fact = Fact(x.fact.dtype, reduced(x.fact.dims, (axis,), False))
        return tuple(Tensor(self, fact, part.expr, left) for part in self.unpack(whole, count))

    def flip(self, x: Symbol, axes: Sequence[int]) -> Tensor:
        perm = perm_of(x)
        inner = list(base_axes(perm, axes))
        return self.write_call("flip", self._base(x), inner, dtype=x.fact.dtype, dims=x.fact.dims, perm=perm)

    def roll(self, x: Symbol, shift: Any, axis: int) -> Tensor:
        return self.along("roll", x, axis, shift=shift)

    def tile(self, x: Symbol, repeats: Sequence[Any]) -> Tensor:
        dims = x.fact.dims and tuple(size * times for size, times in zip(x.fact.dims, repeats, strict=True))
        return self.write_call("tile", x, list(repeats), dims=dims)

    def slice(self, x: Symbol, positions: Mapping[int, tuple[Any, Any, Any]]) -> Tensor:
        perm = perm_of(x)
        cuts = {base_axes(perm, (axis,))[0]: cut for axis, cut in positions.items()}
        if not cuts:
            return Tensor(self, Fact(x.fact.dtype, x.fact.dims), self._base(x), perm)
        inside = [_cut(cuts.get(axis)) for axis in range(max(cuts) + 1)]
        base = Symbol(self, Fact(x.fact.dtype), self._base(x))
        dims = x.fact.dims and tuple(
            cut_size(size, *positions[axis]) if axis in positions else size
            for axis, size in enumerate(x.fact.dims)
        )
        return Tensor(self, Fact(x.fact.dtype, dims), self.index(base, *inside).expr, perm)

    def pad(
        self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str = "constant", value: Any = 0
    ) -> Tensor:
        perm = perm_of(x)
        if any(not isinstance(n, Size) and n < 0 for pair in pairs for n in pair):
            x, pairs = self._cropped(x, pairs)
        order = layout.inverse(perm) if perm is not None else layout.identity(len(pairs))
        based = [tuple(pairs[axis]) for axis in order]
        if mode == "constant":
            fill: Any = value
            if isinstance(value, Symbol):
                fill = (
                    self.squeeze(value, tuple(range(value.ndim))).expr
                    if value.content is None
                    else value.content.item()
                )
            expr = self.padded(self._base(x), tuple(based), fill, x.dtype)
            dims = x.fact.dims and tuple(
                b + size + a for size, (b, a) in zip(x.fact.dims, pairs, strict=True)
            )
            return Tensor(self, Fact(x.fact.dtype, dims), expr, perm)
        return self._mirrored(x, pairs, mode)

    def padded(self, base: ast.expr, pairs: Sequence[Any], value: Any, dtype: np.dtype[Any]) -> ast.expr:
        """Constant padding of the base."""
        raise NotImplementedError

    def _cropped(self, x: Symbol, pairs: Sequence[tuple[Any, Any]]) -> tuple[Symbol, list[Any]]:
        """A negative pad cuts; what is left of the pads."""
        cuts = {
            axis: (max(-before, 0), -max(-after, 0) or None, 1)
            for axis, (before, after) in enumerate(pairs)
            if not isinstance(before, Size) and not isinstance(after, Size) and (before < 0 or after < 0)
        }
        if len(cuts) != sum(1 for pair in pairs if any(not isinstance(n, Size) and n < 0 for n in pair)):
            raise CannotConvert(
                "it cuts one side of an axis by a size that is known only when the model runs"
            )
        left = [(0 if b is not b or (not isinstance(b, Size) and b < 0) else b,
                 0 if not isinstance(a, Size) and a < 0 else a) for b, a in pairs]  # fmt: skip
        cropped = self.slice(x, cuts)
        dims = x.fact.dims
        if dims is not None:
            sizes = tuple(
                size - cuts[axis][0] + (cuts[axis][1] or 0) if axis in cuts else size
                for axis, size in enumerate(dims)
            )
            cropped.fact = Fact(x.fact.dtype, sizes)
        return cropped, left

    def _mirrored(self, x: Symbol, pairs: Sequence[tuple[Any, Any]], mode: str) -> Tensor:
        """Reflect, edge and wrap: each axis is read by a table of indices."""
        result: Any = x
        for axis, (before, after) in enumerate(pairs):
            if before == 0 and after == 0:
                continue
            size = x.shape[axis]
            dims = result.fact.dims
            result = self.take(result, self._mirror(size, before, after, mode), axis)
            grown = size + before + after
            result.fact = Fact(x.fact.dtype, dims and (*dims[:axis], grown, *dims[axis + 1 :]))
        return result if isinstance(result, Tensor) else Tensor(self, x.fact, x.expr)

    def _mirror(self, size: Any, before: Any, after: Any, mode: str) -> Any:
        """The places along an axis that is grown; those beyond its ends come from inside."""
        if known((size, before, after)):
            budget.make(size + before + after)
            return self.asarray(np.pad(np.arange(size), (before, after), mode=_NUMPY_MODES[mode]), INT64)
        places = self.let(self.arange(-1 * before, after + size, 1, INT64), "places")
        if mode == "edge":
            return self.minimum(self.maximum(places, 0), size - 1)
        if mode == "wrap":
            return self.remainder(places, size)
        period = largest(2 * size - 2, 1)  # an axis of one place repeats it
        turned = self.let(self.remainder(places, period), "places")
        return self.minimum(turned, self.subtract(period, turned))

    def split(self, x: Symbol, lengths: Sequence[Any], axis: int) -> tuple[Symbol, ...]:
        perm = perm_of(x)
        if len(lengths) == 1:
            return (Tensor(self, Fact(x.fact.dtype, x.fact.dims), self._base(x), perm),)
        whole = self.parted(self._base(x), lengths, base_axes(perm, (axis,))[0], x.dtype)
        dims = x.fact.dims
        facts = [Fact(x.fact.dtype, dims and (*dims[:axis], length, *dims[axis + 1 :])) for length in lengths]
        parts = self.unpack(whole, len(lengths))
        return tuple(Tensor(self, fact, part.expr, perm) for fact, part in zip(facts, parts, strict=True))

    def parted(self, base: ast.expr, lengths: Sequence[Any], axis: int, dtype: np.dtype[Any]) -> Tensor:
        raise NotImplementedError

    def read_at(self, x: Symbol, indices: Symbol, axis: int) -> Tensor:
        """``take`` with indices as the form reads them."""
        perm, dims = perm_of(x), indices.fact.dims
        if perm is not None and (dims is None or len(dims) > 1):
            perm, base = None, x.expr
        else:
            base = self._base(x)
        inner = base_axes(perm, (axis,))[0]
        left = perm if dims is not None and len(dims) == 1 else without(perm, (axis,))
        have = x.fact.dims
        known = None if have is None or dims is None else (*have[:axis], *dims, *have[axis + 1 :])
        return self.write_call("take", base, indices, axis=inner, dtype=x.fact.dtype, dims=known, perm=left)

    # ---- making ---------------------------------------------------------------------------------------------

    def asarray(self, content: Any, dtype: np.dtype[Any]) -> Tensor:
        array = np.asarray(content).astype(dtype)
        return Tensor(self, Fact(array.dtype, array.shape, array))

    def eye(self, rows: int, columns: int, k: int, dtype: np.dtype[Any]) -> Tensor:
        if not known((rows, columns)):
            raise CannotConvert("its sizes are known only when the model runs")
        budget.make(rows * columns)
        return self.asarray(np.eye(rows, columns, k), dtype)

    # ---- algebra -----------------------------------------------------------------------------------------------

    def matmul(self, a: Symbol, b: Symbol) -> Tensor:
        dims = None
        if a.fact.dims is not None and b.fact.dims is not None and min(a.ndim, b.ndim) >= 2:
            dims = (*(broadcast([a.shape[:-2], b.shape[:-2]]) or ()), a.shape[-2], b.shape[-1])
        return self.write_call("matmul", a, b, dims=dims)

    def einsum(self, equation: str, *xs: Symbol) -> Tensor:
        """Keras tells the sizes of small letters only; in the same order they mean the same."""
        letters = sorted(set(filter(str.isalpha, equation)))
        if equation != equation.lower() and len(letters) <= len(string.ascii_lowercase):
            equation = equation.translate(
                str.maketrans("".join(letters), string.ascii_lowercase[: len(letters)])
            )
        return self.write_call("einsum", equation, *xs)

    def det(self, x: Symbol) -> Tensor:
        return self.write_call("det", x)

    def inv(self, x: Symbol) -> Tensor:
        return self.write_call("inv", x)


_NUMPY_MODES: Mapping[str, Any] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def lengthened(xp: Any, x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """Reflected, or with its ends repeated or wrapped; there must be as many places as are added."""
    dims = x.fact.dims and tuple(
        size + before + after if i == axis else size for i, size in enumerate(x.fact.dims)
    )
    result: Tensor = (
        _reflected(xp, x, axis, before, after)
        if mode == "reflect"
        else xp.concat(
            [*_ends(xp, x, axis, before, mode, first=True), x, *_ends(xp, x, axis, after, mode, first=False)],
            axis,
        )
    )
    result.fact = Fact(x.fact.dtype, dims)
    return result


def _reflected(xp: Any, x: Tensor, axis: int, before: int, after: int) -> Any:
    perm = perm_of(x)
    inner = base_axes(perm, (axis,))[0]
    grown = tuple((before, after) if i == inner else (0, 0) for i in range(x.ndim))
    return xp.write_call("pad", xp._base(x), grown, mode="reflect", dtype=x.dtype, perm=perm)


def _ends(xp: Any, x: Symbol, axis: int, count: int, mode: str, *, first: bool) -> list[Symbol]:
    """What is put before or behind: the outermost place again and again, or the other end."""
    if count == 0:
        return []
    if mode == "edge":
        return [xp.slice(x, {axis: (0, 1, 1) if first else (-1, None, 1)})] * count
    return [xp.slice(x, {axis: (-count, None, 1) if first else (0, count, 1)})]


def _cut(cut: tuple[Any, Any, Any] | None) -> slice:
    if cut is None:
        return slice(None)
    start, stop, step = cut
    return slice(None if start == 0 and step == 1 else start, stop, None if step == 1 else step)


def filled(dims: Any, sizes: Sequence[Any]) -> Any:
    """The sizes that a reshape asks for, -1 computed; None where that cannot be."""
    if -1 not in sizes:
        return tuple(sizes)
    if dims is None:
        return None
    rest = product(size for size in sizes if not (isinstance(size, int) and size == -1))
    left = product(dims) // rest if isinstance(rest, Size) or rest else 0
    return tuple(left if isinstance(size, int) and size == -1 else size for size in sizes)


def cut_size(size: Any, start: Any, stop: Any, step: int) -> Any:
    """The size that Python's slice leaves of an axis; -1, a size of no axis, where that is not known."""
    if known((size, start, stop)):
        return len(range(*slice(start, stop, step).indices(size)))
    if start in (0, None) and stop is None and abs(step) == 1:
        return size
    return Size.named(f"slice {start} {stop} {step} of {size}")
