"""Fourier transforms."""

# mypy: ignore-errors

from __future__ import annotations

import torch


def dft(x, axis, length=None, inverse=False, onesided=False):
    """The Fourier transform along ``axis``; a last axis of 2 holds the complex numbers, of 1 real ones."""
    axis = axis % x.dim()
    if inverse and onesided:
        return torch.fft.irfft(torch.view_as_complex(x.contiguous()), length, axis).unsqueeze(-1)
    whole = torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else x.squeeze(-1)
    result = (torch.fft.ifft if inverse else torch.fft.fft)(whole, length, axis)
    if onesided:
        result = result.narrow(axis, 0, result.shape[axis] // 2 + 1)
    return torch.view_as_real(result)
