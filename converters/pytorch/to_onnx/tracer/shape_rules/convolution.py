"""Sizes of what convolutions give, which lies in memory with its channels first or, as the image does, last.

PyTorch's own rule finds that out by a dozen comparisons of products of sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from netferry.converters.pytorch.to_onnx.tracer.names import everywhere
from netferry.converters.pytorch.to_onnx.tracer.shape_rules.views import lies_in_order, strides_in_order


def _convolved(input: Tensor, weight: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Any:
    """(batch, channels, ...) convolved with ``weight``; NotImplemented where PyTorch has something to decide, or to refuse."""
    rank = weight.dim() - 2
    strides, pads, dilations = (_for_each(given, rank) for given in (stride, padding, dilation))
    if (
        input.dim() != rank + 2
        or strides is None
        or pads is None
        or dilations is None
        or not isinstance(input.shape[1], int)
        or input.shape[1] != weight.shape[1] * groups
        or input.dtype != weight.dtype
    ):
        return NotImplemented
    sizes = [
        (size + 2 * pad - wide * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, wide in zip(
            input.shape[2:], weight.shape[2:], strides, pads, dilations, strict=True
        )
    ]
    if any(isinstance(size, int) and size < 1 for size in sizes):
        return NotImplemented
    made = (input.shape[0], weight.shape[0], *sizes)
    if rank == 1 or lies_in_order(input) or not lies_in_order(input, (0, *range(2, rank + 2), 1)):
        return input.new_empty(made)
    batch, *space, channel = strides_in_order((made[0], *sizes, made[1]))
    return input.new_empty_strided(made, (batch, channel, *space))


def _for_each(given: Any, rank: int) -> Sequence[int] | None:
    """A number for each axis of space; None for what is said otherwise."""
    numbers = [given] * rank if isinstance(given, int) else list(given) * (rank if len(given) == 1 else 1)
    plain = len(numbers) == rank and all(isinstance(number, int) for number in numbers)
    return numbers if plain else None


def _layer(m: Any, input: Tensor) -> Any:
    if m.padding_mode != "zeros":
        return NotImplemented
    return _convolved(input, m.weight, m.stride, m.padding, m.dilation, m.groups)


def _function(
    function: Callable[..., Any],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Any:
    found = _convolved(input, weight, stride, padding, dilation, groups)
    if found is NotImplemented:
        return function(input, weight, bias, stride, padding, dilation, groups)
    return found


CONVOLUTIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _layer),
    **{
        function: partial(_function, function)
        for rank in (1, 2, 3)
        for function in everywhere(f"conv{rank}d")
    },
}
"""Layer classes and functions, and the rule for what they give; that of a layer may decline."""
