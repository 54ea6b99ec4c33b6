"""MXNet's RNN operator: several layers and directions in one node, its weights in one vector."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from netferry.converters.errors import CannotCarry
from netferry.converters.graph.build import Tensor
from netferry.converters.graph.recurrent import GATES, Direction, Names, layer
from netferry.converters.mxnet.rows import ROWS, Pen, known
from netferry.converters.mxnet.symbol import Attrs
from netferry.converters.signature import Array

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_ACTIVATIONS = {"rnn_relu": ["Relu"], "rnn_tanh": ["Tanh"]}


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


def parts(cell: str, inputs: int, hidden: int, layers: int, directions: int) -> Iterator[Part]:
    """The order of MXNet's parameter vector: all weights, then all biases; layer by layer, both ways."""
    rows = len(GATES["mxnet"][cell]) * hidden
    for kinds in (("i2h_weight", "h2h_weight"), ("i2h_bias", "h2h_bias")):
        for level in range(layers):
            width = inputs if level == 0 else hidden * directions
            columns = {"i2h_weight": (width,), "h2h_weight": (hidden,)}
            for direction in range(directions):
                for kind in kinds:
                    yield Part(level, direction, kind, (rows, *columns.get(kind, ())))


def input_size(cell: str, total: int, hidden: int, layers: int, directions: int) -> int | None:
    """The size of the input, from the length of the parameter vector; None where none fits."""
    rest = sum(part.size for part in parts(cell, 0, hidden, layers, directions))
    size, over = divmod(total - rest, len(GATES["mxnet"][cell]) * hidden * directions)
    return size if size > 0 and not over else None


@ROWS.row("_rnn_param_concat")
def rnn_param_concat(g: Pen, a: Attrs, *vectors: Tensor) -> Tensor:
    """The parts of a parameter vector; their names are kept for the weights they become."""
    if a.integer("dim", 1) != 0:
        raise CannotCarry("dim other than 0")
    arrays = [np.asarray(known(x, "parameter vector")).reshape(-1) for x in vectors]
    packed = g.constant(np.concatenate(arrays), name=f"{vectors[0].name}_packed")
    g.parts[packed.name] = tuple(x.name for x in vectors)
    return packed


@ROWS.row("RNN")
def rnn(
    g: Pen, a: Attrs, x: Tensor, parameters: Tensor, state: Tensor, cell_state: Tensor | None = None
) -> Tensor | Sequence[Tensor]:
    """x: (time, batch, inputs); states: (layers * directions, batch, hidden)."""
    mode = a.word("mode", among=" ".join(CELLS))
    cell = CELLS[mode]
    hidden, layers = a.integer("state_size"), a.integer("num_layers")
    directions = 2 if a.flag("bidirectional", False) else 1
    _refuse_extras(a)
    weights = _unpack(g, parameters, list(parts(cell, x.size(2), hidden, layers, directions)))
    hidden_states: list[Tensor] = []
    cell_states: list[Tensor] = []
    for level in range(layers):
        x, last_h, last_c = layer(
            g,
            cell,
            "mxnet",
            x,
            [_direction(weights, level, direction) for direction in range(directions)],
            _names(g, weights, level, directions),
            initial_h=_initial(g, state, level, layers, directions),
            initial_c=_initial(g, cell_state, level, layers, directions),
            activations=_ACTIVATIONS.get(mode),
            linear_before_reset=cell == "GRU",
        )
        hidden_states.append(last_h)
        cell_states += [last_c] if last_c is not None else []
    if not a.flag("state_outputs", False):
        return x
    return [x, *(_stacked(g, states) for states in (hidden_states, cell_states) if states)]


def _refuse_extras(a: Attrs) -> None:
    if a.maybe_integer("projection_size") is not None:
        raise CannotCarry("projection_size: ONNX's LSTM has no projection")
    if a.maybe_number("lstm_state_clip_min") is not None or a.maybe_number("lstm_state_clip_max") is not None:
        raise CannotCarry("clipped LSTM states")
    a.ignore("lstm_state_clip_nan")
    if a.flag("use_sequence_length", False):
        raise CannotCarry("use_sequence_length")


Weights = dict[tuple[int, int, str], tuple[str, Array]]
"""(layer, direction, kind) -> (the source's name, content)."""


def _unpack(g: Pen, parameters: Tensor, wanted: Sequence[Part]) -> Weights:
    vector = np.asarray(known(parameters, "parameter vector")).reshape(-1)
    total = sum(part.size for part in wanted)
    if vector.size != total:
        raise CannotCarry(f"its parameter vector holds {vector.size} numbers where {total} are needed")
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


def _names(g: Pen, weights: Weights, level: int, directions: int) -> Names:
    """Initializers carry the names of the first direction's weights, or say their part of the vector."""
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


def _initial(g: Pen, states: Tensor | None, level: int, layers: int, directions: int) -> Tensor | None:
    """The states that one layer starts from; zeros are ONNX's default."""
    if states is None or (states.array is not None and not np.any(states.array)):
        return None
    if layers == 1:
        return states
    first = level * directions
    return g.Slice(states, g.ints(first), g.ints(first + directions), g.ints(0))


def _stacked(g: Pen, states: Sequence[Tensor]) -> Tensor:
    return states[0] if len(states) == 1 else g.Concat(*states, axis=0)
