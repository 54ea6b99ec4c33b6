"""The discrete Fourier transform as one call of a trace, of real numbers: the last axis holds the parts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary


def dft(input: Tensor, dim: int, inverse: bool, onesided: bool) -> Tensor:
    """(..., n, ..., 1 or 2) -> (..., n or n // 2 + 1, ..., 2); the inverse is divided by n."""
    if has_torch_function_unary(input):
        found: Tensor = handle_torch_function(dft, (input,), input, dim, inverse, onesided)  # type: ignore[no-untyped-call]
        return found
    if onesided:
        return torch.view_as_real(torch.fft.rfft(input.select(-1, 0), dim=dim))
    z = torch.complex(*input.unbind(-1)) if input.size(-1) == 2 else input.select(-1, 0)
    return torch.view_as_real(torch.fft.ifft(z, dim=dim) if inverse else torch.fft.fft(z, dim=dim))


def dft_sizes(input: Tensor, dim: int, inverse: bool, onesided: bool) -> Tensor:
    """What ``dft`` gives, by its sizes."""
    sizes = list(input.shape)
    sizes[dim], sizes[-1] = (sizes[dim] // 2 + 1 if onesided else sizes[dim]), 2
    return input.new_empty(sizes)
