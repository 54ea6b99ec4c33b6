"""Functions that are decomposed into others: products of vectors and matrices, diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed

_BROADCAST: Any = torch.broadcast_tensors
_BROADCAST_SHAPES: Any = torch.broadcast_shapes


@decomposed(torch.linalg.cross)
def _cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Along an axis of three elements: (y z' - z y', z x' - x z', x y' - y x')."""
    a, b = _BROADCAST(input, other)
    (x, y, z), (u, v, w) = (part.unbind(dim) for part in (a, b))
    return torch.stack([y * w - z * v, z * u - x * w, x * v - y * u], dim)


@decomposed("cross")
def _cross_first(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Along the first axis of three elements where none is named."""
    axis = next(position for position, size in enumerate(input.shape) if size == 3) if dim is None else dim
    return _cross(input, other, dim=axis)


@decomposed("inner")
def _inner(input: Tensor, other: Tensor) -> Any:
    if input.dim() == 0 or other.dim() == 0:
        return input * other
    return torch.tensordot(input, other, dims=([-1], [-1]))


@decomposed("vdot", torch.linalg.vecdot)
def _vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    return (x * y).sum(dim)


@decomposed(torch.linalg.matmul)
def _matmul(input: Tensor, other: Tensor) -> Tensor:
    return input @ other


@decomposed("kron")
def _kron(input: Tensor, other: Tensor) -> Tensor:
    """Each element of the first times the whole second."""
    rank = max(input.dim(), other.dim())
    a, b = (x.reshape([1] * (rank - x.dim()) + list(x.shape)) for x in (input, other))
    for axis in range(rank):
        a, b = a.unsqueeze(2 * axis + 1), b.unsqueeze(2 * axis)
    return (a * b).reshape([a.size(2 * axis) * b.size(2 * axis + 1) for axis in range(rank)])


@decomposed("addr")
def _addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = torch.outer(vec1, vec2) * alpha
    return product if beta == 0 else input * beta + product


@decomposed("addbmm")
def _addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """The matrices' products are summed over the batch."""
    product = (batch1 @ batch2).sum(0) * alpha
    return product if beta == 0 else input * beta + product


@decomposed("chain_matmul")
def _chain_matmul(*matrices: Tensor, out: None = None) -> Tensor:
    return _multi_dot(matrices)


@decomposed(torch.linalg.multi_dot)
def _multi_dot(tensors: Sequence[Tensor], *, out: None = None) -> Tensor:
    product = tensors[0]
    for matrix in tensors[1:]:
        product = product @ matrix
    return product


@decomposed(torch.linalg.matrix_power, "matrix_power")
def _matrix_power(input: Tensor, n: int) -> Tensor:
    """By squares; a power of zero is the identity, one below zero is of the inverse."""
    if n == 0:
        return torch.eye(input.size(-1), dtype=input.dtype).expand(input.shape)
    base, found = torch.linalg.inv(input) if n < 0 else input, None
    for bit in bin(abs(n))[:1:-1]:
        if bit == "1":
            found = base if found is None else found @ base
        base = base @ base
    assert found is not None
    return found


@decomposed(torch.linalg.inv, "inverse")
def _inverse(A: Tensor) -> Tensor:
    """Of a matrix of known size: Gauss' and Jordan's elimination, the largest element of each column first."""
    size = A.size(-1)
    if not isinstance(size, int):
        raise NotImplementedError("the inverse of a matrix of free size")
    return _eliminated(A, torch.eye(size, dtype=A.dtype).expand(A.shape))


@decomposed(torch.linalg.solve)
def _solve(A: Tensor, B: Tensor, *, left: bool = True, out: None = None) -> Tensor:
    """A x = B, or x A = B; of vectors where B is a stack of them."""
    if not isinstance(A.size(-1), int):
        raise NotImplementedError("a system of equations of free size")
    vector = B.dim() == 1 or (B.dim() == A.dim() - 1 and B.dim() > 1)
    right = B.unsqueeze(-1) if vector else B
    if not left:
        return _eliminated(A.mT, right.mT).mT
    found = _eliminated(A, right)
    return found.squeeze(-1) if vector else found


def _eliminated(matrix: Tensor, right: Tensor) -> Tensor:
    """x of ``matrix x = right``: (..., n, n) and (..., n, m)."""
    size = int(matrix.size(-1))
    front = _BROADCAST_SHAPES(matrix.shape[:-2], right.shape[:-2])
    both = torch.cat([matrix.expand(*front, -1, -1), right.expand(*front, -1, -1)], -1)
    lines = torch.arange(size)
    for column in range(size):
        free = both[..., column].abs()
        best = torch.where(lines >= column, free, -1.0).argmax(-1, keepdim=True)
        swap = torch.where(lines == column, best, torch.where(lines == best, column, lines))
        both = both.gather(-2, swap.unsqueeze(-1).expand(both.shape))
        pivot = both[..., column : column + 1, :] / both[..., column : column + 1, column : column + 1]
        rest = both - both[..., column : column + 1] * pivot
        both = torch.where((lines == column).unsqueeze(-1), pivot, rest)
    return both[..., size:]


@decomposed(torch.linalg.cholesky, "cholesky")
def _cholesky(input: Tensor, upper: bool = False, *, out: None = None) -> Tensor:
    """Of a matrix of known size, column by column."""
    size = input.size(-1)
    if not isinstance(size, int):
        raise NotImplementedError("a Cholesky decomposition of free size")
    columns: list[Tensor] = []
    for column in range(size):
        rest = input[..., column]
        for done in columns:
            rest = rest - done * done[..., column : column + 1]
        rest = torch.where(torch.arange(size) < column, 0.0, rest)
        columns.append(rest / rest[..., column : column + 1].sqrt())
    found = torch.stack(columns, -1)
    return found.mT if upper else found


# ---- diagonals ------------------------------------------------------------------------------------


@decomposed("diag_embed")
def _diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Vectors on the diagonals of matrices of zeros."""
    away = abs(offset)
    x = F.pad(input, (0, away) if offset >= 0 else (away, 0)) if away else input
    line = torch.arange(x.size(-1))
    there = line - line.unsqueeze(-1) == offset
    placed = torch.where(there, x.unsqueeze(-1), torch.zeros((), dtype=x.dtype))
    return placed.movedim((-2, -1), (dim1, dim2))


@decomposed("diagflat")
def _diagflat(input: Tensor, offset: int = 0) -> Tensor:
    return _diag_embed(input.flatten(), offset)


@decomposed(torch.linalg.diagonal)
def _linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    return torch.diagonal(A, offset, dim1, dim2)


@decomposed("trace")
def _trace(input: Tensor) -> Tensor:
    return input.diagonal().sum()


@decomposed("fill_diagonal")
def _fill_diagonal(input: Tensor, fill_value: float, wrap: bool = False) -> Tensor:
    """The elements all of whose indices are equal."""
    if wrap:
        raise NotImplementedError("a diagonal that goes on at the top")
    lines = [torch.arange(size).view(-1, *[1] * (input.dim() - 1 - axis)) for axis, size in enumerate(input.shape)]  # fmt: skip
    there = lines[0] == lines[1]
    for line in lines[2:]:
        there = there & (lines[0] == line)
    return input.masked_fill(there, fill_value)


@decomposed("block_diag")
def _block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of one of zeros."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    blocks = [x.reshape(1, -1) if x.dim() < 2 else x for x in given]
    total = sum(x.size(1) for x in blocks)
    rows, before = [], 0
    for block in blocks:
        rows.append(F.pad(block, (before, total - before - block.size(1))))
        before = before + block.size(1)
    return torch.cat(rows, 0)


@decomposed("eye")
def _eye(n: Any, m: Any = None, *, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    if isinstance(n, int) and (m is None or isinstance(m, int)):
        return NotImplemented
    columns = torch.arange(n if m is None else m, device=device)
    return (torch.arange(n, device=device).unsqueeze(1) == columns).to(dtype or torch.get_default_dtype())


@decomposed("pdist")
def _pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The distances of all pairs of rows, each pair once."""
    rows = input.size(0)
    if not isinstance(rows, int):
        raise NotImplementedError("the distances of a free number of rows")
    first, second = torch.triu_indices(rows, rows, 1)
    apart: Tensor = (input[first] - input[second]).norm(p, -1)
    return apart


@decomposed("cov")
def _cov(input: Tensor, *, correction: int = 1, fweights: None = None, aweights: None = None) -> Tensor:
    """Of variables in rows."""
    if fweights is not None or aweights is not None:
        raise NotImplementedError("a covariance with weights")
    x = input.unsqueeze(0) if input.dim() < 2 else input
    x = x - x.mean(1, keepdim=True)
    found = (x @ x.mT) / (x.size(1) - correction)
    return found if input.dim() > 1 else found.reshape(())


@decomposed("corrcoef")
def _corrcoef(input: Tensor) -> Tensor:
    if input.dim() < 2:
        raise NotImplementedError("the correlation of one variable")
    found = _cov(input)
    spread = found.diagonal().sqrt()
    return (found / spread.unsqueeze(0) / spread.unsqueeze(1)).clamp(-1, 1)
