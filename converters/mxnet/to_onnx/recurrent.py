"""MXNet's RNN operator: several layers and directions in one node, its weights in one vector. And sequences by their lengths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import onnx_ir as ir

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema.recurrent import GATES, Direction, Names, layer, projected_lstm
from netferry.converters.mxnet.attributes import Attrs
from netferry.converters.mxnet.to_onnx.emitter import ROWS, Emitter, cast, known
from netferry.converters.mxnet.to_onnx.sizes import (
    flipped,
    positions_along,
    shape_tensor,
    size_of,
)
from netferry.converters.signature import Array

_ACTIVATIONS = {"rnn_relu": ["Relu"], "rnn_tanh": ["Tanh"]}


@ROWS.row("_rnn_param_concat")
def rnn_param_concat(g: Emitter, a: Attrs, *vectors: Tensor) -> Tensor:
    """The parts of a parameter vector; their names are kept for the weights they become."""
    if a.integer("dim", 1) != 0:
        raise CannotConvert("dim other than 0")
    arrays = [np.asarray(known(x, "parameter vector")).reshape(-1) for x in vectors]
    packed = g.constant(np.concatenate(arrays), name=f"{vectors[0].name}_packed")
    g.parts[packed.name] = tuple(x.name for x in vectors)
    return packed


@ROWS.row("RNN")
def rnn(g: Emitter, a: Attrs, x: Tensor, parameters: Tensor, *states: Tensor) -> Tensor | Sequence[Tensor]:
    """x: (time, batch, inputs); states: (layers * directions, batch, hidden), of an LSTM two."""
    mode = a.string("mode", among=" ".join(CELLS))
    cell = CELLS[mode]
    _refuse_extras(a)
    if len(states) != (2 if cell == "LSTM" else 1):
        raise CannotConvert(f"{len(states)} states do not fit mode '{mode}'")
    hidden, layers = a.integer("state_size"), a.integer("num_layers")
    directions = 2 if a.flag("bidirectional", False) else 1
    projected = a.maybe_integer("projection_size")
    if projected is not None and cell != "LSTM":
        raise CannotConvert(f"projection_size of mode '{mode}'")
    weights = _unpack(g, parameters, list(parts(cell, x.size(2), hidden, layers, directions, projected)))
    last: list[Sequence[Tensor]] = []
    for level in range(layers):
        if projected is None:
            x, *kept = _plain(g, mode, x, weights, level, layers, directions, states)
        else:
            x, *kept = _projected(g, x, weights, level, directions, states)
        last.append(kept)
    if not a.flag("state_outputs", False):
        return x
    return [x, *(_stacked(g, kind) for kind in zip(*last, strict=True))]


def _refuse_extras(a: Attrs) -> None:
    """On the CPU MXNet passes over all of these, or refuses them: there is nothing to compare with."""
    clipped = [a.maybe_number(f"lstm_state_clip_{end}") for end in ("min", "max")]
    a.ignore("lstm_state_clip_nan")
    if clipped != [None, None]:
        raise CannotConvert("clipped LSTM states, which MXNet computes on a GPU alone")
    if a.flag("use_sequence_length", False):
        raise CannotConvert("use_sequence_length, which MXNet regards on a GPU alone")


Weights = dict[tuple[int, int, str], tuple[str, Array]]
"""(layer, direction, kind) -> (the source's name, content)."""


def _unpack(g: Emitter, parameters: Tensor, wanted: Sequence[Part]) -> Weights:
    vector = np.asarray(known(parameters, "parameter vector")).reshape(-1)
    total = sum(part.size for part in wanted)
    if vector.size != total:
        raise CannotConvert(f"its parameter vector holds {vector.size} numbers where {total} are needed")
    names = g.parts.get(parameters.name, ())
    named = len(names) == len(wanted)
    weights: Weights = {}
    at = 0
    for index, part in enumerate(wanted):
        name = names[index] if named else parameters.name
        weights[part.layer, part.direction, part.name] = (
            name,
            vector[at : at + part.size].reshape(part.shape),
        )
        at += part.size
    return weights


def _direction(weights: Weights, level: int, direction: int) -> Direction:
    return Direction(
        *(weights[level, direction, kind][1] for kind in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"))
    )


def _names(g: Emitter, weights: Weights, level: int, directions: int) -> Names:
    """Initializers have the names of the first direction's weights, or of their part of the vector."""
    chosen = []
    for kinds in (("i2h_weight",), ("h2h_weight",), ("i2h_bias", "h2h_bias")):
        sources = tuple(weights[level, way, kind][0] for way in range(directions) for kind in kinds)
        name = sources[0]
        if weights[level, 0, "i2h_weight"][0] == weights[level, 0, "h2h_weight"][0]:  # one packed vector
            name = f"{name}.l{level}_{kinds[0]}"
        unique = tuple(dict.fromkeys(sources))
        if unique != (name,):
            g.made_of[name] = unique
        chosen.append(name)
    return Names(*chosen)


def _plain(
    g: Emitter,
    mode: str,
    x: Tensor,
    weights: Weights,
    level: int,
    layers: int,
    directions: int,
    states: Sequence[Tensor],
) -> list[Tensor]:
    """One layer as ONNX's own operator: the sequence, and the last states (directions, batch, hidden)."""
    cell = CELLS[mode]
    initial = [_initial(g, state, level, layers, directions) for state in states]
    sequence, last_h, last_c = layer(
        g,
        cell,
        "mxnet",
        x,
        [_direction(weights, level, direction) for direction in range(directions)],
        _names(g, weights, level, directions),
        initial_h=initial[0],
        initial_c=initial[1] if cell == "LSTM" else None,
        activations=_ACTIVATIONS.get(mode),
        linear_before_reset=cell == "GRU",
    )
    return [sequence, last_h, *([] if last_c is None else [last_c])]


def _projected(
    g: Emitter, x: Tensor, weights: Weights, level: int, directions: int, states: Sequence[Tensor]
) -> list[Tensor]:
    """One layer of an LSTM with a projection: the sequence, and the last states with an axis of directions."""
    ways = []
    for direction in range(directions):
        position = level * directions + direction
        tensors = _projected_weights(g, weights, level, direction)
        widths = tensors["p"].size(0), tensors["p"].size(1)
        h, c = (_first(g, x, state, position, width) for state, width in zip(states, widths, strict=True))
        ways.append(projected_lstm(g, x, tensors, h, c, reverse=direction == 1))
    sequences, *last = zip(*ways, strict=True)
    ends = [_stacked(g, [g.Unsqueeze(end, g.ints(0)) for end in kind]) for kind in last]
    return [sequences[0] if directions == 1 else g.Concat(*sequences, axis=2), *ends]


def _projected_weights(g: Emitter, weights: Weights, level: int, direction: int) -> dict[str, Tensor]:
    """The weights of one direction under their own names; the two biases of a gate only ever meet as a sum."""
    kinds = ("i2h_weight", "h2h_weight", "h2r_weight", "i2h_bias", "h2h_bias")
    w, r, p, bw, br = (weights[level, direction, kind] for kind in kinds)
    found = {"w": (w[0], w[1].T), "r": r, "p": p, "b": (bw[0], bw[1] + br[1])}
    if w[0] == r[0]:  # one packed vector
        position = f"{w[0]}.{'lr'[direction]}{level}"
        made = {"w": "i2h_weight", "r": "h2h_weight", "p": "h2r_weight", "b": "i2h_bias"}
        found = {key: (f"{position}_{made[key]}", array) for key, (_, array) in found.items()}
        g.made_of |= {name: (w[0],) for name, _ in found.values()}
    else:
        g.made_of[bw[0]] = (bw[0], br[0])
    return {key: g.constant(array, name=name) for key, (name, array) in found.items()}


def _first(g: Emitter, x: Tensor, states: Tensor, position: int, width: int) -> Tensor:
    """The state that one direction starts from, (batch, width); a constant one is spread over the batch."""
    if states.array is None:
        return g.Gather(states, g.constant(position, np.int64), axis=0)
    filled = states.array[position] if np.any(states.array) else np.zeros((1, width), states.dtype)
    first = g.Expand(g.constant(filled), shape_tensor(g, x, [size_of(x, 1), width]))
    batch = None if x.dims is None else x.dims[1]
    first.value.shape = ir.Shape((batch, width))
    return replace(first, dims=(batch, width))


def _initial(g: Emitter, states: Tensor | None, level: int, layers: int, directions: int) -> Tensor | None:
    """The states that one layer starts from; zeros are ONNX's default."""
    if states is None or (states.array is not None and not np.any(states.array)):
        return None
    if layers == 1:
        return states
    first = level * directions
    return g.Slice(states, g.ints(first), g.ints(first + directions), g.ints(0))


def _stacked(g: Emitter, states: Sequence[Tensor]) -> Tensor:
    return states[0] if len(states) == 1 else g.Concat(*states, axis=0)


CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}


@dataclass(frozen=True)
class Part:
    """One stretch of the parameter vector: whose it is, and its sizes."""

    layer: int
    direction: int
    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def parts(
    cell: str, inputs: int, hidden: int, layers: int, directions: int, projected: int | None = None
) -> Iterator[Part]:
    """The order of MXNet's parameter vector: all weights, then all biases; layer by layer, both ways.

    ``projected``: the size of the state that is handed on, where a weight h2r projects it.
    """
    rows = len(GATES["mxnet"][cell]) * hidden
    state = projected or hidden
    projection = {"h2r_weight": (state, hidden)} if projected else {}
    for level in range(layers):
        width = inputs if level == 0 else state * directions
        shapes = {"i2h_weight": (rows, width), "h2h_weight": (rows, state), **projection}
        for direction in range(directions):
            yield from (Part(level, direction, kind, shape) for kind, shape in shapes.items())
    for level, direction, kind in product(range(layers), range(directions), ("i2h_bias", "h2h_bias")):
        yield Part(level, direction, kind, (rows,))


def input_size(
    cell: str, total: int, hidden: int, layers: int, directions: int, projected: int | None = None
) -> int | None:
    """The size of the input, from the length of the parameter vector; None where none fits."""
    rest = sum(part.size for part in parts(cell, 0, hidden, layers, directions, projected))
    size, over = divmod(total - rest, len(GATES["mxnet"][cell]) * hidden * directions)
    return size if size > 0 and not over else None


# ---- sequences --------------------------------------------------------------------------------------


def _time(a: Attrs) -> int:
    axis = a.integer("axis", 0)
    if axis not in (0, 1):
        raise CannotConvert(f"axis={axis}: time is the first or the second axis")
    return axis


@ROWS.row("SequenceMask")
def sequence_mask(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """x: (time, batch, ...) or (batch, time, ...); what lies behind a sequence's length takes ``value``."""
    axis, value = _time(a), a.number("value", 0.0)
    if not a.flag("use_sequence_length", False) or lengths is None:
        return x
    positions = g.Unsqueeze(positions_along(g, x, axis), g.ints(1 - axis))
    inside = g.Less(positions, g.Unsqueeze(cast(g, lengths, np.int64), g.ints(axis)))
    if x.rank > 2:
        inside = g.Unsqueeze(inside, g.ints(*range(2, x.rank)))
    return g.Where(inside, x, g.scalar(value, x))


def _reversed(g: Emitter, x: Tensor, lengths: Tensor, axis: int) -> Tensor:
    return g.ReverseSequence(x, cast(g, lengths, np.int64), time_axis=axis, batch_axis=1 - axis)


@ROWS.row("SequenceReverse")
def sequence_reverse(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    axis = _time(a)
    if a.flag("use_sequence_length", False) and lengths is not None:
        return _reversed(g, x, lengths, axis)
    return flipped(g, x, [axis])


@ROWS.row("SequenceLast")
def sequence_last(g: Emitter, a: Attrs, x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The last element of each sequence: the first of the reversed one."""
    axis, position = _time(a), -1
    if a.flag("use_sequence_length", False) and lengths is not None:
        x, position = _reversed(g, x, lengths, axis), 0
    return g.Gather(x, g.constant(position, np.int64), axis=axis)
