"""Sizes of what some layers and functions give: their own kernels cannot run with symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name


def _recurrent(module: nn.RNNBase, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
    """Output (time, batch, directions * hidden), state (layers * directions, batch, hidden); unbatched has no batch."""
    if not isinstance(input, Tensor):
        raise NotImplementedError("packed sequences")
    if module.proj_size:
        raise NotImplementedError("proj_size")
    directions = 2 if module.bidirectional else 1
    output = input.new_empty((*input.shape[:-1], directions * module.hidden_size))
    batch = () if input.dim() == 2 else (input.shape[0 if module.batch_first else 1],)

    def state() -> Tensor:
        return input.new_empty((module.num_layers * directions, *batch, module.hidden_size))

    return output, (state(), state()) if module.mode == "LSTM" else state()


def _recurrent_function(
    input: Tensor,
    hx: Any,
    params: Any,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """``torch.lstm`` and its like: the last states have the sizes of the first."""
    if isinstance(has_biases, list | tuple):
        raise NotImplementedError("packed sequences")
    states = hx if isinstance(hx, tuple | list) else [hx]
    hidden = params[1].shape[-1] * (2 if bidirectional else 1)
    output = input.new_empty((*input.shape[:-1], hidden))
    return output, *(state.new_empty(state.shape) for state in states)


def _max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """As a pool over a plane of one row."""

    def plane(value: Any, row: int) -> tuple[Any, Any]:
        return row, value[0] if isinstance(value, tuple | list) else value

    stride = kernel_size if stride in (None, [], ()) else stride
    places = plane(kernel_size, 1), plane(stride, 1), plane(padding, 0), plane(dilation, 1)
    pool: Any = F.max_pool2d
    found = pool(input.unsqueeze(-2), *places, ceil_mode, return_indices)
    return tuple(y.squeeze(-2) for y in found) if return_indices else found.squeeze(-2)


def _max_pool1d_layer(m: nn.MaxPool1d, input: Tensor) -> Any:
    return _max_pool1d(input, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices)


def _tensor(data: Any, *, dtype: torch.dtype | None = None, device: Any = None, **_: Any) -> Tensor:
    """A tensor made of symbolic sizes."""
    listed = isinstance(data, list | tuple)
    whole = all(isinstance(size, int | torch.SymInt) for size in (data if listed else [data]))
    shape = (len(data),) if listed else ()
    return torch.empty(
        shape, dtype=dtype or (torch.int64 if whole else torch.get_default_dtype()), device=device
    )


SHAPES: Mapping[Any, Callable[..., Any]] = {
    nn.RNN: _recurrent,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
    nn.MaxPool1d: _max_pool1d_layer,
    F.max_pool1d: _max_pool1d,
    torch.max_pool1d: _max_pool1d,
    torch.lstm: _recurrent_function,
    torch.gru: _recurrent_function,
    torch.rnn_tanh: _recurrent_function,
    torch.rnn_relu: _recurrent_function,
    torch.tensor: _tensor,
    torch.as_tensor: _tensor,
    torch.scalar_tensor: _tensor,
}
"""Layer classes and functions, and the rule for what they give; a layer's takes the layer first."""
