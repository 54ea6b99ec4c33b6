"""Rows that count, sort and insert: histograms, percentiles, what is unique, and linear systems of tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import budget
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import FLOAT32, ROWS, Emitter, cast, few, known
from netferry.converters.mxnet.to_onnx.linear_algebra import eliminated, inverse
from netferry.converters.mxnet.to_onnx.sizes import cut, positive

# ---- counting ----------------------------------------------------------------------------------------


@ROWS.row("_histogram")
def histogram(g: Emitter, a: Attrs, x: Tensor, bins: Tensor | None = None) -> list[Tensor]:
    """How many elements lie between two edges, the last edge among them, as int64; and the edges."""
    count = a.maybe_integer("bin_cnt")
    if bins is None:
        if count is None or count < 1:
            raise CannotConvert(f"bin_cnt={count} without edges")
        low, high = a.numbers("range")
        steps = np.arange(few(count) + 1, dtype=np.float32)
        edges = g.constant(np.float32(low) + steps * np.float32(high - low) / np.float32(count), FLOAT32)
    else:
        edges = bins
    each = g.Unsqueeze(g.Reshape(cast(g, x, edges.dtype), g.ints(-1)), g.ints(1))
    reached = cast(g, g.GreaterOrEqual(each, edges), np.int64)
    beyond = g.Concat(
        cut(g, reached, [1], [1], [-1]), cast(g, g.Greater(each, cut(g, edges, [0], [-1], [None])), np.int64), axis=1
    )  # fmt: skip
    inside = g.Sub(cut(g, reached, [1], [0], [-1]), beyond)
    return [g.ReduceSum(inside, g.ints(0), keepdims=0), edges]


@ROWS.row("_npi_bincount")
def bincount(g: Emitter, a: Attrs, x: Tensor, weights: Tensor | None = None) -> Tensor:
    """How often each whole number from 0 to the largest occurs, or the sum of its weights."""
    one, index = g.constant(1, np.int64), cast(g, x, np.int64)
    least = a.integer("minlength", 0)
    length = g.Add(g.ReduceMax(index, keepdims=0), one)
    length = g.Max(length, g.constant(least, np.int64)) if least else length
    every = g.Range(g.constant(0, np.int64), length, one)
    here = g.Equal(g.Unsqueeze(index, g.ints(1)), every)
    if not a.flag("has_weights", False) or weights is None:
        return g.ReduceSum(cast(g, here, np.int64), g.ints(0), keepdims=0)
    given = g.Where(here, g.Unsqueeze(weights, g.ints(1)), g.scalar(0, weights))
    return g.ReduceSum(given, g.ints(0), keepdims=0)


@ROWS.row("_npi_unique")
def unique(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    """The different elements in order; then, where asked for, first positions, the way back and how often each occurs."""
    axis = a.maybe_integer("axis")
    along = {} if axis is None else {"axis": positive(axis, x.rank)}
    found = g.ops("Unique", x, outputs=4, sorted=1, **along)
    asked = [a.flag(f"return_{name}", False) for name in ("index", "inverse", "counts")]
    return [found[0], *(tensor for tensor, wanted in zip(found[1:], asked, strict=True) if wanted)]


@ROWS.row("_contrib_allclose")
def all_close(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """1 where all elements differ by no more than atol + rtol |y|, else 0; as uint8 without axes."""
    bound = g.Add(g.Mul(g.Abs(y), g.scalar(a.number("rtol", 1e-5), y)), g.scalar(a.number("atol", 1e-8), y))
    near = g.Or(g.LessOrEqual(g.Abs(g.Sub(x, y)), bound), g.Equal(x, y))
    if a.flag("equal_nan", True):
        near = g.Or(near, g.And(g.IsNaN(x), g.IsNaN(y)))
    every = g.ReduceMin(cast(g, g.Reshape(near, g.ints(-1)), np.int32), keepdims=0)
    return cast(g, every, np.uint8)


@ROWS.row("all_finite", "multi_all_finite")
def all_finite(g: Emitter, a: Attrs, *arrays: Tensor) -> Tensor:
    """(1,), 1 where no element is infinite or not a number."""
    a.ignore("num_arrays", "init_output")
    parts = [g.Reshape(g.Sub(x, x), g.ints(-1)) for x in arrays]
    whole = parts[0] if len(parts) == 1 else g.Concat(*parts, axis=0)
    least = g.ReduceMin(cast(g, g.Equal(whole, g.scalar(0, whole)), np.int32), keepdims=0)
    return cast(g, g.Reshape(least, g.ints(1)), FLOAT32)


@ROWS.row("multi_sum_sq")
def sums_of_squares(g: Emitter, a: Attrs, *arrays: Tensor) -> Tensor:
    a.ignore("num_arrays")
    sums = [g.Reshape(g.ReduceSumSquare(x, keepdims=0), g.ints(1)) for x in arrays]
    return cast(g, sums[0] if len(sums) == 1 else g.Concat(*sums, axis=0), FLOAT32)


@ROWS.row("_npi_percentile")
def percentile(g: Emitter, a: Attrs, x: Tensor, q: Tensor | None = None) -> Tensor:
    """Between two neighbours in order, as ``interpolation`` says."""
    only = a.maybe_number("q_scalar")
    given = np.asarray(only if q is None else known(q, "percentile"), np.float64)
    axes = [positive(axis, x.rank) for axis in a.maybe_integers("axis") or range(x.rank)]
    kept = [axis for axis in range(x.rank) if axis not in axes]
    count = math.prod(x.size(axis) for axis in axes)
    flat = g.transpose(x, [*axes, *kept])
    flat = g.Reshape(flat, g.Concat(g.ints(few(count)), g.Shape(flat, start=len(axes)), axis=0)) if kept else g.Reshape(flat, g.ints(count))  # fmt: skip
    rank = given / 100 * (count - 1)
    kind = a.string("interpolation", "linear", among="linear lower higher midpoint nearest")
    below = np.floor(rank)
    share = {"linear": rank - below, "lower": 0 * rank, "midpoint": np.where(rank > below, 0.5, 0.0),
             "higher": np.where(rank > below, 1.0, 0.0), "nearest": np.round(rank) - below}[kind]  # fmt: skip
    order = g.ops("TopK", flat, g.ints(count), outputs=2, axis=0, largest=0, sorted=1)[0]
    low = g.Gather(order, g.constant(below, np.int64), axis=0)
    high = g.Gather(order, g.constant(np.minimum(below + 1, count - 1), np.int64), axis=0)
    parts = g.constant(share.reshape(given.shape + (1,) * len(kept)), x.dtype)
    y = g.Add(low, g.Mul(g.Sub(high, low), parts))
    return g.Unsqueeze(y, g.ints(*(axis + given.ndim for axis in axes))) if a.flag("keepdims", False) else y


# ---- between and behind the elements of a vector -------------------------------------------------------


@ROWS.row("_npi_ediff1d")
def differences(g: Emitter, a: Attrs, x: Tensor, *more: Tensor) -> Tensor:
    """Each element less the one before it, with numbers in front and behind where they are given."""
    flat, rest = g.Reshape(x, g.ints(-1)), list(more)
    parts = [g.Sub(cut(g, flat, [0], [1], [None]), cut(g, flat, [0], [0], [-1]))]
    for side, place in (("begin", 0), ("end", len(parts))):
        number = a.maybe_number(f"to_{side}_scalar")
        if a.flag(f"to_{side}_arr_given", False):
            added = g.Reshape(rest.pop(0), g.ints(-1))
        elif number is not None:
            added = g.constant([number], x.dtype)
        else:
            continue
        parts.insert(place if side == "begin" else len(parts), added)
    return parts[0] if len(parts) == 1 else g.Concat(*parts, axis=0)


@ROWS.row("_npi_insert_scalar", "_npi_insert_slice", "_npi_insert_tensor")
def insert(g: Emitter, a: Attrs, x: Tensor, *more: Tensor) -> Tensor:
    """Values between the elements along an axis, before the positions that an index, a slice or a constant names."""
    axis, number, rest = a.maybe_integer("axis"), a.maybe_number("val"), list(more)
    x, axis = (g.Reshape(x, g.ints(-1)), 0) if axis is None else (x, positive(axis, x.rank))
    values = g.constant(number, x.dtype) if number is not None else cast(g, rest.pop(0), x.dtype)
    size, single = x.size(axis), a.maybe_integer("int_ind")
    limits = [a.maybe_integer(name) for name in ("start", "stop", "step")]
    if rest:
        where = np.asarray(known(rest.pop(0), "positions")).astype(np.int64)
        where = where.reshape(-1) if where.size > 1 else where.reshape(())
    else:
        where = np.arange(size)[slice(*limits)] if single is None else np.asarray(single)
    if np.any(where < -size) or np.any(where > size):
        raise CannotConvert(f"a position outside of an axis of {size}")
    own = values.size(0) if values.rank == x.rank else 1
    count = where.size if where.ndim else own
    wide = _along(g, values, x, axis, few(count), moved=where.ndim == 0)
    order = np.insert(
        np.arange(size), where if where.ndim else np.repeat(where, count), size + np.arange(count)
    )
    return g.Gather(g.Concat(x, wide, axis=axis), g.constant(order, np.int64), axis=axis)


def _along(g: Emitter, values: Tensor, x: Tensor, axis: int, count: int, *, moved: bool) -> Tensor:
    """Values with the sizes of ``x``, but ``count`` along the axis; for one position their own first axis is that axis."""
    if values.rank < x.rank:
        values = (
            g.Unsqueeze(values, g.ints(*range(x.rank - values.rank))) if values.rank or x.rank else values
        )
    if moved and axis:
        order = list(range(1, x.rank))
        order.insert(axis, 0)
        values = g.transpose(values, order)
    sizes: list[Tensor] = [g.Shape(x, start=0, end=axis), g.ints(count), g.Shape(x, start=axis + 1)]
    return g.Expand(values, g.Concat(*sizes, axis=0))


# ---- whole numbers -------------------------------------------------------------------------------------

_STEPS = {4: 46, 8: 91, 1: 12, 2: 23}
"""The most steps of Euclid's algorithm, by the bytes of a number: those of two neighbours in Fibonacci's row."""


def _least_common_multiple(g: Emitter, x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind not in "iu":
        raise CannotConvert(f"a common multiple of {x.dtype.name}")
    first, second = g.Abs(x), g.Abs(y)
    zero, one = g.scalar(0, x), g.scalar(1, x)
    budget.make(4 * _STEPS[x.dtype.itemsize])
    for _ in range(_STEPS[x.dtype.itemsize]):
        done = g.Equal(second, zero)
        rest = g.Mod(first, g.Where(done, one, second))
        first, second = g.Where(done, first, second), g.Where(done, zero, rest)
    return g.Mul(g.Div(g.Abs(x), g.Where(g.Equal(first, zero), one, first)), g.Abs(y))


@ROWS.row("_npi_lcm")
def lcm(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return _least_common_multiple(g, x, y)


@ROWS.row("_npi_lcm_scalar")
def lcm_scalar(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    a.ignore("is_int")
    return _least_common_multiple(g, x, g.scalar(a.number("scalar", 1.0), x))


# ---- tensors as matrices --------------------------------------------------------------------------------


def _sizes(x: Tensor, axes: Sequence[int]) -> list[int]:
    return [x.size(axis) for axis in axes]


@ROWS.row("_npi_tensorinv")
def tensorinv(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (*first, *second), as many elements each; (*second, *first)."""
    split = a.integer("ind", 2)
    first, second = _sizes(x, range(split)), _sizes(x, range(split, x.rank))
    square = g.Reshape(x, g.ints(math.prod(first), math.prod(second)))
    return g.Reshape(inverse(g, square), g.ints(*second, *first))


@ROWS.row("_npi_tensorsolve")
def tensorsolve(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The z whose product with x over the last axes is y."""
    moved = [positive(axis, x.rank) for axis in a.integers("a_axes", ())]
    x = g.transpose(x, [*(axis for axis in range(x.rank) if axis not in moved), *moved])
    found = _sizes(x, range(y.rank, x.rank))
    count = math.prod(found)
    if count > 32:
        raise CannotConvert(f"a factorisation of {count} rows", "Up to 32 are written out, step by step")
    both = g.Concat(g.Reshape(x, g.ints(count, count)), g.Reshape(y, g.ints(count, 1)), axis=-1)
    return g.Reshape(cut(g, eliminated(g, both, count), [1], [count], [None]), g.ints(*found))


@ROWS.row("_npi_norm")
def norm(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """``np.linalg.norm``: by ``flag`` the root of all squares (-2), of those along axes (1), or the sum of powers (-1)."""
    flag, order = a.integer("flag", -2), a.number("ord", 2.0)
    axes, kept = a.maybe_integers("axis"), int(a.flag("keepdims", False))
    along = None if axes is None else g.ints(*(positive(axis, x.rank) for axis in axes))
    if flag in (-2, 1):
        return g.ReduceL2(x, along, keepdims=kept)
    if flag != -1 or not order:
        raise CannotConvert("a norm that is made of singular values", "Other norms are supported")
    power = g.scalar(order, x)
    total = g.ReduceSum(g.Pow(g.Abs(x), power), along, keepdims=kept)
    return g.Pow(total, g.scalar(1 / order, x))


@ROWS.row("_npi_diag_indices_from")
def diagonal_indices(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return g.constant(np.tile(np.arange(few(x.size(0))), (x.rank, 1)), np.int64)


@ROWS.row("_npx_constraint_check")
def constraint_check(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Whether all hold; MXNet ends the run where one does not."""
    a.ignore("msg")
    return cast(g, g.ReduceMin(cast(g, g.Reshape(x, g.ints(-1)), np.int32), keepdims=0), np.bool_)
