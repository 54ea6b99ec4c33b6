"""The tables of functions and layers: recurrent layers and the functions behind them, each layer as one ONNX node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import recurrent
from netferry.converters.pytorch.to_onnx import indexing, layers, shape
from netferry.converters.pytorch.to_onnx.emitter import Emitter
from netferry.converters.pytorch.to_onnx.table import INT64, row
from netferry.converters.pytorch.to_onnx.tracer.decompositions.scans import recurrence

Weights = Sequence[Tensor | None]
"""weight_ih, weight_hh, bias_ih, bias_hh and weight_hr (the projection) of one direction of one layer."""

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


@dataclass(frozen=True)
class _Stack:
    """Layers over each other; ``weights`` are those of each layer, direction by direction."""

    cell: str
    weights: Sequence[Sequence[Weights]]
    batch_first: bool
    relu: bool = False
    lengths: Tensor | None = None

    @property
    def directions(self) -> int:
        return len(self.weights[0])


@layers.row(nn.RNN, nn.LSTM, nn.GRU)
def layer(e: Emitter, m: nn.RNNBase, input: Any, hx: Any = None) -> Any:
    states = list(hx) if isinstance(hx, tuple | list) else [hx]
    if isinstance(input, Tensor):
        output, *finals = _run(e, _stack(e, m), input, states)
    else:
        output, *finals = _run_packed(e, replace(_stack(e, m), batch_first=False), input, states)
    return output, tuple(finals) if m.mode == "LSTM" else finals[0]


def _stack(e: Emitter, m: nn.RNNBase) -> _Stack:
    ends = ("", "_reverse") if m.bidirectional else ("",)
    weights = [
        [[_weight(e, m, f"{name}_l{layer}{end}") for name in WEIGHTS] for end in ends]
        for layer in range(m.num_layers)
    ]
    return _Stack("RNN" if "RNN" in m.mode else m.mode, weights, m.batch_first, m.mode == "RNN_RELU")


def _weight(e: Emitter, m: nn.RNNBase, name: str) -> Tensor | None:
    return e.weight(m, name) if hasattr(m, name) else None


def _run_packed(e: Emitter, stack: _Stack, input: Any, states: list[Tensor | None]) -> list[Any]:
    """Packed sequences stay padded here (longest, batch, features); they stand sorted, states as they came."""
    lengths = e.packed.get(input.batch_sizes.name)
    if lengths is None:
        raise CannotConvert("packed sequences that the model's own code makes", "Use pack_padded_sequence")
    if input.sorted_indices is not None:
        states = [
            None if state is None else indexing.index_select(e, state, 1, input.sorted_indices)
            for state in states
        ]
    stack = replace(stack, lengths=e.cast(lengths, np.dtype(np.int32)))
    output, *finals = _run(e, stack, input.data, states)
    e.clean.add(output.name)
    if input.unsorted_indices is not None:
        finals = [indexing.index_select(e, state, 1, input.unsorted_indices) for state in finals]
    return [input._replace(data=output), *finals]


@row(torch._pack_padded_sequence)
def pack(e: Emitter, input: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    """Cut to the longest sequence, time first; how many sequences there are at each time."""
    longest = e.outs[0].dims[0]
    e.define(longest, e.g.ReduceMax(e.cast(lengths, INT64), keepdims=1))
    x = e.g.transpose(input, layout.batch_second(input.rank)) if batch_first else input
    x = e.g.Slice(x, e.g.ints(0), e.size(longest), e.g.ints(0))
    running = _running(e, longest, lengths)
    batch_sizes = e.g.ReduceSum(e.cast(running, INT64), e.g.ints(1), keepdims=0)
    e.packed[batch_sizes.name] = lengths
    return x, batch_sizes


def _running(e: Emitter, longest: Any, lengths: Tensor) -> Tensor:
    """(longest, batch): whether each sequence has not ended at each time."""
    positions = e.g.Range(e.g.constant(0, np.int64), e.scalar_size(longest), e.g.constant(1, np.int64))
    return e.g.Less(e.g.Unsqueeze(positions, e.g.ints(1)), e.g.Unsqueeze(lengths, e.g.ints(0)))


@row(torch._pad_packed_sequence)
def unpack(
    e: Emitter, data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: float, total_length: Any
) -> tuple[Tensor, Tensor]:
    """What is behind each sequence's end becomes ``padding_value``."""
    lengths, longest = e.packed[batch_sizes.name], e.size_of(data, 0)
    if padding_value or data.name not in e.clean:
        behind = e.g.ints(*range(2, data.rank)) if data.rank > 2 else None
        running = _running(e, longest, lengths)
        running = running if behind is None else e.g.Unsqueeze(running, behind)
        data = e.g.Where(running, data, e.tensor(padding_value, data.dtype))
    if total_length != longest:
        pads = [*[0] * (2 * data.rank - 1), total_length - longest]
        data = shape.pad(e, data, pads, "constant", padding_value)
    return (e.g.transpose(data, layout.batch_second(data.rank)) if batch_first else data), lengths


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
    sets = [[*params[i : i + each], *[None] * (len(WEIGHTS) - each)] for i in range(0, len(params), each)]
    weights = [sets[i : i + directions] for i in range(0, num_layers * directions, directions)]
    states = list(hx) if isinstance(hx, tuple | list) else [hx]
    return _run(e, _Stack(cell, weights, batch_first, relu), input, states)


for _name, _cell, _relu in (
    ("lstm", "LSTM", False),
    ("gru", "GRU", False),
    ("rnn_tanh", "RNN", False),
    ("rnn_relu", "RNN", True),
):
    row(getattr(torch, _name))(partial(_function, _cell, _relu))


def _run(e: Emitter, stack: _Stack, input: Tensor, states: list[Tensor | None]) -> list[Tensor]:
    """The sequence and the last states; (time, batch, features) in between. Without a batch one is put in."""
    unbatched = input.rank == 2
    if unbatched:
        input, *states = (None if x is None else e.g.Unsqueeze(x, e.g.ints(1)) for x in (input, *states))  # type: ignore[assignment]
    turn = layout.batch_second(3) if stack.batch_first and not unbatched else layout.identity(3)
    x = e.g.transpose(input, turn)
    finals: list[list[Tensor]] = []
    for position, weights in enumerate(stack.weights):
        initial = [_part(e, stack, state, position) for state in states]
        x, *last = _one_layer(e, stack, weights, x, initial)
        finals.append(last)
    results = [e.g.transpose(x, turn)]
    for parts in zip(*finals, strict=True):
        results.append(parts[0] if len(parts) == 1 else e.g.Concat(*parts, axis=0))
    return [e.g.Squeeze(y, e.g.ints(1)) for y in results] if unbatched else results


def _part(e: Emitter, stack: _Stack, state: Tensor | None, position: int) -> Tensor | None:
    """The part of a state (layers * directions, batch, hidden) that belongs to one layer."""
    if state is None or len(stack.weights) == 1:
        return state
    return indexing.narrow(e, state, 0, position * stack.directions, stack.directions)


def _one_layer(
    e: Emitter, stack: _Stack, weights: Sequence[Weights], x: Tensor, initial: Sequence[Tensor | None]
) -> list[Tensor]:
    w, r, bw, br, projection = ([direction[kind] for direction in weights] for kind in range(len(WEIGHTS)))
    if projection[0] is not None:
        return _projected(e, stack, weights, x, initial)
    names = recurrent.Names(*(_name_of(e, parts) for parts in (w, r, [*bw, *br])))
    found = recurrent.layer(
        e.g,
        stack.cell,
        "pytorch",
        x,
        [recurrent.Direction(*map(_content, direction[:4])) for direction in weights],
        names,
        initial_h=initial[0],
        initial_c=initial[1] if len(initial) == 2 else None,
        sequence_lens=stack.lengths,
        activations=["Relu"] if stack.relu else None,
        linear_before_reset=True,
    )
    return [part for part in found if part is not None]


def _projected(
    e: Emitter, stack: _Stack, weights: Sequence[Weights], x: Tensor, initial: Sequence[Tensor | None]
) -> list[Tensor]:
    """An LSTM with a projection, each direction as a Scan."""
    if stack.lengths is not None:
        raise CannotConvert("packed sequences through an LSTM with a projection")
    batch, found = e.size_of(x, 1), []
    for position, (w, r, bw, br, p) in enumerate(weights):
        assert w is not None and r is not None and p is not None
        given = {"w": e.transpose(w, (1, 0)), "r": r, "p": p, "b": _summed(e, w, bw, br)}
        h, c = (
            e.full(0, [batch, size], x.dtype) if state is None else indexing.select(e, state, 0, position)
            for state, size in zip([*initial, None][:2], p.dims or (), strict=True)
        )
        found.append(recurrent.projected_lstm(e.g, x, given, h, c, reverse=bool(position)))
    parts = list(zip(*found, strict=True))
    sequence = parts[0][0] if len(found) == 1 else e.g.Concat(*parts[0], axis=-1)
    states = [[e.g.Unsqueeze(state, e.g.ints(0)) for state in kind] for kind in parts[1:]]
    return [sequence, *(kind[0] if len(found) == 1 else e.g.Concat(*kind, axis=0) for kind in states)]


@row(recurrence)
def states(e: Emitter, decay: Tensor, added: Tensor) -> Tensor:
    """Each state is the one before times ``decay``, plus ``added``: a Scan over the first axis."""
    zero = e.full(0, [e.size_of(added, axis) for axis in range(1, len(added.dims or ()))], added.dtype)

    def step(before: Sequence[Tensor], elements: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        kept, new = elements
        state = e.g.Add(e.g.Mul(kept, before[0]), new)
        return [state], [state]

    return e.g.scan(step, [zero], [decay, added])[1][0]


def _summed(e: Emitter, w: Tensor, *biases: Tensor | None) -> Tensor:
    """Both biases as one; without any, zeros."""
    given = [bias for bias in biases if bias is not None]
    if not given:
        return e.g.constant(np.zeros(w.size(0), w.dtype))
    arrays = [_content(bias) for bias in given]
    return e.g.constant(np.sum(arrays, axis=0, dtype=w.dtype), name=_name_of(e, given))


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
        raise CannotConvert("a recurrent layer whose weights are computed as it runs")
    return weight.array
