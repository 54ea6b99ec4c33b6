"""Windows that move over an input: pools, convolutions and their inverses."""

# mypy: ignore-errors
# ruff: noqa: B905 - the programs read plainer so

from __future__ import annotations

import math

import torch
from torch.nn import functional as F  # noqa: N812 - its usual name


def window_sums(x, kernel, strides, dilations):
    """The sum over every window of x: (batch, channels, *space)."""
    rank = len(kernel)
    conv = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype, device=x.device)
    sums = conv(x.reshape(-1, 1, *x.shape[2:]), ones, stride=strides, dilation=dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


def window_means(x, kernel, strides, dilations, counted, beyond):
    """The mean over every window of x, padded by ``counted`` (which counts) and ``beyond`` (which does not).

    Both are written as ``F.pad`` takes them: the last axis first.
    """
    ones = F.pad(torch.ones_like(x[:1, :1]), counted, value=1.0)
    sums = window_sums(F.pad(F.pad(x, counted), beyond), kernel, strides, dilations)
    return sums / window_sums(F.pad(ones, beyond), kernel, strides, dilations)


def places_in_tensor(places, x, sizes, starts, column_major=False):
    """Where the maxima of a pool stand in the whole of ``x``: ``places`` count in one plane, padded to ``sizes``."""
    space = x.shape[2:]
    coordinates = []
    for size, start in zip(reversed(sizes), reversed(starts)):
        coordinates.insert(0, places % size - start)
        places = places // size
    order = range(len(space))
    inside = torch.zeros_like(places)
    for axis in reversed(order) if column_major else order:
        inside = inside * space[axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(
        x.shape[0], x.shape[1], *[1] * len(space)
    )
    return inside + planes * math.prod(space)


def max_unpool(x, indices, whole, wanted):
    """Zeros of the sizes ``wanted``, with x at ``indices``, which count through a tensor of the sizes ``whole``."""
    flat = x.new_zeros(math.prod(wanted))
    if tuple(whole) == tuple(wanted):
        return flat.index_put((indices.reshape(-1),), x.reshape(-1)).reshape(wanted)
    place, rest = torch.zeros_like(indices), indices
    step = 1
    for have, want in zip(reversed(whole), reversed(wanted)):
        place, rest, step = place + rest % have * step, rest // have, step * want
    return flat.index_put((place.reshape(-1),), x.reshape(-1)).reshape(wanted)


def col2im(x, image, block, dilations, pads, strides):
    """Blocks (batch, channels * block, blocks) summed into images (batch, channels, *image)."""
    batch, rank = x.shape[0], len(image)
    channels = x.shape[1] // math.prod(block)
    sizes = [size + before + after for size, (before, after) in zip(image, pads)]
    counts = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(sizes, block, dilations, strides)]
    place = torch.zeros(1, dtype=torch.int64, device=x.device)
    for axis in range(rank):
        inside = torch.arange(block[axis], device=x.device) * dilations[axis]
        corner = torch.arange(counts[axis], device=x.device) * strides[axis]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = block[axis], counts[axis]
        place = place * sizes[axis] + (inside.unsqueeze(1) + corner).reshape(shape)
    summed = x.new_zeros(batch, channels, math.prod(sizes))
    summed = summed.index_add(2, place.reshape(-1), x.reshape(batch, channels, -1)).reshape(
        batch, channels, *sizes
    )
    for axis, (before, _) in enumerate(pads):
        summed = summed.narrow(2 + axis, before, image[axis])
    return summed
