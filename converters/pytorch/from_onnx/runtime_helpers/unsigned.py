"""Integers of 64 bits without a sign."""

# mypy: ignore-errors

from __future__ import annotations

import torch


def unsigned_divide(x, y):
    """x // y of uint64: by int64, half of x first where it has the top bit."""
    low = -(2**63)
    a, b = (torch.as_tensor(v).to(torch.int64) for v in (x, y))
    divisor = torch.where(b == 0, 1, b)
    half = unsigned_shift(a, torch.ones_like(a))
    quotient = torch.where(divisor < 0, 0, torch.div(half, divisor.clamp(min=1), rounding_mode="trunc") * 2)
    rest = a - quotient * b
    quotient = quotient + ((rest ^ low) >= (b ^ low)).to(torch.int64)
    return quotient.to(torch.uint64)


def unsigned_shift(x, y):
    """x >> y of 64 bits, zeros coming in at the top; by 64 or more, 0."""
    dtype = x.dtype
    a, b = x.to(torch.int64), torch.as_tensor(y).to(torch.int64)
    mask = ~(torch.full_like(a, -1) << (64 - b).clamp(0, 63))
    shifted = torch.where(b <= 0, a, (a >> b.clamp(0, 63)) & mask)
    return torch.where(b > 63, 0, shifted).to(dtype)
