"""Where the value stands that ``torch.mode`` finds, as one call of a trace: PyTorch says which place only of short axes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

SETTLED = 16
"""Elements that PyTorch sorts without changing the order of equal ones; of more, its sort leaves one place or another first."""


def place_of_mode(input: Tensor, value: Tensor) -> Tensor:
    """(..., n) and (..., 1) -> (..., 1): the last place of the value, the first where it is NaN."""
    if not isinstance(input.size(-1), int) or input.size(-1) > SETTLED:
        return unsettled_place(input, value)
    places = torch.where(input == value, torch.arange(input.size(-1)), 0)
    return places.amax(-1, keepdim=True)


def unsettled_place(input: Tensor, value: Tensor) -> Tensor:
    """As ``place_of_mode``, of an axis that is longer, or free; it has no row, and is refused where it is used."""
    if has_torch_function((input, value)):
        found: Tensor = handle_torch_function(unsettled_place, (input, value), input, value)  # type: ignore[no-untyped-call]
        return found
    return torch.mode(input, -1, keepdim=True).indices


def unsettled_sizes(input: Tensor, value: Tensor) -> Tensor:
    """What ``unsettled_place`` gives, by its sizes."""
    del input
    return value.new_empty(value.shape, dtype=torch.int64)
