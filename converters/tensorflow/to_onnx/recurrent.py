"""SimpleRNN, LSTM, GRU and their wrappers, as ONNX' own recurrent operators.

ONNX has the time first, Keras the batch; stacked layers meet and their transpositions cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from netferry.converters.errors import CannotConvert
from netferry.converters.graph.ir import layout
from netferry.converters.graph.ir.build import Tensor
from netferry.converters.graph.schema import recurrent
from netferry.converters.graph.schema.masks import MaskedSteps
from netferry.converters.graph.schema.recurrent import DEFAULT_ACTIVATIONS
from netferry.converters.tensorflow.keras2.activations import hard_sigmoid as keras2_hard_sigmoid
from netferry.converters.tensorflow.runtime import keras
from netferry.converters.tensorflow.to_onnx.emitter import ROWS, Emitter, one, refuse_unless, title
from netferry.converters.tensorflow.to_onnx.recurrent_steps import reversed_steps, scanned

layers, functions = keras.layers, keras.activations

CELLS: Mapping[type, str] = {layers.SimpleRNNCell: "RNN", layers.LSTMCell: "LSTM", layers.GRUCell: "GRU"}

Activation = tuple[str, float | None, float | None]
"""ONNX' name of an activation inside a recurrent operator, its alpha and its beta."""

ACTIVATIONS: Mapping[Any, Activation] = {
    functions.elu: ("Elu", 1.0, None),
    functions.hard_sigmoid: ("HardSigmoid", 1 / 6, 0.5),
    keras2_hard_sigmoid: ("HardSigmoid", 0.2, 0.5),
    functions.leaky_relu: ("LeakyRelu", 0.2, None),
    functions.linear: ("Affine", 1.0, 0.0),
    functions.relu: ("Relu", None, None),
    functions.sigmoid: ("Sigmoid", None, None),
    functions.softplus: ("Softplus", None, None),
    functions.softsign: ("Softsign", None, None),
    functions.tanh: ("Tanh", None, None),
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
        raise CannotConvert(f"its cell {type(layer.cell).__name__} is not SimpleRNN, LSTM or GRU")
    return kind


def _activations(kind: str, cell: Any) -> dict[str, Any]:
    """The activations in ONNX' order, where they are not ONNX' defaults."""
    gates = [] if kind == "RNN" else [cell.recurrent_activation]
    wanted = [*gates, *[cell.activation] * (len(DEFAULT_ACTIVATIONS[kind]) - len(gates))]
    unknown = [title(function) for function in wanted if function not in ACTIVATIONS]
    if unknown:
        raise CannotConvert(f"its activation {unknown[0]} is not one that ONNX' {kind} has")
    names, alphas, betas = zip(*(ACTIVATIONS[function] for function in wanted), strict=True)
    if tuple(names) == DEFAULT_ACTIVATIONS[kind]:
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


def _names(g: Emitter, path: str, cells: Sequence[Any]) -> recurrent.Names:
    """One direction keeps the names of its variables; two share names under the wrapper's."""

    def name(weight: str) -> str:
        sources = tuple(g.path(getattr(cell, weight)) for cell in cells if getattr(cell, weight) is not None)
        if len(cells) == 1:
            return sources[0] if sources else ""
        packed = f"{path}/{weight}"
        g.made_of[packed] = sources
        return packed

    return recurrent.Names(name("kernel"), name("recurrent_kernel"), name("bias"))


def _run(
    g: Emitter,
    path: str,
    wrapped: Sequence[Any],
    x: Tensor,
    initial: Sequence[Tensor],
    masked: MaskedSteps | None,
) -> _States:
    """Write the operator for one layer, or for the two directions of one.

    ``x``: (batch, time, input); ``initial``: the states, each (batch, hidden), direction by direction.
    """
    kind, cells = _kind(wrapped[0]), [layer.cell for layer in wrapped]
    stack: Callable[[Sequence[Tensor]], Tensor | None] = partial(_stacked, g)
    per_direction = len(initial) // len(cells)
    h0 = stack(initial[::per_direction]) if initial else None
    c0 = stack(initial[1::per_direction]) if initial and kind == "LSTM" else None
    sequence, h, c = recurrent.layer(
        g,
        kind,
        "tensorflow",
        g.transpose(x if masked is None else masked.packed(x), layout.batch_second(3)),
        [_direction(kind, cell) for cell in cells],
        _names(g, path, cells),
        reverse=wrapped[0].go_backwards,
        initial_h=h0,
        initial_c=c0,
        sequence_lens=None if masked is None else masked.count,
        linear_before_reset=getattr(cells[0], "reset_after", None),
        **_activations(kind, cells[0]),
    )
    last: tuple[Tensor, ...] = (h,) if c is None else (h, c)
    if masked is not None:
        last = tuple(masked.or_initial(state, start) for state, start in zip(last, (h0, c0), strict=False))
    return _States(sequence, last)


def _stacked(g: Emitter, states: Sequence[Tensor]) -> Tensor:
    """(batch, hidden) of each direction as (directions, batch, hidden)."""
    lifted = [g.Unsqueeze(state, g.ints(0)) for state in states]
    return lifted[0] if len(lifted) == 1 else g.Concat(*lifted, axis=0)


def _listed(initial_state: Any) -> list[Tensor]:
    if initial_state is None:
        return []
    return list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]


@ROWS.row(layers.SimpleRNN, layers.LSTM, layers.GRU, layers.RNN)
def recurrent_layer(
    g: Emitter, layer: Any, x: Tensor, *, initial_state: Any = None, mask: Tensor | None = None
) -> Sequence[Tensor]:
    """As ONNX' operator where it has the cell, else step by step."""
    if not _is_onnx_cell(layer) or x.rank != 3:
        return scanned(g, layer, x, initial_state, mask)
    masked = None if mask is None else MaskedSteps(g, mask)
    states = _run(g, layer.path, [layer], x, _listed(initial_state), masked)
    last = [g.Squeeze(state, g.ints(0)) for state in states.last]
    if layer.return_sequences:
        output = _sequence(g, layer, states, masked)
    else:
        output = last[0] if masked is None else masked.last_output(last[0], **_reading(layer))
    return [output, *last] if layer.return_state else [output]


def _is_onnx_cell(layer: Any) -> bool:
    """Whether ONNX has an operator for the cell, with the activations that it has."""
    kind = CELLS.get(type(layer.cell))
    if kind is None:
        return False
    gates = [] if kind == "RNN" else [layer.cell.recurrent_activation]
    return all(function in ACTIVATIONS for function in [*gates, layer.cell.activation])


def _reading(layer: Any) -> dict[str, bool]:
    """In which direction a layer reads, and what it puts out at steps that its mask leaves out."""
    return {"backwards": layer.go_backwards, "zeros": layer.zero_output_for_mask}


def _sequence(g: Emitter, layer: Any, states: _States, masked: MaskedSteps | None) -> Tensor:
    """(batch, time, hidden). Keras leaves what was read backwards in the order of reading."""
    sequence = g.transpose(states.sequence, layout.batch_second(3))
    if masked is not None:
        sequence = masked.unpacked(sequence, **_reading(layer))
    return reversed_steps(g, sequence) if layer.go_backwards else sequence


# ---- both directions ------------------------------------------------------------------------

_MERGES: Mapping[str, Callable[[Emitter, Tensor, Tensor], Tensor]] = {
    "sum": lambda g, a, b: g.Add(a, b),
    "mul": lambda g, a, b: g.Mul(a, b),
    "ave": lambda g, a, b: g.Mean(a, b),
}


@ROWS.row(layers.Bidirectional)
def bidirectional(
    g: Emitter, layer: Any, x: Tensor, *, initial_state: Any = None, mask: Tensor | None = None
) -> Sequence[Tensor]:
    """One operator for both directions; what was read backwards comes back in the order of time."""
    forward, backward = layer.forward_layer, layer.backward_layer
    _refuse_unequal(forward, backward)
    masked = None if mask is None else MaskedSteps(g, mask)
    states = _run(g, layer.path, [forward, backward], x, _listed(initial_state), masked)
    if layer.return_sequences:
        joined = g.transpose(states.sequence, layout.batch_second(3))
        joined = joined if masked is None else masked.unpacked(joined, **_reading(forward))
    else:
        joined = g.Reshape(g.transpose(states.last[0], (1, 0, 2)), g.ints(0, -1))
        joined = joined if masked is None else masked.last_output(joined, **_reading(forward))
    outputs = [joined] if layer.merge_mode == "concat" else _merged(g, layer.merge_mode, joined)
    if not layer.return_state:
        return outputs
    by_state = [g.ops("Split", state, axis=0, num_outputs=2, outputs=2) for state in states.last]
    return [*outputs, *(g.Squeeze(state[side], g.ints(0)) for side in (0, 1) for state in by_state)]


def _merged(g: Emitter, mode: str | None, joined: Tensor) -> list[Tensor]:
    halves = g.ops("Split", joined, axis=-1, num_outputs=2, outputs=2)
    return list(halves) if mode is None else [_MERGES[mode](g, *halves)]


def _refuse_unequal(forward: Any, backward: Any) -> None:
    refuse_unless(not forward.go_backwards, "its forward layer reads backwards")
    refuse_unless(
        all(_is_onnx_cell(layer) for layer in (forward, backward)), "a cell that ONNX does not have"
    )
    kinds = [_kind(layer) for layer in (forward, backward)]
    differing = [
        attribute
        for attribute in ("units", "activation", "recurrent_activation", "reset_after")
        if getattr(forward.cell, attribute, None) != getattr(backward.cell, attribute, None)
    ] + [a for a in ("zero_output_for_mask",) if getattr(forward, a) != getattr(backward, a)]
    refuse_unless(
        kinds[0] == kinds[1] and not differing,
        f"its two directions differ in {', '.join(differing) or 'kind'}",
    )


# ---- one layer for every step ---------------------------------------------------------------

_LAST_AXIS_ONLY = (layers.Dense, layers.Dropout, layers.LayerNormalization)
"""Layers that treat the steps alike anyway, whatever stands before the last axis."""


@ROWS.row(layers.TimeDistributed)
def time_distributed(g: Emitter, layer: Any, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Fold the steps into the batch, apply the layer, and unfold them. The layer's own mask would be folded too."""
    inner = layer.layer
    reads = mask is not None and inner._call_has_mask_arg
    refuse_unless(not reads, "a mask reaches the layer that it wraps")
    if type(inner) in _LAST_AXIS_ONLY and getattr(inner, "axis", [-1]) in ([-1], -1):
        return one(g.follow(inner, x))
    folded = g.Reshape(x, g.vector([-1, *(g.dim(x, axis) for axis in range(2, x.rank))]))
    y = g.follow(inner, replace(folded, dims=(None, *(x.dims or ())[2:])))
    refuse_unless(isinstance(y, Tensor), "the layer that it wraps has several outputs")
    shape = [g.dim(y, axis) for axis in range(1, y.rank)]
    steps = g.dim(x, 1)
    batch = -1 if isinstance(steps, int) else g.size(x, 0)
    return g.Reshape(y, g.vector([batch, steps, *shape]))
