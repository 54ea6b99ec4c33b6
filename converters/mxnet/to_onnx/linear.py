"""Rows of dense layers and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import (
    ROWS,
    Emitter,
    few,
)
from netferry.converters.mxnet.to_onnx.numpy.elementwise import alike
from netferry.converters.mxnet.to_onnx.sizes import (
    matrix_transposed,
    positive,
    size_of,
)


@ROWS.row("FullyConnected")
def fully_connected(g: Emitter, a: Attrs, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (batch, ...) flattened, or (..., units); weight: (hidden, units)."""
    flatten = a.flag("flatten", True)
    if a.flag("no_bias", False):
        bias = None
    if flatten and x.rank > 2 and not isinstance(size_of(x, *range(1, x.rank)), int):
        g.demands.append((g.node_name, weight.size(1)))
    if flatten or x.rank == 2:
        return g.Gemm(x if x.rank == 2 else g.Flatten(x, axis=1), weight, bias, transB=1)
    y = g.MatMul(x, g.transpose(weight, (1, 0)))
    return y if bias is None else g.Add(y, bias)


@ROWS.row("dot")
def dot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The last axis of x with the first of y."""
    if a.flag("transpose_a", False):
        if x.rank != 2:
            raise CannotConvert(f"transpose_a of an input with {x.rank} axes")
        x = g.transpose(x, (1, 0))
    if a.flag("transpose_b", False):
        if y.rank != 2:
            raise CannotConvert(f"transpose_b of an input with {y.rank} axes")
        y = g.transpose(y, (1, 0))
    if y.rank > 2:
        raise CannotConvert(f"a second input with {y.rank} axes", "Use batch_dot")
    product = g.MatMul(x, y)
    return g.Reshape(product, g.ints(1)) if x.rank == y.rank == 1 else product


@ROWS.row("batch_dot")
def batch_dot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    if a.flag("transpose_a", False):
        x = matrix_transposed(g, x)
    if a.flag("transpose_b", False):
        y = matrix_transposed(g, y)
    return g.MatMul(x, y)


# ---- numpy's products -------------------------------------------------------------------------------


@ROWS.row("_npi_matmul")
def matmul(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    return g.MatMul(*alike(g, x, y))


@ROWS.row("_np_dot")
def numpy_dot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    """The last axis of x with the last but one of y, all other axes kept."""
    x, y = alike(g, x, y)
    if x.rank == 0 or y.rank == 0:
        return g.Mul(x, y)
    return g.MatMul(x, y) if y.rank <= 2 else _contracted(g, x, y, [x.rank - 1], [y.rank - 2])


@ROWS.row("_npi_tensordot_int_axes")
def tensordot_count(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    count = a.integer("axes")
    return _contracted(g, x, y, range(x.rank - count, x.rank), range(count))


@ROWS.row("_npi_tensordot")
def tensordot(g: Emitter, a: Attrs, x: Tensor, y: Tensor) -> Tensor:
    mine = [positive(axis, x.rank) for axis in a.integers("a_axes_summed")]
    theirs = [positive(axis, y.rank) for axis in a.integers("b_axes_summed")]
    return _contracted(g, x, y, mine, theirs)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _contracted(g: Emitter, x: Tensor, y: Tensor, mine: Sequence[int], theirs: Sequence[int]) -> Tensor:
    """Products summed over pairs of axes; the others of x, then the others of y, are left."""
    first = list(_LETTERS[: x.rank])
    second = list(_LETTERS[x.rank : x.rank + y.rank])
    for left, right in zip(mine, theirs, strict=True):
        second[right] = first[left]
    kept = [letter for letter in (*first, *second) if (letter in first) != (letter in second)]
    return g.Einsum(x, y, equation=f"{''.join(first)},{''.join(second)}->{''.join(kept)}")


@ROWS.row("_npi_einsum")
def einsum(g: Emitter, a: Attrs, *inputs: Tensor) -> Tensor:
    a.ignore("optimize")
    return g.Einsum(*inputs, equation=a.string("subscripts"))


@ROWS.row("_npi_polyval")
def polyval(g: Emitter, a: Attrs, p: Tensor, x: Tensor) -> Tensor:
    """Horner's rule; p: the coefficients, the highest power first."""
    terms = [g.Gather(p, g.constant(i, np.int64), axis=0) for i in range(few(p.size(0)))]
    y = g.Add(g.Mul(x, g.scalar(0, x)), terms[0])
    for term in terms[1:]:
        y = g.Add(g.Mul(y, x), term)
    return y
