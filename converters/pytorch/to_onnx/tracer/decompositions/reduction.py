"""Functions that are decomposed into others: sums, orders and counts along axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed
from netferry.converters.pytorch.to_onnx.tracer.places import place_of_mode


def _over(dim: Any, keepdim: bool) -> dict[str, Any]:
    return {} if dim is None else {"dim": dim, "keepdim": keepdim}


@decomposed("nansum")
def _nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return torch.where(input.isnan(), 0.0, input).to(dtype or input.dtype).sum(**_over(dim, keepdim))


@decomposed("nanmean")
def _nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    x = input if dtype is None else input.to(dtype)
    return _nansum(x, dim, keepdim) / x.isnan().logical_not().to(x.dtype).sum(**_over(dim, keepdim))


@decomposed("aminmax")
def _aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    if dim is None:
        return input.min(), input.max()
    return torch.return_types.aminmax((input.amin(dim, keepdim), input.amax(dim, keepdim)))


@decomposed("count_nonzero")
def _count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    return (input != 0).to(torch.int64).sum(**_over(dim, False))


@decomposed("dist")
def _dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    apart: Tensor = (input - other).norm(p)
    return apart


@decomposed(torch.linalg.norm)
def _linalg_norm(
    A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, out: None = None, dtype: Any = None
) -> Any:  # fmt: skip
    """Of a vector; of a matrix where an order is named and two axes are, or the tensor has no more."""
    axes = [dim] if isinstance(dim, int) else dim
    matrix = ord is not None and (len(axes) == 2 if axes is not None else A.dim() == 2)
    if matrix or isinstance(ord, str):
        return _matrix_norm(A, ord, (-2, -1) if axes is None else axes, keepdim, dtype=dtype)
    return torch.linalg.vector_norm(A, 2 if ord is None else ord, axes, keepdim, dtype=dtype)


@decomposed(torch.linalg.matrix_norm)
def _matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, out: None = None, dtype: Any = None
) -> Any:  # fmt: skip
    """The largest sum of a column (1) or row (infinity), the smallest with a minus, or all squares."""
    x = A if dtype is None else A.to(dtype)
    first, second = (axis % x.dim() for axis in dim)
    if ord == "fro":
        return torch.linalg.vector_norm(x, 2, (first, second), keepdim)
    if ord not in (1, -1, math.inf, -math.inf):
        raise NotImplementedError(f"a matrix norm of order {ord!r}")
    summed, kept = (first, second) if abs(ord) == 1 else (second, first)
    sums = x.abs().sum(summed, keepdim=True)
    found = sums.amax(kept, keepdim=True) if ord > 0 else sums.amin(kept, keepdim=True)
    return found if keepdim else found.squeeze((first, second))


# ---- running along an axis ----------------------------------------------------------------------


def _running(
    combine: Callable[[Tensor, Tensor], Tensor],
    reduce: Callable[[Tensor], Tensor],
    neutral: float,
    input: Tensor,
    dim: int,
    *,
    dtype: Any = None,
) -> Tensor:
    """What each element makes with all before it: in steps of 1, 2, 4 ..., or of a free size by a triangle."""
    x = (input if dtype is None else input.to(dtype)).movedim(dim, -1)
    size = x.size(-1)
    if not isinstance(size, int):
        found = reduce(torch.where(_before(size), x.unsqueeze(-2), neutral))
        return found.movedim(-1, dim)
    step = 1
    while step < size:
        front = x.new_full((*x.shape[:-1], step), neutral)
        x = combine(x, torch.cat([front, x.narrow(-1, 0, size - step)], -1))
        step *= 2
    return x.movedim(-1, dim)


def _before(size: Any) -> Tensor:
    """(size, size): whether the column is the row or stands before it."""
    line = torch.arange(size)
    return line <= line.unsqueeze(-1)


decomposed("cumprod")(partial(_running, torch.mul, lambda x: x.prod(-1), 1))
decomposed("logcumsumexp")(partial(_running, torch.logaddexp, lambda x: x.logsumexp(-1), -math.inf))


def _running_extreme(largest: bool, input: Tensor, dim: int) -> Any:
    """The largest (smallest) so far and where it stands, the last of equal ones."""
    limits = torch.finfo(input.dtype) if input.dtype.is_floating_point else torch.iinfo(input.dtype)
    worst = (limits.min if largest else limits.max) if not input.dtype.is_floating_point else math.inf * (-1 if largest else 1)  # fmt: skip
    x = input.movedim(dim, -1)
    seen = _before(x.size(-1))
    table = torch.where(seen, x.unsqueeze(-2), worst)
    best = table.amax(-1) if largest else table.amin(-1)
    there = seen & (x.unsqueeze(-2) == best.unsqueeze(-1))
    where = torch.where(there, torch.arange(x.size(-1)), -1).amax(-1)
    kind = torch.return_types.cummax if largest else torch.return_types.cummin
    return kind((best.movedim(-1, dim), where.movedim(-1, dim)))


decomposed("cummax")(partial(_running_extreme, True))
decomposed("cummin")(partial(_running_extreme, False))

# ---- orders ---------------------------------------------------------------------------------------


def _placed(kind: Any, input: Tensor, place: Any, dim: int, keepdim: bool) -> Any:
    values, places = input.sort(dim)
    found = [part.narrow(dim, place, 1) for part in (values, places)]
    return kind([part if keepdim else part.squeeze(dim) for part in found])


@decomposed("median")
def _median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower one of the two in the middle."""
    if dim is None:
        flat = input.flatten()
        return flat.sort(0)[0].narrow(0, (flat.size(0) - 1) // 2, 1).squeeze(0)
    return _placed(torch.return_types.median, input, (input.size(dim) - 1) // 2, dim, keepdim)


@decomposed("mode")
def _mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The smallest of the values that stand most often, and its last place; among NaNs, PyTorch's sort finds anything."""
    if not input.dim():
        return torch.return_types.mode((input, torch.zeros((), dtype=torch.int64)))
    x = (input if input.dtype.is_floating_point else input.to(torch.int64)).movedim(dim, -1)
    count = (x.unsqueeze(-1) == x.unsqueeze(-2)).to(torch.int64).sum(-1)
    often = count == count.amax(-1, keepdim=True)
    value = torch.where(often, x, x.amax(-1, keepdim=True)).amin(-1, keepdim=True)
    values, places = (
        part.movedim(-1, dim) if keepdim else part.squeeze(-1)
        for part in (value.to(input.dtype), place_of_mode(x, value))
    )
    return torch.return_types.mode((values, places))


@decomposed("kthvalue")
def _kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return _placed(torch.return_types.kthvalue, input, k - 1, dim, keepdim)


@decomposed("msort")
def _msort(input: Tensor) -> Tensor:
    return input.sort(0)[0]


@decomposed("quantile")
def _quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """Between the two sorted values around q (n - 1); several of them come in front."""
    x = input.flatten() if dim is None else input.movedim(dim, -1)
    ordered, last = x.sort(-1)[0], x.size(-1) - 1
    wanted = q.to(x.dtype) if isinstance(q, Tensor) else torch.tensor(q, dtype=x.dtype)
    place = wanted.reshape(-1) * last
    low = place.round() if interpolation == "nearest" else place.ceil() if interpolation == "higher" else place.floor()  # fmt: skip
    share = 0.5 if interpolation == "midpoint" else place - low
    below = ordered.index_select(-1, low.to(torch.int64))
    if interpolation in ("linear", "midpoint"):
        above = ordered.index_select(-1, place.ceil().to(torch.int64))
        below = below + (above - below) * share
    found = below.movedim(-1, 0)
    if keepdim:
        found = (
            found.reshape(-1, *[1] * input.dim()) if dim is None else found.unsqueeze(dim % input.dim() + 1)
        )
    return found if isinstance(q, Tensor) and q.dim() else found.squeeze(0)


@decomposed("bucketize")
def _bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False, out: None = None
) -> Tensor:
    """How many boundaries lie below, or with ``right`` at it too."""
    x = input if isinstance(input, Tensor) else torch.tensor(input)
    apart = x.unsqueeze(-1)
    under = boundaries <= apart if right else boundaries < apart
    return under.to(torch.int32 if out_int32 else torch.int64).sum(-1, dtype=torch.int32 if out_int32 else torch.int64)  # fmt: skip


@decomposed("searchsorted")
def _searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    out: None = None, sorter: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """As ``bucketize``; a stack of sequences belongs to a stack of values."""
    order = sorted_sequence if sorter is None else sorted_sequence.gather(-1, sorter)
    boundaries = order if order.dim() == 1 else order.unsqueeze(-2)
    return _bucketize(input, boundaries, out_int32=out_int32, right=right or side == "right")


@decomposed("histc")
def _histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of ``bins`` equal parts; the last one holds its end too."""
    x = input.flatten()
    low, high = (x.min(), x.max()) if min == max == 0 else (min, max)
    place = ((x - low) * (bins / (high - low))).floor().clamp(max=bins - 1)
    inside = (x >= low) & (x <= high)
    hit = (place.unsqueeze(0) == torch.arange(bins).unsqueeze(1)) & inside
    return hit.to(x.dtype).sum(1)


# ---- areas ---------------------------------------------------------------------------------------


def _trapezoids(y: Tensor, x: Tensor | None, dx: float, dim: int) -> Tensor:
    size = y.size(dim) - 1
    middles = (y.narrow(dim, 0, size) + y.narrow(dim, 1, size)) * 0.5
    if x is None:
        return middles * dx
    return middles * (x.diff() if x.dim() > 1 or dim in (-1, y.dim() - 1) else x.diff().view(-1, *[1] * (y.dim() - 1 - dim % y.dim())))  # fmt: skip


@decomposed("trapz", "trapezoid")
def _trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    return _trapezoids(y, x, dx, dim).sum(dim)


@decomposed("cumulative_trapezoid")
def _cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float = 1, dim: int = -1) -> Tensor:
    return _trapezoids(y, x, dx, dim).cumsum(dim)


@decomposed("renorm")
def _renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Each slice along an axis shortened to a length of at most ``maxnorm``, as PyTorch does with 1e-7 beside the length."""
    others = [axis for axis in range(input.dim()) if axis != dim % input.dim()]
    length: Any = torch.linalg.vector_norm(input, p, others, keepdim=True)
    return input * torch.where(length > maxnorm, maxnorm / (length + 1e-7), torch.ones_like(length))
