"""Rows of ``_linalg_*`` and of what else sees matrices: diagonals, triangles, products of batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, cast, few, rows
from netferry.converters.mxnet.to_onnx.sizes import (
    cut,
    matrix_transposed,
    moved,
    positive,
    reshape,
    size_of,
)
from netferry.converters.signature import Array

# ---- diagonals and triangles -------------------------------------------------------------------------


def picked(g: Emitter, x: Tensor, rows: Array, columns: Array) -> Tensor:
    """Elements of matrices, side by side in the last axis; x: (..., rows, columns)."""
    wide = x.size(-1)
    sizes = [size_of(x, axis) for axis in range(x.rank - 2)]
    flat = reshape(g, x, [*sizes, x.size(-2) * wide])
    return g.Gather(flat, g.constant(rows * wide + columns, np.int64), axis=-1)


def on_diagonal(g: Emitter, x: Tensor, offset: int, first: int, second: int) -> Tensor:
    """The diagonal of matrices that lie in two axes, as the last axis of the result."""
    first, second = positive(first, x.rank), positive(second, x.rank)
    rest = [axis for axis in range(x.rank) if axis not in (first, second)]
    x = g.transpose(x, [*rest, first, second])
    count = min(x.size(-2) + min(offset, 0), x.size(-1) - max(offset, 0))
    if count < 1:
        raise CannotConvert(f"a diagonal {offset} that lies outside of its matrix")
    along = np.arange(few(count))
    return picked(g, x, along + max(-offset, 0), along + max(offset, 0))


def spread_on_diagonal(g: Emitter, x: Tensor, offset: int) -> Tensor:
    """Matrices with x: (..., n) on the diagonal, zeros elsewhere."""
    count = x.size(-1)
    few(count * count)
    zero = g.scalar(0, x)
    square = g.Where(g.constant(np.eye(count, dtype=bool)), g.Unsqueeze(x, g.ints(-2)), zero)
    if not offset:
        return square
    above, below = max(offset, 0), max(-offset, 0)
    free = [0] * (x.rank - 1)
    return g.Pad(square, g.ints(*free, below, above, *free, above, below), zero)


@ROWS.row("diag", "_np_diag")
def diag(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Of a vector the matrix, of a matrix the vector."""
    offset, axes = a.integer("k", 0), (a.integer("axis1", 0), a.integer("axis2", 1))
    return spread_on_diagonal(g, x, offset) if x.rank == 1 else on_diagonal(g, x, offset, *axes)


def _triangle(a: Attrs, size: int) -> tuple[Array, Array]:
    """Rows and columns of a triangle: the lower one row by row, the upper one column by column.

    An offset other than 0 says itself which one.
    """
    offset, said = a.integer("offset", 0), a.flag("lower", True)
    lower = said if offset == 0 else offset < 0
    few(size * size)
    rows, columns = np.tril_indices(size, -abs(offset))
    return (rows, columns) if lower else (columns, rows)


@ROWS.row("_linalg_maketrian")
def make_triangle(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """x: (..., n (n + 1) / 2); the matrix is as large as its offset needs."""
    count = x.size(-1)
    side = (math.isqrt(8 * count + 1) - 1) // 2
    size = side + abs(a.integer("offset", 0))
    rows, columns = _triangle(a, size)
    if len(rows) != count:
        raise CannotConvert(f"{count} elements, which make no triangle")
    few(size * size)
    positions = np.full((size, size), count)
    positions[rows, columns] = np.arange(count)
    padded = g.Pad(x, g.ints(*[0] * (2 * x.rank - 1), 1), g.scalar(0, x))
    return g.Gather(padded, g.constant(positions, np.int64), axis=-1)


def _one_more(g: Emitter, x: Tensor) -> Tensor:
    """A number of one matrix: MXNet gives it an axis."""
    return x if x.rank else g.Reshape(x, g.ints(1))


@ROWS.row("_linalg_det")
def determinant(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return _one_more(g, g.Det(x))


@ROWS.row("_linalg_slogdet")
def log_determinant(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    found = determinant(g, a, x)
    return [g.Sign(found), g.Log(g.Abs(found))]


# ---- products ----------------------------------------------------------------------------------------


def _transposed(g: Emitter, x: Tensor, wanted: bool) -> Tensor:
    return matrix_transposed(g, x) if wanted else x


def _scaled(g: Emitter, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else g.Mul(x, g.scalar(factor, x))


def _product(g: Emitter, a: Attrs, x: Tensor, y: Tensor, more: Tensor | None) -> Tensor:
    """alpha op(x) op(y) (+ beta more), over the last axis and ``axis``, which holds the rows."""
    axis = positive(a.integer("axis", -2), x.rank)

    def matrix(z: Tensor) -> Tensor:
        return g.transpose(z, moved(z.rank, axis, z.rank - 2))

    y = g.MatMul(
        _transposed(g, matrix(x), a.flag("transpose_a", False)),
        _transposed(g, matrix(y), a.flag("transpose_b", False)),
    )
    y = _scaled(g, y, a.number("alpha", 1.0))
    if more is not None:
        y = g.Add(y, _scaled(g, matrix(more), a.number("beta", 1.0)))
    return g.transpose(y, moved(y.rank, y.rank - 2, axis))


@ROWS.row("_linalg_syrk")
def syrk(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """alpha x x^T, or alpha x^T x."""
    other, own = _transposed(g, x, True), x
    product = g.MatMul(other, own) if a.flag("transpose", False) else g.MatMul(own, other)
    return _scaled(g, product, a.number("alpha", 1.0))


@ROWS.row("_linalg_trmm")
def triangular_product(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """alpha op(triangle of x) y, or with x on the right."""
    triangle = g.Trilu(x, g.constant(0, np.int64), upper=not a.flag("lower", True))
    triangle = _transposed(g, triangle, a.flag("transpose", False))
    pair = (y, triangle) if a.flag("rightside", False) else (triangle, y)
    return _scaled(g, g.MatMul(*pair), a.number("alpha", 1.0))


@ROWS.row("khatri_rao")
def khatri_rao(g: Emitter, a: Attrs, *matrices: Tensor) -> Tensor:
    """Column by column, all products of the rows; matrices: (rows, columns) with equal columns."""
    product = matrices[0]
    for matrix in matrices[1:]:
        every = g.Mul(g.Unsqueeze(product, g.ints(1)), g.Unsqueeze(matrix, g.ints(0)))
        product = g.Reshape(every, g.ints(-1, every.size(2)))
    return product


# ---- numpy's diagonals ------------------------------------------------------------------------------


@ROWS.row("_np_diagonal")
def diagonal(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return on_diagonal(g, x, a.integer("offset", 0), a.integer("axis1", 0), a.integer("axis2", 1))


@ROWS.row("_npi_tril")
def tril(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    if x.rank == 1:
        x = g.Expand(x, g.ints(x.size(0), x.size(0)))
    return g.Trilu(x, g.constant(a.integer("k", 0), np.int64), upper=0)


rows(
    {
        "_linalg_extractdiag": lambda g, a, x: on_diagonal(g, x, a.integer("offset", 0), -2, -1),
        "_linalg_makediag": lambda g, a, x: spread_on_diagonal(g, x, a.integer("offset", 0)),
        "_linalg_extracttrian": lambda g, a, x: picked(g, x, *_triangle(a, x.size(-1))),
        "_linalg_sumlogdiag": lambda g, _, x: _one_more(
            g, g.ReduceSum(g.Log(on_diagonal(g, x, 0, -2, -1)), g.ints(-1), keepdims=0)
        ),
        "_linalg_gemm": lambda g, a, x, y, more: _product(g, a, x, y, more),
        "_linalg_gemm2": lambda g, a, x, y: _product(g, a, x, y, None),
        "_np_trace": lambda g, a, x: g.ReduceSum(diagonal(g, a, x), g.ints(-1), keepdims=0),
        "_np_diagflat": lambda g, a, x: spread_on_diagonal(g, reshape(g, x, [-1]), a.integer("k", 0)),
    }
)


# ---- factorisations of small matrices -------------------------------------------------------------------

_LARGEST = 32
"""Rows of a matrix that is factorised step by step."""


def _few_rows(x: Tensor) -> int:
    count = x.size(-1)
    if x.size(-2) != count:
        raise CannotConvert("a matrix that is not square")
    if count > _LARGEST:
        raise CannotConvert(
            f"a factorisation of {count} rows", f"Up to {_LARGEST} are written out, step by step"
        )
    return count


def _row(g: Emitter, x: Tensor, index: int) -> Tensor:
    """(..., 1, columns)."""
    return cut(g, x, [x.rank - 2], [index], [index + 1])


def _column(g: Emitter, x: Tensor, index: int) -> Tensor:
    """(..., rows, 1)."""
    return cut(g, x, [x.rank - 1], [index], [index + 1])


def _unit(g: Emitter, x: Tensor, count: int, index: int) -> Tensor:
    """(count, 1): one at ``index``."""
    return g.constant(np.eye(count)[:, index : index + 1], x.dtype)


def eliminated(g: Emitter, x: Tensor, count: int) -> Tensor:
    """(..., count, count + more) with the square in front made the unit matrix: Gauss and Jordan, by the largest pivot."""
    for step in range(count):
        column = _column(g, x, step)
        open_rows = g.constant((np.arange(count) >= step)[:, None], np.bool_)
        size = g.Where(open_rows, g.Abs(column), g.scalar(-1, x))
        best = g.ArgMax(size, axis=-2, keepdims=1)
        chosen = cast(g, g.Equal(best, g.constant(np.arange(count)[:, None], np.int64)), x.dtype)
        here = _unit(g, x, count, step)
        pivot, own = g.MatMul(matrix_transposed(g, chosen), x), _row(g, x, step)
        x = g.Add(x, g.Mul(g.Sub(chosen, here), g.Sub(own, pivot)))
        scaled = g.Div(pivot, _column(g, pivot, step))
        x = g.Sub(x, g.Mul(g.Sub(_column(g, x, step), here), scaled))
    return x


def inverse(g: Emitter, x: Tensor) -> Tensor:
    count = _few_rows(x)
    unit = g.Add(g.Mul(x, g.scalar(0, x)), g.constant(np.eye(count), x.dtype))
    return cut(g, eliminated(g, g.Concat(x, unit, axis=-1), count), [x.rank - 1], [count], [None])


@ROWS.row("_npi_solve")
def solve(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The z with x z = y; y: (..., n) or (..., n, columns)."""
    count, flat = _few_rows(x), y.rank == x.rank - 1
    right = g.Unsqueeze(y, g.ints(-1)) if flat else y
    found = cut(g, eliminated(g, g.Concat(x, right, axis=-1), count), [x.rank - 1], [count], [None])
    return g.Squeeze(found, g.ints(-1)) if flat else found


def cholesky(g: Emitter, x: Tensor, lower: bool = True) -> Tensor:
    """The triangle whose product with its own transpose is x, column by column."""
    count = _few_rows(x)
    columns: list[Tensor] = []
    for step in range(count):
        column = _column(g, x, step)
        for before in columns:
            column = g.Sub(column, g.Mul(before, _row(g, before, step)))
        column = g.Div(column, g.Sqrt(_row(g, column, step)))
        below = g.constant((np.arange(count) >= step)[:, None], np.bool_)
        columns.append(g.Where(below, column, g.scalar(0, x)))
    found = columns[0] if count == 1 else g.Concat(*columns, axis=-1)
    return found if lower else matrix_transposed(g, found)


@ROWS.row("_linalg_potrf", "_npi_cholesky")
def potrf(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    return cholesky(g, x, a.flag("lower", True))


@ROWS.row("_linalg_potri")
def potri(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """The inverse of a matrix whose triangle is given."""
    own = inverse(g, x)
    other = matrix_transposed(g, own)
    return g.MatMul(other, own) if a.flag("lower", True) else g.MatMul(own, other)


@ROWS.row("_linalg_trsm")
def trsm(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """alpha times the z with x z = y, or z x = y; x counts as the triangle that ``lower`` names."""
    count, lower = _few_rows(x), a.flag("lower", True)
    mask = np.tril(np.ones((count, count), bool)) if lower else np.triu(np.ones((count, count), bool))
    x = g.Where(g.constant(mask), x, g.scalar(0, x))
    x = matrix_transposed(g, x) if a.flag("transpose", False) else x
    y = g.Mul(y, g.scalar(a.number("alpha", 1.0), y))
    if not a.flag("rightside", False):
        return cut(g, eliminated(g, g.Concat(x, y, axis=-1), count), [x.rank - 1], [count], [None])
    both = g.Concat(matrix_transposed(g, x), matrix_transposed(g, y), axis=-1)
    return matrix_transposed(g, cut(g, eliminated(g, both, count), [x.rank - 1], [count], [None]))


rows({"_linalg_inverse": lambda g, _, x: inverse(g, x)})


# ---- step by step, in a loop ------------------------------------------------------------------------------

_SWEEPS = 8
"""How often each pair of rows is turned: Jacobi's method squares its error each time."""


def _units(g: Emitter, positions: Array, count: int, dtype: np.dtype[Any]) -> Tensor:
    """(steps, 1, count): a one at each of the positions."""
    return g.constant(np.eye(count)[positions][:, None], dtype)


def _unit_like(g: Emitter, x: Tensor, count: int) -> Tensor:
    """The unit matrix for each matrix of x: (..., rows, columns)."""
    zero = g.Mul(g.ReduceSum(x, g.ints(-2, -1), keepdims=1), g.scalar(0, x))
    return g.Add(zero, g.constant(np.eye(count), x.dtype))


@ROWS.row("_linalg_gelqf")
def gelqf(g: Emitter, a: Attrs, x: Tensor) -> list[Tensor]:
    """Rows that are orthonormal and the lower triangle with which they give x: Householder's reflections, signed as LAPACK does.

    x: (..., rows, columns), no more rows than columns.
    """
    rows_, wide = x.size(-2), x.size(-1)
    few((rows_ + wide) * wide)
    steps = np.arange(rows_)
    behind = g.constant((np.arange(wide) >= steps[:, None])[:, None], x.dtype)
    sequences = [_units(g, steps, rows_, x.dtype), _units(g, steps, wide, x.dtype), behind]

    def reflect(state: Sequence[Tensor], step: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (matrix, turned), (own, unit, rest) = state, step
        row = g.Mul(g.MatMul(own, matrix), rest)
        first = g.Mul(row, unit)
        square = g.ReduceSumSquare(row, g.ints(-1), keepdims=1)
        others = g.ReduceSumSquare(g.Sub(row, first), g.ints(-1), keepdims=1)
        head = g.ReduceSum(first, g.ints(-1), keepdims=1)
        one, zero = g.scalar(1, x), g.scalar(0, x)
        sign = g.Where(g.Less(head, zero), g.Neg(one), one)
        normal = g.Add(row, g.Mul(g.Mul(sign, g.Sqrt(square)), unit))
        done = g.LessOrEqual(others, zero)
        length = g.Where(done, one, g.ReduceSumSquare(normal, g.ints(-1), keepdims=1))
        scaled = g.Where(done, zero, g.Div(g.Mul(normal, g.scalar(2, x)), length))
        column = matrix_transposed(g, normal)
        return [g.Sub(z, g.MatMul(g.MatMul(z, column), scaled)) for z in (matrix, turned)], []

    (lower, turned), _ = g.scan(reflect, [x, _unit_like(g, x, wide)], sequences)
    triangle = g.Trilu(cut(g, lower, [x.rank - 1], [0], [rows_]), upper=0)
    return [cut(g, matrix_transposed(g, turned), [x.rank - 2], [0], [rows_]), triangle]


@ROWS.row("_npi_eigvalsh")
def eigenvalues(g: Emitter, a: Attrs, x: Tensor) -> Tensor:
    """Of symmetric matrices, of which one triangle counts, in order: Jacobi's rotations, in double precision."""
    count, lower = _few_rows(x), a.string("UPLO", "L", among="L U") == "L"
    wide = cast(g, x, np.float64)
    own = g.Trilu(wide, upper=not lower)
    strict = g.Trilu(wide, g.constant(-1 if lower else 1, np.int64), upper=not lower)
    pairs = np.array([(p, q) for p in range(count) for q in range(p + 1, count)]).reshape(-1, 2)
    turns = np.tile(pairs, (_SWEEPS, 1))
    sequences = [_units(g, turns[:, side], count, wide.dtype) for side in (0, 1)]

    def turn(state: Sequence[Tensor], step: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        (matrix,), (first, second) = state, step
        columns = [matrix_transposed(g, each) for each in step]
        one, zero = g.scalar(1, wide), g.scalar(0, wide)
        rows_ = [g.MatMul(each, matrix) for each in step]
        across = g.MatMul(rows_[0], columns[1])
        none = g.Equal(across, zero)
        apart = g.Sub(g.MatMul(rows_[1], columns[1]), g.MatMul(rows_[0], columns[0]))
        angle = g.Div(apart, g.Where(none, one, g.Mul(across, g.scalar(2, wide))))
        sign = g.Where(g.Less(angle, zero), g.Neg(one), one)
        tangent = g.Div(sign, g.Add(g.Abs(angle), g.Sqrt(g.Add(g.Mul(angle, angle), one))))
        tangent = g.Where(none, zero, tangent)
        cosine = g.Div(one, g.Sqrt(g.Add(g.Mul(tangent, tangent), one)))
        sine = g.Mul(tangent, cosine)
        kept = g.Add(g.MatMul(columns[0], first), g.MatMul(columns[1], second))
        exchanged = g.Sub(g.MatMul(columns[0], second), g.MatMul(columns[1], first))
        rotation = g.Add(
            g.constant(np.eye(count), wide.dtype),
            g.Add(g.Mul(g.Sub(cosine, one), kept), g.Mul(sine, exchanged)),
        )
        return [g.MatMul(g.MatMul(matrix_transposed(g, rotation), matrix), rotation)], []

    whole = g.Add(own, matrix_transposed(g, strict))
    if count > 1:
        (whole,), _ = g.scan(turn, [whole], sequences)
    values = on_diagonal(g, whole, 0, -2, -1)
    return cast(g, g.ops("TopK", values, g.ints(count), outputs=2, axis=-1, largest=0)[0], x.dtype)
