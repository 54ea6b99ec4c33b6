"""Sizes of what recurrent layers give: their own kernels cannot run with symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


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


SHAPES: Mapping[type[nn.Module], Callable[..., Any]] = {
    nn.RNN: _recurrent,
    nn.LSTM: _recurrent,
    nn.GRU: _recurrent,
}
"""Layer classes and the rule for what they give."""
