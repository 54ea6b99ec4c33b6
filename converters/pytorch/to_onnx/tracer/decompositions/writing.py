"""Functions that are decomposed into others: what writes parts of a tensor, and what reads where a mask is true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import rnn

from netferry.converters.pytorch.to_onnx.tracer.decompositions import decomposed

_BROADCAST: Any = torch.broadcast_tensors
_BROADCAST_SHAPES: Any = torch.broadcast_shapes


@decomposed("slice_scatter")
def _slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    found = input.clone()
    found[(slice(None),) * (dim % input.dim()) + (slice(start, end, step),)] = src
    return found


@decomposed("select_scatter")
def _select_scatter(input: Tensor, src: Tensor, dim: int, index: Any) -> Tensor:
    found = input.clone()
    found[(slice(None),) * (dim % input.dim()) + (index,)] = src
    return found


@decomposed("diagonal_scatter")
def _diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes is replaced."""
    x = input.movedim((dim1, dim2), (-2, -1))
    rows, columns = x.shape[-2:]
    there = torch.arange(columns) - torch.arange(rows).unsqueeze(-1) == offset
    size = src.size(-1)
    place = (torch.arange(rows) + min(offset, 0)).clamp(0, size - 1)
    spread = src.index_select(-1, place).unsqueeze(-1)
    return torch.where(there, spread, x).movedim((-2, -1), (dim1, dim2))


@decomposed("masked_scatter")
def _masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Where the mask is true, the next element of the source."""
    x, there = _BROADCAST(input, mask)
    place = there.flatten().to(torch.int64).cumsum(0) - 1
    taken = source.flatten().index_select(0, place.clamp(min=0)).reshape(x.shape)
    return torch.where(there, taken, x)


@decomposed("index_put", "_index_put_impl", "_unsafe_index_put")
def _index_put(
    input: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False, *_: bool
) -> Any:
    """Written over what is there; what is added to it has a row."""
    if accumulate:
        return NotImplemented
    found = input.clone()
    found[tuple(slice(None) if index is None else index for index in indices)] = values
    return found


@decomposed("broadcast_tensors")
def _broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    sizes = _BROADCAST_SHAPES(*(x.shape for x in given))
    return tuple(x.expand(sizes) for x in given)


@decomposed("cartesian_prod")
def _cartesian_prod(*tensors: Any) -> Any:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    if len(given) == 1:
        return given[0]
    return torch.stack([grid.flatten() for grid in torch.meshgrid(*given, indexing="ij")], 1)


@decomposed("dstack")
def _dstack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([_atleast_3d(x) for x in tensors], 2)


@decomposed("column_stack")
def _column_stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1, 1) if x.dim() < 2 else x for x in tensors], 1)


@decomposed("atleast_2d")
def _atleast_2d(*tensors: Any) -> Any:
    return _each(tensors, lambda x: x.reshape(1, -1) if x.dim() < 2 else x)


@decomposed("atleast_3d")
def _atleast_3d(*tensors: Any) -> Any:
    return _each(
        tensors, lambda x: x.reshape(1, -1, 1) if x.dim() < 2 else x.unsqueeze(-1) if x.dim() < 3 else x
    )


def _each(tensors: Any, change: Any) -> Any:
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    found = tuple(change(x) for x in given)
    return found[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else found


@decomposed("rot90")
def _rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    first, second = dims
    turned = {
        0: lambda: input,
        1: lambda: input.flip(second).transpose(first, second),
        2: lambda: input.flip(first, second),
        3: lambda: input.flip(first).transpose(first, second),
    }
    return turned[k % 4]()


@decomposed("fliplr")
def _fliplr(input: Tensor) -> Tensor:
    return input.flip(1)


@decomposed("flipud")
def _flipud(input: Tensor) -> Tensor:
    return input.flip(0)


@decomposed("take")
def _take(input: Tensor, index: Tensor) -> Tensor:
    return input.flatten().index_select(0, index.flatten()).reshape(index.shape)


@decomposed("linspace")
def _linspace(
    start: Any, end: Any, steps: Any = 100, *, dtype: Any = None, device: Any = None, **_: Any
) -> Any:
    """From both ends to the middle, so that both are met."""
    if all(isinstance(one, int | float) for one in (start, end, steps)):
        return NotImplemented
    line = torch.arange(steps, dtype=dtype or torch.get_default_dtype(), device=device)
    larger: Any = torch.sym_max
    step = (end - start) / larger(steps - 1, 1)
    return torch.where(line < steps // 2, start + line * step, end - (steps - 1 - line) * step)


@decomposed("logspace")
def _logspace(
    start: Any,
    end: Any,
    steps: Any = 100,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    **_: Any,
) -> Any:
    if all(isinstance(one, int | float) for one in (start, end, steps)):
        return NotImplemented
    return base ** _linspace(start, end, steps, dtype=dtype, device=device)


@decomposed(rnn.pad_sequence, torch._C._nn.pad_sequence)
def _pad_sequence(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Each padded to the longest."""
    given = list(sequences)
    longest = given[0].size(0)
    for one in given[1:]:
        larger: Any = (
            torch.sym_max if not isinstance(longest, int) or not isinstance(one.size(0), int) else max
        )
        longest = longest if one.size(0) is longest else larger(longest, one.size(0))
    rows = []
    for one in given:
        missing = longest - one.size(0)
        ends = (0, missing) if padding_side == "right" else (missing, 0)
        rows.append(torch.nn.functional.pad(one, (0, 0) * (one.dim() - 1) + ends, value=padding_value))
    return torch.stack(rows, 0 if batch_first else 1)


@decomposed("fft_fftshift", torch.fft.fftshift)
def _fftshift(input: Tensor, dim: Any = None) -> Tensor:
    axes = range(input.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    return torch.roll(input, [input.size(axis) // 2 for axis in axes], list(axes))


@decomposed("fft_ifftshift", torch.fft.ifftshift)
def _ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    axes = range(input.dim()) if dim is None else [dim] if isinstance(dim, int) else dim
    return torch.roll(input, [(input.size(axis) + 1) // 2 for axis in axes], list(axes))


@decomposed(torch.fft.fftfreq)
def _fftfreq(n: Any, d: float = 1.0, *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    """0, 1, ... and from the middle on -n // 2, ..., -1, over n d."""
    bins = torch.arange(n, dtype=dtype or torch.get_default_dtype(), device=device)
    found: Tensor = torch.where(bins < (n + 1) // 2, bins, bins - n) / (n * d)
    return found


@decomposed(torch.fft.rfftfreq)
def _rfftfreq(n: Any, d: float = 1.0, *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
    bins: Tensor = torch.arange(n // 2 + 1, dtype=dtype or torch.get_default_dtype(), device=device)
    found: Tensor = bins / (n * d)
    return found
