"""Integers of 64 bits without a sign, and elements by their indices."""

# mypy: ignore-errors

from __future__ import annotations

import math

import torch


def pad_by_index(x, pairs, mode):
    """Pad each axis by (before, after) with what the tensor holds: mode reflect, edge or wrap; negative ones cut."""
    for axis, (before, after) in enumerate(pairs):
        size = x.shape[axis]
        if before == 0 and after == 0:
            continue
        place = torch.arange(-before, size + after, device=x.device)
        if mode == "edge":
            place = place.clamp(0, size - 1)
        elif mode == "wrap":
            place = place % size
        else:
            period = max(2 * (size - 1), 1)
            place = size - 1 - (place % period - (size - 1)).abs()
        x = x.index_select(axis, place)
    return x


def gather_nd(x, indices, batch_dims):
    """x at the points along the last axis of ``indices``; the first ``batch_dims`` axes belong together."""
    rank = indices.dim() - 1
    grids = [
        torch.arange(x.shape[axis], device=x.device).reshape([-1 if a == axis else 1 for a in range(rank)])
        for axis in range(batch_dims)
    ]
    return x[(*grids, *indices.unbind(-1))]


def scatter_nd(x, indices, updates, reduce):
    """x with ``updates`` combined into it at the points along the last axis of ``indices``."""
    depth = indices.shape[-1]
    place = torch.zeros_like(indices[..., 0])
    for axis in range(depth):
        size = x.shape[axis]
        part = indices[..., axis]
        place = place * size + torch.where(part < 0, part + size, part)
    inner = x.shape[depth:]
    flat = x.reshape(-1, math.prod(inner))
    rows = updates.reshape(-1, math.prod(inner))
    where = place.reshape(-1, 1).expand(rows.shape)
    return flat.scatter_reduce(0, where, rows, reduce).reshape(x.shape)


def unique(x, axis, sorted):
    """Distinct elements (or slices along ``axis``), where each stands first, which one each is, how often."""
    x = x.reshape(-1) if axis is None else x
    dim = 0 if axis is None else axis
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=dim)
    place = torch.arange(inverse.shape[0], device=x.device)
    first = torch.full_like(counts, inverse.shape[0]).scatter_reduce(0, inverse, place, "amin")
    if not sorted:
        order = first.argsort()
        inverse = order.argsort()[inverse]
        values, first, counts = values.index_select(dim, order), first[order], counts[order]
    return values, first, inverse, counts
