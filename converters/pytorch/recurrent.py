"""The tables, continued: recurrent layers and the functions behind them, each layer as one ONNX node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from netferry.converters.errors import CannotCarry
from netferry.converters.graph import layout, recurrent
from netferry.converters.graph.build import Tensor
from netferry.converters.pytorch import functions, modules, tensors
from netferry.converters.pytorch.emit import Emitter

Weights = Sequence[Tensor | None]
"""weight_ih, weight_hh, bias_ih and bias_hh of one direction of one layer."""

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class _Stack:
    """Layers over each other; ``weights`` are those of each layer, direction by direction."""

    cell: str
    weights: Sequence[Sequence[Weights]]
    batch_first: bool
    relu: bool = False

    @property
    def directions(self) -> int:
        return len(self.weights[0])


@modules.row(nn.RNN, nn.LSTM, nn.GRU)
def layer(e: Emitter, m: nn.RNNBase, input: Tensor, hx: Any = None) -> Any:
    ends = ("", "_reverse") if m.bidirectional else ("",)
    weights = [
        [[_weight(e, m, f"{name}_l{layer}{end}") for name in WEIGHTS] for end in ends]
        for layer in range(m.num_layers)
    ]
    stack = _Stack("RNN" if "RNN" in m.mode else m.mode, weights, m.batch_first, m.mode == "RNN_RELU")
    states = list(hx) if isinstance(hx, tuple | list) else [hx]
    output, *finals = _run(e, stack, input, states)
    return output, tuple(finals) if m.mode == "LSTM" else finals[0]


def _weight(e: Emitter, m: nn.RNNBase, name: str) -> Tensor | None:
    return e.weight(m, name) if hasattr(m, name) else None


def _function(
    cell: str,
    relu: bool,
    e: Emitter,
    input: Tensor,
    hx: Any,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> Any:
    """``torch.lstm`` and its like, as an exported program calls them: all weights in one list."""
    each, directions = (4 if has_biases else 2), (2 if bidirectional else 1)
    sets = [[*params[i : i + each], *[None] * (4 - each)] for i in range(0, len(params), each)]
    weights = [sets[i : i + directions] for i in range(0, num_layers * directions, directions)]
    states = list(hx) if isinstance(hx, tuple | list) else [hx]
    return _run(e, _Stack(cell, weights, batch_first, relu), input, states)


for _name, _cell, _relu in (
    ("lstm", "LSTM", False),
    ("gru", "GRU", False),
    ("rnn_tanh", "RNN", False),
    ("rnn_relu", "RNN", True),
):
    functions.row(getattr(torch, _name))(partial(_function, _cell, _relu))


def _run(e: Emitter, stack: _Stack, input: Tensor, states: list[Tensor | None]) -> list[Tensor]:
    """The sequence and the last states; (time, batch, features) in between. Without a batch one is put in."""
    unbatched = input.rank == 2
    if unbatched:
        input, *states = (None if x is None else e.g.Unsqueeze(x, e.g.ints(1)) for x in (input, *states))  # type: ignore[assignment]
    turn = layout.batch_second(3) if stack.batch_first and not unbatched else layout.identity(3)
    x = e.g.transpose(input, turn)
    finals: list[list[Tensor]] = []
    for place, weights in enumerate(stack.weights):
        initial = [_part(e, stack, state, place) for state in states]
        x, *last = _one_layer(e, stack, weights, x, initial)
        finals.append(last)
    results = [e.g.transpose(x, turn)]
    for parts in zip(*finals, strict=True):
        results.append(parts[0] if len(parts) == 1 else e.g.Concat(*parts, axis=0))
    return [e.g.Squeeze(y, e.g.ints(1)) for y in results] if unbatched else results


def _part(e: Emitter, stack: _Stack, state: Tensor | None, place: int) -> Tensor | None:
    """The part of a state (layers * directions, batch, hidden) that belongs to one layer."""
    if state is None or len(stack.weights) == 1:
        return state
    return tensors.narrow(e, state, 0, place * stack.directions, stack.directions)


def _one_layer(
    e: Emitter, stack: _Stack, weights: Sequence[Weights], x: Tensor, initial: Sequence[Tensor | None]
) -> list[Tensor]:
    w, r, bw, br = ([direction[kind] for direction in weights] for kind in range(4))
    names = recurrent.Names(*(_name_of(e, parts) for parts in (w, r, [*bw, *br])))
    found = recurrent.layer(
        e.g,
        stack.cell,
        "pytorch",
        x,
        [recurrent.Direction(*map(_content, direction)) for direction in weights],
        names,
        initial_h=initial[0],
        initial_c=initial[1] if len(initial) == 2 else None,
        activations=["Relu"] if stack.relu else None,
        linear_before_reset=True,
    )
    return [part for part in found if part is not None]


def _name_of(e: Emitter, parts: Sequence[Tensor | None]) -> str:
    """The first weight's name stands for all that are packed with it."""
    made_of = tuple(part.name for part in parts if part is not None)
    if not made_of:
        return "bias"
    if len(made_of) > 1:
        e.made_of[made_of[0]] = made_of
    return made_of[0]


def _content(weight: Tensor | None) -> Any:
    if weight is None:
        return None
    if weight.array is None:
        raise CannotCarry("a recurrent layer whose weights are computed as it runs")
    return weight.array
