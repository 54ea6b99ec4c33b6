"""Functions that are decomposed into others: indexing, grids, bags and differences."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed

_BROADCAST: Any = torch.broadcast_tensors


@decomposed("diff")
def _diff(
    input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """The n-th difference of neighbours along an axis; of truth values, whether they differ."""
    parts = [part for part in (prepend, input, append) if part is not None]
    x = torch.cat(parts, dim) if len(parts) > 1 else input
    for _ in range(n):
        left, right = x.narrow(dim, 0, x.size(dim) - 1), x.narrow(dim, 1, x.size(dim) - 1)
        x = right ^ left if x.dtype == torch.bool else right - left
    return x


@decomposed("affine_grid")
def _affine_grid(theta: Tensor, size: Sequence[Any], align_corners: bool | None = None) -> Tensor:
    """Coordinates (x, y[, z], 1) of every element, -1 and 1 at the ends, through theta (batch, axes, axes + 1)."""
    axes = list(size[2:])
    lines = [_line(theta, count, bool(align_corners)) for count in axes]
    planes = [line.expand(axes) for line in _crossed(lines)][::-1]
    positions = torch.stack([*planes, torch.ones_like(planes[0])], -1)
    flat: Any = positions.flatten(0, -2).unsqueeze(0) @ theta.transpose(1, 2)
    found: Tensor = flat.unflatten(1, axes)
    return found


def _line(like: Tensor, count: Any, corners: bool) -> Tensor:
    """The middles of ``count`` elements between -1 and 1, or with corners the first and last at the ends."""
    steps = torch.arange(count, dtype=like.dtype, device=like.device) * 2 - (count - 1)
    larger: Any = torch.sym_max
    positions: Tensor = steps / (larger(count - 1, 1) if corners else count)
    return positions


def _crossed(lines: Sequence[Tensor]) -> list[Tensor]:
    """Each line along an axis of its own."""
    shapes = [[-1 if axis == position else 1 for axis in range(len(lines))] for position in range(len(lines))]
    return [line.view(shape) for line, shape in zip(lines, shapes, strict=True)]


@decomposed(F.embedding_bag)
def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Rows of a table, gathered into bags: (bags, words), or (words,) with the indices at which bags begin."""
    if max_norm is not None:
        raise NotImplementedError("an embedding bag with max_norm")
    rows = F.embedding(input, weight)
    counted = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if offsets is None:
        return _bagged(rows, counted.to(rows.dtype), mode, padding_idx is not None)
    ends = (
        offsets[1:]
        if include_last_offset
        else torch.cat([offsets[1:], offsets.new_full((1,), input.size(0))])
    )
    begins = offsets[:-1] if include_last_offset else offsets
    positions = torch.arange(input.size(0), device=input.device)
    inside = (positions >= begins.unsqueeze(1)) & (positions < ends.unsqueeze(1))
    return _bagged(rows.unsqueeze(0), (inside & counted).to(rows.dtype), mode, True)


def _bagged(rows: Tensor, counted: Tensor, mode: str, partly: bool) -> Tensor:
    """rows: (bags or 1, words, features); counted: (bags, words), 1 for what is in the bag. Empty bags give 0."""
    if mode == "max":
        if not partly:
            return rows.amax(1)
        best = rows.masked_fill(counted.unsqueeze(-1) == 0, -math.inf).amax(1)
        return best.masked_fill(counted.sum(1, keepdim=True) == 0, 0.0)
    if not partly:
        return rows.sum(1) if mode == "sum" else rows.mean(1)
    total = (counted.unsqueeze(-2) @ rows).squeeze(-2)
    return total if mode == "sum" else total / counted.sum(1, keepdim=True).clamp_min(1)


@decomposed("hstack")
def _hstack(tensors: Sequence[Tensor]) -> Tensor:
    parts = [x.unsqueeze(0) if x.dim() == 0 else x for x in tensors]
    return torch.cat(parts, 0 if parts[0].dim() == 1 else 1)


@decomposed("vstack", "row_stack")
def _vstack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.unsqueeze(0) if x.dim() == 1 else x for x in tensors], 0)


@decomposed("atleast_1d")
def _atleast_1d(*tensors: Tensor) -> Any:
    found = tuple(x.unsqueeze(0) if x.dim() == 0 else x for x in tensors)
    return found[0] if len(found) == 1 else found


@decomposed("take_along_dim")
def _take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """As ``gather``, of what is broadcast along the other axes first."""
    if dim is None:
        return input.flatten().gather(0, indices.flatten())
    axis = dim % input.dim()
    sizes = [
        max(a, b) if isinstance(a, int) and isinstance(b, int) else b if isinstance(a, int) else a
        for a, b in zip(input.shape, indices.shape, strict=True)
    ]
    wide = [-1 if position == axis else size for position, size in enumerate(sizes)]
    return input.expand(wide).gather(axis, indices.expand(wide))


@decomposed("diagonal", "diag")
def _diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes, as the last axis; of a vector, the matrix that has it."""
    if input.dim() == 1:
        return torch.diag_embed(input, offset)
    rest = [axis for axis in range(input.dim()) if axis not in (dim1 % input.dim(), dim2 % input.dim())]
    x = input.permute(*rest, dim1, dim2)
    rows, columns = x.shape[-2] + min(offset, 0), x.shape[-1] - max(offset, 0)
    smaller: Any = torch.sym_min
    count = rows if rows is columns else smaller(rows, columns)
    line = torch.arange(count, device=input.device)
    places = (line - min(offset, 0)) * x.shape[-1] + line + max(offset, 0)
    return x.flatten(-2).index_select(-1, places)


@decomposed("hsplit")
def _hsplit(input: Tensor, sections: Any) -> Any:
    return torch.tensor_split(input, sections, 1 if input.dim() > 1 else 0)


@decomposed("tensor_split")
def _tensor_split(
    input: Tensor, sections: Any = None, dim: int = 0, *, indices: Any = None, **named: Any
) -> Any:
    """Parts of a free axis: as long as each other, the first ones by one more; or as far as some indices."""
    size, front = input.shape[dim], (slice(None),) * (dim % input.dim())
    indices = sections if isinstance(sections, list | tuple) else indices
    if isinstance(size, int) or isinstance(sections, Tensor) or named:
        return NotImplemented
    if indices is not None:
        ends = [None, *indices, None]
        return tuple(input[(*front, slice(*pair))] for pair in itertools.pairwise(ends))
    start, parts = 0, []
    for place in range(sections):
        length = (size + sections - 1 - place) // sections
        parts.append(input.narrow(dim, start, length))
        start = start + length
    return tuple(parts)


@decomposed("vsplit")
def _vsplit(input: Tensor, sections: Any) -> Any:
    return torch.tensor_split(input, sections, 0)


@decomposed("dsplit")
def _dsplit(input: Tensor, sections: Any) -> Any:
    return torch.tensor_split(input, sections, 2)


@decomposed("as_strided")
def _as_strided(input: Tensor, size: Any, stride: Any, storage_offset: Any = None) -> Tensor:
    """Elements of what lies in memory as it is written, by their numbers."""
    with torch._C.DisableTorchFunction():
        is_a_view = input._base is not None
    if not input.is_contiguous() or (is_a_view and storage_offset is not None):
        raise NotImplementedError("as_strided of a tensor that is a view")
    place = torch.zeros((), dtype=torch.int64, device=input.device) + (storage_offset or 0)
    for axis, (count, step) in enumerate(zip(size, stride, strict=True)):
        line = torch.arange(count, device=input.device) * step
        place = place + line.view([-1] + [1] * (len(size) - 1 - axis))
    return input.flatten().index_select(0, place.flatten()).reshape(list(size))


def _triangle(
    keep: Any, row: Any, col: Any, offset: int = 0, *, dtype: Any = torch.int64, device: Any = None, **_: Any
) -> Tensor:
    """Where a triangle of ones is 1: (2, ones)."""
    return torch.nonzero(keep(torch.ones(row, col, device=device), offset)).T.to(dtype)


decomposed("tril_indices")(partial(_triangle, torch.tril))
decomposed("triu_indices")(partial(_triangle, torch.triu))


# ---- where something is true ---------------------------------------------------------------------


@decomposed("nonzero", "argwhere", "nonzero_numpy")
def _nonzero(input: Tensor, *, as_tuple: bool = False, out: None = None) -> Any:
    """(found, axes): as columns where they are asked for one by one."""
    if not as_tuple:
        return NotImplemented
    return torch.nonzero(input).unbind(1)


@decomposed(torch.where)
def _where(condition: Tensor, *sides: Any, **named: Any) -> Any:
    return NotImplemented if sides or named else _nonzero(condition, as_tuple=True)


@decomposed("masked_select")
def _masked_select(input: Tensor, mask: Tensor) -> Any:
    x, there = _BROADCAST(input, mask)
    return x.flatten().index_select(0, torch.nonzero(there.flatten()).squeeze(1))


@decomposed(Tensor.__getitem__)
def _getitem(input: Tensor, index: Any) -> Any:
    """A mask picks what it is true for, as the indices of those do."""
    items = index if isinstance(index, tuple) else (index,)
    if not any(_is_mask(item) for item in items):
        return NotImplemented
    plain: list[Any] = []
    for item in items:
        plain += torch.nonzero(item).unbind(1) if _is_mask(item) else [item]
    return input[tuple(plain)]


@decomposed("unique")
def _unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    if dim is not None:
        return NotImplemented
    found: Any = torch._unique2(input, sorted, return_inverse, return_counts)
    return _asked(found, return_inverse, return_counts)


@decomposed("unique_consecutive")
def _unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """What differs from its predecessor; where each element is among these, and how often each is repeated."""
    x = input.flatten() if dim is None else input.movedim(dim, 0)
    other = x[1:] != x[:-1]
    other = other if other.dim() == 1 else other.flatten(1).any(1)
    first = torch.cat([torch.ones_like(x.flatten()[:1], dtype=torch.bool), other])
    begins = torch.nonzero(first).squeeze(1)
    values = x.index_select(0, begins)
    inverse = first.long().cumsum(0) - 1
    ends = torch.cat([begins[1:], begins.new_full((1,), x.size(0))])
    if dim is None:
        return _asked((values, inverse.reshape(input.shape), ends - begins), return_inverse, return_counts)
    return _asked((values.movedim(0, dim), inverse, ends - begins), return_inverse, return_counts)


def _asked(found: Sequence[Tensor], inverse: bool, counts: bool) -> Any:
    parts = [found[0], *([found[1]] if inverse else []), *([found[2]] if counts else [])]
    return tuple(parts) if len(parts) > 1 else parts[0]


@decomposed("put")
def _put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """Elements by their numbers in the flattened tensor, negative ones from its end."""
    place = index.flatten()
    place = torch.where(place < 0, place + input.numel(), place)
    flat = input.flatten().index_put((place,), source.flatten(), accumulate)
    return flat.reshape(input.shape)


def _is_mask(item: Any) -> bool:
    return isinstance(item, Tensor) and item.dtype in (torch.bool, torch.uint8) and item.dim() > 0


@decomposed("cdist")
def _cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    apart: Tensor = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).norm(p, -1)
    return apart


@decomposed("pairwise_distance")
def _pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    apart: Tensor = (x1 - x2 + eps).norm(p, -1, keepdim)
    return apart


@decomposed("tensordot")
def _tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: None = None) -> Tensor:
    """Axes ``dims`` of both are summed over: as many at the end of a and the beginning of b, or two lists."""
    if isinstance(dims, int):
        dims = list(range(a.dim() - dims, a.dim())), list(range(dims))
    left, right = ([axis % x.dim() for axis in axes] for x, axes in zip((a, b), dims, strict=True))
    names = [chr(97 + axis) for axis in range(a.dim() + b.dim())]
    second = names[a.dim() :]
    for mine, other in zip(left, right, strict=True):
        second[other] = names[mine]
    kept = [n for i, n in enumerate(names[: a.dim()]) if i not in left] + [
        n for i, n in enumerate(second) if i not in right
    ]
    return torch.einsum(f"{''.join(names[: a.dim()])},{''.join(second)}->{''.join(kept)}", a, b)


@decomposed(Tensor.unfold)
def _unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows along an axis, each as a new last axis; their number follows the axis' size."""
    count = (input.size(dimension) - size) // step + 1
    starts = torch.arange(count, device=input.device) * step
    positions = starts.unsqueeze(1) + torch.arange(size, device=input.device)
    axis = dimension % input.dim()
    windows: Any = input.index_select(axis, positions.flatten())
    found: Tensor = windows.unflatten(axis, (count, size)).movedim(axis + 1, -1)
    return found
