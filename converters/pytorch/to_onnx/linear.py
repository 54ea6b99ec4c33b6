"""The table of torch functions: products."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.pytorch.to_onnx.elementwise import reversed_
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import row
from netferry.converters.pytorch.to_onnx.tracer.spectra import dft


@row("matmul", "bmm", "mm", "mv", "dot")
def matmul(e: Emitter, input: Tensor, other: Tensor) -> Tensor:
    return e.g.MatMul(e.cast(input, e.dtype), e.cast(other, e.dtype))


row("rmatmul")(reversed_(matmul))


@row("linear")
def linear(e: Emitter, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b; a matrix goes through Gemm with the weight as it is."""
    if weight.rank == 2 and input.rank == 2 and input.dtype.kind == "f":
        return e.g.Gemm(input, weight, bias, transB=1)
    base, wrap = e.beneath(input, trailing=1)
    product = e.g.MatMul(base, e.transpose(weight, (1, 0)) if weight.rank == 2 else weight)
    return wrap(product if bias is None else e.g.Add(product, bias))


@row(torch.einsum)
def einsum(e: Emitter, equation: str, *operands: Any) -> Tensor:
    tensors = operands[0] if isinstance(operands[0], list | tuple) else operands
    return e.g.Einsum(*(e.cast(x, e.dtype) for x in tensors), equation=equation.replace(" ", ""))


@row("outer", "ger")
def outer(e: Emitter, input: Tensor, vec2: Tensor) -> Tensor:
    column = e.g.Unsqueeze(e.cast(input, e.dtype), e.g.ints(1))
    return e.g.Mul(column, e.cast(vec2, e.dtype))


@row("grouped_mm", "_grouped_mm")
def grouped_mm(
    e: Emitter,
    input: Tensor,
    mat2: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: Any = None,
) -> Tensor:
    """A product for each group; ``offs`` says where the groups end along the axis that both have in common, or along the
    one that only one of them has. What lies behind the last end is zero."""
    if bias is not None:
        raise CannotConvert("grouped_mm with a bias")
    x, w = e.cast(input, e.dtype), e.cast(mat2, e.dtype)
    if offs is None:
        return e.g.MatMul(x, w)
    stacks = [t for t in (w, x, offs) if t.rank in (1, 3)]
    groups = stacks[0].dims[0] if stacks[0].dims else None
    if not isinstance(groups, int):
        raise CannotConvert("grouped_mm of a free number of groups")
    ends = [e.g.Slice(offs, e.g.ints(i), e.g.ints(i + 1), e.g.ints(0)) for i in range(groups)]
    starts = [e.g.constant([0], offs.dtype), *ends[:-1]]
    cut = {(2, 3): (0, None), (3, 2): (None, 1), (2, 2): (1, 0)}[x.rank, w.rank]
    parts = []
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        sides = [_group_of(e, t, i, axis, start, end) for t, axis in zip((x, w), cut, strict=True)]
        parts.append(e.g.MatMul(*sides))
    if cut == (1, 0):
        return e.g.Concat(*(e.g.Unsqueeze(part, e.g.ints(0)) for part in parts), axis=0)
    axis = 0 if x.rank == 2 else 1
    return e.g.Concat(*parts, _rest(e, axis, ends[-1]), axis=axis)


def _group_of(e: Emitter, x: Tensor, number: int, axis: int | None, start: Tensor, end: Tensor) -> Tensor:
    """One group's rows or columns; of a stack of matrices, its matrix."""
    if axis is None:
        return e.g.Gather(x, e.g.constant(number, np.int64), axis=0)
    return e.g.Slice(x, start, end, e.g.constant([axis], start.dtype))


def _rest(e: Emitter, axis: int, end: Tensor) -> Tensor:
    """Zeros for what is behind the last group."""
    sizes = [e.size(size) for size in e.out.dims]
    sizes[axis] = e.g.Sub(sizes[axis], e.cast(end, np.dtype(np.int64)))
    return e.g.Expand(e.tensor(0, e.dtype), e.g.Concat(*sizes, axis=0))


@row(torch.linalg.det, "det")
def det(e: Emitter, A: Tensor) -> Tensor:
    return e.g.Det(A)


@row(dft)
def transform(e: Emitter, input: Tensor, dim: int, inverse: bool, onesided: bool) -> Tensor:
    """Along one axis, the parts on the last."""
    axis = e.g.constant(dim, np.int64)
    return e.g.DFT(input, None, axis, inverse=int(inverse) or None, onesided=int(onesided) or None)


@row("transformers::grouped_mm_fallback")
def grouped_mm_fallback(e: Emitter, input: Tensor, weight: Tensor, offs: Tensor) -> Tensor:
    """What transformers calls in place of ``grouped_mm`` where PyTorch has no kernel for the weights' type."""
    return grouped_mm(e, input, weight, offs=offs)
