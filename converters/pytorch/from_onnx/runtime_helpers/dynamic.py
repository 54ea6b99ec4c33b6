"""Sequences, and axes, scales and lengths that are known only when the model runs."""

# mypy: ignore-errors
# ruff: noqa: B905 - the programs read plainer so

from __future__ import annotations

import math

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name

from netferry.converters.pytorch.from_onnx.runtime_helpers.indexing import pad_by_index


def without(items, place):
    """A list without the element at one place."""
    items = list(items)
    del items[place]
    return items


def reduce_axes(x, word, axes, keepdims):
    """``sum``, ``mean``, ``prod``, ``amax``, ``amin`` or ``logsumexp`` over axes; of nothing, the neutral value."""
    axes = sorted((axis % x.dim() for axis in axes), reverse=True) or list(range(x.dim()))[::-1]
    exact = {"dtype": x.dtype} if not x.is_floating_point() else {}
    for axis in axes:
        if word in ("amax", "amin") and x.shape[axis] == 0:
            sizes = [1 if a == axis else size for a, size in enumerate(x.shape)]
            x = x.new_full(sizes, extreme(x.dtype, largest=word == "amin"))
        elif word in ("sum", "prod"):
            x = getattr(x, word)(axis, keepdim=True, **exact)
        else:
            x = getattr(x, word)(axis, keepdim=True)
    for axis in [] if keepdims else axes:
        x = x.squeeze(axis)
    return x


def extreme(dtype, largest):
    """The largest or the least value that a dtype has."""
    if dtype.is_floating_point:
        return math.inf if largest else -math.inf
    return largest if dtype is torch.bool else getattr(torch.iinfo(dtype), "max" if largest else "min")


def reshape(x, sizes):
    """x in other sizes; where one is 0, it is that of x."""
    return x.reshape([size or x.shape[axis] for axis, size in enumerate(sizes)])


def cumulate(x, word, axis, exclusive=False, reverse=False):
    """``cumsum`` or ``cumprod``; an exclusive one is moved on by one place, the neutral element first."""
    x = x.flip(axis) if reverse else x
    if exclusive:
        first = torch.full_like(x.narrow(axis, 0, 1), 0 if word == "cumsum" else 1)
        x = torch.cat([first, x.narrow(axis, 0, x.shape[axis] - 1)], axis)
    y = getattr(x, word)(axis, dtype=x.dtype)
    return y.flip(axis) if reverse else y


def unsqueeze(x, axes):
    """New axes of size 1 at these places of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def slice_axes(x, starts, ends, axes, steps):
    """Python's slices along axes; a negative step reads the axis from its other end."""
    for start, end, axis, step in zip(starts, ends, axes, steps):
        if step < 0:
            x, start, end, step = (
                x.flip(axis),
                *(-1 - min(max(v, -(2**62)), 2**62) for v in (start, end)),
                -step,
            )
        size = x.shape[axis]
        start, end, step = slice(start, end, step).indices(size)
        x = x.index_select(axis, torch.arange(start, max(start, end), step, device=x.device))
    return x


def pad_axes(x, pads, axes, mode, value=0):
    """Pad these axes: all that comes before, then all that comes behind."""
    pairs = [(0, 0)] * x.dim()
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :]):
        pairs[axis] = (before, after)
    if mode != "constant":
        return pad_by_index(x, pairs, mode)
    return F.pad(x, [end for pair in reversed(pairs) for end in pair], value=float(value))


def dropout(x, ratio, training):
    """x with some elements dropped and the others stretched, and which were kept."""
    if not bool(training) or float(ratio) == 0:
        return x, torch.ones_like(x, dtype=torch.bool)
    kept = F.dropout(torch.ones_like(x), float(ratio))
    return x * kept, kept != 0
