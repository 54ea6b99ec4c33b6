"""PyTorch's kernels on numpy's doubles, for ONNX's reference evaluator: what is slow there, or not in double."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - everyone's name for it

from netferry.converters.signature import Array

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_MAX = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


def conv(
    x: Array, w: Array, b: Array | None, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int],
    group: int,
) -> Array:  # fmt: skip
    """x: (batch, channels, *space), w: (out, in / group, *kernel); ``pads`` as ONNX has them."""
    padded = _padded(torch.tensor(x), pads, 0.0)
    kernel = _CONV[x.ndim - 3]
    return kernel(padded, torch.tensor(w), _maybe(b), list(strides), 0, list(dilations), group).numpy()


def conv_transpose(
    x: Array, w: Array, b: Array | None, strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int],
    group: int, output_padding: Sequence[int],
) -> Array:  # fmt: skip
    """w: (in, out / group, *kernel); what ``pads`` say is cut from the full result."""
    kernel = _TRANSPOSED[x.ndim - 3]
    rank = x.ndim - 2
    full = kernel(torch.tensor(x), torch.tensor(w), None, list(strides), 0, 0, group, list(dilations))
    grow = [max(output_padding[i] - pads[rank + i], 0) for i in range(rank)]
    full = F.pad(full, [n for size in reversed(grow) for n in (0, size)])
    for axis in range(rank):
        end = full.shape[axis + 2] - grow[axis] + output_padding[axis] - pads[rank + axis]
        full = full.narrow(axis + 2, pads[axis], end - pads[axis])
    bias = _maybe(b)
    return np.ascontiguousarray((full if bias is None else full + bias.reshape(1, -1, *[1] * rank)).numpy())


def max_pool(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int]
) -> tuple[Array, Array]:
    """The largest of each window, and its index in the padded image; ``pads`` hold what ceil_mode adds already."""
    padded = _padded(torch.tensor(x), pads, -float("inf"))
    largest = _MAX[x.ndim - 3]
    y, positions = largest(padded, list(kernel), list(strides), 0, list(dilations), return_indices=True)
    return y.numpy(), positions.numpy()


def grid_sample(x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool) -> Array:
    """x: (batch, channels, *space), grid: (batch, *out, rank)."""
    kind = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(torch.tensor(x), torch.tensor(grid), kind, padding_mode, align_corners).numpy()


def sum_pool(
    x: Array, kernel: Sequence[int], strides: Sequence[int], pads: Sequence[int], dilations: Sequence[int]
) -> Array:
    """Sums over windows, of zeros where there is padding."""
    channels = x.shape[1]
    ones = np.ones((channels, 1, *kernel), x.dtype)
    return conv(x, ones, None, strides, pads, dilations, channels)


def erf(x: Array) -> Array:
    return torch.erf(torch.tensor(x)).numpy()


def lrn(x: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    """Normalise over ``size`` neighbouring channels."""
    below, above = (size - 1) // 2, size // 2
    square = torch.tensor(x) ** 2
    flat = F.pad(square.reshape(x.shape[0], 1, x.shape[1], -1), [0, 0, below, above])
    total = flat.unfold(2, size, 1).sum(-1).reshape(x.shape)
    return (torch.tensor(x) / (bias + alpha / size * total) ** beta).numpy()


def _padded(x: torch.Tensor, pads: Sequence[int], value: float) -> torch.Tensor:
    """Padded, or cut where ``pads`` are negative."""
    rank = x.ndim - 2
    if not any(pads):
        return x
    return F.pad(x, [n for i in reversed(range(rank)) for n in (pads[i], pads[rank + i])], value=value)


def _maybe(array: Array | None) -> torch.Tensor | None:
    return None if array is None else torch.tensor(array)
