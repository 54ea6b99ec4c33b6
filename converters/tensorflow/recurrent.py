"""SimpleRNN, LSTM, GRU and their wrappers, as ONNX' own recurrent operators.

ONNX has the time first, Keras the batch; stacked layers meet and their transpositions cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from netferry.converters.errors import CannotCarry
from netferry.converters.graph import layout, recurrent
from netferry.converters.graph.build import Tensor
from netferry.converters.tensorflow.pen import ROWS, Pen, one, refuse_unless, title
from netferry.converters.tensorflow.runtime import keras

layers, functions = keras.layers, keras.activations

CELLS: Mapping[type, str] = {layers.SimpleRNNCell: "RNN", layers.LSTMCell: "LSTM", layers.GRUCell: "GRU"}

Activation = tuple[str, float | None, float | None]
"""ONNX' name of an activation inside a recurrent operator, its alpha and its beta."""

ACTIVATIONS: Mapping[Any, Activation] = {
    functions.elu: ("Elu", 1.0, None),
    functions.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
    functions.leaky_relu: ("LeakyRelu", 0.2, None),
    functions.linear: ("Affine", 1.0, 0.0),
    functions.relu: ("Relu", None, None),
    functions.sigmoid: ("Sigmoid", None, None),
    functions.softplus: ("Softplus", None, None),
    functions.softsign: ("Softsign", None, None),
    functions.tanh: ("Tanh", None, None),
}

DEFAULTS: Mapping[str, Sequence[str]] = {
    "RNN": ["Tanh"],
    "LSTM": ["Sigmoid", "Tanh", "Tanh"],
    "GRU": ["Sigmoid", "Tanh"],
}


@dataclass(frozen=True)
class _States:
    """What a recurrent operator gives: the sequence (time, batch, directions * hidden) and its last states,
    each (directions, batch, hidden): of an LSTM h and c, of the others h."""

    sequence: Tensor
    last: tuple[Tensor, ...]


def _kind(layer: Any) -> str:
    kind = CELLS.get(type(layer.cell))
    if kind is None:
        raise CannotCarry(f"its cell {type(layer.cell).__name__} is not SimpleRNN, LSTM or GRU")
    return kind


def _activations(kind: str, cell: Any) -> dict[str, Any]:
    """The activations in ONNX' order, where they are not ONNX' defaults."""
    gates = [] if kind == "RNN" else [cell.recurrent_activation]
    wanted = [*gates, *[cell.activation] * (len(DEFAULTS[kind]) - len(gates))]
    unknown = [title(function) for function in wanted if function not in ACTIVATIONS]
    if unknown:
        raise CannotCarry(f"its activation {unknown[0]} is not one that ONNX' {kind} has")
    names, alphas, betas = zip(*(ACTIVATIONS[function] for function in wanted), strict=True)
    if list(names) == DEFAULTS[kind]:
        return {}
    return {
        "activations": names,
        "alpha": [alpha for alpha in alphas if alpha is not None],
        "beta": [beta for beta in betas if beta is not None],
    }


def _direction(kind: str, cell: Any) -> recurrent.Direction:
    """Keras' weights have the gates last; a GRU with ``reset_after`` has a bias for each side."""
    bias = np.asarray(cell.bias) if cell.use_bias else None
    both = bias is not None and bias.ndim == 2
    return recurrent.Direction(
        w=np.asarray(cell.kernel).T,
        r=np.asarray(cell.recurrent_kernel).T,
        bw=bias[0] if both and bias is not None else bias,
        br=bias[1] if both and bias is not None else None,
    )


def _names(g: Pen, path: str, cells: Sequence[Any]) -> recurrent.Names:
    """One direction keeps the names of its variables; two share names under the wrapper's."""

    def name(weight: str) -> str:
        sources = tuple(g.path(getattr(cell, weight)) for cell in cells if getattr(cell, weight) is not None)
        if len(cells) == 1:
            return sources[0] if sources else ""
        packed = f"{path}/{weight}"
        g.made_of[packed] = sources
        return packed

    return recurrent.Names(name("kernel"), name("recurrent_kernel"), name("bias"))


def _run(g: Pen, path: str, wrapped: Sequence[Any], x: Tensor, initial: Sequence[Tensor]) -> _States:
    """Write the operator for one layer, or for the two directions of one.

    ``x``: (batch, time, input); ``initial``: the states, each (batch, hidden), direction by direction.
    """
    kind, cells = _kind(wrapped[0]), [layer.cell for layer in wrapped]
    stack: Callable[[Sequence[Tensor]], Tensor | None] = partial(_stacked, g)
    per_direction = len(initial) // len(cells)
    sequence, h, c = recurrent.layer(
        g,
        kind,
        "tensorflow",
        g.transpose(x, layout.batch_second(3)),
        [_direction(kind, cell) for cell in cells],
        _names(g, path, cells),
        reverse=wrapped[0].go_backwards,
        initial_h=stack(initial[::per_direction]) if initial else None,
        initial_c=stack(initial[1::per_direction]) if initial and kind == "LSTM" else None,
        linear_before_reset=getattr(cells[0], "reset_after", None),
        **_activations(kind, cells[0]),
    )
    return _States(sequence, (h,) if c is None else (h, c))


def _stacked(g: Pen, states: Sequence[Tensor]) -> Tensor:
    """(batch, hidden) of each direction as (directions, batch, hidden)."""
    lifted = [g.Unsqueeze(state, g.ints(0)) for state in states]
    return lifted[0] if len(lifted) == 1 else g.Concat(*lifted, axis=0)


def _listed(initial_state: Any) -> list[Tensor]:
    if initial_state is None:
        return []
    return list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]


@ROWS.row(layers.SimpleRNN, layers.LSTM, layers.GRU, layers.RNN)
def recurrent_layer(g: Pen, layer: Any, x: Tensor, *, initial_state: Any = None) -> Sequence[Tensor]:
    states = _run(g, layer.path, [layer], x, _listed(initial_state))
    output = _sequence(g, layer, states) if layer.return_sequences else g.Squeeze(states.last[0], g.ints(0))
    if not layer.return_state:
        return [output]
    return [output, *(g.Squeeze(state, g.ints(0)) for state in states.last)]


def _sequence(g: Pen, layer: Any, states: _States) -> Tensor:
    """(batch, time, hidden). Keras leaves what was read backwards in the order of reading."""
    sequence = states.sequence
    if layer.go_backwards:
        end = int(np.iinfo(np.int64).min)
        sequence = g.Slice(sequence, g.ints(-1), g.ints(end), g.ints(0), g.ints(-1))
    return g.transpose(sequence, layout.batch_second(3))


# ---- both directions ------------------------------------------------------------------------

_MERGES: Mapping[str, Callable[[Pen, Tensor, Tensor], Tensor]] = {
    "sum": lambda g, a, b: g.Add(a, b),
    "mul": lambda g, a, b: g.Mul(a, b),
    "ave": lambda g, a, b: g.Mean(a, b),
}


@ROWS.row(layers.Bidirectional)
def bidirectional(g: Pen, layer: Any, x: Tensor, *, initial_state: Any = None) -> Sequence[Tensor]:
    """One operator for both directions; what was read backwards comes back in the order of time."""
    forward, backward = layer.forward_layer, layer.backward_layer
    _refuse_unequal(forward, backward)
    states = _run(g, layer.path, [forward, backward], x, _listed(initial_state))
    if layer.return_sequences:
        joined = g.transpose(states.sequence, layout.batch_second(3))
    else:
        joined = g.Reshape(g.transpose(states.last[0], (1, 0, 2)), g.ints(0, -1))
    outputs = [joined] if layer.merge_mode == "concat" else _merged(g, layer.merge_mode, joined)
    if not layer.return_state:
        return outputs
    by_state = [g.ops("Split", state, axis=0, num_outputs=2, outputs=2) for state in states.last]
    return [*outputs, *(g.Squeeze(state[side], g.ints(0)) for side in (0, 1) for state in by_state)]


def _merged(g: Pen, mode: str | None, joined: Tensor) -> list[Tensor]:
    halves = g.ops("Split", joined, axis=-1, num_outputs=2, outputs=2)
    return list(halves) if mode is None else [_MERGES[mode](g, *halves)]


def _refuse_unequal(forward: Any, backward: Any) -> None:
    refuse_unless(not forward.go_backwards, "its forward layer reads backwards")
    kinds = [_kind(layer) for layer in (forward, backward)]
    differing = [
        attribute
        for attribute in ("units", "activation", "recurrent_activation", "reset_after")
        if getattr(forward.cell, attribute, None) != getattr(backward.cell, attribute, None)
    ]
    refuse_unless(
        kinds[0] == kinds[1] and not differing,
        f"its two directions differ in {', '.join(differing) or 'kind'}",
    )


# ---- one layer for every step ---------------------------------------------------------------

_LAST_AXIS_ONLY = (layers.Dense, layers.Dropout, layers.LayerNormalization)
"""Layers that treat the steps alike anyway, whatever stands before the last axis."""


@ROWS.row(layers.TimeDistributed)
def time_distributed(g: Pen, layer: Any, x: Tensor) -> Tensor:
    """Fold the steps into the batch, apply the layer, and unfold them."""
    row = ROWS[type(layer.layer)]
    if type(layer.layer) in _LAST_AXIS_ONLY and getattr(layer.layer, "axis", [-1]) in ([-1], -1):
        return one(row(g, layer.layer, x))
    sizes = [x.size(axis) for axis in range(2, x.rank)]
    y = one(row(g, layer.layer, g.Reshape(x, g.ints(-1, *sizes))))
    inner = [y.size(axis) for axis in range(1, y.rank)]
    steps = x.dims[1] if x.dims is not None else None
    if isinstance(steps, int):
        return g.Reshape(y, g.ints(-1, steps, *inner))
    return g.Reshape(y, g.Concat(g.Shape(x, start=0, end=2), g.ints(*inner), axis=0))
